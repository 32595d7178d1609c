"""The `Framework` of Flask, and where our coroutines run for its views."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache, partial, wraps
from io import BufferedReader, BytesIO, RawIOBase
from typing import Any, ClassVar, ParamSpec, TypeVar, cast

from flask import (
    Flask,
    Request,
    Response,
    current_app,
    has_app_context,
    has_request_context,
    request,
    url_for,
)

from async_jwt.adapters import _werkzeug
from async_jwt.adapters._background_loop import WOULD_BLOCK
from async_jwt.adapters._flask_apis import Say, say_of
from async_jwt.adapters._flask_loop import (
    is_store_loop,
    run_on_store_loop,
    share_store_loop,
    wait_on_store_loop,
)
from async_jwt.adapters._older_flask import json_default, json_response, limited, streamed
from async_jwt.adapters._route_audit import refuse_views, warn_open_views
from async_jwt.adapters._route_demands import (
    answers_options,
    demanded_around,
    is_accepted,
    is_unchecked,
    unchecked,
)
from async_jwt.adapters._werkzeug import (
    Form,
    WerkzeugFramework,
    WerkzeugView,
    handler_before_ours,
    register_error_handler,
)
from async_jwt.adapters.api import PublicAPI
from async_jwt.adapters.errors import response_of
from async_jwt.adapters.framework import Check, Served
from async_jwt.adapters.protect import PROTECTING
from async_jwt.app_state import AppState, Current
from async_jwt.core.authenticate import RequestState
from async_jwt.core.concurrency import holding, hop, in_thread, run_without_loop
from async_jwt.core.engine import Engine
from async_jwt.core.error_responses import name_of
from async_jwt.core.hooks import looks_async
from async_jwt.errors import ConfigurationError, JWTExtendedException
from async_jwt.stores.contract import Store
from async_jwt.stores.wrapped import wrapped

__all__ = ["AsyncFlask", "PlainFlask", "install", "run_in_view"]

P = ParamSpec("P")
T = TypeVar("T")


# Werkzeug documents these methods for getting the object behind a proxy.
_current_app: Callable[[], Flask] = current_app._get_current_object  # type: ignore[attr-defined]  # noqa: SLF001
_current_request: Callable[[], Request] = request._get_current_object  # type: ignore[attr-defined]  # noqa: SLF001


class _FlaskView(WerkzeugView):
    """A Flask request, as the core sees it."""

    __slots__ = ()

    is_accepted: ClassVar[bool] = False

    def headers(self, name: str) -> Sequence[str]:
        # WSGI joins repeated headers (PEP 3333), so there is at most one value.
        value = self._request.headers.get(name)
        return () if value is None else (value,)

    async def body(self, limit: int) -> bytes | None:
        # Reading from the connection may block: never on an event loop.
        return await in_thread(partial(_body_of, limited(self._request), limit))

    async def form(self, name: str) -> str | None:
        form = await in_thread(lambda: limited(self._request).form)
        value: str | None = form.get(name)
        return value


def _body_of(request: Request, limit: int) -> bytes | None:
    """Return a request's body; None if it exceeds the limit, in which case the view can still read it all."""
    length = request.content_length
    if length is None:  # chunked: the client marks the end
        start = bytearray()
        while len(start) <= limit and (part := request.stream.read(limit + 1 - len(start))):
            start += part  # streams may return short reads
        length = len(start)
        rest = request.stream if length > limit else BytesIO()
        request.stream = cast("BytesIO", BufferedReader(_Joined(BytesIO(start), rest)))
    if length > limit:
        return None
    body = request.get_data()
    return body if len(body) <= limit else None  # a chunked body that was read earlier


class _Joined(RawIOBase):
    """Several streams, read one after another."""

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


class FlaskFramework(WerkzeugFramework):
    """The parts of `Framework` that async and plain views share."""

    name: str = "Flask"
    adapters: tuple[str, ...] = ("async_jwt.adapters.flask", "async_jwt.adapters.flask_sync")

    keeps_async: bool = True
    """True if a protected `async def` view stays async."""

    def serves(self, app: Any) -> bool:
        return isinstance(app, Flask)

    def current(self) -> tuple[Flask | None, Request | None]:
        if not has_app_context():
            return None, None
        return _current_app(), _current_request() if has_request_context() else None

    def json_default(self, app: Flask) -> Callable[[Any], Any]:
        return json_default(app)

    @asynccontextmanager
    async def context(self, app: Flask) -> AsyncIterator[None]:
        with app.app_context():
            yield

    def reach(self, store: Store) -> Store:
        if getattr(store, "awaits_nothing", False):
            return store
        hopping: Store = wrapped(store, lambda _name, call: partial(hop, call))
        return hopping

    def view(self, request: Request) -> _FlaskView:
        return _FlaskView(request, request.method)

    def guard(self, function: Callable[..., Any], check: Check, served: Served, /) -> Callable[..., Any]:
        if inspect.isasyncgenfunction(function):
            raise ConfigurationError("Flask cannot stream an async generator: use a plain generator")
        is_async, wait = looks_async(function), await_on_store_loop
        if check.needs_loop:
            wait = partial(await_on_store_loop, needs_loop=True)
        if is_async and self.keeps_async:

            @wraps(function)
            async def guarded_async(*args: Any, **kwargs: Any) -> Any:
                app_state, request = served()
                engine = app_state.engine()
                await wait(check(app_state, request, engine), engine)
                return await function(*args, **kwargs)

            return guarded_async

        streams = inspect.isgeneratorfunction(function)

        @wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            app_state, request = served()
            engine = app_state.engine()
            run_in_view(check(app_state, request, engine), engine)
            answer = (current_app.async_to_sync(function) if is_async else function)(*args, **kwargs)
            # The stream keeps the request context, and so the identity.
            return streamed(current_app, answer) if streams else answer

        return guarded

    async def make_response(self, app: Flask, value: Any) -> Any:
        return app.make_response(value)

    def json_response(
        self, app: Flask, body: Mapping[str, Any], status: int, headers: Mapping[str, str]
    ) -> Response:
        response = json_response(app, dict(body))
        response.status_code = status
        response.headers.update(headers)
        return response

    def url_for(self, endpoint: str, query: dict[str, Any]) -> str:
        return str(url_for(endpoint, **query))

    def finish(self, app: Flask, function: Callable[[Any], Any]) -> None:
        # Flask calls the first one last. A new list: requests that are being served go through the old one.
        app.after_request_funcs[None] = [function, *app.after_request_funcs.get(None, ())]

    def has_handler(self, app: Flask, error: JWTExtendedException, *, is_compat: bool) -> bool:
        found = handler_before_ours(app, request.blueprints, error, is_compat=is_compat)
        kind = type(error)
        said = say_of(app, kind, name_of(kind, is_compat=is_compat))
        return found is not None or said in (Say.NAMED, Say.HANDLED)

    def as_http_exception(
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
        return _werkzeug.as_http_exception(error, response, form, name)


class AsyncFlask(FlaskFramework):
    """Flask with async views: functions that create or decode tokens are coroutines."""

    def expose(
        self, function: Callable[P, Coroutine[Any, Any, T]], current: Current, /
    ) -> Callable[P, Coroutine[Any, Any, T]]:
        """Return the coroutine function, run on the store loop."""
        return on_store_loop(function, current)


class PlainFlask(FlaskFramework):
    """Flask with plain views: functions that create or decode tokens block.

    A protected `async def` view becomes a plain one, as in Flask-JWT-Extended: its callers need not know.
    """

    keeps_async: bool = False

    def expose(self, function: Callable[P, Coroutine[Any, Any, T]], current: Current, /) -> Callable[P, T]:
        """Return the function in a blocking form."""
        return blocking(function, current)


_wait_watched = partial(run_on_store_loop, watch=True)


def run_in_view(coroutine: Coroutine[Any, Any, T], engine: Engine) -> T:
    """Run one of our coroutines in a plain view's own thread. Real awaits hop to the store loop.

    Raises:
        RuntimeError: called on the store loop, which would wait for itself or for plain hooks.
    """
    if engine.needs_loop and is_store_loop():
        coroutine.close()
        raise RuntimeError(WOULD_BLOCK)
    return run_without_loop(coroutine, _wait_watched if engine.settings.debug else run_on_store_loop)


async def await_on_store_loop(
    coroutine: Coroutine[Any, Any, T], engine: Engine, *, needs_loop: bool = False
) -> T:
    """Run one of our coroutines for an async view, on the store loop if it needs one.

    Args:
        coroutine: the coroutine.
        engine: the application's engine.
        needs_loop: whether it needs one for more than the engine.
    """
    token = holding.set(True)
    try:
        if needs_loop or engine.needs_loop:
            return await wait_on_store_loop(coroutine, watch=engine.settings.debug)
        return await coroutine
    finally:
        holding.reset(token)


def blocking(function: Callable[P, Coroutine[Any, Any, T]], current: Current) -> Callable[P, T]:
    """Convert a coroutine function to a blocking one, for plain views."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        engine = current("")[0].engine()
        return run_in_view(function(*args, **kwargs), engine)

    return call


def on_store_loop(
    function: Callable[P, Coroutine[Any, Any, T]], current: Current
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Make a coroutine function run on the store loop, whichever loop awaits it."""

    @wraps(function)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        engine, allow = current("")[0].engine(), kwargs.get("allow")
        coroutine = function(*args, **kwargs)
        return await await_on_store_loop(coroutine, engine, needs_loop=looks_async(allow))

    return call


def install(app: Flask, app_state: AppState, api: PublicAPI) -> None:
    """Register error handlers and checks with an application.

    Raises:
        ConfigurationError: the application has already served a request, so it is too late to register.
    """
    if app._got_first_request:  # noqa: SLF001  # as Flask's own check, which before 2.2 runs only in debug mode
        raise ConfigurationError(
            "Call JWTManager(app) or init_app(app) before the application serves a request"
        )

    def answer(error: JWTExtendedException) -> Any:
        engine = app_state.engine()
        handler = handler_before_ours(app, (), error, is_compat=engine.settings.is_compat)
        if handler is not None:
            return app.ensure_sync(handler)(error)
        return run_in_view(api.responder.response_to(app, error), engine)

    register_error_handler(app, answer)
    app.jinja_env.globals.setdefault("jwt_csrf_token", api.jwt_csrf_token)
    share_store_loop(app, app_state)
    _around_views(app, app_state, api)


def _checked_answer(app: Flask, served: Request, answer: Any) -> Response:
    """Return an unchecked view's response if it is a refusal or a redirect.

    Raises:
        ConfigurationError: the response delivers content, so it is not sent.
    """
    response = app.make_response(answer)
    if is_accepted(response.status_code):
        response.close()
        raise unchecked(served)
    return response


def _around_views(app: Flask, app_state: AppState, api: PublicAPI) -> None:
    """Check what blueprints and the application demand just before a view runs, as decorators do.

    Errors that a view raises get a response attached, like those that a decorator raises.
    """
    dispatch = app.dispatch_request

    @cache
    def begin() -> None:  # at the first request: Flask has no startup event
        refuse_views(app_state)
        warn_open_views(app_state)

    @wraps(dispatch)
    def checked(*args: Any) -> Any:
        begin()
        served: Any = _current_request()
        watches = app.config.get("JWT_DEFAULT_DENY", False) is not False or PROTECTING in app.extensions
        if watches:
            around = demanded_around(app_state, served)
            if around.by_default and answers_options(served):
                return app.make_default_options_response()
            if around.policies:
                engine = app_state.engine()
                run_in_view(api.verify_around(app_state, served, engine, around), engine)
            watches = around.leaves_mark
        try:
            answer = dispatch(*args)
        except JWTExtendedException as error:
            if response_of(error) is not None:
                raise
            raise run_in_view(api.responder.with_response(app, error), app_state.engine()) from error
        if not watches and getattr(served, app_state.slot, RequestState).demanded:
            return answer
        return _checked_answer(app, served, answer) if is_unchecked(app_state, served) else answer

    app.dispatch_request = checked  # type: ignore[method-assign]  # Flask calls the instance's
