"""A call without an answer, as opposed to one that the server, or we, refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any, TypeVar

from redis.exceptions import ResponseError

from async_jwt.errors import StoreUnavailableError

__all__ = [
    "OutageError",
    "RefusedError",
    "is_not_now",
    "misconfiguration",
    "name_of",
    "one_of_ones_own",
    "refusal",
    "settled",
]

T = TypeVar("T")


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


_NOT_NOW = frozenset(
    {"BUSY", "BusyLoadingError", "ClusterDownError", "LOADING", "MasterDownError", "TryAgainError"}
)
_FIXES = {
    "AuthenticationError": "correct the user and the password in JWT_STORE_URI",
    "AuthorizationError": "correct the user and the password in JWT_STORE_URI",
    "NoPermissionError": "give its user the rights that the operations guide lists",
    "WRONGTYPE": "something else writes at its keys: set another prefix, or give it a database of its own",
    "MovedError": "it is a node of a Cluster: write redis+cluster:// in JWT_STORE_URI",
}


def is_not_now(kind: str) -> bool:
    """Whether a server's error says that it will answer later, not that something is set up wrongly."""
    return kind in _NOT_NOW


def misconfiguration(command: Any, kind: str) -> str:
    """What to say of a check that a server refuses: the command, why, and the fix."""
    fix = _FIXES.get(
        kind, "Redis 6.2 or newer, or Valkey, is needed, and nothing between that changes commands"
    )
    return f"The revocation store refuses {command} ({kind}): {fix}"


def one_of_ones_own(problem: BaseException | None) -> StoreUnavailableError:
    """An error for one of several who waited for the same thing."""
    if isinstance(problem, StoreUnavailableError):
        return type(problem)(problem.detail)
    return StoreUnavailableError("The revocation store was closed, or failed")


def refusal(problem: ResponseError) -> RefusedError:
    """A server's error as ours."""
    kind = name_of(problem)
    return RefusedError(f"The revocation store refused: {kind}", kind)


def name_of(problem: Exception) -> str:
    """What went wrong, without what it was about: a reply may quote keys, and so identities."""
    kind = type(problem)
    if kind is not ResponseError:
        return kind.__name__
    code = str(problem).partition(" ")[0]
    return code if code.isascii() and code.isalpha() and code.isupper() else kind.__name__


async def settled(work: Iterable[Awaitable[T]]) -> list[T | StoreUnavailableError]:
    """Do some things at once, of which one that cannot be done stops no other.

    Returns:
        What becomes of each. An error of another kind is a mistake, and raised.
    """
    done: list[T | StoreUnavailableError] = []
    for outcome in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(outcome, BaseException) and not isinstance(outcome, StoreUnavailableError):
            raise outcome
        done.append(outcome)
    return done
