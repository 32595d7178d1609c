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
from dataclasses import dataclass
from pathlib import Path

import redis

from async_jwt.stores.redis import RedisStore
from benchmarks.load import generate, generator
from benchmarks.rows import Row
from benchmarks.servers import free_port, process, redis_server
from benchmarks.timing import deciles
from benchmarks.tokens import MANY, token

ROUNDS = {1: 2, 32: 6, 128: 2}
"""How often each is timed, by how many requests are under way at once."""
SECONDS = 1
TOKENS = USERS = 200

HYPERCORN, UVICORN, GUNICORN = "Hypercorn", "Uvicorn", "gunicorn with 32 threads"
_QUART, _MIRROR, _FLASK, _THEIRS = "quart_app", "mirror_app", "flask_app", "their_app"
COMMANDS = {
    HYPERCORN: "hypercorn benchmarks.revocation_apps:{app}() --workers 1 --bind {address}",
    UVICORN: "uvicorn --factory benchmarks.revocation_apps:{app} --log-level warning "
    "--host 127.0.0.1 --port {port}",
    GUNICORN: "gunicorn benchmarks.revocation_apps:{app}() -k gthread --threads 32 -b {address}",
}


@dataclass(frozen=True)
class Case:
    """One protected view: who serves it, and whether its tokens are too many to be remembered."""

    server: str
    app: str
    name: str
    path: str
    each_new: bool = False


CASES = (
    Case(HYPERCORN, _QUART, "ours, revocation not checked", "/unchecked"),
    Case(HYPERCORN, _QUART, "ours, coalesced", "/ours"),
    Case(HYPERCORN, _QUART, "ours, coalesced, each token verified anew", "/ours", each_new=True),
    Case(HYPERCORN, _QUART, "PyJWT and redis-py GET by hand", "/by-hand"),
    Case(HYPERCORN, _MIRROR, "ours, mirror", "/ours"),
    Case(HYPERCORN, _MIRROR, "ours, mirror, each token verified anew", "/ours", each_new=True),
    Case(UVICORN, _QUART, "ours, coalesced", "/ours"),
    Case(UVICORN, _QUART, "PyJWT and redis-py GET by hand", "/by-hand"),
    Case(UVICORN, _MIRROR, "ours, mirror", "/ours"),
    Case(GUNICORN, _FLASK, "ours, coalesced", "/ours"),
    Case(GUNICORN, _THEIRS, "Flask-JWT-Extended and redis-py", "/theirs"),
)


async def run() -> list[Row]:
    """Throughput kept at each concurrency, and how many commands a request cost."""
    print(f"Load: {generator()}")
    return await asyncio.to_thread(_run)


def _run() -> list[Row]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = stack.enter_context(redis_server(folder))
        few, many = folder / "few", folder / "many"
        stamp = asyncio.run(_stamp(store))
        # Twice as many: half of them go to each of several cases in turn, and none is remembered.
        texts = (token(gen=stamp, sub=f"user {number % USERS}") for number in range(2 * MANY))
        many.write_text("\n".join(texts))
        few.write_text("\n".join(many.read_text().splitlines()[:TOKENS]))
        kinds = dict.fromkeys((case.server, case.app) for case in CASES)
        urls = {kind: stack.enter_context(_serving(*kind, store)) for kind in kinds}
        counter = redis.Redis.from_url(store)
        return [
            row
            for concurrency, rounds in ROUNDS.items()
            for row in _compare(concurrency, rounds, urls, counter, few=few, many=many)
        ]


def _compare(
    concurrency: int,
    rounds: int,
    urls: dict[tuple[str, str], str],
    counter: redis.Redis,
    *,
    few: Path,
    many: Path,
) -> list[Row]:
    kept: dict[Case, list[float]] = {case: [] for case in CASES}
    rates: dict[Case, list[float]] = {case: [] for case in CASES}
    commands: dict[Case, list[float]] = {case: [] for case in CASES}
    kinds = list(urls)
    for _ in range(rounds):
        random.shuffle(kinds)
        for kind in kinds:
            cases = [case for case in CASES if (case.server, case.app) == kind]
            random.shuffle(cases)
            # The open view before and after each: other tenants of the machine come and go in seconds.
            opened = generate(f"{urls[kind]}/open", few, concurrency, SECONDS).rate
            for case in cases:
                before = _calls(counter)
                load = generate(urls[kind] + case.path, many if case.each_new else few, concurrency, SECONDS)
                commands[case].append((_calls(counter) - before) / load.requests)
                again = generate(f"{urls[kind]}/open", few, concurrency, SECONDS).rate
                rates[case].append(load.rate)
                kept[case].append(load.rate / statistics.mean((opened, again)))
                opened = again
    return [
        Row(
            f"{concurrency} at once, {case.server}",
            f"{case.name}; {statistics.median(commands[case]):.3f} commands each",
            statistics.median(rates[case]),
            "requests/s",
            "the open view's throughput",
            statistics.median(kept[case]),
            *(deciles(kept[case]) if rounds > 3 else (None, None)),
        )
        for case in CASES
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
def _serving(server: str, app: str, store: str) -> Iterator[str]:
    port = free_port()
    command = COMMANDS[server].format(app=app, address=f"127.0.0.1:{port}", port=port)
    with process([sys.executable, "-m", *command.split()], STORE=store):
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/open").close()
            except urllib.error.URLError:
                time.sleep(0.05)
            else:
                break
        yield f"http://127.0.0.1:{port}"
