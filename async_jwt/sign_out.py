"""Ends the sessions of the tokens that a request carries, whatever state they are in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from async_jwt.app_state import AppState
from async_jwt.core.authenticate import RequestState, authenticate_text
from async_jwt.core.claims import PURPOSE
from async_jwt.core.engine import Engine
from async_jwt.core.locations import Found
from async_jwt.core.policy import ACCESS, REFRESH, Policy
from async_jwt.core.sessions import latest_expiry
from async_jwt.errors import JWTDecodeError, JWTExtendedException
from async_jwt.operations import check_before_revoking, ref_of, send_revoked
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
        HookError: a hook returned something that it may not.
    """
    engine, ended = app_state.engine(), False
    ends_itself = await check_before_revoking(engine, request_state, lambda _: True)
    for text, _ in found:
        ref = await _read(engine, text)
        if ref is None or await engine.store.check(_of_session(ref)) is not True:
            continue
        if everywhere and await _counts(engine, text):
            await engine.store.revoke_user(ref.identity)
            await send_revoked(app_state, "user", ref.identity)
            ended = True
        else:
            ended = await _end(app_state, engine, ref) or ended
    if ended:
        request_state.mark_revoked(ends_itself=ends_itself)
    return ended


async def _read(engine: Engine, text: str) -> TokenRef | None:
    """A token as stores know it, if we signed it as an access or refresh token."""
    try:
        _, claims = await engine.decode(text, allow_expired=True)
    except JWTDecodeError:
        return None
    return ref_of(engine, claims) if _is_of_session(engine, claims) else None


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


async def _end(app_state: AppState, engine: Engine, ref: TokenRef) -> bool:
    """End a token's session, or the token itself if it has none. False if neither can be used any more."""
    now, sid = engine.clock(), ref.sid
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
    elif engine.sessions is None:
        until = None  # such a store does not know how long the session's tokens live
    else:
        # Not recorded: it has ended, or its refresh token was never rotated and has its usual lifetime.
        since = ref.issued_at + engine.settings.clock_skew if is_expired else now
        until = latest((latest_expiry(engine.settings, since), ref.expires_at))
    if until is not None and until <= now:
        return False
    await engine.store.revoke_session(sid, until)
    await send_revoked(app_state, "session", ref.identity, sid=sid)
    return True
