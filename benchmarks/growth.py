"""What a check costs as revocations and processes grow, and what a frozen server does to other views.

Ratios of rounds that take turns. The server is a real one, in a process of its own.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import redis

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores import TokenRef
from async_jwt.stores.redis import RedisStore
from benchmarks.rows import Row
from benchmarks.servers import process, redis_server
from benchmarks.timing import ratios

SIZES = (100, 10_000, 1_000_000)
PROCESSES = (1, 8)
ROUNDS = 30
CHECKS = 400

FILL = """
for number = tonumber(ARGV[2]), tonumber(ARGV[3]) do
  redis.call('SET', string.format('%s{%02x}:jti:%032x', ARGV[1], number % 256, number), '1', 'PX', 3600000)
end
"""


def fill(client: redis.Redis, count: int, first: int = 0) -> None:
    """Have a server hold so many revoked tokens."""
    for start in range(first, count, 50_000):
        client.eval(FILL, 0, "async_jwt:", start, min(start + 50_000, count) - 1)


async def run() -> list[Row]:
    """Growth with revocations, with processes; the loop's delay while the server is frozen."""
    return [*await _with_revocations(), *await _with_processes(), *await _while_frozen()]


async def _with_revocations() -> list[Row]:
    with ExitStack() as stack:
        urls = {size: _server(stack) for size in SIZES}
        stores: dict[tuple[str, int], RedisStore] = {}
        for size, url in urls.items():
            fill(redis.Redis.from_url(url), size)
            stores["asked", size] = await _started(RedisStore(url, deadline=5))
            stores["mirrored, one by one", size] = await _started(
                RedisStore(url, deadline=5, mirror=True, mirror_max=2_000_000)
            )
            stores["mirrored, a filter beyond 100,000", size] = await _started(
                RedisStore(url, deadline=5, mirror=True)
            )
        rows = []
        for kind in ("asked", "mirrored, one by one", "mirrored, a filter beyond 100,000"):
            cases = {size: await _checker(stores[kind, size]) for size in SIZES}
            rows += await _compare(f"A check, {kind}", "ours, beside {} revocations", cases)
        for store in stores.values():
            await store.close()
    return rows


async def _with_processes() -> list[Row]:
    with ExitStack() as stack:
        urls = {count: _server(stack) for count in PROCESSES}
        cases: dict[str, dict[int, Any]] = {"asked": {}, "mirrored": {}}
        stores = []
        for count, url in urls.items():
            for kind, mirror in (("asked", False), ("mirrored", True)):
                stores.append(await _started(RedisStore(url, deadline=5, mirror=mirror)))
                cases[kind][count] = await _checker(stores[-1])
            for _ in range(count - 1):
                stack.enter_context(process([sys.executable, "-m", "benchmarks.growth"], STORE=url))
        await asyncio.sleep(3)  # until they are up
        rows = []
        for kind, case in cases.items():
            rows += await _compare(
                f"A check, {kind}, beside other processes", "ours, {} processes with a mirror in all", case
            )
        for store in stores:
            await store.close()
    return rows


async def _while_frozen() -> list[Row]:
    """How late a task that sleeps is woken, while 32 others check tokens in turn with it."""
    with ExitStack() as stack:
        url = _server(stack)
        pid = redis.Redis.from_url(url).info("server")["process_id"]
        delays: dict[str, list[float]] = {"frozen": [], "normal": []}
        for mirror in (False, True):
            store = await _started(RedisStore(url, mirror=mirror))
            ref = TokenRef("alice", "jti", None, await store.stamp("alice"), 0.0, time.time() + 600)
            for _ in range(ROUNDS // 4):
                delays["normal"].append(await _delay(store, ref))
                os.kill(pid, signal.SIGSTOP)
                try:
                    delays["frozen"].append(await _delay(store, ref))
                finally:
                    os.kill(pid, signal.SIGCONT)
                await asyncio.sleep(1)
            await store.close()
        frozen, normal = delays["frozen"], delays["normal"]
        return [_row("Other tasks", "ours, their delay while the server is frozen", frozen, normal, "normal")]


async def _delay(store: RedisStore, ref: TokenRef) -> float:
    until = time.perf_counter() + 0.8

    async def check() -> None:
        while time.perf_counter() < until:
            with suppress(StoreUnavailableError):
                await store.check(ref)
            await asyncio.sleep(0.005)

    async def sleep() -> float:
        late = []
        while (began := time.perf_counter()) < until:
            await asyncio.sleep(0.002)
            late.append((time.perf_counter() - began) * 1e6)
        return statistics.mean(late)

    return (await asyncio.gather(sleep(), *(check() for _ in range(32))))[0]


async def _checker(store: RedisStore) -> Callable[[], Awaitable[float]]:
    ref = TokenRef("alice", "jti", None, await store.stamp("alice"), 0.0, time.time() + 3600)

    async def check() -> float:
        began = time.perf_counter()
        for _ in range(CHECKS):
            await store.check(ref)
        return (time.perf_counter() - began) / CHECKS * 1e6

    return check


async def _compare(group: str, name: str, cases: dict[int, Callable[[], Awaitable[float]]]) -> list[Row]:
    times: dict[int, list[float]] = {size: [] for size in cases}
    for _ in range(ROUNDS):
        for size, check in cases.items():
            times[size].append(await check())
    first = next(iter(cases))
    return [_row(group, name.format(f"{size:,}"), times[size], times[first], f"{first:,}") for size in cases]


def _row(group: str, name: str, times: list[float], base: list[float], against: str) -> Row:
    return Row(group, name, statistics.median(times), "us", against, *ratios(times, base))


def _server(stack: ExitStack) -> str:
    return stack.enter_context(redis_server(Path(stack.enter_context(tempfile.TemporaryDirectory()))))


async def _started(store: RedisStore) -> RedisStore:
    await store.start()
    if store.status().mirrored is not None:
        while store.status().staleness is None:
            await asyncio.sleep(0.01)
    return store


async def _attend() -> None:
    """One of several processes: a mirror, and now and then a check."""
    store = await _started(RedisStore(os.environ["STORE"], deadline=5, mirror=True))
    check = await _checker(store)
    while True:
        await check()
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    asyncio.run(_attend())
