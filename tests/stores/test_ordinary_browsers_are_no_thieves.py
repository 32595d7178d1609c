"""What browsers do to refresh tokens without any thief, over a long time."""

from __future__ import annotations

import asyncio
import random

import pytest

from async_jwt.signals import token_reused
from async_jwt.stores import MemoryStore
from async_jwt.testing import FrozenClock
from tests.harness.applications import NEEDS_QUART, QuartHarness
from tests.harness.rotation import rotate, rotating


@NEEDS_QUART
@pytest.mark.asyncio
@pytest.mark.parametrize("grace", [10, "until_used"])
@pytest.mark.parametrize("seed", range(2))
async def test_ordinary_browsers_are_never_signed_out(grace, seed):
    """Tabs that ask at once, lost answers, and requests that take longer than the grace: 2,000 steps."""
    chance, clock = random.Random(seed), FrozenClock(1_800_000_000)
    app = rotating(
        QuartHarness(
            {"JWT_REFRESH_GRACE": grace, "JWT_TOKEN_LOCATION": ["cookies", "headers"]},
            store=MemoryStore(clock=clock),
            clock=clock,
        )
    )
    reused = []
    token_reused.connect(lambda _, kind, **__: reused.append(kind), app.app, weak=False)
    app.app.after_request(app.api.refresh_expiring_cookies)
    meanwhile = []

    @app.api.jwt_required()
    async def slow():
        await meanwhile.pop()()
        return {}

    app.view("/slow", slow)

    async def step():
        clock.tick(chance.uniform(1, 60))
        steps.append(await rotate(app, token))
        clock.tick(chance.uniform(2, 60))

    pair = await app.jwt.create_token_pair("alice")
    token, access, happened = pair.refresh_token, pair.access_token, set()
    for _ in range(2000):
        what = chance.choices(["nothing", "tabs", "lost", "slow"], [85, 5, 5, 5])[0]
        happened.add(what)
        clock.tick(chance.uniform(300, 700))
        steps = []
        if what == "slow":  # whose token is replaced while it is served
            meanwhile.append(step)
            cookies = {"access_token_cookie": access, "refresh_token_cookie": token}
            assert (await app.call("/slow", cookies=cookies)).status == 200
        elif what == "tabs":
            steps += await asyncio.gather(*(rotate(app, token) for _ in range(10)))
            assert len({each["refresh"] for each in steps}) == 1
        else:
            steps.append(await rotate(app, token))
        if what == "lost":  # and asked for once more when the client has waited for long enough
            clock.tick(chance.uniform(2, 10))
            assert (await rotate(app, token))["refresh"] == steps[0]["refresh"]
        token, access = steps[0]["refresh"], steps[0]["access"]
    assert len(happened) == 4
    assert reused == []
    app.end()
