"""A plain Flask view and the plain hooks of its request share one thread, whatever else is set."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from contextvars import ContextVar

import flask
import pytest

from async_jwt import Key, KeyRing
from async_jwt.adapters import flask as flask_adapter
from async_jwt.adapters import flask_sync
from async_jwt.adapters._background_loop import background_loop
from async_jwt.core import key_loading
from async_jwt.errors import HookError
from async_jwt.stores import MemoryStore
from tests.harness import SECRET

SETTINGS = ("memory", "redis", "timeout", "async hook")
HOOKS = {
    "user_identity": lambda user: user,
    "additional_claims": lambda _user: {"more": 1},
    "additional_headers": lambda _user: {"more": 1},
    "encode_key": lambda _user: SECRET,
    "decode_key": lambda _header, _claims: SECRET,
    "token_verification": lambda _header, _claims: True,
    "user_lookup": lambda _header, claims: claims["sub"],
    "revoked_token": lambda _header, _claims: ({"code": "mine"}, 401),
    "unauthorized": lambda _message: ({"code": "mine"}, 401),
}


@pytest.fixture
def make(request, redis_url):
    """Makes applications under one setting; their store's connections are closed in the end."""
    managers = []

    def made(setting="memory", **config):
        app = flask.Flask("tests")
        app.config.update({"JWT_SECRET_KEY": SECRET, "PROPAGATE_EXCEPTIONS": True, **config})
        if setting == "redis":
            app.config["JWT_STORE_URI"] = f"{redis_url}?prefix=threads{time.monotonic_ns()}:&deadline=5"
        if setting == "timeout":
            app.config["JWT_HOOK_TIMEOUT"] = 30
        jwt = flask_sync.JWTManager(app)
        managers.append(jwt)
        if setting == "async hook":

            @jwt.token_in_blocklist_loader
            async def blocked(_header, _claims):
                return False

        return app, jwt

    yield made
    for jwt in managers:
        jwt.close()


@pytest.fixture
def hops(monkeypatch):
    """What went to the store loop while nothing cleared it."""
    found = []
    whole = type(background_loop()).run

    def counted(self, awaitable):
        found.append(awaitable)
        return whole(self, awaitable)

    monkeypatch.setattr(type(background_loop()), "run", counted)
    return found


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("api", [flask_sync, flask_adapter], ids=["flask_sync", "flask"])
def test_every_plain_hook_runs_in_the_views_thread(make, api, setting):
    app, jwt = make(setting, JWT_DEFAULT_DENY=True)
    threads = {}

    def note(name, function):
        def noted(*args):
            threads.setdefault(name, set()).add((threading.get_ident(), bool(flask.request)))
            return function(*args)

        return noted

    for name, function in HOOKS.items():
        getattr(jwt, f"{name}_loader")(note(name, function))

    @app.get("/decorated")
    @api.jwt_required()
    def decorated():
        return {"user": str(api.current_user), "thread": threading.get_ident()}

    @app.get("/undecided")
    def undecided():
        return {"user": str(api.current_user), "thread": threading.get_ident()}

    @app.post("/login")
    @flask_sync.public
    def login():
        return {"token": flask_sync.create_token_pair("ada").access_token}

    @app.post("/out")
    @flask_sync.jwt_required()
    def out():
        flask_sync.revoke_token()
        return {}

    client = app.test_client()
    bearer = {"Authorization": f"Bearer {client.post('/login').json['token']}"}
    for path in ("/decorated", "/undecided"):
        assert client.get(path, headers=bearer).json == {"user": "ada", "thread": threading.get_ident()}
        assert client.get(path).json["code"] == "mine"
    assert client.post("/out", headers=bearer).status_code == 200
    assert client.get("/decorated", headers=bearer).json["code"] == "mine"
    assert threads == {name: {(threading.get_ident(), True)} for name in HOOKS}


def test_a_check_is_one_hop_a_login_two_and_a_rotation_three(make, hops):
    app, jwt = make("redis")
    for name in ("user_lookup", "additional_claims", "token_verification"):
        getattr(jwt, f"{name}_loader")(HOOKS[name])

    @app.post("/login")
    def login():
        return {"pair": vars_of(flask_sync.create_token_pair("ada"))}

    @app.post("/refresh")
    @flask_sync.jwt_required(refresh=True)
    def refresh():
        return {"pair": vars_of(flask_sync.rotate_refresh_token())}

    @app.get("/me")
    @flask_sync.jwt_required()
    def me():
        return {}

    def vars_of(pair):
        return [pair.access_token, pair.refresh_token]

    def counted(method, path, token=None):
        hops.clear()
        bearer = {"Authorization": f"Bearer {token}"} if token else {}
        answer = app.test_client().open(path, method=method, headers=bearer)
        assert answer.status_code == 200
        return len(hops), answer.json

    login_hops, body = counted("POST", "/login")
    access, refresh_token = body["pair"]
    assert login_hops == 2
    assert counted("GET", "/me", access)[0] == 1
    assert counted("POST", "/refresh", refresh_token)[0] <= 3


def test_each_async_hook_is_one_hop_and_plain_ones_none(make, hops):
    app, jwt = make("async hook")
    jwt.user_lookup_loader(HOOKS["user_lookup"])

    @app.get("/me")
    @flask_sync.jwt_required()
    def me():
        return {}

    bearer = {"Authorization": f"Bearer {jwt.create_access_token('ada')}"}
    assert hops == []
    assert app.test_client().get("/me", headers=bearer).status_code == 200
    assert len(hops) == 1


@pytest.mark.parametrize("setting", ["memory", "redis"])
def test_a_plain_hook_that_comes_back_late_authenticates_nobody(make, setting):
    app, jwt = make(setting, JWT_HOOK_TIMEOUT=0.5)
    late = []

    @jwt.user_lookup_loader
    def load(_header, claims):
        time.sleep(0.7 if late else 0)
        return claims["sub"]

    @app.get("/me")
    @flask_sync.jwt_required()
    def me():
        return {"user": str(flask_sync.current_user)}

    bearer = {"Authorization": f"Bearer {jwt.create_access_token('ada')}"}
    client = app.test_client()
    assert client.get("/me", headers=bearer).json == {"user": "ada"}
    late.append(1)
    answer = client.get("/me", headers=bearer)
    assert (answer.status_code, answer.json["code"]) == (503, "hook_timeout")


def test_the_limit_counts_what_a_hook_does_before_it_hands_out_a_coroutine(make):
    app, jwt = make(JWT_HOOK_TIMEOUT=0.1)
    ended = []

    async def find(claims):
        try:
            await asyncio.sleep(5)
        finally:
            ended.append(time.monotonic())
        return claims["sub"]

    @jwt.user_lookup_loader
    def load(_header, claims):
        time.sleep(0.09)
        return find(claims)

    @app.get("/me")
    @flask_sync.jwt_required()
    def me():
        return {}

    bearer = {"Authorization": f"Bearer {jwt.create_access_token('ada')}"}
    answer = app.test_client().get("/me", headers=bearer)
    assert (answer.status_code, answer.json["code"]) == (503, "hook_timeout")
    assert len(ended) == 1, "what it waited for was cancelled"


async def _hangs(*_):
    await asyncio.sleep(30)


def test_a_store_that_hangs_is_bounded_like_an_async_hook(make):
    class Hanging(MemoryStore):
        awaits_nothing = False
        check = _hangs

    app = flask.Flask("tests")
    app.config.update(JWT_SECRET_KEY=SECRET, JWT_HOOK_TIMEOUT=0.05)
    jwt = flask_sync.JWTManager(app, store=Hanging())

    @app.get("/me")
    @flask_sync.jwt_required()
    def me():
        return {}

    bearer = {"Authorization": f"Bearer {jwt.create_access_token('ada')}"}
    answer = app.test_client().get("/me", headers=bearer)
    assert (answer.status_code, answer.json["code"]) == (503, "store_unavailable")


def test_context_variables_that_a_hop_changed_come_back(make):
    app, jwt = make()
    tenant: ContextVar[str] = ContextVar("tenant", default="none")

    @jwt.user_lookup_loader
    async def load(_header, claims):
        tenant.set("acme")
        return claims["sub"]

    @jwt.token_verification_loader
    def verify(_header, _claims):
        return tenant.get() == "none"

    @app.get("/me")
    @flask_sync.jwt_required()
    def me():
        return {"tenant": tenant.get()}

    bearer = {"Authorization": f"Bearer {jwt.create_access_token('ada')}"}
    assert app.test_client().get("/me", headers=bearer).json == {"tenant": "acme"}


def test_an_object_that_leads_to_itself_is_a_value(make):
    """As Tortoise's models do."""
    app, jwt = make()

    class User:
        name = "ada"

        def __await__(self):
            yield from ()
            return self

    jwt.user_lookup_loader(lambda _header, _claims: User())

    @app.get("/me")
    @flask_sync.jwt_required()
    def me():
        return {"user": flask_sync.current_user.name}

    bearer = {"Authorization": f"Bearer {jwt.create_access_token('ada')}"}
    assert app.test_client().get("/me", headers=bearer).json == {"user": "ada"}


def test_an_answer_that_never_ends_in_a_value_is_a_hook_error(make):
    app, jwt = make()

    async def again(*_):
        return again()

    jwt.user_lookup_loader(again)

    @app.get("/me")
    @flask_sync.jwt_required()
    def me():
        return {}

    bearer = {"Authorization": f"Bearer {jwt.create_access_token('ada')}"}
    answer = app.test_client().get("/me", headers=bearer)
    assert (answer.status_code, answer.json["code"]) == (500, HookError.error_code)


def forged(kid):
    """A token of a key that nobody has; no key is needed to make one."""
    parts = ({"alg": "HS256", "kid": kid}, {"sub": "ada", "type": "access", "jti": "1"})
    texts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*texts, base64.urlsafe_b64encode(b"\0" * 32).decode().rstrip("=")])


def test_tokens_of_unknown_keys_hold_few_threads_and_none_of_known_keys(clock, monkeypatch):
    monkeypatch.setattr(key_loading, "_PATIENCE", 0.5)  # as it is outside of tests
    hang, asked, waits = threading.Event(), [], []

    def load():
        asked.append(1)
        if len(asked) > 1:
            hang.wait(30)
        return [Key(SECRET, kid="known")]

    app = flask.Flask("tests")
    ring = KeyRing(load=load, loaded_sign=True, loaded_secrets=True, refresh=3600, clock=clock)
    jwt = flask_sync.JWTManager(app, keys=ring, clock=clock)

    @app.get("/me")
    @flask_sync.jwt_required()
    def me():
        return {}

    def ask(token):
        return app.test_client().get("/me", headers={"Authorization": f"Bearer {token}"}).status_code

    class Counted(threading.Event):
        def wait(self, timeout=None):
            if timeout is None:  # a thread that starts
                return super().wait()
            waits.append(timeout)
            return super().wait(0.05)

    good = jwt.create_access_token("ada")
    clock.now += 10
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("async_jwt.keys.ring.threading.Event", Counted)
        statuses = [ask(forged(f"unknown {number}")) for number in range(32)]
        assert statuses == [401] * 32
        assert len(waits) == 4
        assert max(waits) <= 0.5
        assert ask(good) == 200
        assert len(waits) == 4, "a known key waits for nothing"
    hang.set()
    assert len(asked) == 2


def test_what_leads_to_too_many_others_need_be_no_coroutine(make):
    app, jwt = make()

    class Again:
        def __await__(self):
            yield from asyncio.sleep(0).__await__()
            return Again()

    jwt.user_lookup_loader(lambda *_: Again())

    @app.get("/me")
    @flask_sync.jwt_required()
    def me():
        return {}

    bearer = {"Authorization": f"Bearer {jwt.create_access_token('ada')}"}
    answer = app.test_client().get("/me", headers=bearer)
    assert (answer.status_code, answer.json["code"]) == (500, HookError.error_code)
