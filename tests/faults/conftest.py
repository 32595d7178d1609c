"""A protected application, and a server of its own to break."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores import TokenRef
from async_jwt.stores.redis import RedisStore
from tests.conftest import RedisServer
from tests.contract.conftest import QuartHarness
from tests.faults.wire import Wire

DEADLINE = 0.25


class World:
    """An application on a store behind a wire, and who uses it."""

    def __init__(self, server: RedisServer, wire: Wire, **options: Any) -> None:
        self.server = server
        self.wire = wire
        self.store = RedisStore(wire.url, deadline=DEADLINE, poll=60, **options)
        self.app = QuartHarness(store=self.store)
        self.victims = 0
        self.done: list[str] = []

    async def settle(self) -> None:
        """Two users with a token each, one of whom is signed out."""
        await self.app.jwt.start()
        self.good = await self.app.mint("good")
        self.ref = TokenRef("good", "jti", None, await self.store.stamp("good"), 0.0, None)
        self.revoked = await self.app.mint("revoked")
        self.ended = await self.app.mint("good")
        self.kept = await self.app.jwt.create_token_pair("good")
        await self.app.jwt.revoke_user("revoked")
        await self.app.jwt.revoke_token(self.ended)
        await self.app.jwt.store.revoke_session(self.kept.sid, None)
        assert await self.statuses() == {200}

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
        other = RedisStore(self.server.url, deadline=5)
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
    async with Wire(server.port).open() as wire:
        world = World(server, wire, **options)
        await world.settle()
        try:
            yield world
        finally:
            await world.store.close()


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


DURABLE = ("--save", "", "--appendonly", "yes")


@pytest.fixture
def durable_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server for one test to break, which keeps a log on disk."""
    server = RedisServer(tmp_path, *DURABLE)
    yield server
    server.stop()
