"""Wraps each call of a store: to observe it, limit its time, or run it on another event loop."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from async_jwt.stores.contract import Store

__all__ = ["CONNECTIONS", "wrapped"]

CONNECTIONS = frozenset(("start", "close"))
"""The calls that only open and release connections."""

_CALLS = (
    *("check", "stamp", "revoke_token", "revoke_session", "revoke_user", "revoke_everything"),
    *("consume_token", "expire_access_tokens", "refusal_of"),
    *("load_session", "get_session", "replace_session", "list_sessions"),
    *CONNECTIONS,
)

_Call = Callable[..., Coroutine[Any, Any, Any]]


class _Wrapped:
    """Forwards everything else to the store."""

    def __init__(self, store: Store, wrap: Callable[[str, _Call], _Call]) -> None:
        self._store = store
        for name in _CALLS:
            call = getattr(store, name, None)  # not every store has all of them
            if call is not None:
                setattr(self, name, wrap(name, call))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def wrapped(store: Store, wrap: Callable[[str, _Call], _Call]) -> Any:
    """Return a store with wrapped calls, whose class keeps the store's class name.

    Args:
        store: the store.
        wrap: given a call's name and the call, returns its replacement.
    """
    return type(type(store).__name__, (_Wrapped,), {})(store, wrap)
