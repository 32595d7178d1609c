"""What applications' own tests use: a signed-in client, a clock, an outage, the audit."""

from __future__ import annotations

import asyncio
import datetime as dt
import inspect
import time

import pytest
from werkzeug.test import Client

from async_jwt import MemoryStore
from async_jwt.testing import FrozenClock, assert_protected, frozen_clock, jwt_client, outage
from tests.harness.applications import on_a_servers_loop, on_each_loop

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def tests_may_block(nothing_blocks):
    """Flask's client reads files when it is made."""
    nothing_blocks.deactivate()


async def ask(client, path="/me", *, method="get", **options):
    """Status and JSON, whichever framework the client is of."""
    send = getattr(client, method)
    if inspect.iscoroutinefunction(send):
        response = await send(path, **options)
        return response.status_code, await response.get_json()
    response = await asyncio.to_thread(send, path, **options)
    return response.status_code, response.get_json()


@on_each_loop
async def test_a_view_is_tested_in_one_line(harness):
    h = harness()
    status, found = await ask(jwt_client(h.app, "alice"))
    assert (status, found["identity"], found["location"]) == (200, "alice", "headers")
    assert found["claims"]["sid"]


@on_each_loop
async def test_whom_it_is_is_the_applications_business(harness):
    h = harness()

    @h.jwt.user_identity_loader
    async def identity_of(user):
        return str(user["id"])

    @h.jwt.additional_claims_loader
    async def claims_of(user):
        return {"name": user["name"], "level": 1}

    @h.jwt.user_lookup_loader
    async def user_of(header, claims):
        return {"id": int(claims["sub"])}

    client = jwt_client(h.app, {"id": 7, "name": "alice"}, claims={"level": 2})
    _, found = await ask(client)
    assert found["user"] == {"id": 7}
    assert (found["claims"]["name"], found["claims"]["level"]) == ("alice", 2)


@on_each_loop
@pytest.mark.parametrize(
    ("options", "path", "expected"),
    [
        ({}, "/fresh", 401),
        ({"fresh": True}, "/fresh", 200),
        ({"fresh": dt.timedelta(minutes=5)}, "/fresh", 200),
        ({"type": "refresh"}, "/me", 401),
        ({"type": "refresh"}, "/refresh", 200),
        ({"type": "reset"}, "/reset", 200),
        ({"type": "reset", "expired": True}, "/reset", 401),
        ({"expired": True}, "/me", 401),
        ({"type": "refresh", "expired": True}, "/refresh", 401),
        ({"revoked": True}, "/me", 401),
        ({"revoked": True}, "/unchecked", 200),
        ({"type": "refresh", "revoked": True}, "/refresh", 401),
        ({"expires": 60}, "/me", 200),
    ],
)
async def test_variants(harness, options, path, expected):
    status, found = await ask(jwt_client(harness().app, "alice", **options), path)
    assert status == expected
    if options.get("expired"):
        assert found["code"] == "token_expired"
    if options.get("revoked") and status == 401:
        assert found["code"] == "token_revoked"


@on_each_loop
@pytest.mark.parametrize("kind", ["access", "refresh", "reset"])
@pytest.mark.parametrize("expired", [False, True])
async def test_scopes_and_roles(harness, kind, expired):
    client = jwt_client(harness().app, "alice", type=kind, scopes=["a", "b"], roles="x", expired=expired)
    paths = {"access": "/me", "refresh": "/refresh", "reset": "/reset"}
    status, found = await ask(client, paths[kind])
    if expired:
        assert found["code"] == "token_expired"
    else:
        assert (status, found["claims"]["scope"], found["claims"]["roles"]) == (200, "a b", ["x"])


@on_each_loop
async def test_how_long_it_lives(harness, clock):
    h = harness(clock=clock)
    _, found = await ask(jwt_client(h.app, "alice", expires=dt.timedelta(minutes=1)))
    assert found["claims"]["exp"] - found["claims"]["iat"] == 60
    _, found = await ask(jwt_client(h.app, "alice", type="refresh", expires=60), "/refresh")
    assert found["claims"]["exp"] - found["claims"]["iat"] == 60


@on_each_loop
async def test_a_store_without_sessions(harness):
    class Plain:
        awaits_nothing = True

        def __init__(self):
            memory = MemoryStore()
            self.stamp, self.check, self.close = memory.stamp, memory.check, memory.close

    h = harness(store=Plain())
    for options, path in (({}, "/me"), ({"type": "refresh"}, "/refresh")):
        assert (await ask(jwt_client(h.app, "alice", **options), path))[0] == 200


@on_each_loop
async def test_cookies_and_their_csrf_value(harness):
    h = harness(
        {
            "JWT_TOKEN_LOCATION": ["cookies"],
            "JWT_COOKIE_PREFIX": "__Secure-",
            "JWT_ACCESS_CSRF_HEADER_NAME": "X-Mine",
        }
    )
    client = jwt_client(h.app, "alice", location="cookies")
    for method in ("get", "post", "post"):
        status, found = await ask(client, method=method)
        assert (status, found["location"]) == (200, "cookies")
    status, found = await ask(client, method="post", headers={"X-Mine": "another"})
    assert (status, found["code"]) == (401, "csrf_failed")
    client = jwt_client(h.app, "alice", type="refresh", location="cookies")
    assert (await ask(client, "/refresh", method="post"))[0] == 200


@on_each_loop
async def test_without_csrf_protection_there_is_no_value(harness):
    h = harness({"JWT_TOKEN_LOCATION": ["cookies"], "JWT_COOKIE_CSRF_PROTECT": False})
    assert (await ask(jwt_client(h.app, "alice", location="cookies"), method="post"))[0] == 200


@on_each_loop
async def test_a_requests_own_header_goes_first(harness):
    h = harness()
    token = await h.mint("bob")
    client = jwt_client(h.app, "alice")
    _, found = await ask(client, headers={"Authorization": f"Bearer {token}"})
    assert found["identity"] == "bob"
    assert (await ask(client))[1]["identity"] == "alice"


@on_each_loop
async def test_other_headers_of_the_application(harness):
    h = harness({"JWT_HEADER_NAME": "X-Token", "JWT_HEADER_TYPE": ""})
    assert (await ask(jwt_client(h.app, "alice")))[0] == 200


@on_each_loop
async def test_other_clients_stay_anonymous(harness):
    h = harness()
    assert (await ask(jwt_client(h.app, "alice")))[0] == 200
    assert (await ask(h.app.test_client()))[0] == 401


@on_each_loop
@pytest.mark.parametrize("location", ["json", "query_string", "", None])
async def test_places_that_a_client_does_not_send_to(harness, location):
    with pytest.raises(ValueError, match="a test client sends tokens in"):
        jwt_client(harness().app, "alice", location=location)


@on_each_loop
async def test_an_application_without_a_manager(harness):
    app = harness.make_app(None)
    for use in (
        lambda: jwt_client(app, "alice"),
        lambda: assert_protected(app),
        lambda: outage(app).__enter__(),
    ):
        with pytest.raises(RuntimeError, match="The application 'tests' has no JWTManager: call JWTManager"):
            use()


@on_each_loop
async def test_the_clock_stands_still(harness):
    h = harness()
    with frozen_clock(h.app, 1_800_000_000) as clock:
        client = jwt_client(h.app, "alice", fresh=dt.timedelta(minutes=5))
        assert (await ask(client, "/fresh"))[0] == 200  # which is when the token is made
        clock.tick(300)
        assert (await ask(client, "/fresh"))[0] == 200
        clock.tick(dt.timedelta(seconds=1))
        assert (await ask(client, "/fresh"))[0] == 401
        clock.tick(598)
        assert (await ask(client))[0] == 200
        clock.tick(1)
        assert (await ask(client))[1]["code"] == "token_expired"
    assert (await ask(client))[1]["code"] == "token_immature"  # it is the present again


@on_each_loop
async def test_the_memory_store_goes_by_it_too(harness):
    h = harness()
    with frozen_clock(h.app) as clock:
        client = jwt_client(h.app, "alice", expires=False, type="refresh")
        assert (await ask(client, "/refresh"))[0] == 200
        assert h.jwt.store.clock is clock
        h.app.config["JWT_ACCESS_TOKEN_EXPIRES"] = 60  # what changes meanwhile changes no clock
        assert (await ask(jwt_client(h.app, "alice")))[1]["claims"]["exp"] == clock.now + 60
    assert h.jwt.store.clock is not clock


@on_each_loop
async def test_a_clock_by_itself(harness):
    clock = FrozenClock(dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    h = harness(clock=clock)
    _, found = await ask(jwt_client(h.app, "alice"))
    assert found["claims"]["iat"] == clock() == 1767225600


@on_each_loop
async def test_an_outage(harness):
    h = harness()
    client = jwt_client(h.app, "alice")
    assert (await ask(client))[0] == 200
    with outage(h.app):
        assert (await ask(client))[1]["code"] == "store_unavailable"
        assert (await ask(jwt_client(h.app, "bob")))[0] == 503  # who is signed in all the same
        assert (await ask(client, "/unchecked"))[0] == 200
        assert (await ask(h.app.test_client()))[0] == 401
    assert (await ask(client))[0] == 200


@on_each_loop
async def test_nothing_is_forgotten_by_it(harness):
    h = harness()
    client = jwt_client(h.app, "alice", revoked=True)
    assert (await ask(client))[0] == 401
    with outage(h.app):
        assert (await ask(client))[0] == 503
    assert (await ask(client))[0] == 401


def view(h):
    async def shown():
        return {}

    return h.colour(shown)


@on_each_loop
async def test_nobody_forgot_a_view(harness):
    h = harness({"JWT_DEFAULT_DENY": True})
    h.view("/account", h.api.jwt_required()(view(h)))
    assert_protected(h.app)
    h.app.config["JWT_DEFAULT_DENY"] = False
    with pytest.raises(AssertionError, match=r"^Unprotected and not marked @public: dispatch$"):
        assert_protected(h.app)


@on_each_loop
async def test_what_is_public_is_listed(harness):
    h = harness({"JWT_DEFAULT_DENY": True})
    h.view("/login", h.api.public(view(h)))
    h.view("/feed", h.api.jwt_required(optional=True)(view(h)))
    assert_protected(h.app)
    assert_protected(h.app, public=["/login", "/feed"])
    h.app.config["JWT_DEFAULT_DENY"] = False
    assert_protected(h.app, public=["/login", "/feed", "dispatch"])  # the list is a decision as well
    h.app.config["JWT_DEFAULT_DENY"] = True
    with pytest.raises(AssertionError, match=r"^Needs no token, but is missing from public: /feed$"):
        assert_protected(h.app, public=["/login"])
    with pytest.raises(AssertionError, match=r"^Listed in public, but protected or missing: /gone$"):
        assert_protected(h.app, public={"/login", "/feed", "/gone"})


@on_a_servers_loop
async def test_websockets_are_signed_in_too(harness):
    h = harness({"JWT_TOKEN_LOCATION": ["headers", "cookies"]})

    @h.app.websocket("/ws")
    @h.api.jwt_required()
    async def ws():
        await h.framework.websocket.send(h.api.get_jwt_identity())

    async with jwt_client(h.app, "alice").websocket("/ws") as socket:
        assert await socket.receive() == "alice"
    origin = {"Origin": "http://localhost"}
    async with jwt_client(h.app, "bob", location="cookies").websocket("/ws", headers=origin) as socket:
        assert await socket.receive() == "bob"


def keeping_cookies(h):
    """An application that replaces the cookies, and takes them away."""

    async def again():
        response = h.framework.jsonify(ok=True)
        h.api.set_token_cookies(response, pair)
        return response

    async def out():
        response = h.framework.jsonify(ok=True)
        h.api.unset_jwt_cookies(response)
        return response

    async def sign_in():
        nonlocal pair
        pair = await h.jwt.create_token_pair("alice")

    pair = None
    h.view("/again", h.api.jwt_required()(h.colour(again)), methods=["POST"])
    h.view("/out", h.colour(out), methods=["POST"])
    return sign_in


@pytest.mark.parametrize("config", [{}, {"JWT_ACCESS_COOKIE_PATH": "/me", "JWT_COOKIE_DOMAIN": "localhost"}])
@on_each_loop
async def test_cookies_that_the_application_replaces_or_takes_away(harness, config):
    if "JWT_COOKIE_DOMAIN" in config and not hasattr(Client, "get_cookie"):
        pytest.skip("Werkzeug before 2.3 lets nobody name localhost as a cookie's domain")
    h = harness({"JWT_TOKEN_LOCATION": ["cookies"], "JWT_COOKIE_SECURE": False, **config})
    await keeping_cookies(h)()
    client = jwt_client(h.app, "alice", location="cookies")
    assert (await ask(client, method="post"))[0] == 200
    if not config:
        assert (await ask(client, "/again", method="post"))[0] == 200
        assert (await ask(client, method="post"))[0] == 200  # with the CSRF value that came along
    assert (await ask(client, "/out", method="post"))[0] == 200
    assert (await ask(client))[0] == 401


@on_each_loop
async def test_a_csrf_value_that_is_in_no_cookie(harness):
    h = harness({"JWT_TOKEN_LOCATION": ["cookies"], "JWT_CSRF_IN_COOKIES": False})
    assert (await ask(jwt_client(h.app, "alice", location="cookies"), method="post"))[0] == 200


@pytest.mark.parametrize("config", [{}, {"JWT_COOKIE_DOMAIN": "example.test"}])
@on_each_loop
async def test_an_application_with_a_name_of_its_own(harness, config):
    h = harness({"JWT_TOKEN_LOCATION": ["cookies"], "SERVER_NAME": "example.test:5000", **config})
    client = jwt_client(h.app, "alice", location="cookies")
    options = {"base_url": "http://example.test:5000"} if hasattr(client, "environ_base") else {}
    assert (await ask(client, method="post", **options))[0] == 200


@on_each_loop
async def test_one_client_signs_in_once(harness):
    h = harness({"JWT_MAX_SESSIONS": 1})

    @h.jwt.additional_claims_loader
    def slowly(identity):
        time.sleep(0.02)
        return {}

    client = jwt_client(h.app, "alice")
    found = await asyncio.gather(*(ask(client) for _ in range(3)))
    assert [status for status, _ in found] == [200] * 3
    assert len({claims["claims"]["jti"] for _, claims in found}) == 1


@on_each_loop
async def test_a_client_that_was_made_before_time_stood_still(harness):
    h = harness()
    client = jwt_client(h.app, "alice")
    with frozen_clock(h.app, 1_900_000_000):
        assert (await ask(client))[1]["claims"]["iat"] == 1_900_000_000


@on_each_loop
async def test_clocks_and_outages_end_with_what_was_before(harness, clock):
    store = MemoryStore(clock=clock)
    h = harness(store=store)
    with frozen_clock(h.app), frozen_clock(h.app, 5) as inner:
        assert store.clock is inner
    assert store.clock is clock
    client = jwt_client(h.app, "alice")
    with outage(h.app):
        with outage(h.app):
            pass
        assert (await ask(client))[0] == 503
    assert (await ask(client))[0] == 200


@on_each_loop
async def test_a_client_may_be_made_within_an_outage_of_redis(harness, redis_url):
    """As the guide shows it: whoever is signed in stays so, and is told to come again."""
    h = harness({"JWT_STORE_URI": f"{redis_url}?deadline=5"})
    client = jwt_client(h.app, "alice")
    with outage(h.app):
        made_within = jwt_client(h.app, "alice")
        for each in (client, made_within):
            assert (await ask(each))[0] == 503
        assert await h.jwt.ping() is False
    for each in (client, made_within):
        assert (await ask(each))[0] == 200
    assert await h.jwt.ping() is True
    h.end()


@on_each_loop
async def test_a_ping_asks_whatever_is_let_pass(harness):
    h = harness({"JWT_STORE_URI": "redis://127.0.0.1:1?on_outage=allow"})
    assert await h.jwt.ping() is False
    assert await harness().jwt.ping() is True
    h.end()
