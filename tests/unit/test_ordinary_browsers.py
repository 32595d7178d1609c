"""What browsers do to refresh tokens without any thief, over a long time."""

from __future__ import annotations

import asyncio
import random

import pytest

from async_jwt.signals import token_reused
from async_jwt.stores import MemoryStore
from async_jwt.testing import FrozenClock
from tests.contract.conftest import NEEDS_QUART, QuartHarness
from tests.contract.rotation import rotate, rotating


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
    token = (await app.jwt.create_token_pair("alice")).refresh_token
    access, happened = "", set()
    for _ in range(2000):
        what = chance.choices(["nothing", "tabs", "lost", "slow"], [85, 5, 5, 5])[0]
        happened.add(what)
        clock.tick(chance.uniform(300, 700))
        if what == "tabs":
            answers = await asyncio.gather(*(rotate(app, token) for _ in range(10)))
            assert len({each["refresh"] for each in answers}) == 1
            answer = answers[0]
        else:
            answer = await rotate(app, token)
        if what == "lost":  # and asked for once more when the client has waited for long enough
            clock.tick(chance.uniform(2, 10))
            assert (await rotate(app, token))["refresh"] == answer["refresh"]
        elif what == "slow":  # it was sent with the cookies of before
            clock.tick(chance.uniform(2, 60))
            cookies = {"access_token_cookie": access or answer["access"], "refresh_token_cookie": token}
            late = await app.call("/me", cookies=cookies)
            assert (late.status, late.cookies) == (200, {})
        token, access = answer["refresh"], answer["access"]
    assert len(happened) == 4
    assert reused == []
    app.end()
