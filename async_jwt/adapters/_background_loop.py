"""The process's background loop: a long-lived event loop for frameworks that have none (Flask).

Connections belong to the loop that opened them. Flask runs each async view on its own loop, which
ends with the view, so async hooks and stores run on the background loop instead. It runs in a
daemon thread, started at first use, one per process. A forked child starts its own, a dead loop is
replaced, and the loop stops when the process exits.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Awaitable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar, cast

from async_jwt.core.concurrency import loop_context

__all__ = ["WOULD_BLOCK", "BackgroundLoop", "background_loop", "on_background_loop"]

T = TypeVar("T")

WOULD_BLOCK: Final = (
    "A blocking function was called on the event loop that it waits for, which would deadlock: in async "
    "code, await the function of the same name from async_jwt.adapters.flask"
)

# How long tasks in flight may clean up when the process exits.
_GRACE_SECONDS = 2.0


class BackgroundLoop:
    """One event loop in one daemon thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._end: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._serve, name="async_jwt-background-loop", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """True if the loop runs."""
        return self._thread.is_alive() and not self._loop.is_closed()

    @property
    def is_here(self) -> bool:
        """True if the caller runs on this loop."""
        return threading.current_thread() is self._thread

    def watch(self) -> None:
        """Have asyncio log each callback that blocks the loop for longer than 100 ms."""
        if not self._loop.get_debug():
            self._loop.set_debug(True)

    def run(self, awaitable: Awaitable[T]) -> T:
        """Run an awaitable on the loop while this thread waits.

        Context variables are copied in and back out.

        Raises:
            RuntimeError: called on the loop itself, which would deadlock.
            BaseException: anything that the awaitable raises.
        """
        if self.is_here:
            if isinstance(awaitable, Coroutine):
                awaitable.close()
            raise RuntimeError(WOULD_BLOCK)
        context = loop_context()
        tasks: list[asyncio.Task[_Outcome[T]]] = []
        waiting = threading.Lock()  # much cheaper than a Future
        waiting.acquire()

        def start() -> None:
            tasks.append(self._task_of(awaitable, context))
            tasks[0].add_done_callback(lambda _: waiting.release())

        self._loop.call_soon_threadsafe(start)
        try:
            waiting.acquire()
        except BaseException:  # this thread is being interrupted
            self._loop.call_soon_threadsafe(lambda: tasks[0].cancel())  # noqa: PLW0108  # may not exist yet
            raise
        if tasks[0].cancelled():
            raise CancelledError
        _give_back(context)
        return tasks[0].result().get()

    async def wait(self, awaitable: Awaitable[T]) -> T:
        """Run an awaitable on the loop while a coroutine on another loop waits.

        Context variables are copied in and back out. Cancelling the caller cancels the awaitable.

        Raises:
            BaseException: anything that the awaitable raises.
        """
        if self.is_here:
            return await awaitable
        context = loop_context()
        outcome = await asyncio.wrap_future(self._submit(awaitable, context))
        _give_back(context)
        return outcome.get()

    def _submit(self, awaitable: Awaitable[T], context: Context) -> Future[_Outcome[T]]:
        future: Future[_Outcome[T]] = Future()

        def start() -> None:
            task = self._task_of(awaitable, context)
            task.add_done_callback(lambda done: _settle(future, done))
            future.add_done_callback(lambda ended: self._cancel(task) if ended.cancelled() else None)

        self._loop.call_soon_threadsafe(start)
        return future

    def _task_of(self, awaitable: Awaitable[T], context: Context) -> asyncio.Task[_Outcome[T]]:
        name = getattr(awaitable, "__qualname__", None)  # for asyncio's debug log
        return self._loop.create_task(_outcome(awaitable), context=context, name=name)

    def _cancel(self, task: asyncio.Task[Any]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(task.cancel)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            # Not run_forever(): anyio keeps worker threads for as long as the loop's root task lives.
            # Without one it would start a thread for each plain hook of each request.
            self._loop.run_until_complete(self._live())
            # Tasks in flight at exit: cancelled, so that their callers do not wait forever.
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self._loop.run_until_complete(asyncio.wait(tasks, timeout=_GRACE_SECONDS))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()

    async def _live(self) -> None:
        with suppress(asyncio.CancelledError):
            await self._end

    def stop(self) -> None:
        """Stop the loop. Tasks in flight are cancelled."""
        if self.is_alive:
            self._loop.call_soon_threadsafe(self._end.cancel)
            self._thread.join(2 * _GRACE_SECONDS)


@dataclass(slots=True)
class _Outcome(Generic[T]):
    """What a coroutine returned or raised, as a value.

    A SystemExit raised in a task would end the loop, but it belongs to the caller.
    """

    value: T | None = None
    error: BaseException | None = None

    def get(self) -> T:
        if self.error is not None:
            raise self.error
        return cast("T", self.value)


async def _outcome(awaitable: Awaitable[T]) -> _Outcome[T]:
    try:
        return _Outcome(await awaitable)
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001  # see above
        return _Outcome(error=error)


def _settle(future: Future[Any], done: asyncio.Task[Any]) -> None:
    if done.cancelled():
        future.cancel()
    elif future.set_running_or_notify_cancel():
        future.set_result(done.result())


def _give_back(context: Context) -> None:
    """Copy the context variables that the loop set into the caller's context."""
    here = copy_context()
    for variable, value in context.items():
        if variable.name != "async_jwt_waiter" and here.get(variable, _give_back) is not value:
            variable.set(value)


_lock = threading.Lock()
_process_loop: BackgroundLoop | None = None


def background_loop() -> BackgroundLoop:
    """Return this process's background loop, started if necessary."""
    global _process_loop  # noqa: PLW0603  # one per process, by design
    with _lock:
        if _process_loop is None or not _process_loop.is_alive:
            _process_loop = BackgroundLoop()
        return _process_loop


def on_background_loop() -> bool:
    """True if the caller runs on the background loop. Never starts one."""
    return _process_loop is not None and _process_loop.is_here


def _after_fork() -> None:
    global _process_loop, _lock
    _process_loop, _lock = None, threading.Lock()


def _at_exit() -> None:
    if _process_loop is not None:
        _process_loop.stop()


# Platforms without fork need no registration.
getattr(os, "register_at_fork", dict)(after_in_child=_after_fork)
atexit.register(_at_exit)
