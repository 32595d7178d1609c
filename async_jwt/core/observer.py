"""What somebody who measures is told: which checks, hooks and store calls there are, and how they ended."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

from async_jwt.core.policy import ACCESS, REFRESH
from async_jwt.errors import JWTExtendedException

__all__ = ["Kind", "Measurement", "Observer", "kind_of", "outcome_of"]

Kind = Literal["check", "hook", "store"]


class Measurement:
    """One thing that is measured, from its beginning to its end.

    Attributes:
        outcome: "ok", or how it ended otherwise: see `outcome_of`.
        details: more about a check: the token's location and type. Never who it is.
    """

    __slots__ = ("details", "outcome")

    def __init__(self) -> None:
        self.outcome: str = "ok"
        self.details: dict[str, str] = {}


class Observer(Protocol):
    """Somebody who measures. It must not raise, and wait for nothing."""

    def measure(self, kind: Kind, name: str) -> AbstractContextManager[Measurement]:
        """Something begins; it ends with the context, by an error or not.

        Args:
            kind: what it is: the check of a request, a hook, a call of the store.
            name: which one, of a fixed set: "check", a hook's or a store method's name.
        """
        ...

    def store(self, store: Any) -> Any:
        """The same store, with each of its calls observed."""
        ...


def outcome_of(error: BaseException) -> str:
    """How something ended that raised: our error code, "cancelled", or "error" for the application's own."""
    if isinstance(error, JWTExtendedException):
        return error.error_code
    return "error" if isinstance(error, Exception) else "cancelled"


def kind_of(token_type: Any) -> str:
    """The type of a token as a label: purposes are the application's own, and may be many."""
    return token_type if token_type in (ACCESS, REFRESH) else "purpose"
