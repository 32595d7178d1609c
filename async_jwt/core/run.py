"""How a hook runs: called, awaited, in a worker thread, within a time limit.

The only place that knows. An async hook runs on the event loop that serves the request. A
plain one may block, so it runs in a worker thread with the caller's context, unless the
application promised otherwise (`inline=True`). Whatever comes back is awaited if it can be.
"""

from __future__ import annotations

import inspect
import logging
from typing import Any

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from async_jwt.core.hooks import Hook
from async_jwt.errors import HookTimeoutError

__all__ = ["WORKERS", "run_hook"]

WORKERS = 40
"""How many plain hooks may run at once on one event loop; further ones wait."""

log: logging.Logger = logging.getLogger("async_jwt.hooks")

_limiter: RunVar[anyio.CapacityLimiter] = RunVar("async_jwt_hook_limiter")


async def run_hook(hook: Hook, *args: Any, limit: float | None) -> Any:
    """Run a hook and return what it answers.

    Args:
        hook: the hook.
        args: what it is called with.
        limit: seconds after which it is given up; None is never.

    Raises:
        HookTimeoutError: it took too long. An async hook was cancelled; a plain one goes on
            in its thread and its answer is thrown away.
        Exception: whatever the hook raises, unchanged.
    """
    if limit is None:
        return await _run(hook, args)
    with anyio.move_on_after(limit) as scope:
        answer = await _run(hook, args)
    # `cancel_called` too: a hook that swallows its cancellation has still run too long.
    if scope.cancelled_caught or scope.cancel_called:
        log.error("%s_loader ran longer than JWT_HOOK_TIMEOUT = %s seconds", hook.name, limit)
        raise HookTimeoutError(f"{hook.name}_loader took too long")
    return answer


async def _run(hook: Hook, args: tuple[Any, ...]) -> Any:
    if hook.is_async or hook.inline:
        answer = hook.function(*args)
    else:
        answer = await anyio.to_thread.run_sync(
            hook.function, *args, abandon_on_cancel=True, limiter=_workers()
        )
    if inspect.isawaitable(answer):
        hook.is_async = True  # from now on it is called where its awaitable is awaited
        answer = await answer
    return answer


def _workers() -> anyio.CapacityLimiter:
    try:
        return _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(WORKERS)
        _limiter.set(limiter)
        return limiter
