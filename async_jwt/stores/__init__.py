"""Revocation stores: the only state. `RedisStore` is in `async_jwt.stores.redis`."""

from __future__ import annotations

from async_jwt.stores.contract import (
    Session,
    SessionStore,
    SessionView,
    Store,
    StoreStatus,
    TokenRef,
)
from async_jwt.stores.memory import MemoryStore

__all__ = ["MemoryStore", "Session", "SessionStore", "SessionView", "Store", "StoreStatus", "TokenRef"]
