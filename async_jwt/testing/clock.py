"""A clock that stands still, and moves when a test says so."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from async_jwt.clock import system_clock
from async_jwt.keys.key import Moment, moment
from async_jwt.manager import app_state_of

__all__ = ["FrozenClock", "frozen_clock"]


class FrozenClock:
    """A clock for `JWTManager(clock=...)` that moves only when it is told to.

    Args:
        now: where it stands: seconds since the epoch, or a datetime with a time zone; None is the present.
    """

    def __init__(self, now: Moment | None = None) -> None:
        self.now: float = float(int(system_clock())) if now is None else moment("now", now)

    def __call__(self) -> float:
        """The time, in seconds since the epoch."""
        return self.now

    def tick(self, span: float | dt.timedelta) -> None:
        """Let time pass.

        Args:
            span: seconds, or a timedelta.
        """
        self.now += span.total_seconds() if isinstance(span, dt.timedelta) else span


@contextmanager
def frozen_clock(app: Any, now: Moment | None = None) -> Iterator[FrozenClock]:
    """Have an application take the time from a clock that stands still.

    Expiry, freshness, the times of keys and the memory store go by it; a Redis server has a clock of its own.

    Args:
        app: a Quart or Flask application with a `JWTManager`.
        now: where the clock stands; None is the present.

    Yields:
        The clock: `clock.tick(60)`.
    """
    clock = FrozenClock(now)
    with app_state_of(app).override(clock=clock):
        yield clock
