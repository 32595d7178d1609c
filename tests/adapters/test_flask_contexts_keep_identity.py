"""Contexts in Flask: whatever is pushed around a request, its identity stays its own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import flask
import pytest
from flask.views import MethodView

from async_jwt.adapters import flask as flask_adapter
from async_jwt.adapters import flask_sync
from tests.harness import SECRET

ADAPTERS = pytest.mark.parametrize("api", [flask_sync, flask_adapter], ids=["flask_sync", "flask"])


def make(api, **config):
    app = flask.Flask("tests")
    app.config.update({"JWT_SECRET_KEY": SECRET, **config})
    jwt = api.JWTManager(app)
    jwt.user_lookup_loader(lambda _header, claims: {"name": claims["sub"]})

    @app.get("/me")
    @api.jwt_required()
    def me():
        return {"name": api.current_user["name"]}

    @app.get("/optional")
    @api.jwt_required(optional=True)
    def optional():
        return {"name": api.get_jwt_identity(), "user": bool(api.current_user)}

    @app.get("/open")
    def open_():
        try:
            return {"name": api.get_jwt_identity()}
        except RuntimeError:
            return {"name": "nobody was asked"}

    return app, jwt


def bearer(app, name="alice"):
    with app.app_context():
        return {"Authorization": f"Bearer {flask_sync.create_access_token(name)}"}


@ADAPTERS
def test_an_outer_app_context_carries_no_identity(api):
    """As a fixture of an application's tests pushes one, and `g` lives as long as it does."""
    app, _ = make(api)
    alice = bearer(app)
    client = app.test_client()
    with app.app_context():
        assert client.get("/me", headers=alice).json == {"name": "alice"}
        assert client.get("/optional").json == {"name": None, "user": False}
        assert client.get("/open").json == {"name": "nobody was asked"}
        assert client.get("/me").status_code == 401
        with pytest.raises(RuntimeError):
            api.get_jwt()


@ADAPTERS
def test_a_request_within_a_request_is_another_one(api):
    app, _ = make(api)
    alice, bob = bearer(app), bearer(app, "bob")

    @app.get("/outer")
    @api.jwt_required()
    def outer():
        inner = app.test_client().get("/me", headers=bob).json["name"]
        anonymous = app.test_client().get("/optional").json["name"]
        return {"names": [api.get_jwt_identity(), inner, anonymous, api.get_jwt_identity()]}

    names = app.test_client().get("/outer", headers=alice).json["names"]
    assert names == ["alice", "bob", None, "alice"]


@ADAPTERS
def test_other_applications_within_a_request(api):
    app, _ = make(api)
    other, _ = make(api, JWT_SECRET_KEY=SECRET[::-1])

    @app.get("/outer")
    @api.jwt_required()
    def outer():
        with other.app_context(), pytest.raises(RuntimeError):
            api.get_jwt()  # this request is not one of the other application's
        with other.test_request_context():
            refused = other.test_client().get("/me", headers=dict(flask.request.headers)).status_code
        return {"name": api.get_jwt_identity(), "refused": refused}

    assert app.test_client().get("/outer", headers=bearer(app)).json == {"name": "alice", "refused": 401}
    assert app.test_client().get("/me", headers=bearer(other)).status_code == 401


@ADAPTERS
def test_a_copied_request_context_keeps_the_identity_in_its_thread(api):
    app, _ = make(api)
    found = []

    @app.get("/thread")
    @api.jwt_required()
    def thread():
        @flask.copy_current_request_context
        def work():
            found.append(api.get_jwt_identity())

        def stranger():
            with app.app_context():
                try:
                    found.append(api.get_jwt_identity())
                except RuntimeError:
                    found.append("nobody")

        for target in (work, stranger):
            started = threading.Thread(target=target)
            started.start()
            started.join()
        return {}

    assert app.test_client().get("/thread", headers=bearer(app)).status_code == 200
    assert found == ["alice", "nobody"]


@ADAPTERS
def test_blueprints_method_views_and_teardown(api):
    app, _ = make(api)
    blueprint = flask.Blueprint("inner", "inner", url_prefix="/inner")
    seen = []

    @blueprint.before_request
    @api.jwt_required()
    def guard():
        pass

    class Notes(MethodView):
        init_every_request = False
        decorators = [api.jwt_required(fresh=True)]  # noqa: RUF012

        def get(self):
            return {"name": api.get_jwt_identity()}

    blueprint.add_url_rule("/notes", view_func=Notes.as_view("notes"))
    blueprint.add_url_rule("/plain", view_func=lambda: {"name": api.current_user["name"]})

    @app.after_request
    def after(response):
        seen.append(("after", api.get_jwt_request_location()))
        return response

    @app.teardown_request
    def teardown(_error):
        seen.append(("teardown", api.get_jwt_request_location()))

    app.register_blueprint(blueprint)
    client = app.test_client()
    assert client.get("/inner/plain").status_code == 401
    assert client.get("/inner/plain", headers=bearer(app)).json == {"name": "alice"}
    assert client.get("/inner/notes", headers=bearer(app)).json["code"] == "fresh_token_required"
    assert seen[2:4] == [("after", "headers"), ("teardown", "headers")]
    with app.app_context():
        fresh = {"Authorization": f"Bearer {flask_sync.create_access_token('alice', fresh=True)}"}
    assert client.get("/inner/notes", headers=fresh).json == {"name": "alice"}


@ADAPTERS
def test_streams_keep_the_identity(api):
    app, _ = make(api)

    @app.get("/stream")
    @api.jwt_required()
    def stream():
        for _ in range(3):
            yield f"{api.get_jwt_identity()} "

    @app.get("/with-context")
    @api.jwt_required()
    def with_context():
        return flask.Response(flask.stream_with_context(api.get_jwt_identity() for _ in range(2)))

    client = app.test_client()
    assert client.get("/stream", headers=bearer(app)).get_data(as_text=True) == "alice alice alice "
    assert client.get("/with-context", headers=bearer(app)).get_data(as_text=True) == "alicealice"
    assert client.get("/stream").status_code == 401


def test_one_manager_serves_applications_made_by_a_factory():
    jwt = flask_sync.JWTManager()

    @flask_sync.jwt_required()
    def me():
        return {"name": flask_sync.get_jwt_identity()}

    apps = []
    for number in range(3):
        app = flask.Flask("tests")
        app.config["JWT_SECRET_KEY"] = f"{number}{SECRET}"
        app.add_url_rule("/me", view_func=me)
        jwt.init_app(app)
        apps.append(app)
    jwt.additional_claims_loader(lambda _identity: {"late": True})  # applies to all of them
    for app in apps:
        for other in apps:
            expected = 200 if app is other else 401
            assert app.test_client().get("/me", headers=bearer(other)).status_code == expected


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_async_views_keep_their_own_identity_side_by_side(kind):
    app, jwt = make(flask_adapter)

    @jwt.token_verification_loader
    async def verify(_header, _claims):
        await asyncio.sleep(0.002)
        return True

    if kind == "def":

        @app.get("/slow")
        @flask_adapter.jwt_required()
        def slow():
            return {"name": flask_adapter.get_jwt_identity()}

    else:

        @app.get("/slow")
        @flask_adapter.jwt_required()
        async def slow():
            before = flask_adapter.get_jwt_identity()
            await asyncio.sleep(0.002)
            assert flask_adapter.current_user["name"] == before
            return {"name": flask_adapter.get_jwt_identity()}

    found = []

    def ask(number):
        headers = bearer(app, f"user{number}")
        found.extend((number, app.test_client().get("/slow", headers=headers).json["name"]) for _ in range(5))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 40
    assert all(name == f"user{number}" for number, name in found)


GEVENT = """
from gevent import monkey
monkey.patch_all()
import gevent, flask
from async_jwt.adapters.flask_sync import *
app = flask.Flask("tests")
app.config["JWT_SECRET_KEY"] = "x" * 64
jwt = JWTManager(app)

@jwt.user_lookup_loader
def load(header, claims):
    gevent.sleep(0.01)
    return claims["sub"]

@app.get("/me")
@jwt_required()
def me():
    gevent.sleep(0.01)
    return {"name": str(current_user)}

def ask(number):
    with app.app_context():
        bearer = {"Authorization": "Bearer " + create_access_token(f"user{number}")}
    return number, app.test_client().get("/me", headers=bearer).json["name"]

asked = [gevent.spawn(ask, number) for number in range(50)]
gevent.joinall(asked, timeout=20, raise_error=True)
assert all(job.value == (n, f"user{n}") for n, job in enumerate(asked)), [job.value for job in asked]
"""


def test_greenlets_do_not_share_an_identity():
    pytest.importorskip("gevent")
    subprocess.run([sys.executable, "-W", "ignore", "-c", GEVENT], check=True, timeout=60)
