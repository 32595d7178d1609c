"""Revocation stores, the library's only state. `RedisStore` is in `async_jwt.stores.redis`."""

from __future__ import annotations

from async_jwt.stores.contract import (
    AccessExpiryStore,
    Refusal,
    RefusalStore,
    Session,
    SessionSnapshot,
    SessionStore,
    SingleUseStore,
    Store,
    StoreStatus,
    TokenRef,
)
from async_jwt.stores.memory import MemoryStore

__all__ = [
    "AccessExpiryStore",
    "MemoryStore",
    "Refusal",
    "RefusalStore",
    "Session",
    "SessionSnapshot",
    "SessionStore",
    "SingleUseStore",
    "Store",
    "StoreStatus",
    "TokenRef",
]
