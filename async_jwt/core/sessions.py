"""Decides the outcome of a presented refresh token, and how long sessions last. Pure.

A session has one refresh token at a time. Presenting it to `rotate_refresh_token` replaces it
with a successor (RFC 9700 §2.2.2). For a while, the grace, the replaced token leads to the same
successor: a client that never got the response, or sent its request twice, is not a thief. A client that
presents it later, or presents an older one, holds a copy (§4.14.2).

A thief can also follow: present each copied token within its grace, after the owner did. Tabs repeat at
once, and a response is lost now and then; so tokens that come late at several steps in a row are a replay.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from async_jwt.core.claims import end_of
from async_jwt.core.settings import Settings
from async_jwt.errors import RevokedTokenError, TokenReusedError
from async_jwt.stores.contract import Session, SessionSnapshot, TokenRef, adopted_sid, latest

__all__ = [
    "ACTOR",
    "DEVICE_LENGTH",
    "RefreshOutcome",
    "SessionInfo",
    "SessionPage",
    "decide",
    "device_label",
    "extras_of",
    "latest_expiry",
    "outcome_of",
    "read_extras",
    "repeated",
    "session_info",
    "streak_before",
    "time_limit",
    "was_overtaken",
]

ACTOR = "act"
"""The claim that names who acts in the user's name (RFC 8693 §4.1)."""

DEVICE_LENGTH = 200
"""The maximum length of a stored device label, in characters."""

# Beyond this, adding a minute may exceed the last possible date.
_LATEST = dt.datetime(9999, 12, 31, tzinfo=dt.UTC).timestamp()

# The claims that each token has of its own, whatever its session carries.
_OWN = frozenset({"csrf", "exp", "fresh", "gen", "iat", "jti", "nbf", "sid", "type"})


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One signed-in device, as `list_sessions` shows it. Nothing in it can be used as a token.

    Attributes:
        sid: the session's id, which `revoke_session` takes.
        device: the device's label, as passed to `create_token_pair`.
        created_at: when the user signed in on it; in UTC.
        last_used_at: when it was last refreshed, in whole minutes; `created_at` before the first refresh.
        expires_at: when it ends unless it is refreshed, in whole minutes; None for never.
        current: whether it is the session of the current request.
        actor: who acts in the user's name: the `act` claim given to `create_token_pair` (RFC 8693 §4.1);
            None for the user's own session.
    """

    sid: str
    device: str | None
    created_at: dt.datetime
    last_used_at: dt.datetime
    expires_at: dt.datetime | None
    current: bool
    actor: Any = None


@dataclass(frozen=True, slots=True)
class SessionPage:
    """A page of sessions, the most recently used first.

    Attributes:
        sessions: the sessions.
        cursor: what to pass to `list_sessions` for the next page; None on the last page.
    """

    sessions: tuple[SessionInfo, ...]
    cursor: str | None


class RefreshOutcome(Enum):
    """The refresh outcome of a valid refresh token."""

    ADVANCE = "advance"
    """It is the current one, or the first of a new session: a successor replaces it."""
    REISSUE = "reissue"
    """It was replaced, and is within its grace: it leads to the successor that it has."""
    UNKNOWN = "unknown"
    """The store does not know its session."""
    PREDECESSOR = "predecessor"
    """It is the one replaced last, and its grace is over: a replay."""
    OLDER = "older"
    """It was replaced before that: a replay."""


def outcome_of(seen: SessionSnapshot, jti: str | None, *, is_adopted: bool) -> RefreshOutcome:
    """The outcome of a refresh token, given the state of its session.

    Args:
        seen: the token and its session at one moment; the token is valid.
        jti: the token's id.
        is_adopted: whether it names no session itself, and so may be the first of one.
    """
    session = seen.session
    if jti is None:
        return RefreshOutcome.UNKNOWN
    if session is None:
        return RefreshOutcome.ADVANCE if is_adopted else RefreshOutcome.UNKNOWN
    if session.refresh_jti == jti:
        return RefreshOutcome.ADVANCE
    if session.previous_jti != jti:
        return RefreshOutcome.OLDER
    return RefreshOutcome.PREDECESSOR if seen.successor is None else RefreshOutcome.REISSUE


def decide(
    seen: SessionSnapshot, ref: TokenRef, header: Mapping[str, Any], claims: Mapping[str, Any]
) -> RefreshOutcome:
    """The outcome of a refresh token, unless it must be refused.

    Args:
        seen: the token and its session at one moment.
        ref: the token.
        header: its header.
        claims: its claims.

    Raises:
        RevokedTokenError: it is not valid.
        TokenReusedError: it was replaced. The caller must revoke its session, unless the kind is
            "revoked_session".
    """
    if seen.valid is not True:  # an application's own store might return anything
        if seen.was_replaced:
            raise TokenReusedError(header, claims, "revoked_session", ref.sid)
        raise RevokedTokenError(header, claims)
    is_adopted = ref.jti is not None and ref.sid == adopted_sid(ref.identity, ref.jti)
    outcome = outcome_of(seen, ref.jti, is_adopted=is_adopted)
    if outcome in (RefreshOutcome.PREDECESSOR, RefreshOutcome.OLDER):
        raise TokenReusedError(header, claims, outcome.value, ref.sid)
    return outcome


def was_overtaken(seen: SessionSnapshot, waited: float, settings: Settings) -> bool:
    """True if a replaced refresh token arrived before its successor was made, or just after.

    Args:
        seen: the token and its session at one moment.
        waited: how long its request has been in progress, in seconds.
        settings: the settings.
    """
    return seen.age - waited <= settings.refresh_late_after


def repeated(session: Session) -> Session:
    """A session after the first late repeat of its last step."""
    return replace(session, late_streak=session.late_streak + 1, repeated_late=True)


def streak_before(session: Session) -> int:
    """The number of late repeats that a session's next step counts on from: 0 after a step without one."""
    return session.late_streak if session.repeated_late else 0


def time_limit(session: Session, settings: Settings) -> float | None:
    """When a session ends at the latest, in seconds since the epoch; None for never."""
    age = settings.session_max_age
    return None if age is None else session.created_at + age


def latest_expiry(settings: Settings, now: float) -> float | None:
    """When tokens made now with the usual lifetimes expire, leeway included; None for never."""
    lifetimes = settings.access_expires, settings.refresh_expires
    return latest(
        [None if each is None else end_of(now, each) + settings.expiry_leeway for each in lifetimes]
    )


def extras_of(
    claims: Mapping[str, Any],
    headers: Mapping[str, Any],
    settings: Settings,
    json_default: Callable[[Any], Any],
) -> str:
    """The application's claims and headers that a session carries from token to token, as JSON.

    Args:
        claims: the application's claims.
        headers: the application's header parameters.
        settings: the settings.
        json_default: converts values that JSON does not support, as the framework's JSON does.

    Raises:
        TypeError: a value cannot be written as JSON.
    """
    own = _OWN | {settings.identity_claim}
    kept = {name: value for name, value in claims.items() if name not in own}
    return json.dumps([kept, dict(headers)], default=json_default) if kept or headers else ""


def read_extras(extras: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The claims and header parameters that a session carries."""
    if not extras:
        return {}, {}
    claims, headers = json.loads(extras)
    return claims, headers


def device_label(device: str | None) -> str | None:
    """A device label as stored: no longer than `DEVICE_LENGTH`, and valid UTF-8."""
    if device is None:
        return None
    # Applications pass on what clients send: a number is a strange label, but no reason to fail.
    return str(device)[:DEVICE_LENGTH].encode("utf-8", "replace").decode("utf-8")


def session_info(session: Session, current: str | None) -> SessionInfo:
    """A session as an application sees it.

    Times that reveal the last refresh are shown in whole minutes: a thief with a copy of a refresh token
    must not learn from them when to follow.

    Args:
        session: the session.
        current: the session id of the current request.
    """
    expires = session.expires_at
    return SessionInfo(
        session.sid,
        session.device,
        _moment(session.created_at),
        _moment(max(session.created_at, _minute(session.last_used_at))),
        None if expires is None or expires > _LATEST else _moment(-_minute(-expires)),
        session.sid == current,
        read_extras(session.extras)[0].get(ACTOR),
    )


def _minute(seconds: float) -> float:
    return seconds // 60 * 60


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
