"""Mirrors while everything goes wrong: no answer is older than they say, and in the end all are right."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from async_jwt.clock import system_clock
from async_jwt.errors import StoreUnavailableError
from async_jwt.stores.redis import RedisStore
from tests.harness.crowd import Crowd
from tests.harness.fleets import Sentinels
from tests.harness.wire import Wire

pytestmark = pytest.mark.asyncio

LAG = 0.4


class Chaos(Crowd):
    """Two processes with mirrors, each behind a wire, and one that asks."""

    def __init__(self, server, wires, monkeypatch, most: int) -> None:
        mirrored = [
            RedisStore(wire.url, mirror=True, mirror_lag=LAG, mirror_max=most, poll=0.5) for wire in wires
        ]
        super().__init__([*mirrored, RedisStore(server.url, poll=0.5)], int(time.time()), LAG)
        self.server = server
        self.wires = wires
        self.monkeypatch = monkeypatch

    async def fail(self, until: float) -> None:
        faults = [
            self.part,
            self.slow,
            self.block,
            self.trim,
            self.step,
            self.deafen,
            self.restart,
            self.freeze,
        ]
        while time.monotonic() < until:
            for fault in faults:
                await asyncio.sleep(self.chance.uniform(0.02, 0.2))
                self.count["faults"] += 1
                await fault()
                for wire in self.wires:
                    wire.heal()

    async def part(self) -> None:
        """A partition: one of them hears nothing for longer than it may be behind."""
        self.chance.choice(self.wires).swallows = True
        await asyncio.sleep(self.chance.uniform(0.1, 2 * LAG))

    async def slow(self) -> None:
        self.chance.choice(self.wires).delay = self.chance.choice([0.01, 0.05, 0.2])
        await asyncio.sleep(0.2)

    async def block(self) -> None:
        """The event loop stands still."""
        time.sleep(self.chance.uniform(0.05, LAG))  # noqa: ASYNC251

    async def trim(self) -> None:
        """Feeds lose what was not heard yet."""
        wire = self.chance.choice(self.wires)
        wire.swallows = True
        await asyncio.sleep(0.1)
        feeds = self.server.does("KEYS", "*:feed")
        for feed in self.chance.sample(feeds, len(feeds) // 2):
            self.server.does("XTRIM", feed, "MAXLEN", 0)

    async def step(self) -> None:
        """The clock is set, by less than clocks may differ."""
        by = self.chance.choice([-45.0, 45.0])
        self.monkeypatch.setattr("async_jwt.stores.redis.schema.system_clock", lambda: system_clock() + by)
        await asyncio.sleep(0.1)
        self.monkeypatch.undo()

    async def deafen(self) -> None:
        self.server.does("CLIENT", "KILL", "TYPE", "pubsub")

    async def restart(self) -> None:
        await asyncio.to_thread(self.server.stop)
        await asyncio.to_thread(self.server.start)

    async def freeze(self) -> None:
        self.server.freeze()
        await asyncio.sleep(self.chance.uniform(0.0, 2 * LAG))
        self.server.thaw()


async def all_are_right(crowd: Crowd) -> None:
    """Once it is quiet, mirrors say what the server says."""
    until = time.monotonic() + 10
    while any(
        store.status().staleness is None for store in crowd.stores if store.status().mirrored is not None
    ):
        assert time.monotonic() < until, "a mirror does not come back"
        await asyncio.sleep(0.02)
    await asyncio.sleep(2 * LAG)
    for held in list(crowd.held):
        said = [await store.check(held.ref) for store in crowd.stores]
        assert len(set(said)) == 1, held.ref
        assert said[0] is not held.revoked or (not said[0] and held.touched)


@pytest.mark.parametrize(
    "most",
    [pytest.param(100_000, id="one by one"), pytest.param(50, id="filter", marks=pytest.mark.long_run)],
)
async def test_chaos(durable_server, request, monkeypatch, record_property, most):
    seconds = max(2.5, request.config.getoption("soak") / 2)
    async with Wire(durable_server.port).open() as one, Wire(durable_server.port).open() as two:
        crowd = Chaos(durable_server, [one, two], monkeypatch, most)
        for store in crowd.stores:
            await store.start()
        until = time.monotonic() + seconds
        await asyncio.gather(
            *(crowd.check(until) for _ in range(8)),
            *(crowd.revoke(until) for _ in range(3)),
            crowd.fail(until),
        )
        await all_are_right(crowd)
        assert all(store.status().data_losses == 0 for store in crowd.stores)
        for store in crowd.stores:
            await store.close()
    assert crowd.wrong == []
    assert min(crowd.count[name] for name in ("200", "401", "revoked", "mirrored", "asked")) > 0
    counted = ", ".join(f"{crowd.count[name]} {name}" for name in sorted(crowd.count))
    record_property("chaos", f"{seconds:.0f} s, {counted}; 0 violations.")


@pytest.mark.long_run
async def test_a_failover_under_load(tmp_path):
    fleet = Sentinels(tmp_path)
    try:
        mirrored = RedisStore(fleet.url, mirror=True, mirror_lag=LAG, poll=0.3)
        crowd = Crowd([mirrored, RedisStore(fleet.url, poll=0.3)], lag=LAG)
        for store in crowd.stores:
            await store.start()
        use = asyncio.ensure_future(crowd.use(2.5))
        await asyncio.sleep(0.4)
        fleet.primary.stop()
        await asyncio.to_thread(fleet.fail_over)
        await use
        with contextlib.suppress(StoreUnavailableError):
            await mirrored.check(crowd.held[0].ref)
        if not any(store.status().data_losses for store in crowd.stores):
            assert crowd.wrong == []
            await all_are_right(crowd)
        for store in crowd.stores:
            await store.close()
    finally:
        fleet.stop()
