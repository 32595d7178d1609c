"""One event loop's way to all servers of a store, and the ways of all loops."""

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
"""A server, and buckets that it holds."""


class Caretaker(Protocol):
    """Who knows what a store's servers should hold."""

    async def learn_of(self, topology: Topology, client: ServerClient) -> None:
        """Look at all buckets of a server. Raises StoreUnavailableError if they cannot be read."""
        ...

    async def poll(self, topology: Topology) -> None:
        """Look at everything. Raises nothing."""
        ...


class Topology(ABC):
    """What one event loop reaches a store's servers through.

    Attributes:
        idle_timer: polls the servers for what no reply shows, once after each use.
        interval: seconds from a use until that.

    Args:
        options: how often to look at everything.
        monitor: who looks.
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
        """The line to the server that holds a bucket."""

    @abstractmethod
    def parts(self, names: Sequence[str]) -> list[Part]:
        """Which server holds which of some buckets."""

    @abstractmethod
    def groups(self, names: Sequence[str]) -> list[list[str]]:
        """Which of some buckets on one server a script may touch together."""

    @abstractmethod
    async def relocate(self) -> None:
        """Look where the servers are by now. Raises nothing."""

    @abstractmethod
    async def placement(self) -> object:
        """Which server holds what, to be compared. Raises OutageError while keys are on their way."""

    @abstractmethod
    def clients(self) -> list[ServerClient]:
        """The lines to all servers."""

    def start_once(self, name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """Begin to do something, where it is not under way.

        In a context of its own: it belongs to nobody's request.
        """
        task = self._shared.get(name)
        if task is None:
            task = self._shared[name] = asyncio.get_running_loop().create_task(work(), context=Context())
            task.add_done_callback(partial(_done, weakref.ref(self), name))
        return task

    async def single_flight(self, name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do something once for all who ask for it at the same time. A cancelled one stops nobody."""
        task = self.start_once(name, work)
        try:
            return await asyncio.shield(task)
        except StoreUnavailableError as problem:
            raise fresh_copy(problem) from None
        except asyncio.CancelledError:
            asker = asyncio.current_task()
            if not task.cancelled() or (asker is not None and asker.cancelling()):
                raise  # whoever asked was cancelled
            raise fresh_copy(None) from None

    def finished(self, name: str) -> None:
        """Something is done."""
        self._shared.pop(name, None)

    async def close(self) -> None:
        """End what is under way for nobody in particular, and close the connections."""
        tasks = {*self.idle_timer.stop(), *self._shared.values()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for client in self.clients():
            await client.close()


def _done(topology: weakref.ref[Topology], name: str, task: asyncio.Task[Any]) -> None:
    # Weakly: what goes on for as long as anybody holds a store must not be what holds it.
    its = topology()
    if its is not None:
        its.finished(name)
    if not task.cancelled():
        task.exception()  # those who wait were told; perhaps nobody does any more


class Standalone(Topology):
    """One server, whose address may be Sentinel's to say."""

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
        with suppress(RedisError, StoreUnavailableError):  # whoever needs them next is told
            await self._turn_to(await self._sentinels.primary())

    async def _connect(self) -> AbstractConnection:
        if self._sentinels is None:
            return connection_of(self._connection)
        primary = await self.single_flight("primary", self._sentinels.primary)
        await self._turn_to(primary)
        return await self._sentinels.connect(primary)

    async def _turn_to(self, primary: Address) -> None:
        """Never ask two servers, of which one is the primary no more."""
        if primary != self._primary:
            if self._primary is not None:
                await self._client.reconnect()
            self._primary = primary


class PerLoop:
    """The routes of a store: one for each event loop of this process.

    A loop's connections are closed when it shuts its async generators down. A forked child
    makes its own: its parent's sockets are not its to use, nor to close.

    Args:
        make: makes a route.
        forked: told that this is another process now.
    """

    def __init__(self, make: Callable[[], Topology], forked: Callable[[], None]) -> None:
        self._make = make
        self._forked = forked
        self._process = os.getpid()
        # The last one asked for: mostly there is but one.
        self._recent: tuple[weakref.ref[asyncio.AbstractEventLoop] | None, Topology | None] = (None, None)
        self._open: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[Topology, AsyncGenerator[Topology, None]]
        ] = weakref.WeakKeyDictionary()

    async def here(self) -> Topology:
        """The running loop's route."""
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
                del self._open[ended]  # nobody told it to close what it had
            lifespan = self._lifespan()
            # Nothing is awaited in there, so no other task can come in between.
            entry = self._open[loop] = (await anext(lifespan), lifespan)
        self._recent = (weakref.ref(loop), entry[0])
        return entry[0]

    async def close(self) -> None:
        """Close the running loop's route. A later call makes another one."""
        self._recent = (None, None)
        entry = self._open.pop(asyncio.get_running_loop(), None)
        if entry is not None:
            await entry[1].aclose()

    async def _lifespan(self) -> AsyncGenerator[Topology, None]:
        topology, loop = self._make(), asyncio.get_running_loop()
        try:
            yield topology
        finally:
            self._open.pop(loop, None)  # else this generator, which the loop holds on to, would keep both
            await topology.close()
