"""What applications may listen to (blinker signals).

The sender is the application. A receiver may be async or plain; one that raises is logged
and changes nothing about the request. No signal carries a token, a key or a CSRF value.

| signal                | sent                                 | arguments                          |
|-----------------------|--------------------------------------|------------------------------------|
| `token_issued`        | after a token was made               | identity, type, jti, sid           |
| `token_refused`       | when a request was refused           | code, detail, identity, jti        |
| `token_revoked`       | after a revocation was stored        | scope, identity, jti, sid          |
| `user_loaded`         | after a user was loaded for a request| user, identity                     |
"""

from __future__ import annotations

import inspect
import logging
from typing import Any, Final

from blinker import Namespace, Signal

__all__ = [
    "send",
    "token_issued",
    "token_refused",
    "token_revoked",
    "user_loaded",
]

log: logging.Logger = logging.getLogger("async_jwt.signals")

_signals: Final = Namespace()

token_issued: Final = _signals.signal("token-issued")
token_refused: Final = _signals.signal("token-refused")
token_revoked: Final = _signals.signal("token-revoked")
user_loaded: Final = _signals.signal("user-loaded")


async def send(signal: Signal, sender: Any, **arguments: Any) -> None:
    """Tell a signal's receivers, one after the other."""
    if not signal.receivers:
        return
    for receiver in signal.receivers_for(sender):
        try:
            answer = receiver(sender, **arguments)
            if inspect.isawaitable(answer):
                await answer
        except Exception:
            log.exception("A receiver of %s failed", signal)
