"""Telling those who listen to our signals."""

from __future__ import annotations

import logging
from typing import Any

from blinker import Signal

from async_jwt.core.run import settled

__all__ = ["notify"]

log: logging.Logger = logging.getLogger("async_jwt.signals")


async def notify(signal: Signal, sender: Any, **arguments: Any) -> None:
    """Call a signal's receivers, one after the other. One that raises is logged."""
    if not signal.receivers:
        return
    for receiver in signal.receivers_for(sender):
        try:
            await settled(receiver(sender, **arguments))
        except Exception:
            log.exception("A receiver of %s failed", signal, extra={"event": "receiver_failed"})
