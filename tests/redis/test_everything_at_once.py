"""Everything at once: checks and revocations at full load, and a server that fails at random.

A few seconds in the suite; minutes with `nox -s soak`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from pathlib import Path

import pytest

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores.redis import RedisStore
from tests.harness.crowd import Crowd
from tests.harness.wire import Wire
from tests.redis.conftest import rotating

pytestmark = pytest.mark.asyncio

CHECKERS, REVOKERS, DEVICES = 24, 4, 4


class Soak(Crowd):
    def __init__(self, server, wires, seed: int) -> None:
        super().__init__([RedisStore(wire.url, poll=0.5) for wire in wires], seed)
        self.server = server
        self.wires = wires
        # A client that may get no answer has all the time it needs: what looks like theft would be a mistake.
        self.apps = [rotating(store, JWT_REFRESH_GRACE="until_used") for store in self.stores]

    async def refresh(self, until: float) -> None:
        """A device that goes on with the token that it got last, or asks again with the one before."""
        name, pair = f"device {self.chance.randrange(10**9)}", None
        while time.monotonic() < until:
            await asyncio.sleep(self.chance.random() * 0.01)
            app = self.chance.choice(self.apps)
            with contextlib.suppress(StoreUnavailableError):
                if pair is None:
                    pair = await app.jwt.create_token_pair(name)
                    token, is_out = pair.refresh_token, False
                elif self.chance.random() < 0.02:
                    is_out = None  # until it is answered
                    await app.jwt.revoke_session(pair.sid)
                    is_out = True
            if pair is None:
                continue
            answer = await app.call("/rotate", token=token)
            if answer.status == 200 and is_out is True:
                self.wrong.append("a session that was signed out was refreshed")
            elif answer.status == 401 and is_out is False:
                self.wrong.append(f"a session that nobody signed out was refused: {answer.code}")
            elif answer.status == 200 and self.chance.random() < 0.8:  # else the answer got lost
                token = answer.json["refresh"]
            self.count[f"refresh {answer.status}"] += 1
            if answer.status == 401:
                pair = None

    async def fail(self, until: float) -> None:
        while time.monotonic() < until:
            await asyncio.sleep(self.chance.uniform(0.02, 0.6))
            self.count["faults"] += 1
            await self.chance.choice(
                [
                    self.freeze,
                    self.restart,
                    self.drop,
                    self.cut,
                    self.delay,
                    self.swallow,
                    self.fill,
                    self.garble,
                ]
            )()
            for wire in self.wires:
                wire.heal()

    async def freeze(self) -> None:
        self.server.freeze()
        await asyncio.sleep(self.chance.uniform(0.0, 0.4))
        self.server.thaw()

    async def restart(self) -> None:
        await asyncio.to_thread(self.server.stop)
        await asyncio.sleep(self.chance.uniform(0.0, 0.2))
        await asyncio.to_thread(self.server.start)

    async def drop(self) -> None:
        for _ in range(5):
            self.chance.choice(self.wires).drop()
            await asyncio.sleep(0.01)

    async def cut(self) -> None:
        at = self.chance.randrange(200)
        self.chance.choice(self.wires).spoils = lambda reply: (reply[:at], len(reply) > at)
        await asyncio.sleep(0.05)

    async def garble(self) -> None:
        noise = self.chance.randbytes(50) + b"\r\n"
        self.chance.choice(self.wires).spoils = lambda _: (noise, True)
        await asyncio.sleep(0.05)

    async def delay(self) -> None:
        self.chance.choice(self.wires).delay = self.chance.choice([0.01, 0.1, 0.3])
        await asyncio.sleep(0.2)

    async def swallow(self) -> None:
        self.chance.choice(self.wires).swallows = True
        await asyncio.sleep(self.chance.uniform(0.05, 0.4))

    async def fill(self) -> None:
        with contextlib.suppress(Exception):
            self.server.does("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1")
            await asyncio.sleep(0.1)
            self.server.does("CONFIG", "SET", "maxmemory", "0")


def memory() -> float:
    """What this process holds, in MB."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


async def test_soak(durable_server, request, record_property):
    seconds = request.config.getoption("soak")
    seed = int(time.time())
    async with Wire(durable_server.port).open() as one, Wire(durable_server.port).open() as two:
        soak = Soak(durable_server, [one, two], seed)
        await soak.sign_in()
        middle = None
        parts = 3 if seconds >= 60 else 1
        for _ in range(parts):
            until = time.monotonic() + seconds / parts
            await asyncio.gather(
                *(soak.check(until) for _ in range(CHECKERS)),
                *(soak.revoke(until) for _ in range(REVOKERS)),
                *(soak.refresh(until) for _ in range(DEVICES)),
                soak.fail(until),
            )
            middle = middle or memory()
        end = memory()
        deadline = time.monotonic() + 2
        while not all(store.status().available for store in soak.stores):
            assert time.monotonic() < deadline, "it does not come back"
            await asyncio.sleep(0.01)
        await soak.all_hold()
        for store in soak.stores:
            assert store.status().data_losses == 0
            await store.close()
    assert soak.wrong == [], seed
    assert soak.count["200"] > 0
    assert soak.count["revoked"] > 0
    assert soak.count["refresh 200"] > 0
    if parts > 1:
        assert end - middle < 20, "memory grows"
        assert soak.count["401"] > 100
    counted = ", ".join(f"{soak.count[name]} {name}" for name in sorted(soak.count))
    record_property(
        "soak", f"{seconds:.0f} s, {counted}; 0 violations; {end - middle:+.1f} MB since a third."
    )
