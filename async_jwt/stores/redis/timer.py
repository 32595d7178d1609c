"""A timer on one event loop that keeps nothing alive."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

__all__ = ["IdleTimer"]


class IdleTimer:
    """Runs a coroutine once after a pause; call `start` to run it again.

    So an idle store sends nothing, and an event loop that ends has nothing to wait for.

    Args:
        work: the coroutine function. It must not raise.
        on_fire: called when the pause is over, before the work begins.
        at_once: maximum concurrent runs of the work; further ones are skipped.

    Attributes:
        running: True from `start` until the pause is over.
    """

    def __init__(
        self,
        work: Callable[[], Coroutine[Any, Any, None]],
        *,
        on_fire: Callable[[], None] | None = None,
        at_once: int = 1,
    ) -> None:
        self._work = work
        self._on_fire = on_fire
        self._at_once = at_once
        self._handle: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.running: bool = False

    def start(self, seconds: float) -> None:
        """Start the pause.

        Args:
            seconds: its length.
        """
        self.running = True
        # Weak: an abandoned store must stop polling.
        loop = asyncio.get_running_loop()
        self._handle = loop.call_later(seconds, _fire, weakref.ref(self), context=Context())

    def stop(self) -> set[asyncio.Task[None]]:
        """End the pause. Returns the running tasks, which the caller may cancel."""
        self.running = False
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        return self._tasks

    def fire(self) -> None:
        """End the pause and run the work."""
        self.running = False
        if self._on_fire is not None:
            self._on_fire()
        if len(self._tasks) < self._at_once:
            task = asyncio.get_running_loop().create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


def _fire(timer: weakref.ref[IdleTimer]) -> None:
    held = timer()
    if held is not None:
        held.fire()
