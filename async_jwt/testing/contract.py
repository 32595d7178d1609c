"""Building blocks of the store contracts: promises, tokens and expectations."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from async_jwt.stores.contract import Store, TokenRef, new_sid

__all__ = [
    "HOUR",
    "ContractViolation",
    "Promise",
    "any_name",
    "expect",
    "expect_alive",
    "expect_dead",
    "new_token",
]

Promise = Callable[[Any], Awaitable[None]]
"""A check that takes a store and raises `ContractViolation` if the store fails it."""

HOUR = 3600.0


class ContractViolation(AssertionError):
    """A store breaks a promise of its contract."""


def any_name() -> str:
    """Return a unique name."""
    return uuid.uuid4().hex


async def new_token(store: Store, identity: str | None = None, sid: str | None = None) -> TokenRef:
    """Create a token; `sid` is None, or "own" for a new session."""
    name = any_name() if identity is None else identity
    session = None if sid is None else new_sid(name)
    now = time.time()
    return TokenRef(name, any_name(), session, await store.stamp(name), now, now + HOUR)


async def expect_alive(store: Store, token: TokenRef, what: str) -> None:
    """Expect a token to be valid."""
    expect(await store.check(token), f"must be valid: {what}")


async def expect_dead(store: Store, token: TokenRef, what: str) -> None:
    """Expect a token to be invalid."""
    expect(not await store.check(token), f"must be invalid: {what}")


def expect(holds: bool, what: str) -> None:
    """Raise ContractViolation unless a promise holds."""
    if not holds:
        raise ContractViolation(what)
