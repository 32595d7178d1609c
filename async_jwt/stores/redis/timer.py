"""Looks at something now and then, as long as it is in use."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

__all__ = ["IdleTimer"]


class IdleTimer:
    """A timer on one event loop.

    It is wound by use and runs down without, so that an idle store asks nothing and a loop
    that ends has nothing to wait for.

    Args:
        seconds: how long after.
        look: what to do then. It raises nothing.
    """

    def __init__(self, seconds: float, look: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._seconds = seconds
        self._look = look
        self._timer: asyncio.TimerHandle | None = None
        self._looks: set[asyncio.Task[None]] = set()

    def restart(self) -> None:
        """Tell it that there is use."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._seconds, _fire, weakref.ref(self), context=Context())

    def stop(self) -> set[asyncio.Task[None]]:
        """Look no more, until there is use again. Returns looks that are to be cancelled."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return self._looks

    def _fire(self) -> None:
        self._timer = None
        look = asyncio.get_running_loop().create_task(self._look())
        self._looks.add(look)
        look.add_done_callback(self._looks.discard)


def _fire(idle_timer: weakref.ref[IdleTimer]) -> None:
    found = idle_timer()
    if found is not None:
        found._fire()  # noqa: SLF001  # its own timer
