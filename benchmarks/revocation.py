"""What revocation leaves of an open view's throughput: real servers, a real load generator.

All cases of a round follow each other within seconds, and each figure is a ratio to the open
view of the same server in the same round.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis

from async_jwt.stores.redis import RedisStore
from benchmarks.load import generate, generator
from benchmarks.servers import free_port, process, redis_server
from benchmarks.tokens import token

CONCURRENCIES = (1, 32, 128)
ROUNDS = 6
SECONDS = 1
TOKENS = USERS = 200
MANY_TOKENS = 8000
"""More than the memory of verified tokens holds, so that each is verified anew."""

HYPERCORN = ["hypercorn", "benchmarks.revocation_apps:quart_app()", "--workers", "1", "--bind"]
MIRROR = ["hypercorn", "benchmarks.revocation_apps:mirror_app()", "--workers", "1", "--bind"]
GUNICORN = ["gunicorn", "benchmarks.revocation_apps:flask_app()", "-k", "gthread", "--threads", "32", "-b"]
CASES = (
    ("no revocation", HYPERCORN, "/unchecked", False),
    ("ours, coalesced", HYPERCORN, "/ours", False),
    ("ours, coalesced, each token verified anew", HYPERCORN, "/ours", True),
    ("ours, mirror", MIRROR, "/ours", False),
    ("ours, mirror, each token verified anew", MIRROR, "/ours", True),
    ("PyJWT and redis-py GET by hand", HYPERCORN, "/by-hand", False),
    ("Flask-JWT-Extended and redis-py, gunicorn with 32 threads", GUNICORN, "/theirs", False),
)


async def run() -> list[dict[str, Any]]:
    """Throughput kept at each concurrency, and how many commands a request cost."""
    print(f"Load: {generator()}")
    return await asyncio.to_thread(_run)


def _run() -> list[dict[str, Any]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = stack.enter_context(redis_server(folder))
        few, many = folder / "few", folder / "many"
        stamp = asyncio.run(_stamp(store))
        texts = (token(gen=stamp, sub=f"user {number % USERS}") for number in range(MANY_TOKENS))
        many.write_text("\n".join(texts))
        few.write_text("\n".join(many.read_text().splitlines()[:TOKENS]))
        kinds = (HYPERCORN, MIRROR, GUNICORN)
        servers = {kind[1]: stack.enter_context(_serving(kind, store)) for kind in kinds}
        counter = redis.Redis.from_url(store)
        return [
            row
            for concurrency in CONCURRENCIES
            for row in _compare(concurrency, servers, counter, few=few, many=many)
        ]


def _compare(
    concurrency: int, servers: dict[str, str], counter: redis.Redis, *, few: Path, many: Path
) -> list[dict[str, Any]]:
    kept: dict[str, list[float]] = {case[0]: [] for case in CASES}
    rates: dict[str, list[float]] = {case[0]: [] for case in CASES}
    commands: dict[str, list[float]] = {case[0]: [] for case in CASES}
    order = list(CASES)
    for _ in range(ROUNDS):
        random.shuffle(order)
        for name, kind, path, each_new in order:
            url, tokens = servers[kind[1]], many if each_new else few
            # The open view before and after: other tenants of the machine come and go within seconds.
            opened = [generate(f"{url}/open", few, concurrency, SECONDS).rate]
            before = _calls(counter)
            load = generate(url + path, tokens, concurrency, SECONDS)
            commands[name].append((_calls(counter) - before) / load.requests)
            opened.append(generate(f"{url}/open", few, concurrency, SECONDS).rate)
            rates[name].append(load.rate)
            kept[name].append(load.rate / statistics.mean(opened))
    return [
        {
            "case": f"{concurrency} at once: {name}; {statistics.median(commands[name]):.3f} commands each",
            "us": round(1e6 / statistics.median(rates[name]), 1),
            "against": "the open view's throughput",
            "ratio": round(statistics.median(kept[name]), 3),
            "p10": round(statistics.quantiles(kept[name], n=10)[0], 3),
            "p90": round(statistics.quantiles(kept[name], n=10)[-1], 3),
        }
        for name, *_ in CASES
    ]


def _calls(counter: redis.Redis) -> int:
    """How many MGET, GET and EVALSHA the server was sent."""
    stats = counter.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("mget", "get", "evalsha"))


async def _stamp(url: str) -> str:
    store = RedisStore(url)
    stamp = await store.stamp("alice")
    await store.close()
    return stamp


@contextmanager
def _serving(command: list[str], store: str) -> Iterator[str]:
    url = f"127.0.0.1:{free_port()}"
    with process([sys.executable, "-m", *command, url], STORE=store):
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://{url}/open").close()
            except urllib.error.URLError:
                time.sleep(0.05)
            else:
                break
        yield f"http://{url}"
