"""The topology of a Redis Cluster: which node holds which bucket; follows redirects.

https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores.redis.breaker import Breaker
from async_jwt.stores.redis.client import ServerClient, Values
from async_jwt.stores.redis.deadline import Deadline
from async_jwt.stores.redis.errors import CLUSTER_SLOTS, OutageError, refusal, refused_for_good
from async_jwt.stores.redis.health import Health
from async_jwt.stores.redis.options import Address, Options, Place
from async_jwt.stores.redis.pool import Command, Pool, connection_of
from async_jwt.stores.redis.quorum import quorum
from async_jwt.stores.redis.schema import BUCKET_NAMES, Layout
from async_jwt.stores.redis.topology import Caretaker, Part, Topology

__all__ = ["Cluster"]

_SLOTS: dict[str, int] = {name: key_slot(name.encode()) for name in BUCKET_NAMES}

# Seconds before retrying a key that is migrating between nodes: the first pause, and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.03


class Cluster(Topology):
    """The topology of a Cluster's masters. One that does not answer does not affect the others.

    Args:
        place: the seed nodes.
        options: the store's options.
        layout: which bucket a key is in.
        health: records state changes.
        monitor: knows what the servers should hold.
    """

    def __init__(
        self, place: Place, options: Options, layout: Layout, health: Health, monitor: Caretaker
    ) -> None:
        super().__init__(options, monitor)
        self._place = place
        self._options = options
        self._health = health
        self.layout: Layout = layout
        self._owners: dict[str, Address | None] = {}
        self._nodes: dict[Address, _Node] = {}
        self._breaker = Breaker(self.refresh_map, lambda why: health.outage(self, why))

    @property
    def is_ready(self) -> bool:
        return bool(self._owners)

    async def ready(self) -> None:
        if self.is_ready:
            return
        self._breaker.refuse_if_open()
        began = asyncio.get_running_loop().time()
        try:
            await self.single_flight("map", self.refresh_map)
        except OutageError as problem:
            self._breaker.trip(problem.detail, began)
            raise OutageError(problem.detail) from problem

    def at(self, name: str) -> ServerClient:
        owner = self._owners[name]
        if owner is None:
            self.start_once("map", self.refresh_map)
            raise OutageError("No node of the Cluster holds the slot")
        return self.node(owner)

    def parts(self, names: Sequence[str]) -> list[Part]:
        found: dict[Address, list[str]] = {}
        for name in names:
            owner = self._owners[name]
            if owner is not None:
                found.setdefault(owner, []).append(name)
        return [(self.node(address), names) for address, names in found.items()]

    def groups(self, names: Sequence[str]) -> list[list[str]]:
        return [[name] for name in names]

    def clients(self) -> list[ServerClient]:
        return list(self._nodes.values())

    async def relocate(self) -> None:
        with suppress(StoreUnavailableError):  # the next call that needs the map raises it
            await self.single_flight("map", self.refresh_map)

    async def placement(self) -> object:
        own: list[tuple[str, list[bytes]]] = []
        for client in self.clients():
            if client.unavailable:
                continue
            nodes = bytes(await client.execute("CLUSTER", "NODES"))
            slots = next(node.split()[6:] for node in nodes.splitlines() if b"myself" in node)
            if any(slot.startswith(b"[") for slot in slots):
                raise OutageError("Keys are migrating between Cluster nodes")
            own.append((client.name, slots))
        return own

    async def close(self) -> None:
        probes = self._breaker.stop()
        for probe in probes:
            probe.cancel()
        if probes:
            await asyncio.wait(probes)
        self._health.client_closed(self)
        await super().close()

    def node(self, address: Address) -> _Node:
        """The client for a node."""
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = _Node(self, address, self._options, self._health)
        return node

    def connection(self, address: Address) -> dict[str, Any]:
        """Connection options for a node."""
        return {**self._place.connection, **address._asdict()}

    def moved(self, problem: MovedError, address: Address) -> None:
        """Apply a MOVED redirect and refresh the map: where one slot moved, others have."""
        for name, slot in _SLOTS.items():
            if slot == problem.slot_id:
                self._owners[name] = address
        self.start_once("map", self.refresh_map)

    async def probe(self, node: ServerClient) -> None:
        """Check whether a node is back, or whether another one holds its buckets now."""
        await self.single_flight("map", self.refresh_map)
        if any(client is node for client, _ in self.parts(BUCKET_NAMES)):
            await self._monitor.learn_of(self, node)

    async def refresh_map(self) -> None:
        """Read the slot map. Raises OutageError if no node answers, RefusedError for a misconfiguration."""
        asked = dict.fromkeys([*self._nodes, *self._place.hosts])
        try:
            maps = await quorum([self._slots(address) for address in asked], self._options.deadline / 2)
        except RedisError as problem:
            refused = refused_for_good(CLUSTER_SLOTS, problem)
            self._health.misconfigured(CLUSTER_SLOTS, refused.detail)
            raise refused from problem
        self._health.misconfigured(CLUSTER_SLOTS, None)
        if not maps:
            raise OutageError("No Cluster node returned a slot map")
        out = {address for address, node in self._nodes.items() if node.unavailable}
        best = min(maps, key=lambda owners: sum(owner is None or owner in out for owner in owners))
        self._owners = dict(zip(BUCKET_NAMES, best, strict=True))
        for address in self._nodes.keys() - self._owners.values():
            await self._nodes.pop(address).retire()

    async def _slots(self, address: Address) -> tuple[Address | None, ...]:
        """The node that holds each bucket, according to one node."""
        node = self._nodes.get(address)
        pool = Pool(_maker(self.connection(address)), 1) if node is None else node.pool
        try:
            (ranges,) = await pool.send([("CLUSTER", "SLOTS")])
            if isinstance(ranges, ResponseError):
                raise ranges
            owners: dict[int, Address] = {}
            for first, last, (host, port, *more), *_ in ranges:
                owner = Address(_endpoint(host, more) or address.host, port)
                owners.update((slot, owner) for slot in _SLOTS.values() if first <= slot <= last)
            if not owners:
                raise OutageError("This node knows no slot owner")
            return tuple(owners.get(slot) for slot in _SLOTS.values())
        finally:
            if node is None:
                await pool.close()


class _Node(ServerClient):
    """The client for one node."""

    def __init__(self, cluster: Cluster, address: Address, options: Options, health: Health) -> None:
        self.pool: Pool = Pool(_maker(cluster.connection(address)), options.max_connections)
        super().__init__(self.pool, options, probe=cluster.probe, health=health, name=str(address))
        self._cluster = cluster
        self._address = address

    async def retire(self) -> None:
        """Take no more calls. Calls in flight still get their answers."""
        for probe in self._breaker.stop() - {asyncio.current_task()}:
            probe.cancel()
        self._health.answered(self)
        self._health.writing(self.name, None)  # its refusals no longer matter
        await self.pool.close()

    def _groups(self, keys: list[str]) -> list[list[str]]:
        """Group keys by slot: a command reads keys of one slot only."""
        groups: dict[str, list[str]] = {}
        for key in keys:
            groups.setdefault(self._cluster.layout.bucket_in(key), []).append(key)
        return list(groups.values())

    async def _elsewhere(self, problem: ResponseError, command: Command, deadline: Deadline) -> Any:
        node, pause = self, _FIRST_PAUSE
        while True:
            asking = isinstance(problem, AskError) and not isinstance(problem, MovedError)
            if isinstance(problem, AskError):
                host = node._address.host if problem.host in ("", "?") else problem.host
                address = Address(host, problem.port)
                if isinstance(problem, MovedError):
                    self._cluster.moved(problem, address)
                node = self._cluster.node(address)
                node.refuse_if_unavailable()
            elif isinstance(problem, TryAgainError) and command[0] == "MGET":
                return await self._one_by_one(list(command[1:]), deadline)
            elif isinstance(problem, TryAgainError) and pause < deadline.left:
                async with deadline:
                    await asyncio.sleep(pause)
                node, pause = self, min(2 * pause, _LONGEST_PAUSE)
            else:
                if isinstance(problem, ClusterDownError):
                    self._cluster.start_once("map", self._cluster.refresh_map)
                raise refusal(problem) from problem
            if deadline.is_over:
                raise OutageError("The Cluster nodes kept redirecting until the deadline")
            reply = (await node.send([("ASKING",), command] if asking else [command], deadline))[-1]
            if not isinstance(reply, ResponseError):
                return reply
            problem = reply

    async def _one_by_one(self, keys: list[str], deadline: Deadline) -> Values:
        """Read keys of a migrating slot one by one: no single node has them all.

        Generations come first: a revocation meanwhile then also revokes tokens issued under them.
        """
        found: dict[str, bytes | None] = {}
        for key in sorted(keys, key=lambda key: not self._cluster.layout.is_generation(key)):
            (reply,) = await self.send([("MGET", key)], deadline)
            if isinstance(reply, ResponseError):
                reply = await self._elsewhere(reply, ("MGET", key), deadline)
            (found[key],) = reply
        return [found[key] for key in keys]


def _endpoint(host: bytes | None, more: list[Any]) -> str:
    """The host of a node; "" for the host that was asked.

    A node that should announce a hostname but has none reports "?", and its IP in the metadata.
    """
    if host and host != b"?":
        return host.decode()
    details = more[1] if len(more) > 1 else []
    pairs = details if isinstance(details, dict) else dict(zip(details[::2], details[1::2], strict=True))
    return bytes(pairs.get(b"ip", b"")).decode()


def _maker(connection: dict[str, Any]) -> Any:
    async def make() -> Any:
        return connection_of(connection)

    return make
