"""Extensions with an error handling of their own, as they are installed: our answers go through."""

from __future__ import annotations

import asyncio
import functools
import importlib
from typing import Any

import flask
import jwt as pyjwt
import pytest
from werkzeug.exceptions import HTTPException

from async_jwt.adapters import flask as flask_adapter
from async_jwt.adapters import flask_sync
from tests.harness import SECRET

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def _of_flask(app: flask.Flask, guard: Any) -> None:
    @app.get("/me")
    @guard
    def me():
        return {"ok": True}


def _of_restful(app: flask.Flask, guard: Any) -> None:
    from flask_restful import Api, Resource

    class Me(Resource):
        method_decorators = [guard]  # noqa: RUF012

        def get(self):
            return {"ok": True}

    Api(app).add_resource(Me, "/me")


def _of_restx(app: flask.Flask, guard: Any) -> None:
    from flask_restx import Api, Resource

    api = Api(app, doc=False)

    class Me(Resource):
        @guard
        def get(self):
            return {"ok": True}

    api.add_resource(Me, "/me")


def _of_smorest(app: flask.Flask, guard: Any) -> None:
    from flask.views import MethodView

    smorest = pytest.importorskip("flask_smorest", reason="a Flask before 2.2 has none of today's")
    Api, Blueprint = smorest.Api, smorest.Blueprint  # noqa: N806  # as applications import them

    app.config.update(API_TITLE="t", API_VERSION="v1", OPENAPI_VERSION="3.0.2")
    blueprint = Blueprint("b", "b")

    @blueprint.route("/me")
    class Me(MethodView):
        @guard
        @blueprint.response(200)
        def get(self):
            return {"ok": True}

    Api(app).register_blueprint(blueprint)


def _of_apiflask(app: flask.Flask, guard: Any) -> None:
    @app.get("/me")
    @app.output({}, 200)
    @guard
    def me():
        return {"ok": True}


EXTENSIONS = {
    "none": _of_flask,
    "RESTful": _of_restful,
    "RESTX": _of_restx,
    "Smorest": _of_smorest,
    "APIFlask": _of_apiflask,
}


def _app(
    extension: str, config: dict[str, Any], api: Any = flask_sync, guard: Any = None
) -> tuple[flask.Flask, Any]:
    if extension == "APIFlask":
        apiflask = pytest.importorskip("apiflask", reason="a Flask before 2.2 has none of today's")
        app = apiflask.APIFlask("tests")
    else:
        app = flask.Flask("tests")
    app.config.update({"JWT_SECRET_KEY": SECRET, **config})
    jwt = api.JWTManager(app)
    EXTENSIONS[extension](app, guard or api.jwt_required())
    return app, jwt


def _bad_tokens() -> dict[str, str]:
    claims = {"sub": "alice", "jti": "1", "type": "access", "exp": 9**10}
    return {
        "expired": pyjwt.encode({**claims, "exp": 1}, SECRET),
        "of another type": pyjwt.encode({**claims, "type": "refresh"}, SECRET),
        "garbage": "garbage",
        "": "",
    }


@pytest.mark.parametrize("propagate", [False, True], ids=["", "PROPAGATE_EXCEPTIONS"])
@pytest.mark.parametrize(
    "config", [{}, {"JWT_COMPAT": "flask-jwt-extended"}, {"JWT_ERROR_FORMAT": "problem"}]
)
@pytest.mark.parametrize("api", [flask_sync, flask_adapter], ids=["flask_sync", "flask"])
@pytest.mark.parametrize("extension", EXTENSIONS)
def test_refusals_come_through_extensions_as_they_are(extension, api, config, propagate):
    bare, _ = _app("none", config, api)
    app, _ = _app(extension, {**config, "PROPAGATE_EXCEPTIONS": propagate}, api)
    for what, token in _bad_tokens().items():
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        expected = bare.test_client().get("/me", headers=headers)
        found = app.test_client().get("/me", headers=headers)
        assert found.status_code == expected.status_code, what
        assert found.get_json() == expected.get_json(), what
        # RESTX writes all JSON as plain JSON.
        assert found.mimetype == ("application/json" if extension == "RESTX" else expected.mimetype), what
        for name in ("WWW-Authenticate", "Retry-After"):
            assert found.headers.getlist(name) == expected.headers.getlist(name), what
    good = {"Authorization": f"Bearer {pyjwt.encode({'sub': 'a', 'type': 'access', 'jti': '1'}, SECRET)}"}
    assert app.test_client().get("/me", headers=good).json == {"ok": True}


@pytest.mark.parametrize("propagate", [False, True], ids=["", "PROPAGATE_EXCEPTIONS"])
@pytest.mark.parametrize("extension", EXTENSIONS)
def test_loaders_answer_within_extensions(extension, propagate):
    app, jwt = _app(extension, {"PROPAGATE_EXCEPTIONS": propagate})
    answers = {
        "a response": lambda: flask.make_response(flask.jsonify(mine=1), 403, {"X-Mine": "1"}),
        "a tuple": lambda: ({"mine": 1}, 403, {"X-Mine": "1"}),
        "JSON and a status": lambda: (flask.jsonify(mine=1), 403, {"X-Mine": "1"}),
    }
    for make in answers.values():
        jwt.unauthorized_loader(lambda _message, make=make: make())
        found = app.test_client().get("/me")
        assert (found.status_code, found.get_json()) == (403, {"mine": 1})
        assert (found.headers["X-Mine"], found.mimetype) == ("1", "application/json")


def test_a_loaders_text_comes_through_restx_as_json():
    app, jwt = _app("RESTX", {})
    jwt.unauthorized_loader(lambda message: (f"No: {message}", 403))
    found = app.test_client().get("/me")
    assert (found.status_code, found.get_json()) == (403, "No: Missing Authorization Header")


@pytest.mark.parametrize("handled", [Exception, HTTPException, 401])
@pytest.mark.parametrize("extension", EXTENSIONS)
def test_general_error_handlers_do_not_win(extension, handled):
    app, _ = _app(extension, {})
    app.errorhandler(handled)(lambda _error: ({"handled": True}, 499))
    found = app.test_client().get("/me")
    assert (found.status_code, found.get_json()["code"]) == (401, "authorization_required")


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_an_outage_is_503_within_extensions(extension):
    app, _ = _app(extension, {"JWT_STORE_URI": "redis://127.0.0.1:1"})
    good = {"Authorization": f"Bearer {pyjwt.encode({'sub': 'a', 'type': 'access', 'jti': '1'}, SECRET)}"}
    found = app.test_client().get("/me", headers=good)
    assert (found.status_code, found.headers["Retry-After"]) == (503, "1")
    assert found.get_json()["code"] == "store_unavailable"


@pytest.mark.parametrize("propagate", [False, True])
@pytest.mark.parametrize("extension", EXTENSIONS)
def test_what_a_view_itself_refuses_comes_through_extensions(extension, propagate):
    """Our functions that a view calls raise what our decorators do."""
    asked = []

    def guard(view):
        @functools.wraps(view)
        def asks(*args, **kwargs):
            asked.append(1)
            return {"found": len(flask_sync.list_sessions("alice", cursor="junk").sessions)}

        return asks

    app = _app(extension, {"PROPAGATE_EXCEPTIONS": propagate}, guard=guard)[0]
    found = app.test_client().get("/me")
    assert (found.status_code, found.get_json()["code"], asked) == (400, "page_invalid", [1])


@pytest.mark.parametrize("compat", [{}, {"JWT_COMPAT": "flask-jwt-extended"}])
def test_pyjwts_errors_of_the_applications_own_stay_its_own(compat):
    app, _ = _app("none", compat)

    @app.get("/link/<token>")
    def link(token):
        return pyjwt.decode(token, SECRET, ["HS256"])

    @app.errorhandler(pyjwt.ExpiredSignatureError)
    def too_late(_error):
        return {"link": "too late"}, 410

    client = app.test_client()
    assert client.get(f"/link/{_bad_tokens()['expired']}").json == {"link": "too late"}
    assert client.get("/link/garbage").status_code == 500
    # As with Flask-JWT-Extended, the handler takes the loader's place.
    expired = client.get("/me", headers={"Authorization": f"Bearer {_bad_tokens()['expired']}"})
    assert (expired.status_code, expired.json) == (410, {"link": "too late"})


@pytest.mark.parametrize("extension", ["RESTful", "RESTX"])
def test_async_methods_are_plain_to_extensions_that_call_them(extension):
    """As with Flask-JWT-Extended, `flask_sync` makes them so."""
    app = flask.Flask("tests")
    app.config["JWT_SECRET_KEY"] = SECRET
    flask_sync.JWTManager(app)
    package = importlib.import_module(f"flask_{extension.lower()}")

    class Me(package.Resource):
        @flask_sync.jwt_required()
        async def get(self):
            await asyncio.sleep(0)
            return {"identity": flask_sync.get_jwt_identity()}

    package.Api(app).add_resource(Me, "/me")
    good = {"Authorization": f"Bearer {pyjwt.encode({'sub': 'a', 'type': 'access', 'jti': '1'}, SECRET)}"}
    assert app.test_client().get("/me", headers=good).json == {"identity": "a"}
    assert app.test_client().get("/me").status_code == 401
