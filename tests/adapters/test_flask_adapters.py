"""What Flask's adapters have of their own: which thread, and the same names as Quart's."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import json
import subprocess
import sys
import threading
import time

import flask
import flask_jwt_extended
import jwt as pyjwt
import pytest

from async_jwt import Key, KeyRing
from async_jwt.adapters import flask as flask_adapter
from async_jwt.adapters import flask_sync
from async_jwt.core.concurrency import WORKERS
from async_jwt.errors import (
    ConfigurationError,
    ExpiredTokenError,
    JWTExtendedException,
    NoAuthorizationError,
    SignatureError,
)
from tests.harness import SECRET
from tests.harness.applications import NEEDS_QUART, FlaskASGIHarness
from tests.harness.applications import quart_adapter as quart
from tests.harness.keys import PRIVATE_PEMS, PUBLIC_PEMS

PLAIN = """
import threading
import time
import flask
import flask_jwt_extended
from async_jwt.adapters.flask_sync import *
from async_jwt.adapters import _background_loop

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
assert _background_loop._process_loop is None
"""


def test_where_all_is_plain_there_is_no_loop_and_no_other_thread():
    subprocess.run([sys.executable, "-W", "ignore", "-c", PLAIN], check=True, timeout=60)


@pytest.mark.parametrize("adapter", [flask_sync, flask_adapter], ids=["flask_sync", "flask"])
def test_async_generators_are_refused_when_decorated(adapter):
    with pytest.raises(ConfigurationError, match="async generator"):

        @adapter.jwt_required
        async def stream():
            yield b""


@NEEDS_QUART
@pytest.mark.parametrize("adapter", [flask_sync, flask_adapter], ids=["flask_sync", "flask"])
def test_adapters_have_the_same_names_signatures_and_docstrings(adapter):
    assert adapter.__all__ == quart.__all__
    for name in set(quart.__all__) - {"current_user", "JWTManager"}:
        theirs, ours = getattr(quart, name), getattr(adapter, name)
        assert inspect.getdoc(ours) == inspect.getdoc(theirs), name
        assert inspect.signature(ours) == inspect.signature(theirs), name
        is_async = inspect.iscoroutinefunction(theirs) and adapter is flask_adapter
        assert inspect.iscoroutinefunction(ours) == is_async, name


@NEEDS_QUART
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
    """A plain hook that asks the API again, in the view and on the store loop."""
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
    jwt = flask_sync.JWTManager(app, keys=KeyRing(loaded_sign=True, loaded_secrets=True, load=load))
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
    app.config["JWT_COMPAT"] = "flask-jwt-extended"
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


def test_hooks_that_call_hooks_never_wait_for_each_other():
    """More of them at once than there are worker threads, each with a call of its own inside."""
    app = flask.Flask("tests")
    app.config["JWT_SECRET_KEY"] = SECRET
    jwt = flask_sync.JWTManager(app)
    barrier = threading.Barrier(WORKERS)

    @jwt.user_lookup_loader
    async def load(_header, claims):
        return claims["sub"]

    jwt.additional_claims_loader(lambda _identity: {"more": True})

    @jwt.expired_token_loader
    def expired(_header, claims):
        with contextlib.suppress(threading.BrokenBarrierError):
            barrier.wait(1)  # all slots are taken
        return {"new": flask_sync.create_access_token(claims["sub"])}, 401

    @app.get("/me")
    @flask_sync.jwt_required
    def me():
        return {}

    bearer = {"Authorization": f"Bearer {jwt.create_access_token('alice', expires_delta=-60)}"}
    answers = []

    def ask():
        answers.append(app.test_client().get("/me", headers=bearer).json)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(WORKERS + 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(answers) == WORKERS + 10
    assert all("new" in answer for answer in answers)


@pytest.mark.parametrize("compat", [{}, {"JWT_COMPAT": "flask-jwt-extended"}])
def test_a_second_check_sees_what_has_changed(compat):
    app = flask.Flask("tests")
    app.config.update({"JWT_SECRET_KEY": SECRET, **compat})
    jwt = flask_sync.JWTManager(app)
    needed, blocked = [], set()
    jwt.token_verification_loader(lambda _header, claims: set(needed) <= set(claims.get("roles", [])))
    jwt.token_in_blocklist_loader(lambda _header, claims: claims["jti"] in blocked)

    def outcome():
        try:
            return flask_sync.verify_jwt_in_request() is not None
        except JWTExtendedException as error:
            return error.error_code

    @app.get("/roles")
    def roles():
        outcomes = [outcome()]
        needed.append("admin")
        outcomes.append(outcome())
        needed.clear()
        return flask.jsonify(outcomes)

    @app.get("/blocked")
    def blocking():
        outcomes = [outcome()]
        blocked.add(flask_sync.get_jwt()["jti"])
        return flask.jsonify([*outcomes, outcome()])

    @app.get("/revoked")
    def revoking():
        outcomes = [outcome()]
        flask_sync.revoke_token()
        return flask.jsonify([*outcomes, outcome()])

    def ask(path):
        bearer = {"Authorization": f"Bearer {jwt.create_access_token('alice')}"}
        return app.test_client().get(path, headers=bearer).json

    assert ask("/roles") == [True, "claims_rejected"]
    assert ask("/revoked") == [True, "token_revoked"]
    # One answer serves a whole request, but for those who rely on being asked.
    assert ask("/blocked") == [True, "token_revoked" if compat else True]


def test_one_managers_applications_do_not_share_what_a_request_found():
    jwt = flask_sync.JWTManager()
    apps = []
    for secret in (SECRET, SECRET[::-1]):
        app = flask.Flask("tests")
        app.config["JWT_SECRET_KEY"] = secret
        jwt.init_app(app)
        apps.append(app)

    @apps[0].get("/me")
    @flask_sync.jwt_required
    def me():
        with apps[1].app_context():
            with pytest.raises(RuntimeError):
                flask_sync.get_jwt()
            with pytest.raises(SignatureError):
                flask_sync.verify_jwt_in_request()
        return {"name": flask_sync.get_jwt_identity()}

    with apps[0].app_context():
        bearer = {"Authorization": f"Bearer {flask_sync.create_access_token('alice')}"}
    assert apps[0].test_client().get("/me", headers=bearer).json == {"name": "alice"}


def test_own_tokens_beside_foreign_ones_with_a_key_loader():
    app = flask.Flask("tests")
    app.config.update(JWT_SECRET_KEY=SECRET, JWT_DECODE_ALGORITHMS=["HS256", "RS256"])
    jwt = flask_sync.JWTManager(app)
    jwt.decode_key_loader(
        lambda header, _claims: PUBLIC_PEMS["RS256"] if header["alg"] == "RS256" else SECRET
    )

    @app.get("/me")
    @flask_sync.jwt_required
    def me():
        return {"name": flask_sync.get_jwt_identity()}

    foreign = pyjwt.encode({"sub": "bob", "type": "access"}, PRIVATE_PEMS["RS256"], "RS256")
    for token, name in ((jwt.create_access_token("alice"), "alice"), (foreign, "bob")):
        bearer = {"Authorization": f"Bearer {token}"}
        assert app.test_client().get("/me", headers=bearer).json == {"name": name}


def test_a_clock_that_tests_replace_counts(monkeypatch):
    """As freezegun does it."""
    app = flask.Flask("tests")
    app.config["JWT_SECRET_KEY"] = SECRET
    jwt = flask_sync.JWTManager(app)
    token = jwt.create_access_token("alice")
    monkeypatch.setattr(time, "time", lambda: 4e9)
    with pytest.raises(ExpiredTokenError):
        jwt.decode_token(token)
    assert jwt.decode_token(jwt.create_access_token("alice"))["iat"] == 4_000_000_000


def test_json_providers_with_less_and_later_ones():
    pytest.importorskip("flask.json.provider", reason="Flask 2.2 has them")
    from flask.json.provider import DefaultJSONProvider, JSONProvider

    class Bare(JSONProvider):
        def dumps(self, obj, **kwargs):
            return json.dumps(obj, **kwargs)

        def loads(self, s, **kwargs):
            return json.loads(s, **kwargs)

    app = flask.Flask("tests")
    app.config["JWT_SECRET_KEY"] = SECRET
    app.json = Bare(app)
    jwt = flask_sync.JWTManager(app)
    assert jwt.create_access_token("alice")
    with pytest.raises(TypeError, match="not JSON serializable"):
        jwt.create_access_token("alice", additional_claims={"what": object()})

    class Later(DefaultJSONProvider):
        default = staticmethod(lambda _value: "later")

    app.json = Later(app)
    token = jwt.create_access_token("alice", additional_claims={"what": object()})
    assert jwt.decode_token(token)["what"] == "later"


@pytest.mark.filterwarnings("ignore:.*(json_encoder|JSONEncoder)' is deprecated:DeprecationWarning")
def test_json_encoders_of_flask_before_2_3():
    if not hasattr(flask.Flask, "json_encoder"):
        pytest.skip("Flask 2.3 has none")

    class Encoder(flask.json.JSONEncoder):
        def default(self, _value):
            return "encoded"

    app = flask.Flask("tests")
    app.config["JWT_SECRET_KEY"] = SECRET
    jwt = flask_sync.JWTManager(app)
    with pytest.raises(TypeError, match="not JSON serializable"):
        jwt.create_access_token("alice", additional_claims={"what": object()})
    app.json_encoder = Encoder
    token = jwt.create_access_token("alice", additional_claims={"what": object()})
    assert jwt.decode_token(token)["what"] == "encoded"


@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_are_no_longer_than_the_application_allows(chunked):
    app = flask.Flask("tests")
    app.config.update(JWT_SECRET_KEY=SECRET, JWT_TOKEN_LOCATION="json", MAX_CONTENT_LENGTH=600)
    jwt = flask_sync.JWTManager(app)

    @app.post("/me")
    @flask_sync.jwt_required()
    def me():
        return {"name": flask.request.json["name"]}

    def ask(name):
        body = {"access_token": jwt.create_access_token("alice"), "name": name}
        if not chunked:
            return app.test_client().post("/me", json=body)
        stream = io.BytesIO(json.dumps(body).encode())
        given = {"wsgi.input_terminated": True, "CONTENT_TYPE": "application/json"}
        return app.test_client().post("/me", input_stream=stream, environ_overrides=given)

    assert ask("alice").json == {"name": "alice"}
    assert ask("a" * 600).status_code == 413


@pytest.mark.parametrize("chunked", [False, True])
def test_forms_are_no_longer_than_the_application_allows(chunked):
    app = flask.Flask("tests")
    config = {"JWT_TOKEN_LOCATION": "cookies", "JWT_CSRF_CHECK_FORM": True, "MAX_CONTENT_LENGTH": 100}
    app.config.update(JWT_SECRET_KEY=SECRET, **config)
    jwt = flask_sync.JWTManager(app)
    app.add_url_rule(
        "/me", "me", flask_sync.jwt_required()(lambda: flask.request.form["a"]), methods=["POST"]
    )
    token = jwt.create_access_token("alice")

    def ask(size):
        body = f"csrf_token={jwt.decode_token(token)['csrf']}&a={'a' * size}".encode()
        given = {"CONTENT_TYPE": "application/x-www-form-urlencoded"}
        given |= {"wsgi.input_terminated": True} if chunked else {"CONTENT_LENGTH": str(len(body))}
        headers = {"Cookie": f"access_token_cookie={token}"}
        client = app.test_client(use_cookies=False)
        return client.post("/me", input_stream=io.BytesIO(body), environ_overrides=given, headers=headers)

    assert ask(5).data == b"aaaaa"
    assert ask(100).status_code == 413


def test_an_application_raises_our_errors_with_what_it_has():
    app = flask.Flask("tests")
    app.config.update(JWT_SECRET_KEY=SECRET, JWT_COMPAT="flask-jwt-extended")
    flask_sync.JWTManager(app)

    class Mine(NoAuthorizationError):
        response = {"upstream": 1}  # noqa: RUF012

    raised = [NoAuthorizationError(ValueError("an error")), NoAuthorizationError(7), Mine("mine")]
    app.add_url_rule("/raise/<int:number>", "raise", lambda number: (_ for _ in ()).throw(raised[number]))
    answers = [app.test_client().get(f"/raise/{number}") for number in range(3)]
    assert [answer.status_code for answer in answers] == [401] * 3
    assert [answer.json["msg"] for answer in answers] == ["an error", "7", "mine"]


def test_the_manager_that_was_initialised_last_is_the_one_that_is_meant(caplog):
    app = flask.Flask("tests")
    app.config.update(JWT_SECRET_KEY=SECRET, JWT_COMPAT="flask-jwt-extended")
    first, second = flask_sync.JWTManager(app), flask_sync.JWTManager(app)
    assert [record.event for record in caplog.records] == ["second_manager"]
    first.additional_claims_loader(lambda _identity: {"by": 1})
    second.additional_claims_loader(lambda _identity: {"by": 2})
    with app.app_context():
        assert flask_sync.decode_token(flask_sync.create_access_token("alice"))["by"] == 2
        first.init_app(app)
        assert flask_sync.decode_token(flask_sync.create_access_token("alice"))["by"] == 1


@pytest.mark.parametrize("api", [flask_sync, flask_adapter], ids=["flask_sync", "flask"])
def test_a_manager_that_comes_after_the_first_request_is_refused_each_time(api):
    """Flask before 2.2 refuses in debug mode alone; what is refused must not look installed afterwards."""
    app = flask.Flask("tests")
    app.config.update(JWT_SECRET_KEY=SECRET, JWT_DEFAULT_DENY=True)
    app.add_url_rule("/open", "open", dict)
    assert app.test_client().get("/open").status_code == 200
    jwt = api.JWTManager()
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="before the application serves a request"):
            jwt.init_app(app)
    assert "async_jwt" not in app.extensions


@pytest.mark.parametrize("api", [flask_sync, flask_adapter], ids=["flask_sync", "flask"])
@pytest.mark.parametrize("size", [10, 3 * 4096])
def test_chunked_json_in_flask_too(api, size):
    app = flask.Flask("tests")
    app.config.update(JWT_SECRET_KEY=SECRET, JWT_TOKEN_LOCATION=["json"], JWT_MAX_JSON_BYTES=4096)
    flask_sync.JWTManager(app)

    @app.post("/echo")
    @api.jwt_required(optional=True)
    def echo():
        before = stream.tell()
        return {"length": len(flask.request.get_data()), "who": api.get_jwt_identity(), "read": before}

    with app.app_context():
        token = flask_sync.create_access_token("alice")
    body = json.dumps({"access_token": token, "n": "x" * size}).encode()
    stream = io.BytesIO(body)
    given = {"wsgi.input_terminated": True, "CONTENT_TYPE": "application/json"}
    found = app.test_client().post("/echo", input_stream=stream, environ_overrides=given).json
    assert (found["length"], found["who"]) == (len(body), "alice" if size == 10 else None)
    assert found["read"] <= max(4096 + 1, len(body) if size == 10 else 0)


@pytest.mark.parametrize(
    ("size", "status", "who"), [(10, 200, "alice"), (8_000, 200, None), (20_000, 413, None)]
)
def test_a_chunked_json_body_is_searched_up_to_a_limit_and_stays_readable(size, status, who):
    """WSGI servers that know where it ends say so (`wsgi.input_terminated`)."""
    app = flask.Flask("tests")
    app.config.update(
        JWT_SECRET_KEY=SECRET,
        JWT_TOKEN_LOCATION=["json"],
        JWT_MAX_JSON_BYTES=4096,
        MAX_CONTENT_LENGTH=10_000,
    )
    jwt = flask_sync.JWTManager(app)

    @app.post("/echo")
    @flask_sync.jwt_required(optional=True)
    def echo():
        return {"length": len(flask.request.get_data()), "who": flask_sync.get_jwt_identity()}

    class Halting(io.BytesIO):
        def read(self, size=-1):
            return super().read(min(size, 1000) if size >= 0 else size)

    body = json.dumps({"access_token": jwt.create_access_token("alice"), "n": "x" * size}).encode()
    answer = app.test_client().post(
        "/echo",
        input_stream=Halting(body),
        content_type="application/json",
        environ_overrides={"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"},
    )
    assert answer.status_code == status
    assert status != 200 or answer.json == {"length": len(body), "who": who}


@pytest.mark.parametrize(("size", "who"), [(10, "alice"), (8_000, None)])
def test_a_json_body_that_was_read_before_the_check_is_searched_up_to_the_same_limit(size, who):
    app = flask.Flask("tests")
    app.config.update(JWT_SECRET_KEY=SECRET, JWT_TOKEN_LOCATION=["json"], JWT_MAX_JSON_BYTES=4096)
    jwt = flask_sync.JWTManager(app)
    app.before_request(lambda: None if flask.request.get_data() else "empty")

    @app.post("/echo")
    @flask_sync.jwt_required(optional=True)
    def echo():
        flask_sync.verify_jwt_in_request(optional=True)  # twice
        return {"length": len(flask.request.get_data()), "who": flask_sync.get_jwt_identity()}

    body = json.dumps({"access_token": jwt.create_access_token("alice"), "n": "x" * size}).encode()
    for chunked in (False, True):
        given = {"input_stream": io.BytesIO(body)} if chunked else {"data": body}
        answer = app.test_client().post(
            "/echo",
            content_type="application/json",
            environ_overrides={"wsgi.input_terminated": True},
            **given,
        )
        assert answer.json == {"length": len(body), "who": who}


@pytest.mark.asyncio
async def test_a_plain_hook_that_turns_out_to_wait_is_refused_on_the_servers_loop():
    """The loop could never run what it waits for; that a plain function waits is known when it was called."""
    h = FlaskASGIHarness()

    async def find():
        await asyncio.sleep(0)
        return "ada"

    h.jwt.user_lookup_loader(lambda _header, _claims: find())

    async def view():
        with pytest.raises(RuntimeError, match="await the function of the same name"):
            flask_sync.verify_jwt_in_request()
        await flask_adapter.verify_jwt_in_request()
        return {"user": flask_adapter.get_current_user()}

    h.view("/both", view)
    assert (await h.call("/both", token=await h.mint())).json == {"user": "ada"}
