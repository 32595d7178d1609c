"""Detects what no reply to a request shows: reads all buckets, and each server's INFO."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores.redis.client import ServerClient
from async_jwt.stores.redis.data_loss import DataLossHandler, new_epoch
from async_jwt.stores.redis.errors import RefusedError, gather_settled
from async_jwt.stores.redis.health import Health, ServerInfo, combined, read_server, save_points
from async_jwt.stores.redis.lua import INIT_BUCKETS
from async_jwt.stores.redis.options import Options
from async_jwt.stores.redis.schema import BUCKET_NAMES, Layout
from async_jwt.stores.redis.topology import Part, Topology
from async_jwt.stores.redis.versions import LastSeen, Loss

__all__ = ["Monitor"]

T = TypeVar("T")
Troubles = dict[str, StoreUnavailableError]
"""Why some servers, by name, cannot be relied upon. Each error concerns that server's users only."""

# Attempts, and seconds between them, to read a store that another process may be initializing.
_LOOKS, _PAUSE = 20, 0.05


class Monitor:
    """Reads the state of all servers, initializes an empty store, and detects data loss.

    Args:
        last_seen: the bucket states this process saw last.
        layout: the keys.
        data_loss: handles losses.
        options: the poll interval.
        health: records what is found.
    """

    def __init__(
        self,
        last_seen: LastSeen,
        layout: Layout,
        data_loss: DataLossHandler,
        options: Options,
        health: Health,
    ) -> None:
        self._last_seen = last_seen
        self._layout = layout
        self._data_loss = data_loss
        self._interval = options.poll
        self._health = health
        self._servers: dict[str, ServerInfo] = {}
        self._silent: set[str] = set()
        self.due_at: float = time.monotonic() + 2 * options.poll
        self.troubles: Troubles = {}

    async def learn(self, topology: Topology) -> Troubles:
        """Read all buckets of servers that answer. Raises StoreUnavailableError if none does."""
        troubles: Troubles = await topology.single_flight(
            "learn", lambda: self._learn(topology, topology.parts(BUCKET_NAMES))
        )
        return troubles

    async def learn_of(self, topology: Topology, client: ServerClient) -> None:
        """Read the buckets of one server, ignoring its breaker. Raises StoreUnavailableError."""
        parts = topology.parts(BUCKET_NAMES)
        troubles = await self._learn(topology, [part for part in parts if part[0] is client], probes=True)
        for problem in troubles.values():
            raise problem

    async def inspect(self, topology: Topology) -> Troubles:
        """Read all buckets and each server's INFO. Raises StoreUnavailableError if no server answers."""
        troubles = dict(await self.learn(topology))
        firsts = {
            client: names[0] for client, names in topology.parts(BUCKET_NAMES) if not client.unavailable
        }
        clients = list(firsts)
        looks = [
            topology.single_flight(
                f"inspect {client.name}", partial(self._inspect_server, topology, client, firsts[client])
            )
            for client in clients
        ]
        for client, outcome in zip(clients, await gather_settled(looks), strict=True):
            if isinstance(outcome, StoreUnavailableError):
                troubles.setdefault(client.name, outcome)
        self._health.server(
            combined([self._servers[client.name] for client in clients if client.name in self._servers])
        )
        self.troubles, self.due_at = troubles, time.monotonic() + 2 * self._interval
        return troubles

    async def poll(self, topology: Topology) -> None:
        with suppress(StoreUnavailableError):  # already recorded
            await topology.relocate()
            if not all(client.unavailable for client in topology.clients()):  # else their probes look
                await self.inspect(topology)

    async def _learn(self, topology: Topology, parts: list[Part], *, probes: bool = False) -> Troubles:
        before = {name: self._last_seen.before(name) for _, names in parts for name in names}
        values = await self._read(parts, probes=probes)
        if any(raw is None and not before[name] for name, raw in values.items()):
            values = await self._begin(topology, parts, values, probes=probes)
        looks = {name: self._last_seen.compare(name, raw, before[name]) for name, raw in values.items()}
        lost: dict[str, Loss] = {}
        for client, names in parts:
            for look in map(looks.get, names):
                if isinstance(look, Loss):
                    lost.setdefault(client.name, look)
        dealt = await gather_settled(self._data_loss.handle(topology, loss) for loss in lost.values())
        outcomes = zip(lost, dealt, strict=True)
        return {name: outcome for name, outcome in outcomes if isinstance(outcome, StoreUnavailableError)}

    async def _read(self, parts: list[Part], *, probes: bool = False) -> dict[str, bytes | None]:
        async def read(client: ServerClient, names: list[str]) -> dict[str, bytes | None]:
            if not probes:
                client.refuse_if_unavailable()
            values = await client.fetch_each([self._layout.bucket(name) for name in names])
            found = zip(names, values, strict=True)
            return {name: raw for name, raw in found if not isinstance(raw, StoreUnavailableError)}

        found = await _some_of([read(*part) for part in parts])
        return {name: raw for values in found for name, raw in values.items()}

    async def _begin(
        self, topology: Topology, parts: list[Part], values: dict[str, bytes | None], *, probes: bool
    ) -> dict[str, bytes | None]:
        """Initialize an empty store, or wait for the process that does. Buckets still missing were lost."""
        for _ in range(_LOOKS):
            if self._last_seen or any(raw is not None for raw in values.values()):
                if len(topology.groups(BUCKET_NAMES)) == 1 or None not in values.values():
                    break  # initialized in one step, so none is in progress
                await asyncio.sleep(_PAUSE)
            elif len(values) < len(BUCKET_NAMES):
                return {}  # the other servers may hold a store
            else:
                epoch = new_epoch()
                for client, names in parts:
                    calls = [
                        (self._layout.with_feeds(group), [epoch, ""]) for group in topology.groups(names)
                    ]
                    await client.run_each(INIT_BUCKETS, calls)
            values = await self._read(parts, probes=probes)
        return values

    async def _inspect_server(self, topology: Topology, client: ServerClient, name: str) -> None:
        if client.name in self._silent:
            return
        before = self._servers.get(client.name)
        try:
            server = read_server(await client.execute("INFO"))
        except RefusedError as problem:
            if problem.kind == "NoPermissionError":
                self._silent.add(client.name)
            return
        if server is None:
            return
        if before is None or before.run != server.run:
            server = server._replace(persists=server.persists or await self._saves(client))
        else:
            server = server._replace(persists=server.persists or before.persists)
        if before is not None and server.read_only and not before.read_only:
            await client.reconnect()  # no longer the primary; another server may be
        await self._inspect_evictions(topology, client, name, server, before)
        self._servers[client.name] = server  # last: a failure above is retried

    async def _inspect_evictions(
        self,
        topology: Topology,
        client: ServerClient,
        name: str,
        server: ServerInfo,
        before: ServerInfo | None,
    ) -> None:
        """Handle evicted keys. A marker on the server says how many were handled, by any process."""
        if before is not None and (before.run, before.evicted) == (server.run, server.evicted):
            return
        found, key = f"{server.run} {server.evicted}", self._layout.evicted(name)
        if server.evicted:
            marker = await client.execute("GET", key)
            if marker == found.encode():
                return
            if marker is not None or before is not None:  # otherwise they predate this store
                why = f"the server dropped keys to make room ({server.evicted} since it started)"
                await self._data_loss.handle(topology, Loss(name, "", (), why, found))
        with suppress(RefusedError):  # a replica or a full server: no reason to refuse requests
            await client.execute("SET", key, found)

    @staticmethod
    async def _saves(client: ServerClient) -> bool | None:
        try:
            saves = save_points(await client.execute("CONFIG", "GET", "save"))
        except RefusedError:
            return None  # managed servers refuse CONFIG
        return None if saves is None else saves != ""


async def _some_of(work: Iterable[Awaitable[T]]) -> list[T]:
    """Successful results of concurrent work. Raises StoreUnavailableError if all of it fails."""
    done = await gather_settled(work)
    well = [outcome for outcome in done if not isinstance(outcome, StoreUnavailableError)]
    for problem in done:
        if isinstance(problem, StoreUnavailableError) and not well:
            raise problem
    return well
