"""Rare moments: two processes at once, strangers who write where we do, loops that end."""

from __future__ import annotations

import asyncio
import gc
import time
import uuid
import weakref

import pytest

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores import TokenRef
from async_jwt.stores.contract import bucket_of
from async_jwt.stores.redis import RedisStore
from async_jwt.stores.redis.breaker import Breaker
from async_jwt.stores.redis.client import BatchLoader
from async_jwt.stores.redis.health import Health, read_server, save_points
from async_jwt.stores.redis.lua import NEW_EPOCH
from async_jwt.stores.redis.monitor import _some_of
from async_jwt.stores.redis.pool import Pool
from async_jwt.stores.redis.timer import IdleTimer
from tests.harness.insides import buckets_of, data_loss_of, layout_of, open_topologies_of, topologies_of
from tests.harness.wire import Wire

pytestmark = pytest.mark.asyncio


async def token(store, name="alice"):
    return TokenRef(name, uuid.uuid4().hex, None, await store.stamp(name), 0.0, time.time() + 60)


def everybody(name="alice"):
    return f"async_jwt:{{{bucket_of(name)}}}:all"


def user(name="alice"):
    return f"async_jwt:{{{bucket_of(name)}}}:user:{name}"


# -- strangers who write where we do ------------------------------------------------------


JUNK = ["", "x", "a b c d e", "a 1 1", b"\xff 1 1 1 "]


@pytest.mark.parametrize("junk", JUNK)
async def test_junk_at_a_users_key_refuses_that_user(redis_server, junk, caplog):
    store = RedisStore(redis_server.url, deadline=5)
    good, other = await token(store), await token(store, "bob")
    redis_server.does("SET", user(), junk)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="invalid value at a user's key"):
            await store.check(good)
    with pytest.raises(StoreUnavailableError):
        await store.revoke_user("alice", keep=good)
    assert await store.check(other)
    assert store.status().available, "others are not to suffer for it"
    assert caplog.text.count("Another program overwrote") == 1
    allowing = RedisStore(redis_server.url, deadline=5, on_outage="allow")
    with pytest.raises(StoreUnavailableError):
        await allowing.check(good._replace(may_fail_open=True))
    await store.close()
    await allowing.close()


@pytest.mark.parametrize("on_data_loss", ["deny", "accept"])
@pytest.mark.parametrize("junk", JUNK)
async def test_junk_at_a_bucket_is_a_loss(redis_server, junk, on_data_loss):
    stores = [RedisStore(redis_server.url, deadline=5, on_data_loss=on_data_loss) for _ in range(2)]
    good = await token(stores[0])
    await stores[1].start()
    redis_server.does("SET", everybody("bob"), junk)
    for call in (stores[0].stamp("bob"), stores[1].revoke_user("bob"), stores[1].start()):
        await call
    for store in stores:
        assert await store.check(good) is (on_data_loss == "accept")
        assert await store.check(await token(stores[0]))
        await store.close()


@pytest.mark.parametrize("kind", ["LPUSH", "SADD"])
async def test_other_types_at_our_keys_lose_no_revocation(redis_server, kind):
    store = RedisStore(redis_server.url, deadline=5)
    good = await token(store)
    sid = "00" + uuid.uuid4().hex
    redis_server.does(kind, user(), "x")
    redis_server.does(kind, f"async_jwt:{{{bucket_of('alice')}}}:jti:{good.jti}", "x")
    redis_server.does(kind, f"async_jwt:{{00}}:sid:{sid}", "x")
    with pytest.raises(StoreUnavailableError, match="WRONGTYPE"):
        await store.revoke_user("alice")
    await store.revoke_token(good)
    assert not await store.check(good)
    await store.revoke_session(sid, None)
    assert not await store.check(good._replace(jti="other", sid=sid))
    await store.close()


async def test_a_foreign_session_has_a_bucket_of_its_own(redis_server):
    """Both its bucket and its identity's are looked at, for a loss too."""
    store = RedisStore(redis_server.url, deadline=5)
    ref = (await token(store))._replace(sid="not of ours")
    assert await store.check(ref)
    await store.revoke_session("not of ours", None)
    assert not await store.check(ref)
    redis_server.does(
        "DEL",
        *(
            f"async_jwt:{{{number:02x}}}:all"
            for number in range(256)
            if f"{number:02x}" != bucket_of("alice")
        ),
    )
    assert not await store.check(ref._replace(sid="another"))
    assert store.status().data_losses == 1
    await store.close()


# -- several at once ----------------------------------------------------------------------


async def test_many_keep_their_own_session_of_one_user(redis_server):
    """Each revokes all others; whoever comes last is the one that is left, or nobody."""
    stores = [RedisStore(redis_server.url, deadline=5) for _ in range(2)]
    refs = [(await token(stores[0]))._replace(sid=f"{bucket_of('alice')}{number}") for number in range(8)]
    await asyncio.gather(
        *(stores[number % 2].revoke_user("alice", keep=ref) for number, ref in enumerate(refs))
    )
    alive = [ref for ref in refs if await stores[0].check(ref)]
    assert len(alive) <= 1
    for store in stores:
        await store.close()


async def test_too_many_who_revoke_one_user_are_refused(redis_server, monkeypatch):
    store, other = RedisStore(redis_server.url, deadline=5), RedisStore(redis_server.url, deadline=5)
    ref = await token(store)
    judge = buckets_of(store).judge

    async def interfered(ref):
        found = await judge(ref)
        await other.revoke_user("alice")
        return found

    monkeypatch.setattr(buckets_of(store), "judge", interfered)
    with pytest.raises(StoreUnavailableError, match="Too many"):
        await store.revoke_user("alice", keep=ref)
    await store.close()
    await other.close()


async def test_a_loss_that_two_notice_is_dealt_with_once(redis_server, caplog):
    stores = [RedisStore(redis_server.url, deadline=5) for _ in range(3)]
    refs = [await token(store, name) for store in stores for name in ("alice", "bob")]
    redis_server.does("FLUSHALL")
    await asyncio.gather(*(store.check(ref) for store in stores for ref in refs))
    new = await token(stores[0])
    for store in stores:
        assert not any(await asyncio.gather(*(store.check(ref) for ref in refs)))
        assert await store.check(new)
    assert caplog.text.count("all users must sign in again") == 1
    for store in stores:
        await store.close()


@pytest.mark.parametrize("call", ["check", "revoke_user", "revoke_token", "revoke_everything", "keep"])
async def test_a_server_that_forgets_at_once_is_no_answer(redis_server, monkeypatch, call):
    """Somebody flushes it in a loop."""
    store = RedisStore(redis_server.url, deadline=5)
    ref = await token(store)
    deal = data_loss_of(store)._handle

    async def lost_again(*loss):
        await deal(*loss)
        redis_server.does("FLUSHALL")

    monkeypatch.setattr(data_loss_of(store), "_handle", lost_again)
    redis_server.does("FLUSHALL")
    calls = {
        "check": lambda: store.check(ref),
        "revoke_user": lambda: store.revoke_user("alice"),
        "revoke_token": lambda: store.revoke_token(ref),
        "revoke_everything": store.revoke_everything,
        "keep": lambda: store.revoke_user("alice", keep=ref),
    }
    with pytest.raises(StoreUnavailableError):
        await calls[call]()
    await store.close()


async def test_a_loss_that_cannot_be_written_down_refuses(redis_server):
    """A replica that lost data: nothing passes until it can be dealt with."""
    store = RedisStore(redis_server.url, deadline=5)
    ref = await token(store)
    redis_server.does("FLUSHALL")
    redis_server.does("REPLICAOF", "127.0.0.1", "1")
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            await store.check(ref)
    redis_server.does("REPLICAOF", "NO", "ONE")
    assert not await store.check(ref)
    await store.close()


@pytest.mark.parametrize("reply", [b":7\r\n", b"+OK\r\n", b"_\r\n"])
async def test_a_loss_that_is_answered_oddly_refuses(redis_server, reply):
    async with Wire(redis_server.port).open() as wire:
        store = RedisStore(wire.url, deadline=5)
        ref = await token(store)
        redis_server.does("FLUSHALL")
        wire.says = (frozenset({b"EVALSHA", b"EVAL"}), reply)
        for _ in range(2):
            with pytest.raises(StoreUnavailableError):
                await store.check(ref)
        wire.heal()
        assert not await store.check(ref)
        await store.close()


@pytest.mark.parametrize("what", ["all", "another bucket"])
async def test_a_loss_while_a_loss_is_dealt_with_refuses(redis_server, what):
    other = "00" if bucket_of("alice") != "00" else "01"
    again = ("FLUSHALL",) if what == "all" else ("DEL", f"async_jwt:{{{other}}}:all")
    async with Wire(redis_server.port).open() as wire:
        store = RedisStore(wire.url, deadline=5)
        ref = await token(store)
        redis_server.does("FLUSHALL")
        wire.spoils = lambda reply: (
            reply,
            bool(reply == b":256\r\n" and redis_server.does(*again)) and False,
        )
        with pytest.raises(StoreUnavailableError, match="is losing writes"):
            await store.check(ref)
        wire.heal()
        assert not await store.check(ref)
        await store.close()


async def test_a_wrong_reply_ends_nobody(redis_server):
    """A count that is too low, once; whoever looks again sees that nothing was lost."""
    async with Wire(redis_server.port).open() as wire:
        store = RedisStore(wire.url, deadline=5, poll=60)
        ref, ended = await token(store), await token(store)
        await store.revoke_token(ended)
        await store.revoke_token(await token(store))
        wrong = []

        def spoil(reply):
            if not wrong and b" 2 " in reply:
                wrong.append(reply)
                return reply.replace(b" 2 ", b" 1 "), False
            return reply, False

        wire.spoils = spoil
        assert await store.check(ref)
        assert wrong
        assert not await store.check(ended)
        assert store.status().data_losses == 0
        await store.close()


async def test_an_older_state_that_goes_on_at_once_is_one_all_the_same(redis_server):
    """Between two looks others revoke as much as was lost: what is there is not what was known."""
    key = f"async_jwt:{{{bucket_of('alice')}}}:all"
    async with Wire(redis_server.port).open() as wire:
        store = RedisStore(wire.url, deadline=5, poll=60)
        ref = await token(store)
        for _ in range(2):
            await store.revoke_token(await token(store))
        epoch = str(ref.gen).partition(".")[0]
        redis_server.does("SET", key, f"{epoch} 0 -1 1 77 ")

        def goes_on(reply):
            if b" 1 77 " in reply:
                redis_server.does("SET", key, f"{epoch} 0 -1 9 99 ")
            return reply, False

        wire.spoils = goes_on
        assert not await store.check(ref)
        assert store.status().data_losses == 1
        await store.close()


async def test_what_another_process_dealt_with_is_left_alone(redis_server):
    """It died half way: the next one goes on where it stopped."""
    store = RedisStore(redis_server.url, deadline=5, poll=60)
    ref = await token(store)
    await store.revoke_token(await token(store))
    epoch, name = str(ref.gen).partition(".")[0], bucket_of("alice")
    done = "00" if name != "00" else "01"
    raised = f"another 7 8.0 0 0 {epoch}"
    redis_server.does("SET", f"async_jwt:{{{done}}}:all", raised)
    redis_server.does("SET", f"async_jwt:{{{name}}}:all", f"{epoch} 0 -1 0 0 ")
    assert not await store.check(ref)
    assert redis_server.does("GET", f"async_jwt:{{{done}}}:all").decode() == raised
    assert epoch in redis_server.does("GET", f"async_jwt:{{{name}}}:all").decode().split(" ")[5]
    await store.close()


async def test_a_bucket_that_is_not_as_it_was_seen_is_not_raised(redis_server):
    store = RedisStore(redis_server.url, deadline=5, poll=60)
    ref = await token(store)
    epoch, layout = str(ref.gen).partition(".")[0], layout_of(store)
    before = redis_server.does("GET", layout.bucket("00"))
    node = (await topologies_of(store).here()).at("00")
    keys = layout.with_feeds(["00", "01"])
    assert await node.run(NEW_EPOCH, keys, ["new", "", "64", "somebody's", epoch]) == 1
    assert redis_server.does("GET", layout.bucket("00")) == before
    assert redis_server.does("GET", layout.bucket("01")).startswith(b"new ")
    await store.close()


async def test_connections_to_a_server_that_does_not_answer_are_left(redis_server):
    """Else each probe would try another one of them, and wait."""
    async with Wire(redis_server.port).open() as wire:
        store = RedisStore(wire.url, deadline=1, poll=60)
        await store.start()
        await asyncio.gather(*(store.revoke_user(f"user {number}") for number in range(8)))
        pool = (await topologies_of(store).here()).at("00")._pool
        assert len(pool._idle) > 2
        wire.swallows = True
        with pytest.raises(StoreUnavailableError):
            await store.stamp("alice")
        await asyncio.sleep(0.1)
        assert pool._idle == []
        wire.heal()
        await store.close()


async def test_a_talk_with_a_server_that_is_gone(redis_server):
    """What a mirror listens through: that it cannot be had says nothing about requests."""
    store = RedisStore(redis_server.url, deadline=5, poll=60)
    await store.start()
    node = (await topologies_of(store).here()).at("00")
    redis_server.stop()
    with pytest.raises(StoreUnavailableError):
        await node.dedicated()
    assert not node.unavailable
    await store.close()


async def test_a_server_that_does_not_say_that_it_noticed(redis_server):
    async with Wire(redis_server.port).open() as wire:
        store = RedisStore(wire.url, deadline=5)
        ref = await token(store)
        redis_server.does("FLUSHALL")
        wire.says = (frozenset({b"EVALSHA", b"EVAL"}), b"+OK\r\n")
        with pytest.raises(StoreUnavailableError, match="its new epoch is unconfirmed"):
            await store.check(ref)
        wire.heal()
        assert not await store.check(ref)
        await store.close()


async def test_what_fails_for_other_reasons_is_not_hidden():
    async def fails():
        raise KeyError("a mistake")

    async def works():
        return 1

    assert await _some_of([works(), works()]) == [1, 1]
    with pytest.raises(KeyError):
        await _some_of([works(), fails()])


async def test_a_list_that_may_not_be_asked_for(redis_server):
    store = RedisStore(redis_server.url, deadline=5)
    await store.start()
    redis_server.does("ACL", "SETUSER", "default", "-evalsha", "-eval")
    with pytest.raises(StoreUnavailableError, match="NoPermission"):
        await store.list_sessions("alice", 10, None)
    assert store.status().problem is None
    redis_server.does("ACL", "SETUSER", "default", "+@all")
    assert await store.list_sessions("alice", 10, None) == ([], None)
    await store.close()


async def test_a_sign_that_does_not_go_away_is_no_answer(redis_server, monkeypatch):
    store = RedisStore(redis_server.url, deadline=5)
    ref = (await token(store))._replace(gen="gone.0.0")

    async def lost(*loss):
        pass

    monkeypatch.setattr(buckets_of(store), "_report_loss", lost)
    with pytest.raises(StoreUnavailableError, match="faster than it can be read"):
        await store.check(ref)
    await store.close()


async def test_a_stamp_of_memory_goes_by_its_time_where_losses_are_accepted(redis_server, caplog):
    store = RedisStore(redis_server.url, on_data_loss="accept", deadline=5)
    ref = (await token(store))._replace(gen="m.0.0", issued_at=time.time() - 5)
    assert await store.check(ref)
    await store.revoke_user("alice")
    assert not await store.check(ref)
    assert "lost data" not in caplog.text
    await store.close()


async def test_a_loss_between_two_loads_is_noticed_by_the_first_look(redis_server):
    """Before the process knew any bucket, some were gone: that is no new store."""
    first = RedisStore(redis_server.url, deadline=5)
    ref = await token(first)
    redis_server.does("DEL", everybody("bob"))
    second = RedisStore(redis_server.url, deadline=5)
    assert not await second.check(ref)
    assert second.status().data_losses == 1
    assert not await first.check(ref)
    third = RedisStore(redis_server.url, on_data_loss="accept", deadline=5)
    ref = await token(third)
    redis_server.does("DEL", everybody("bob"))
    fourth = RedisStore(redis_server.url, on_data_loss="accept", deadline=5)
    assert await fourth.check(ref)
    for store in (first, second, third, fourth):
        await store.close()


# -- ends ---------------------------------------------------------------------------------


async def test_closing_answers_whoever_waits(redis_server):
    store = RedisStore(redis_server.url, deadline=5)
    ref = await token(store)
    redis_server.freeze()
    tasks = [asyncio.ensure_future(store.check(ref)) for _ in range(3)]
    await asyncio.sleep(0.05)
    await store.close()
    redis_server.thaw()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, StoreUnavailableError) for result in results)
    assert await store.check(ref)
    await store.close()


async def test_closing_while_a_revocation_is_under_way(redis_server):
    store = RedisStore(redis_server.url, deadline=5)
    ref = await token(store)
    redis_server.freeze()
    task = asyncio.ensure_future(store.revoke_token(ref))
    await asyncio.sleep(0.05)
    await store.close()
    redis_server.thaw()
    await task
    assert not await store.check(ref)
    await store.close()


async def test_a_cancelled_first_call_stops_nobody(redis_server):
    """All wait for the same look at the buckets."""
    store = RedisStore(redis_server.url, deadline=5)
    redis_server.freeze()
    tasks = [asyncio.ensure_future(store.stamp("alice")) for _ in range(3)]
    await asyncio.sleep(0.05)
    tasks[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    redis_server.thaw()
    assert len(set(await asyncio.gather(*tasks[1:]))) == 1
    await store.close()


async def test_closing_before_anything_was_learnt(redis_server):
    store = RedisStore(redis_server.url, deadline=5)
    redis_server.freeze()
    task = asyncio.ensure_future(store.stamp("alice"))
    await asyncio.sleep(0.05)
    await store.close()
    redis_server.thaw()
    with pytest.raises(StoreUnavailableError):
        await task
    assert await store.stamp("alice")
    await store.close()


@pytest.mark.asyncio(loop_scope="function")
async def test_a_loop_that_ends_in_an_outage_leaves_nothing(redis_server, caplog):
    store = RedisStore(redis_server.url, deadline=0.1)
    await store.stamp("alice")
    redis_server.stop()

    def elsewhere():
        async def ask():
            with pytest.raises(StoreUnavailableError):
                await store.stamp("alice")
            assert not store.status().available
            await asyncio.sleep(0.12)

        asyncio.run(ask())

    await asyncio.to_thread(elsewhere)
    assert "destroyed" not in caplog.text
    redis_server.start()
    assert await store.stamp("alice")
    assert store.status().available
    assert caplog.text.count("does not answer") == caplog.text.count("answers again") == 1
    await store.close()


async def test_a_store_that_nobody_holds_asks_no_more(redis_server):
    redis_server.stop()
    store = RedisStore(redis_server.url, deadline=0.1, poll=0.02)
    with pytest.raises(StoreUnavailableError):
        await store.stamp("alice")
    topology = weakref.ref(await topologies_of(store).here())
    await open_topologies_of(store).pop(asyncio.get_running_loop())[1].aclose()
    del store
    for _ in range(5):
        await asyncio.sleep(0.03)
        gc.collect()
    assert topology() is None


async def test_timers_outlive_nobody():
    async def nothing():
        raise AssertionError("nobody is left to ask")

    breaker, watch = Breaker(nothing, lambda why: None), IdleTimer(nothing)
    breaker.trip("it does not answer", asyncio.get_running_loop().time())
    watch.start(0.01)
    del breaker, watch
    gc.collect()
    await asyncio.sleep(0.1)
    assert not [task for task in asyncio.all_tasks() if "nothing" in repr(task)]


async def test_what_began_before_the_server_came_back_says_nothing_about_now():
    told = []

    async def probe():
        pass

    breaker = Breaker(probe, told.append)
    began = asyncio.get_running_loop().time()
    breaker.trip("it does not answer", began)
    with pytest.raises(StoreUnavailableError, match="it does not answer"):
        breaker.refuse_if_open()
    await asyncio.sleep(0.1)
    assert not breaker.is_open
    breaker.trip("an old call failed", began)
    assert not breaker.is_open
    breaker.trip("a new call failed", asyncio.get_running_loop().time())
    assert breaker.is_open
    assert told == ["it does not answer", None, "a new call failed"]
    breaker.stop()


async def test_a_probe_that_hangs_holds_up_no_other():
    probes = []

    async def probe():
        probes.append(1)
        if len(probes) < 4:
            await asyncio.sleep(60)

    breaker = Breaker(probe, lambda why: None)
    breaker.trip("packets are swallowed", asyncio.get_running_loop().time())
    started = time.perf_counter()
    while breaker.is_open:
        await asyncio.sleep(0.01)
    assert len(probes) == 4
    assert time.perf_counter() - started < 2
    await asyncio.sleep(0)
    assert not [task for task in asyncio.all_tasks() if "Breaker._ask" in repr(task)]


async def test_a_store_is_available_once_all_its_loops_reach_it():
    class ServerClient:
        pass

    state, one, two = Health(None, "deny"), ServerClient(), ServerClient()
    state.outage(one, "it does not answer")
    state.outage(two, "it does not answer")
    state.outage(one, None)
    assert not state.status().available
    assert state.status().problem == "it does not answer"
    state.outage(two, None)
    assert state.status().available


async def test_probes_that_succeed_together_say_it_once(monkeypatch):
    monkeypatch.setattr("async_jwt.stores.redis.breaker.LONGEST_PAUSE", 0.02)
    back, told = asyncio.Event(), []
    breaker = Breaker(back.wait, told.append)
    breaker.trip("it does not answer", asyncio.get_running_loop().time())
    await asyncio.sleep(0.3)
    back.set()
    await asyncio.sleep(0.05)
    assert told == ["it does not answer", None]


async def test_no_more_than_a_few_probes_hang(monkeypatch):
    monkeypatch.setattr("async_jwt.stores.redis.breaker.LONGEST_PAUSE", 0.02)
    probes = []

    async def probe():
        probes.append(1)
        await asyncio.sleep(60)

    breaker = Breaker(probe, lambda why: None)
    breaker.trip("packets are swallowed", asyncio.get_running_loop().time())
    await asyncio.sleep(0.4)
    assert len(probes) == 4
    for task in breaker.stop():
        task.cancel()


async def test_a_mistake_of_ours_leaves_nobody_waiting():
    async def fetch(keys):
        raise LookupError("a mistake")

    reads = BatchLoader(fetch)
    waiting = asyncio.ensure_future(reads.get(["a"]))
    with pytest.raises(StoreUnavailableError):
        await asyncio.wait_for(waiting, 1)
    flight = next(iter(reads.flights), None)
    assert flight is None or isinstance(flight.exception(), LookupError)


# -- what a server says about itself ------------------------------------------------------


async def test_replies_that_are_none():
    for info in (b"", b"nonsense", "run_id:1", None, [1], b"run_id:1\r\nevicted_keys:many\r\n"):
        assert read_server(info) is None
    for config in (None, [], {}, b"x", [b"save"], {b"save": None}, 7):
        assert save_points(config) is None
    assert save_points([b"save", b"60 1"]) == save_points({b"save": b"60 1"}) == "60 1"


async def test_a_server_that_says_nothing_about_itself_is_not_asked_again(redis_server):
    redis_server.does("ACL", "SETUSER", "default", "-info", "-config")
    store = RedisStore(redis_server.url, deadline=5, poll=0.03)
    await store.start()
    for _ in range(10):
        await store.stamp("alice")
        await asyncio.sleep(0.02)
    assert store.status().persists is None
    redis_server.does("ACL", "SETUSER", "default", "+@all")
    stats = redis_server.does("INFO", "commandstats")
    assert stats["cmdstat_info"]["rejected_calls"] <= 2  # at the start, and perhaps by a poll meanwhile
    await store.close()


async def test_an_idle_store_asks_nothing(redis_server):
    store = RedisStore(redis_server.url, deadline=5, poll=0.03)
    await store.start()
    await asyncio.sleep(0.1)
    before = redis_server.does("INFO", "commandstats")["cmdstat_info"]["calls"]
    await asyncio.sleep(0.2)
    assert redis_server.does("INFO", "commandstats")["cmdstat_info"]["calls"] == before + 1
    await store.close()


async def test_polling_goes_on_after_an_outage(redis_server):
    store = RedisStore(redis_server.url, deadline=0.1, poll=0.03)
    await store.start()
    redis_server.stop()
    for _ in range(10):
        await asyncio.sleep(0.02)
        with pytest.raises(StoreUnavailableError):
            await store.stamp("alice")
    redis_server.start()
    while not store.status().available:
        await asyncio.sleep(0.01)
    redis_server.does("CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru")
    while not store.status().may_evict:
        await store.stamp("alice")
        await asyncio.sleep(0.01)
    await store.close()


async def test_a_connection_that_is_in_use_while_its_pool_leaves_the_server_is_not_used_again():
    class Fake:
        """A server's connection, whose reply comes after the pool has left."""

        closed = False
        connect = can_read = send_packed_command = lambda self, *_: asyncio.sleep(0, False)

        def pack_commands(self, commands):
            return commands

        async def read_response(self):
            await pool.drop()
            return b"PONG"

        async def disconnect(self, *, nowait):
            self.closed = True

    made = []

    async def make():
        made.append(Fake())
        return made[-1]

    pool = Pool(make, 1)
    assert await pool.send([("PING",)]) == [b"PONG"]
    assert made[0].closed
    await pool.send([("PING",)])
    assert len(made) == 2
