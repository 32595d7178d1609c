"""A timer on one event loop that keeps nothing alive."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

__all__ = ["IdleTimer"]


class IdleTimer:
    """Runs a coroutine once after a pause. Whoever wants it to run again starts it again.

    So an idle store asks nothing, and an event loop that ends has nothing to wait for.

    Args:
        work: the coroutine function. It raises nothing.
        on_fire: called when the pause is over, before the work begins.
        at_once: how many runs of the work may be under way; further ones are left out.

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
        """Begin a pause.

        Args:
            seconds: how long it takes.
        """
        self.running = True
        # Weakly: a store that nobody holds any more asks no more.
        loop = asyncio.get_running_loop()
        self._handle = loop.call_later(seconds, _fire, weakref.ref(self), context=Context())

    def stop(self) -> set[asyncio.Task[None]]:
        """End the pause. Returns the runs under way, which the caller may cancel."""
        self.running = False
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        return self._tasks

    def fire(self) -> None:
        """End the pause, and run the work."""
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
