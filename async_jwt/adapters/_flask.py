"""Flask, as the facade knows it, and where our coroutines run beside its views."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import cache, partial, wraps
from io import BufferedReader, BytesIO, RawIOBase
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from flask import Flask, Request, Response, current_app, request

from async_jwt.adapters._background_loop import WOULD_BLOCK
from async_jwt.adapters._flask_apis import Say, say_of
from async_jwt.adapters._flask_loop import (
    is_store_loop,
    run_on_store_loop,
    share_store_loop,
    wait_on_store_loop,
)
from async_jwt.adapters._handlers import handler_before_ours, register
from async_jwt.adapters._older_flask import json_default, json_response, limited, streamed
from async_jwt.adapters._route_audit import is_accepted, is_unchecked, refuse_misplaced, unchecked
from async_jwt.adapters._werkzeug import Form, WerkzeugView, as_http_exception, object_of, response_of
from async_jwt.adapters.api import Check, PublicAPI
from async_jwt.adapters.protect import answers_options, protected_by_default, warn_open_views
from async_jwt.app_state import AppState
from async_jwt.core.concurrency import holding, hop, in_thread, run_without_loop
from async_jwt.core.engine import Engine
from async_jwt.core.error_responses import ErrorResponse, name_of
from async_jwt.core.hooks import looks_async
from async_jwt.errors import ConfigurationError, JWTExtendedException
from async_jwt.manager import EXTENSION, AsyncManager, OperationsOf
from async_jwt.stores.contract import Store
from async_jwt.stores.wrapped import wrapped

__all__ = [
    "FlaskFramework",
    "blocking",
    "blocking_method",
    "install",
    "on_store_loop",
    "operations_on_store_loop",
]

P = ParamSpec("P")
T = TypeVar("T")
M = TypeVar("M", bound=AsyncManager)


class _FlaskView(WerkzeugView):
    __slots__ = ()

    _request: Request

    def headers(self, name: str) -> Sequence[str]:
        # WSGI joins a header that came twice (PEP 3333), so there is one value to look up.
        value = self._request.headers.get(name)
        return () if value is None else (value,)

    async def body(self, limit: int) -> bytes | None:
        # Read from the connection, which may wait: never on a loop.
        return await in_thread(partial(_body_of, limited(self._request), limit))

    async def form(self, name: str) -> str | None:
        form = await in_thread(lambda: limited(self._request).form)
        value: str | None = form.get(name)
        return value


def _body_of(request: Request, limit: int) -> bytes | None:
    """A request's body, or None for one beyond the limit, of which the view reads all."""
    length = request.content_length
    if length is None:  # it ends where its client says
        start = bytearray()
        while len(start) <= limit and (part := request.stream.read(limit + 1 - len(start))):
            start += part  # some streams read less at a time
        length = len(start)
        rest = request.stream if length > limit else BytesIO()
        request.stream = cast("BytesIO", BufferedReader(_Joined(BytesIO(start), rest)))
    if length > limit:
        return None
    body = request.get_data()
    return body if len(body) <= limit else None  # of a chunked one that was read before


class _Joined(RawIOBase):
    """One stream, and then another."""

    def __init__(self, *streams: Any) -> None:
        self._streams = list(streams)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while self._streams:
            data = self._streams[0].read(len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)
            del self._streams[0]
        return 0


class FlaskFramework:
    """Flask, as the facade knows it.

    Args:
        keeps_async: whether a protected `async def` view stays one. Otherwise it becomes a plain
            one, as with Flask-JWT-Extended: what calls it need not know.
    """

    name = "Flask"
    adapters = ("async_jwt.adapters.flask", "async_jwt.adapters.flask_sync")

    def __init__(self, *, keeps_async: bool) -> None:
        self._keeps_async = keeps_async

    def serves(self, app: Any) -> bool:
        return isinstance(app, Flask)

    def current_app(self) -> Flask | None:
        return cast("Flask | None", object_of(current_app))

    def current_request(self) -> Request | None:
        return cast("Request | None", object_of(request))

    def json_default(self, app: Flask) -> Callable[[Any], Any]:
        return json_default(app)

    def reach(self, store: Store) -> Store:
        if getattr(store, "awaits_nothing", False):
            return store
        hopping: Store = wrapped(store, lambda _name, call: partial(hop, call))
        return hopping

    def view(self, request: Request) -> _FlaskView:
        return _FlaskView(request)

    def guard(self, function: Callable[..., Any], check: Check) -> Callable[..., Any]:
        if inspect.isasyncgenfunction(function):
            raise ConfigurationError("Flask cannot answer with an async generator: use a plain one")
        is_async = looks_async(function)
        if is_async and self._keeps_async:

            @wraps(function)
            async def guarded_async(*args: Any, **kwargs: Any) -> Any:
                app_state, engine = _here()
                await await_on_store_loop(check(app_state, engine), engine)
                return await function(*args, **kwargs)

            return guarded_async

        streams = inspect.isgeneratorfunction(function)

        @wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            app_state, engine = _here()
            run_in_view(check(app_state, engine), engine)
            answer = (current_app.async_to_sync(function) if is_async else function)(*args, **kwargs)
            # The identity goes along with what is streamed.
            return streamed(current_app, answer) if streams else answer

        return guarded

    async def make_response(self, app: Flask, value: Any) -> Any:
        return app.make_response(value)

    def respond(self, app: Flask, answer: ErrorResponse) -> Response:
        response = json_response(app, dict(answer.body))
        response.status_code = answer.status
        response.headers.update(answer.headers)
        return response

    def has_handler(self, app: Flask, error: JWTExtendedException, *, is_compat: bool) -> bool:
        found = handler_before_ours(app, request.blueprints, error, is_compat=is_compat)
        kind = type(error)
        said = say_of(app, kind, name_of(kind, is_compat=is_compat))
        return found is not None or said in (Say.NAMED, Say.HANDLED)

    def twin(
        self, app: Flask, error: JWTExtendedException, response: Response, *, is_compat: bool
    ) -> JWTExtendedException:
        name = name_of(type(error), is_compat=is_compat)
        said, form = say_of(app, type(error), name), Form.HTTP
        if said is Say.NAMED:
            form = Form.NAMED
        elif said is Say.HANDLED:
            form = Form.BARE
        elif said and handler_before_ours(app, request.blueprints, error, is_compat=is_compat) is not None:
            form = Form.ELSEWHERE
        return as_http_exception(error, response, form, name)


def _here() -> tuple[AppState | None, Engine | None]:
    """What the current application has. None where it has none: a coroutine that needs it says so."""
    app = object_of(current_app)
    app_state: AppState | None = None if app is None else app.extensions.get(EXTENSION)
    return app_state, None if app_state is None else app_state.engine()


_wait_watched = partial(run_on_store_loop, watch=True)


def run_in_view(coroutine: Coroutine[Any, Any, T], engine: Engine | None) -> T:
    """Run one of our coroutines in a plain view's own thread. What must be awaited hops to the lasting loop.

    Raises:
        RuntimeError: called on that loop, which would wait for itself or for plain hooks.
    """
    if engine is None:
        return run_without_loop(coroutine, run_on_store_loop)
    if engine.needs_loop and is_store_loop():
        coroutine.close()
        raise RuntimeError(WOULD_BLOCK)
    return run_without_loop(coroutine, _wait_watched if engine.settings.debug else run_on_store_loop)


async def await_on_store_loop(coroutine: Coroutine[Any, Any, T], engine: Engine | None) -> T:
    """Run one of our coroutines for an async view: where its connections last, if it has any."""
    token = holding.set(True)
    try:
        if engine is not None and engine.needs_loop:
            return await wait_on_store_loop(coroutine, watch=engine.settings.debug)
        return await coroutine
    finally:
        holding.reset(token)


def blocking(function: Callable[P, Awaitable[T]]) -> Callable[P, T]:
    """A coroutine function as one that blocks, for plain views."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        _, engine = _here()
        return run_in_view(cast("Coroutine[Any, Any, T]", function(*args, **kwargs)), engine)

    return call


def on_store_loop(function: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """A coroutine function that runs where its connections last, whoever awaits it."""

    @wraps(function)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        _, engine = _here()
        return await await_on_store_loop(cast("Coroutine[Any, Any, T]", function(*args, **kwargs)), engine)

    return call


def blocking_method(
    method: Callable[Concatenate[Any, P], Awaitable[T]],
) -> Callable[Concatenate[Any, P], T]:
    """A manager's coroutine method as one that blocks."""

    @wraps(method)
    def call(manager: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        operations = OperationsOf(manager)
        engine = operations._app_state().engine()  # noqa: SLF001  # of their application
        return run_in_view(cast("Coroutine[Any, Any, T]", method(operations, *args, **kwargs)), engine)

    return call


def operations_on_store_loop(manager: type[M]) -> type[M]:
    """Let a manager's coroutine methods run where their connections last."""
    for name, method in inspect.getmembers(manager, inspect.iscoroutinefunction):
        if not name.startswith("_"):
            setattr(manager, name, _on_store_loop_method(method))
    return manager


def _on_store_loop_method(
    method: Callable[..., Coroutine[Any, Any, T]],
) -> Callable[..., Coroutine[Any, Any, T]]:
    @wraps(method)
    async def call(manager: Any, /, *args: Any, **kwargs: Any) -> T:
        engine = manager._app_state().engine()  # noqa: SLF001  # its own half
        return await await_on_store_loop(method(manager, *args, **kwargs), engine)

    return call


def install(app: Flask, app_state: AppState, api: PublicAPI) -> None:
    """Register with an application what it must call.

    Raises:
        ConfigurationError: it serves requests already, so that nothing may be registered any more.
    """
    if app._got_first_request:  # noqa: SLF001  # what Flask's own check asks; before 2.2 it asks in debug mode alone
        raise ConfigurationError(
            "Call JWTManager(app) or init_app(app) before the application serves a request"
        )

    def answer(error: JWTExtendedException) -> Any:
        engine = app_state.engine()
        handler = handler_before_ours(app, (), error, is_compat=engine.settings.is_compat)
        if handler is not None:
            return app.ensure_sync(handler)(error)
        return run_in_view(api.answer(app, error), engine)

    register(app, answer)
    share_store_loop(app, app_state)
    _around_views(app, app_state, api)


def _around_views(app: Flask, app_state: AppState, api: PublicAPI) -> None:
    """Check what is protected by default once all that comes before a view is done, as decorators do.

    And have what a view itself raises carry its answer, as what a decorator raises does.
    """
    dispatch = app.dispatch_request

    @cache
    def begin() -> None:  # at the first request: Flask does not say when it starts
        refuse_misplaced(app_state)
        warn_open_views(app_state)

    @wraps(dispatch)
    def checked(*args: Any) -> Any:
        begin()
        if protected_by_default(app_state, request):
            if answers_options(request):
                return app.make_default_options_response()
            engine = app_state.engine()
            run_in_view(api.verify_by_default(app_state, engine), engine)
        try:
            answer = dispatch(*args)
        except JWTExtendedException as error:
            if response_of(error) is not None:
                raise
            raise run_in_view(api.with_response(app, error), app_state.engine()) from error
        served = object_of(request)
        if is_unchecked(app_state, served):
            answer = app.make_response(answer)
            if is_accepted(answer.status_code):
                answer.close()
                raise unchecked(served)
        return answer

    app.dispatch_request = checked  # type: ignore[method-assign]
