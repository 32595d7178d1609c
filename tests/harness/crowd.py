"""Those who use a store all the time, and know what it must not say."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores import TokenRef
from async_jwt.stores.contract import new_sid
from async_jwt.stores.redis import RedisStore

WINDOW = 400

T = TypeVar("T")


class Held:
    """A token, and what a model of one line knows of it."""

    def __init__(self, ref: TokenRef) -> None:
        self.ref = ref
        self.touched = False
        """Whether anybody has tried to revoke it, with whatever outcome."""
        self.revoked = False
        """Whether a revocation of it has been answered as done."""
        self.revoked_at = 0.0
        self.revoked_by: RedisStore | None = None


class Crowd:
    """Checks tokens and revokes some, and remembers what was answered.

    Args:
        stores: what they use.
        seed: of what they do.
        lag: seconds by which a store may be behind the others.

    Attributes:
        count: what was answered, how often.
        wrong: what must not have been.
        slowest: how many seconds a check took at most.
    """

    def __init__(self, stores: Sequence[RedisStore], seed: int = 7, lag: float = 0.0) -> None:
        self.stores = stores
        self.lag = lag
        self.chance = random.Random(seed)
        self.held: deque[Held] = deque(maxlen=WINDOW)
        self.count: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.slowest = 0.0
        self._ends = 0.0

    def store(self) -> RedisStore:
        return self.chance.choice(self.stores)

    async def sign_in(self) -> None:
        name = f"user {self.chance.randrange(10**9)}"
        with contextlib.suppress(StoreUnavailableError):
            gen = await self.store().stamp(name)
            ref = TokenRef(name, uuid.uuid4().hex, new_sid(name), gen, 0.0, time.time() + 600)
            self.held.append(Held(ref))

    async def check(self, until: float | None = None) -> None:
        while time.monotonic() < (until or self._ends):
            if len(self.held) < WINDOW or self.chance.random() < 0.02:
                await self.sign_in()
            if not self.held:
                await asyncio.sleep(0.001)
                continue
            held = self.chance.choice(self.held)
            store, began = self.store(), time.monotonic()
            was_revoked = held.revoked and (held.revoked_by is store or began - held.revoked_at >= self.lag)
            try:
                counts = await store.check(held.ref)
            except StoreUnavailableError:
                self.count["503"] += 1
                await asyncio.sleep(0.001)
                continue
            finally:
                self.slowest = max(self.slowest, time.monotonic() - began)
            self.count["200" if counts else "401"] += 1
            if was_revoked and counts:
                self.wrong.append(f"a revoked token was accepted: {held.ref}")
            if not counts and not held.touched:
                self.wrong.append(f"a token that nobody revoked was refused: {held.ref}")
            if self.lag:
                staleness = store.status().staleness
                self.count["asked" if staleness is None else "mirrored"] += 1
                if (staleness or 0.0) > self.lag:
                    self.wrong.append(f"it may be {staleness} seconds behind")
                await asyncio.sleep(0)  # what asks nobody waits for nobody

    async def revoke(self, until: float | None = None) -> None:
        while time.monotonic() < (until or self._ends):
            await asyncio.sleep(self.chance.random() * 0.02)
            if not self.held:
                continue
            held = self.chance.choice(self.held)
            held.touched = True
            store, ref = self.store(), held.ref
            way = self.chance.choice(["token", "session", "user"])
            try:
                if way == "token":
                    await store.revoke_token(ref)
                elif way == "session":
                    await store.revoke_session(str(ref.sid), ref.expires_at)
                else:
                    await store.revoke_user(ref.identity)
            except StoreUnavailableError:
                self.count["not revoked"] += 1
            else:
                held.revoked_at, held.revoked_by = time.monotonic(), store
                held.revoked = True
                self.count["revoked"] += 1

    async def use(self, seconds: float = 120.0, checkers: int = 8, revokers: int = 2) -> None:
        """Use the store for a while, or until `leave`."""
        self._ends = time.monotonic() + seconds
        await asyncio.gather(
            *(self.check() for _ in range(checkers)), *(self.revoke() for _ in range(revokers))
        )

    def leave(self) -> None:
        """Use it no more, once what is under way is answered."""
        self._ends = 0.0

    async def all_hold(self) -> None:
        """What was answered as done is in force, and nobody else was signed out."""
        for held in list(self.held):
            counts = await self.store().check(held.ref)
            assert not (counts and held.revoked), "a revocation that was done is lost"
            assert counts or held.touched, "a token that nobody revoked was refused"


async def comes(true: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Wait until something is so, however busy the machine is."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, what
        await asyncio.sleep(0.01)


async def answered(call: Callable[[], Awaitable[T]], seconds: float = 5.0) -> T:
    """What a store says once it can be asked again."""
    until = time.monotonic() + seconds
    while True:
        try:
            return await call()
        except StoreUnavailableError:
            assert time.monotonic() < until, "it does not come back"
            await asyncio.sleep(0.01)
