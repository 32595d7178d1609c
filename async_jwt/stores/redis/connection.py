"""Connections to one server: a bounded pool for each event loop and one total deadline."""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.exceptions import RedisError

from async_jwt.errors import StoreUnavailableError

__all__ = ["Connections"]

T = TypeVar("T")

# Made once: redis-py would read its version from the disk for every connection.
_DRIVER = DriverInfo()

log: logging.Logger = logging.getLogger("async_jwt.store")


class Connections:
    """Runs commands on a server, within a deadline.

    A pool belongs to the event loop it was made on and to the process that made it: each
    loop gets its own, closed when the loop shuts its async generators down.

    Args:
        options: what redis-py's connections are made with.
        deadline: seconds that one call may take in all: waiting for a connection, making
            it, a retry on one that went stale, and the answer.
        max_connections: how many connections one loop may hold; further calls wait.
    """

    def __init__(self, options: dict[str, Any], *, deadline: float, max_connections: int) -> None:
        self._options = options
        self._deadline = deadline
        self._max_connections = max_connections
        self._process = os.getpid()
        self._clients: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[Redis, AsyncGenerator[Redis, None]]
        ] = weakref.WeakKeyDictionary()
        self._answering = True

    async def run(self, work: Callable[[Redis], Awaitable[T]]) -> T:
        """Do some work with a client.

        Raises:
            StoreUnavailableError: the server refused, failed, or did not answer in time.
        """
        try:
            async with asyncio.timeout(self._deadline):
                answer = await work(await self._client())
        except (RedisError, OSError, TimeoutError) as problem:
            self._note(answering=False, why=type(problem).__name__)
            raise StoreUnavailableError("The revocation store did not answer") from problem
        self._note(answering=True)
        return answer

    async def close(self) -> None:
        """Close the running loop's connections. A later call makes new ones."""
        entry = self._clients.pop(asyncio.get_running_loop(), None)
        if entry is not None:
            await entry[1].aclose()

    async def _client(self) -> Redis:
        if self._process != os.getpid():
            # A fork: the parent's sockets are not ours to use, nor to close.
            self._process = os.getpid()
            self._clients = weakref.WeakKeyDictionary()
        loop = asyncio.get_running_loop()
        entry = self._clients.get(loop)
        if entry is None:
            lifespan = self._lifespan()
            # Nothing is awaited in there, so no other task can come in between.
            entry = self._clients[loop] = (await anext(lifespan), lifespan)
        return entry[0]

    async def _lifespan(self) -> AsyncGenerator[Redis, None]:
        pool = BlockingConnectionPool(
            max_connections=self._max_connections,
            timeout=None,  # the deadline bounds the wait
            retry=Retry(NoBackoff(), 1),
            socket_timeout=None,
            socket_connect_timeout=None,
            driver_info=_DRIVER,
            **self._options,
        )
        try:
            yield Redis(connection_pool=pool)
        finally:
            await pool.disconnect()

    def _note(self, *, answering: bool, why: str = "") -> None:
        """Log changes of state, not every request of an outage."""
        if answering == self._answering:
            return
        self._answering = answering
        if answering:
            log.info("The revocation store answers again")
        else:
            log.error("The revocation store does not answer (%s): requests are refused with 503", why)
