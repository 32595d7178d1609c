"""Looks at what no reply to a request shows: all buckets, and what the servers say of themselves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from typing import TypeVar

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores.redis.known import Known, Loss
from async_jwt.stores.redis.layout import BUCKET_NAMES, Layout
from async_jwt.stores.redis.line import Line
from async_jwt.stores.redis.losses import Losses, new_epoch
from async_jwt.stores.redis.lua import FOUND
from async_jwt.stores.redis.options import Options
from async_jwt.stores.redis.outage import RefusedError, settled
from async_jwt.stores.redis.route import Part, Route
from async_jwt.stores.redis.server import Server, read_server, save_points, together
from async_jwt.stores.redis.state import State

__all__ = ["Inspector"]

T = TypeVar("T")
Troubles = dict[str, StoreUnavailableError]
"""What keeps some servers, by their names, from being relied upon: each concerns its own users."""

# How often, and after how many seconds, one looks again at a store that another process may be founding.
_LOOKS, _PAUSE = 20, 0.05


class Inspector:
    """Learns what stands on the servers, founds a store where there is none, and notices losses.

    Args:
        known: what this process saw last.
        layout: where things stand.
        losses: who deals with them.
        options: how often to look.
        state: told of what is found.
    """

    def __init__(self, known: Known, layout: Layout, losses: Losses, options: Options, state: State) -> None:
        self._known = known
        self._layout = layout
        self._losses = losses
        self._poll = options.poll
        self._state = state
        self._servers: dict[str, Server] = {}
        self._silent: set[str] = set()
        self._looked_at = time.monotonic()
        self.troubles: Troubles = {}

    @property
    def is_due(self) -> bool:
        """Whether nobody looked for a while, as on loops that end too soon for their timers."""
        return time.monotonic() - self._looked_at > 2 * self._poll

    async def learn(self, route: Route) -> Troubles:
        """Look at all buckets of servers that answer. Raises StoreUnavailableError where none does."""
        troubles: Troubles = await route.together(
            "learn", lambda: self._learn(route, route.parts(BUCKET_NAMES))
        )
        return troubles

    async def learn_of(self, route: Route, line: Line) -> None:
        """Look at the buckets of one server, whatever is thought of it. Raises StoreUnavailableError."""
        parts = route.parts(BUCKET_NAMES)
        troubles = await self._learn(route, [part for part in parts if part[0] is line], probes=True)
        for problem in troubles.values():
            raise problem

    async def look(self, route: Route) -> Troubles:
        """Look at everything. Raises StoreUnavailableError where no server answers."""
        troubles = dict(await self.learn(route))
        firsts = {line: names[0] for line, names in route.parts(BUCKET_NAMES) if not line.is_out}
        lines = list(firsts)
        looks = [
            route.together(f"look {line.name}", lambda line=line: self._look_at(route, line, firsts[line]))  # type: ignore[misc]
            for line in lines
        ]
        for line, outcome in zip(lines, await settled(looks), strict=True):
            if isinstance(outcome, StoreUnavailableError):
                troubles.setdefault(line.name, outcome)
        self._state.server(
            together([self._servers[line.name] for line in lines if line.name in self._servers])
        )
        self.troubles, self._looked_at = troubles, time.monotonic()
        return troubles

    async def look_now_and_then(self, route: Route) -> None:
        with suppress(StoreUnavailableError):  # it was noted
            await route.relocate()
            if not all(line.is_out for line in route.lines()):  # else the breaker's probes look
                await self.look(route)

    async def _learn(self, route: Route, parts: list[Part], *, probes: bool = False) -> Troubles:
        before = {name: self._known.before(name) for _, names in parts for name in names}
        values = await self._read(parts, probes=probes)
        if any(raw is None and not before[name] for name, raw in values.items()):
            values = await self._begin(route, parts, values, probes=probes)
        looks = {name: self._known.look(name, raw, before[name]) for name, raw in values.items()}
        lost: dict[str, Loss] = {}
        for line, names in parts:
            for look in map(looks.get, names):
                if isinstance(look, Loss):
                    lost.setdefault(line.name, look)
        dealt = await settled(self._losses.deal(route, loss) for loss in lost.values())
        outcomes = zip(lost, dealt, strict=True)
        return {name: outcome for name, outcome in outcomes if isinstance(outcome, StoreUnavailableError)}

    async def _read(self, parts: list[Part], *, probes: bool = False) -> dict[str, bytes | None]:
        async def read(line: Line, names: list[str]) -> dict[str, bytes | None]:
            if not probes:
                line.refuse_if_out()
            values = await line.fetch_each([self._layout.bucket(name) for name in names])
            found = zip(names, values, strict=True)
            return {name: raw for name, raw in found if not isinstance(raw, StoreUnavailableError)}

        found = await _some_of([read(*part) for part in parts])
        return {name: raw for values in found for name, raw in values.items()}

    async def _begin(
        self, route: Route, parts: list[Part], values: dict[str, bytes | None], *, probes: bool
    ) -> dict[str, bytes | None]:
        """Found the store if there is none at all; wait for whoever does. What is missing then was lost."""
        for _ in range(_LOOKS):
            if self._known or any(raw is not None for raw in values.values()):
                if len(route.groups(BUCKET_NAMES)) == 1 or None not in values.values():
                    break  # where it is founded in one step, nobody is about to
                await asyncio.sleep(_PAUSE)
            elif len(values) < len(BUCKET_NAMES):
                return {}  # the others may say that there is one
            else:
                epoch = new_epoch()
                for line, names in parts:
                    calls = [(self._layout.with_feeds(group), [epoch, ""]) for group in route.groups(names)]
                    await line.run_each(FOUND, calls)
            values = await self._read(parts, probes=probes)
        return values

    async def _look_at(self, route: Route, line: Line, name: str) -> None:
        if line.name in self._silent:
            return
        before = self._servers.get(line.name)
        try:
            server = read_server(await line.ask("INFO"))
        except RefusedError as problem:
            if problem.kind == "NoPermissionError":
                self._silent.add(line.name)
            return
        if server is None:
            return
        if before is None or before.run != server.run:
            server = server._replace(persists=server.persists or await self._saves(line))
        else:
            server = server._replace(persists=server.persists or before.persists)
        if before is not None and server.read_only and not before.read_only:
            await line.reconnect()  # it was the primary; another one may be by now
        await self._look_at_evictions(route, line, name, server, before)
        self._servers[line.name] = server  # last: what could not be dealt with is looked at again

    async def _look_at_evictions(
        self, route: Route, line: Line, name: str, server: Server, before: Server | None
    ) -> None:
        """A marker on the server itself says how many were dealt with, by whichever process."""
        if before is not None and (before.run, before.evicted) == (server.run, server.evicted):
            return
        found, key = f"{server.run} {server.evicted}", self._layout.evicted(name)
        if server.evicted:
            marker = await line.ask("GET", key)
            if marker == found.encode():
                return
            if marker is not None or before is not None:  # else they are of before our time
                why = f"the server dropped keys to make room ({server.evicted} since it started)"
                await self._losses.deal(route, Loss(name, "", (), why, found))
        with suppress(RefusedError):  # a replica, or a full server: no reason to refuse anybody
            await line.ask("SET", key, found)

    @staticmethod
    async def _saves(line: Line) -> bool | None:
        try:
            saves = save_points(await line.ask("CONFIG", "GET", "save"))
        except RefusedError:
            return None  # as managed servers do
        return None if saves is None else saves != ""


async def _some_of(work: Iterable[Awaitable[T]]) -> list[T]:
    """What succeeds of some things that are done at once. Raises StoreUnavailableError where none does."""
    done = await settled(work)
    well = [outcome for outcome in done if not isinstance(outcome, StoreUnavailableError)]
    for problem in done:
        if isinstance(problem, StoreUnavailableError) and not well:
            raise problem
    return well
