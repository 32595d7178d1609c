"""The process's lasting event loop, for frameworks that have none (Flask).

Connections belong to the loop that opened them. Flask runs each async view on a loop of its
own, which ends with the view; so async hooks and stores run here instead, on one loop that
lasts: a daemon thread, started at first use, for one process alone. A forked child gets its
own, a loop that died is replaced, and it is stopped when the process ends.
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
    "A blocking function was called on the event loop that it would wait for: in async code, await the "
    "function of the same name from async_jwt.adapters.flask"
)

# How long what is in flight may clean up when the process ends.
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
        """Whether it runs."""
        return self._thread.is_alive() and not self._loop.is_closed()

    @property
    def is_here(self) -> bool:
        """Whether the caller runs on it."""
        return threading.current_thread() is self._thread

    def watch(self) -> None:
        """Let asyncio name in its log what blocks the loop longer than 100 ms."""
        if not self._loop.get_debug():
            self._loop.set_debug(True)

    def run(self, awaitable: Awaitable[T]) -> T:
        """Run something on the loop while this thread waits.

        Context variables go in and come back.

        Raises:
            RuntimeError: called on the loop itself, which would wait for itself for ever.
            BaseException: whatever the coroutine raises.
        """
        if self.is_here:
            if isinstance(awaitable, Coroutine):
                awaitable.close()
            raise RuntimeError(WOULD_BLOCK)
        context = loop_context()
        tasks: list[asyncio.Task[_Outcome[T]]] = []
        waiting = threading.Lock()  # a fraction of what a Future costs
        waiting.acquire()

        def start() -> None:
            tasks.append(self._task_of(awaitable, context))
            tasks[0].add_done_callback(lambda _: waiting.release())

        self._loop.call_soon_threadsafe(start)
        try:
            waiting.acquire()
        except BaseException:  # this thread is being stopped
            self._loop.call_soon_threadsafe(lambda: tasks[0].cancel())  # noqa: PLW0108  # it may not be there yet
            raise
        if tasks[0].cancelled():
            raise CancelledError
        _give_back(context)
        return tasks[0].result().get()

    async def wait(self, awaitable: Awaitable[T]) -> T:
        """Run something on the loop while a coroutine of another loop waits.

        Context variables go in and come back. Cancelling the caller cancels it.

        Raises:
            BaseException: whatever the coroutine raises.
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
            # Not run_forever(): anyio keeps worker threads as long as the task that a loop runs for,
            # and without one it would start a thread for each plain hook of each request.
            self._loop.run_until_complete(self._live())
            # In flight when the process ends: their callers are told.
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
        """End it. What is in flight is cancelled."""
        if self.is_alive:
            self._loop.call_soon_threadsafe(self._end.cancel)
            self._thread.join(2 * _GRACE_SECONDS)


@dataclass(slots=True)
class _Outcome(Generic[T]):
    """What a coroutine returned or raised, as a value.

    A SystemExit that was raised in a task would end the loop, and is the caller's.
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
    """Set here what was set there."""
    here = copy_context()
    for variable, value in context.items():
        if variable.name != "async_jwt_waiter" and here.get(variable, _give_back) is not value:
            variable.set(value)


_lock = threading.Lock()
_process_loop: BackgroundLoop | None = None


def background_loop() -> BackgroundLoop:
    """The loop of this process, started if it does not run."""
    global _process_loop  # noqa: PLW0603  # one for the process is what it is for
    with _lock:
        if _process_loop is None or not _process_loop.is_alive:
            _process_loop = BackgroundLoop()
        return _process_loop


def on_background_loop() -> bool:
    """Whether the caller runs on it. Starts none."""
    return _process_loop is not None and _process_loop.is_here


def _after_fork() -> None:
    global _process_loop, _lock
    _process_loop, _lock = None, threading.Lock()


def _at_exit() -> None:
    if _process_loop is not None:
        _process_loop.stop()


# Where there is no fork there is nothing to register.
getattr(os, "register_at_fork", dict)(after_in_child=_after_fork)
atexit.register(_at_exit)
