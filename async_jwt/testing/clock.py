"""A frozen clock that tests move forward."""

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
    """A clock for `JWTManager(clock=...)` that moves only when told to.

    Args:
        now: the initial time: seconds since the epoch, or a datetime with a time zone; None is the present.
    """

    def __init__(self, now: Moment | None = None) -> None:
        self.now: float = float(int(system_clock())) if now is None else moment("now", now)

    def __call__(self) -> float:
        """Return the time in seconds since the epoch."""
        return self.now

    def tick(self, span: float | dt.timedelta) -> None:
        """Move the clock forward.

        Args:
            span: seconds, or a timedelta.
        """
        self.now += span.total_seconds() if isinstance(span, dt.timedelta) else span


@contextmanager
def frozen_clock(app: Any, now: Moment | None = None) -> Iterator[FrozenClock]:
    """Give an application a frozen clock.

    Expiry, freshness, key lifetimes and the memory store use it; a Redis server uses its own clock.

    Args:
        app: a Quart or Flask application with a `JWTManager`.
        now: the initial time; None is the present.

    Yields:
        The clock: `clock.tick(60)`.
    """
    clock = FrozenClock(now)
    with app_state_of(app).override(clock=clock):
        yield clock
