"""WebSockets, which Quart alone has: the handshake, what a socket knows, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import functools
import logging

import pytest
import quart
from quart import Blueprint, Quart, Websocket, abort, copy_current_websocket_context, request, websocket

from async_jwt.adapters import quart as api
from async_jwt.adapters._route_audit import routes_of
from async_jwt.errors import JWTExtendedException, StoreUnavailableError
from async_jwt.signals import user_loaded
from async_jwt.stores import MemoryStore
from tests.harness import SECRET
from tests.harness.applications import QuartHarness
from tests.harness.sockets import Connection

pytestmark = pytest.mark.asyncio

EVERYWHERE = ["headers", "cookies", "query_string", "json", "websocket_protocol"]
OWN = {"Origin": "http://localhost"}


class Sockets(QuartHarness):
    """The harness with WebSockets at /ws/<demand>."""

    def __init__(self, config=None, **manager):
        super().__init__({"JWT_TOKEN_LOCATION": EVERYWHERE, **(config or {})}, **manager)
        self.seen = []

        async def view():
            while True:
                self.seen.append(await websocket.receive())
                found = api.current_auth()
                await websocket.send_json(
                    who=api.get_jwt_identity(),
                    claims=api.get_jwt(),
                    header=api.get_jwt_header(),
                    location=api.get_jwt_request_location(),
                    user=None if found is None else found.user,
                )

        for name, demands in {
            "me": {},
            "fresh": {"fresh": True},
            "optional": {"optional": True},
            "refresh": {"refresh": True},
            "reset": {"type": "reset"},
        }.items():
            self.app.add_websocket(f"/ws/{name}", f"ws_{name}", api.jwt_required(**demands)(view))

    def connect(self, path="/ws/me", **options):
        return Connection(self.app, path, **options)

    async def refused(self, path="/ws/me", **options):
        """The answer to a handshake that must be refused before it is accepted."""
        async with self.connect(path, **options) as socket:
            await socket.over()
        assert socket.accepted is None
        assert self.seen == []
        return socket


def places(token):
    return {
        "headers": {"headers": {"Authorization": f"Bearer {token}"}},
        "cookies": {"headers": {"Cookie": f"access_token_cookie={token}", **OWN}},
        "query_string": {"query": f"jwt={token}"},
        "websocket_protocol": {"subprotocols": ["bearer", token]},
    }


@pytest.mark.parametrize("place", ["headers", "cookies", "query_string", "websocket_protocol"])
async def test_a_token_in_each_place_opens_the_socket_and_views_know_as_much_as_over_http(place):
    h = Sockets()

    @h.jwt.user_lookup_loader
    async def load(_header, claims):
        return claims["sub"].upper()

    token = await h.mint()
    async with h.connect(**places(token)[place]) as socket:
        known = await socket.ask()
    assert (known["who"], known["user"], known["location"]) == ("alice", "ALICE", place)
    assert known["header"] == {"typ": "JWT", "alg": "HS256"}
    assert known["claims"]["type"] == "access"


async def test_sockets_are_protected_by_default_too():
    h = Sockets({"JWT_DEFAULT_DENY": True})

    async def echo():
        await websocket.send_json(await websocket.receive())

    async def another():
        await websocket.send_json(await websocket.receive())

    h.app.add_websocket("/ws/new", "new", echo)
    h.app.add_websocket("/ws/public", "public", api.public(another))
    assert (await h.refused("/ws/new")).status == 401
    assert (await h.refused("/ws/nowhere")).status == 404
    refresh, access = (
        {"Authorization": f"Bearer {text}"} for text in (await h.mint_refresh(), await h.mint())
    )
    assert (await h.refused("/ws/new", headers=refresh)).status == 401
    async with h.connect("/ws/new", headers=access) as socket:
        assert await socket.ask("hi") == "hi"
    async with h.connect("/ws/public") as socket:
        assert await socket.ask("hi") == "hi"
    states = {route.endpoint: route for route in routes_of(h.app.extensions["async_jwt"]) if route.websocket}
    assert (states["new"].state, states["new"].by, states["new"].methods) == ("protected", "application", ())
    assert states["public"].state == "public"
    assert states["ws_refresh"].policies[0].refresh


async def test_a_socket_without_a_token_is_refused_with_a_challenge():
    h = Sockets()
    socket = await h.refused()
    assert socket.status == 401
    assert socket.headers["WWW-Authenticate"] == "Bearer"
    assert socket.json["code"] == "authorization_required"
    assert "Sec-WebSocket-Protocol: bearer, <JWT>" in socket.json["msg"]
    assert "json" not in socket.json["msg"]  # a handshake has no body to look into


async def test_http_requests_are_not_told_of_the_websocket_protocol():
    h = Sockets({"JWT_TOKEN_LOCATION": ["headers", "websocket_protocol"]})
    answer = await h.call(headers={"Sec-WebSocket-Protocol": f"bearer, {await h.mint()}"})
    assert (answer.status, answer.json["msg"]) == (401, "Missing Authorization Header")
    h.view("/only", api.jwt_required(locations="websocket_protocol")(lambda: "never"))
    assert "Sec-WebSocket-Protocol" in (await h.call("/only")).json["msg"]


async def test_refused_tokens_never_open_the_socket(clock):
    h = Sockets(clock=clock)
    token = await h.mint()
    revoked = await h.mint()
    await h.jwt.revoke_token(revoked)
    expired = await h.mint(expires_delta=dt.timedelta(seconds=1))
    clock.now += 2
    for path, bad, code in [
        ("me", "a.b.c", "token_invalid"),
        ("me", token[:-5] + "AAAAA", "token_invalid"),
        ("me", revoked, "token_revoked"),
        ("me", expired, "token_expired"),
        ("me", await h.mint_refresh(), "token_type_wrong"),
        ("fresh", token, "fresh_token_required"),
        ("refresh", token, "token_type_wrong"),
        ("reset", token, "token_type_wrong"),
    ]:
        socket = await h.refused(f"/ws/{path}", subprotocols=["bearer", bad])
        assert (socket.status, socket.json["code"]) == (401, code), path
        assert 'error="' in socket.headers["WWW-Authenticate"]


async def test_optional_sockets_take_anonymous_clients_but_no_bad_token():
    h = Sockets()
    async with h.connect("/ws/optional") as socket:
        assert (await socket.ask())["who"] is None
    h.seen.clear()
    assert (await h.refused("/ws/optional", subprotocols=["bearer", "bad"])).status == 401


# -- cookies: browsers let any site open a WebSocket with them ----------------------------


@pytest.mark.parametrize(
    "origins",
    [
        [],
        ["https://evil.example"],
        ["null"],
        [""],
        ["http://localhost.evil.example"],
        ["https://localhost"],
        ["http://localhost", "https://evil.example"],
    ],
)
@pytest.mark.parametrize("csrf", [True, False])
async def test_a_cookie_counts_only_from_a_trusted_origin(origins, csrf):
    h = Sockets({"JWT_COOKIE_CSRF_PROTECT": csrf, "JWT_CSRF_CHECK_ORIGIN": False})
    cookie = ("Cookie", f"access_token_cookie={await h.mint()}")
    # What browsers say besides does not stand in for it.
    same_site = ("Sec-Fetch-Site", "same-origin")
    socket = await h.refused(headers=[cookie, same_site, *(("Origin", origin) for origin in origins)])
    assert (socket.status, socket.json["code"]) == (401, "csrf_failed")


async def test_own_and_named_origins_are_trusted():
    h = Sockets({"JWT_TRUSTED_ORIGINS": ["https://app.example"]})
    cookie = {"Cookie": f"access_token_cookie={await h.mint()}"}
    for origin, secure in [
        ("http://localhost", False),
        ("https://localhost", True),
        ("https://app.example", False),
    ]:
        async with h.connect(headers={**cookie, "Origin": origin}, secure=secure) as socket:
            assert (await socket.ask())["location"] == "cookies"


async def test_other_places_need_no_origin():
    h = Sockets()
    token = await h.mint()
    for place in ("headers", "query_string", "websocket_protocol"):
        given = places(token)[place]
        given["headers"] = {**given.get("headers", {}), "Origin": "https://elsewhere.example"}
        async with h.connect(**given) as socket:
            assert await socket.ask()


# -- the bearer protocol ------------------------------------------------------------------


@pytest.mark.parametrize(
    "offered",
    [["bearer"], ["chat", "bearer"], ["bearer", ""], ["chat"], ["bearer", "\xff"], ["Bearer", "x.y.z"]],
)
async def test_offers_that_hold_no_token(offered):
    h = Sockets()
    assert (await h.refused(subprotocols=offered)).status == 401


async def test_two_different_tokens_are_refused_and_the_same_twice_is_one():
    h = Sockets()
    token = await h.mint()
    both = {"headers": {"Authorization": f"Bearer {token}"}, "subprotocols": ["bearer", token]}
    async with h.connect(**both) as socket:
        assert (await socket.ask())["location"] == "headers"
    h.seen.clear()
    other = await h.mint("bob")
    both["headers"] = {"Authorization": f"Bearer {other}"}
    assert (await h.refused(**both)).status == 400
    assert (await h.refused(subprotocols=["bearer", token, "bearer", other])).status == 400


async def test_implicit_accept_answers_bearer_and_never_the_token():
    h = Sockets()
    token = await h.mint()
    for offered in (["bearer", token], ["bearer", token, "chat"], ["chat", "bearer", token]):
        async with h.connect(subprotocols=offered) as socket:
            await socket.ask()
        assert socket.accepted["subprotocol"] == "bearer"
    async with h.connect(headers={"Authorization": f"Bearer {token}"}) as socket:
        await socket.ask()
    assert socket.accepted["subprotocol"] is None


async def test_the_applications_own_protocol_wins():
    h = Sockets()

    @h.app.websocket("/chat")
    @api.jwt_required
    async def chat():
        await websocket.accept(headers={"X-Room": "1"}, subprotocol="chat.v1")
        await websocket.send_json(await websocket.receive())

    async with h.connect("/chat", subprotocols=["bearer", await h.mint(), "chat.v1"]) as socket:
        assert await socket.ask() == "hello"
    assert socket.accepted["subprotocol"] == "chat.v1"
    assert (b"x-room", b"1") in socket.accepted["headers"]


async def test_quarts_own_test_client_can_offer_a_token():
    h = Sockets()
    client = h.app.test_client()
    async with client.websocket(
        "/ws/me", headers={"Sec-WebSocket-Protocol": f"bearer, {await h.mint()}"}
    ) as ws:
        await ws.send("hello")
        assert (await ws.receive_json())["who"] == "alice"


# -- before_websocket, and servers that cannot refuse with a status -----------------------


async def test_before_websocket_protects_and_shares_what_it_found():
    h = Sockets()
    lookups = []

    @h.jwt.user_lookup_loader
    async def load(_header, claims):
        lookups.append(claims["sub"])
        return claims["sub"]

    @h.app.before_websocket
    @api.jwt_required
    async def check():
        pass

    @h.app.websocket("/bare")
    async def bare():
        await websocket.receive()
        await websocket.send_json(str(api.current_user))

    assert (await h.refused("/bare")).status == 401
    token = {"subprotocols": ["bearer", await h.mint()]}
    async with h.connect("/bare", **token) as socket:
        assert await socket.ask() == "alice"
    async with h.connect("/ws/me", **token) as socket:
        await socket.ask()
    assert lookups == ["alice", "alice"]


async def test_a_server_without_refusals_is_told_to_close():
    h = Sockets()
    async with h.connect(can_refuse=False) as socket:
        await socket.over()
    assert socket.accepted is None
    assert socket.closed == {"type": "websocket.close", "code": 1000}


async def test_loaders_and_handlers_answer_handshakes_too():
    h = Sockets()

    @h.jwt.unauthorized_loader
    async def nobody(message):
        return {"who are you": message[:7]}, 418, {"X-Loader": "yes"}

    socket = await h.refused()
    assert (socket.status, socket.headers["X-Loader"]) == (418, "yes")
    assert socket.json == {"who are you": "Missing"}

    @h.app.errorhandler(JWTExtendedException)
    async def ours(error):
        return {"mine": error.error_code}, 403

    assert (await h.refused()).json == {"mine": "authorization_required"}


# -- open sockets -------------------------------------------------------------------------


class Unreachable(MemoryStore):
    """A store that can be taken away."""

    is_down = False

    async def check(self, ref):
        if self.is_down:
            raise StoreUnavailableError
        return await super().check(ref)


def checking(h):
    """A socket that checks again before it answers."""

    @h.app.websocket("/checked")
    @api.jwt_required
    async def view():
        while True:
            await websocket.receive()
            await api.verify_jwt_in_request()
            await websocket.send_json(str(api.current_user))


@pytest.mark.parametrize("loader", ["unauthorized", "user_lookup"])
async def test_a_loader_that_reads_the_request_is_told_that_there_is_none(loader, caplog):
    h = Sockets()

    async def reads(*_):
        return {"path": request.path}

    getattr(h.jwt, f"{loader}_loader")(reads)
    headers = {} if loader == "unauthorized" else {"Authorization": f"Bearer {await h.mint()}"}
    socket = await h.refused(headers=headers)
    assert socket.status == 500
    assert "A WebSocket has no request: let the loader use" in caplog.text


async def test_a_socket_whose_guard_never_ran_is_not_accepted(caplog):
    h = Sockets()

    @api.jwt_required
    async def guarded():
        raise AssertionError

    @functools.wraps(guarded)
    async def instead():
        await websocket.send("secret")

    h.app.add_websocket("/cached", "cached", instead)
    socket = await h.refused("/cached", headers={"Authorization": f"Bearer {await h.mint()}"})
    assert (socket.status, b"secret" in socket.body) == (500, False)
    assert "The view 'cached' answered, but its jwt_required never ran" in caplog.text


async def test_a_guard_above_a_sockets_route_refuses_it(caplog):
    h = Sockets()

    @api.jwt_required
    @h.app.websocket("/wrong")
    async def view():
        await websocket.send("secret")

    socket = await h.refused("/wrong")
    assert (socket.status, b"secret" in socket.body) == (500, False)
    assert "registered without it: view" in caplog.text


async def test_an_open_socket_is_asked_everything_anew(clock):
    store = Unreachable()
    h = Sockets(clock=clock, store=store)
    users = {"alice": "Alice"}

    @h.jwt.user_lookup_loader
    async def load(_header, claims):
        return users.get(claims["sub"])

    checking(h)

    async def opened():
        socket = h.connect("/checked", subprotocols=["bearer", await h.mint()])
        await socket.__aenter__()
        assert await socket.ask() == users["alice"]
        return socket

    async def closed(socket):
        assert await socket.ask() is None
        await socket.__aexit__()
        return socket.closed["code"], socket.closed["reason"]

    socket = await opened()
    users["alice"] = "Alice II"
    assert await socket.ask() == "Alice II"
    await h.jwt.revoke_user("alice")
    assert await closed(socket) == (1008, "token_revoked")

    socket = await opened()
    clock.now += 3600
    assert await closed(socket) == (1008, "token_expired")

    socket = await opened()
    del users["alice"]
    assert await closed(socket) == (1008, "user_not_found")
    users["alice"] = "Alice"

    socket = await opened()
    store.is_down = True
    assert await closed(socket) == (1013, "store_unavailable")
    store.is_down = False

    socket = await opened()
    h.jwt.token_verification_loader(lambda _header, _claims: "yes")
    assert await closed(socket) == (1011, "hook_error")


async def test_a_socket_that_the_view_closed_is_left_alone():
    h = Sockets()

    @h.app.websocket("/closing")
    @api.jwt_required
    async def view():
        await websocket.receive()
        await websocket.close(4000, "mine")
        await h.jwt.revoke_user("alice")
        await api.verify_jwt_in_request()

    async with h.connect("/closing", subprotocols=["bearer", await h.mint()]) as socket:
        assert await socket.ask() is None
    assert socket.closed == {"type": "websocket.close", "code": 4000, "reason": "mine"}


async def test_a_socket_that_was_accepted_before_the_check_is_closed_with_1008():
    h = Sockets()

    @h.app.websocket("/late")
    async def view():
        await websocket.accept()
        await api.verify_jwt_in_request()

    async with h.connect("/late") as socket:
        await socket.over()
    assert (socket.closed["code"], socket.closed["reason"]) == (1008, "authorization_required")


async def test_an_error_handler_of_the_application_does_not_change_the_code():
    h = Sockets()
    handled = []

    @h.app.errorhandler(JWTExtendedException)
    async def ours(error):
        handled.append(error.error_code)
        return "", 403

    h.jwt.user_lookup_loader(lambda _header, claims: claims["sub"])
    checking(h)
    async with h.connect("/checked", subprotocols=["bearer", await h.mint()]) as socket:
        await socket.ask()
        await h.jwt.revoke_user("alice")
        assert await socket.ask() is None
    assert (socket.closed["code"], handled) == (1008, ["token_revoked"])


async def test_an_error_handler_may_have_the_last_word():
    h = Sockets()

    @h.app.errorhandler(JWTExtendedException)
    async def ours(error):
        await websocket.send_json({"bye": error.error_code})
        await websocket.close(4401)
        return ""

    checking(h)
    h.jwt.user_lookup_loader(lambda _header, claims: claims["sub"])
    async with h.connect("/checked", subprotocols=["bearer", await h.mint()]) as socket:
        await socket.ask()
        await h.jwt.revoke_user("alice")
        assert await socket.ask() == {"bye": "token_revoked"}
    assert socket.closed["code"] == 4401


@pytest.mark.parametrize("handler", [JWTExtendedException, Exception, None])
async def test_the_code_is_1008_however_the_check_is_reached(handler):  # noqa: C901  # one view of each kind
    h = Sockets()
    area = Blueprint("area", __name__)
    if handler is not None:
        for where in (h.app, area):

            @where.errorhandler(handler)
            async def ours(_error):
                return "", 403

    @api.jwt_required(fresh=True)
    async def helper():
        raise AssertionError

    class View:
        async def __call__(self):
            await websocket.receive()
            await helper()

    @area.before_websocket
    @api.jwt_required
    async def before():
        if websocket.path.endswith("early"):
            await websocket.accept()

    async def bare():
        await websocket.receive()
        await helper()

    async def verifying():
        await websocket.receive()
        await api.verify_jwt_in_request(fresh=True)

    views = {
        "bare": bare,
        "verifying": api.public(verifying),
        "guarded": api.jwt_required(verifying),
        "early": api.jwt_required(fresh=True)(verifying),
        "object": api.jwt_required(functools.update_wrapper(functools.partial(View()), View)),
    }
    for name, view in views.items():
        area.add_websocket(f"/{name}", name, view)
    h.app.register_blueprint(area)
    for path in views:
        async with h.connect(f"/{path}", subprotocols=["bearer", await h.mint()]) as socket:
            assert await socket.ask() is None
        assert (path, socket.closed["code"], socket.closed["reason"]) == (path, 1008, "fresh_token_required")


async def test_what_breaks_on_an_open_socket_is_no_normal_end():
    h = Sockets()
    h.app.config["PROPAGATE_EXCEPTIONS"] = False
    broken = []

    @h.jwt.user_lookup_loader
    async def load(_header, claims):
        if broken:
            raise ConnectionError
        return claims["sub"]

    checking(h)
    async with h.connect("/checked", subprotocols=["bearer", await h.mint()]) as socket:
        await socket.ask()
        broken.append(1)
        assert await socket.ask() is None
    assert (socket.closed["code"], socket.closed["reason"]) == (1011, "")


async def test_another_end_of_a_view_is_not_blamed_on_the_token():
    h = Sockets()

    @h.app.websocket("/lost")
    @api.jwt_required
    async def lost():
        await websocket.receive()
        abort(404)

    async with h.connect("/lost", subprotocols=["bearer", await h.mint()]) as socket:
        assert await socket.ask() is None
    assert socket.closed["code"] == 1000


async def test_a_view_that_goes_on_after_a_refusal_is_nobody():
    h = Sockets()
    told = []

    @h.app.websocket("/on")
    @api.jwt_required
    async def on():
        await websocket.receive()
        await h.jwt.revoke_user("alice")
        with contextlib.suppress(JWTExtendedException):
            await api.verify_jwt_in_request()
        with pytest.raises(RuntimeError):
            api.get_jwt_identity()
        told.append(api.get_jwt_request_location())
        await websocket.send_json("still here")

    async with h.connect("/on", subprotocols=["bearer", await h.mint()]) as socket:
        assert await socket.ask() == "still here"
        await socket.over()
    assert told == [None]
    assert socket.closed["code"] == 1000


@pytest.mark.parametrize("ends", [LookupError("no database"), None], ids=["a hook fails", "a time limit"])
async def test_a_check_that_ends_otherwise_leaves_nobody_too(ends):
    h = Sockets()
    users = [object()]

    @h.jwt.user_lookup_loader
    async def load(_header, _claims):
        if users:
            return users.pop()
        if ends is None:
            await asyncio.sleep(30)
        raise ends or LookupError

    @h.app.websocket("/on")
    @api.jwt_required
    async def on():
        await websocket.receive()
        with contextlib.suppress(LookupError, TimeoutError):
            async with asyncio.timeout(0.05):
                await api.verify_jwt_in_request()
        with pytest.raises(RuntimeError):
            api.get_jwt_identity()
        await websocket.send_json("nobody")

    async with h.connect("/on", subprotocols=["bearer", await h.mint()]) as socket:
        assert await socket.ask() == "nobody"


async def test_a_client_that_is_gone_hides_no_refusal():
    h = Sockets()
    handled = []

    @h.app.errorhandler(JWTExtendedException)
    async def ours(error):
        handled.append(error.error_code)
        return ""

    @h.app.websocket("/gone")
    @api.jwt_required
    async def gone():
        await websocket.receive()

        async def fail(code, reason):
            raise OSError

        websocket._get_current_object()._close = fail
        await api.verify_jwt_in_request(fresh=True)

    async with h.connect("/gone", subprotocols=["bearer", await h.mint()]) as socket:
        assert await socket.ask() is None
    assert handled == ["fresh_token_required"]


async def test_a_cookie_socket_is_checked_again_by_its_origin_alone():
    h = Sockets({"JWT_CSRF_METHODS": ["GET", "POST"]})
    h.jwt.user_lookup_loader(lambda _header, claims: claims["sub"])
    checking(h)
    cookie = {"Cookie": f"access_token_cookie={await h.mint()}", **OWN}
    async with h.connect("/checked", headers=cookie) as socket:
        assert await socket.ask() == "alice"


async def test_a_user_is_announced_once_for_a_handshake():
    h = Sockets()
    loaded = []

    @h.jwt.user_lookup_loader
    async def load(_header, claims):
        return {"name": claims["sub"]}

    @user_loaded.connect_via(h.app)
    def note(_app, identity, **_):
        loaded.append(identity)

    @h.app.before_websocket
    @api.jwt_required
    async def before():
        pass

    async with h.connect(subprotocols=["bearer", await h.mint()]) as socket:
        await socket.ask()
    assert loaded == ["alice"]


async def test_a_user_is_announced_each_time_that_an_open_socket_has_it_loaded_anew():
    h = Sockets()
    loaded, user = [], object()
    h.jwt.user_lookup_loader(lambda _header, _claims: user, inline=True)

    @user_loaded.connect_via(h.app)
    def note(_app, identity, **_):
        loaded.append(identity)

    checking(h)
    async with h.connect("/checked", subprotocols=["bearer", await h.mint()]) as socket:
        for times in (1, 2, 3):
            await socket.ask()
            assert loaded == ["alice"] * (1 + times)  # the handshake, and each check since


async def test_handshakes_have_no_body_whatever_they_say():
    h = Sockets()
    socket = await h.refused(headers={"Content-Type": "application/json", "Content-Length": "2"})
    assert socket.json["code"] == "authorization_required"


async def test_a_check_in_a_task_group_refuses_as_any_other():
    h = Sockets()
    h.app.config["PROPAGATE_EXCEPTIONS"] = False

    async def fail():
        raise ZeroDivisionError

    async def grouped(*more):
        async with asyncio.TaskGroup() as outer, asyncio.TaskGroup() as inner:
            inner.create_task(api.verify_jwt_in_request(fresh=True))
            for task in more:
                outer.create_task(task())

    @h.app.websocket("/grouped")
    @api.jwt_required
    async def socket():
        await websocket.receive()
        await grouped()

    async with h.connect("/grouped", subprotocols=["bearer", await h.mint()]) as connection:
        assert await connection.ask() is None
    assert (connection.closed["code"], connection.closed["reason"]) == (1008, "fresh_token_required")
    h.view("/group", api.jwt_required(grouped))
    assert (await h.call("/group", token=await h.mint())).code == "fresh_token_required"

    @api.jwt_required
    async def broken():
        await grouped(fail)

    h.view("/broken", broken)
    assert (await h.call("/broken", token=await h.mint())).status == 500


# -- whose socket it is -------------------------------------------------------------------


async def test_a_request_inside_a_socket_and_a_socket_inside_a_request_are_their_own():
    h = Sockets()
    hers, his = await h.mint("alice"), await h.mint("bob")

    @h.app.websocket("/outer")
    @api.jwt_required
    async def outer():
        await websocket.receive()
        anonymous, known = await h.call(), await h.call(token=his)
        await websocket.send_json([anonymous.status, known.json["identity"], api.get_jwt_identity()])

    async with h.connect("/outer", subprotocols=["bearer", hers]) as socket:
        assert await socket.ask() == [401, "bob", "alice"]

    @api.jwt_required
    async def view():
        async with h.connect(subprotocols=["bearer", his]) as inner:
            known = await inner.ask()
        async with h.connect() as nobody:
            await nobody.over()
        return {"inner": known["who"], "nobody": nobody.status, "outer": api.get_jwt_identity()}

    h.view("/opens", view)
    assert (await h.call("/opens", token=hers)).json == {"inner": "bob", "nobody": 401, "outer": "alice"}


async def test_three_levels_of_requests_and_sockets():
    h = Sockets()
    hers, his, theirs = [await h.mint(name) for name in ("alice", "bob", "carol")]

    @h.app.websocket("/middle")
    @api.jwt_required
    async def middle():
        await websocket.receive()
        known, nobody = await h.call(token=theirs), await h.call()
        await websocket.send_json([known.json["identity"], nobody.status, api.get_jwt_identity()])

    @api.jwt_required
    async def outer():
        async with h.connect("/middle", subprotocols=["bearer", his]) as socket:
            return {"inner": await socket.ask(), "outer": api.get_jwt_identity()}

    h.view("/outer", outer)
    assert (await h.call("/outer", token=hers)).json == {"inner": ["carol", 401, "bob"], "outer": "alice"}


async def test_a_copied_context_in_a_request_of_somebody_else_is_never_that_somebodys():
    """Quart below 0.23 does not tell which context is the inner one."""
    h = Sockets()
    callbacks = []

    @h.app.websocket("/listen")
    @api.jwt_required
    async def listen():
        await websocket.receive()

        @copy_current_websocket_context
        async def whose():
            try:
                return api.get_jwt_identity()
            except RuntimeError as error:
                return str(error)

        callbacks.append(whose)
        await websocket.send_json("listening")
        await websocket.receive()

    @api.jwt_required
    async def broadcast():
        return {"socket": await callbacks[0](), "request": api.get_jwt_identity()}

    h.view("/broadcast", broadcast)
    async with h.connect("/listen", subprotocols=["bearer", await h.mint("bob")]) as socket:
        assert await socket.ask() == "listening"
        answer = await h.call("/broadcast", token=await h.mint("alice"))
    assert answer.json["request"] == "alice"
    assert answer.json["socket"] == "bob" or "not clear whose identity" in answer.json["socket"]


async def test_the_identity_goes_along_with_a_copied_context():
    h = Sockets()

    @h.app.websocket("/tasks")
    @api.jwt_required
    async def tasks():
        await websocket.receive()

        @copy_current_websocket_context
        async def later():
            await websocket.send_json(api.get_jwt_identity())

        await asyncio.create_task(later())

    async with h.connect("/tasks", subprotocols=["bearer", await h.mint()]) as socket:
        assert await socket.ask() == "alice"


async def test_an_applications_own_class_stays_in_use_and_one_that_comes_too_late_is_named(caplog):
    class Mine(Websocket):
        room = "1"

    app = Quart("tests")
    app.websocket_class = Mine
    app.config.update(JWT_SECRET_KEY=SECRET, JWT_TOKEN_LOCATION=EVERYWHERE)
    jwt = api.JWTManager(app)
    jwt.init_app(app)
    assert [kind.__name__ for kind in app.websocket_class.__mro__[:3]] == ["Mine", "Socket", "Mine"]

    @app.websocket("/ws")
    @api.jwt_required
    async def view():
        await websocket.receive()
        await websocket.send_json(websocket.room)

    token = await jwt.create_access_token("alice")
    async with Connection(app, "/ws", subprotocols=["bearer", token]) as socket:
        assert await socket.ask() == "1"
    app.websocket_class = Mine
    with caplog.at_level(logging.ERROR):
        async with Connection(app, "/ws", subprotocols=["bearer", token]) as socket:
            await socket.over()
    assert socket.status == 500
    assert "Set app.websocket_class before JWTManager(app)" in caplog.text
    assert token not in caplog.text


async def test_tokens_and_offers_are_never_logged(caplog):
    caplog.set_level(logging.DEBUG)
    h = Sockets()
    token = await h.mint()
    async with h.connect(subprotocols=["bearer", token]) as socket:
        await socket.ask()
    await h.jwt.revoke_token(token)
    h.seen.clear()
    await h.refused(subprotocols=["bearer", token])
    await h.refused(subprotocols=["bearer", token + "x"])
    assert "Request refused" in caplog.text
    assert token not in caplog.text


async def test_a_request_to_another_application_inside_a_socket_knows_its_own_user():
    outer, inner = QuartHarness(), QuartHarness()
    token = await inner.mint("bob")

    @outer.app.websocket("/socket")
    @api.jwt_required()
    async def socket():
        await quart.websocket.receive()
        answer = await inner.call(token=token)
        await quart.websocket.send_json([answer.json["identity"], api.get_jwt_identity()])

    headers = {"Authorization": f"Bearer {await outer.mint('alice')}"}
    async with Connection(outer.app, "/socket", headers=headers) as connection:
        assert await connection.ask() == ["bob", "alice"]


async def test_what_others_wrapped_stays_wrapped_after_the_first_socket():
    h, seen = QuartHarness(), []
    make = h.app.request_context

    def theirs(request):
        seen.append(request.path)
        return make(request)

    h.app.request_context = theirs

    @h.app.websocket("/socket")
    async def socket():
        await quart.websocket.receive()
        await quart.websocket.send("1")

    await h.call()
    async with Connection(h.app, "/socket") as connection:
        assert await connection.ask() == 1
    await h.call()
    assert seen == ["/me", "/me"]


async def test_what_needs_no_request_works_where_the_request_cannot_be_told():
    h, done = QuartHarness(), asyncio.Event()
    token, found = await h.mint(), {}

    @h.app.get("/held")
    async def held():
        @quart.copy_current_request_context
        async def job():
            found["ping"] = await h.jwt.ping()
            found["claims"] = (await api.decode_token(token))["sub"]
            with pytest.raises(RuntimeError, match="not clear whose identity"):
                await api.revoke_user("bob")

        found["job"] = job
        await done.wait()
        return "over"

    @h.app.websocket("/socket")
    async def socket():
        await quart.websocket.receive()
        await found["job"]()
        await quart.websocket.send("1")

    request = asyncio.ensure_future(h.call("/held"))
    while "job" not in found:
        await asyncio.sleep(0.01)
    async with Connection(h.app, "/socket") as connection:
        assert await connection.ask() == 1
    done.set()
    await request
    assert (found["ping"], found["claims"]) == (True, "alice")
