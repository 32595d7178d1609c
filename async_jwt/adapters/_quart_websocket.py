"""What Quart lacks for authentication: which context is the inner one, and more for WebSockets.

An application's request and WebSocket classes are mixed with those here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from quart import Quart, Request, Websocket, has_request_context, has_websocket_context, request, websocket
from werkzeug.datastructures import Headers

from async_jwt.adapters._route_audit import unchecked
from async_jwt.adapters._werkzeug import object_of
from async_jwt.core.locations import BEARER
from async_jwt.errors import JWTExtendedException

__all__ = ["Socket", "close_code", "current", "mix_in", "refusal_in"]

# RFC 6455 §7.4.1, and the registry that it opened (1013).
_POLICY_VIOLATION, _INTERNAL_ERROR, _TRY_AGAIN_LATER = 1008, 1011, 1013


class Socket(Websocket):
    """A WebSocket that answers `bearer` where the application chooses no protocol of its own.

    It knows the request it was opened in, and whether it is open.
    """

    is_accepted = False
    is_closed = False
    may_open: Callable[[], bool] | None = None
    """Whether it may be accepted: not where its view demands a token and nobody asked for it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.outer_request: Request | None = object_of(request) if has_request_context() else None

    @property
    def offered(self) -> list[str]:
        """The protocols that the client offers. Quart's test client gives them in the header alone."""
        if self.requested_subprotocols:
            return self.requested_subprotocols
        lines = ",".join(self.headers.getlist("Sec-WebSocket-Protocol"))
        return [name.strip() for name in lines.split(",") if name.strip()]

    async def accept(
        self, headers: dict[str, str] | Headers | None = None, subprotocol: str | None = None
    ) -> None:
        # Quart accepts before each message that it takes or sends.
        if not self.is_accepted and self.may_open is not None and not self.may_open():
            raise unchecked(self)
        if not self.is_accepted and subprotocol is None and BEARER in self.offered:
            # Browsers fail a handshake that answers none of the protocols they offered.
            subprotocol = BEARER
        await super().accept(headers, subprotocol)
        self.is_accepted = True

    async def close(self, code: int, reason: str = "") -> None:
        self.is_closed = True
        await super().close(code, reason)


def mix_in(app: Quart) -> None:
    """Mix an application's WebSocket class with ours, and mark requests that are made in a WebSocket."""
    if not issubclass(app.websocket_class, Socket):
        theirs: Any = app.websocket_class
        mixed: Any = type(theirs.__name__, (Socket, theirs), {})
        app.websocket_class = mixed
    request_context = app.request_context

    @wraps(request_context)
    def marking(request: Request) -> Any:
        if has_websocket_context():  # as by a test client
            request.outer_socket = object_of(websocket)  # type: ignore[attr-defined]
        return request_context(request)

    app.request_context = marking  # type: ignore[method-assign]


def current() -> Request | Websocket | None:
    """The request or WebSocket that is being served; the inner one, where it is served inside another.

    Raises:
        RuntimeError: a copied context was entered inside another request, and Quart does not
            tell which came first. Nobody's identity is better than the wrong one.
    """
    served: Request | None = object_of(request)
    if not has_websocket_context():
        return served
    socket: Websocket | None = object_of(websocket)
    if served is None or getattr(socket, "outer_request", None) is served:
        return socket
    if getattr(served, "outer_socket", None) is socket:
        return served
    raise RuntimeError(
        "A copied request or WebSocket context was entered while another request was served, so it is "
        "not clear whose identity is meant: run it in a task of its own, contextvars.Context().run(...)"
    )


def refusal_in(error: Exception) -> JWTExtendedException | None:
    """The refusal that an error is, or consists of: task groups raise those of their tasks as a group."""
    while isinstance(error, ExceptionGroup):
        _, others = error.split(JWTExtendedException)
        if others is not None:
            return None
        error = error.exceptions[0]
    return error if isinstance(error, JWTExtendedException) else None


def close_code(status: int) -> int:
    """The code that an open WebSocket is closed with, by the status that would have answered a request.

    Only 1008 says that the token is the reason.
    """
    if status == 503:
        return _TRY_AGAIN_LATER
    return _INTERNAL_ERROR if status >= 500 else _POLICY_VIOLATION
