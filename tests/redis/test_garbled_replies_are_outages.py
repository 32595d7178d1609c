"""What comes over the wire: late, in part, twice, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid

import pytest

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores import TokenRef
from async_jwt.stores.redis import RedisStore
from tests.harness.wire import Wire
from tests.redis.conftest import DEADLINE

pytestmark = pytest.mark.asyncio


@pytest.fixture
def rounds(is_long):
    """More of them in the long run."""
    return 10 if is_long else 1


@contextlib.asynccontextmanager
async def store_on_a_wire(server, query="", **options):
    async with Wire(server.port).open() as wire:
        store = RedisStore(
            wire.url + query, prefix=f"{uuid.uuid4().hex}:", **{"deadline": DEADLINE, **options}
        )
        yield store, wire
        await store.close()


async def token(store, name):
    return TokenRef(name, uuid.uuid4().hex, None, await store.stamp(name), 0.0, time.time() + 60)


async def answer(store, ref):
    try:
        return await store.check(ref)
    except StoreUnavailableError:
        return None


@pytest.mark.parametrize("protocol", [2, 3])
async def test_replies_cut_anywhere(shared_server, rounds, protocol):
    async with store_on_a_wire(shared_server, f"?protocol={protocol}") as (store, wire):
        good, bad = await token(store, "good"), await token(store, "bad")
        await store.revoke_token(bad)
        await store.close()
        whole = []
        wire.spoils = lambda reply: (whole.append(reply) or reply, False)
        assert [await answer(store, good), await answer(store, bad)] == [True, False]
        length = max(map(len, whole))
        for cut in range(0, length, 7 if rounds == 1 else 1):
            victim = await token(store, f"victim {cut}")
            wire.spoils = lambda reply, cut=cut: (reply[:cut], len(reply) > cut)
            answers = await asyncio.gather(answer(store, good), answer(store, bad))
            assert answers[0] in (True, None)
            assert answers[1] in (False, None)
            await store.close()  # a breaker of its own for each cut
            wire.spoils = lambda reply, cut=cut: (reply[:cut], len(reply) > cut)
            with contextlib.suppress(StoreUnavailableError):
                await store.revoke_user(victim.identity)
                wire.heal()
                assert await answer(store, victim) is False, "a revocation that was done is lost"
            wire.heal()
            await store.close()
            assert [await answer(store, good), await answer(store, bad)] == [True, False]


GARBAGE = [
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"$99999999999999999999\r\n",
    b"$-2\r\n",
    b"*-5\r\n",
    b"*1000000\r\n",
    b":\r\n",
    b"\r\n",
    b"+OK\r\n",
    b"-\r\n",
    b"%1\r\n+a\r\n+b\r\n",
    b">2\r\n+invalidate\r\n*0\r\n",
    b"*3\r\n$5\r\nhello\r\n$-1\r\n$-1\r\n",
    b"*3\r\n*0\r\n*0\r\n*0\r\n",
    b"\0" * 100,
    b"x" * 100_000,
]


@pytest.mark.parametrize("protocol", [2, 3])
async def test_garbage(shared_server, rounds, protocol):
    noise = random.Random(7)
    async with store_on_a_wire(shared_server, f"?protocol={protocol}", deadline=0.4) as (store, wire):
        good, bad = await token(store, "good"), await token(store, "bad")
        await store.revoke_token(bad)
        for garbage in [*GARBAGE, *(noise.randbytes(60) + b"\r\n" for _ in range(20 * rounds))]:
            wire.spoils = lambda reply, garbage=garbage: (garbage, True)
            answers = await asyncio.gather(answer(store, good), answer(store, bad))
            assert answers == [None, None], garbage
            with pytest.raises(StoreUnavailableError):
                await store.revoke_user("somebody")
            wire.heal()
            await store.close()
            assert [await answer(store, good), await answer(store, bad)] == [True, False], garbage


async def test_a_reply_too_many_reaches_nobody(shared_server):
    async with store_on_a_wire(shared_server) as (store, wire):
        good, bad = await token(store, "good"), await token(store, "bad")
        await store.revoke_token(bad)
        wire.spoils = lambda reply: (reply + reply, False)
        for _ in range(20):
            assert await answer(store, good) is True
            await asyncio.sleep(0.002)
            assert await answer(store, bad) is False
            await asyncio.sleep(0.002)


async def test_slower_and_slower(shared_server, is_long):
    async with store_on_a_wire(shared_server) as (store, wire):
        good = await token(store, "good")
        for delay in (0.0, 0.05, 0.15, 0.4, 0.8):
            wire.delay = delay
            started = time.perf_counter()
            assert await answer(store, good) is (True if delay < DEADLINE else None)
            assert not is_long or time.perf_counter() - started < DEADLINE + 0.4
        wire.heal()
        started = time.perf_counter()
        while await answer(store, good) is None:
            await asyncio.sleep(0.005)  # as requests that come in
        assert not is_long or time.perf_counter() - started < 1.75


async def test_no_reply_reaches_another_request(shared_server, rounds):
    """Cancelled, late and dropped: whoever gets an answer gets the one to its own question."""
    chance = random.Random(11)
    async with store_on_a_wire(shared_server, deadline=2, max_connections=4) as (store, wire):
        tokens = {f"user {number}": await token(store, f"user {number}") for number in range(40)}
        ended = {name for name in tokens if chance.random() < 0.5}
        await asyncio.gather(*(store.revoke_user(name) for name in ended))
        wrong = []

        async def ask(name):
            said = await answer(store, tokens[name])
            if said is not None and said is (name in ended):
                wrong.append(name)

        for _ in range(25 * rounds):
            wire.delay = chance.choice([0.0, 0.001, 0.005])
            names = chance.sample(list(tokens), 20)
            tasks = [asyncio.ensure_future(ask(name)) for name in names]
            await asyncio.sleep(chance.choice([0, 0, 0.001, 0.003]))
            for task in chance.sample(tasks, 8):
                task.cancel()
            if chance.random() < 0.1:
                wire.drop()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert wrong == []


async def test_more_than_one_command_holds(shared_server):
    """Reads of one tick beyond a batch go in further commands, and each gets its own answer."""
    async with store_on_a_wire(shared_server, deadline=5) as (store, _):
        tokens = [await token(store, f"user {number}") for number in range(300)]
        await asyncio.gather(*(store.revoke_token(each) for each in tokens[::2]))
        shared_server.does("CONFIG", "RESETSTAT")
        answers = await asyncio.gather(*(store.check(each) for each in tokens))
        assert answers == [number % 2 == 1 for number in range(300)]
        assert shared_server.does("INFO", "commandstats")["cmdstat_mget"]["calls"] == 3


async def test_a_batch_that_everybody_left_is_not_sent(shared_server):
    async with store_on_a_wire(shared_server, deadline=5) as (store, _):
        good = await token(store, "good")
        shared_server.does("CONFIG", "RESETSTAT")
        tasks = [asyncio.ensure_future(store.check(good)) for _ in range(5)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)
        assert "cmdstat_mget" not in shared_server.does("INFO", "commandstats")
        assert await store.check(good)


async def test_connections_are_bounded_and_all_are_answered(shared_server):
    async with store_on_a_wire(shared_server, deadline=5, max_connections=3) as (store, wire):
        good = await token(store, "good")
        wire.connections = 0
        wire.delay = 0.01

        async def later(ticks):
            for _ in range(ticks):
                await asyncio.sleep(0.001)
            return await store.check(good)

        assert all(await asyncio.gather(*(later(number) for number in range(40))))
        assert wire.connections <= 3
