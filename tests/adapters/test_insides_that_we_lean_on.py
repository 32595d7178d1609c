"""What we patch or lean on in frameworks and libraries, beyond what they document: one test for each.

`docs/architecture.md` has the table and the reasons. A test here goes red when the inside changes, before
anything of ours fails in a less telling way.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import types
from typing import Any, NamedTuple

import flask
import pytest
from asgiref.sync import SyncToAsync, sync_to_async
from redis.asyncio.connection import Connection as RedisConnection
from redis.crc import key_slot
from werkzeug.local import LocalProxy

from tests.harness.applications import NEEDS_QUART, quart


def quart_app() -> Any:
    app = quart.Quart("inside", static_folder=None)

    @app.get("/view")
    async def view():
        return "ok"

    @app.post("/body")
    async def body():
        return await quart.request.get_data()

    @app.websocket("/socket")
    async def socket():
        await quart.websocket.send(await quart.websocket.receive())

    return app


def spied(owner: Any, name: str) -> list[Any]:
    """The arguments of each call of a method that stands on the instance, as ours do."""
    calls, original = [], getattr(owner, name)

    def spy(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return original(*args, **kwargs)

    setattr(owner, name, spy)
    return calls


async def over_a_socket(app: Any) -> None:
    async with app.test_client().websocket("/socket") as socket:
        await socket.send("x")
        assert await socket.receive() == "x"


@NEEDS_QUART
@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["dispatch_request", "request_context"])
async def test_quart_calls_the_instance_for_requests(name):
    app = quart_app()
    calls = spied(app, name)
    assert (await app.test_client().get("/view")).status_code == 200
    assert len(calls) == 1


@NEEDS_QUART
@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["dispatch_websocket", "websocket_context"])
async def test_quart_calls_the_instance_for_websockets(name):
    app = quart_app()
    calls = spied(app, name)
    await over_a_socket(app)
    assert len(calls) == 1


@NEEDS_QUART
@pytest.mark.asyncio
async def test_quart_makes_its_websockets_of_the_applications_class_and_accepts_by_its_method():
    app, accepted = quart_app(), []

    class Mine(quart.Websocket):
        async def accept(self, headers=None, subprotocol=None):
            accepted.append(self.requested_subprotocols)
            await super().accept(headers, subprotocol)

    app.websocket_class = Mine
    await over_a_socket(app)
    assert [] in accepted


@NEEDS_QUART
@pytest.mark.asyncio
async def test_quart_gives_a_view_what_was_put_back_into_a_body():
    app = quart_app()

    @app.before_request
    async def read_first():
        body = quart.request.body
        start = b"".join([part async for part in body])
        body.append(start)
        assert quart.request.body_timeout > 0

    answer = await app.test_client().post("/body", data=b"all of it")
    assert await answer.get_data(as_text=False) == b"all of it"


@NEEDS_QUART
@pytest.mark.asyncio
async def test_quart_has_options_answered_with_what_dispatch_is_given():
    app = quart_app()
    calls = spied(app, "make_default_options_response")
    assert (await app.test_client().options("/view")).status_code == 200
    taken = len(inspect.signature(quart.Quart.make_default_options_response).parameters) - 1
    assert [len(given) for given in calls] == [taken]


def test_proxies_lead_to_their_object():
    held = types.SimpleNamespace()
    assert LocalProxy(lambda: held)._get_current_object() is held
    app = flask.Flask("inside")
    with app.test_request_context("/"):
        assert flask.current_app._get_current_object() is app
        assert isinstance(flask.request._get_current_object(), flask.Request)
    with pytest.raises(RuntimeError):
        flask.request._get_current_object()


def test_flask_calls_the_instance_for_requests_and_says_when_it_has_served():
    app = flask.Flask("inside")
    app.add_url_rule("/view", "view", lambda: "ok")
    calls = spied(app, "dispatch_request")
    assert app._got_first_request is False
    assert app.test_client().get("/view").status_code == 200
    assert len(calls) == 1
    assert app._got_first_request is True


def test_flask_runs_async_views_by_a_method_of_the_instance():
    app, run = flask.Flask("inside"), []

    @app.get("/view")
    async def view():
        return "ok"

    def convert(function):
        run.append(function)
        return lambda *args, **kwargs: asyncio.run(function(*args, **kwargs))

    app.async_to_sync = convert
    app.view_functions["view"] = view
    assert app.test_client().get("/view").status_code == 200
    assert run == [view]


@pytest.mark.parametrize("framework", ["flask", pytest.param("quart", marks=NEEDS_QUART)])
def test_error_handlers_and_hooks_are_kept_by_blueprint(framework):
    module = {"flask": flask, "quart": quart}[framework]
    app = getattr(module, framework.title())("inside")

    def handler(error):
        return "handled"

    app.register_error_handler(KeyError, handler)
    assert app.error_handler_spec[None][None][KeyError] is handler
    app.before_request(handler)
    assert handler in app.before_request_funcs[None]
    blueprint = module.Blueprint("some", "inside")
    assert blueprint._got_registered_once is False
    seen = []
    blueprint.record(lambda state: seen.append((state.app, state.blueprint)))
    app.register_blueprint(blueprint)
    assert blueprint._got_registered_once is True
    assert seen == [(app, blueprint)]


@pytest.mark.asyncio
async def test_asgiref_says_in_a_thread_which_loop_it_works_for():
    loop = asyncio.get_running_loop()
    assert await sync_to_async(lambda: SyncToAsync.threadlocal.main_event_loop)() is loop


def test_the_running_loop_is_told_without_an_exception():
    assert asyncio._get_running_loop() is None

    async def inside() -> bool:
        return asyncio._get_running_loop() is asyncio.get_running_loop()

    assert asyncio.run(inside())


def test_scan_once_reads_one_value_and_says_where_it_ends():
    assert json.JSONDecoder().scan_once('{"a": 1} more', 0) == ({"a": 1}, 8)
    with pytest.raises(StopIteration):
        json.JSONDecoder().scan_once("", 0)


def test_a_named_tuple_may_be_made_by_tuple_new():
    class Pair(NamedTuple):
        one: int
        two: int

    assert tuple.__new__(Pair, (1, 2)) == Pair(1, 2)


@pytest.mark.asyncio
async def test_redis_connections_send_many_commands_and_read_each_reply(redis_url):
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    connection = RedisConnection(port=port)
    await connection.connect()
    await connection.send_packed_command(connection.pack_commands([("PING",), ("ECHO", "x")]))
    assert [await connection.read_response(), await connection.read_response(push_request=True)] == [
        b"PONG",
        b"x",
    ]
    assert not await connection.can_read()
    await connection.disconnect(nowait=True)


def test_redis_tells_slots_as_clusters_count_them():
    assert key_slot(b"123456789") == 0x31C3  # the example of the Cluster specification


def test_contexts_are_handed_to_timers_and_tasks():
    variable = contextvars.ContextVar("inside", default="none")

    async def main() -> list[str]:
        variable.set("outside")
        seen: list[str] = []
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: seen.append(variable.get()), context=contextvars.Context())
        await loop.create_task(asyncio.sleep(0), context=contextvars.Context())
        await asyncio.sleep(0)
        return seen

    assert asyncio.run(main()) == ["none"]


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["flask", pytest.param("quart", marks=NEEDS_QUART)])
async def test_the_first_function_after_requests_is_called_last(kind):
    framework = flask if kind == "flask" else quart
    app, order = framework.Flask("inside") if kind == "flask" else framework.Quart("inside"), []

    def noting(name: str) -> Any:
        def note(response: Any) -> Any:
            order.append(name)
            return response

        return note

    app.after_request(noting("theirs"))
    app.after_request_funcs.setdefault(None, []).insert(0, noting("ours"))
    part = framework.Blueprint("part", "part")
    part.after_request(noting("their blueprint's"))

    @part.get("/view")
    def view():
        framework.after_this_request(noting("this request's"))
        app.after_request_funcs[None].insert(0, noting("ours, added while it was served"))
        return "ok"

    app.register_blueprint(part)
    answer = app.test_client().get("/view")
    if kind == "quart":
        await answer
    assert order[-2:] == ["ours", "ours, added while it was served"]
    assert len(order) == 5
