"""A Cluster: a master dies, slots move, one node forgets; and what a check costs."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
import uuid

import pytest
from redis.crc import key_slot
from redis.exceptions import MovedError

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores import TokenRef
from async_jwt.stores.contract import bucket_of
from async_jwt.stores.redis import RedisStore
from async_jwt.stores.redis.cluster import _endpoint
from async_jwt.stores.redis.deadline import Deadline
from async_jwt.stores.redis.options import Address
from async_jwt.stores.redis.schema import TokenStatus
from async_jwt.testing import session_contract, store_contract
from tests.harness.crowd import Crowd, answered, comes
from tests.harness.fleets import ClusterOfServers
from tests.harness.insides import (
    health_of,
    layout_of,
    mirror_of,
    monitor_of,
    node_of,
    topologies_of,
    topology_of,
)
from tests.harness.servers import RedisServer, free_port
from tests.harness.wire import DATA, Wire


@pytest.fixture
def prefix():
    return f"{uuid.uuid4().hex}:"


@pytest.fixture
def make_fleet(tmp_path):
    made = []

    def make(*options, replicas=False):
        made.append(ClusterOfServers(tmp_path, *options, replicas=replicas))
        return made[-1]

    yield make
    for fleet in made:
        fleet.stop()


async def token(store, name):
    return TokenRef(name, uuid.uuid4().hex, None, await store.stamp(name), 0.0, time.time() + 60)


async def ends(store, ref):
    """Wait until a token is refused for certain: its loss was noticed and dealt with."""
    until = time.monotonic() + 20
    while True:
        with contextlib.suppress(StoreUnavailableError):
            if not await store.check(ref):
                return
        assert time.monotonic() < until, "its loss is not dealt with"
        await asyncio.sleep(0.05)


def slot_of(name):
    return key_slot(bucket_of(name).encode())


def users_of(fleet, server, count=5):
    """Names of users that a master keeps."""
    slots = fleet.slots_of(server)
    names = (f"user {number}" for number in range(100_000))
    return list(itertools.islice((name for name in names if slot_of(name) in slots), count))


@pytest.mark.parametrize("protocol", [3, pytest.param(2, marks=pytest.mark.long_run)])
@pytest.mark.asyncio
async def test_a_cluster_keeps_all_promises(cluster, protocol):
    for promise in [*store_contract, *session_contract]:
        url = f"{cluster.url}?protocol={protocol}"
        store = RedisStore(url, prefix=f"{uuid.uuid4().hex}:", deadline=5)
        await promise(store)
        await store.close()


@pytest.mark.asyncio
async def test_checks_of_one_moment_are_one_trip_to_each_node(cluster, prefix):
    store = RedisStore(cluster.url, prefix=prefix, deadline=5)
    tokens = [await token(store, f"user {number}") for number in range(100)]
    for ended in tokens[::2]:
        await store.revoke_token(ended)

    def reads():
        return [server.does("INFO", "stats")["total_reads_processed"] for server in cluster.masters]

    before = reads()
    own = [now - then for now, then in zip(reads(), before, strict=True)]
    before = reads()
    assert await asyncio.gather(*map(store.check, tokens)) == [False, True] * 50
    assert [now - then - ours for now, then, ours in zip(reads(), before, own, strict=True)] == [1, 1, 1]
    await store.close()


@pytest.mark.asyncio
async def test_processes_that_start_together_found_one_store(cluster, prefix, caplog):
    stores = [RedisStore(cluster.url, prefix=prefix, deadline=5) for _ in range(6)]
    await asyncio.gather(*(store.start() for store in stores))
    tokens = [await token(store, f"user {number}") for number, store in enumerate(stores)]
    for store in stores:
        assert all(await asyncio.gather(*map(store.check, tokens)))
        assert store.status().data_losses == 0
    await stores[0].revoke_everything()
    for store in stores:
        assert not any(await asyncio.gather(*map(store.check, tokens)))
        await store.close()
    assert "lost data" not in caplog.text


@pytest.mark.asyncio
async def test_a_store_that_is_being_founded_is_not_taken_for_a_lost_one(cluster, prefix, caplog):
    first, second = (RedisStore(cluster.url, prefix=prefix, deadline=5) for _ in range(2))
    await first.start()
    bucket = f"{prefix}{{{bucket_of('alice')}}}:all"
    owner = cluster.owner(slot_of("alice"))
    value = owner.does("GET", bucket)
    owner.does("DEL", bucket)
    asyncio.get_running_loop().call_later(0.1, lambda: owner.does("SET", bucket, value))
    assert await second.check(await token(second, "alice"))
    assert "lost data" not in caplog.text
    for store in (first, second):
        await store.close()


@pytest.mark.asyncio
async def test_a_founder_that_died_half_way_leaves_a_loss(cluster, prefix, caplog):
    first, second = (RedisStore(cluster.url, prefix=prefix, deadline=5) for _ in range(2))
    kept = await token(first, "alice")
    owner = cluster.owner(slot_of("alice"))
    owner.does("DEL", f"{prefix}{{{bucket_of('alice')}}}:all")
    assert not await second.check(kept)
    assert second.status().data_losses == 1
    assert await second.check(await token(second, "alice"))
    for store in (first, second):
        await store.close()


@pytest.mark.parametrize("on_data_loss", ["deny", "accept"])
@pytest.mark.asyncio
async def test_what_one_node_lost_concerns_its_own_users(cluster, prefix, on_data_loss, caplog):
    store = RedisStore(cluster.url, prefix=prefix, deadline=5, on_data_loss=on_data_loss)
    emptied, others = cluster.masters[1], (cluster.masters[0], cluster.masters[2])
    lost = [await token(store, name) for name in users_of(cluster, emptied)]
    kept = [await token(store, name) for other in others for name in users_of(cluster, other)]
    await store.revoke_token(lost[0])
    await store.revoke_token(kept[0])
    emptied.does("FLUSHALL")
    passes = on_data_loss == "accept"
    assert await asyncio.gather(*map(store.check, lost)) == [passes] * len(lost)
    assert await asyncio.gather(*map(store.check, kept)) == [False] + [True] * (len(kept) - 1)
    assert caplog.text.count("a bucket is missing") == 1
    assert await store.check(await token(store, lost[0].identity))
    await store.close()


@pytest.mark.asyncio
async def test_keys_that_one_node_drops_concern_its_own_users(cluster, prefix):
    store = RedisStore(cluster.url, prefix=prefix, deadline=5, poll=0.1)
    await store.start()
    full, other = cluster.masters[:2]
    lost = await token(store, users_of(cluster, full)[0])
    kept = await token(store, users_of(cluster, other)[0])
    used = full.does("INFO", "memory")["used_memory"]
    full.does("CONFIG", "SET", "maxmemory-policy", "volatile-lru", "maxmemory", used + 200_000)
    try:
        slot = next(iter(cluster.slots_of(full) - {slot_of(lost.identity)}))
        tag = next(tag for tag in map(str, range(100_000)) if key_slot(tag.encode()) == slot)
        for number in range(100):
            full.does("SET", f"{{{tag}}}noise:{number}", "x" * 10_000, "EX", 60)
    finally:
        full.does("CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "noeviction")
    until = time.monotonic() + 5
    while await store.check(lost):
        assert time.monotonic() < until
        await asyncio.sleep(0.02)
    assert await store.check(kept)
    assert store.status().data_losses == 1
    await store.close()


@pytest.mark.parametrize("covers", ["no", pytest.param("yes", marks=pytest.mark.long_run)])
@pytest.mark.asyncio
async def test_a_master_dies_and_its_replica_takes_over(make_fleet, covers, is_long):
    """Users of the other nodes notice nothing, where the Cluster itself goes on without it."""
    fleet = make_fleet("--save", "", "--cluster-require-full-coverage", covers, replicas=True)
    dying = fleet.masters[0]
    store = RedisStore(fleet.url, poll=0.5 if covers == "yes" else 60)
    crowd = Crowd([store])
    others = [await token(store, name) for name in users_of(fleet, fleet.masters[1])]
    refused = []

    async def go_on():
        while not use.done():
            for ref in others:
                with contextlib.suppress(StoreUnavailableError):
                    assert await store.check(ref)
                    continue
                refused.append(ref)
            await asyncio.sleep(0.002)

    use = asyncio.ensure_future(crowd.use())
    going_on = asyncio.ensure_future(go_on())
    await comes(lambda: crowd.count["200"] and crowd.count["revoked"], "nobody is served")
    dying.stop()
    await comes(lambda: crowd.count["503"], "nobody missed it")
    await comes(lambda: store.status().available, "its replica does not take its place")
    await asyncio.sleep(0.5)
    before = crowd.count["503"], crowd.count["not revoked"]
    served = crowd.count["200"]
    await comes(lambda: crowd.count["200"] > served + 100, "nobody is served")
    crowd.leave()
    await use
    await going_on
    if is_long:
        assert (crowd.count["503"], crowd.count["not revoked"]) == before
        assert crowd.slowest < 1.0
    if covers == "no":
        assert refused == []
    if not store.status().data_losses:
        assert crowd.wrong == []
        await crowd.all_hold()
    await store.close()


@pytest.mark.asyncio
async def test_slots_move_under_load(cluster, prefix, is_long):
    fleet = cluster
    source, target = fleet.masters[:2]
    store = RedisStore(fleet.url, prefix=prefix, deadline=5)
    crowd = Crowd([store])
    await store.start()
    moving = sorted({slot_of(name) for name in users_of(fleet, source, 400)})[: 40 if is_long else 8]
    use = asyncio.ensure_future(crowd.use())

    def move():
        for slot in moving:
            fleet.open_slot(slot, source, target)
            while fleet.move_keys(slot, source, target, count=2):
                time.sleep(0.002)
            fleet.close_slot(slot, target)

    await comes(lambda: crowd.count["200"] and crowd.count["revoked"], "nobody is served")
    await asyncio.to_thread(move)
    served, revoked = crowd.count["200"], crowd.count["revoked"]
    await comes(lambda: crowd.count["200"] > served and crowd.count["revoked"] > revoked, "nobody is served")
    crowd.leave()
    await use
    assert crowd.wrong == []
    assert crowd.count["503"] == 0
    assert crowd.count["not revoked"] == 0
    await crowd.all_hold()
    assert store.status().data_losses == 0
    await store.close()


@pytest.mark.asyncio
async def test_what_is_on_its_way_is_read_key_by_key(cluster, prefix):
    """A slot that stays open: some keys are here, some there, and some nowhere."""
    fleet = cluster
    store = RedisStore(fleet.url, prefix=prefix)
    good, ended, out = [await token(store, "alice") for _ in range(3)]
    signed_out = out._replace(sid=bucket_of("alice") + "session")
    await store.revoke_token(ended)
    await store.revoke_session(str(signed_out.sid), None)
    slot, source = slot_of("alice"), fleet.owner(slot_of("alice"))
    target = next(server for server in fleet.masters if server is not source)
    fleet.open_slot(slot, source, target)
    moved = True
    while moved:
        assert await asyncio.gather(*map(store.check, (good, ended, signed_out))) == [True, False, False]
        assert await store.check(await token(store, "alice"))
        moved = fleet.move_keys(slot, source, target, count=1)
    refused = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        await store.revoke_token(good)
    assert time.monotonic() - refused < 0.5
    assert await store.check(good)
    fleet.close_slot(slot, target)
    await store.revoke_token(good)
    assert not await store.check(good)
    source.does("CONFIG", "RESETSTAT")
    assert not await store.check(good)
    assert "cmdstat_mget" not in source.does("INFO", "commandstats"), "it was told where the slot is"
    assert store.status().problem is None
    assert store.status().data_losses == 0
    await store.close()


def left(seconds):
    """What remains of a deadline."""
    deadline = Deadline(0.25)
    deadline.shorten(seconds)
    return deadline


@pytest.mark.asyncio
async def test_generations_are_read_before_what_they_outlive(cluster, prefix, monkeypatch):
    """Key by key, a stamp must be no younger than what is found beside it."""
    store = RedisStore(cluster.url, prefix=prefix, deadline=5)
    ref = (await token(store, "alice"))._replace(sid=bucket_of("alice") + "session")
    _, keys, _ = layout_of(store).of(ref)
    keys = [*reversed(keys), layout_of(store).bucket(bucket_of("alice"))]
    node, read = node_of(store, bucket_of("alice")), []
    send = node.send

    async def recorded(commands, deadline=None):
        read.extend(command[1] for command in commands)
        return await send(commands, deadline)

    monkeypatch.setattr(node, "send", recorded)
    values = await node._one_by_one(keys, Deadline(5))
    assert values[:-1] == [None] * (len(keys) - 1)
    assert sorted(read[:2]) == sorted([keys[-1], layout_of(store).user("alice")])
    assert set(read) == set(keys)
    await store.close()


@pytest.mark.asyncio
async def test_a_new_store_waits_for_all_nodes(cluster, prefix):
    """Whether there is a store already the absent one alone may know."""
    alice = users_of(cluster, cluster.masters[1])[0]
    store = RedisStore(cluster.url, prefix=prefix)
    cluster.masters[0].freeze()
    try:
        with pytest.raises(StoreUnavailableError):
            await store.stamp(alice)
    finally:
        cluster.masters[0].thaw()
    assert await store.check(await answered(lambda: token(store, alice)))
    assert store.status().data_losses == 0
    await store.close()


@pytest.mark.asyncio
async def test_a_slot_that_nobody_holds_keeps_its_own_users_out(cluster, prefix):
    options = {"prefix": prefix, "poll": 60, "deadline": 5}
    store, mirrored = (RedisStore(cluster.url, mirror=mirror, **options) for mirror in (False, True))
    owner = cluster.masters[0]
    lost, *kept = [await token(store, name) for name in users_of(cluster, owner, 4)]
    kept = [ref for ref in kept if slot_of(ref.identity) != slot_of(lost.identity)]
    await mirrored.start()
    for server in cluster.masters:
        server.does("CLUSTER", "DELSLOTS", slot_of(lost.identity))
    try:
        for _ in range(5):
            answers = await asyncio.gather(*map(store.check, [lost, *kept]), return_exceptions=True)
            assert isinstance(answers[0], StoreUnavailableError)
            assert answers[1:] == [True] * len(kept)
            await asyncio.sleep(0.05)
        node = node_of(store, bucket_of(kept[0].identity))
        with pytest.raises(StoreUnavailableError):
            await node.fetch([layout_of(store).bucket(bucket_of(lost.identity))])
        assert store.status().available
        with pytest.raises(StoreUnavailableError):
            await store.revoke_everything()
        new = RedisStore(cluster.url, **options)
        await answered(lambda: new.stamp(kept[0].identity))
        assert await new.check(await token(store, kept[0].identity))
        with pytest.raises(StoreUnavailableError):
            await new.check(lost)
        await asyncio.sleep(1.1)
        kept = [await token(store, ref.identity) for ref in kept]
        assert mirror_of(mirrored).status(kept[0]) is TokenStatus.VALID
        assert mirror_of(mirrored).status(lost) is None
    finally:
        owner.does("CLUSTER", "ADDSLOTS", slot_of(lost.identity))
    again = await answered(lambda: token(store, lost.identity))
    assert await answered(lambda: new.check(again))
    for each in (store, mirrored, new):
        await each.close()


@pytest.mark.asyncio
async def test_a_node_that_holds_nothing_any_more_is_not_waited_for(cluster, prefix):
    store = RedisStore(cluster.url, prefix=prefix, deadline=5)
    await store.start()
    topology = topology_of(store)
    node = topology.node(Address("127.0.0.1", free_port()))
    health_of(store).writing(node.name, "it is full")
    await topology.probe(node)
    assert node not in topology.clients()
    assert store.status().problem is None
    await store.close()


@pytest.mark.asyncio
async def test_nodes_that_point_at_each_other(lone_node, is_long):
    lone_node.does("FLUSHALL")
    async with Wire(lone_node.port).open(lone_node.wire_port) as wire:
        store = RedisStore(wire.url.replace("redis:", "redis+cluster:"), deadline=5, poll=60)
        ref = await token(store, "alice")
        wire.says = (DATA, f"-MOVED {slot_of('alice')} 127.0.0.1:{wire.port}\r\n".encode())
        started = time.perf_counter()
        with pytest.raises(StoreUnavailableError, match=r"kept redirecting|too little time"):
            await store.check(ref)
        assert not is_long or time.perf_counter() - started < 1.0
        assert store.status().available
        wire.heal()
        assert await store.check(ref)
        node = node_of(store, bucket_of("alice"))
        moved = MovedError(f"{slot_of('alice')} 127.0.0.1:{wire.port}")
        with pytest.raises(StoreUnavailableError, match="kept redirecting"):
            await node._elsewhere(moved, ("PING",), left(0))
        await store.close()


@pytest.mark.asyncio
async def test_nodes_that_have_no_name(cluster, prefix):
    """They say "?" for it, and where they are among the rest."""
    try:
        for server in cluster.masters:
            server.does("CONFIG", "SET", "cluster-preferred-endpoint-type", "hostname")
        store = RedisStore(cluster.url, prefix=prefix, deadline=5)
        for promise in store_contract[:4]:
            await promise(store)
        slot, alice = slot_of("alice"), await token(store, "alice")
        source = cluster.owner(slot)
        target = next(server for server in cluster.masters if server is not source)
        cluster.open_slot(slot, source, target)
        while cluster.move_keys(slot, source, target):
            assert await store.check(alice)
        assert await store.check(alice)
        cluster.close_slot(slot, target)
        assert await store.check(alice)
        await store.close()
    finally:
        for server in cluster.masters:
            server.does("CONFIG", "SET", "cluster-preferred-endpoint-type", "ip")


def test_where_a_node_says_that_it_is():
    assert _endpoint(b"10.0.0.1", [b"id"]) == "10.0.0.1"
    assert _endpoint(b"?", [b"id", [b"ip", b"10.0.0.2"]]) == "10.0.0.2"
    assert _endpoint(b"?", [b"id", {b"ip": b"10.0.0.3"}]) == "10.0.0.3"
    assert _endpoint(b"?", [b"id", []]) == _endpoint(None, [b"id"]) == _endpoint(b"", []) == ""


@pytest.mark.asyncio
async def test_who_had_no_time_is_not_taken_for_dead(make_server):
    """What is left of a deadline after a redirection says nothing about the node that it led to."""
    server = make_server()
    store = RedisStore(server.url)
    await answered(store.start)
    node = node_of(store, "00")
    server.freeze()
    with pytest.raises(StoreUnavailableError, match="too little time"):
        await node.send([("PING",)], left(0.05))
    assert not node.unavailable
    with pytest.raises(StoreUnavailableError, match="did not answer"):
        await node.send([("PING",)], left(0.2))
    assert node.unavailable
    server.thaw()
    await store.close()


@pytest.mark.asyncio
async def test_nodes_that_are_nowhere(caplog, is_long):
    store = RedisStore(f"redis+cluster://127.0.0.1:{free_port()}")
    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            await store.stamp("alice")
    started = time.perf_counter()
    for _ in range(100):
        with pytest.raises(StoreUnavailableError):
            await store.stamp("alice")
    assert not is_long or time.perf_counter() - started < 0.25, "nobody waits for what is known to be out"
    assert caplog.text.count("Until it answers") == 1
    await store.close()


@pytest.mark.asyncio
async def test_closing_ends_whoever_looks_for_nodes(redis_server):
    async with Wire(redis_server.port).open() as wire:
        wire.swallows = True
        store = RedisStore(wire.url.replace("redis:", "redis+cluster:"))
        with pytest.raises(StoreUnavailableError):
            await store.stamp("alice")
        await asyncio.sleep(0.06)
        await store.close()
        assert not [task for task in asyncio.all_tasks() if "Breaker" in repr(task)]


@pytest.mark.asyncio
async def test_a_node_that_belongs_to_nobody_yet(tmp_path):
    server = RedisServer(tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    store = RedisStore(f"redis+cluster://127.0.0.1:{server.port}", deadline=5)
    with pytest.raises(StoreUnavailableError, match="returned a slot map"):
        await store.stamp("alice")
    await store.close()
    server.stop()


@pytest.mark.asyncio
async def test_a_server_that_is_no_cluster(redis_server):
    store = RedisStore(f"redis+cluster://127.0.0.1:{redis_server.port}", deadline=5)
    with pytest.raises(StoreUnavailableError, match="it is not a Cluster node"):
        await store.stamp("alice")
    await store.close()


# Whatever is not answered shows where it is let through.
@pytest.mark.parametrize("on_outage", ["allow", pytest.param("deny", marks=pytest.mark.long_run)])
@pytest.mark.asyncio
async def test_who_starts_while_a_node_is_down_answers_for_the_others_and_takes_it_back(
    make_fleet, prefix, on_outage
):
    """The node of bucket 00, upon which nothing else may depend; it comes back without its data."""
    fleet = make_fleet("--save", "", "--cluster-require-full-coverage", "no")
    first = RedisStore(fleet.url, prefix=prefix, deadline=5)
    down = fleet.owner(key_slot(b"00"))
    other = next(server for server in fleet.masters if server is not down)
    lost = await token(first, users_of(fleet, down)[0])
    one, gone = [await token(first, name) for name in users_of(fleet, other, 2)]
    await first.revoke_token(gone)
    await first.close()
    down.stop()
    late = RedisStore(fleet.url, prefix=prefix, deadline=5, poll=0.1, on_outage=on_outage)
    until = time.monotonic() + 1
    while time.monotonic() < until:  # many times the interval after which all has to be looked at again
        assert await late.check(one)
        assert not await late.check(gone)
        await asyncio.sleep(0.05)
    await asyncio.to_thread(down.start)
    await ends(late, lost)
    assert await late.check(one)
    await late.close()


@pytest.mark.asyncio
async def test_a_loss_that_cannot_be_dealt_with_concerns_its_own_users(make_fleet, prefix, caplog):
    fleet = make_fleet("--save", "", "--cluster-require-full-coverage", "no")
    store = RedisStore(fleet.url, prefix=prefix, deadline=5, poll=0.1)
    full, other = fleet.masters[2], fleet.masters[0]
    lost = await token(store, users_of(fleet, full)[0])
    one, gone = [await token(store, name) for name in users_of(fleet, other, 2)]
    full.does("CONFIG", "SET", "maxmemory", "1")
    for ref in (lost, gone):
        with contextlib.suppress(StoreUnavailableError):
            await store.revoke_token(ref)
    assert "OutOfMemory" in store.status().problem or "OOM" in store.status().problem
    assert sum("revocations are refused" in record.getMessage() for record in caplog.records) == 1
    full.does("FLUSHALL")
    until = time.monotonic() + 1
    while time.monotonic() < until:
        assert await store.check(one)
        assert not await store.check(gone)
        with pytest.raises(StoreUnavailableError):
            await store.check(lost)
        await asyncio.sleep(0.05)
    topology = await topologies_of(store).here()
    with pytest.raises(StoreUnavailableError):  # nor is the server believed to be well again
        await monitor_of(store).learn_of(topology, topology.at(bucket_of(lost.identity)))
    full.does("CONFIG", "SET", "maxmemory", "0")
    await ends(store, lost)
    assert await store.check(one)
    await store.close()


@pytest.mark.asyncio
async def test_a_dead_target_of_a_slot_on_its_way_concerns_that_slot(make_fleet, prefix):
    """Who asks in the same moment as one of its users gets the answer that there is."""
    fleet = make_fleet("--save", "", "--cluster-require-full-coverage", "no")
    store = RedisStore(fleet.url, prefix=prefix, deadline=5, poll=60, on_outage="allow")
    source, target = fleet.masters[:2]
    moving, gone = [await token(store, name) for name in users_of(fleet, source, 2)]
    assert slot_of(moving.identity) != slot_of(gone.identity)
    await store.revoke_token(gone)
    slot = slot_of(moving.identity)
    fleet.open_slot(slot, source, target)
    fleet.move_keys(slot, source, target)
    target.stop()
    for _ in range(3):
        answers = await asyncio.gather(store.check(moving), store.check(gone), return_exceptions=True)
        assert answers[1] is False
    await store.close()
