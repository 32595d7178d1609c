"""How long a server may take: its time counts, turns in which our own event loop was kept away do not."""

from __future__ import annotations

import asyncio
from collections.abc import Set as AbstractSet
from typing import Self, TypeVar

__all__ = ["LONGEST", "Deadline"]

T = TypeVar("T")

LONGEST = 4
"""How many deadlines may pass in all, however busy the event loop is."""

# A deadline is counted in this many slices. Of a slice that took longer, only its own length counts.
_SLICES = 50
# Seconds by which timers ring late on a loop that has nothing else to do.
_TOLERANCE = 0.002


class Deadline:
    """What is left of a span of time, for one thing after the other: `async with deadline: ...`.

    A busy event loop sees a reply only in its next turn, and connecting, a handshake, sending and
    reading each take one. So the time is counted slice by slice, and what a slice took longer is the loop's.

    Args:
        seconds: the span.

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
        """Whether nothing is left, of the server's time or of all."""
        return self.left <= 0 or self._loop.time() >= self._end

    @property
    def is_missed_by_us(self) -> bool:
        """Whether it ended though the server still had time: this process is too busy."""
        return self.left > 0 and self._loop.time() >= self._end

    def shorten(self, seconds: float) -> None:
        """Leave no more than some seconds."""
        self.left = min(self.left, seconds)

    async def __aenter__(self) -> Self:
        self._limit = asyncio.timeout(None)
        await self._limit.__aenter__()
        self._schedule()
        return self

    async def __aexit__(self, *raised: object) -> None:
        """Raises TimeoutError if it ended meanwhile."""
        self._timer.cancel()
        self._count()
        await self._limit.__aexit__(*raised)  # type: ignore[arg-type]  # the three that it is given

    async def first_of(self, tasks: AbstractSet[asyncio.Task[T]]) -> set[asyncio.Task[T]]:
        """Wait for tasks until one of them is done. Returns those that are; none once it is over."""
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
        # What has ended already is still given one turn: a reply may be there.
        self._timer = self._loop.call_at(now + min(self._slice, max(0.0, self.left)), self._look)

    def _count(self) -> bool:
        """Take off what the server had since. Returns whether the loop was kept away."""
        taken = self._loop.time() - self._since
        longest = self._slice + _TOLERANCE
        self.left -= min(taken, longest)
        return taken > longest

    def _look(self) -> None:
        was_away = self._count()
        if self.is_over and not (was_away and self.left <= 0 and not self._is_last):
            self._limit.reschedule(self._loop.time())
            return
        # What arrived while the loop was away is yet to be read: one slice more.
        self._is_last = self.left <= 0
        if self._is_last:
            self._since = self._loop.time()
            self._timer = self._loop.call_later(self._slice, self._look)
        else:
            self._schedule()
