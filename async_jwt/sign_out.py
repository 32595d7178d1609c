"""Ends the sessions of the tokens that a request carries, whatever state they are in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from async_jwt.app_state import AppState
from async_jwt.core.authenticate import RequestState, authenticate_text
from async_jwt.core.claims import PURPOSE, end_of
from async_jwt.core.codec import Verified
from async_jwt.core.cookie_scope import check_scope
from async_jwt.core.engine import Engine
from async_jwt.core.locations import Found
from async_jwt.core.login import kept_lifetime, lifetime_of
from async_jwt.core.policy import ACCESS, REFRESH, Policy
from async_jwt.core.sessions import latest_expiry
from async_jwt.errors import (
    ExpiredTokenError,
    IssuerUnavailableError,
    JWTDecodeError,
    JWTExtendedException,
    WrongTokenError,
)
from async_jwt.operations import check_before_revoking, send_revoked
from async_jwt.stores.contract import TokenRef, latest

__all__ = ["end_sessions"]

_EITHER = Policy.of(verify_type=False)


async def end_sessions(
    app_state: AppState, request_state: RequestState, found: Sequence[Found], *, everywhere: bool
) -> bool:
    """End the sessions of some tokens: access and refresh tokens, expired or not.

    A token that cannot be verified, and one for another purpose, ends nothing.

    Args:
        app_state: the application's state.
        request_state: the request's state.
        found: the tokens.
        everywhere: True also ends all other sessions of the user of a token that passes every check.

    Returns:
        True if a session or token that was valid has ended.

    Raises:
        StoreUnavailableError: the store did not answer.
        Exception: with `everywhere`, a hook failed; the sessions of these tokens have ended all the same.
    """
    engine, ended, problem = app_state.engine(), False, None
    ends_itself = await check_before_revoking(app_state, request_state, lambda _: True)
    held = [(text, verified) for text, _ in found if (verified := await _read(engine, text)) is not None]
    for text, verified in held if everywhere else ():
        try:
            counts = await _counts(engine, text)
        except Exception as failed:  # noqa: BLE001  # its session still ends, and then this is raised
            counts, problem = False, failed
        if counts:
            await engine.store.revoke_user(verified.ref.identity)
            # At once: if the next token meets an outage, what this request read before is stale all the same.
            request_state.mark_revoked(ends_itself=ends_itself)
            await send_revoked(app_state, "user", verified.ref.identity)
            ended = True
    for _, verified in held:
        if await _end(app_state, engine, verified):
            request_state.mark_revoked(ends_itself=ends_itself)
            ended = True
    if problem is not None:
        raise problem
    return ended


async def _read(engine: Engine, text: str) -> Verified | None:
    """A token, if we signed it as an access or refresh token, expired or not."""
    try:
        verified = await engine.verify(text)
        with suppress(ExpiredTokenError):
            engine.codec.check_times(verified, engine.clock())
        check_scope(verified.claims, engine.scope)
    except (JWTDecodeError, WrongTokenError, IssuerUnavailableError):
        return None
    return verified if _is_of_session(engine, verified.claims) else None


def _of_session(ref: TokenRef) -> TokenRef:
    """A token as its session sees it: that it was revoked alone, or is stale, does not matter."""
    return ref if ref.sid is None else ref._replace(jti=None, type="")


def _is_of_session(engine: Engine, claims: Mapping[str, Any]) -> bool:
    is_any = engine.settings.is_compat and claims.get(PURPOSE) is not True
    return is_any or claims["type"] in (ACCESS, REFRESH)


async def _counts(engine: Engine, text: str) -> bool:
    """True if a token passes every check of a view."""
    try:
        await authenticate_text(engine, text, _EITHER)
    except JWTExtendedException as refusal:
        if refusal.status >= 500:
            raise
        return False
    return True


async def _end(app_state: AppState, engine: Engine, verified: Verified) -> bool:
    """End a token's session, or the token itself if it has none. False if neither can be used any more."""
    ref, now = verified.ref, engine.clock()
    if await engine.store.check(_of_session(ref)) is not True:
        return False
    sid = ref.sid
    is_expired = ref.expires_at is not None and ref.expires_at <= now
    if sid is None:
        if is_expired or ref.jti is None:
            return False
        await engine.store.revoke_token(ref)
        await send_revoked(app_state, "token", ref.identity, ref.jti)
        return True
    session = None if engine.sessions is None else await engine.sessions.get_session(sid)
    if session is not None:
        until = session.ends_at
    else:
        # Not recorded: it has ended, or its refresh token was never rotated and has the login's lifetime.
        since = ref.issued_at + engine.settings.clock_skew if is_expired else now
        until = latest((_latest_expiry(engine, verified.claims, since), ref.expires_at))
    if until is not None and until <= now:
        return False
    await engine.store.revoke_session(sid, until)
    await send_revoked(app_state, "session", ref.identity, sid=sid)
    return True


def _latest_expiry(engine: Engine, claims: Mapping[str, Any], since: float) -> float | None:
    """When the tokens of a login expire that are made by now, leeway included; None for never."""
    settings = engine.settings
    ends = [latest_expiry(settings, since)]
    for chosen in (kept_lifetime(claims, ACCESS), kept_lifetime(claims, REFRESH)):
        if chosen is not None:
            life = lifetime_of(chosen, settings)
            ends.append(None if life is None else end_of(since, life) + settings.expiry_leeway)
    return latest(ends)
