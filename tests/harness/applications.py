"""The harness that each adapter is run in. A new adapter adds one class and one parameter."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import flask
import pytest
from asgiref.sync import ThreadSensitiveContext
from asgiref.wsgi import WsgiToAsgi
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder

import async_jwt.stores.redis  # noqa: F401  # as in applications, made before they serve
from async_jwt.adapters import _background_loop as background_loop_module
from async_jwt.adapters import flask as flask_adapter
from async_jwt.adapters import flask_sync as flask_sync_adapter
from async_jwt.adapters._background_loop import background_loop
from async_jwt.core.hooks import looks_async
from async_jwt.errors import ConfigurationError
from async_jwt.observe import instrument
from tests.harness import SECRET
from tests.harness.scan import SCAN

try:
    import quart

    from async_jwt.adapters import quart as quart_adapter
except ModuleNotFoundError:  # as beside a Flask before 3, with which no Quart of ours goes
    quart = quart_adapter = None

NEEDS_QUART = pytest.mark.skipif(quart is None, reason="Quart is not installed")


@dataclass
class Answer:
    status: int
    headers: Headers
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return self.json["code"]

    @property
    def cookies(self) -> dict[str, str]:
        """Each Set-Cookie header by its cookie's name."""
        return {line.partition("=")[0]: line for line in self.headers.getlist("Set-Cookie")}


DEMANDS: dict[str, dict[str, Any]] = {
    "me": {},
    "optional": {"optional": True},
    "fresh": {"fresh": True},
    "refresh": {"refresh": True},
    "either": {"verify_type": False},
    "reset": {"type": "reset"},
    "unchecked": {"skip_revocation_check": True},
    "query": {"locations": "query_string"},
    "everywhere": {"locations": ["headers", "cookies", "query_string", "json"]},
}


class QuartHarness:
    """An application with a few views, and a client that talks to it."""

    framework: Any = quart
    api: Any = quart_adapter

    def __init__(self, config: dict[str, Any] | None = None, **manager: Any) -> None:
        self.app = self.make_app()
        self.app.config.update({"JWT_SECRET_KEY": SECRET, **(config or {})})
        self.jwt = self.api.JWTManager(self.app, **manager)
        self._views()

    def make_app(self) -> Any:
        return quart.Quart("tests", static_folder=None)

    def _views(self) -> None:
        api = self.api

        def report() -> dict[str, Any]:
            found = api.current_auth()
            return {
                "identity": api.get_jwt_identity(),
                "claims": api.get_jwt(),
                "header": api.get_jwt_header(),
                "location": api.get_jwt_request_location(),
                "user": None if found is None else found.user,
            }

        async def view() -> dict[str, Any]:
            return report()

        async def open_() -> dict[str, Any]:
            return {"user": bool(api.current_user), "location": api.get_jwt_request_location()}

        views = {name: api.jwt_required(**demands)(view) for name, demands in DEMANDS.items()}
        self._dispatch({**views, "open": open_})

    def _dispatch(self, views: dict[str, Callable[..., Any]]) -> None:
        """All of them under one rule: to compile one for each took most of a test's time."""

        async def dispatch(name: str) -> Any:
            answer = views[name]()
            return await answer if inspect.isawaitable(answer) else answer

        methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
        self.app.add_url_rule(
            f"/<any({', '.join(map(repr, views))}):name>",
            "dispatch",
            self.colour(dispatch),
            methods=methods,
            provide_automatic_options=False,
        )

    def colour(self, view: Callable[..., Any]) -> Callable[..., Any]:
        """A view as this adapter's applications write theirs."""
        return view

    def view(self, path: str, function: Callable[..., Any], **options: Any) -> None:
        self.app.add_url_rule(path, path, function, **options)

    async def call(
        self,
        path: str = "/me",
        *,
        method: str = "GET",
        token: str | None = None,
        headers: dict[str, str] | list[tuple[str, str]] | None = None,
        cookies: dict[str, str] | None = None,
        data: bytes | str | None = None,
        json: Any = None,
        form: dict[str, str] | None = None,
    ) -> Answer:
        sent = Headers(headers or {})
        if token is not None:
            sent.add("Authorization", f"Bearer {token}")
        if cookies:
            sent.add("Cookie", "; ".join(f"{name}={value}" for name, value in cookies.items()))
        given = {"data": data, "json": json, "form": form}
        given = {name: value for name, value in given.items() if value is not None}
        answer = await self.respond(path, method, sent, given)
        if answer.status >= 400 and b'"code"' in answer.body:  # ours, and not a view's own
            SCAN.look(f"answer to {method} {path}", answer.body.decode("utf-8", "replace"))
        return answer

    async def respond(self, path: str, method: str, headers: Headers, given: dict[str, Any]) -> Answer:
        client = self.app.test_client(use_cookies=False)
        response = await client.open(path, method=method, headers=headers, **given)
        return Answer(response.status_code, response.headers, await response.get_data(as_text=False))

    async def mint(self, identity: Any = "alice", **options: Any) -> str:
        return await self.jwt.create_access_token(identity, **options)

    async def mint_refresh(self, identity: Any = "alice", **options: Any) -> str:
        return await self.jwt.create_refresh_token(identity, **options)

    def context(self) -> Any:
        return self.app.app_context()

    def serving(self) -> Any:
        """As a server has it, from its start to its end."""
        return self.app.test_app()

    def end(self) -> None:
        """Release what no event loop of the test's would."""


class Gate:
    """Something to wait for, on whichever event loop, or on none."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.set = self._event.set

    async def wait(self) -> None:
        while not self._event.is_set():
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                self._event.wait(10)
            else:
                await asyncio.sleep(0.005)


class _Awaited:
    """A blocking API as one that is awaited, so that one suite serves all adapters.

    On a test's event loop the function runs in a thread, as a client's would; in a view, which
    has no loop, at once.
    """

    def __init__(self, blocking: Any, names: frozenset[str], **instead: Any) -> None:
        self._blocking = blocking
        self._names = names
        self._realms: dict[str, _Awaited] = {}
        self.__dict__.update(instead)

    def realm(self, name: str, **options: Any) -> _Awaited:
        """A realm of a manager, likewise."""
        blocking = self._blocking.realm(name, **options)
        return self._realms.setdefault(name, _Awaited(blocking, self._names))

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._blocking, name)
        if name not in self._names:
            return value

        async def call(*args: Any, **kwargs: Any) -> Any:
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                return value(*args, **kwargs)
            return await asyncio.to_thread(value, *args, **kwargs)

        return call


def plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """A test's `async def` view as a `def` one. What it awaits must not wait."""
    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
            generator = function(*args, **kwargs)
            while True:
                try:
                    generator.__anext__().send(None)
                except StopIteration as item:
                    yield item.value
                except StopAsyncIteration:
                    return

        return stream
    if not looks_async(function):
        return function

    @functools.wraps(function)
    def view(*args: Any, **kwargs: Any) -> Any:
        try:
            function(*args, **kwargs).send(None)
        except StopIteration as end:
            return end.value
        raise AssertionError("a plain view had to wait")

    return view


def _required(api: Any, convert: Callable[[Any], Any]) -> Callable[..., Any]:
    def jwt_required(*args: Any, **kwargs: Any) -> Any:
        if args and callable(args[0]):
            return api.jwt_required(convert(args[0]))
        guard = api.jwt_required(*args, **kwargs)
        return functools.wraps(guard)(lambda view: guard(convert(view)))

    return jwt_required


def _plain_unless_it_waits(function: Any) -> Any:
    awaits = inspect.iscoroutinefunction(function) and "await " in inspect.getsource(function)
    return function if awaits else plain(function)


def _plain_if_it_streams(function: Any) -> Any:
    return plain(function) if inspect.isasyncgenfunction(function) else function


class FlaskAsyncHarness(QuartHarness):
    """`async def` views over `adapters.flask`."""

    framework: Any = flask
    api: Any = _Awaited(
        flask_adapter, frozenset(), jwt_required=_required(flask_adapter, _plain_if_it_streams)
    )

    def make_app(self) -> Any:
        return flask.Flask("tests", static_folder=None)

    async def respond(self, path: str, method: str, headers: Headers, given: dict[str, Any]) -> Answer:
        if "form" in given:
            given["data"] = given.pop("form")
        client = self.app.test_client(use_cookies=False)

        def send() -> Answer:
            response = client.open(path, method=method, headers=headers, **given)
            answer = Answer(response.status_code, response.headers, response.get_data())
            response.close()  # which may hold a file
            return answer

        return await asyncio.to_thread(send)

    @contextlib.asynccontextmanager
    async def context(self) -> AsyncIterator[None]:
        with self.app.app_context():
            yield

    def end(self) -> None:
        app_state = self.app.extensions.get("async_jwt")
        if app_state is not None and background_loop_module._process_loop is not None:
            with contextlib.suppress(ConfigurationError):  # such a setting is what a test is about
                background_loop().run(app_state.close())

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        await self.jwt.start()
        yield
        await self.jwt.close()


class _Looked(SpanProcessor):
    def on_end(self, span: ReadableSpan) -> None:
        SCAN.look("span", span.to_json())


_tracers = TracerProvider(resource=Resource({}))
_tracers.add_span_processor(_Looked())


class FlaskSharedHarness(FlaskAsyncHarness):
    """`async def` views that run on the loop of the hooks, and whose spans are looked at."""

    def __init__(self, config: dict[str, Any] | None = None, **manager: Any) -> None:
        super().__init__(config, **manager)
        instrument(self.app, tracer_provider=_tracers)

    def make_app(self) -> Any:
        app = super().make_app()
        app.config["JWT_SHARED_LOOP"] = True
        return app


def served_by_asgi(app: Any) -> Any:
    """As our guide says: each request has a thread of its own."""
    inner = WsgiToAsgi(app)

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        async with ThreadSensitiveContext():
            await inner(scope, receive, send)

    return serve


class FlaskASGIHarness(FlaskAsyncHarness):
    """`async def` views under an ASGI server, whose event loop is the one that lasts."""

    async def respond(self, path: str, method: str, headers: Headers, given: dict[str, Any]) -> Answer:
        if "form" in given:
            given["data"] = given.pop("form")
        builder = EnvironBuilder(path=path, method=method, headers=headers, **given)
        request = flask.Request(builder.get_environ())
        sent = [(name.lower().encode(), value.encode("latin-1")) for name, value in request.headers]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": request.path,
            "raw_path": request.path.encode(),
            "query_string": request.query_string,
            "headers": sent,
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 80),
        }
        messages = [{"type": "http.request", "body": request.get_data(), "more_body": False}]
        builder.close()
        answered: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return messages.pop()

        async def send(message: dict[str, Any]) -> None:
            answered.append(message)

        await served_by_asgi(self.app)(scope, receive, send)
        start, *body = answered
        found = Headers(
            [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]]
        )
        return Answer(start["status"], found, b"".join(part.get("body", b"") for part in body))


class FlaskDefHarness(FlaskAsyncHarness):
    """`def` views over `adapters.flask`, but for those that await something of it."""

    api: Any = _Awaited(
        flask_adapter, frozenset(), jwt_required=_required(flask_adapter, _plain_unless_it_waits)
    )

    def colour(self, view: Callable[..., Any]) -> Callable[..., Any]:
        return plain(view)


_COROUTINES = frozenset(
    name
    for name in flask_adapter.__all__
    if name != "current_user" and inspect.iscoroutinefunction(getattr(flask_adapter, name))
)


class FlaskSyncHarness(FlaskAsyncHarness):
    """`def` views over `adapters.flask_sync`."""

    api: Any = _Awaited(
        flask_sync_adapter,
        _COROUTINES,
        jwt_required=_required(flask_sync_adapter, plain),
        JWTManager=lambda *args, **kwargs: _Awaited(
            flask_sync_adapter.JWTManager(*args, **kwargs),
            _COROUTINES | {"revoke_everything", "start", "close", "ping"},
        ),
    )

    def colour(self, view: Callable[..., Any]) -> Callable[..., Any]:
        return plain(view)


HARNESSES = {
    "quart": QuartHarness,
    "flask_sync": FlaskSyncHarness,
    "flask_def": FlaskDefHarness,
    "flask_async": FlaskAsyncHarness,
    "flask_shared": FlaskSharedHarness,
    "flask_asgi": FlaskASGIHarness,
}


on_both_kinds = pytest.mark.parametrize("harness", ["quart", "flask_sync"], indirect=True)
"""For large tables about the core: once with an event loop, and once stepped through."""

however_it_runs = pytest.mark.parametrize(
    "harness", ["quart", "flask_sync", "flask_async", "flask_asgi"], indirect=True
)
"""For what depends on where hooks run: a server's loop, none, the process's own, a server's in Flask."""

in_each_colour = pytest.mark.parametrize(
    "harness", ["quart", "flask_sync", "flask_def", "flask_async", "flask_asgi"], indirect=True
)
"""For what views have a part in: async ones, plain ones, and those of each adapter for Flask."""

on_each_loop = pytest.mark.parametrize("harness", ["quart", "flask_sync", "flask_async"], indirect=True)
"""For large tables about what stores decide: a server's loop, none, the process's own."""

in_memory = pytest.mark.parametrize("make_app", ["memory"], indirect=True)
"""For large tables about what no store has a say in."""

on_a_servers_loop = pytest.mark.parametrize("harness", ["quart"], indirect=True)
"""For what only makes sense where requests are served on an event loop."""
