"""A protected application, and a server of its own to break."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores import TokenRef
from async_jwt.stores.redis import RedisStore
from tests.harness.applications import QuartHarness
from tests.harness.fleets import ClusterOfServers, until
from tests.harness.servers import RedisServer, free_port
from tests.harness.wire import Wire

DEADLINE = 0.25


class World:
    """An application on a store behind a wire, and who uses it."""

    def __init__(self, server: RedisServer, wire: Wire, url: str, **options: Any) -> None:
        self.server = server
        self.wire = wire
        self.url = url
        self.store = RedisStore(url, deadline=DEADLINE, poll=60, **options)
        self.app = QuartHarness(store=self.store)
        self.victims = 0
        self.done: list[str] = []

    async def settle(self) -> None:
        """Two users with a token each, one signed out, however often a busy machine's server pauses."""
        await self.app.jwt.start()
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(StoreUnavailableError):
                await self._settle()
                if await self.statuses() == {200}:
                    return
            assert time.monotonic() < end, "the server does not answer"
            await asyncio.sleep(0.05)

    async def _settle(self) -> None:
        self.good = await self.app.mint("good")
        self.ref = TokenRef("good", "jti", None, await self.store.stamp("good"), 0.0, None)
        self.revoked = await self.app.mint("revoked")
        self.ended = await self.app.mint("good")
        self.kept = await self.app.jwt.create_token_pair("good")
        await self.app.jwt.revoke_user("revoked")
        await self.app.jwt.revoke_token(self.ended)
        await self.app.jwt.store.revoke_session(self.kept.sid, None)

    def dead(self) -> list[str]:
        return [self.revoked, self.ended, self.kept.access_token]

    async def statuses(self) -> set[int]:
        """What the good user gets, after a look at those who must not."""
        for token in self.dead():
            assert (await self.app.call(token=token)).status in (401, 503)
        return {(await self.app.call(token=self.good)).status}

    async def burst(self, count: int = 8) -> Burst:
        """Many requests at once, good and bad, and a revocation among them."""
        burst = Burst()
        dead = self.dead()
        calls = [burst.call(self, self.good, dead=False) for _ in range(count)]
        calls += [burst.call(self, dead[turn % len(dead)], dead=True) for turn in range(count)]
        await asyncio.gather(*calls, self.revoke(burst))
        return burst

    async def timed_check(self) -> float:
        """How long the store takes for one check, in seconds."""
        started = time.perf_counter()
        with contextlib.suppress(StoreUnavailableError):
            await self.store.check(self.ref)
        return time.perf_counter() - started

    async def revoke(self, burst: Burst) -> None:
        """Sign a user out of whom nothing else is known; remember what was answered as done."""
        self.victims += 1
        name = f"victim {self.victims}"
        try:
            await self.store.revoke_user(name)
        except StoreUnavailableError:
            burst.revoked[503] += 1
        else:
            burst.revoked[200] += 1
            self.done.append(name)

    async def all_done_hold(self) -> None:
        """What was answered as done is known to another process that never saw it."""
        other = RedisStore(self.url, deadline=5)
        for name in self.done:
            old = TokenRef(name, None, None, None, 1.0, None)
            assert not await other.check(old), f"the revocation of {name} was lost"
        await other.close()


@dataclass
class Burst:
    """What many requests were answered, and how long they took, in seconds."""

    good: Counter = field(default_factory=Counter)
    dead: Counter = field(default_factory=Counter)
    revoked: Counter = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)

    async def call(self, world: World, token: str, *, dead: bool) -> None:
        started = time.perf_counter()
        answer = await world.app.call(token=token)
        self.times.append(time.perf_counter() - started)
        (self.dead if dead else self.good)[answer.status] += 1
        if answer.status == 503:
            assert answer.code == "store_unavailable"
            assert answer.headers["Retry-After"] == "1"


@contextlib.asynccontextmanager
async def world_of(server: RedisServer, **options: Any) -> AsyncIterator[World]:
    """A world whose servers are one, or one that a sentinel names, or a Cluster of one.

    The sentinel, and the node itself, name the wire.
    """
    async with Wire(server.port).open(getattr(server, "wire_port", 0)) as wire:
        with named_by_sentinel(server, wire) as sentinel:
            url = wire.url
            if sentinel is not None:
                url = f"redis+sentinel://127.0.0.1:{sentinel.port}/shop"
            elif hasattr(server, "wire_port"):
                url = wire.url.replace("redis:", "redis+cluster:")
            world = World(server, wire, url, **options)
            await world.settle()
            try:
                yield world
            finally:
                await world.store.close()


@contextlib.contextmanager
def named_by_sentinel(server: RedisServer, wire: Wire) -> Iterator[RedisServer | None]:
    """A sentinel that names a wire, if the server wants one."""
    if not getattr(server, "wants_sentinel", False):
        yield None
        return
    folder = server.folder / uuid.uuid4().hex
    folder.mkdir()
    config = folder / "sentinel.conf"
    config.write_text(f"sentinel monitor shop 127.0.0.1 {wire.port} 1\n")
    # Python answers for the wire, so the loop must run while the sentinel looks through it.
    sentinel = RedisServer(folder, "--sentinel", config=str(config))
    try:
        yield sentinel
    finally:
        sentinel.stop()


def rotating(store, make=QuartHarness, **config) -> QuartHarness:
    """An application with a view that rotates refresh tokens."""
    app = make(config, store=store)

    @app.api.jwt_required(refresh=True)
    async def rotate():
        pair = await app.api.rotate_refresh_token()
        return {"refresh": pair.refresh_token, "access": pair.access_token, "sid": pair.sid}

    app.view("/rotate", rotate)
    return app


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server with a log on disk, for faults of the wire; emptied before each test."""
    server = RedisServer(tmp_path_factory.mktemp("redis"), *DURABLE)
    yield server
    server.stop()


# With "everysec" a server delays its writes while the disk is busy, and loses them when it is killed.
DURABLE = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture
def durable_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server for one test to break, which keeps a log on disk."""
    server = RedisServer(tmp_path, *DURABLE)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterOfServers]:
    folder = tmp_path_factory.mktemp("cluster")
    fleet = ClusterOfServers(folder, "--save", "", "--cluster-require-full-coverage", "no", replicas=False)
    yield fleet
    fleet.stop()


@pytest.fixture
def cluster(shared_cluster: ClusterOfServers) -> ClusterOfServers:
    """Three empty masters without replicas, for tests that leave them alive. Slots may move."""
    for server in shared_cluster.masters:
        server.does("FLUSHALL")
    return shared_cluster


@pytest.fixture(scope="session")
def lone_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Cluster of one node, which names a wire that is yet to be opened."""
    wire_port = free_port()
    server = RedisServer(
        tmp_path_factory.mktemp("node"),
        *DURABLE,
        *("--cluster-enabled", "yes", "--cluster-port", str(free_port())),
        *("--cluster-announce-port", str(wire_port)),
    )
    server.wire_port = wire_port
    server.does("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    until(lambda: "ok" in str(server.does("CLUSTER", "INFO")).partition("cluster_state")[2][:9])
    yield server
    server.stop()
