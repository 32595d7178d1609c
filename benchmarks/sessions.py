"""Rotations a second, against one written by hand with a lock; and pages of few and of many sessions.

In one process, without HTTP: what the library and the store take. Times are the wall's, since the
server has its part in them.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import jwt as pyjwt
import redis.asyncio
from quart import Quart

from async_jwt.adapters.quart import JWTManager
from async_jwt.core.authenticate import Authentication
from async_jwt.core.engine import Engine
from async_jwt.core.policy import Policy
from async_jwt.core.rotation import PairSpec, rotate
from async_jwt.stores import MemoryStore, Session, TokenRef
from async_jwt.stores.contract import SessionStore, new_sid
from async_jwt.stores.redis import RedisStore
from benchmarks.rows import Row
from benchmarks.servers import redis_server
from benchmarks.timing import Timed, compare, measure
from benchmarks.tokens import SECRET

ROUNDS = 60
AT_ONCE = 32
DAY = 86400
REFRESH = Policy.of(refresh=True)


async def run() -> list[Row]:
    """Time it all on one server."""
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as url:
        shared, memory = RedisStore(url, deadline=5), MemoryStore()
        by_hand = ByHand(redis.asyncio.Redis.from_url(url))
        ours, local = await Rotating.on(shared), await Rotating.on(memory)
        hand = Timed("by hand", by_hand.at_once)
        alone = Timed("by hand", by_hand.one_by_one)
        rows = await _compare(
            "One after the other",
            [
                Timed("ours, rotation", ours.one_by_one),
                Timed("ours, the same token again", ours.again),
                Timed("ours, rotation in memory", local.one_by_one),
                alone,
            ],
            alone,
        )
        rows += await _compare(
            f"{AT_ONCE} sessions at once", [Timed("ours, rotation", ours.at_once), hand], hand
        )
        for name, store in (("Redis", shared), ("memory", memory)):
            few, many = [await _pages(store, count) for count in (100, 10_000)]
            base = Timed("ours, a page of 100 of 100 sessions", few)
            pages = [base, Timed("ours, a page of 100 of 10,000", many)]
            rows += await _compare(f"Listing, {name}", pages, base)
        await by_hand.redis.aclose()
        await shared.close()
    return rows


async def _compare(group: str, cases: list[Timed], against: Timed) -> list[Row]:
    await measure(cases, rounds=ROUNDS, clock=time.perf_counter)
    return compare(group, cases, against)


@dataclass
class Rotating:
    """As many sessions as are rotated at once, each with its current refresh token."""

    engine: Engine
    tokens: list[str]

    @classmethod
    async def on(cls, store: SessionStore) -> Rotating:
        app = Quart("benchmark")
        app.config["JWT_SECRET_KEY"] = SECRET
        manager = JWTManager(app, store=store)
        pairs = [await manager.create_token_pair(f"user {number}") for number in range(AT_ONCE)]
        engine: Engine = app.extensions["async_jwt"].engine()
        return cls(engine, [pair.refresh_token for pair in pairs])

    async def refresh(self, token: str) -> str:
        verified = await self.engine.verify(token)
        header, claims = self.engine.codec.read(verified, self.engine.clock())
        identity = claims["sub"]
        held = Authentication(token, header, claims, identity, None, "headers", REFRESH)
        return (await rotate(self.engine, held, verified.ref, PairSpec(identity=identity))).refresh.token

    async def step(self, number: int) -> None:
        self.tokens[number] = await self.refresh(self.tokens[number])

    async def one_by_one(self, count: int) -> None:
        for number in itertools.islice(itertools.cycle(range(AT_ONCE)), count):
            await self.step(number)

    async def again(self, count: int) -> None:
        token = self.tokens[0]
        await self.step(0)
        for _ in range(count):
            await self.refresh(token)

    async def at_once(self, count: int) -> None:
        for _ in range(max(1, count // AT_ONCE)):
            await asyncio.gather(*(self.step(number) for number in range(AT_ONCE)))


class ByHand:
    """What applications write: a lock, the current jti, two tokens. No grace, no devices, no sign-out."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.redis = client
        self.current: dict[int, str] = {}

    def tokens(self, number: int) -> tuple[str, str, str]:
        now, jti = int(time.time()), str(uuid.uuid4())
        base = {"sub": f"user {number}", "iat": now, "nbf": now, "csrf": str(uuid.uuid4())}
        access = {**base, "type": "access", "jti": str(uuid.uuid4()), "exp": now + 900}
        refresh = {**base, "type": "refresh", "jti": jti, "exp": now + 30 * DAY}
        return jti, pyjwt.encode(access, SECRET), pyjwt.encode(refresh, SECRET)

    async def step(self, number: int) -> None:
        token = self.current.get(number)
        if token is None:
            jti, _, self.current[number] = self.tokens(number)
            await self.redis.set(f"hand:{number}", jti)
            return
        claims = pyjwt.decode(token, SECRET, algorithms=["HS256"])
        async with self.redis.lock(f"hand:lock:{number}", timeout=5, sleep=0.005):
            if await self.redis.get(f"hand:{number}") != claims["jti"].encode():
                raise RuntimeError("replayed")
            jti, _, self.current[number] = self.tokens(number)
            await self.redis.set(f"hand:{number}", jti, ex=30 * DAY)

    async def one_by_one(self, count: int) -> None:
        for number in itertools.islice(itertools.cycle(range(AT_ONCE)), count):
            await self.step(number)

    async def at_once(self, count: int) -> None:
        for _ in range(max(1, count // AT_ONCE)):
            await asyncio.gather(*(self.step(number) for number in range(AT_ONCE)))


async def _pages(store: SessionStore, count: int) -> Callable[[int], Awaitable[None]]:
    """Reads a page from the middle of so many sessions of one user."""
    identity = uuid.uuid4().hex
    stamp, now = await store.stamp(identity), time.time()
    for number in range(count):
        sid = new_sid(identity)
        ends = now + 30 * DAY
        session = Session(sid, identity, "phone", now, now + number, ends, ends, stamp, uuid.uuid4().hex)
        seen = await store.load_session(TokenRef(identity, None, sid, None, 0.0, None))
        await store.replace_session(session, seen)
    middle = None
    if count > 200:
        _, middle = await store.list_sessions(identity, count // 2, None)

    async def read(calls: int) -> None:
        for _ in range(calls):
            page, _ = await store.list_sessions(identity, 100, middle)
            if len(page) != 100:
                raise RuntimeError("a page is not full")

    return read
