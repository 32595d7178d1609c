"""How soon a revocation is in force in other processes, and what a mirror of very many takes."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import redis

from async_jwt.stores import TokenRef
from async_jwt.stores.redis import RedisStore
from benchmarks.growth import fill
from benchmarks.rows import Row
from benchmarks.servers import redis_server

LISTENERS = 4
RATE, SECONDS = 1000, 5
MANY = 1_000_000


async def run() -> list[Row]:
    """Delays at 1,000 revocations a second; start-up and memory with 1,000,000."""
    with ExitStack() as stack:
        url = stack.enter_context(redis_server(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        rows = await _delays(url)
        client = redis.Redis.from_url(url)
        client.flushall()
        before = client.info("memory")["used_memory"]
        await _begun(url)
        fill(client, MANY)
        rows.append(Row("Memory", "on the server, for each revoked token", _bytes(client, before), "bytes"))
        for kind, most in (("one by one", 2 * MANY), ("filter", 100_000)):
            said = json.loads(_child("start", url, str(most)).communicate()[0])
            rows.append(Row("Start-up", f"with 1,000,000 revocations, {kind}", said["seconds"], "s"))
            rows.append(
                Row("Memory", f"in a process with 1,000,000, {kind}, for each", said["bytes"], "bytes")
            )
        return rows


async def _begun(url: str) -> None:
    store = RedisStore(url, deadline=5)
    await store.start()
    await store.close()


def _bytes(client: redis.Redis, before: int) -> float:
    used: int = client.info("memory")["used_memory"]
    return (used - before) / MANY


async def _delays(url: str) -> list[Row]:
    store = RedisStore(url, deadline=5)
    stamp = await store.stamp("alice")
    listeners = [_child("listen", url, stamp) for _ in range(LISTENERS)]
    await asyncio.gather(*(asyncio.to_thread(child.stdout.readline) for child in listeners if child.stdout))
    done = []
    began = time.monotonic()
    for number in range(RATE * SECONDS):
        await asyncio.sleep(max(0.0, began + number / RATE - time.monotonic()))
        await store.revoke_token(_ref(number, stamp))
        done.append(time.monotonic())
    rate = len(done) / (time.monotonic() - began)
    await store.close()
    texts = await asyncio.gather(*(asyncio.to_thread(child.communicate) for child in listeners))
    heard = [json.loads(text) for text, _ in texts]
    delays = [max(0.0, at - then) for times in heard for at, then in zip(times, done, strict=True)]
    what = f"In force in {LISTENERS} other processes after a revocation returned, at {rate:.0f} a second"
    return [
        Row(what, "half of them", statistics.median(delays) * 1e3, "ms"),
        Row(what, "99 of 100", statistics.quantiles(delays, n=100)[-1] * 1e3, "ms"),
        Row(what, "all", max(delays) * 1e3, "ms"),
    ]


def _ref(number: int, stamp: str) -> TokenRef:
    return TokenRef(f"user {number % 500}", f"token {number}", None, stamp, 0.0, time.time() + 600)


def _child(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.mirror", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


async def _live(store: RedisStore) -> None:
    await store.start()
    while store.status().staleness is None:
        await asyncio.sleep(0.002)


async def _listen(url: str, stamp: str) -> None:
    """Says when each of the tokens was refused."""
    store = RedisStore(url, deadline=5, mirror=True)
    await _live(store)
    print("ready", flush=True)
    heard: list[float] = []
    while len(heard) < RATE * SECONDS:
        while len(heard) < RATE * SECONDS and not await store.check(_ref(len(heard), stamp)):
            heard.append(time.monotonic())
        await asyncio.sleep(0.001)
    print(json.dumps(heard))
    await store.close()


async def _start(url: str, most: int) -> None:
    """Says how long it takes until a mirror answers, and how much the process grew."""
    store = RedisStore(url, deadline=5, mirror=True, mirror_max=most)
    await store.stamp("alice")
    before, began = _memory(), time.perf_counter()
    await _live(store)
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "bytes": (_memory() - before) / MANY}))
    await store.close()


def _memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    kind, where, what = sys.argv[1:]
    asyncio.run(_listen(where, what) if kind == "listen" else _start(where, int(what)))
