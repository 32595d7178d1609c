"""async_jwt for Quart: views, WebSockets, hooks and stores, all on the server's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from functools import cache, partial, wraps
from typing import Any, ClassVar, Final, NoReturn, ParamSpec, TypeVar, cast

from quart import (
    Quart,
    Request,
    Response,
    current_app,
    has_app_context,
    has_request_context,
    has_websocket_context,
    request,
    stream_with_context,
    url_for,
    websocket,
)
from quart.json.provider import DefaultJSONProvider
from werkzeug.exceptions import RequestTimeout
from werkzeug.local import LocalProxy

from async_jwt.adapters import _werkzeug
from async_jwt.adapters._quart_websocket import Socket, close_code, mix_in, refusal_in
from async_jwt.adapters._route_audit import refuse_views, warn_open_views
from async_jwt.adapters._route_demands import (
    answers_options,
    demanded_around,
    is_accepted,
    is_unchecked,
    unchecked,
)
from async_jwt.adapters._werkzeug import (
    WerkzeugFramework,
    WerkzeugView,
    handler_before_ours,
    register_error_handler,
)
from async_jwt.adapters.api import PUBLIC, PublicAPI
from async_jwt.adapters.errors import response_of
from async_jwt.adapters.framework import Check, Served
from async_jwt.adapters.protect import PROTECTING
from async_jwt.adapters.protect import protect as protect
from async_jwt.adapters.protect import public as public
from async_jwt.app_state import AppState, Current, FrameworkContext
from async_jwt.core.authenticate import Authentication as Authentication
from async_jwt.core.authenticate import RequestState
from async_jwt.core.cookie_scope import CookieScope as CookieScope
from async_jwt.core.error_responses import name_of
from async_jwt.core.hooks import looks_async
from async_jwt.core.issue import TokenPair as TokenPair
from async_jwt.core.permissions import any_of as any_of
from async_jwt.core.proxies import unproxied
from async_jwt.core.sessions import SessionInfo as SessionInfo
from async_jwt.core.sessions import SessionPage as SessionPage
from async_jwt.errors import ConfigurationError, JWTExtendedException
from async_jwt.manager import AsyncManager
from async_jwt.stores.contract import Store

__all__ = [*PUBLIC, "JWTManager"]  # noqa: PLE0604  # one list for all adapters

P = ParamSpec("P")
T = TypeVar("T")


# Werkzeug documents these methods for getting the object behind a proxy.
_current_app: Callable[[], Quart] = current_app._get_current_object  # type: ignore[attr-defined]  # noqa: SLF001
_current_request: Callable[[], Request] = request._get_current_object  # type: ignore[attr-defined]  # noqa: SLF001


class _QuartView(WerkzeugView):
    """A Quart request, as the core sees it."""

    __slots__ = ()

    _request: Request

    is_accepted: ClassVar[bool] = False

    def headers(self, name: str) -> Sequence[str]:
        return self._request.headers.getlist(name)

    async def body(self, limit: int) -> bytes | None:
        length, body = self._request.content_length, self._request.body
        if length is not None and length > limit:
            return None
        start = bytearray()
        try:
            async with asyncio.timeout(self._request.body_timeout):
                async for part in body:
                    start += part
                    if len(start) > limit:
                        break
        except TimeoutError:
            raise RequestTimeout from None
        finally:
            body.append(bytes(start))  # for the view, before more data arrives
        return None if len(start) > limit else bytes(start)

    async def form(self, name: str) -> str | None:
        value: str | None = (await self._request.form).get(name)
        return value


class _SocketView(_QuartView):
    """A WebSocket's handshake, which has no body."""

    __slots__ = ()

    _request: Socket  # type: ignore[assignment]  # a request of another kind

    is_websocket: ClassVar[bool] = True
    is_json = False

    @property
    def is_accepted(self) -> bool:  # type: ignore[override]  # changes when the WebSocket opens
        return self._request.is_accepted

    def subprotocols(self) -> Sequence[str]:
        return self._request.offered


class _Ambiguous:
    """A request that cannot be told. Using it raises; what needs no request works.

    A copied context was entered inside another request, and Quart does not tell which came first. No
    identity is better than the wrong one.
    """

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(
            "A copied request or WebSocket context was entered inside another request, so it is not clear "
            "whose identity applies: run that code in a separate task, with contextvars.Context().run(...)"
        )


_AMBIGUOUS: Final = _Ambiguous()


class _Quart(WerkzeugFramework):
    """The `Framework` of Quart."""

    name: str = "Quart"
    adapters: tuple[str, ...] = ("async_jwt.adapters.quart",)

    def serves(self, app: Any) -> bool:
        return isinstance(app, Quart)

    def current(self) -> tuple[Quart | None, Any]:
        """Return the current application and its request or WebSocket; of two, the inner one."""
        in_request = has_request_context()
        if in_request and not has_websocket_context():
            return _current_app(), _current_request()
        app = _current_app() if has_app_context() else None
        if not has_websocket_context():
            return app, None
        served = _current_request() if in_request else None
        socket = unproxied(websocket)
        if served is None or getattr(socket, "outer_request", None) is served:
            return app, socket
        return app, served if getattr(served, "outer_socket", None) is socket else _AMBIGUOUS

    @contextlib.asynccontextmanager
    async def context(self, app: Quart) -> AsyncIterator[None]:
        async with app.app_context():
            yield

    def json_default(self, app: Quart) -> Callable[[Any], Any]:
        # A provider based on a faster library may lack it.
        providers = (app.json, app.json_provider_class, DefaultJSONProvider)
        default: Callable[[Any], Any] = next(each for each in providers if hasattr(each, "default")).default
        return default

    def reach(self, store: Store) -> Store:
        return store

    def expose(
        self,
        function: Callable[P, Coroutine[Any, Any, T]],
        current: Current,  # noqa: ARG002  # everything runs on one event loop
    ) -> Callable[P, Coroutine[Any, Any, T]]:
        return function

    def view(self, request: Any) -> _QuartView:
        if isinstance(request, Request):
            return _QuartView(request, request.method)
        method: str = request.method
        if isinstance(request, Socket):
            return _SocketView(request, method)
        raise ConfigurationError("Set app.websocket_class before JWTManager(app) or init_app(app)")

    def guard(self, function: Callable[..., Any], check: Check, served: Served, /) -> Callable[..., Any]:  # noqa: ARG002  # the check finds it
        if looks_async(function):

            @wraps(function)
            async def guarded(*args: Any, **kwargs: Any) -> Any:
                await check()
                try:
                    return await function(*args, **kwargs)
                except ExceptionGroup as group:
                    refusal = refusal_in(group)
                    if refusal is None:
                        raise
                    raise refusal from group

        elif inspect.isasyncgenfunction(function):

            @wraps(function)
            async def guarded(*args: Any, **kwargs: Any) -> Any:
                await check()

                @stream_with_context
                async def stream() -> AsyncIterator[Any]:
                    # Quart leaves closing the wrapped generator to the garbage collector.
                    async with contextlib.aclosing(function(*args, **kwargs)) as items:
                        async for item in items:
                            yield item

                return stream()

        else:

            @wraps(function)
            async def guarded(*args: Any, **kwargs: Any) -> Any:
                await check()
                answer = await current_app.ensure_async(function)(*args, **kwargs)
                return await answer if inspect.isawaitable(answer) else answer

        return guarded

    async def make_response(self, app: Quart, value: Any) -> Any:
        return await app.make_response(value)

    def json_response(
        self, app: Quart, body: Mapping[str, Any], status: int, headers: Mapping[str, str]
    ) -> Response:
        response = cast("Response", app.json.response(dict(body)))
        response.status_code = status
        response.headers.update(headers)
        return response

    def url_for(self, endpoint: str, query: dict[str, Any]) -> str:
        return url_for(endpoint, **query)

    def finish(self, app: Quart, function: Callable[[Any], Any]) -> None:
        async def finish(response: Any) -> Any:  # Quart would run a plain function in a thread
            return function(response)

        # Quart calls the first one last. A new list: requests that are being served go through the old one.
        app.after_request_funcs[None] = [finish, *app.after_request_funcs.get(None, ())]

    def has_handler(self, app: Quart, error: JWTExtendedException, *, is_compat: bool) -> bool:
        _, served = self.current()
        blueprints = () if served is None else served.blueprints
        return handler_before_ours(app, blueprints, error, is_compat=is_compat) is not None

    def as_http_exception(
        self,
        app: Quart,  # noqa: ARG002  # no Quart extension handles errors itself
        error: JWTExtendedException,
        response: Response,
        *,
        is_compat: bool,
    ) -> JWTExtendedException:
        return _werkzeug.as_http_exception(error, response, name=name_of(type(error), is_compat=is_compat))


# Quart 0.23 passes it the context that `dispatch_request` gets too; earlier versions pass nothing.
_OPTIONS_TAKE = len(inspect.signature(Quart.make_default_options_response).parameters) - 1

_framework = _Quart()
_api = PublicAPI(_framework)
_cookies, _operations = _api.cookies, _api.operations


async def _checked_answer(app: Quart, answer: Any) -> Any:
    """Return an unchecked view's response if it is a refusal or a redirect.

    Raises:
        ConfigurationError: the response delivers content, so it is not sent.
    """
    response = await app.make_response(answer)
    if not is_accepted(response.status_code):
        return response
    if isinstance(response, Response):
        async with response.response:  # closes the stream
            raise unchecked(request)
    response.close()
    raise unchecked(request)


def _around_requests(app: Quart, app_state: AppState, begin: Callable[[], None]) -> None:
    """Check what blueprints and the application demand just before a view runs, as decorators do.

    Errors that a view raises get a response attached, like those that a decorator raises.
    """
    dispatch_request = app.dispatch_request

    @wraps(dispatch_request)
    async def checked_request(*args: Any) -> Any:
        begin()
        served = _current_request()
        watches = app.config.get("JWT_DEFAULT_DENY", False) is not False or PROTECTING in app.extensions
        if watches:
            around = demanded_around(app_state, served)
            if around.by_default and answers_options(served):
                return await app.make_default_options_response(*args[:_OPTIONS_TAKE])
            if around.policies:
                await _api.verify_around(app_state, served, app_state.engine(), around)
            watches = around.leaves_mark
        try:
            answer = await dispatch_request(*args)
        except JWTExtendedException as error:
            if response_of(error) is not None:
                raise
            raise await _api.responder.with_response(app, error) from error
        if not watches and getattr(served, app_state.slot, RequestState).demanded:
            return answer
        return await _checked_answer(app, answer) if is_unchecked(app_state, served) else answer

    app.dispatch_request = checked_request  # type: ignore[method-assign, assignment]  # Quart calls the instance's


def _around_websockets(app: Quart, app_state: AppState, begin: Callable[[], None]) -> None:
    """Like `_around_requests`, for WebSockets, which their view accepts."""
    dispatch_websocket = app.dispatch_websocket

    @wraps(dispatch_websocket)
    async def checked_websocket(*args: Any) -> Any:
        begin()
        socket = unproxied(websocket)
        around = demanded_around(app_state, socket)
        if around.policies:
            await _api.verify_around(app_state, socket, app_state.engine(), around)
        if isinstance(socket, Socket):
            socket.may_open = lambda: not is_unchecked(app_state, socket)
        return await dispatch_websocket(*args)

    app.dispatch_websocket = checked_websocket  # type: ignore[method-assign, assignment]  # see above


def _mark_inner_requests(app: Quart) -> None:
    """Mark requests made inside a WebSocket, as by a test client: `current` then finds the inner one."""
    request_context = app.request_context

    @wraps(request_context)
    def marking(request: Request) -> Any:
        if has_websocket_context():
            request.outer_socket = unproxied(websocket)  # type: ignore[attr-defined]  # read by `current`
        return request_context(request)

    app.request_context = marking  # type: ignore[method-assign]  # Quart calls the instance's


class JWTManager(AsyncManager):
    """Sets up Quart applications and holds their loaders. See `async_jwt.manager.Manager`."""

    framework: ClassVar[FrameworkContext] = _framework

    def _install(self, app: Quart, app_state: AppState) -> None:
        async def answer(error: JWTExtendedException) -> Any:
            is_compat = app_state.engine().settings.is_compat
            handler = handler_before_ours(app, (), error, is_compat=is_compat)
            if handler is not None:
                return await app.ensure_async(handler)(error)
            return await _api.responder.response_to(app, error)

        async def end_socket(response: Any) -> Any:
            """Close an open WebSocket whose view returned a response, which can no longer be sent."""
            _, socket = _framework.current()
            if response is not None and isinstance(socket, Socket) and socket.is_accepted:
                refusal = app_state.acting(socket).state_of(socket).refusal
                status = response.status_code if refusal is None else refusal.status
                # The application's other responses, such as abort(404), say nothing about the token.
                is_ours = refusal is not None or status >= 500
                if is_ours and not socket.is_closed:
                    with contextlib.suppress(Exception):  # the client may be gone
                        await socket.close(close_code(status), "" if refusal is None else refusal.error_code)
            return response

        async def audit() -> None:
            refuse_views(app_state)
            warn_open_views(app_state)

        mix_in(app)
        app.jinja_env.globals.setdefault("jwt_csrf_token", _api.jwt_csrf_token)
        _mark_inner_requests(app)
        begin = cache(partial(refuse_views, app_state))
        _around_requests(app, app_state, begin)
        _around_websockets(app, app_state, begin)
        app.after_websocket(end_socket)
        register_error_handler(app, answer)
        app.before_serving(app_state.start)
        app.before_serving(audit)
        app.after_serving(app_state.close)


authenticate_token: Final = _operations.authenticate_token
consume_token: Final = _operations.consume_token
create_access_token: Final = _operations.create_access_token
create_refresh_token: Final = _operations.create_refresh_token
create_token: Final = _operations.create_token
create_token_pair: Final = _operations.create_token_pair
current_auth: Final = _api.current_auth
current_user_as: Final = _api.current_user_as
decode_token: Final = _operations.decode_token
expire_access_tokens: Final = _operations.expire_access_tokens
get_csrf_token: Final = _operations.get_csrf_token
get_current_user: Final = _api.get_current_user
get_jti: Final = _operations.get_jti
get_jwt: Final = _api.get_jwt
get_jwt_header: Final = _api.get_jwt_header
get_jwt_identity: Final = _api.get_jwt_identity
get_jwt_request_location: Final = _api.get_jwt_request_location
get_unverified_jwt_headers: Final = _api.get_unverified_jwt_headers
jwks_view: Final = _api.jwks_view
jwt_csrf_token: Final = _api.jwt_csrf_token
jwt_required: Final = _api.jwt_required
list_sessions: Final = _operations.list_sessions
refresh_expiring_cookies: Final = _cookies.refresh_expiring_cookies
revoke_session: Final = _operations.revoke_session
revoke_token: Final = _operations.revoke_token
revoke_user: Final = _operations.revoke_user
rotate_refresh_token: Final = _operations.rotate_refresh_token
safe_next: Final = _api.safe_next
set_access_cookies: Final = _cookies.set_access_cookies
set_refresh_cookies: Final = _cookies.set_refresh_cookies
set_token_cookies: Final = _cookies.set_token_cookies
sign_out: Final = _cookies.sign_out
unset_access_cookies: Final = _cookies.unset_access_cookies
unset_jwt_cookies: Final = _cookies.unset_jwt_cookies
unset_refresh_cookies: Final = _cookies.unset_refresh_cookies
verify_jwt_in_request: Final = _api.verify_jwt_in_request

current_user: Any = LocalProxy(get_current_user)
"""The user of this request, as `user_lookup_loader` returned it."""
