"""One event loop's connections to one server: bounded, and never reused after an error."""

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

# Created once: redis-py would read its version from disk for every connection.
_DRIVER = DriverInfo()


class Pool:
    """A bounded connection pool. Callers wait for a free connection in FIFO order.

    A connection is reused only after complete replies to its commands. Otherwise, above all after a
    cancellation, it is closed, so that no reply can reach the wrong request.

    Args:
        make: creates a connection, which need not be open.
        limit: maximum number of connections.

    Attributes:
        era: how many times it has dropped all connections made so far.
    """

    def __init__(self, make: Callable[[], Awaitable[AbstractConnection]], limit: int) -> None:
        self._make = make
        self._slots = asyncio.Semaphore(limit)
        self._idle: list[AbstractConnection] = []
        self.era: int = 0
        self._is_closed = False

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one pipeline and read the replies; error replies are returned in place.

        An idle connection that has broken is replaced once.

        Raises:
            RedisError: the server broke or refused the connection; OSError likewise.
        """
        async with self._slots:
            if self._idle:
                try:
                    return await self._exchange_on(self._idle.pop(), commands)
                except (RedisConnectionError, OSError):
                    pass  # stale, as after a server restart
            return await self._exchange_on(await self._make(), commands)

    async def dedicated(self, deadline: float) -> DedicatedConnection:
        """Open a connection outside the pool. Raises as `send` does.

        Args:
            deadline: seconds that each of its commands may take.
        """
        connection = await self._make()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return DedicatedConnection(connection, deadline, partial(_has_left, weakref.ref(self), self.era))

    async def close(self) -> None:
        """Close idle connections now, and the others when they are returned."""
        self._is_closed = True
        await self.drop()

    async def drop(self) -> None:
        """Stop reusing all connections made so far."""
        self.era += 1
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)

    async def _exchange_on(self, connection: AbstractConnection, commands: Sequence[Command]) -> list[Any]:
        era = self.era
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py
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
    """A connection outside the pool, for commands that belong together and for Pub/Sub messages.

    Args:
        connection: the open connection.
        deadline: seconds that a command may take.
        is_left: returns True once its pool has dropped its connections.
    """

    def __init__(self, connection: AbstractConnection, deadline: float, is_left: Callable[[], bool]) -> None:
        self._connection = connection
        self._deadline = deadline
        self._is_left = is_left

    @property
    def is_left(self) -> bool:
        """True once its pool has dropped its connections: another server may have the name now."""
        return self._is_left()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    async def execute(self, *command: Any) -> Any:
        """Send a command and read the reply. Raises OutageError, RefusedError."""
        with _errors_as_outage():
            async with Deadline(self._deadline):
                (reply,) = await exchange(self._connection, [command])
        if isinstance(reply, ResponseError):
            raise refusal(reply)
        return reply

    async def send(self, *command: Any) -> None:
        """Send a command; `receive` returns its reply. Raises OutageError."""
        with _errors_as_outage():
            await self._connection.send_command(*command)

    async def receive(self) -> Any:
        """Wait for the next reply or message. Raises OutageError once the connection ends."""
        with _errors_as_outage():
            return await self._connection.read_response(push_request=True)

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.disconnect(nowait=True)


def _has_left(pool: weakref.ref[Pool], era: int) -> bool:
    its = pool()  # weak: a dedicated connection lasts while its pool is held, and must not hold it
    return its is None or its.era != era


@contextmanager
def _errors_as_outage() -> Iterator[None]:
    try:
        yield
    except Exception as problem:  # a garbled reply may raise anything
        raise OutageError(f"The revocation store does not answer: {name_of(problem)}") from problem


async def exchange(connection: AbstractConnection, commands: Sequence[Command]) -> list[Any]:
    """Send commands on an open connection and read the replies; error replies are returned in place.

    Raises:
        RedisError: the connection broke; OSError likewise. The caller must then close it.
    """
    await connection.send_packed_command(connection.pack_commands(commands))
    replies: list[Any] = []
    for _ in commands:
        try:
            replies.append(await connection.read_response())
        except ResponseError as problem:  # a complete reply: the connection stays usable
            replies.append(problem)
    return replies


def connection_of(options: dict[str, Any]) -> AbstractConnection:
    """Create a connection that is not open yet.

    Args:
        options: redis-py's options, with its `connection_class`.
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
    """Reject a connection that has unread data, or that has ended."""
    if await connection.can_read():
        raise RedisConnectionError("The connection has unread data")
