"""The request interface of the core. Each adapter wraps its framework's request in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

__all__ = ["RequestView"]


class RequestView(Protocol):
    """One HTTP request or WebSocket handshake, as the core sees it.

    Reading must never raise because of client input.
    """

    @property
    def is_websocket(self) -> bool:
        """True for the handshake of a WebSocket."""
        ...

    @property
    def is_accepted(self) -> bool:
        """True for a WebSocket that is already open."""
        ...

    @property
    def method(self) -> str:
        """The HTTP method, upper case."""
        ...

    @property
    def origin(self) -> str:
        """The request's own origin, such as ``https://app.example``, lower case."""
        ...

    @property
    def path(self) -> str:
        """The path and query as the client asked for them, from the root of the host on."""
        ...

    @property
    def is_json(self) -> bool:
        """True if the content type is JSON."""
        ...

    def headers(self, name: str) -> Sequence[str]:
        """All values of a header, in order."""
        ...

    def cookies(self, name: str) -> Sequence[str]:
        """All values of a cookie, in order."""
        ...

    def query(self, name: str) -> Sequence[str]:
        """All values of a query parameter, in order."""
        ...

    def subprotocols(self) -> Sequence[str]:
        """The subprotocols that a WebSocket client offers, in order (RFC 6455 §1.9)."""
        ...

    async def body(self, limit: int) -> bytes | None:
        """The whole body, or None if it is longer than a limit. The view can still read it.

        Args:
            limit: in bytes; at most one byte more is read.

        Raises:
            Exception: the framework's own error for a body that is too large or too slow.
        """
        ...

    async def form(self, name: str) -> str | None:
        """The first value of a form field."""
        ...
