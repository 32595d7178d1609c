"""Building blocks of the store contracts: promises, tokens and expectations."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from functools import wraps
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
    "promised_by",
    "promises_of",
]

Promise = Callable[[Any], Awaitable[None]]
"""A check that takes a store and raises `ContractViolation` if the store fails it."""

HOUR = 3600.0


class ContractViolation(AssertionError):
    """A store breaks a promise of its contract."""


_NEEDS = "needs"


def promised_by(*protocols: type) -> Callable[[Promise], Promise]:
    """Mark a promise of stores that have some protocols. Any other store keeps it, as it promises nothing.

    `promises_of` says which promises a store makes.
    """

    def mark(promise: Promise) -> Promise:
        @wraps(promise)
        async def marked(store: Any) -> None:
            if _has(store, protocols):
                await promise(store)

        setattr(marked, _NEEDS, protocols)
        return marked

    return mark


def promises_of(store: Any, promises: Iterable[Promise]) -> tuple[Promise, ...]:
    """Return those of some promises that a store makes, by the methods that it has.

    Args:
        store: the store.
        promises: such as `store_contract`.
    """
    return tuple(promise for promise in promises if _has(store, getattr(promise, _NEEDS, ())))


def _has(store: Any, protocols: tuple[type, ...]) -> bool:
    return all(isinstance(store, protocol) for protocol in protocols)


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
