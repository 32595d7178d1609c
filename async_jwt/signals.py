"""Signals that applications can subscribe to (blinker).

The sender is the application. A receiver may be async or plain; if it raises, the error is logged
and the request is not affected. No signal carries a token, a key or a CSRF value.

| signal                | sent                                 | arguments                          |
|-----------------------|--------------------------------------|------------------------------------|
| `token_issued`        | after a token was made               | identity, type, jti, sid           |
| `token_refused`       | when a request was refused           | code, detail, identity, jti        |
| `token_revoked`       | after a revocation was stored        | scope, identity, jti, sid          |
| `token_reused`        | at reuse of a replaced refresh token | kind, identity, jti, sid           |
| `token_repeated`      | when one is late within its grace,   | in_a_row, identity, jti, sid       |
|                       | at two steps in a row or more        |                                    |
| `user_loaded`         | each time a check loaded a user      | user, identity                     |
| `store_state_changed` | when a Redis store's state changed   | state, detail                      |

In a named realm those of tokens and users have an argument more, `realm`: its name.

The `kind` of `token_reused` is `TokenReusedError.kind`.

The sender of `store_state_changed` is the store, and `state` is one of `available`, `unavailable`,
`revoking`, `not_revoking`, `misconfigured`, `configured` and `data_lost`.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from blinker import Namespace, Signal

__all__ = [
    "store_state_changed",
    "token_issued",
    "token_refused",
    "token_repeated",
    "token_reused",
    "token_revoked",
    "user_loaded",
]

_signals: Final = Namespace()

token_issued: Final = _signals.signal("token-issued")
token_refused: Final = _signals.signal("token-refused")
token_reused: Final = _signals.signal("token-reused")
token_repeated: Final = _signals.signal("token-repeated")
token_revoked: Final = _signals.signal("token-revoked")
user_loaded: Final = _signals.signal("user-loaded")
store_state_changed: Final = _signals.signal("store-state-changed")

log: logging.Logger = logging.getLogger("async_jwt.signals")


async def _resolve(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def send(
    signal: Signal, sender: Any, resolve: Callable[[Any], Awaitable[Any]] = _resolve, /, **arguments: Any
) -> None:
    """Call a signal's receivers, one after the other. One that raises is logged.

    Args:
        signal: the signal.
        sender: the application, or the store.
        resolve: awaits what an async receiver returns.
        arguments: the signal's arguments.
    """
    for receiver in signal.receivers_for(sender):
        try:
            await resolve(receiver(sender, **arguments))
        except Exception:
            log.exception("A receiver of %s failed", signal, extra={"event": "receiver_failed"})
