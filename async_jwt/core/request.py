"""The little that the core asks of a request. Each adapter wraps its framework's in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

__all__ = ["RequestView"]


class RequestView(Protocol):
    """One HTTP request or WebSocket handshake, as the core sees it.

    Reading must never raise for a client's input.
    """

    @property
    def is_websocket(self) -> bool:
        """Whether this is the handshake of a WebSocket."""
        ...

    @property
    def is_accepted(self) -> bool:
        """Whether this is a WebSocket that is open already."""
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
    def is_json(self) -> bool:
        """Whether the content type says JSON."""
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
        """The protocols that a WebSocket's client offers, in order (RFC 6455 §1.9)."""
        ...

    async def body(self, limit: int) -> bytes | None:
        """The whole body, or None for one that is longer than a limit. It stays readable for the view.

        Args:
            limit: bytes. No more than one beyond is read.

        Raises:
            Exception: the framework's own answer to a body that is too large or too slow.
        """
        ...

    async def form(self, name: str) -> str | None:
        """The first value of a form field."""
        ...
