"""The store loop of a Flask application, and how its async functions get there.

Under an ASGI server (asgiref's `WsgiToAsgi`) it is the server's loop, and Flask runs async views
there. Otherwise it is the process's background loop: Flask gives each async view its own loop,
which ends with the view, unless `JWT_SHARED_LOOP` moves views to the background loop. Only views
on the same loop can use connections that a hook opened.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, Final, TypeVar

from asgiref.sync import SyncToAsync, async_to_sync
from flask import Flask

from async_jwt.adapters._background_loop import (
    WOULD_BLOCK,
    BackgroundLoop,
    background_loop,
    on_background_loop,
)
from async_jwt.app_state import AppState
from async_jwt.core.concurrency import without_waiter

__all__ = ["NOTE", "is_store_loop", "run_on_store_loop", "share_store_loop", "wait_on_store_loop"]

T = TypeVar("T")

NOTE: Final = (
    "A client or pool was used on two event loops: hooks run on a long-lived one, but Flask gives each "
    "async view its own, which ends with the view. Set JWT_SHARED_LOOP = True to run async views where "
    "hooks run. If it is already set: open the client in a hook or a view, not outside a request."
)

# What asyncio and client libraries say about a connection that belongs to another event loop.
_OTHER_LOOP = ("Event loop is closed", "attached to a different loop", "bound to a different event loop")

# True if this request's async functions run on a server's event loop; None if not yet known.
_on_server: ContextVar[bool | None] = ContextVar("async_jwt_on_server", default=None)


def _runs_on_server() -> bool:
    known = _on_server.get()
    if known is not None:
        return known
    # asgiref sets it in threads that work for an event loop; its own `async_to_sync` reads it.
    local = SyncToAsync.threadlocal
    return getattr(local, "main_event_loop_pid", None) == os.getpid() and local.main_event_loop.is_running()


def _background(*, watch: bool) -> BackgroundLoop:
    home = background_loop()
    if watch:
        home.watch()
    return home


def is_store_loop() -> bool:
    """True if the caller runs on the store loop, so that waiting for it would deadlock."""
    if asyncio._get_running_loop() is None:  # noqa: SLF001  # the variant that does not raise
        return False
    return _runs_on_server() or on_background_loop()


def run_on_store_loop(coroutine: Coroutine[Any, Any, T], *, watch: bool = False) -> T:
    """Run a coroutine on the store loop while this thread waits.

    Args:
        coroutine: the coroutine to run.
        watch: True logs what blocks the loop, if it is the background loop.

    Raises:
        RuntimeError: called on the store loop itself.
        BaseException: anything that the coroutine raises.
    """
    with _noted():
        if not _runs_on_server():
            return _background(watch=watch).run(coroutine)
        if is_store_loop():
            coroutine.close()
            raise RuntimeError(WOULD_BLOCK)

        # asgiref, not our own wait: code on that loop may need this very thread while it waits.
        return async_to_sync(without_waiter)(coroutine)


async def wait_on_store_loop(coroutine: Coroutine[Any, Any, T], *, watch: bool = False) -> T:
    """Run a coroutine on the store loop while a coroutine on possibly another loop waits.

    Raises what the coroutine raises. See `run_on_store_loop`.
    """
    with _noted():
        return await (coroutine if _on_server.get() else _background(watch=watch).wait(coroutine))


def share_store_loop(app: Flask, app_state: AppState) -> None:
    """Run an application's async functions on the store loop if `JWT_SHARED_LOOP` is set.

    `Flask.async_to_sync` is Flask's hook for this.
    """
    original = app.async_to_sync

    def convert(function: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            on_server = _runs_on_server()
            settings = app_state.base_engine().settings
            if settings.shared_loop and not on_server:
                return _background(watch=settings.debug).run(function(*args, **kwargs))
            token = _on_server.set(on_server)
            try:
                with _noted():
                    return original(function)(*args, **kwargs)
            finally:
                _on_server.reset(token)

        return call

    app.async_to_sync = convert  # type: ignore[method-assign,assignment]  # see above


@contextmanager
def _noted() -> Iterator[None]:
    """Add a note on what to do to errors from a connection that was used on two loops."""
    try:
        yield
    except Exception as error:
        noted = NOTE in getattr(error, "__notes__", ())
        if not noted and any(text in str(part) for part in _chain(error) for text in _OTHER_LOOP):
            error.add_note(NOTE)
        raise


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
