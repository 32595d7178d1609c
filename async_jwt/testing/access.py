"""The promises of a store that ends access tokens only."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any, Final

from async_jwt.stores.contract import (
    AccessExpiryStore,
    RefusalStore,
    Session,
    SessionStore,
    TokenRef,
    new_sid,
)
from async_jwt.testing.contract import (
    HOUR,
    Promise,
    any_name,
    expect,
    expect_alive,
    expect_dead,
    expect_no_survivor,
    new_token,
    promised_by,
)

__all__ = ["access_contract"]


@promised_by(AccessExpiryStore)
async def access_tokens_end_and_nothing_else_does(store: Any) -> None:
    """Refresh tokens, purpose tokens, other users' tokens and all later tokens stay valid, at any moment."""
    name = any_name()
    ended: list[TokenRef] = []
    spared = [await new_token(store)]
    for _ in range(3):
        ended += [await _access(store, name), await _access(store, name, sid="own")]
        spared += [
            (await new_token(store, name, "own"))._replace(type=kind) for kind in ("", "refresh", "reset")
        ]
        await store.expire_access_tokens(name)
        await expect_alive(store, await _access(store, name), "an access token made right afterwards")
        for token in ended:
            await expect_dead(store, token, "an access token made before")
        for token in spared:
            await expect_alive(store, token, f"a token that is no access token: {token.type!r}")


@promised_by(AccessExpiryStore)
async def ending_access_tokens_revives_nothing(store: Any) -> None:
    """What was revoked before, in whatever way, stays revoked; a later sign-out ends all."""
    for kind in ("token", "session", "user", "everything"):
        tokens = [(await new_token(store, sid="own"))._replace(type=each) for each in ("access", "refresh")]
        for token in tokens:
            await _revoke(store, token, kind)
            await store.expire_access_tokens(token.identity)
            await expect_dead(store, token, f"a token whose {kind} was revoked before")
    name = any_name()
    await store.expire_access_tokens(name)
    later = await new_token(store, name)
    await store.revoke_user(name)
    for dead in (later, later._replace(type="access"), later._replace(type="refresh")):
        await expect_dead(store, dead, "a token from before a sign-out")
    await expect_alive(store, await _access(store, name), "an access token made after both")


@promised_by(AccessExpiryStore)
async def no_keep_exempts_access_tokens(store: Any) -> None:
    """`revoke_user(keep=...)` exempts no access token, in either order; its session's other tokens go on."""
    for sid in ("own", None):
        name = any_name()
        refresh = (await new_token(store, name, sid))._replace(type="refresh")
        access, keep = await _access(store, name), refresh
        if sid is not None:
            access = access._replace(sid=refresh.sid)
        await store.revoke_user(name, keep=keep)
        if sid is not None:
            await expect_alive(store, access, "an access token of the kept session")
        await store.expire_access_tokens(name)
        await expect_dead(store, access, "an access token of the kept session")
        await expect_alive(store, refresh, "the kept refresh token")
        await store.revoke_user(name, keep=keep)
        await expect_dead(store, access, "an access token of the session that was kept afterwards")
        await expect_alive(store, refresh, "the refresh token that was kept again")
        if sid is not None:
            again = (await _access(store, name))._replace(sid=refresh.sid)
            await expect_alive(store, again, "a new access token of the kept session")
    stale = await _access(store, sid="own")
    await store.expire_access_tokens(stale.identity)
    await store.revoke_user(stale.identity, keep=stale)
    for dead in (stale, stale._replace(type="refresh", jti=any_name())):
        await expect_dead(store, dead, "what a stale access token was to keep")


@promised_by(AccessExpiryStore)
async def access_tokens_without_a_stamp_go_by_their_time(store: Any) -> None:
    """Another issuer's access token ends if it was issued before, and no other token of it does."""
    now, name = time.time(), any_name()
    old = TokenRef(name, any_name(), None, None, now - HOUR, now + HOUR, type="access")
    others = [old._replace(issued_at=now + HOUR), old._replace(type="refresh"), old._replace(type="reset")]
    await store.expire_access_tokens(name)
    await expect_dead(store, old, "an access token without a stamp, issued before")
    for other in others:
        await expect_alive(
            store, other, "a token without a stamp that is no access token, or was issued later"
        )


@promised_by(AccessExpiryStore)
async def none_of_several_at_once_is_lost(store: Any) -> None:
    """Ending access tokens, while others sign the same user out or keep a session, loses neither."""
    for _ in range(5):
        name = any_name()
        refresh = (await new_token(store, name, "own"))._replace(type="refresh")
        access = (await _access(store, name))._replace(sid=refresh.sid)
        other = (await new_token(store, name, "own"))._replace(type="refresh")
        calls = [store.expire_access_tokens(name) for _ in range(4)]
        await asyncio.gather(*calls, store.revoke_user(name, keep=refresh))
        await expect_dead(store, access, "an access token of the kept session")
        await expect_alive(store, refresh, "the kept refresh token")
        await expect_dead(store, other, "a refresh token that was not kept")


@promised_by(AccessExpiryStore)
async def access_tokens_end_at_one_moment(store: Any) -> None:
    """An access token issued while an older one was still valid ends with it."""
    for _ in range(5):
        old = await _access(store, sid="own")
        await expect_no_survivor(store, old, store.expire_access_tokens(old.identity))


@promised_by(AccessExpiryStore, RefusalStore)
async def a_stale_token_is_told_from_a_revoked_one(store: Any) -> None:
    """`refusal_of` returns "stale" if only access tokens ended, and "revoked" if more did."""
    stale, revoked = await _access(store, sid="own"), await _access(store, sid="own")
    await store.revoke_token(revoked)
    for token in (stale, revoked):
        await store.expire_access_tokens(token.identity)
    expect(await store.refusal_of(stale) == "stale", 'the reason is "stale"')
    expect(await store.refusal_of(revoked) == "revoked", 'the reason is "revoked"')
    await store.revoke_user(stale.identity)
    expect(await store.refusal_of(stale) == "revoked", 'the reason is "revoked" after a sign-out')
    await store.expire_access_tokens(stale.identity)
    expect(await store.refusal_of(stale) == "revoked", "a signed-out token does not become stale")


@promised_by(AccessExpiryStore, SessionStore)
async def sessions_go_on_without_their_access_tokens(store: Any) -> None:
    """A session is found, listed and replaced as before, kept or not; its new access token is valid."""
    for keeps in (False, True):
        name, now = any_name(), time.time()
        sid = new_sid(name)
        session = Session(
            *(sid, name, None, now, now, now + HOUR, now + HOUR, await store.stamp(name), any_name())
        )
        refresh = TokenRef(name, session.refresh_jti, sid, session.stamp, now, now + HOUR, type="refresh")
        seen = await store.load_session(refresh._replace(jti=None, gen=None, issued_at=0.0))
        expect(await store.replace_session(session, seen) == (), "a new session is stored")
        if keeps:
            await store.revoke_user(name, keep=refresh)
        before = await store.load_session(refresh)
        await store.expire_access_tokens(name)
        page, _ = await store.list_sessions(name, 10, None)
        expect(list(page) == [session] == [await store.get_session(sid)], "the session is found and listed")
        step = replace(session, refresh_jti=any_name(), previous_jti=session.refresh_jti, stamp=before.stamp)
        early = refresh._replace(jti=any_name(), gen=before.stamp, type="access")
        put = await store.replace_session(step, before)
        expect(put is None or not await store.check(early), "no access token with an earlier stamp is valid")
        now_held = refresh if put is None else refresh._replace(jti=step.refresh_jti)
        seen = await store.load_session(now_held)
        expect(seen.valid is True and seen.session is not None, "its refresh token is valid")
        step = replace(step, refresh_jti=any_name(), previous_jti=now_held.jti, stamp=seen.stamp)
        expect(await store.replace_session(step, seen) == (), "its refresh token is replaced")
        stamp = (await store.load_session(refresh._replace(jti=step.refresh_jti))).stamp
        await expect_alive(store, early._replace(gen=stamp), "a new access token of the session")


access_contract: Final[tuple[Promise, ...]] = (
    access_tokens_end_and_nothing_else_does,
    ending_access_tokens_revives_nothing,
    no_keep_exempts_access_tokens,
    access_tokens_without_a_stamp_go_by_their_time,
    none_of_several_at_once_is_lost,
    access_tokens_end_at_one_moment,
    a_stale_token_is_told_from_a_revoked_one,
    sessions_go_on_without_their_access_tokens,
)


async def _access(store: Any, identity: str | None = None, sid: str | None = None) -> TokenRef:
    return (await new_token(store, identity, sid))._replace(type="access")


async def _revoke(store: Any, token: TokenRef, kind: str) -> None:
    if kind == "token":
        await store.revoke_token(token)
    elif kind == "session":
        await store.revoke_session(str(token.sid), None)
    elif kind == "user":
        await store.revoke_user(token.identity)
    else:
        await store.revoke_everything()
