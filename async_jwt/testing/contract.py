"""Building blocks of the store contracts: promises, tokens and expectations."""

from __future__ import annotations

import asyncio
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
    "expect_no_survivor",
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


async def expect_no_survivor(store: Store, old: TokenRef, revocation: Awaitable[Any]) -> None:
    """Expect that what is issued during a revocation, while `old` is still valid, is dead after it.

    Args:
        store: the store.
        old: a token that the revocation ends.
        revocation: the call, not yet started.
    """
    made: list[TokenRef] = []
    is_over = asyncio.Event()

    async def issue() -> None:
        while not is_over.is_set():
            stamp = await store.stamp(old.identity)
            if await store.check(old):  # in this order, as a request makes sure before it hands out a token
                made.append(old._replace(jti=any_name(), gen=stamp))
            await asyncio.sleep(0)

    async def revoke() -> None:
        try:
            await revocation
        finally:
            is_over.set()

    await asyncio.gather(*(issue() for _ in range(8)), revoke())
    for token in made:
        await expect_dead(store, token, "a token issued before a revocation, while an older one was valid")


def expect(holds: bool, what: str) -> None:
    """Raise ContractViolation unless a promise holds."""
    if not holds:
        raise ContractViolation(what)
