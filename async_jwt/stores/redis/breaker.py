"""A circuit breaker: while a server does not answer, calls fail at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores.redis.errors import OutageError, RefusedError
from async_jwt.stores.redis.timer import IdleTimer

__all__ = ["Breaker"]

FIRST_PROBE = 0.05
"""Seconds from opening to the first probe."""

LONGEST_PAUSE = 0.5
"""Maximum seconds between the starts of two probes; bounds how late a recovery is seen."""

_PROBES_AT_ONCE = 4

# Seconds a server must stay up after a recovery before the probe pause is reset.
_STEADY = 5.0


class Breaker:
    """Opens at the first failure; its own probes close it, not requests.

    Args:
        probe: checks the server. It bounds its own time and raises StoreUnavailableError.
        on_change: called on each state change: with the reason when it opens, None when it closes.
    """

    def __init__(self, probe: Callable[[], Awaitable[None]], on_change: Callable[[str | None], None]) -> None:
        self._probe = probe
        self._on_change = on_change
        self._why: str | None = None
        self._pause = FIRST_PROBE
        self._closed_at = float("-inf")
        self._due = float("-inf")
        # A probe may hang until its deadline while the server comes back, so probes may overlap.
        self._timer = IdleTimer(self._run_probe, on_fire=self._schedule, at_once=_PROBES_AT_ONCE)

    @property
    def is_open(self) -> bool:
        """True while the server must not be called."""
        return self._why is not None

    def refuse_if_open(self) -> None:
        """Raise OutageError while the breaker is open."""
        if self._why is None:
            return
        if asyncio.get_running_loop().time() < self._due + LONGEST_PAUSE:
            raise OutageError(self._why)
        self.stop()  # the due probe never ran because the loop stood still: this call is the probe

    def trip(self, why: str, since: float) -> None:
        """Open the breaker.

        Args:
            why: what failed.
            since: loop time at which the failed call began. A call that began before the server
                came back says nothing about its state now.
        """
        if self._why is None and since >= self._closed_at:
            loop = asyncio.get_running_loop()
            if loop.time() - self._closed_at > _STEADY:  # otherwise it is flapping: probe less often
                self._pause = FIRST_PROBE
            self._why = why
            self._on_change(why)
            self._schedule()

    def stop(self) -> set[asyncio.Task[Any]]:
        """Close without calling `on_change`; the next call decides. Returns the probes to cancel."""
        self._why = None
        return self._timer.stop()

    def _schedule(self) -> None:
        self._due = asyncio.get_running_loop().time() + self._pause
        self._timer.start(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    async def _run_probe(self) -> None:
        try:
            await self._probe()
        except RefusedError:
            pass  # the server answers, so a refusal is not an outage
        except StoreUnavailableError:
            return
        for probe in self.stop() - {asyncio.current_task()}:
            probe.cancel()
        self._closed_at = asyncio.get_running_loop().time()
        self._on_change(None)
