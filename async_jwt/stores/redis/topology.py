"""How each event loop reaches the servers of a store."""

from __future__ import annotations

import asyncio
import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any, Protocol, TypeVar

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores.redis.client import ServerClient
from async_jwt.stores.redis.errors import fresh_copy
from async_jwt.stores.redis.health import Health
from async_jwt.stores.redis.options import Address, Options, Place
from async_jwt.stores.redis.pool import Pool, connection_of
from async_jwt.stores.redis.schema import Layout
from async_jwt.stores.redis.sentinel import Sentinels
from async_jwt.stores.redis.timer import IdleTimer

__all__ = ["Caretaker", "Part", "PerLoop", "Standalone", "Topology"]

T = TypeVar("T")

Part = tuple[ServerClient, list[str]]
"""A server client, and buckets that its server holds."""


class Caretaker(Protocol):
    """Knows what a store's servers should hold."""

    async def learn_of(self, topology: Topology, client: ServerClient) -> None:
        """Read all buckets of a server. Raises StoreUnavailableError if they cannot be read."""
        ...

    async def poll(self, topology: Topology) -> None:
        """Inspect all servers. Raises nothing."""
        ...


class Topology(ABC):
    """One event loop's clients for all servers of a store.

    Attributes:
        idle_timer: polls the servers, once after each use, for what no reply shows.
        interval: seconds from a use to that poll.

    Args:
        options: the poll interval.
        monitor: does the polling.
    """

    def __init__(self, options: Options, monitor: Caretaker) -> None:
        self.idle_timer: IdleTimer = IdleTimer(lambda: monitor.poll(self))
        self.interval: float = options.poll
        self._monitor = monitor
        self._shared: dict[str, asyncio.Task[Any]] = {}

    @property
    @abstractmethod
    def is_ready(self) -> bool:
        """False until it is known which server holds what."""

    async def ready(self) -> None:  # noqa: B027  # one server holds all
        """Find out which server holds what. Raises OutageError if that cannot be known."""

    @abstractmethod
    def at(self, name: str) -> ServerClient:
        """The client for the server that holds a bucket."""

    @abstractmethod
    def parts(self, names: Sequence[str]) -> list[Part]:
        """Group buckets by the server that holds them."""

    @abstractmethod
    def groups(self, names: Sequence[str]) -> list[list[str]]:
        """Group buckets of one server that a script may touch together."""

    @abstractmethod
    async def relocate(self) -> None:
        """Update where the servers are. Raises nothing."""

    @abstractmethod
    async def placement(self) -> object:
        """Comparable value for which server holds what. Raises OutageError while keys are migrating."""

    @abstractmethod
    def clients(self) -> list[ServerClient]:
        """The clients for all servers."""

    def start_once(self, name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """Start work under a name, unless it is already running.

        It runs in a fresh context: it belongs to no request.
        """
        task = self._shared.get(name)
        if task is None:
            task = self._shared[name] = asyncio.get_running_loop().create_task(work(), context=Context())
            task.add_done_callback(partial(_done, weakref.ref(self), name))
        return task

    async def single_flight(self, name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run work once for all concurrent callers. Cancelling one caller does not affect the others."""
        task = self.start_once(name, work)
        try:
            return await asyncio.shield(task)
        except StoreUnavailableError as problem:
            raise fresh_copy(problem) from None
        except asyncio.CancelledError:
            asker = asyncio.current_task()
            if not task.cancelled() or (asker is not None and asker.cancelling()):
                raise  # the caller was cancelled
            raise fresh_copy(None) from None

    def finished(self, name: str) -> None:
        """Forget finished work."""
        self._shared.pop(name, None)

    async def close(self) -> None:
        """Cancel shared work, and close the connections."""
        tasks = {*self.idle_timer.stop(), *self._shared.values()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for client in self.clients():
            await client.close()


def _done(topology: weakref.ref[Topology], name: str, task: asyncio.Task[Any]) -> None:
    # Weak: work that runs while a store is held must not be what holds it.
    its = topology()
    if its is not None:
        its.finished(name)
    if not task.cancelled():
        task.exception()  # waiters got it; retrieve it in case there are none


class Standalone(Topology):
    """A single server, whose address may come from Sentinel."""

    is_ready = True

    def __init__(
        self,
        place: Place,
        options: Options,
        layout: Layout,  # noqa: ARG002  # all keys are on one server
        health: Health,
        monitor: Caretaker,
    ) -> None:
        super().__init__(options, monitor)
        self._connection = place.connection
        self._sentinels = Sentinels(place, options.deadline / 2) if place.kind == "sentinel" else None
        self._primary: Address | None = None
        pool = Pool(self._connect, options.max_connections)
        self._client = ServerClient(
            pool, options, probe=lambda client: monitor.learn_of(self, client), health=health
        )

    def at(self, name: str) -> ServerClient:  # noqa: ARG002  # it holds all
        return self._client

    def parts(self, names: Sequence[str]) -> list[Part]:
        return [(self._client, list(names))]

    def groups(self, names: Sequence[str]) -> list[list[str]]:
        return [list(names)]

    def clients(self) -> list[ServerClient]:
        return [self._client]

    async def placement(self) -> object:
        return None

    async def relocate(self) -> None:
        if self._sentinels is None:
            return
        with suppress(RedisError, StoreUnavailableError):  # the next call that needs them raises it
            await self._turn_to(await self._sentinels.primary())

    async def _connect(self) -> AbstractConnection:
        if self._sentinels is None:
            return connection_of(self._connection)
        primary = await self.single_flight("primary", self._sentinels.primary)
        await self._turn_to(primary)
        return await self._sentinels.connect(primary)

    async def _turn_to(self, primary: Address) -> None:
        """Switch to a primary, and never use connections to the old one again."""
        if primary != self._primary:
            if self._primary is not None:
                await self._client.reconnect()
            self._primary = primary


class PerLoop:
    """The topologies of a store: one for each event loop of this process.

    A loop's connections are closed when it shuts down its async generators. A forked child
    creates its own: it must neither use nor close its parent's sockets.

    Args:
        make: creates a topology.
        forked: called in a forked child, at its first use.
    """

    def __init__(self, make: Callable[[], Topology], forked: Callable[[], None]) -> None:
        self._make = make
        self._forked = forked
        self._process = os.getpid()
        # The most recently used: usually there is only one.
        self._recent: tuple[weakref.ref[asyncio.AbstractEventLoop] | None, Topology | None] = (None, None)
        self._open: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[Topology, AsyncGenerator[Topology, None]]
        ] = weakref.WeakKeyDictionary()

    async def here(self) -> Topology:
        """The running loop's topology."""
        loop = asyncio.get_running_loop()
        its_loop, topology = self._recent
        if (
            topology is not None
            and its_loop is not None
            and its_loop() is loop
            and self._process == os.getpid()
        ):
            return topology
        if self._process != os.getpid():
            self._process = os.getpid()
            self._open = weakref.WeakKeyDictionary()
            self._forked()
        entry = self._open.get(loop)
        if entry is None:
            for ended in [other for other in self._open.copy() if other.is_closed()]:
                del self._open[ended]  # closed without shutting down its generators
            lifespan = self._lifespan()
            # Nothing in there suspends, so no other task can run in between.
            entry = self._open[loop] = (await anext(lifespan), lifespan)
        self._recent = (weakref.ref(loop), entry[0])
        return entry[0]

    async def close(self) -> None:
        """Close the running loop's topology. A later call creates another one."""
        self._recent = (None, None)
        entry = self._open.pop(asyncio.get_running_loop(), None)
        if entry is not None:
            await entry[1].aclose()

    async def _lifespan(self) -> AsyncGenerator[Topology, None]:
        topology, loop = self._make(), asyncio.get_running_loop()
        try:
            yield topology
        finally:
            self._open.pop(loop, None)  # else this generator, which the loop holds, would keep both alive
            await topology.close()
