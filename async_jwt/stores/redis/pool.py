"""Connections of one event loop to one server: bounded, and never used again after a doubt."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Self

from redis.asyncio.connection import AbstractConnection, Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from async_jwt.stores.redis.deadline import Deadline
from async_jwt.stores.redis.errors import OutageError, name_of, refusal

__all__ = ["Command", "DedicatedConnection", "Pool", "connection_of", "exchange"]

Command = tuple[Any, ...]

# Made once: redis-py would read its version from the disk for every connection.
_DRIVER = DriverInfo()


class Pool:
    """A bounded number of connections; who finds none free waits for one, first come first served.

    A connection goes back only after whole replies to its commands. Whatever else happens, a
    cancellation above all, it is closed, so that no reply can reach the wrong request.

    Args:
        make: makes a connection, which need not be open.
        limit: how many connections there may be.

    Attributes:
        era: how often it has left all connections made until then.
    """

    def __init__(self, make: Callable[[], Awaitable[AbstractConnection]], limit: int) -> None:
        self._make = make
        self._slots = asyncio.Semaphore(limit)
        self._idle: list[AbstractConnection] = []
        self.era: int = 0
        self._is_closed = False

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one go, and read the replies; an error in a reply stands in its place.

        An idle connection that broke meanwhile is replaced once.

        Raises:
            RedisError: the server broke the connection, or refused it; OSError likewise.
        """
        async with self._slots:
            if self._idle:
                try:
                    return await self._exchange_on(self._idle.pop(), commands)
                except (RedisConnectionError, OSError):
                    pass  # as a server that was restarted leaves them
            return await self._exchange_on(await self._make(), commands)

    async def dedicated(self, deadline: float) -> DedicatedConnection:
        """A connection beside those of the pool. Raises as `send` does.

        Args:
            deadline: seconds that one of its commands may take.
        """
        connection = await self._make()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return DedicatedConnection(connection, deadline, partial(_has_left, weakref.ref(self), self.era))

    async def close(self) -> None:
        """Close idle connections now, and the others when they come back."""
        self._is_closed = True
        await self.drop()

    async def drop(self) -> None:
        """Use no connection again that was made until now."""
        self.era += 1
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)

    async def _exchange_on(self, connection: AbstractConnection, commands: Sequence[Command]) -> list[Any]:
        era = self.era
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            await _refuse_unread(connection)
            replies = await exchange(connection, commands)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        if self._is_closed or era != self.era:
            await connection.disconnect(nowait=True)
        else:
            self._idle.append(connection)
        return replies


class DedicatedConnection:
    """A connection of one's own, for commands that belong together, and for what comes unasked.

    Args:
        connection: it, open.
        deadline: seconds that a command may take.
        is_left: whether its pool has left the server since.
    """

    def __init__(self, connection: AbstractConnection, deadline: float, is_left: Callable[[], bool]) -> None:
        self._connection = connection
        self._deadline = deadline
        self._is_left = is_left

    @property
    def is_left(self) -> bool:
        """Whether its pool has left the server since: another one may have the name."""
        return self._is_left()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    async def execute(self, *command: Any) -> Any:
        """Send a command, and read the reply. Raises OutageError, RefusedError."""
        with _errors_as_outage():
            async with Deadline(self._deadline):
                (reply,) = await exchange(self._connection, [command])
        if isinstance(reply, ResponseError):
            raise refusal(reply)
        return reply

    async def send(self, *command: Any) -> None:
        """Send a command whose reply `receive` gets. Raises OutageError."""
        with _errors_as_outage():
            await self._connection.send_command(*command)

    async def receive(self) -> Any:
        """Wait for what comes. Raises OutageError once the connection ends."""
        with _errors_as_outage():
            return await self._connection.read_response(push_request=True)

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.disconnect(nowait=True)


def _has_left(pool: weakref.ref[Pool], era: int) -> bool:
    its = pool()  # weakly: a talk may go on for as long as a pool is held, and no longer
    return its is None or its.era != era


@contextmanager
def _errors_as_outage() -> Iterator[None]:
    try:
        yield
    except Exception as problem:  # a garbled reply may raise anything
        raise OutageError(f"The revocation store does not answer: {name_of(problem)}") from problem


async def exchange(connection: AbstractConnection, commands: Sequence[Command]) -> list[Any]:
    """Send commands on an open connection and read the replies; an error in a reply stands in its place.

    Raises:
        RedisError: the connection broke; OSError likewise. It must be closed then.
    """
    await connection.send_packed_command(connection.pack_commands(commands))
    replies: list[Any] = []
    for _ in commands:
        try:
            replies.append(await connection.read_response())
        except ResponseError as problem:  # a whole reply, and the connection is in order
            replies.append(problem)
    return replies


def connection_of(options: dict[str, Any]) -> AbstractConnection:
    """A connection that is not open yet.

    Args:
        options: redis-py's, and its `connection_class`.
    """
    options = dict(options)
    kind: type[AbstractConnection] = options.pop("connection_class", Connection)
    return kind(
        retry=Retry(NoBackoff(), 0),
        socket_timeout=None,  # one deadline bounds it all
        socket_connect_timeout=None,
        driver_info=_DRIVER,
        **options,
    )


async def _refuse_unread(connection: AbstractConnection) -> None:
    """Refuse a connection that holds something to read before anybody asked, or that has ended."""
    if await connection.can_read():
        raise RedisConnectionError("There is something to read that nobody asked for")
