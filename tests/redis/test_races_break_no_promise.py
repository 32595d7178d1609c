"""What a hostile review found: rare moments in which a promise was broken."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import uuid
import warnings

import pytest

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores import TokenRef
from async_jwt.stores.contract import bucket_of
from async_jwt.stores.redis import RedisStore
from async_jwt.stores.redis.client import BatchLoader
from async_jwt.stores.redis.schema import Bucket
from async_jwt.stores.redis.versions import LastSeen, Loss
from tests.harness.insides import buckets_of, data_loss_of, open_topologies_of
from tests.harness.wire import Wire
from tests.redis.conftest import DURABLE

SCRIPTS = frozenset({b"EVALSHA", b"EVAL"})


async def token(store, name="alice"):
    return TokenRef(name, uuid.uuid4().hex, None, await store.stamp(name), 0.0, time.time() + 600)


async def begin_anew(url):
    store = RedisStore(url, deadline=5)
    await store.stamp("somebody")
    await store.close()


# -- losses that were not seen ----------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("by", ["this process", "one that did not know better"])
async def test_a_revocation_after_an_older_state_came_back_hides_nothing(make_server, by):
    server = make_server("--save", "")
    store, stranger = RedisStore(server.url, deadline=5), RedisStore(server.url, deadline=5)
    ref, other = await token(store), await token(store)
    server.does("SAVE")
    await store.revoke_token(ref)
    server.stop()
    server.start()
    # There are now as many revocations as before, and another one.
    await (store if by == "this process" else stranger).revoke_token(other)
    assert not await store.check(ref)
    assert store.status().data_losses == 1
    for each in (store, stranger):
        await each.close()


@pytest.mark.asyncio
async def test_a_store_that_was_only_begun_anew_is_not_dealt_with(redis_server, monkeypatch):
    """Between the look at an empty server and what is done about it a new process starts."""
    store = RedisStore(redis_server.url, deadline=5)
    await store.start()
    now = time.time()
    without = TokenRef("w", "j", None, None, now - 30, now + 60)
    await store.revoke_user("w")
    redis_server.does("FLUSHALL")
    deal = data_loss_of(store)._handle

    async def slowly(*loss):
        await begin_anew(redis_server.url)
        await deal(*loss)

    monkeypatch.setattr(data_loss_of(store), "_handle", slowly)
    assert not await store.check(without)
    assert store.status().data_losses == 1
    await store.close()


@pytest.mark.asyncio
async def test_another_loss_while_somebody_else_dealt_with_the_first(redis_server):
    async with Wire(redis_server.port).open() as wire:
        late, first = RedisStore(wire.url, deadline=5), RedisStore(redis_server.url, deadline=5)
        await late.start()
        ref = await token(first)

        def spoil(reply):
            if reply == b":0\r\n":  # somebody else was first
                redis_server.does("DEL", f"async_jwt:{{{bucket_of('bob')}}}:all")
            return reply, False

        redis_server.does("FLUSHALL")
        wire.swallows = True
        task = asyncio.ensure_future(late.check(ref))
        await asyncio.sleep(0.05)
        wire.spoils = lambda reply: (
            (b"*3\r\n_\r\n_\r\n_\r\n", False) if reply.startswith(b"*3") else spoil(reply)
        )
        assert not await first.check(ref)
        wire.swallows = False
        with pytest.raises(StoreUnavailableError, match="is losing writes"):
            await task
        wire.heal()
        assert not await late.check(ref)
        for store in (late, first):
            await store.close()


@pytest.mark.asyncio
async def test_everybodys_generation_of_a_lost_state_tells(make_server):
    server = make_server("--save", "")
    store = RedisStore(server.url, deadline=5)
    await store.start()
    server.does("SAVE")
    await store.revoke_everything()
    ahead = await token(store)
    await store.close()
    server.stop()
    server.start()
    new = RedisStore(server.url, deadline=5)
    without = ahead._replace(gen=None, issued_at=time.time() - 5)
    assert await new.check(without)
    assert not await new.check(ahead)
    assert not await new.check(without)
    assert new.status().data_losses == 1
    await new.close()


@pytest.mark.asyncio
async def test_what_was_left_is_remembered_from_loss_to_loss(redis_server):
    store = RedisStore(redis_server.url, deadline=5)
    first = await token(store)
    refs = [first]
    for number in range(3):
        assert not await store.check(first._replace(gen=f"gone{number}.0.0"))
        refs.append(await token(store))
    for ref in refs[:-1]:
        assert not await store.check(ref)
    assert await store.check(refs[-1])
    assert store.status().data_losses == 3
    await store.close()


@pytest.mark.asyncio
async def test_the_poll_notices_what_no_request_does(redis_server):
    store = RedisStore(redis_server.url, deadline=0.2, poll=0.05)
    await store.start()
    redis_server.does("DEL", f"async_jwt:{{{bucket_of('bob')}}}:all")
    for _ in range(100):
        await store.stamp("alice")
        if store.status().data_losses:
            break
        await asyncio.sleep(0.01)
    assert store.status().data_losses == 1
    await store.close()


@pytest.mark.asyncio
async def test_the_probe_notices_before_any_request_is_served(redis_server):
    store = RedisStore(redis_server.url, deadline=0.2, poll=60)
    await store.start()
    redis_server.stop()
    with pytest.raises(StoreUnavailableError):
        await store.stamp("alice")
    redis_server.start()
    while not store.status().available:
        await asyncio.sleep(0.01)
    assert store.status().data_losses == 1
    await store.close()


# -- evictions ----------------------------------------------------------------------------------


def evict(server):
    used = server.does("INFO", "memory")["used_memory"]
    server.does("CONFIG", "SET", "maxmemory", str(used + 200_000), "maxmemory-policy", "volatile-random")
    for number in range(60):
        server.does("SET", f"junk {number}", "x" * 10_000, "EX", "1000")
    server.does("CONFIG", "SET", "maxmemory", "0")
    assert server.does("INFO", "stats")["evicted_keys"] > 0


@pytest.mark.asyncio
async def test_evictions_are_dealt_with_once_by_all(redis_server):
    stores = [RedisStore(redis_server.url, deadline=5) for _ in range(3)]
    for store in stores:
        await store.start()
    old = await token(stores[0])
    evict(redis_server)
    await stores[0].start()
    new = await token(stores[0])
    for store in stores[1:]:
        await store.start()
    assert not await stores[1].check(old)
    assert await stores[1].check(new)
    for store in stores:
        await store.close()


@pytest.mark.asyncio
async def test_evictions_that_could_not_be_dealt_with_are_not_forgotten(redis_server):
    store = RedisStore(redis_server.url, deadline=5)
    await store.start()
    old = await token(store)
    evict(redis_server)
    redis_server.does("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1")
    with pytest.raises(StoreUnavailableError):
        await store.start()
    redis_server.does("CONFIG", "SET", "maxmemory", "0")
    await store.start()
    assert not await store.check(old)
    await store.close()


@pytest.mark.asyncio
async def test_evictions_after_the_count_was_reset_or_the_server_restarted(make_server):
    server = make_server(*DURABLE)
    store = RedisStore(server.url, deadline=5)
    await store.start()
    for number in range(3):
        old = await token(store)
        evict(server)
        await store.start()
        assert not await store.check(old), number
        if number == 0:
            server.does("CONFIG", "RESETSTAT")
            await store.start()
        if number == 1:
            await store.close()
            server.stop()
            server.start()
    assert store.status().data_losses == 3
    await store.close()


@pytest.mark.asyncio
async def test_old_evictions_that_cannot_be_marked_refuse_nobody(redis_server):
    """On a replica, or where the memory is full."""
    first = RedisStore(redis_server.url, deadline=5)
    old = await token(first)
    await first.close()
    evict(redis_server)
    redis_server.does("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1")
    store = RedisStore(redis_server.url, deadline=5, poll=0.01)
    await store.start()
    await asyncio.sleep(0.05)
    assert await store.check(old)
    redis_server.does("CONFIG", "SET", "maxmemory", "0")
    await store.close()


@pytest.mark.asyncio
async def test_evictions_during_a_deploy_are_seen_by_the_new_processes(redis_server):
    first = RedisStore(redis_server.url, deadline=5)
    evict(redis_server)
    await first.start()  # of before its time
    assert first.status().data_losses == 0
    old = await token(first)
    await first.close()
    evict(redis_server)
    second = RedisStore(redis_server.url, deadline=5)
    await second.start()
    assert not await second.check(old)
    await second.close()


@pytest.mark.asyncio
async def test_one_look_that_failed_is_not_the_last(redis_server):
    async with Wire(redis_server.port).open() as wire:
        store = RedisStore(wire.url, deadline=5)
        await store.start()
        old = await token(store)
        evict(redis_server)
        for reply in (b"-BUSY Redis is busy\r\n", b"+what?\r\n"):
            wire.says = (frozenset({b"INFO"}), reply)
            await store.start()
        wire.heal()
        await store.start()
        assert not await store.check(old)
        await store.close()


def test_loops_shorter_than_the_poll_look_too(redis_server):
    store = RedisStore(redis_server.url, deadline=5, poll=0.02)

    async def check(ref):
        return await store.check(ref)

    asyncio.run(store.start())
    old = asyncio.run(token(store))
    evict(redis_server)
    time.sleep(0.05)
    assert not asyncio.run(check(old))


# -- servers ------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_primary_that_became_a_replica_is_left(make_server):
    """Behind a name that leads to the new one, to which old connections do not."""
    old, new = make_server("--repl-diskless-sync-delay", "0"), make_server()
    async with Wire(old.port).open() as wire:
        store = RedisStore(wire.url, deadline=5, poll=0.05)
        await store.start()
        good, bad = await token(store), await token(store)
        new.does("REPLICAOF", "127.0.0.1", old.port)
        while new.does("INFO", "replication")["master_link_status"] != "up":
            await asyncio.sleep(0.01)
        new.does("REPLICAOF", "NO", "ONE")
        old.does("REPLICAOF", "127.0.0.1", "1")
        wire._upstream = ("127.0.0.1", new.port)
        other = RedisStore(new.url, deadline=5)
        await other.revoke_token(bad)
        until = time.monotonic() + 2
        while await store.check(bad):
            assert time.monotonic() < until
            await asyncio.sleep(0.02)
        await store.revoke_token(good)
        assert not await other.check(good)
        await store.close()
        await other.close()


@pytest.mark.asyncio
async def test_revoking_on_what_became_a_replica_finds_the_new_primary(make_server):
    old, new = make_server(), make_server()
    async with Wire(old.port).open() as wire:
        store = RedisStore(wire.url, deadline=5, poll=60)
        ref = await token(store)
        old.does("REPLICAOF", "127.0.0.1", "1")
        wire._upstream = ("127.0.0.1", new.port)
        with pytest.raises(StoreUnavailableError):
            await store.revoke_token(ref)
        await store.revoke_token(ref)
        assert not await store.check(ref)
        await store.close()


@pytest.mark.asyncio
async def test_the_servers_clock_says_nothing_about_how_long_a_revocation_lives(redis_server, monkeypatch):
    """By how long a token lives, and not until when: as if ours were five minutes behind."""
    store = RedisStore(redis_server.url, deadline=5)
    monkeypatch.setattr("async_jwt.stores.redis.schema.system_clock", lambda: time.time() - 300)
    ref = (await token(store))._replace(expires_at=time.time() - 300 + 200)
    await store.revoke_token(ref)
    assert not await store.check(ref)
    key = f"async_jwt:{{{bucket_of('alice')}}}:jti:{ref.jti}"
    assert 250_000 < redis_server.does("PTTL", key) <= 260_000
    await store.close()


@pytest.mark.asyncio
async def test_flushed_and_full_is_no_outage_that_lets_pass(redis_server):
    store = RedisStore(redis_server.url, deadline=5, on_outage="allow")
    ref = (await token(store))._replace(may_fail_open=True)
    await store.revoke_token(ref)
    redis_server.does("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1")
    redis_server.does("FLUSHALL")
    with pytest.raises(StoreUnavailableError):
        await store.check(ref)
    redis_server.does("CONFIG", "SET", "maxmemory", "0")
    assert not await store.check(ref)
    await store.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("reply", [b":7\r\n", b"+OK\r\n", b"_\r\n"])
async def test_odd_replies_to_revoking_everything_are_no_yes(redis_server, reply):
    async with Wire(redis_server.port).open() as wire:
        store = RedisStore(wire.url, deadline=5)
        await store.start()
        wire.says = (SCRIPTS, reply)
        with pytest.raises(StoreUnavailableError):
            await store.revoke_everything()
        wire.heal()
        await store.close()


# -- stamps -------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("epoch", ["a b", "x,y", "\N{LATIN SMALL LETTER E WITH ACUTE}", "x" * 33, "%s", ""])
async def test_texts_that_are_no_epochs_harm_nobody(redis_server, epoch):
    store = RedisStore(redis_server.url, deadline=5)
    good = await token(store)
    assert not await store.check(good._replace(gen=f"{epoch}.0.0"))
    assert await store.check(good)
    assert store.status().data_losses == 0
    await store.close()


@pytest.mark.asyncio
async def test_more_left_epochs_than_are_remembered_sign_nobody_out(redis_server):
    store = RedisStore(redis_server.url, deadline=5)
    ref = await token(store)
    for number in range(70):
        assert not await store.check(ref._replace(gen=f"gone{number}.0.0"))
    losses = store.status().data_losses
    assert losses <= 64
    new = await token(store)
    for number in range(70):
        assert not await store.check(ref._replace(gen=f"gone{number}.0.0"))
    assert store.status().data_losses == losses
    assert await store.check(new)
    await store.close()


def test_late_replies_of_another_epoch_change_nothing():
    def raw(epoch, count, former=""):
        return f"{epoch} 0 -1 {count} {count} {former}".encode()

    known = LastSeen()
    first = known.compare("00", raw("a", 5), None)
    second = known.compare("00", raw("b", 0, "a"), first)
    assert known.compare("00", raw("a", 6), first) == Bucket.read(raw("a", 6))
    assert known.before("00") == second
    assert isinstance(known.compare("00", raw("a", 6), second), Loss)
    third = known.compare("00", raw("b", 3, "a"), second)
    assert known.compare("00", raw("b", 1, "a"), second) == Bucket.read(raw("b", 1, "a"))
    assert known.before("00") == third
    assert isinstance(known.compare("00", raw("b", 1, "a"), third), Loss)
    assert isinstance(known.compare("00", raw("b", 3, "a"), third, added=1), Loss)
    assert isinstance(known.compare("00", b"b 0 -1 3 4 a", third), Loss)


# -- event loops --------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_closing_at_any_tick_leaves_nobody_waiting(redis_server):
    store = RedisStore(redis_server.url, deadline=1)
    ref = await token(store)
    for ticks in range(14):
        task = asyncio.ensure_future(store.check(ref))
        for _ in range(ticks):
            await asyncio.sleep(0)
        await store.close()
        assert (await asyncio.wait([task], timeout=3))[0], ticks
        assert task.exception() is not None or task.result() is True
    await store.close()


def test_loops_that_end_are_forgotten(redis_server):
    store = RedisStore(redis_server.url, deadline=5)

    async def stamp():
        await store.stamp("alice")

    for _ in range(10):
        asyncio.run(stamp())
    assert len(open_topologies_of(store)) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # nobody closed what these loops had
        for _ in range(5):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(stamp())
            loop.close()
        asyncio.run(stamp())
        gc.collect()
    assert len(open_topologies_of(store)) == 0


@pytest.mark.asyncio
async def test_a_cancelled_call_is_cancelled(redis_server):
    """Even if what it waits for is cancelled too, as at the end of a loop; and it is no outage."""
    store = RedisStore(redis_server.url, deadline=5, on_outage="allow")
    redis_server.freeze()
    ref = TokenRef("alice", "j", None, "x.0.0", 0.0, time.time() + 60, True)
    task = asyncio.ensure_future(store.check(ref))
    await asyncio.sleep(0.05)
    for other in asyncio.all_tasks() - {asyncio.current_task()}:
        other.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    redis_server.thaw()
    await store.close()


@pytest.mark.asyncio
async def test_a_loop_that_stalls_is_no_outage(redis_server):
    store = RedisStore(redis_server.url, deadline=0.2)
    ref = await token(store)
    for ticks in range(5, 15):
        task = asyncio.ensure_future(store.check(ref))
        for _ in range(ticks):
            await asyncio.sleep(0)
        time.sleep(0.22)  # noqa: ASYNC251  # as a view that computes
        assert await task
    assert store.status().refused == 0
    await store.close()


@pytest.mark.asyncio
async def test_closing_in_an_outage_says_nothing_about_the_server(redis_server, caplog):
    store = RedisStore(redis_server.url, deadline=0.2)
    ref = await token(store)
    redis_server.stop()
    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            await store.check(ref)
        await store.close()
        assert not store.status().available
    assert caplog.text.count("does not answer") == 1
    assert "answers again" not in caplog.text
    redis_server.start()
    assert not await store.check(ref)
    assert store.status().available
    await store.close()


def test_a_loop_that_runs_now_and_then_asks_again(redis_server):
    store = RedisStore(redis_server.url, deadline=0.2)

    async def stamp():
        return await store.stamp("alice")

    with asyncio.Runner() as runner:
        runner.run(stamp())
        redis_server.stop()
        with pytest.raises(StoreUnavailableError):
            runner.run(stamp())
        redis_server.start()
        time.sleep(1.1)  # longer than two pauses between probes
        assert runner.run(stamp())
        runner.run(store.close())


def test_one_loss_is_one_however_many_loops_see_it(redis_server, caplog):
    store = RedisStore(redis_server.url, deadline=5)
    barrier, answers = threading.Barrier(2), []

    async def prepare():
        refs = [await token(store, name) for name in ("alice", "bob")]
        await store.close()
        return refs

    refs = asyncio.run(prepare())

    def elsewhere(ref):
        async def ask():
            await store.stamp("zed")
            barrier.wait()
            if ref is refs[0]:
                redis_server.does("FLUSHALL")
            barrier.wait()
            answers.append(await store.check(ref))

        asyncio.run(ask())

    threads = [threading.Thread(target=elsewhere, args=(ref,)) for ref in refs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [False, False]
    assert store.status().data_losses == caplog.text.count("lost data") == 1


@pytest.mark.asyncio
async def test_a_forked_child_starts_from_what_it_sees(redis_server, monkeypatch):
    store = RedisStore(redis_server.url, deadline=0.2)
    ref = await token(store)
    redis_server.stop()
    with pytest.raises(StoreUnavailableError):
        await store.check(ref)
    parents = list(open_topologies_of(store).values())
    monkeypatch.setattr("os.getpid", lambda: -1)
    redis_server.start()
    assert not await store.check(ref)
    assert store.status().available
    for _, lifespan in parents:
        await lifespan.aclose()
    await store.close()


@pytest.mark.asyncio
async def test_two_crowds_become_one():
    """Each waiting while the other's command is under way, they would else go on apart for ever."""
    commands = []

    async def fetch(keys):
        commands.append(keys)
        for _ in range(3):  # ticks until the reply is there
            await asyncio.sleep(0)
        return [b""] * len(keys)

    reads = BatchLoader(fetch)

    async def client(number):
        if number % 2:
            while not commands:
                await asyncio.sleep(0)
        for _ in range(50):
            await reads.get([str(number)])

    await asyncio.gather(*(client(number) for number in range(20)))
    assert len(commands) < 60, "100 are those of two crowds"


@pytest.mark.asyncio
async def test_a_late_sign_of_a_loss_that_was_dealt_with_says_nothing(redis_server, caplog):
    store = RedisStore(redis_server.url, deadline=5)
    ref = await token(store)
    epoch = str(ref.gen).partition(".")[0]
    redis_server.does("FLUSHALL")
    assert not await store.check(ref)
    await buckets_of(store)._report_loss(bucket_of("alice"), epoch, epoch, "an older state came back")
    assert store.status().data_losses == caplog.text.count("lost data") == 1
    assert await store.check(await token(store))
    await store.close()
