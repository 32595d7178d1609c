"""Identity goes along with streams, tasks and contexts, and never into another request."""

from __future__ import annotations

import asyncio
import random

import pytest
from quart import (
    Blueprint,
    Quart,
    copy_current_request_context,
    copy_current_websocket_context,
    g,
    request,
    stream_with_context,
    url_for,
    websocket,
)

from async_jwt.adapters import quart as api
from async_jwt.errors import JWTExtendedException
from tests.harness import SECRET
from tests.harness.applications import QuartHarness
from tests.harness.sockets import Connection

pytestmark = pytest.mark.asyncio


def harness(**config):
    h = QuartHarness(config)

    @h.jwt.user_lookup_loader
    async def load(_header, claims):
        await asyncio.sleep(0)
        return {"name": claims["sub"]}

    return h


# -- streams ------------------------------------------------------------------------------


async def test_async_generator_views_know_the_user_while_they_stream():
    h = harness()

    @api.jwt_required
    async def lines():
        for number in range(3):
            await asyncio.sleep(0)
            yield f"{number} {api.current_user['name']} {api.get_jwt_identity()}\n"

    h.view("/lines", lines)
    assert (await h.call("/lines")).status == 401
    answer = await h.call("/lines", token=await h.mint())
    assert answer.body == b"0 alice alice\n1 alice alice\n2 alice alice\n"


async def test_server_sent_events():
    h = harness()

    @api.jwt_required
    async def events():
        @stream_with_context
        async def send():
            for number in range(3):
                await asyncio.sleep(0)
                yield f"event: tick\ndata: {number} for {api.current_user['name']}\n\n".encode()

        return send(), {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}

    h.view("/events", events)
    assert (await h.call("/events")).status == 401
    answer = await h.call("/events", token=await h.mint())
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.body.count(b"for alice") == 3


async def test_a_stream_that_checks_again_asks_anew_after_a_while(clock):
    h = QuartHarness(clock=clock)
    lookups = []

    @h.jwt.user_lookup_loader
    async def load(_header, claims):
        lookups.append(clock())
        return claims["sub"]

    @api.jwt_required
    async def stream():
        for seconds in (0, 0.5, 1, 5):
            clock.now += seconds
            await api.verify_jwt_in_request()
            yield "."
        await h.jwt.revoke_user("alice")  # the request's own doing is known to it at once
        try:
            await api.verify_jwt_in_request()
        except JWTExtendedException as error:
            yield error.error_code

    h.view("/stream", stream)
    begun = clock()
    answer = await h.call("/stream", token=await h.mint())
    assert answer.body == b"....token_revoked"
    assert [at - begun for at in lookups] == [0, 1.5, 6.5]


async def test_a_stream_that_its_client_leaves_is_ended_at_once():
    h = harness()
    events = []

    @api.jwt_required
    async def stream():
        try:
            while True:
                yield b"x"
                await asyncio.sleep(0)
        finally:
            await asyncio.sleep(0)
            events.append(("ended", api.get_jwt_identity()))

    h.view("/stream", stream)
    bearer = f"Bearer {await h.mint()}".encode()
    sent = asyncio.Event()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "path": "/stream",
        "raw_path": b"/stream",
        "query_string": b"",
        "scheme": "http",
        "headers": [(b"host", b"localhost"), (b"authorization", bearer)],
    }
    first = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive():
        if first:
            return first.pop()
        await sent.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if message.get("body"):
            sent.set()

    await h.app(scope, receive, send)
    events.append("answered")
    assert events == [("ended", "alice"), "answered"]


async def test_a_stream_that_checks_again_ends_without_a_second_answer():
    h = harness()

    @api.jwt_required(fresh=True)
    async def stream():
        yield "open\n"
        try:
            await api.verify_jwt_in_request(refresh=True)
        except JWTExtendedException as error:
            yield f"closed: {error.error_code}\n"

    h.view("/stream", stream)
    answer = await h.call("/stream", token=await h.mint(fresh=True))
    assert answer.body == b"open\nclosed: token_type_wrong\n"


# -- the ways in which an application is put together -------------------------------------


async def test_nested_blueprints_host_matching_and_url_value_preprocessors():
    app = Quart("tests", host_matching=True, static_host="localhost")
    app.config.update(JWT_SECRET_KEY=SECRET, JWT_TOKEN_LOCATION=["headers", "websocket_protocol"])
    jwt = api.JWTManager(app)
    outer, inner = Blueprint("outer", __name__), Blueprint("inner", __name__)

    @outer.url_value_preprocessor
    def tenant(_endpoint, values):
        g.tenant = (values or {}).pop("tenant", None)

    @outer.before_request
    @api.jwt_required
    async def check():
        g.checked = api.get_jwt_identity()

    @inner.get("/who", host="<tenant>.example")
    async def who():
        return {"who": g.checked, "tenant": g.tenant, "url": url_for(".who", tenant="b")}

    outer.register_blueprint(inner, url_prefix="/inner")
    app.register_blueprint(outer, url_prefix="/outer")
    client = app.test_client(use_cookies=False)
    bearer = {"Authorization": f"Bearer {await jwt.create_access_token('alice')}", "Host": "a.example"}
    answer = await client.get("/outer/inner/who", headers=bearer)
    assert (await answer.get_json()) == {
        "who": "alice",
        "tenant": "a",
        "url": "http://b.example/outer/inner/who",
    }
    refused = await client.get("/outer/inner/who", headers={"Host": "a.example"})
    assert refused.status_code == 401


async def test_blueprints_websockets_and_their_own_checks():
    h = harness(JWT_TOKEN_LOCATION=["websocket_protocol"])
    outer, inner = Blueprint("outer", __name__), Blueprint("inner", __name__)

    @outer.before_websocket
    @api.jwt_required
    async def check():
        pass

    @inner.websocket("/room/<name>")
    async def room(name):
        await websocket.receive()
        await websocket.send_json([name, api.current_user["name"]])

    outer.register_blueprint(inner, url_prefix="/inner")
    h.app.register_blueprint(outer, url_prefix="/outer")
    path = "/outer/inner/room/1"
    async with Connection(h.app, path, subprotocols=["bearer", await h.mint()]) as socket:
        assert await socket.ask() == ["1", "alice"]
    async with Connection(h.app, path) as socket:
        await socket.over()
    assert socket.status == 401


# -- tasks --------------------------------------------------------------------------------


async def test_copied_contexts_and_background_tasks_take_the_identity_along():
    h = harness()
    found = {}

    @api.jwt_required
    async def view():
        @copy_current_request_context
        async def copied():
            await asyncio.sleep(0)
            found["copied"] = (api.current_user["name"], request.path)

        async def background():
            # Whether it knows the request that started it differs between Quart's versions.
            try:
                found["background"] = api.get_jwt_identity()
            except RuntimeError:
                found["background"] = "alice"

        task = asyncio.create_task(copied())
        h.app.add_background_task(background)
        await task
        return {}

    h.view("/tasks", view)
    async with h.app.test_app():
        assert (await h.call("/tasks", token=await h.mint())).status == 200
    assert found["copied"] == ("alice", "/tasks")
    assert found["background"] == "alice"


async def test_a_copied_context_outlives_its_request_with_its_identity_alone():
    h = harness()
    go = asyncio.Event()
    tasks = []

    @api.jwt_required
    async def view():
        @copy_current_request_context
        async def later():
            await go.wait()
            return api.current_user["name"]

        tasks.append(asyncio.create_task(later()))
        return {}

    h.view("/later", view)
    for name in ("alice", "bob"):
        await h.call("/later", token=await h.mint(name))
    go.set()
    assert await asyncio.gather(*tasks) == ["alice", "bob"]


async def test_a_thousand_interleaved_requests_and_sockets_never_mix():  # noqa: C901  # one view of each kind
    """Each one looks at its user between random waits, in its view, in a task and in a stream."""
    h = harness(JWT_TOKEN_LOCATION=["headers", "websocket_protocol"])
    chance = random.Random(7)

    async def wait():
        await asyncio.sleep(chance.random() / 200)

    def seen():
        return [
            api.current_user["name"],
            api.get_jwt_identity(),
            api.get_jwt()["sub"],
            api.current_auth().identity,
        ]

    @api.jwt_required
    async def view():
        names = seen()
        await wait()

        @copy_current_request_context
        async def task():
            await wait()
            return seen()

        names += await asyncio.create_task(task())
        await wait()
        return names + seen()

    @api.jwt_required
    async def stream():
        for _ in range(3):
            yield f"{'|'.join(seen())}|"
            await wait()

    @h.app.websocket("/socket")
    @api.jwt_required
    async def socket():
        while True:
            await websocket.receive()
            await wait()

            @copy_current_websocket_context
            async def task():
                await wait()
                return seen()

            await websocket.send_json(seen() + await asyncio.create_task(task()))

    h.view("/view", view)
    h.view("/stream", stream)
    token = {name: await h.mint(name) for name in (f"user{number}" for number in range(100))}

    async def over_http(name):
        answer = await h.call("/view", token=token[name])
        assert set(answer.json) == {name}

    async def as_stream(name):
        answer = await h.call("/stream", token=token[name])
        assert set(answer.body.decode().strip("|").split("|")) == {name}

    async def anonymous(_name):
        assert (await h.call("/view")).status == 401

    async def as_socket(name):
        async with Connection(h.app, "/socket", subprotocols=["bearer", token[name]]) as connection:
            for _ in range(2):
                assert set(await connection.ask()) == {name}

    kinds = [over_http, over_http, as_stream, as_socket, as_socket, anonymous]
    names = list(token)
    await asyncio.gather(*(chance.choice(kinds)(chance.choice(names)) for _ in range(1000)))
