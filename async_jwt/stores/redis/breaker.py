"""A circuit breaker: while a server does not answer, nobody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores.redis.errors import OutageError, RefusedError
from async_jwt.stores.redis.timer import IdleTimer

__all__ = ["Breaker"]

FIRST_PROBE = 0.05
"""Seconds until an open breaker first asks whether the server is back."""

LONGEST_PAUSE = 0.5
"""Seconds between the starts of two probes at most: what bounds the way back."""

_PROBES_AT_ONCE = 4

# Seconds after which a server that came back counts as being back.
_STEADY = 5.0


class Breaker:
    """Opens at the first failure; probes of its own, and no request, close it again.

    Args:
        probe: asks the server. It bounds its own time and raises StoreUnavailableError.
        on_change: told whenever the state changes: why it opened; None once it is closed.
    """

    def __init__(self, probe: Callable[[], Awaitable[None]], on_change: Callable[[str | None], None]) -> None:
        self._probe = probe
        self._on_change = on_change
        self._why: str | None = None
        self._pause = FIRST_PROBE
        self._closed_at = float("-inf")
        self._due = float("-inf")
        # A probe may hang as long as the deadline, and the server come back meanwhile.
        self._timer = IdleTimer(self._run_probe, on_fire=self._schedule, at_once=_PROBES_AT_ONCE)

    @property
    def is_open(self) -> bool:
        """Whether nobody is to ask the server."""
        return self._why is not None

    def refuse_if_open(self) -> None:
        """Raise OutageError while it is open."""
        if self._why is None:
            return
        if asyncio.get_running_loop().time() < self._due + LONGEST_PAUSE:
            raise OutageError(self._why)
        self.stop()  # no probe was made when it was due, as the loop did not run: whoever asks is the probe

    def trip(self, why: str, since: float) -> None:
        """Open it.

        Args:
            why: what failed.
            since: when it began, by the loop's clock: what began before the server came back
                says nothing about how it is now.
        """
        if self._why is None and since >= self._closed_at:
            loop = asyncio.get_running_loop()
            if loop.time() - self._closed_at > _STEADY:  # else it flutters, and is asked less often
                self._pause = FIRST_PROBE
            self._why = why
            self._on_change(why)
            self._schedule()

    def stop(self) -> set[asyncio.Task[Any]]:
        """Close it without a word; the next call decides anew. Returns probes that are to be cancelled."""
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
