"""A deadline counts the server's time: a process that is busy itself takes no server for dead."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores import TokenRef
from async_jwt.stores.redis import RedisStore
from async_jwt.stores.redis.deadline import Deadline
from async_jwt.stores.redis.errors import OutageError
from tests.harness.applications import QuartHarness
from tests.harness.wire import slow_server
from tests.redis.conftest import DEADLINE

pytestmark = pytest.mark.asyncio

CROWD = 400


def busy(seconds):
    """Keep the thread, and so its event loop, from everything else."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


async def work_without_end():
    """What else a busy process does: each turn of its loop takes some time."""
    while True:
        busy(0.04)
        await asyncio.sleep(0)


async def test_a_crowd_on_a_cold_worker_is_no_outage(redis_server, is_long):
    with slow_server(redis_server.port, 0.02) as url:
        for turn in range(20 if is_long else 3):
            store = RedisStore(url, deadline=DEADLINE, prefix=f"{turn}:")
            app = QuartHarness({"JWT_TOKEN_CACHE_SIZE": 0}, store=store)
            token = (await app.jwt.create_token_pair("alice")).access_token
            await store.close()  # as cold as a worker that has just started
            neighbour = asyncio.ensure_future(work_without_end())
            answers = await asyncio.gather(*(app.call(token=token) for _ in range(CROWD)))
            neighbour.cancel()
            assert Counter(answer.status for answer in answers) == {200: CROWD}
            assert store.status().available
            await store.close()


async def test_a_server_that_pauses_for_less_than_the_deadline_costs_nobody(redis_server):
    store = RedisStore(redis_server.url, deadline=DEADLINE)
    ref = TokenRef("alice", "jti", None, await store.stamp("alice"), 0.0, None)
    for _ in range(3):
        redis_server.freeze()
        checks = [asyncio.ensure_future(store.check(ref)) for _ in range(8)]
        await asyncio.sleep(DEADLINE * 0.6)
        redis_server.thaw()
        assert await asyncio.gather(*checks) == [True] * 8
    assert store.status().available
    await store.close()


async def test_a_frozen_server_is_refused_in_time_though_the_process_is_busy(redis_server):
    store = RedisStore(redis_server.url, deadline=DEADLINE)
    ref = TokenRef("alice", "jti", None, await store.stamp("alice"), 0.0, None)
    redis_server.freeze()
    neighbour = asyncio.ensure_future(work_without_end())
    began = asyncio.get_running_loop().time()
    with pytest.raises(StoreUnavailableError):
        await store.check(ref)
    taken = asyncio.get_running_loop().time() - began
    neighbour.cancel()
    redis_server.thaw()
    assert DEADLINE <= taken < 20 * DEADLINE  # four, and the turns that a busy loop needs besides
    await store.close()


async def test_what_this_process_missed_is_no_outage_that_lets_pass(redis_server, monkeypatch):
    """Not with on_outage=allow either: nobody knows anything about the server."""
    store = RedisStore(redis_server.url, deadline=DEADLINE, on_outage="allow")
    await store.start()
    monkeypatch.setattr("async_jwt.stores.redis.deadline.LONGEST", 0)
    redis_server.freeze()
    with pytest.raises(StoreUnavailableError, match="too busy") as refused:
        await store.check(TokenRef("alice", "jti", None, None, 0.0, None))
    assert not isinstance(refused.value, OutageError)
    assert store.status().available
    redis_server.thaw()
    monkeypatch.undo()
    assert await store.check(TokenRef("alice", "jti", None, None, 0.0, None))
    await store.close()


async def test_only_the_servers_time_counts():
    deadline = Deadline(0.2)
    async with deadline:
        for _ in range(3):
            busy(0.1)
            await asyncio.sleep(0)
    assert deadline.left > 0.1
    assert not deadline.is_over
    with pytest.raises(TimeoutError):
        async with deadline:
            await asyncio.sleep(5)
    assert deadline.is_over
    assert not deadline.is_missed_by_us


async def test_a_reply_that_came_while_the_loop_was_away_is_read():
    """The last slice is over, and what arrived meanwhile is one turn away."""
    loop = asyncio.get_running_loop()
    deadline = Deadline(0.05)
    deadline.shorten(0.002)
    async with deadline:
        arrived = loop.create_future()
        await asyncio.sleep(0)
        busy(0.05)
        loop.call_later(0.0005, arrived.set_result, "reply")
        assert await arrived == "reply"


async def test_a_span_that_is_over_waits_for_nothing_more():
    deadline = Deadline(0.05)
    deadline.shorten(-1)
    with pytest.raises(TimeoutError):
        async with deadline:
            await asyncio.sleep(5)
    task = asyncio.ensure_future(asyncio.sleep(5))
    assert await deadline.first_of({task}) == set()
    task.cancel()


async def test_it_ends_after_four_spans_however_busy_the_loop_is():
    deadline = Deadline(0.02)
    neighbour = asyncio.ensure_future(work_without_end())
    with pytest.raises(TimeoutError):
        async with deadline:
            await asyncio.sleep(60)
    neighbour.cancel()
    assert deadline.is_over
