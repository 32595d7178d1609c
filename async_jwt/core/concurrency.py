"""Runs hooks: on the event loop, in a worker thread or in a plain view, within a time limit.

No other module decides where a hook runs. An async hook runs on the event loop that serves the
request. A plain hook may block, so it runs in a worker thread with the caller's context, unless the
application promised that it never blocks (`inline=True`). The result is awaited until it is no
longer awaitable.

A plain view has no event loop. `run_without_loop` runs the same coroutines, and plain hooks, in the
view's own thread. Async hooks and store calls run on an event loop while the thread waits.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import Any, ParamSpec, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread
from anyio.lowlevel import RunVar
from blinker import Signal

from async_jwt.core.hooks import Hook
from async_jwt.core.proxies import unproxied
from async_jwt.errors import HookError, HookTimeoutError
from async_jwt.signals import send

__all__ = [
    "WORKERS",
    "Completion",
    "Waiter",
    "holding",
    "holds_thread",
    "hop",
    "in_background",
    "in_thread",
    "loop_context",
    "notify",
    "refuse_coroutine",
    "resolve",
    "run_hook",
    "run_without_loop",
    "wait_for",
    "without_waiter",
]

P = ParamSpec("P")
T = TypeVar("T")

Waiter = Callable[[Coroutine[Any, Any, Any]], Any]
"""Runs a coroutine on an event loop while a plain thread waits for it."""

WORKERS = 40
"""How many plain hooks may run at once per event loop; further ones wait."""

# How long, in seconds, an inline hook may block the event loop before debug mode logs it.
_BLOCKING = 0.010

# How many awaitables may return one another: `async def load(): return find(...)` makes two.
_NESTED = 8

log: logging.Logger = logging.getLogger("async_jwt.hooks")

# Set in a plain view's thread: the waiter for what needs an event loop after all.
_waiter: ContextVar[Waiter | None] = ContextVar("async_jwt_waiter", default=None)

holding: ContextVar[bool] = ContextVar("async_jwt_holding", default=False)
"""True where a request on an event loop also holds a thread, as in Flask."""

# True in a worker thread: the hook there may call other hooks while it keeps its slot.
_in_hook: ContextVar[bool] = ContextVar("async_jwt_in_hook", default=False)

# Strong references: the event loop itself holds its tasks weakly.
_background: set[asyncio.Task[Any]] = set()

_limiter: RunVar[anyio.CapacityLimiter] = RunVar("async_jwt_hook_limiter")
_key_limiter: RunVar[anyio.CapacityLimiter] = RunVar("async_jwt_key_limiter")


async def run_hook(hook: Hook, *args: Any, limit: float | None, watch: bool = False) -> Any:
    """Run a hook and return its result.

    Args:
        hook: the hook.
        args: its arguments.
        limit: its time limit in seconds; None for no limit.
        watch: whether to log its name if it blocks the event loop.

    Raises:
        HookTimeoutError: it took too long. An async hook is cancelled; a plain one keeps running
            in its thread and its result is discarded. Nothing can interrupt a plain hook in a
            plain view: its late result is discarded.
        HookError: awaiting its result gives one awaitable after another.
        Exception: whatever the hook raises, unchanged.
    """
    waiter = _waiter.get()
    if waiter is not None:
        return _run_in_view(hook, args, limit, waiter)
    if limit is None:
        return await _run(hook, args, watch)
    return await _limited(hook, _run(hook, args, watch), limit)


async def _limited(hook: Hook, work: Awaitable[T], limit: float) -> T:
    """Await a hook's work on an event loop, within a time limit. Raises HookTimeoutError."""
    with anyio.move_on_after(limit) as scope:
        answer = await work
    # `cancel_called` too: a hook that swallows its cancellation has still run too long.
    if scope.cancelled_caught or scope.cancel_called:
        raise _took_too_long(hook, limit)
    return answer


def _took_too_long(hook: Hook, limit: float) -> HookTimeoutError:
    event = {"event": "hook_timeout", "hook": hook.name}
    log.error("%s ran longer than JWT_HOOK_TIMEOUT = %s seconds", hook.label, limit, extra=event)
    return HookTimeoutError(f"{hook.label} took too long")


def _run_in_view(hook: Hook, args: tuple[Any, ...], limit: float | None, waiter: Waiter) -> Any:
    """Run a hook in a plain view's thread; await an awaitable result on the waiter's loop."""
    began = time.monotonic()
    answer = unproxied(hook.function(*args))
    if inspect.isawaitable(answer):
        hook.is_async = True
        answer = _waited(waiter, answer, hook, None if limit is None else began + limit - time.monotonic())
    if limit is not None and time.monotonic() - began > limit:
        raise _took_too_long(hook, limit)  # a late result does not authenticate
    return answer


async def resolve(answer: Any) -> Any:
    """Await what a function returned until the result is not awaitable.

    Raises:
        HookError: awaiting it gives one awaitable after another.
    """
    answer = unproxied(answer)  # a proxy may look awaitable when its object is not
    if not inspect.isawaitable(answer):
        return answer
    waiter = _waiter.get()
    return await _resolve_on_loop(answer) if waiter is None else _waited(waiter, answer)


def _waited(
    waiter: Waiter, answer: Awaitable[Any], hook: Hook | None = None, left: float | None = None
) -> Any:
    """Resolve an awaitable on the waiter's loop, within a hook's remaining time if limited."""

    async def wait() -> Any:
        rest = _resolve_on_loop(answer)
        return await (rest if hook is None or left is None else _limited(hook, rest, left))

    try:
        return waiter(wait())
    finally:
        if inspect.iscoroutine(answer) and inspect.getcoroutinestate(answer) == inspect.CORO_CREATED:
            answer.close()  # the waiter refused: avoids a late "never awaited" warning


async def _resolve_on_loop(answer: Any) -> Any:
    for _ in range(_NESTED):
        awaited, answer = answer, unproxied(await answer)
        # Some objects, such as Tortoise's models, return themselves when awaited: they are values.
        if answer is awaited or not inspect.isawaitable(answer):
            return answer
    if inspect.iscoroutine(answer):
        answer.close()
    raise HookError(f"The result was still awaitable after {_NESTED} awaits in a row")


async def notify(signal: Signal, sender: Any, **arguments: Any) -> None:
    """Call a signal's receivers, which may be plain or async, like hooks."""
    if signal.receivers:
        await send(signal, sender, resolve, **arguments)


async def hop(function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a coroutine function on an event loop: this one, or that of a plain view's waiter."""
    waiter = _waiter.get()
    if waiter is None:
        return await function(*args, **kwargs)

    async def call() -> T:
        return await function(*args, **kwargs)

    answer: T = waiter(call())
    return answer


def refuse_coroutine(given: Any, fix: str) -> None:
    """Refuse a coroutine that the application forgot to await.

    Args:
        given: the value that the application passed.
        fix: what to write instead.

    Raises:
        TypeError: the value is awaitable.
    """
    given = unproxied(given)
    if not inspect.isawaitable(given):
        return
    if inspect.iscoroutine(given):
        given.close()  # avoids a late "never awaited" warning
    raise TypeError(f"Got a coroutine; did you forget `await`? Fix: {fix}")


async def in_thread(function: Callable[[], T]) -> T:
    """Call a function that may block: in a worker thread, or directly in a plain view's thread."""
    if _waiter.get() is not None:
        return function()
    return await anyio.to_thread.run_sync(function)


def run_without_loop(coroutine: Coroutine[Any, Any, T], waiter: Waiter) -> T:
    """Run a coroutine to its end in this thread, without an event loop.

    Plain hooks run here. The coroutine itself must never suspend: anything that waits goes to `waiter`.

    Args:
        coroutine: the coroutine to run.
        waiter: runs what needs an event loop, and waits for it.

    Raises:
        RuntimeError: the coroutine suspended.
        Exception: whatever the coroutine raises.
    """
    token = _waiter.set(waiter)
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        _waiter.reset(token)
        coroutine.close()
    raise RuntimeError("A store with `awaits_nothing` had to wait: remove the attribute, or never wait")


def holds_thread() -> bool:
    """True if the caller's request holds a thread, which waiting would block."""
    return _waiter.get() is not None or holding.get()


def loop_context() -> Context:
    """A copy of the context for an event loop, without a plain view's waiter."""
    context = copy_context()
    context.run(_waiter.set, None)
    return context


async def without_waiter(awaitable: Awaitable[T]) -> T:
    """Await something on an event loop that inherited a plain view's context, without its waiter."""
    token = _waiter.set(None)
    try:
        return await awaitable
    finally:
        _waiter.reset(token)


async def _run(hook: Hook, args: tuple[Any, ...], watch: bool) -> Any:
    if hook.is_async or (hook.inline and not watch):
        answer = hook.function(*args)
    elif hook.inline:
        answer = _watched(hook, args)
    else:
        answer = await _in_worker(hook.function, args, _key_loaders() if hook.name == "keys" else _workers())
    answer = unproxied(answer)
    if not inspect.isawaitable(answer):
        return answer
    hook.is_async = True  # from now on it is called on the event loop
    return await _resolve_on_loop(answer)


def _watched(hook: Hook, args: tuple[Any, ...]) -> Any:
    started = time.perf_counter()
    try:
        return hook.function(*args)
    finally:
        taken = time.perf_counter() - started
        if taken > _BLOCKING:
            log.warning(
                "%s(inline=True) blocked the event loop for %.0f ms: make it async, or drop inline=True "
                "to run it in a thread",
                hook.label,
                taken * 1000,
                extra={"event": "hook_blocks", "hook": hook.name},
            )


async def _in_worker(
    function: Callable[..., Any], args: tuple[Any, ...], slots: anyio.CapacityLimiter
) -> Any:
    """Call a function in a worker thread; a cancelled caller leaves it running there.

    anyio frees an abandoned thread's slot at once. Here the slot stays taken until the
    function returns, so that a slow database cannot start threads without limit.
    """
    call = _Call(function, args)
    await slots.acquire_on_behalf_of(call)
    try:
        return await anyio.to_thread.run_sync(
            call.run, slots, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1)
        )
    finally:
        if call.leave():
            slots.release_on_behalf_of(call)


class _Call:
    """A call in a worker thread; the side that ends last, thread or caller, releases its slot."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._function = function
        self._args = args
        self._lock = threading.Lock()
        self._running = False
        self._left = False

    def run(self, slots: anyio.CapacityLimiter) -> Any:
        """The thread's side."""
        with self._lock:
            self._running = not self._left
        _in_hook.set(True)  # in the thread's own copy of the context
        try:
            return self._function(*self._args)
        finally:
            with self._lock:
                self._running, abandoned = False, self._running and self._left
            if abandoned:
                # The loop may have ended by now; then no call waits for the slot either.
                with suppress(Exception):
                    anyio.from_thread.run_sync(slots.release_on_behalf_of, self)

    def leave(self) -> bool:
        """The caller's side: return True if the caller must release the slot."""
        with self._lock:
            self._left = True
            return not self._running


def _workers() -> anyio.CapacityLimiter:
    # Hooks called by a hook take no slot: if all callers kept theirs and waited, none would end.
    return anyio.CapacityLimiter(1) if _in_hook.get() else _slots(_limiter, WORKERS)


def _key_loaders() -> anyio.CapacityLimiter:
    # A separate limiter: a secret manager that hangs must not take slots from other hooks.
    return _slots(_key_limiter, 1)


def _slots(kept: RunVar[anyio.CapacityLimiter], count: int) -> anyio.CapacityLimiter:
    try:
        return kept.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(count)
        kept.set(limiter)
        return limiter


async def in_background(work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Start work that the caller need not wait for; it must not raise.

    Raises:
        RuntimeError: no thread can be started.
    """
    waiter = _waiter.get()
    if waiter is not None:  # a plain view's own thread
        call = partial(copy_context().run, lambda: run_without_loop(work(), waiter))
        threading.Thread(target=call, name="async_jwt-background", daemon=True).start()
        return
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        # The other event loop that anyio runs on, and so imported.
        sys.modules["trio"].lowlevel.spawn_system_task(work, context=copy_context())
        return
    task = loop.create_task(work())
    _background.add(task)
    task.add_done_callback(_background.discard)


class Completion:
    """Something that ends once: coroutines on any event loops, and plain threads, wait for it.

    Attributes:
        is_over: whether it has ended.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._futures: list[asyncio.Future[None]] = []

    @property
    def is_over(self) -> bool:
        """True once it has ended."""
        return self._event.is_set()

    def end(self) -> None:
        """Let everybody go on. Later calls do nothing."""
        with self._lock:
            self._event.set()
            futures, self._futures = self._futures, []
        for future in futures:
            with suppress(RuntimeError):  # its event loop has ended
                future.get_loop().call_soon_threadsafe(_release, future)

    async def wait(self, seconds: float) -> None:
        """Wait for the end, up to `seconds`."""
        if _waiter.get() is not None or not _on_asyncio():
            await wait_for(self._event, seconds)
            return
        with self._lock:
            if self._event.is_set():
                return
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._futures.append(future)
        with anyio.move_on_after(seconds):
            await future


def _release(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _on_asyncio() -> bool:
    return asyncio._get_running_loop() is not None  # noqa: SLF001  # the variant that does not raise


async def wait_for(event: threading.Event, seconds: float) -> None:
    """Wait up to `seconds` for an event that another thread may set."""
    if _waiter.get() is not None:
        event.wait(seconds)  # a plain view's own thread
        return
    end, pause = time.monotonic() + seconds, 0.001
    while not event.is_set() and time.monotonic() < end:
        await anyio.sleep(pause)
        pause = min(2 * pause, 0.02)
