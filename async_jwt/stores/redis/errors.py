"""Errors of store calls: no answer, or a refusal by the server or by us."""

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
    """The server does not answer or cannot be reached; `on_outage` applies."""


class RefusedError(StoreUnavailableError):
    """The server answered with a refusal.

    Attributes:
        kind: the name of the server's error.
        command: the refused command, if it is not the one that the caller sent.
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
    "NoPermissionError": "grant its user the permissions that the operations guide lists",
    "WRONGTYPE": "another program writes to its keys: set another prefix, or use a separate database",
    "MovedError": "it is a Cluster node: use redis+cluster:// in JWT_STORE_URI",
}


_FIXES_BY_COMMAND = {
    CLUSTER_SLOTS: "it is not a Cluster node: use redis:// in JWT_STORE_URI",
    SENTINEL_MASTER: "use the sentinels' own ports and service name in JWT_STORE_URI",
}


def is_not_now(kind: str) -> bool:
    """True if a server's error is temporary, False if it means a misconfiguration."""
    return kind in _NOT_NOW


def refuses_for_good(problem: BaseException | None) -> bool:
    """True if a server answered with an error that means a misconfiguration."""
    if not isinstance(problem, ResponseError | AuthenticationError | AuthorizationError):
        return False
    return not is_not_now(name_of(problem))


def misconfiguration(command: Any, kind: str) -> str:
    """Error text for a refused check: the command, the reason and the fix."""
    fix = _FIXES.get(kind) or _FIXES_BY_COMMAND.get(
        command, "use Redis 6.2 or newer, or Valkey, without a proxy that changes commands"
    )
    return f"The revocation store refuses {command} ({kind}): {fix}"


def fresh_copy(problem: BaseException | None) -> StoreUnavailableError:
    """Copy an exception so that each waiter raises its own instance."""
    if isinstance(problem, StoreUnavailableError):
        twin = type(problem)(problem.detail)
        twin.__dict__.update(problem.__dict__)
        return twin
    return StoreUnavailableError("The revocation store was closed or failed")


def refusal(problem: ResponseError) -> RefusedError:
    """Convert a server's error to a RefusedError."""
    kind = name_of(problem)
    return RefusedError(f"The revocation store refused: {kind}", kind)


def refused_for_good(command: str, problem: Exception) -> RefusedError:
    """The error to raise when sentinels or Cluster nodes refuse to say which server to use."""
    kind = name_of(problem)
    return RefusedError(misconfiguration(command, kind), kind, command)


def name_of(problem: Exception) -> str:
    """Name of an error without its message: a reply may quote keys, and so identities."""
    kind = type(problem)
    if kind is not ResponseError:
        return kind.__name__
    code = str(problem).partition(" ")[0]
    return code if code.isascii() and code.isalpha() and code.isupper() else kind.__name__


async def gather_settled(work: Iterable[Awaitable[T]]) -> list[T | StoreUnavailableError]:
    """Await several things concurrently; a StoreUnavailableError in one does not stop the others.

    Returns:
        The result of each, or its StoreUnavailableError. Any other exception is a bug and is raised.
    """
    done: list[T | StoreUnavailableError] = []
    for outcome in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(outcome, BaseException) and not isinstance(outcome, StoreUnavailableError):
            raise outcome
        done.append(outcome)
    return done
