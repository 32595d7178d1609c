"""A primary that Sentinel names: it dies, freezes, steps down, or leaves a replica that lags."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid

import pytest

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores import TokenRef
from async_jwt.stores.redis import RedisStore
from async_jwt.stores.redis.errors import RefusedError
from async_jwt.stores.redis.options import Address
from async_jwt.stores.redis.quorum import quorum
from async_jwt.stores.redis.sentinel import Sentinels
from tests.harness.crowd import Crowd, answered, comes
from tests.harness.fleets import SERVICE
from tests.harness.fleets import Sentinels as Fleet
from tests.harness.servers import free_port

pytestmark = pytest.mark.asyncio


@pytest.fixture
def fleet(tmp_path):
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.stop()


async def test_a_service_that_no_sentinel_knows_is_no_outage(fleet):
    store = RedisStore(fleet.url.replace(f"/{SERVICE}", "/shops"), on_outage="allow", deadline=5)
    for _ in range(2):
        with pytest.raises(RefusedError, match="refuses SENTINEL MASTER"):
            await store.check(TokenRef("alice", "1", None, None, 0.0, None))
    await store.close()


async def token(store, name):
    return TokenRef(name, uuid.uuid4().hex, None, await store.stamp(name), 0.0, time.time() + 60)


@pytest.mark.parametrize(
    "way", ["dies", *(pytest.param(way, marks=pytest.mark.long_run) for way in ("steps down", "freezes"))]
)
async def test_a_failover_under_load(fleet, way, is_long):
    store = RedisStore(fleet.url, poll=0.3)
    crowd = Crowd([store])
    await store.start()
    use = asyncio.ensure_future(crowd.use())
    await comes(lambda: crowd.count["200"] and crowd.count["revoked"], "nobody is served")
    if way == "dies":
        fleet.primary.stop()
    elif way == "freezes":
        fleet.primary.freeze()
    else:
        await asyncio.to_thread(fleet.ask_for_failover)
    await asyncio.to_thread(fleet.fail_over)
    await asyncio.sleep(0.6)
    await comes(lambda: store.status().available, "the new primary is not used")
    if way == "freezes":
        fleet.primary.thaw()
    served, revoked = crowd.count["200"], crowd.count["revoked"]
    await comes(lambda: crowd.count["200"] > served and crowd.count["revoked"] > revoked, "nobody is served")
    if is_long:
        await asyncio.sleep(1.5)
    crowd.leave()
    await use
    assert crowd.wrong == [] or store.status().data_losses
    assert not is_long or crowd.slowest < 1.0
    if not store.status().data_losses:
        await crowd.all_hold()
    assert store.status().read_only is False
    await store.close()


@pytest.mark.parametrize("on_data_loss", ["deny", pytest.param("accept", marks=pytest.mark.long_run)])
async def test_a_replica_that_lagged_is_noticed(fleet, on_data_loss, caplog):
    store = RedisStore(fleet.url, on_data_loss=on_data_loss)
    kept, ended = await token(store, "kept"), await token(store, "ended")
    await asyncio.to_thread(fleet.cut_off_replica)
    await store.revoke_token(ended)
    assert not await store.check(ended)
    fleet.primary.stop()
    await asyncio.to_thread(fleet.fail_over)
    assert await answered(lambda: store.check(ended)) is (on_data_loss == "accept")
    assert await store.check(kept) is (on_data_loss == "accept")
    assert store.status().data_losses == 1
    assert "an older state came back" in caplog.text
    assert await store.check(await token(store, "kept"))
    await store.close()


async def test_sentinels_that_are_dead_or_frozen_hold_up_nobody(tmp_path, is_long):
    fleet = Fleet(tmp_path, sentinels=3)
    try:
        fleet.sentinels[0].freeze()
        nobody = f"127.0.0.1:{free_port()}"
        store = RedisStore(fleet.url.replace("://", f"://{nobody},", 1))
        started = time.perf_counter()
        assert await store.check(await token(store, "alice"))
        assert not is_long or time.perf_counter() - started < 0.25
        fleet.sentinels[1].stop()
        fleet.sentinels[2].stop()
        assert await store.check(await token(store, "alice")), "its connection is as good as before"
        await store.close()
        with pytest.raises(StoreUnavailableError):
            await store.stamp("alice")
        assert "does not answer" in str(store.status().problem)
        await store.close()
    finally:
        fleet.stop()


async def test_what_sentinels_name_must_be_a_primary(fleet):
    """Between the steps of a failover they may name one that is none yet, or no more."""
    founder = RedisStore(fleet.url, deadline=5)
    await founder.start()
    await founder.close()
    fleet.sentinels[0].does("SENTINEL", "SET", SERVICE, "down-after-milliseconds", "60000")
    fleet.primary.does("REPLICAOF", "127.0.0.1", fleet.replica.port)
    store = RedisStore(fleet.url)
    with pytest.raises(StoreUnavailableError):
        await store.stamp("alice")
    await store.close()


async def test_a_name_that_no_sentinel_knows(fleet):
    store = RedisStore(fleet.url.replace(SERVICE, "nobody"))
    with pytest.raises(StoreUnavailableError):
        await store.start()
    await store.close()


async def test_a_primary_that_may_not_say_what_it_is_is_believed(fleet):
    for server in (fleet.primary, fleet.replica):
        server.does("ACL", "SETUSER", "shop", "on", ">secret", "~*", "+@all", "-role")
    store = RedisStore(fleet.url.replace("://", "://shop:secret@"), deadline=5)
    assert await store.check(await token(store, "alice"))
    await store.close()


async def test_the_old_primary_is_left_where_the_sentinels_name_another(fleet):
    """It goes on answering, as one on the wrong side of a partition does; the look finds the new one."""
    store = RedisStore(fleet.url, deadline=5, poll=0.1)
    ref = await token(store, "alice")
    await asyncio.to_thread(fleet.ask_for_failover)
    await asyncio.to_thread(fleet.fail_over)
    with contextlib.suppress(StoreUnavailableError):
        await store.check(ref)
    await asyncio.sleep(0.3)
    fleet.replica.does("CONFIG", "RESETSTAT")
    assert await answered(lambda: store.check(ref))
    assert fleet.replica.does("INFO", "commandstats")["cmdstat_mget"]["calls"] >= 1
    await store.revoke_user("alice")
    assert not await store.check(ref)
    await store.close()


async def test_two_primaries_are_never_asked_in_turn(make_server, monkeypatch):
    """The old one still answers; one more connection than before is made after the failover."""
    old, new = make_server(), make_server()
    for server in (old, new):
        founder = RedisStore(server.url, deadline=5)
        await founder.start()
        await founder.close()
    named = [Address("127.0.0.1", old.port)]

    async def primary(_):
        return named[0]

    monkeypatch.setattr(Sentinels, "primary", primary)
    store = RedisStore("redis+sentinel://127.0.0.1/shop", deadline=5, poll=60, on_data_loss="accept")
    await store.start()
    await asyncio.gather(*(store.revoke_user(f"user {number}") for number in range(3)))
    named[0] = Address("127.0.0.1", new.port)
    await asyncio.gather(*(store.revoke_user(f"user {number}") for number in range(6)))
    old.does("CONFIG", "RESETSTAT")
    await asyncio.gather(*(store.revoke_user(f"user {number}") for number in range(6)))
    for _ in range(10):
        await store.stamp("alice")
    stats = old.does("INFO", "commandstats")
    assert not {"cmdstat_mget", "cmdstat_evalsha"} & stats.keys()
    await store.close()


async def test_a_ballot():
    async def says(what, after=0.0):
        await asyncio.sleep(after)
        if what is None:
            raise ValueError
        return what

    assert await quorum([says(1), says(1), says(2, 60)], 60) == [1]
    assert set(await quorum([says(1), says(None), says(2)], 60)) == {1, 2}
    assert await quorum([says(None), says(None)], 60) == []
    assert await quorum([says(60, 60)], 0.01) == []
    assert await quorum([says(1), says(2, 60)], 0.1) == [1]


async def test_answers_that_this_process_was_too_busy_to_hear_are_no_vote(fleet, monkeypatch):
    store = RedisStore(fleet.url, on_outage="allow")
    monkeypatch.setattr("async_jwt.stores.redis.deadline.LONGEST", 0)
    for sentinel in fleet.sentinels:
        sentinel.freeze()
    with pytest.raises(StoreUnavailableError, match="too busy"):
        await store.check(TokenRef("alice", "jti", None, None, 0.0, None))
    assert store.status().available
    for sentinel in fleet.sentinels:
        sentinel.thaw()
    monkeypatch.undo()
    ref = await answered(lambda: token(store, "alice"))
    assert await answered(lambda: store.check(ref))
    await store.close()
    assert not [task for task in asyncio.all_tasks() if "says" in repr(task)]
