"""A deadline for a server: turns in which our own event loop was blocked do not count."""

from __future__ import annotations

import asyncio
from collections.abc import Set as AbstractSet
from typing import Self, TypeVar

__all__ = ["LONGEST", "Deadline"]

T = TypeVar("T")

LONGEST = 4
"""Hard limit, in deadlines, however busy the event loop is."""

# Slices per deadline. A slice that overruns counts with its nominal length only.
_SLICES = 50
# Seconds by which timers fire late on an idle loop.
_TOLERANCE = 0.002


class Deadline:
    """A time budget for consecutive operations: `async with deadline: ...`.

    A busy event loop sees a reply only in its next turn, and connecting, a handshake, sending and
    reading each take one. So time is counted in slices; a slice's overrun is the loop's, not the server's.

    Args:
        seconds: the budget.

    Attributes:
        left: seconds that the server still has.
    """

    __slots__ = ("_end", "_is_last", "_limit", "_loop", "_since", "_slice", "_timer", "left")

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + LONGEST * seconds
        self._slice = seconds / _SLICES
        self._is_last = False
        self._since: float
        self._limit: asyncio.Timeout
        self._timer: asyncio.TimerHandle
        self.left: float = seconds

    @property
    def is_over(self) -> bool:
        """True if nothing is left of the server's time, or of the hard limit."""
        return self.left <= 0 or self._loop.time() >= self._end

    @property
    def is_missed_by_us(self) -> bool:
        """True if the hard limit passed while the server still had time: this process is too busy."""
        return self.left > 0 and self._loop.time() >= self._end

    def shorten(self, seconds: float) -> None:
        """Reduce the time left to at most `seconds`."""
        self.left = min(self.left, seconds)

    async def __aenter__(self) -> Self:
        self._limit = asyncio.timeout(None)
        await self._limit.__aenter__()
        self._schedule()
        return self

    async def __aexit__(self, *raised: object) -> None:
        """Raise TimeoutError if the time ran out."""
        self._timer.cancel()
        self._count()
        await self._limit.__aexit__(*raised)  # type: ignore[arg-type]  # the three that it is given

    async def first_of(self, tasks: AbstractSet[asyncio.Task[T]]) -> set[asyncio.Task[T]]:
        """Wait until a task is done. Returns the tasks that are; an empty set once the time is over."""
        while not self.is_over:
            self._since = self._loop.time()
            span = min(self._slice, self.left)
            done, _ = await asyncio.wait(tasks, timeout=span, return_when=asyncio.FIRST_COMPLETED)
            self._count()
            if done:
                return done
        return set()

    def _schedule(self) -> None:
        self._since = now = self._loop.time()
        # An expired deadline still gets one turn: a reply may have arrived.
        self._timer = self._loop.call_at(now + min(self._slice, max(0.0, self.left)), self._look)

    def _count(self) -> bool:
        """Deduct the server's time since the last count. Return True if the loop was blocked."""
        taken = self._loop.time() - self._since
        longest = self._slice + _TOLERANCE
        self.left -= min(taken, longest)
        return taken > longest

    def _look(self) -> None:
        was_away = self._count()
        if self.is_over and not (was_away and self.left <= 0 and not self._is_last):
            self._limit.reschedule(self._loop.time())
            return
        # What arrived while the loop was blocked is still unread: allow one more slice.
        self._is_last = self.left <= 0
        if self._is_last:
            self._since = self._loop.time()
            self._timer = self._loop.call_later(self._slice, self._look)
        else:
            self._schedule()
