"""async_jwt for Quart: views, hooks and stores on the server's own event loop, and WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Sequence
from functools import cache, wraps
from typing import Any, ClassVar, Final, cast

from quart import (
    Quart,
    Request,
    Response,
    Websocket,
    current_app,
    request,
    stream_with_context,
    websocket,
)
from quart.json.provider import DefaultJSONProvider
from werkzeug.exceptions import RequestTimeout
from werkzeug.local import LocalProxy

from async_jwt.adapters._handlers import handler_before_ours, register
from async_jwt.adapters._quart_websocket import Socket, close_code, current, mix_in, refusal_in
from async_jwt.adapters._route_audit import is_accepted, is_unchecked, refuse_misplaced, unchecked
from async_jwt.adapters._werkzeug import WerkzeugView, as_http_exception, object_of, response_of
from async_jwt.adapters.api import Check, PublicAPI
from async_jwt.adapters.protect import answers_options, protect, protected_by_default, public, warn_open_views
from async_jwt.app_state import AppState, Surroundings
from async_jwt.core.authenticate import Authentication
from async_jwt.core.error_responses import ErrorResponse, name_of
from async_jwt.core.hooks import looks_async
from async_jwt.core.issue import TokenPair
from async_jwt.core.sessions import SessionInfo, SessionPage
from async_jwt.errors import ConfigurationError, JWTExtendedException
from async_jwt.manager import AsyncManager
from async_jwt.stores.contract import Store

__all__ = [
    "Authentication",
    "JWTManager",
    "SessionInfo",
    "SessionPage",
    "TokenPair",
    "create_access_token",
    "create_refresh_token",
    "create_token",
    "create_token_pair",
    "current_auth",
    "current_user",
    "current_user_as",
    "decode_token",
    "get_csrf_token",
    "get_current_user",
    "get_jti",
    "get_jwt",
    "get_jwt_header",
    "get_jwt_identity",
    "get_jwt_request_location",
    "get_unverified_jwt_headers",
    "jwks_view",
    "jwt_required",
    "list_sessions",
    "protect",
    "public",
    "refresh_expiring_cookies",
    "revoke_session",
    "revoke_token",
    "revoke_user",
    "rotate_refresh_token",
    "set_access_cookies",
    "set_refresh_cookies",
    "set_token_cookies",
    "unset_access_cookies",
    "unset_jwt_cookies",
    "unset_refresh_cookies",
    "verify_jwt_in_request",
]


class _QuartView(WerkzeugView):
    __slots__ = ()

    _request: Request

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
            body.append(bytes(start))  # before anything else arrives: for the view
        return None if len(start) > limit else bytes(start)

    async def form(self, name: str) -> str | None:
        value: str | None = (await self._request.form).get(name)
        return value


class _SocketView(_QuartView):
    """A WebSocket's handshake. It has no body, so nobody asks for one."""

    __slots__ = ("_offered", "is_accepted")

    is_websocket = True
    is_json = False

    def __init__(self, socket: Socket) -> None:
        super().__init__(socket)
        self.is_accepted = socket.is_accepted
        self._offered = socket.offered

    def subprotocols(self) -> Sequence[str]:
        return self._offered


class _Quart:
    """Quart, as the facade knows it."""

    name = "Quart"
    adapters = ("async_jwt.adapters.quart",)

    def serves(self, app: Any) -> bool:
        return isinstance(app, Quart)

    def current_app(self) -> Quart | None:
        return object_of(current_app)

    current_request = staticmethod(current)

    def json_default(self, app: Quart) -> Callable[[Any], Any]:
        # A provider over a faster library need have none.
        providers = (app.json, app.json_provider_class, DefaultJSONProvider)
        default: Callable[[Any], Any] = next(each for each in providers if hasattr(each, "default")).default
        return default

    def reach(self, store: Store) -> Store:
        return store

    def view(self, request: Request | Websocket) -> _QuartView:
        if isinstance(request, Request):
            return _QuartView(request)
        if isinstance(request, Socket):
            return _SocketView(request)
        raise ConfigurationError("Set app.websocket_class before JWTManager(app) or init_app(app)")

    def guard(self, function: Callable[..., Any], check: Check) -> Callable[..., Any]:
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
                    # Quart leaves it to the garbage collector to end what it wraps.
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

    def respond(self, app: Quart, answer: ErrorResponse) -> Response:
        response = cast("Response", app.json.response(dict(answer.body)))
        response.status_code = answer.status
        response.headers.update(answer.headers)
        return response

    def has_handler(self, app: Quart, error: JWTExtendedException, *, is_compat: bool) -> bool:
        blueprints = () if (served := current()) is None else served.blueprints
        return handler_before_ours(app, blueprints, error, is_compat=is_compat) is not None

    def twin(
        self,
        app: Quart,  # noqa: ARG002  # no extension of Quart answers errors itself
        error: JWTExtendedException,
        response: Response,
        *,
        is_compat: bool,
    ) -> JWTExtendedException:
        return as_http_exception(error, response, name=name_of(type(error), is_compat=is_compat))


# Quart 0.23 gives it the context that it also gives to `dispatch_request`; before, it takes its app alone.
_OPTIONS_TAKE = len(inspect.signature(Quart.make_default_options_response).parameters) - 1

_framework = _Quart()
_api = PublicAPI(_framework)


async def _checked_answer(app: Quart, answer: Any) -> Any:
    """What a view answered that no check stands before: a refusal or a redirection, or it is not sent.

    Raises:
        ConfigurationError: it hands something out.
    """
    response = await app.make_response(answer)
    if not is_accepted(response.status_code):
        return response
    if isinstance(response, Response):
        async with response.response:  # which ends what it would have streamed
            raise unchecked(request)
    response.close()
    raise unchecked(request)


def _around_views(app: Quart, app_state: AppState) -> None:
    """Check what is protected by default once all that comes before a view is done, as decorators do.

    And have what a view itself raises carry its answer, as what a decorator raises does.
    """
    dispatch_request, dispatch_websocket = app.dispatch_request, app.dispatch_websocket

    @cache
    def begin() -> None:
        refuse_misplaced(app_state)

    @wraps(dispatch_request)
    async def checked_request(*args: Any) -> Any:
        begin()
        if protected_by_default(app_state, request):
            if answers_options(request):
                return await app.make_default_options_response(*args[:_OPTIONS_TAKE])
            await _api.verify_by_default(app_state, app_state.engine())
        try:
            answer = await dispatch_request(*args)
        except JWTExtendedException as error:
            if response_of(error) is not None:
                raise
            raise await _api.with_response(app, error) from error
        served = args[0].request if args else object_of(request)
        return await _checked_answer(app, answer) if is_unchecked(app_state, served) else answer

    @wraps(dispatch_websocket)
    async def checked_websocket(*args: Any) -> Any:
        begin()
        if protected_by_default(app_state, websocket):
            await _api.verify_by_default(app_state, app_state.engine())
        socket = current()
        if isinstance(socket, Socket):
            socket.may_open = lambda: not is_unchecked(app_state, socket)
        return await dispatch_websocket(*args)

    app.dispatch_request = checked_request  # type: ignore[method-assign, assignment]
    app.dispatch_websocket = checked_websocket  # type: ignore[method-assign, assignment]


class JWTManager(AsyncManager):
    """Sets Quart applications up and holds their loaders. See `async_jwt.manager.Manager`."""

    surroundings: ClassVar[Surroundings] = _framework

    def _install(self, app: Quart, app_state: AppState) -> None:
        async def answer(error: JWTExtendedException) -> Any:
            is_compat = app_state.engine().settings.is_compat
            handler = handler_before_ours(app, (), error, is_compat=is_compat)
            if handler is not None:
                return await app.ensure_async(handler)(error)
            return await _api.answer(app, error)

        async def end_socket(response: Any) -> Any:
            """Close an open WebSocket whose view ended with an answer, which nobody can read any more."""
            socket = current()
            if response is not None and isinstance(socket, Socket) and socket.is_accepted:
                refusal = app_state.request_state(socket).refusal
                status = response.status_code if refusal is None else refusal.status
                # Another answer of the application's, such as abort(404), says nothing of the token.
                is_ours = refusal is not None or status >= 500
                if is_ours and not socket.is_closed:
                    with contextlib.suppress(Exception):  # the client may have gone
                        await socket.close(close_code(status), "" if refusal is None else refusal.error_code)
            return response

        async def tell() -> None:
            refuse_misplaced(app_state)
            warn_open_views(app_state)

        mix_in(app)
        _around_views(app, app_state)
        app.after_websocket(end_socket)
        register(app, answer)
        app.before_serving(app_state.start)
        app.before_serving(tell)
        app.after_serving(app_state.close)


create_access_token: Final = _api.create_access_token
create_refresh_token: Final = _api.create_refresh_token
create_token: Final = _api.create_token
create_token_pair: Final = _api.create_token_pair
current_auth: Final = _api.current_auth
current_user_as: Final = _api.current_user_as
decode_token: Final = _api.decode_token
get_csrf_token: Final = _api.get_csrf_token
get_current_user: Final = _api.get_current_user
get_jti: Final = _api.get_jti
get_jwt: Final = _api.get_jwt
get_jwt_header: Final = _api.get_jwt_header
get_jwt_identity: Final = _api.get_jwt_identity
get_jwt_request_location: Final = _api.get_jwt_request_location
get_unverified_jwt_headers: Final = _api.get_unverified_jwt_headers
jwks_view: Final = _api.jwks_view
jwt_required: Final = _api.jwt_required
list_sessions: Final = _api.list_sessions
refresh_expiring_cookies: Final = _api.refresh_expiring_cookies
revoke_session: Final = _api.revoke_session
revoke_token: Final = _api.revoke_token
revoke_user: Final = _api.revoke_user
rotate_refresh_token: Final = _api.rotate_refresh_token
set_access_cookies: Final = _api.set_access_cookies
set_refresh_cookies: Final = _api.set_refresh_cookies
set_token_cookies: Final = _api.set_token_cookies
unset_access_cookies: Final = _api.unset_access_cookies
unset_jwt_cookies: Final = _api.unset_jwt_cookies
unset_refresh_cookies: Final = _api.unset_refresh_cookies
verify_jwt_in_request: Final = _api.verify_jwt_in_request

current_user: Any = LocalProxy(get_current_user)
"""The user of this request, as `user_lookup_loader` returned it."""
