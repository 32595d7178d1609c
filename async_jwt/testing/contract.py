"""A promise of a store, and how one is found broken."""

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
"""Called with a store."""

HOUR = 3600.0


class ContractViolation(AssertionError):
    """A store does not do what stores promise."""


def any_name() -> str:
    """A name that nobody else has."""
    return uuid.uuid4().hex


async def new_token(store: Store, identity: str | None = None, sid: str | None = None) -> TokenRef:
    """A token made now; `sid` is None or "own" for a session of its own."""
    name = any_name() if identity is None else identity
    session = None if sid is None else new_sid(name)
    now = time.time()
    return TokenRef(name, any_name(), session, await store.stamp(name), now, now + HOUR)


async def expect_alive(store: Store, token: TokenRef, what: str) -> None:
    """The token counts."""
    expect(await store.check(token), f"it counts: {what}")


async def expect_dead(store: Store, token: TokenRef, what: str) -> None:
    """The token does not count."""
    expect(not await store.check(token), f"it is dead: {what}")


def expect(holds: bool, what: str) -> None:
    """What is promised holds; BrokenPromise if not."""
    if not holds:
        raise ContractViolation(what)
