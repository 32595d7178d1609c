"""A simulated outage of the revocation store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from async_jwt.errors import StoreUnavailableError
from async_jwt.manager import app_state_of

__all__ = ["outage"]


@contextmanager
def outage(app: Any) -> Iterator[None]:
    """Simulate an outage of an application's revocation store.

    Protected requests get 503 with `Retry-After`, and revocations fail, as when Redis is unreachable.

    Args:
        app: a Quart or Flask application with a `JWTManager`.
    """
    with app_state_of(app).override(store=_Silent()):
        yield


class _Silent:
    awaits_nothing = True

    async def _nothing(self, *_: Any, **__: Any) -> Any:
        raise StoreUnavailableError("Simulated outage")

    stamp = check = revoke_token = revoke_session = revoke_user = revoke_everything = _nothing
    consume_token = expire_access_tokens = refusal_of = _nothing
    load_session = get_session = replace_session = list_sessions = start = _nothing

    async def close(self) -> None:
        """Do nothing: it holds no connections."""
