"""A call without an answer, as opposed to one that the server, or we, refused."""

from __future__ import annotations

from async_jwt.errors import StoreUnavailableError

__all__ = ["OutageError", "RefusedError", "one_of_ones_own"]


class OutageError(StoreUnavailableError):
    """The server does not answer, or cannot be asked: what `on_outage` is about."""


class RefusedError(StoreUnavailableError):
    """The server answered, and refused.

    Attributes:
        kind: the name of its error.
    """

    def __init__(self, detail: str, kind: str = "") -> None:
        super().__init__(detail)
        self.kind = kind


def one_of_ones_own(problem: BaseException | None) -> StoreUnavailableError:
    """An error for one of several who waited for the same thing."""
    if isinstance(problem, StoreUnavailableError):
        return type(problem)(problem.detail)
    return StoreUnavailableError("The revocation store was closed, or failed")
