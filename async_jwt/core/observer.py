"""The observer interface: it receives each check, hook and store call, and how it ended."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

from async_jwt.core.policy import ACCESS, REFRESH
from async_jwt.errors import JWTExtendedException

__all__ = ["Kind", "Measurement", "Observer", "kind_of", "outcome_of"]

Kind = Literal["check", "hook", "store"]


class Measurement:
    """One measured check, hook or store call, from start to end.

    Attributes:
        outcome: "ok", or how else it ended: see `outcome_of`.
        details: more about a check: the token's location and type. Never the identity.
    """

    __slots__ = ("details", "outcome")

    def __init__(self) -> None:
        self.outcome: str = "ok"
        self.details: dict[str, str] = {}


class Observer(Protocol):
    """Measures checks, hooks and store calls. It must not raise or wait."""

    def measure(self, kind: Kind, name: str) -> AbstractContextManager[Measurement]:
        """Start a measurement; it ends when the context exits, with or without an error.

        Args:
            kind: what is measured: the check of a request, a hook, or a store call.
            name: which one, from a fixed set: "check", or the name of a hook or store method.
        """
        ...

    def store(self, store: Any) -> Any:
        """The same store, with each call observed."""
        ...


def outcome_of(error: BaseException) -> str:
    """The outcome for an exception: our error code, "cancelled", or "error" for the application's own."""
    if isinstance(error, JWTExtendedException):
        return error.error_code
    return "error" if isinstance(error, Exception) else "cancelled"


def kind_of(token_type: Any) -> str:
    """The type of a token as a label; purposes share one, because applications may have many."""
    return token_type if token_type in (ACCESS, REFRESH) else "purpose"
