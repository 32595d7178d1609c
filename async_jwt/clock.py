"""The one clock: seconds since the epoch, as RFC 7519's NumericDate counts them.

Everything that compares times is handed a `Clock`; nothing else may ask for the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Clock", "system_clock"]

Clock = Callable[[], float]
"""Returns the seconds since 1970-01-01 UTC."""


def system_clock() -> float:
    """The system's time. Looked up at each call, so that what replaces `time.time` in tests counts."""
    return time.time()
