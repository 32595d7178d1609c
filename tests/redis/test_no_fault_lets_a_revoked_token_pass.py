"""Whatever happens to the server: no revoked token passes, nothing that was done is lost, and it comes back.

Each fault is done to a server of its own, or to the wire before it, while requests come in.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time

import pytest
import redis

from async_jwt.signals import store_state_changed
from tests.harness.report import row
from tests.harness.wire import DATA, READS, WRITES
from tests.redis.conftest import DEADLINE, world_of

pytestmark = pytest.mark.asyncio

# Beside what our own server needs on a machine with little to spare.
SLACK = 0.75


# -- faults -------------------------------------------------------------------------------
# Each is a context: the fault is there within it, and is over at its end.


@contextlib.asynccontextmanager
async def connections_refused(world):
    world.server.stop()
    yield
    world.server.start()


@contextlib.asynccontextmanager
async def packets_swallowed(world):
    world.wire.swallows = True
    yield
    world.wire.heal()


@contextlib.asynccontextmanager
async def server_frozen(world):
    world.server.freeze()
    yield
    world.server.thaw()


@contextlib.asynccontextmanager
async def server_killed(world):
    world.server.stop()
    world.server.start()
    yield


@contextlib.asynccontextmanager
async def connections_killed(world):
    async def kill():
        while True:
            world.server.does("CLIENT", "KILL", "TYPE", "normal")
            await asyncio.sleep(0.01)

    killer = asyncio.ensure_future(kill())
    yield
    killer.cancel()


@contextlib.asynccontextmanager
async def dropped_before_the_reply(world):
    world.wire.spoils = lambda reply: (b"", True)
    yield
    world.wire.heal()


@contextlib.asynccontextmanager
async def too_many_clients(world):
    with redis.Redis(port=world.server.port, single_connection_client=True) as the_only_one:
        the_only_one.config_set("maxclients", 1)
        world.wire.drop()
        yield
        the_only_one.config_set("maxclients", 1000)


@contextlib.asynccontextmanager
async def password_changed(world):
    world.server.does("CONFIG", "SET", "requirepass", "new")
    world.wire.drop()
    yield
    world.server.does("CONFIG", "SET", "requirepass", "", password="new")


@contextlib.asynccontextmanager
async def a_script_that_does_not_end(world):
    world.server.does("CONFIG", "SET", "lua-time-limit", "10")
    writer = (await asyncio.open_connection("127.0.0.1", world.server.port))[1]
    writer.write(b"EVAL 'while true do end' 0\r\n")
    await asyncio.sleep(0.1)
    yield
    world.server.does("SCRIPT", "KILL")
    writer.close()


@contextlib.asynccontextmanager
async def memory_full(world):
    world.server.does("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1")
    yield
    world.server.does("CONFIG", "SET", "maxmemory", "0")


@contextlib.asynccontextmanager
async def no_replica_in_reach(world):
    world.server.does("CONFIG", "SET", "min-replicas-to-write", "1")
    yield
    world.server.does("CONFIG", "SET", "min-replicas-to-write", "0")


@contextlib.asynccontextmanager
async def read_only_replica(world):
    world.server.does("REPLICAOF", "127.0.0.1", "1")
    yield
    world.server.does("REPLICAOF", "NO", "ONE")


@contextlib.asynccontextmanager
async def replica_without_its_primary(world):
    world.server.does("CONFIG", "SET", "replica-serve-stale-data", "no")
    world.server.does("REPLICAOF", "127.0.0.1", "1")
    yield
    world.server.does("REPLICAOF", "NO", "ONE")


@contextlib.asynccontextmanager
async def scripts_forgotten(world):
    world.server.does("SCRIPT", "FLUSH")
    yield


@contextlib.asynccontextmanager
async def commands_forbidden(world):
    world.server.does("ACL", "SETUSER", "default", "-mget", "-evalsha")
    yield
    world.server.does("ACL", "SETUSER", "default", "+@all")


@contextlib.asynccontextmanager
async def revoking_forbidden(world):
    world.server.does("ACL", "SETUSER", "default", "-evalsha", "-eval")
    yield
    world.server.does("ACL", "SETUSER", "default", "+@all")


def replies(names, text):
    @contextlib.asynccontextmanager
    async def fault(world):
        world.wire.says = (names, text)
        yield
        world.wire.heal()

    return fault


# What requests may get meanwhile: the good user, a revocation. Those who are signed out never get 200.
WORKS, FAILS = {200}, {503}
EITHER = WORKS | FAILS
FAULTS = {
    "connections refused": (connections_refused, FAILS, FAILS),
    "packets swallowed": (packets_swallowed, FAILS, FAILS),
    "server frozen (SIGSTOP)": (server_frozen, FAILS, FAILS),
    "server killed and restarted": (server_killed, EITHER, EITHER),
    "CLIENT KILL, again and again": (connections_killed, EITHER, EITHER),
    "dropped between command and reply": (dropped_before_the_reply, FAILS, FAILS),
    "max number of clients": (too_many_clients, FAILS, FAILS),
    "password changed": (password_changed, FAILS, FAILS),
    "BUSY: a script that does not end": (a_script_that_does_not_end, FAILS, FAILS),
    "OOM: memory full": (memory_full, WORKS, FAILS),
    "NOREPLICAS": (no_replica_in_reach, WORKS, FAILS),
    "READONLY: a replica": (read_only_replica, WORKS, FAILS),
    "MASTERDOWN: a replica alone": (replica_without_its_primary, FAILS, FAILS),
    "NOSCRIPT: scripts forgotten": (scripts_forgotten, WORKS, WORKS),
    "NOPERM: nothing allowed": (commands_forbidden, FAILS, FAILS),
    "NOPERM: revoking not allowed": (revoking_forbidden, WORKS, FAILS),
    "LOADING": (replies(DATA, b"-LOADING Redis is loading the dataset in memory\r\n"), FAILS, FAILS),
    "NOAUTH": (replies(DATA, b"-NOAUTH Authentication required.\r\n"), FAILS, FAILS),
    "WRONGPASS": (replies(DATA, b"-WRONGPASS invalid username-password pair\r\n"), FAILS, FAILS),
    "CLUSTERDOWN": (replies(DATA, b"-CLUSTERDOWN The cluster is down\r\n"), FAILS, FAILS),
    "MOVED": (replies(DATA, b"-MOVED 3999 127.0.0.1:6381\r\n"), FAILS, FAILS),
    "MISCONF: the disk is full": (
        replies(WRITES, b"-MISCONF Redis is configured to save RDB snapshots\r\n"),
        WORKS,
        FAILS,
    ),
    "an error nobody knows": (replies(DATA, b"-\xff\xfe {user} '\r\n"), FAILS, FAILS),
    "another type of reply": (replies(DATA, b":7\r\n"), FAILS, FAILS),
    "revoking answered with 1": (replies(WRITES, b":1\r\n"), WORKS, FAILS),
    "revoking answered with 0": (replies(WRITES, b":0\r\n"), WORKS, FAILS),
    "revoking answered with OK": (replies(WRITES, b"+OK\r\n"), WORKS, FAILS),
    "revoking answered with nothing": (replies(WRITES, b"_\r\n"), WORKS, FAILS),
    "a list of another length": (replies(READS, b"*1\r\n_\r\n"), FAILS, EITHER),
    "a list of other things": (replies(READS, b"*3\r\n:1\r\n:2\r\n:3\r\n"), FAILS, EITHER),
}
ON_THE_WIRE = {
    name
    for name, (fault, *_) in FAULTS.items()
    if fault in (packets_swallowed, dropped_before_the_reply) or fault.__qualname__.startswith("replies")
}


# What the server answers, and no patience mends.
MISCONFIGURED = {
    "password changed",
    "NOPERM: nothing allowed",
    "NOAUTH",
    "WRONGPASS",
    "an error nobody knows",
    "another type of reply",
}
# What a node of a Cluster cannot be, or where it takes its time for reasons of its own.
NOT_OF_NODES = {
    "connections refused",
    "server killed and restarted",
    "READONLY: a replica",
    "MASTERDOWN: a replica alone",
}
# Those that show each way in which a route matters; all of them in the long run.
SOME = {
    "packets swallowed",
    "server frozen (SIGSTOP)",
    "max number of clients",
    "dropped between command and reply",
    "OOM: memory full",
    "READONLY: a replica",
    "CLUSTERDOWN",
    "MOVED",
    "revoking answered with OK",
}
CASES = [
    pytest.param(
        *(name, where),
        id=f"{name}-{where}",
        marks=() if where == "server" or name in SOME else pytest.mark.long_run,
    )
    for where in ("server", "sentinel", "cluster")
    for name in FAULTS
    if where != "cluster" or name not in NOT_OF_NODES
]


@pytest.fixture
def server(request, name, where):
    if where == "cluster":
        server = request.getfixturevalue("lone_node")
    else:
        server = request.getfixturevalue("shared_server" if name in ON_THE_WIRE else "durable_server")
    server.does("FLUSHALL")
    server.wants_sentinel = where == "sentinel"
    return server


@pytest.mark.parametrize(("name", "where"), CASES)
async def test_fault(server, name, where, caplog, record_property):
    fault, good, revoking = FAULTS[name]
    if where == "sentinel" and fault is read_only_replica:
        good = EITHER  # what Sentinel names must be a primary
    caplog.set_level("WARNING", "async_jwt.store")
    changes = []

    @store_state_changed.connect
    def told(store, state, detail):
        changes.append((store, state))

    async with world_of(server) as world:
        caplog.clear()
        changes.clear()
        async with fault(world):
            first = await world.burst()
            bursts, checks = [first], []
            until = time.perf_counter() + 0.15
            while time.perf_counter() < until:
                bursts.append(await world.burst())
                checks.append(await world.timed_check())
                await asyncio.sleep(0.01)
        healed = time.perf_counter()
        while await world.statuses() != WORKS:
            assert time.perf_counter() - healed < 1 + SLACK, "it does not come back"
            await asyncio.sleep(0.005)
        recovery = time.perf_counter() - healed
        await world.store.revoke_user("afterwards")
        world.done.append("afterwards")
        assert world.store.status().available
        assert world.store.status().problem is None
        await world.all_done_hold()
        states = [state for store, state in changes if store is world.store]

    for burst in bursts:
        assert set(burst.dead) <= {401, 503}, "a revoked token was accepted"
        assert set(burst.good) <= good, burst
        assert set(burst.revoked) <= revoking, burst
        assert max(burst.times) < DEADLINE + SLACK
    # Said once for each change, however many requests there were.
    assert len(caplog.records) == len(states)
    assert "good" not in caplog.text
    assert states.count("unavailable") == states.count("available")
    assert states.count("not_revoking") == states.count("revoking")
    assert states.count("misconfigured") == states.count("configured")
    if good == FAILS:
        assert {"unavailable", "misconfigured"} & {*states}
    if name in MISCONFIGURED:
        assert "unavailable" not in states
    if where == "server":
        record_property("fault", row(name, first, statistics.median(checks), recovery))
