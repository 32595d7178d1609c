"""Finds the primary through Sentinel.

https://redis.io/docs/latest/develop/reference/sentinel-clients/
"""

from __future__ import annotations

from typing import Any, NamedTuple

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from async_jwt.stores.redis.errors import SENTINEL_MASTER, refused_for_good
from async_jwt.stores.redis.options import Address, Place
from async_jwt.stores.redis.pool import connection_of, exchange
from async_jwt.stores.redis.quorum import quorum

__all__ = ["Sentinels"]


class _Vote(NamedTuple):
    """One sentinel's answer: the epoch of the last failover, and the primary since then."""

    epoch: int
    address: Address


class Sentinels:
    """The sentinels of one primary.

    Args:
        place: their addresses, and their name for the primary.
        patience: maximum seconds to wait for them to agree.
    """

    def __init__(self, place: Place, patience: float) -> None:
        self._place = place
        self._patience = patience

    async def primary(self) -> Address:
        """Address of the primary: the majority's answer, else the one with the latest failover.

        Raises:
            RedisConnectionError: no sentinel answered.
            RefusedError: they refuse because of a misconfiguration.
        """
        try:
            votes = await quorum([self._vote_of(sentinel) for sentinel in self._place.hosts], self._patience)
        except RedisError as problem:
            raise refused_for_good(SENTINEL_MASTER, problem) from problem
        if not votes:
            raise RedisConnectionError("No sentinel returned a primary")
        return max(votes).address

    async def connect(self, primary: Address) -> AbstractConnection:
        """Open a connection to a primary.

        Raises:
            RedisConnectionError: the server is not a primary yet, or no longer.
        """
        connection = connection_of({**self._place.connection, **primary._asdict()})
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py
            (role,) = await exchange(connection, [("ROLE",)])
            _refuse_replica(role)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _vote_of(self, sentinel: Address) -> _Vote:
        connection = connection_of({**self._place.sentinel, **sentinel._asdict()})
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py
            (reply,) = await exchange(connection, [("SENTINEL", "MASTER", self._place.service)])
            if isinstance(reply, ResponseError):
                raise reply  # unknown service
            found = _fields(reply)
            return _Vote(int(found[b"config-epoch"]), Address(found[b"ip"].decode(), int(found[b"port"])))
        finally:
            await connection.disconnect(nowait=True)


def _refuse_replica(role: Any) -> None:
    # Where ROLE is not permitted, trust the sentinels.
    if isinstance(role, list) and role[:1] != [b"master"]:
        raise RedisConnectionError("The server that the sentinels returned is not a primary")


def _fields(reply: Any) -> dict[bytes, bytes]:
    """The fields of a reply, a map in RESP3."""
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
