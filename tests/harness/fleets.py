"""Several servers that belong together: a primary with a replica and sentinels, and a Cluster."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from tests.harness.servers import RedisServer, free_port

SERVICE = "shop"
NODE_TIMEOUT = 0.6
"""Seconds until a Cluster's nodes take one that does not answer for failing."""


def until(true: Callable[[], Any], seconds: float = 20.0) -> None:
    """Wait until something is so; what cannot be asked is not so."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        with contextlib.suppress(redis.RedisError):
            if true():
                return
        time.sleep(0.02)
    raise AssertionError("that did not come about in time")


class Sentinels:
    """A primary, a replica, and sentinels that watch them."""

    def __init__(self, folder: Path, *options: str, sentinels: int = 1) -> None:
        self._folder = folder
        self.primary = self._server("one", *options)
        self.replica = self._server("two", *options)
        self.replica.does("REPLICAOF", "127.0.0.1", self.primary.port)
        until(lambda: self.replica.does("INFO", "replication")["master_link_status"] == "up")
        self.sentinels: list[RedisServer] = []
        self.sentinels = [self._sentinel(sentinels // 2 + 1, number) for number in range(sentinels)]
        until(lambda: all(self._sees_all(sentinel) for sentinel in self.sentinels))

    @property
    def url(self) -> str:
        names = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{names}/{SERVICE}"

    def ask_for_failover(self) -> None:
        """Have the primary step down."""
        until(lambda: self.sentinels[0].does("SENTINEL", "FAILOVER", SERVICE))

    def fail_over(self) -> None:
        """Wait until the sentinels have made the replica the primary."""
        until(lambda: self.replica.does("ROLE")[0] == b"master")
        until(lambda: all(self._primary_of(each) == self.replica.port for each in self.sentinels))

    def cut_off_replica(self) -> None:
        """From now on it hears nothing more of the primary."""
        self.primary.does("ACL", "SETUSER", "default", "-psync", "-sync")
        self.primary.does("CLIENT", "KILL", "TYPE", "replica")
        until(lambda: self.replica.does("INFO", "replication")["master_link_status"] == "down")

    def stop(self) -> None:
        for server in [*self.sentinels, self.replica, self.primary]:
            server.stop()

    def _server(self, name: str, *options: str) -> RedisServer:
        folder = self._folder / name
        folder.mkdir()
        return RedisServer(folder, *(options or ("--save", "")), "--repl-diskless-sync-delay", "0")

    def _sentinel(self, quorum: int, number: int) -> RedisServer:
        folder = self._folder / f"sentinel{number}"
        folder.mkdir()
        config = folder / "sentinel.conf"
        config.write_text(
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.primary.port} {quorum}\n"
            f"sentinel down-after-milliseconds {SERVICE} 400\n"
            f"sentinel failover-timeout {SERVICE} 2000\n"
        )
        return RedisServer(folder, "--sentinel", config=str(config))

    @staticmethod
    def _primary_of(sentinel: RedisServer) -> int:
        return int(sentinel.does("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])

    def _sees_all(self, sentinel: RedisServer) -> bool:
        seen = sentinel.does("SENTINEL", "MASTER", SERVICE)
        return (seen[b"num-other-sentinels"], seen[b"num-slaves"]) == (
            b"%d" % (len(self.sentinels) - 1),
            b"1",
        )


class ClusterOfServers:
    """Three masters with a replica each, or with none."""

    def __init__(self, folder: Path, *options: str, replicas: bool = True) -> None:
        self._folder = folder
        self._options = options or ("--save", "")
        self.masters = [self.add(f"master{number}") for number in range(3)]
        self.replicas = [self.add(f"replica{number}") for number in range(3)] if replicas else []
        for number, master in enumerate(self.masters):
            first, last = number * 16384 // 3, (number + 1) * 16384 // 3 - 1
            master.does("CLUSTER", "ADDSLOTSRANGE", first, last)
            master.does("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server in [*self.masters[1:], *self.replicas]:
            self._meet(server)
        everybody = [*self.masters, *self.replicas]
        until(lambda: all(len(self._nodes(server)) == len(everybody) for server in everybody))
        for master, replica in zip(self.masters, self.replicas, strict=False):
            until(lambda: replica.does("CLUSTER", "REPLICATE", self.id_of(master)))  # noqa: B023
        until(lambda: all(self.is_well(server) for server in everybody))
        for replica in self.replicas:
            until(lambda: replica.does("INFO", "replication").get("master_link_status") == "up")  # noqa: B023

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.masters)

    def add(self, name: str) -> RedisServer:
        """A node that belongs to nobody yet."""
        folder = self._folder / name
        folder.mkdir()
        return RedisServer(
            folder,
            *self._options,
            *("--cluster-enabled", "yes", "--cluster-port", str(free_port())),
            *("--cluster-node-timeout", str(int(NODE_TIMEOUT * 1000))),
            *("--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0"),
        )

    def join(self, server: RedisServer) -> None:
        """Take a further node in."""
        self._meet(server)
        everybody = [*self.masters, *self.replicas, server]
        until(lambda: all(len(self._nodes(each)) == len(everybody) for each in everybody))

    def _meet(self, server: RedisServer) -> None:
        bus = server.does("CONFIG", "GET", "cluster-port")
        port = bus[b"cluster-port"] if isinstance(bus, dict) else bus[1]
        self.masters[0].does("CLUSTER", "MEET", "127.0.0.1", server.port, port)

    def owner(self, slot: int) -> RedisServer:
        """The master that holds a slot."""
        for first, last, (_, port, *_), *_ in self._asked().does("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(server for server in [*self.masters, *self.replicas] if server.port == port)
        raise AssertionError(f"nobody holds slot {slot}")

    def slots_of(self, server: RedisServer) -> set[int]:
        """The slots that a master holds."""
        ranges = self._asked().does("CLUSTER", "SLOTS")
        return {
            slot
            for first, last, (_, port, *_), *_ in ranges
            if port == server.port
            for slot in range(first, last + 1)
        }

    def id_of(self, server: RedisServer) -> str:
        return server.does("CLUSTER", "MYID").decode()

    def open_slot(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        """Begin to move a slot."""
        target.does("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        source.does("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(target))

    def move_keys(self, slot: int, source: RedisServer, target: RedisServer, count: int = 1000) -> int:
        """Move some keys of an open slot. Returns how many there were."""
        keys = source.does("CLUSTER", "GETKEYSINSLOT", slot, count)
        if keys:
            source.does("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        return len(keys)

    def close_slot(self, slot: int, target: RedisServer) -> None:
        """End a move: it is the target's from now on, as all masters are told."""
        for server in [target, *(master for master in self.masters if master is not target)]:
            server.does("CLUSTER", "SETSLOT", slot, "NODE", self.id_of(target))

    def is_well(self, server: RedisServer) -> bool:
        return b"cluster_state:ok" in _raw(server.does("CLUSTER", "INFO"))

    def stop(self) -> None:
        for server in [*self.replicas, *self.masters]:
            server.stop()

    def _asked(self) -> RedisServer:
        for server in [*self.masters, *self.replicas]:
            with contextlib.suppress(redis.RedisError):
                if server.does("PING"):
                    return server
        raise AssertionError("no node answers")

    @staticmethod
    def _nodes(server: RedisServer) -> list[bytes]:
        text = _raw(server.does("CLUSTER", "NODES"))
        return [line for line in text.splitlines() if line and b"handshake" not in line]


def _raw(reply: Any) -> bytes:
    if isinstance(reply, dict):  # as the client reads it
        return b"\n".join(f"{key}:{value}".encode() for key, value in reply.items())
    return reply if isinstance(reply, bytes) else str(reply).encode()
