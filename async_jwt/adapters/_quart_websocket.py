"""WebSocket features that authentication needs and Quart lacks, mixed into the application's class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quart import Quart, Request, Websocket, has_request_context, request
from werkzeug.datastructures import Headers

from async_jwt.adapters._route_demands import unchecked
from async_jwt.core.locations import BEARER
from async_jwt.core.proxies import unproxied
from async_jwt.errors import JWTExtendedException

__all__ = ["Socket", "close_code", "mix_in", "refusal_in"]

# RFC 6455 §7.4.1, and the registry that it created (1013).
_POLICY_VIOLATION, _INTERNAL_ERROR, _TRY_AGAIN_LATER = 1008, 1011, 1013


class Socket(Websocket):
    """A WebSocket that selects the subprotocol `bearer` if the application selects none.

    It records the request it was opened in, and whether it is open.
    """

    is_accepted: bool = False
    is_closed: bool = False
    may_open: Callable[[], bool] | None = None
    """Returns False if the view demands a token and no check ran: the socket must not be accepted."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.outer_request: Request | None = unproxied(request) if has_request_context() else None

    @property
    def offered(self) -> list[str]:
        """The subprotocols that the client offers. Quart's test client sends them only in the header."""
        if self.requested_subprotocols:
            return self.requested_subprotocols
        lines = ",".join(self.headers.getlist("Sec-WebSocket-Protocol"))
        return [name.strip() for name in lines.split(",") if name.strip()]

    async def accept(
        self, headers: dict[str, str] | Headers | None = None, subprotocol: str | None = None
    ) -> None:
        # Quart calls this before each message that it receives or sends.
        if not self.is_accepted and self.may_open is not None and not self.may_open():
            raise unchecked(self)
        if not self.is_accepted and subprotocol is None and BEARER in self.offered:
            # Browsers fail a handshake that selects none of the subprotocols they offered.
            subprotocol = BEARER
        await super().accept(headers, subprotocol)
        self.is_accepted = True

    async def close(self, code: int, reason: str = "") -> None:
        self.is_closed = True
        await super().close(code, reason)


def mix_in(app: Quart) -> None:
    """Mix our class into an application's WebSocket class."""
    if not issubclass(app.websocket_class, Socket):
        theirs: Any = app.websocket_class
        mixed: Any = type(theirs.__name__, (Socket, theirs), {})
        app.websocket_class = mixed


def refusal_in(error: Exception) -> JWTExtendedException | None:
    """Return the refusal that an error is, or that a task group wrapped in an exception group; else None."""
    while isinstance(error, ExceptionGroup):
        _, others = error.split(JWTExtendedException)
        if others is not None:
            return None
        error = error.exceptions[0]
    return error if isinstance(error, JWTExtendedException) else None


def close_code(status: int) -> int:
    """Return the code to close an open WebSocket with, given the status that a request would have got.

    Only 1008 means that the token is the reason.
    """
    if status == 503:
        return _TRY_AGAIN_LATER
    return _INTERNAL_ERROR if status >= 500 else _POLICY_VIOLATION
