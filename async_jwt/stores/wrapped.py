"""A store with each of its calls wrapped: observed, bounded in time, or made on another event loop."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from async_jwt.stores.contract import Store

__all__ = ["CONNECTIONS", "wrapped"]

CONNECTIONS = frozenset(("start", "close"))
"""The calls that open and release connections, rather than ask for anything."""

_CALLS = (
    *("check", "stamp", "revoke_token", "revoke_session", "revoke_user", "revoke_everything"),
    *("load_session", "get_session", "replace_session", "list_sessions"),
    *CONNECTIONS,
)

_Call = Callable[..., Coroutine[Any, Any, Any]]


class _Wrapped:
    """All else of the store is as it was."""

    def __init__(self, store: Store, wrap: Callable[[str, _Call], _Call]) -> None:
        self._store = store
        for name in _CALLS:
            call = getattr(store, name, None)  # not every store keeps sessions
            if call is not None:
                setattr(self, name, wrap(name, call))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def wrapped(store: Store, wrap: Callable[[str, _Call], _Call]) -> Any:
    """A store whose calls are wrapped, by its own class's name.

    Args:
        store: the store.
        wrap: given a call's name and the call, returns what is called instead.
    """
    return type(type(store).__name__, (_Wrapped,), {})(store, wrap)
