"""A copied refresh token that is presented within each grace."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field
from typing import Any

import pytest

from async_jwt.signals import token_repeated, token_reused, token_revoked
from async_jwt.stores import MemoryStore, TokenRef
from tests.harness.applications import on_each_loop
from tests.harness.rotation import rotate, rotating

pytestmark = [pytest.mark.asyncio, on_each_loop]

GRACES = pytest.mark.parametrize("grace", [30, "until_used"])
STORES = pytest.mark.parametrize("make", ["memory", "redis"], indirect=True)


@dataclass
class Followed:
    """An application that rotates, what its signals told, and how its store's clock goes on."""

    app: Any
    later: Any
    store: Any = None
    repeated: list[int] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    revoked: list[str] = field(default_factory=list)

    async def token(self):
        return (await self.app.jwt.create_token_pair("alice")).refresh_token

    async def step(self, token, *, is_late=True):
        """One step, and a repeat of it. Returns the answers to both."""
        first = await rotate(self.app, token)
        if is_late:
            await self.later()
        again = await self.app.call("/rotate", method="POST", token=token)
        if again.status == 200:
            assert again.json["refresh"] == first["refresh"]
        return first, again


@pytest.fixture
def make(request, harness, clock):
    """Makes applications whose store tells late from prompt. A server's clock cannot be moved."""
    made = []

    def make(**config):
        if getattr(request, "param", "memory") == "memory":

            async def later():
                clock.now += 2.5

            store = MemoryStore(clock=clock)
            app = harness(config, store=store, clock=clock)
        else:

            async def later():
                await asyncio.sleep(0.06)

            store = None
            uri = f"{request.getfixturevalue('redis_url')}?prefix=test-{uuid.uuid4().hex}:&deadline=5"
            app = harness({"JWT_STORE_URI": uri, "JWT_REFRESH_LATE_AFTER": 0.03, **config})
        made.append(app)
        it = Followed(rotating(app), later, store)
        token_repeated.connect(lambda _, in_a_row, **__: it.repeated.append(in_a_row), app.app, weak=False)
        token_reused.connect(lambda _, kind, **__: it.reused.append(kind), app.app, weak=False)
        token_revoked.connect(lambda _, scope, **__: it.revoked.append(scope), app.app, weak=False)
        return it

    yield make
    for app in made:
        app.end()


@STORES
@GRACES
async def test_a_follower_is_out_within_six_steps(make, grace, caplog):
    it = make(JWT_REFRESH_GRACE=grace)
    pair = await it.app.jwt.create_token_pair("alice")
    token, steps, again = pair.refresh_token, 0, None
    while again is None or again.status == 200:
        first, again = await it.step(token)
        token, steps = first["refresh"], steps + 1
        assert steps < 6
    assert (again.status, again.code) == (401, "token_reused")
    assert (it.repeated, it.reused, it.revoked) == ([2, 3, 4], ["late_repeats"], ["session"])
    assert (await it.app.call("/me", token=first["access"])).status == 401
    await rotate(it.app, token, 401)
    told = [record for record in caplog.records if getattr(record, "event", "") == "token_repeated"]
    assert [(record.in_a_row, record.sid) for record in told] == [(2, pair.sid), (3, pair.sid), (4, pair.sid)]


@STORES
async def test_without_a_grace_a_follower_is_out_at_once(make):
    it = make(JWT_REFRESH_GRACE=0)
    _, again = await it.step(await it.token())
    assert (again.code, it.reused) == ("token_reused", ["predecessor"])


@STORES
async def test_any_number_of_late_repeats_of_one_step_counts_once(make):
    it = make()
    token = await it.token()
    for _ in range(3):
        first = await rotate(it.app, token)
        for _ in range(2):
            await it.later()
            answers = await asyncio.gather(*(rotate(it.app, token) for _ in range(5)))
            assert {answer["refresh"] for answer in answers} == {first["refresh"]}
        token = first["refresh"]
    assert it.repeated == [2, 3]


@STORES
async def test_a_late_repeat_makes_no_grace_longer(make):
    it = make(JWT_REFRESH_GRACE=0.3, JWT_REFRESH_LATE_AFTER=0)
    token = await it.token()
    first = await rotate(it.app, token)
    await asyncio.sleep(0.01)
    assert (await rotate(it.app, token))["refresh"] == first["refresh"]
    for _ in range(6):
        await it.later()
    assert (await rotate(it.app, token, 401))["code"] == "token_reused"
    assert it.reused == ["predecessor"]


@GRACES
async def test_only_a_step_without_a_late_repeat_begins_the_count_anew(make, grace):
    it = make(JWT_REFRESH_GRACE=grace, JWT_REFRESH_LATE_LIMIT=3)
    token = await it.token()
    for is_late in (True, True, False, True, True, False, True, True):
        first, again = await it.step(token, is_late=is_late)
        assert again.status == 200
        token = first["refresh"]
    assert (it.repeated, it.reused) == ([2, 2, 2], [])
    _, again = await it.step(token)
    assert (again.code, it.reused) == ("token_reused", ["late_repeats"])


@pytest.mark.parametrize(("limit", "outcomes"), [(1, [401]), (2, [200, 401]), (None, [200] * 8)])
async def test_the_limit_is_a_setting(make, limit, outcomes):
    it = make(JWT_REFRESH_LATE_LIMIT=limit)
    token = await it.token()
    for expected in outcomes:
        first, again = await it.step(token)
        assert again.status == expected
        token = first["refresh"]
    assert it.reused == ["late_repeats"] * outcomes.count(401)


async def test_how_late_is_a_setting(make):
    it = make(JWT_REFRESH_LATE_AFTER=3, JWT_REFRESH_LATE_LIMIT=1)
    token = await it.token()
    first, again = await it.step(token)  # after 2.5 seconds
    assert again.status == 200
    await it.later()
    assert (await it.app.call("/rotate", method="POST", token=token)).code == "token_reused"
    await rotate(it.app, first["refresh"], 401)


async def test_what_was_revoked_is_not_counted(make):
    it = make(JWT_REFRESH_LATE_LIMIT=1)
    token = await it.token()
    successor = (await rotate(it.app, token))["refresh"]
    claims = await it.app.jwt.decode_token(successor)
    await it.store.revoke_token(
        TokenRef("alice", claims["jti"], claims["sid"], claims["gen"], claims["iat"], claims["exp"])
    )
    await it.later()
    assert (await rotate(it.app, token, 401))["code"] == "token_revoked"
    assert it.reused == []
