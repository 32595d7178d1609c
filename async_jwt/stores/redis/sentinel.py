"""Which server is the primary, as the sentinels have it.

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
    """Who is the primary, and since which failover."""

    epoch: int
    address: Address


class Sentinels:
    """Those that watch one primary.

    Args:
        place: where they are, and what they call it.
        patience: seconds to wait for them to agree.
    """

    def __init__(self, place: Place, patience: float) -> None:
        self._place = place
        self._patience = patience

    async def primary(self) -> Address:
        """Where the primary is: what most of them say, or those who know of the latest failover.

        Raises:
            RedisConnectionError: none of them says.
            RefusedError: they refuse to, for a reason of ours.
        """
        try:
            votes = await quorum([self._vote_of(sentinel) for sentinel in self._place.hosts], self._patience)
        except RedisError as problem:
            raise refused_for_good(SENTINEL_MASTER, problem) from problem
        if not votes:
            raise RedisConnectionError("No sentinel names a primary")
        return max(votes).address

    async def connect(self, primary: Address) -> AbstractConnection:
        """An open connection to a primary.

        Raises:
            RedisConnectionError: it is no primary yet, or no more.
        """
        connection = connection_of({**self._place.connection, **primary._asdict()})
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            (role,) = await exchange(connection, [("ROLE",)])
            _refuse_replica(role)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _vote_of(self, sentinel: Address) -> _Vote:
        connection = connection_of({**self._place.sentinel, **sentinel._asdict()})
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            (reply,) = await exchange(connection, [("SENTINEL", "MASTER", self._place.service)])
            if isinstance(reply, ResponseError):
                raise reply  # it does not know of any such service
            found = _fields(reply)
            return _Vote(int(found[b"config-epoch"]), Address(found[b"ip"].decode(), int(found[b"port"])))
        finally:
            await connection.disconnect(nowait=True)


def _refuse_replica(role: Any) -> None:
    # Who may not ask trusts the sentinels.
    if isinstance(role, list) and role[:1] != [b"master"]:
        raise RedisConnectionError("What the sentinels name is no primary")


def _fields(reply: Any) -> dict[bytes, bytes]:
    """The fields of a reply, which RESP3 has as a map."""
    return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
