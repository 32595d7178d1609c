"""Revocation stores, the library's only state. `RedisStore` is in `async_jwt.stores.redis`."""

from __future__ import annotations

from async_jwt.stores.contract import (
    Session,
    SessionSnapshot,
    SessionStore,
    Store,
    StoreStatus,
    TokenRef,
)
from async_jwt.stores.memory import MemoryStore

__all__ = ["MemoryStore", "Session", "SessionSnapshot", "SessionStore", "Store", "StoreStatus", "TokenRef"]
