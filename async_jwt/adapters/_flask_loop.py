"""Which event loop lasts for a Flask application, and how its async functions get there.

Under an ASGI server (asgiref's `WsgiToAsgi`) it is the server's, and Flask runs async views there.
Otherwise it is the process's own: Flask gives each async view a loop that ends with the view,
unless `JWT_SHARED_LOOP` sends them to the lasting one. Connections that a hook opened are of use
to a view on the same loop alone.
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
    "A client or pool was used on two event loops: hooks run on one that lasts, and Flask gives each async "
    "view another one, which ends with the view. Set JWT_SHARED_LOOP = True, and async views run where "
    "the hooks do. Where it is set: open the client in a hook or a view, not before there is a request."
)

# What asyncio and its clients say of a connection that belongs to another event loop.
_OTHER_LOOP = ("Event loop is closed", "attached to a different loop", "bound to a different event loop")

# Whether this request's async functions run on a server's event loop; None where nobody has asked yet.
_on_server: ContextVar[bool | None] = ContextVar("async_jwt_on_server", default=None)


def _runs_on_server() -> bool:
    known = _on_server.get()
    if known is not None:
        return known
    # Set by asgiref in threads that work for an event loop, where its own `async_to_sync` looks for it.
    local = SyncToAsync.threadlocal
    return getattr(local, "main_event_loop_pid", None) == os.getpid() and local.main_event_loop.is_running()


def _background(*, watch: bool) -> BackgroundLoop:
    home = background_loop()
    if watch:
        home.watch()
    return home


def is_store_loop() -> bool:
    """Whether the caller runs on the loop that lasts, so that waiting for it would never end."""
    if asyncio._get_running_loop() is None:  # noqa: SLF001  # the one that does not raise
        return False
    return _runs_on_server() or on_background_loop()


def run_on_store_loop(coroutine: Coroutine[Any, Any, T], *, watch: bool = False) -> T:
    """Run a coroutine on the loop that lasts, while this thread waits.

    Args:
        coroutine: what to run.
        watch: whether what blocks the loop is named in the log, if it is the process's own.

    Raises:
        RuntimeError: called on that loop itself.
        BaseException: whatever the coroutine raises.
    """
    with _noted():
        if not _runs_on_server():
            return _background(watch=watch).run(coroutine)
        if is_store_loop():
            coroutine.close()
            raise RuntimeError(WOULD_BLOCK)

        # Not by hand: what runs there may need this very thread while it waits.
        return async_to_sync(without_waiter)(coroutine)


async def wait_on_store_loop(coroutine: Coroutine[Any, Any, T], *, watch: bool = False) -> T:
    """Run a coroutine on the loop that lasts, while one of perhaps another loop waits.

    Raises what the coroutine raises. See `run_on_store_loop`.
    """
    with _noted():
        return await (coroutine if _on_server.get() else _background(watch=watch).wait(coroutine))


def share_store_loop(app: Flask, app_state: AppState) -> None:
    """Let an application's async functions run on the loop that lasts, if `JWT_SHARED_LOOP` says so.

    `Flask.async_to_sync` is where Flask lets applications decide about it.
    """
    original = app.async_to_sync

    def convert(function: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            on_server = _runs_on_server()
            settings = app_state.engine().settings
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
    """Says what to do where a connection was used on two loops."""
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
