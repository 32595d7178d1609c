"""What a login decides for all tokens of its session: their lifetimes, and how long cookies are kept.

The tokens carry it, because the functions that set cookies see nothing but a token. What follows the
settings is left out, so that a changed setting still applies to sessions that began before.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

from async_jwt.core.claims import end_of
from async_jwt.core.parsers import Expires, Lifetime, lifetime
from async_jwt.core.policy import ACCESS, REFRESH
from async_jwt.core.settings import Settings

__all__ = ["LOGIN", "is_persistent", "kept_lifetime", "lifetime_of", "login_terms"]

LOGIN: Final = "async_jwt_login"
"""Our own claim: an object with `access` and `refresh` in seconds (False for never) and `persistent`."""


# Seconds; about three hundred years. No date is beyond it.
_LONGEST = 10**10


def lifetime_of(given: Expires, settings: Settings) -> Lifetime | None:
    """A lifetime as an application passes it; None for a token that never expires.

    Raises:
        ValueError: it is not a lifetime.
    """
    if settings.is_compat and not given:
        return None
    try:
        return lifetime(given)
    except ValueError as problem:
        raise ValueError(f"expires_delta {problem}") from None


def login_terms(
    settings: Settings, now: float, *, access: Expires, refresh: Expires, persistent: bool | None
) -> dict[str, Any]:
    """The value of the `LOGIN` claim; empty if the login follows the settings.

    Args:
        settings: the settings.
        now: seconds since the epoch.
        access: the lifetime of the session's access tokens; None follows the settings.
        refresh: the lifetime of its refresh tokens, likewise.
        persistent: whether cookies outlive the browser session; None follows the settings.

    Raises:
        ValueError: a lifetime is none, or `persistent` is not a bool.
    """
    if persistent is not None and not isinstance(persistent, bool):
        raise ValueError("persistent must be True, False or None")  # as other arguments
    terms: dict[str, Any] = {}
    usual = {ACCESS: settings.access_expires, REFRESH: settings.refresh_expires}
    for kind, given in ((ACCESS, access), (REFRESH, refresh)):
        if given is not None:
            seconds = _seconds(lifetime_of(given, settings), now)
            if seconds != _seconds(usual[kind], now):
                terms[kind] = seconds
    if persistent is settings.session_cookie:
        terms["persistent"] = persistent
    return terms


def kept_lifetime(claims: Mapping[str, Any], kind: str) -> Expires:
    """The lifetime that a session's login chose for one type of token; None if it follows the settings."""
    value = _terms(claims).get(kind)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _LONGEST
    return value if is_number or value is False else None


def is_persistent(claims: Mapping[str, Any], settings: Settings) -> bool:
    """True if the cookies of a token outlive the browser session."""
    value = _terms(claims).get("persistent")
    return value if isinstance(value, bool) else not settings.session_cookie


def _terms(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    held = claims.get(LOGIN)
    return held if isinstance(held, Mapping) else {}


def _seconds(life: Lifetime | None, now: float) -> float | bool:
    if life is None:
        return False
    return life.total_seconds() if isinstance(life, dt.timedelta) else end_of(now, life) - int(now)
