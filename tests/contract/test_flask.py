"""What Flask's adapters have of their own: which thread, and the same names as Quart's."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import threading
import time

import flask
import flask_jwt_extended
import pytest

from async_jwt import Key, KeyRing
from async_jwt.adapters import flask as flask_adapter
from async_jwt.adapters import flask_sync, quart
from async_jwt.errors import ConfigurationError
from tests.conftest import SECRET

PLAIN = """
import threading
import time
import flask
import flask_jwt_extended
from async_jwt.adapters.flask_sync import *
from async_jwt.adapters import home_loop

app = flask.Flask("tests")
app.config["JWT_SECRET_KEY"] = "x" * 64
jwt = JWTManager(app)
seen = []

def note(value):
    seen.append(threading.current_thread())
    return value

jwt.user_identity_loader(lambda user: note(user))
jwt.additional_claims_loader(lambda user: note({"a": 1}))
jwt.token_in_blocklist_loader(lambda header, claims: note(False))
jwt.token_verification_loader(lambda header, claims: note(True))
jwt.user_lookup_loader(lambda header, claims: note(claims["sub"]))
jwt.revoked_token_loader(lambda header, claims: note(({"gone": 1}, 401)))

@app.get("/me")
@jwt_required()
def me():
    return {"user": note(str(current_user))}

@app.post("/logout")
@jwt_required()
def logout():
    revoke_token()
    return {}

client = app.test_client()
with app.app_context():
    bearer = {"Authorization": "Bearer " + create_access_token("alice")}
assert client.get("/me", headers=bearer).json == {"user": "alice"}
assert client.post("/logout", headers=bearer).status_code == 200
assert client.get("/me", headers=bearer).json == {"gone": 1}
assert set(seen) == {threading.main_thread()} and len(seen) == 10, seen
assert threading.enumerate() == [threading.main_thread()]
assert home_loop._home is None
"""


def test_where_all_is_plain_there_is_no_loop_and_no_other_thread():
    subprocess.run([sys.executable, "-W", "ignore", "-c", PLAIN], check=True, timeout=60)


@pytest.mark.parametrize("adapter", [flask_sync, flask_adapter], ids=["flask_sync", "flask"])
def test_async_generators_are_refused_when_decorated(adapter):
    with pytest.raises(ConfigurationError, match="async generator"):

        @adapter.jwt_required
        async def stream():
            yield b""


@pytest.mark.parametrize("adapter", [flask_sync, flask_adapter], ids=["flask_sync", "flask"])
def test_adapters_have_the_same_names_signatures_and_docstrings(adapter):
    assert adapter.__all__ == quart.__all__
    for name in set(quart.__all__) - {"current_user", "JWTManager"}:
        theirs, ours = getattr(quart, name), getattr(adapter, name)
        assert inspect.getdoc(ours) == inspect.getdoc(theirs), name
        assert inspect.signature(ours) == inspect.signature(theirs), name
        is_async = inspect.iscoroutinefunction(theirs) and adapter is flask_adapter
        assert inspect.iscoroutinefunction(ours) == is_async, name


@pytest.mark.parametrize("adapter", [flask_sync, flask_adapter], ids=["flask_sync", "flask"])
def test_managers_have_the_same_operations(adapter):
    def public(manager):
        return {name for name in dir(manager) if not name.startswith("_")}

    assert public(adapter.JWTManager) - {"surroundings"} == public(quart.JWTManager) - {"surroundings"}
    for name, theirs in inspect.getmembers(quart.JWTManager, inspect.isfunction):
        if not name.startswith("_"):
            ours = getattr(adapter.JWTManager, name)
            assert inspect.signature(ours) == inspect.signature(theirs), name
            assert inspect.getdoc(ours) == inspect.getdoc(theirs), name


def test_hooks_of_a_blocking_api_may_use_it():
    """A plain hook that asks the API again, on a step and on the way over the lasting loop."""
    app = flask.Flask("tests")
    app.config["JWT_SECRET_KEY"] = SECRET
    jwt = flask_sync.JWTManager(app)

    @jwt.user_lookup_loader
    def load(_header, claims):
        return flask_sync.get_jti(flask_sync.create_access_token(claims["sub"])) is not None

    @app.get("/me")
    @flask_sync.jwt_required
    def me():
        return {"user": bool(flask_sync.current_user)}

    bearer = {"Authorization": f"Bearer {jwt.create_access_token('alice')}"}
    assert app.test_client().get("/me", headers=bearer).json == {"user": True}

    @jwt.token_in_blocklist_loader
    async def blocked(_header, _claims):
        await asyncio.sleep(0)
        return False

    assert app.test_client().get("/me", headers=bearer).json == {"user": True}


def test_an_async_hook_that_blocks_on_the_api_is_told_what_to_do():
    app = flask.Flask("tests")
    app.config.update(JWT_SECRET_KEY=SECRET, PROPAGATE_EXCEPTIONS=True)
    jwt = flask_sync.JWTManager(app)

    @jwt.user_lookup_loader
    async def load(_header, claims):
        return flask_sync.create_access_token(claims["sub"])

    @app.get("/me")
    @flask_sync.jwt_required
    def me():
        return {}

    bearer = {"Authorization": f"Bearer {jwt.create_access_token('alice')}"}
    with pytest.raises(RuntimeError, match="await the function of the same name"):
        app.test_client().get("/me", headers=bearer)


def test_plain_views_wait_for_keys_that_another_thread_loads():
    asked = []

    def load():
        asked.append(1)
        time.sleep(0.1)
        return [Key(SECRET, kid="1")]

    app = flask.Flask("tests")
    jwt = flask_sync.JWTManager(app, keys=KeyRing(load=load))
    made = []
    threads = [
        threading.Thread(target=lambda: made.append(jwt.create_access_token("alice"))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(asked)) == (5, 1)


def test_threads_do_not_share_an_identity():
    app = flask.Flask("tests")
    app.config["JWT_SECRET_KEY"] = SECRET
    jwt = flask_sync.JWTManager(app)
    jwt.user_lookup_loader(lambda _header, claims: {"name": claims["sub"]})
    barrier = threading.Barrier(16)

    @app.get("/me")
    @flask_sync.jwt_required(optional=True)
    def me():
        barrier.wait(10)
        user = flask_sync.get_current_user()
        return {"names": [user and user["name"], flask_sync.get_jwt_identity()]}

    found = {}

    def call(number):
        name = f"user{number}" if number % 4 else None
        bearer = {"Authorization": f"Bearer {jwt.create_access_token(name)}"} if name else {}
        found[number] = (name, app.test_client().get("/me", headers=bearer).json["names"])

    threads = [threading.Thread(target=call, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(names == [name, name] for name, names in found.values())
    assert len(found) == 16


def test_the_manager_is_found_where_applications_of_the_original_look_for_it():
    app = flask.Flask("tests")
    jwt = flask_sync.JWTManager(app)
    assert app.extensions["flask-jwt-extended"] is jwt
    last = flask_sync.JWTManager(app)
    assert app.extensions["flask-jwt-extended"] is last


def test_the_original_keeps_its_place_beside_ours():
    """While an application moves, both may be there."""
    app = flask.Flask("tests")
    app.config["JWT_SECRET_KEY"] = SECRET
    original = flask_jwt_extended.JWTManager(app)
    flask_sync.JWTManager(app)
    assert app.extensions["flask-jwt-extended"] is original
