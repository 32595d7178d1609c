"""A call without an answer, as opposed to one that the server, or we, refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any, TypeVar

from redis.exceptions import AuthenticationError, AuthorizationError, ResponseError

from async_jwt.errors import StoreUnavailableError

__all__ = [
    "CLUSTER_SLOTS",
    "SENTINEL_MASTER",
    "OutageError",
    "RefusedError",
    "fresh_copy",
    "gather_settled",
    "is_not_now",
    "misconfiguration",
    "name_of",
    "refusal",
    "refused_for_good",
    "refuses_for_good",
]

T = TypeVar("T")


class OutageError(StoreUnavailableError):
    """The server does not answer, or cannot be asked: what `on_outage` is about."""


class RefusedError(StoreUnavailableError):
    """The server answered, and refused.

    Attributes:
        kind: the name of its error.
        command: what it refused, where that is not the command that was to be sent.
    """

    def __init__(self, detail: str, kind: str = "", command: str = "") -> None:
        super().__init__(detail)
        self.kind = kind
        self.command = command


CLUSTER_SLOTS, SENTINEL_MASTER = "CLUSTER SLOTS", "SENTINEL MASTER"

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


_FIXES_BY_COMMAND = {
    CLUSTER_SLOTS: "it is no node of a Cluster: write redis:// in JWT_STORE_URI",
    SENTINEL_MASTER: "name the service in JWT_STORE_URI as the sentinels do, and the ports of sentinels",
}


def is_not_now(kind: str) -> bool:
    """Whether a server's error says that it will answer later, not that something is set up wrongly."""
    return kind in _NOT_NOW


def refuses_for_good(problem: BaseException | None) -> bool:
    """Whether a server answered with an error that says that something is set up wrongly."""
    if not isinstance(problem, ResponseError | AuthenticationError | AuthorizationError):
        return False
    return not is_not_now(name_of(problem))


def misconfiguration(command: Any, kind: str) -> str:
    """What to say of a check that a server refuses: the command, why, and the fix."""
    fix = _FIXES.get(kind) or _FIXES_BY_COMMAND.get(
        command, "Redis 6.2 or newer, or Valkey, is needed, and nothing between that changes commands"
    )
    return f"The revocation store refuses {command} ({kind}): {fix}"


def fresh_copy(problem: BaseException | None) -> StoreUnavailableError:
    """An error for one of several who waited for the same thing."""
    if isinstance(problem, StoreUnavailableError):
        twin = type(problem)(problem.detail)
        twin.__dict__.update(problem.__dict__)
        return twin
    return StoreUnavailableError("The revocation store was closed, or failed")


def refusal(problem: ResponseError) -> RefusedError:
    """A server's error as ours."""
    kind = name_of(problem)
    return RefusedError(f"The revocation store refused: {kind}", kind)


def refused_for_good(command: str, problem: Exception) -> RefusedError:
    """What to raise where those refuse who say which server to ask."""
    kind = name_of(problem)
    return RefusedError(misconfiguration(command, kind), kind, command)


def name_of(problem: Exception) -> str:
    """What went wrong, without what it was about: a reply may quote keys, and so identities."""
    kind = type(problem)
    if kind is not ResponseError:
        return kind.__name__
    code = str(problem).partition(" ")[0]
    return code if code.isascii() and code.isalpha() and code.isupper() else kind.__name__


async def gather_settled(work: Iterable[Awaitable[T]]) -> list[T | StoreUnavailableError]:
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
