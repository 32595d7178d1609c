"""What Quart's WebSockets lack for authentication: the `bearer` protocol, and how they end."""

from __future__ import annotations

from typing import Any

from quart import Request, Websocket, request
from werkzeug.datastructures import Headers

from async_jwt.adapters._werkzeug import object_of
from async_jwt.core.locations import BEARER
from async_jwt.errors import JWTExtendedException

__all__ = ["Socket", "close_code", "refusal_in", "socket_class"]

# RFC 6455 §7.4.1, and the registry that it opened (1013).
_POLICY_VIOLATION, _INTERNAL_ERROR, _TRY_AGAIN_LATER = 1008, 1011, 1013


class Socket(Websocket):
    """A WebSocket that answers `bearer` where the application chooses no protocol of its own."""

    is_accepted = False
    is_closed = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.outer_request: Request | None = object_of(request)

    @property
    def offered(self) -> list[str]:
        """The protocols that the client offers. Quart's test client gives them in the header alone."""
        lines = ",".join(self.headers.getlist("Sec-WebSocket-Protocol"))
        return self.requested_subprotocols or [name.strip() for name in lines.split(",") if name.strip()]

    async def accept(
        self, headers: dict[str, str] | Headers | None = None, subprotocol: str | None = None
    ) -> None:
        if subprotocol is None and BEARER in self.offered:
            # Browsers fail a handshake that answers none of the protocols they offered.
            subprotocol = BEARER
        await super().accept(headers, subprotocol)
        self.is_accepted = True

    async def close(self, code: int, reason: str = "") -> None:
        await super().close(code, reason)
        self.is_closed = True


def socket_class(base: type[Websocket]) -> type[Websocket]:
    """An application's WebSocket class with `Socket` mixed in."""
    return base if issubclass(base, Socket) else type(base.__name__, (Socket, base), {})


def refusal_in(error: Exception) -> JWTExtendedException | None:
    """The refusal that an error is, or consists of: task groups raise those of their tasks as a group."""
    while isinstance(error, ExceptionGroup):
        _, others = error.split(JWTExtendedException)
        if others is not None:
            return None
        error = error.exceptions[0]
    return error if isinstance(error, JWTExtendedException) else None


def close_code(error: JWTExtendedException) -> int:
    """The code that an open WebSocket is closed with. Only 1008 says that the token is the reason."""
    if error.status == 503:
        return _TRY_AGAIN_LATER
    return _INTERNAL_ERROR if error.status >= 500 else _POLICY_VIOLATION
