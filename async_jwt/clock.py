"""The clock: seconds since the epoch, as in RFC 7519's NumericDate.

All code that compares times receives a `Clock`; no other code may read the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Clock", "system_clock"]

Clock = Callable[[], float]
"""Returns the seconds since 1970-01-01 UTC."""


def system_clock() -> float:
    """The system's time. Looks up `time.time` at each call, so that tests can replace it."""
    return time.time()
