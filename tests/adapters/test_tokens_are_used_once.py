"""Tokens that are used once: of all callers one gets True, and looking uses nothing up."""

from __future__ import annotations

import asyncio
import importlib

import pytest

from async_jwt import MemoryStore
from async_jwt.errors import (
    ConfigurationError,
    ExpiredTokenError,
    RevokedTokenError,
    StoreUnavailableError,
    TokenUsedError,
    WrongTokenError,
)
from async_jwt.signals import token_revoked
from async_jwt.stores import TokenRef
from async_jwt.testing import outage
from tests.harness import SECRET
from tests.harness.applications import (
    however_it_runs,
    on_a_servers_loop,
    on_both_kinds,
    on_each_loop,
    quart,
)

pytestmark = pytest.mark.asyncio

UNSAFE = ["POST", "PUT", "PATCH", "DELETE"]


@pytest.fixture
def app(make_app):
    """An application with a view that uses reset tokens once."""
    app = make_app()
    app.ran = []
    once(app, "/reset", methods=["GET", "HEAD", "OPTIONS", *UNSAFE])
    return app


def once(app, path, *, methods, **demands):
    @app.api.jwt_required(**{"type": "reset", "once": True, **demands})
    async def view():
        app.ran.append(path)
        return {"who": app.api.get_jwt_identity()}

    app.view(path, view, methods=methods)


async def reset(app, identity="alice", **options):
    return await app.jwt.create_token(identity, type="reset", **options)


class Plain:
    """A store that does what each must, and no more."""

    def __init__(self):
        store = MemoryStore()
        for name in ("stamp", "check", "revoke_token", "revoke_session", "revoke_user", "revoke_everything"):
            setattr(self, name, getattr(store, name))
        self.start, self.close = store.start, store.close


# -- consume_token --------------------------------------------------------------------------------


@however_it_runs
async def test_the_first_caller_gets_true_and_all_others_false(app):
    token, other = await reset(app), await reset(app)
    results = await asyncio.gather(*(app.jwt.consume_token(token) for _ in range(10)))
    assert sorted(results) == [False] * 9 + [True]
    answer = await app.call("/reset", token=token)
    assert (answer.status, answer.code, answer.json["msg"]) == (
        401,
        "token_used",
        "Token has already been used",
    )
    assert (await app.call("/reset", token=other)).status == 200
    claims = await app.jwt.decode_token(other)
    assert [await app.jwt.consume_token(claims) for _ in range(2)] == [True, False]


@however_it_runs
async def test_using_one_may_end_the_others_of_its_purpose(app):
    first, second = await reset(app), await reset(app)
    invite = await app.jwt.create_token("alice", type="invite")
    bob, pair = await reset(app, "bob"), await app.jwt.create_token_pair("alice")
    assert await app.jwt.consume_token(first, others=True) is True
    assert (await app.call("/reset", token=second)).code == "token_used"
    assert await app.jwt.consume_token(second) is False
    assert (await app.call("/reset", token=bob)).status == 200
    assert (await app.call(token=pair.access_token)).status == 200
    assert (await app.call("/refresh", token=pair.refresh_token)).status == 200
    assert (await app.call("/reset", token=await reset(app))).status == 200
    assert await app.jwt.consume_token(invite) is True


@on_each_loop
async def test_a_revoked_token_is_not_used(app):
    for revoke in (app.jwt.revoke_token, lambda _: app.jwt.revoke_user("alice")):
        token = await reset(app)
        await revoke(token)
        assert await app.jwt.consume_token(token) is False
        assert (await app.call("/reset", token=token)).code == "token_revoked"


@on_both_kinds
async def test_what_cannot_be_used_once_is_refused(harness, clock):
    app = harness({"JWT_REFRESH_TOKEN_EXPIRES": False}, clock=clock)
    for claims, text in (({"jti": None}, "without jti"), ({"exp": None}, "without exp")):
        held = {**await app.jwt.decode_token(await reset(app)), **claims}
        held = {name: value for name, value in held.items() if value is not None or name == "jti"}
        with pytest.raises(ValueError, match=text):
            await app.jwt.consume_token(held)
    with pytest.raises(ValueError, match="without exp"):
        await app.jwt.consume_token(await reset(app, expires_delta=False))
    with pytest.raises(ValueError, match="rotate_refresh_token"):
        await app.jwt.consume_token(await app.mint_refresh(expires_delta=60))
    with pytest.raises(ValueError, match="purpose tokens"):
        await app.jwt.consume_token(await app.mint(), others=True)
    assert await app.jwt.consume_token(await app.mint()) is True
    token = await reset(app, expires_delta=60)
    claims = await app.jwt.decode_token(token)
    clock.now += 61
    for expired in (token, claims):
        with pytest.raises(ExpiredTokenError):
            await app.jwt.consume_token(expired)
    with pytest.raises(RuntimeError, match="authenticated request"):
        await app.jwt.consume_token()


@on_each_loop
async def test_a_view_uses_up_its_own_token_and_goes_on(app):
    @app.api.jwt_required(type="reset")
    async def change():
        first = await app.api.consume_token(others=True)
        if not first:
            return {"used": True}, 409
        assert await app.api.consume_token() is False
        await app.api.revoke_user()
        pair = await app.api.create_token_pair("alice")
        return {"token": pair.access_token}

    app.view("/change", change, methods=["POST"])
    old, other, token = await app.mint(), await reset(app), await reset(app)
    answer = await app.call("/change", method="POST", token=token)
    assert answer.status == 200
    assert (await app.call(token=answer.json["token"])).status == 200
    assert (await app.call(token=old)).code == "token_revoked"
    assert (await app.call("/reset", token=token)).code == "token_used"
    assert (await app.call("/reset", token=other)).status == 401


@on_each_loop
@pytest.mark.parametrize("way", ["once", "by hand", "by hand, with the others"])
async def test_a_request_that_used_its_token_does_not_outlive_a_sign_out(harness, way):
    """Its own mark ends nothing of it; its user's sign-out does."""
    store = MemoryStore()
    app = harness(store=store)

    @app.api.jwt_required(type="reset", once=way == "once")
    async def change():
        if way != "once":
            assert await app.api.consume_token(others="others" in way)
        made = [await app.api.create_access_token("alice")]
        await store.revoke_user("alice")
        made.append(await app.api.create_access_token("alice"))
        return {"made": made}

    app.view("/change", change, methods=["POST"])
    answer = await app.call("/change", method="POST", token=await reset(app))
    assert (answer.status, answer.code) == (401, "token_revoked")


@on_each_loop
async def test_a_banned_request_uses_nothing_up(harness):
    store = MemoryStore()
    app = harness(store=store)
    token = await reset(app)

    @app.api.jwt_required()
    async def accept():
        await store.revoke_user("mallory")
        return {"used": await app.api.consume_token(token)}

    app.view("/accept", accept, methods=["POST"])
    answer = await app.call("/accept", method="POST", token=await app.mint("mallory"))
    assert (answer.status, answer.code) == (401, "token_revoked")
    assert await app.jwt.consume_token(token) is True


@on_each_loop
async def test_a_request_uses_up_another_token_and_stays_itself(app):
    @app.api.jwt_required()
    async def accept(token):
        used = await app.api.consume_token(token)
        return {"used": used, "token": await app.api.create_access_token("alice")}

    app.view("/accept/<token>", accept, methods=["POST"])
    token = await reset(app)
    mine = await app.mint()
    answers = [await app.call(f"/accept/{token}", method="POST", token=mine) for _ in range(2)]
    assert [answer.json["used"] for answer in answers] == [True, False]


@on_both_kinds
async def test_what_is_used_is_told(make_app):
    app, told = make_app(), []
    once(app, "/reset", methods=["POST"])
    app.ran = []
    token_revoked.connect(lambda _, **sent: told.append(sent), app.app, weak=False)
    one, two = await reset(app), await reset(app)
    assert await app.jwt.consume_token(one, others=True)
    assert not await app.jwt.consume_token(one)
    assert [(sent["scope"], sent["identity"]) for sent in told] == [("token", "alice"), ("purpose", "alice")]
    assert told[0]["jti"] == (await app.jwt.decode_token(one))["jti"]
    three = await reset(app)
    assert (await app.call("/reset", method="POST", token=three)).status == 200
    assert (await app.call("/reset", method="POST", token=two)).status == 401
    assert [sent["scope"] for sent in told[2:]] == ["token"]


# -- once=True ------------------------------------------------------------------------------------


@however_it_runs
async def test_looking_uses_nothing_up_and_changing_does(app):
    for method in UNSAFE:
        token = await reset(app)
        for look in ("GET", "HEAD", "OPTIONS", "GET"):
            assert (await app.call("/reset", method=look, token=token)).status == 200
        assert (await app.call("/reset", method=method, token=token)).status == 200
        for again in ("GET", method):
            answer = await app.call("/reset", method=again, token=token)
            assert (answer.status, answer.code) == (401, "token_used")
        assert (await app.call("/reset", method="HEAD", token=token)).status == 401


@on_each_loop
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_get_is_said_aloud(app, method):
    once(app, "/link", methods=["GET"], once="get")
    token = await reset(app)
    assert (await app.call("/link", method=method, token=token)).status == 200
    assert (await app.call("/link", token=token)).code == "token_used"


@however_it_runs
async def test_one_of_many_requests_reaches_the_view(app):
    token = await reset(app)
    calls = (app.call("/reset", method="POST", token=token) for _ in range(12))
    answers = await asyncio.gather(*calls)
    assert sorted(answer.status for answer in answers) == [200] + [401] * 11
    assert {answer.code for answer in answers if answer.status == 401} == {"token_used"}
    assert app.ran == ["/reset"]


@on_each_loop
async def test_a_token_is_used_up_after_everything_else_has_passed(make_app):
    app, said = make_app(), {"verification": False, "user": None}
    app.ran = []
    once(app, "/reset", methods=["POST"])

    @app.jwt.token_verification_loader
    def verify(header, claims):
        return said["verification"]

    @app.jwt.user_lookup_loader
    def user(header, claims):
        return said["user"]

    token = await reset(app)
    assert (await app.call("/reset", method="POST", token=token)).code == "claims_rejected"
    said["verification"] = True
    assert (await app.call("/reset", method="POST", token=token)).code == "user_not_found"
    said["user"] = {"name": "alice"}
    assert (await app.call("/reset", method="POST", token=token)).status == 200
    assert (await app.call("/reset", method="POST", token=token)).code == "token_used"


@on_each_loop
async def test_several_guards_of_one_request_use_it_up_once(app):
    """A before_request function and the view, and a check within it."""

    @app.api.jwt_required(type="reset", once=True)
    async def guard():
        return None

    app.app.before_request(guard)

    @app.api.jwt_required(type="reset", once=True)
    async def view():
        await app.api.verify_jwt_in_request(type="reset")
        await app.api.verify_jwt_in_request(type="reset", once=True)
        return {"token": await app.api.create_access_token("alice")}

    app.view("/twice", view, methods=["POST"])
    token = await reset(app)
    assert (await app.call("/twice", method="POST", token=token)).status == 200
    assert (await app.call("/twice", method="POST", token=token)).code == "token_used"


@on_each_loop
async def test_another_token_of_the_same_request_is_checked_as_always(make_app):
    app = make_app({"JWT_TOKEN_LOCATION": ["headers", "query_string"]})

    @app.api.jwt_required(type="reset", once=True, locations="query_string")
    async def view():
        await app.api.verify_jwt_in_request(locations="headers")
        return {"who": app.api.get_jwt_identity()}

    app.view("/both", view, methods=["POST"])
    mine = await app.mint("bob")
    for status in (200, 401):
        answer = await app.call(f"/both?jwt={await reset(app)}", method="POST", token=mine)
        assert answer.status == status
        await app.jwt.revoke_token(mine)


@on_each_loop
async def test_a_look_does_not_pass_an_outage_unchecked(harness):
    """An access token that a store lets through in an outage: it may have been used."""

    class Open(MemoryStore):
        async def check(self, ref):
            return ref.may_fail_open

    app = harness(store=Open())
    app.ran = []
    once(app, "/pay", methods=["GET", "POST"], type=None)
    assert (await app.call("/pay", token=await app.mint())).code == "token_revoked"
    assert app.ran == []


@on_each_loop
async def test_what_a_request_used_up_by_hand_passes_its_later_checks(app):
    @app.api.jwt_required(type="reset")
    async def view():
        assert await app.api.consume_token()
        await app.api.verify_jwt_in_request(type="reset")
        await app.api.verify_jwt_in_request(type="reset", once=True)
        return {}

    app.view("/used", view, methods=["POST"])
    token = await reset(app)
    assert (await app.call("/used", method="POST", token=token)).status == 200
    assert (await app.call("/used", method="POST", token=token)).code == "token_used"


@on_each_loop
async def test_a_view_whose_guard_used_the_token_ends_the_others(app):
    @app.api.jwt_required(type="reset", once=True)
    async def view():
        return {"again": await app.api.consume_token(), "others": await app.api.consume_token(others=True)}

    app.view("/used", view, methods=["POST"])
    mine, other, invite = (
        await reset(app),
        await reset(app),
        await app.jwt.create_token("alice", type="invite"),
    )
    answer = await app.call("/used", method="POST", token=mine)
    assert answer.json == {"again": False, "others": True}
    assert (await app.call("/reset", token=other)).code == "token_used"
    assert (await app.jwt.authenticate_token(invite, type="invite")).identity == "alice"
    new = await reset(app)
    assert (await app.call("/reset", token=new)).status == 200


@on_each_loop
async def test_a_token_of_another_type_is_not_used(app):
    access, token = await app.mint(), await reset(app)
    for given in (access, await app.jwt.decode_token(access)):
        with pytest.raises(WrongTokenError):
            await app.jwt.consume_token(given, type="reset")
    assert (await app.call(token=access)).status == 200
    assert await app.jwt.consume_token(token, type="reset")


@on_each_loop
async def test_a_guard_that_looks_spares_no_other_one_the_store(make_app):
    """A token may have been used between two checks of one request."""
    store = MemoryStore()
    app = make_app(store=store)

    @app.api.jwt_required(type="reset")
    async def view():
        claims = app.api.get_jwt()
        other = TokenRef("alice", claims["jti"], None, claims["gen"], 0.0, claims["exp"], type="reset")
        assert await store.consume_token(other)
        await app.api.verify_jwt_in_request(type="reset", once=True)
        return {}

    app.view("/late", view)
    assert (await app.call("/late", token=await reset(app))).code == "token_used"


@on_each_loop
async def test_access_tokens_and_anonymous_requests(app):
    once(app, "/pay", methods=["POST"], type=None, optional=True)
    token = await app.mint()
    assert (await app.call("/pay", method="POST")).json == {"who": None}
    assert (await app.call("/pay", method="POST", token=token)).json == {"who": "alice"}
    assert (await app.call("/pay", method="POST", token=token)).code == "token_used"
    assert (await app.call(token=token)).code == "token_used"


@on_both_kinds
async def test_a_token_that_nothing_could_remember_is_refused(app):
    app.app.config["JWT_REQUIRE_TYPE"] = False
    import jwt as pyjwt

    kept = {"sub": "alice", "type": "reset"}
    for lacks, claims in (("exp", {"jti": "one"}), ("jti", {"exp": 4_000_000_000})):
        token = pyjwt.encode({**kept, **claims}, SECRET, algorithm="HS256")
        for method in ("GET", "POST"):
            answer = await app.call("/reset", method=method, token=token)
            assert (answer.status, answer.code) == (401, "claim_missing"), lacks
    assert app.ran == []


@on_each_loop
async def test_an_outage_is_a_503_and_uses_nothing_up(app):
    token = await reset(app)
    with outage(app.app):
        for method in ("GET", "POST"):
            answer = await app.call("/reset", method=method, token=token)
            assert (answer.status, answer.code) == (503, "store_unavailable")
        with pytest.raises(StoreUnavailableError):
            await app.jwt.consume_token(token)
    assert (await app.call("/reset", method="POST", token=token)).status == 200


@on_both_kinds
async def test_dead_cookies_are_deleted_and_loaders_answer(make_app):
    app = make_app({"JWT_TOKEN_LOCATION": ["cookies"], "JWT_COOKIE_CSRF_PROTECT": False})
    app.ran = []
    once(app, "/reset", methods=["POST"])
    cookies = {"access_token_cookie": await reset(app)}
    assert (await app.call("/reset", method="POST", cookies=cookies)).status == 200
    answer = await app.call("/reset", method="POST", cookies=cookies)
    assert "access_token_cookie" in answer.cookies
    assert "refresh_token_cookie" not in answer.cookies

    @app.jwt.revoked_token_loader
    def gone(header, claims, error):
        assert isinstance(error, TokenUsedError)
        return {"used": claims["type"]}, 410

    assert (await app.call("/reset", method="POST", cookies=cookies)).json == {"used": "reset"}


@on_both_kinds
@pytest.mark.parametrize(
    ("reason", "kind"),
    [("used", TokenUsedError), ("revoked", RevokedTokenError), ("?", RevokedTokenError), (None, None)],
)
async def test_a_store_of_ones_own_says_why_or_does_not(harness, reason, kind):
    class Own(MemoryStore):
        async def refusal_of(self, ref):
            if reason is None:
                raise StoreUnavailableError("It does not say")
            return reason

    app = harness(store=Own())
    app.ran = []
    once(app, "/reset", methods=["POST"])
    token = await reset(app)
    await app.jwt.consume_token(token)
    answer = await app.call("/reset", method="POST", token=token)
    assert (answer.status, answer.code) == (401, (kind or RevokedTokenError).error_code)


@on_both_kinds
async def test_a_store_that_cannot_say_why_still_uses_tokens_once(harness):
    class Terse(Plain):
        def __init__(self):
            super().__init__()
            self.used = set()

        async def consume_token(self, ref, *, others=False):
            is_first = ref.jti not in self.used
            self.used.add(ref.jti)
            return is_first

    app = harness(store=Terse())
    app.ran = []
    once(app, "/reset", methods=["POST"])
    token = await reset(app)
    assert (await app.call("/reset", method="POST", token=token)).status == 200
    assert (await app.call("/reset", method="POST", token=token)).code == "token_used"
    await app.jwt.revoke_token(token)
    assert (await app.call("/reset", method="POST", token=token)).code == "token_revoked"


@on_each_loop
async def test_what_was_revoked_just_before_it_was_used_says_so(harness):
    class Late(MemoryStore):
        async def consume_token(self, ref, *, others=False):
            await self.revoke_user(ref.identity)
            return await super().consume_token(ref, others=others)

    app = harness(store=Late())
    app.ran = []
    once(app, "/reset", methods=["POST"])
    answer = await app.call("/reset", method="POST", token=await reset(app))
    assert (answer.status, answer.code) == (401, "token_revoked")


# -- what cannot be -------------------------------------------------------------------------------


@on_both_kinds
@pytest.mark.parametrize(
    ("demands", "text"),
    [
        ({"once": "post"}, 'True, False or "get"'),
        ({"once": 1}, 'True, False or "get"'),
        ({"once": None}, 'True, False or "get"'),
        ({"once": True, "refresh": True}, "refresh tokens"),
        ({"once": True, "type": ["refresh", "reset"]}, "refresh tokens"),
        ({"once": True, "verify_type": False}, "refresh tokens"),
        ({"once": True, "skip_revocation_check": True}, "skip_revocation_check"),
    ],
)
async def test_wrong_demands_are_refused_at_decoration(harness, demands, text):
    with pytest.raises(ConfigurationError, match=text):
        harness().api.jwt_required(**demands)


def method_view(app, **handlers):
    base = importlib.import_module(f"{app.framework.__name__}.views").MethodView
    return type("Item", (base,), handlers).as_view("item")


async def starts(app):
    """Whether the application serves: Quart says it as it starts, Flask at its first request."""
    app.app.config["PROPAGATE_EXCEPTIONS"] = True
    kinds = (ConfigurationError,)
    if quart is not None:
        kinds += (importlib.import_module("quart.testing.app").LifespanError,)
    try:
        async with app.serving():
            await app.call(token=await app.mint())
    except kinds as problem:
        return str(problem)
    return None


@on_each_loop
@pytest.mark.parametrize("methods", [["GET"], ["GET", "HEAD"], ["GET", "OPTIONS"], ["HEAD"]])
async def test_a_view_that_would_never_use_it_up_is_refused(harness, methods):
    app = harness()
    once(app, "/link", methods=methods)
    problem = await starts(app)
    assert "/link" in problem
    assert 'once="get"' in problem


@on_each_loop
async def test_views_that_use_it_up_somewhere_are_served(harness):
    app = harness()
    app.ran = []
    once(app, "/get", methods=["GET"], once="get")
    once(app, "/post", methods=["POST"])
    once(app, "/both", methods=["GET", "POST"])

    @app.api.jwt_required(type="reset", once=True)
    async def two_routes():
        return {}

    app.app.add_url_rule("/form", "form", two_routes, methods=["GET"])
    app.app.add_url_rule("/submit", "submit", two_routes, methods=["POST"])

    @app.api.jwt_required(type="reset", once=True)
    async def handler(self):
        return {}

    app.app.add_url_rule("/item", view_func=method_view(app, get=handler, post=handler))
    assert await starts(app) is None


@on_each_loop
async def test_a_class_that_only_looks_is_refused(harness):
    app = harness()

    @app.api.jwt_required(type="reset", once=True)
    async def get(self):
        return {}

    async def post(self):
        return {}

    app.app.add_url_rule("/item", view_func=method_view(app, get=get, post=app.colour(post)))
    assert "item" in await starts(app)


@on_each_loop
@pytest.mark.parametrize("where", ["view", "before_request", "by hand", "in a view"])
async def test_a_store_that_cannot_is_refused_by_name(harness, where):
    app = harness(store=Plain())
    app.ran = []
    if where == "view":
        once(app, "/reset", methods=["POST"])
    elif where == "before_request":

        @app.api.jwt_required(once=True)
        async def guard():
            return None

        app.app.before_request(guard)
    elif where == "by hand":
        assert await starts(app) is None
        with pytest.raises(ConfigurationError, match=r"Plain has no consume_token\(\)"):
            await app.jwt.consume_token(await reset(app))
        return
    else:
        app.app.config["PROPAGATE_EXCEPTIONS"] = True

        async def view():
            await app.api.verify_jwt_in_request(type="reset", once=True)
            return {}

        app.view("/reset", app.colour(view), methods=["POST"])
        with pytest.raises(ConfigurationError, match="consume_token"):
            await app.call("/reset", method="POST", token=await reset(app))
        return
    assert "Plain has no consume_token()" in await starts(app)


@on_each_loop
async def test_of_two_managers_the_last_ones_store_counts(harness):
    app = harness({"JWT_COMPAT": "flask-jwt-extended"}, store=Plain())
    app.ran = []
    once(app, "/reset", methods=["POST"])
    app.jwt = app.api.JWTManager(app.app, store=MemoryStore())
    assert await starts(app) is None
    token = await reset(app)
    assert (await app.call("/reset", method="POST", token=token)).status == 200
    assert (await app.call("/reset", method="POST", token=token)).status == 401


# -- WebSockets -----------------------------------------------------------------------------------


@on_a_servers_loop
async def test_a_ticket_opens_one_socket(make_app):
    from quart import websocket

    app = make_app({"JWT_TOKEN_LOCATION": ["query_string"]})

    @app.app.websocket("/chat")
    @app.api.jwt_required(type="ticket", once=True)
    async def chat():
        await websocket.accept()
        await app.api.verify_jwt_in_request(type="ticket")
        await websocket.send("hello")

    ticket = await app.jwt.create_token("alice", type="ticket")
    client = app.app.test_client()
    async with client.websocket(f"/chat?jwt={ticket}") as socket:
        assert await socket.receive() == "hello"
    with pytest.raises(Exception, match="401"):  # the client's own
        async with client.websocket(f"/chat?jwt={ticket}") as socket:
            await socket.receive()
    assert await app.jwt.consume_token(ticket) is False
    async with app.serving():
        pass
