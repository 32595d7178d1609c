"""Extensions around a guard, as they are installed: what goes past it, and what does not."""

from __future__ import annotations

import io

import flask
import jwt as pyjwt
import pytest

from async_jwt.adapters import flask_sync
from tests.harness import SECRET

GOOD = {"Authorization": f"Bearer {pyjwt.encode({'sub': 'a', 'type': 'access', 'jti': '1'}, SECRET)}"}


@pytest.fixture
def app():
    app = flask.Flask("tests")
    app.config["JWT_SECRET_KEY"] = SECRET
    flask_sync.JWTManager(app)
    return app


def test_a_cache_above_the_guard_opens_nothing(app, caplog):
    """One that keeps a user's answer would give it to everybody."""
    caching = pytest.importorskip("flask_caching")
    cache = caching.Cache(app, config={"CACHE_TYPE": "SimpleCache"})
    app.add_url_rule("/above", "above", cache.cached()(flask_sync.jwt_required()(lambda: "secret")))
    app.add_url_rule("/below", "below", flask_sync.jwt_required()(cache.cached()(lambda: "shared")))
    client = app.test_client()
    assert client.get("/above", headers=GOOD).data == b"secret"
    for headers in ({}, GOOD):
        answer = client.get("/above", headers=headers)
        assert (answer.status_code, b"secret" in answer.data) == (500, False)
    assert "The view 'above' answered, but its jwt_required never ran" in caplog.text
    assert client.get("/below", headers=GOOD).data == b"shared"
    assert client.get("/below").status_code == 401
    assert client.get("/below", headers=GOOD).data == b"shared"


def test_a_preflight_goes_past_it(app):
    cors = pytest.importorskip("flask_cors")
    cors.CORS(app)
    app.add_url_rule("/me", "me", flask_sync.jwt_required()(lambda: "me"), methods=["PUT"])
    asked = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "PUT"}
    answer = app.test_client().options("/me", headers=asked)
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, asked["Origin"])
    assert app.test_client().put("/me").status_code == 401


def test_files_and_conditional_answers(app):
    def file():
        return flask.send_file(io.BytesIO(b"text"), "text/plain", etag="e", conditional=True)

    app.add_url_rule("/file", "file", flask_sync.jwt_required()(file))
    client = app.test_client()
    answer = client.get("/file", headers=GOOD)
    assert (answer.status_code, answer.data) == (200, b"text")
    again = client.get("/file", headers={**GOOD, "If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304
    assert client.get("/file", headers={"If-None-Match": answer.headers["ETag"]}).status_code == 401


@pytest.mark.parametrize("package", ["flask_restx", "flask_restful"])
def test_methods_of_resources(app, package):
    extension = pytest.importorskip(package)

    class Me(extension.Resource):
        @flask_sync.jwt_required()
        def get(self):
            return {"ok": 1}

        def post(self):
            return {"ok": 2}

    class All(extension.Resource):
        guards = [flask_sync.jwt_required()]  # noqa: RUF012
        method_decorators = guards if package == "flask_restx" else {"get": guards}

        def get(self):
            return {"ok": 3}

    api = extension.Api(app)
    api.add_resource(Me, "/me")
    api.add_resource(All, "/all")
    client = app.test_client()
    for path, found in (("/me", 1), ("/all", 3)):
        assert client.get(path).status_code == 401
        assert client.get(path, headers=GOOD).json == {"ok": found}
        assert client.head(path, headers=GOOD).status_code == 200
    assert client.post("/me").json == {"ok": 2}
