"""Connections of one event loop to one server: bounded, and never used again after a doubt."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio.connection import AbstractConnection, Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError

from async_jwt.stores.redis.lua import Script

__all__ = ["Pool"]

# Made once: redis-py would read its version from the disk for every connection.
_DRIVER = DriverInfo()


class Pool:
    """A bounded number of connections; who finds none free waits for one, first come first served.

    A connection goes back only after a whole reply to its command. Whatever else happens, a
    cancellation above all, it is closed, so that no reply can reach the wrong request.

    Args:
        address: what redis-py's connections are made with.
        limit: how many connections there may be.
    """

    def __init__(self, address: dict[str, Any], limit: int) -> None:
        self._kind: type[AbstractConnection] = address.get("connection_class", Connection)
        self._address = {name: value for name, value in address.items() if name != "connection_class"}
        self._slots = asyncio.Semaphore(limit)
        self._idle: list[AbstractConnection] = []
        self._is_closed = False

    async def execute(self, *command: Any) -> Any:
        """Send a command and read the reply. An idle connection that broke meanwhile is replaced once.

        Raises:
            RedisError: the server refused, or broke the connection; OSError likewise.
        """
        async with self._slots:
            if self._idle:
                connection = self._idle.pop()
                try:
                    return await self._ask(connection, command)
                except (RedisConnectionError, OSError):
                    pass  # as a server that was restarted leaves them
            return await self._ask(self._make(), command)

    async def run(self, script: Script, keys: list[str], arguments: list[str]) -> Any:
        """Run a script; the server is given its text if it does not know it. Raises as `execute` does."""
        tail = (len(keys), *keys, *arguments)
        try:
            return await self.execute("EVALSHA", script.digest, *tail)
        except NoScriptError:
            return await self.execute("EVAL", script.text, *tail)

    async def close(self) -> None:
        """Close idle connections now, and the others when they come back."""
        self._is_closed = True
        await self.drop_idle()

    async def drop_idle(self) -> None:
        """Close what is not in use."""
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)

    async def _ask(self, connection: AbstractConnection, command: tuple[Any, ...]) -> Any:
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            await _refuse_unread(connection)
            await connection.send_command(*command)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        try:
            reply = await connection.read_response()
        except ResponseError:  # a whole reply, and the connection is in order
            await self._put_back(connection)
            raise
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        await self._put_back(connection)
        return reply

    async def _put_back(self, connection: AbstractConnection) -> None:
        if self._is_closed:
            await connection.disconnect(nowait=True)
        else:
            self._idle.append(connection)

    def _make(self) -> AbstractConnection:
        return self._kind(
            retry=Retry(NoBackoff(), 0),
            socket_timeout=None,  # one deadline bounds it all
            socket_connect_timeout=None,
            driver_info=_DRIVER,
            **self._address,
        )


async def _refuse_unread(connection: AbstractConnection) -> None:
    """Refuse a connection that holds something to read before anybody asked, or that has ended."""
    if await connection.can_read():
        raise RedisConnectionError("There is something to read that nobody asked for")
