"""The store on a Redis-protocol server. Needs the `redis` extra; asyncio only, as redis-py is."""

from __future__ import annotations

from async_jwt.stores.redis.store import RedisStore

__all__ = ["RedisStore"]
