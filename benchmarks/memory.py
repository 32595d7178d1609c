"""What is kept in memory: bytes that Python allocates, as `tracemalloc` counts them.

Of a remembered token its text counts as well. Python's own containers grow in steps, so the figures are
averages over many. `python -m benchmarks mirror` says what a million revocations take.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import redis
from flask import Flask
from quart import Quart

from async_jwt import Key, KeyRing
from async_jwt.adapters import flask_sync, quart
from async_jwt.core.codec import Codec
from async_jwt.core.settings import Settings
from async_jwt.stores import MemoryStore, Session, TokenRef
from async_jwt.stores.contract import new_sid
from async_jwt.stores.redis import RedisStore
from benchmarks.growth import fill
from benchmarks.rows import Row
from benchmarks.servers import redis_server
from benchmarks.tokens import SECRET, token

__all__ = ["run"]

TOKENS = 10_000
REVOKED = 100_000
APPS = 20
LATER = time.time() + 3600


async def run() -> list[Row]:
    """Bytes for each of what is kept."""
    rows = [
        Row("Kept for each", "remembered token, its text included", await _each(_remember, TOKENS), "bytes"),
        Row("Kept for each", "revoked token in MemoryStore", await _each(_revoke, TOKENS), "bytes"),
        Row("Kept for each", "session in MemoryStore", await _each(_begin_sessions, TOKENS), "bytes"),
        Row("Kept for each", "revoked token in a mirror", await _each_mirrored(), "bytes"),
    ]
    for name, framework, manager in (
        ("Quart", Quart, quart.JWTManager),
        ("Flask", Flask, flask_sync.JWTManager),
    ):
        bare = await _each(lambda count, make=framework: _applications(count, make), APPS)
        full = await _each(lambda count, make=framework, by=manager: _applications(count, make, by), APPS)
        rows.append(Row("An idle application", f"{name}, bare", bare / 1024, "KiB"))
        rows.append(
            Row("An idle application", f"{name}, what a JWTManager adds", (full - bare) / 1024, "KiB")
        )
    return rows


async def _each(make: Callable[[int], Awaitable[Any]], count: int) -> float:
    """What each of so many takes, once a few were made."""
    await make(2)
    gc.collect()
    tracemalloc.start()
    kept = None
    try:
        kept = await make(count)
        gc.collect()
        return tracemalloc.get_traced_memory()[0] / count
    finally:
        del kept
        tracemalloc.stop()


async def _remember(count: int) -> Any:
    codec = Codec(Settings.from_config({"JWT_TOKEN_CACHE_SIZE": 2 * count}))
    keys = KeyRing(Key(SECRET)).at(time.time())
    for number in range(count):
        codec.verify(token(sub=f"user {number}"), keys)
    return codec


async def _revoke(count: int) -> Any:
    store = MemoryStore()
    for number in range(count):
        await store.revoke_token(TokenRef("alice", f"{number:032x}", None, None, 0.0, LATER))
    return store


async def _begin_sessions(count: int) -> Any:
    store = MemoryStore()
    for number in range(count):
        identity = f"user {number}"
        sid, now = new_sid(identity), time.time()
        seen = await store.load_session(TokenRef(identity, None, sid, None, 0.0, None))
        session = Session(sid, identity, "phone", now, now, LATER, LATER, "m.0.0", f"{number:032x}")
        await store.replace_session(session, seen)
    return store


async def _each_mirrored() -> float:
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as url:
        first = RedisStore(url, deadline=5)
        await first.stamp("alice")
        await first.close()
        fill(redis.Redis.from_url(url), REVOKED)

        async def mirrored(_count: int) -> Any:
            store = RedisStore(url, deadline=30, mirror=True, mirror_max=2 * REVOKED)
            await store.start()
            while store.status().staleness is None:
                await asyncio.sleep(0.01)
            return store

        return await _each(mirrored, REVOKED)


async def _applications(count: int, make: Any, by: Any = None) -> Any:
    found = []
    for _ in range(count):
        app = make("benchmark")
        app.config["JWT_SECRET_KEY"] = SECRET
        if by is not None:
            manager = by(app)
            manager.keys.at(time.time())
        found.append(app)
    return found
