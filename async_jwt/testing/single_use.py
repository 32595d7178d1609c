"""The promises of a store that uses tokens once."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from async_jwt.stores.contract import MOST_PURPOSES, RefusalStore, SingleUseStore, TokenRef, new_sid
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

__all__ = ["single_use_contract"]


@promised_by(SingleUseStore)
async def a_token_is_used_once(store: Any) -> None:
    """Of all calls with one token at once, one returns True; the token is invalid, and no other is."""
    for _ in range(5):
        token = await _ticket(store)
        other = await _ticket(store, token.identity)
        results = await asyncio.gather(*(store.consume_token(token) for _ in range(20)))
        expect(all(result is True or result is False for result in results), "consume_token() returns a bool")
        expect(sum(results) == 1, "exactly one call uses a token")
        await expect_dead(store, token, "a used token")
        expect(await store.consume_token(token) is False, "a used token cannot be used again")
        await expect_alive(store, other, "another token of the user and the purpose")
        await expect_alive(store, await new_token(store, token.identity), "a later token of the user")


@promised_by(SingleUseStore)
async def a_used_token_stays_used(store: Any) -> None:
    """Neither revoking it again, nor keeping it, nor an earlier expiry revives it."""
    for others in (False, True):
        token = await _ticket(store)
        expect(await store.consume_token(token, others=others) is True, "a valid token is used")
        await store.revoke_token(token._replace(expires_at=time.time() - HOUR))
        await store.revoke_user(token.identity, keep=token)
        await expect_dead(store, token, "a used token that was passed as keep")
        await expect_dead(store, token._replace(type=""), "a used token, whatever its type")
        expect(await store.consume_token(token) is False, "a used token cannot be used again")


@promised_by(SingleUseStore)
async def a_revoked_token_is_not_used(store: Any) -> None:
    """`consume_token` returns False for a token that was revoked in any way, and revives nothing."""
    for kind in ("token", "session", "user", "everything"):
        for others in (False, True):
            token = await _ticket(store, sid="own")
            if kind == "token":
                await store.revoke_token(token)
            elif kind == "session":
                await store.revoke_session(str(token.sid), None)
            elif kind == "user":
                await store.revoke_user(token.identity)
            else:
                await store.revoke_everything()
            later = await _ticket(store, token.identity)
            used = await store.consume_token(token, others=others)
            expect(used is False, f"a token cannot be used after its {kind} was revoked")
            await expect_dead(store, token, f"a token whose {kind} was revoked")
            await expect_alive(store, later, "a token of the purpose, after a call that used nothing")


@promised_by(SingleUseStore)
async def using_one_may_end_the_others(store: Any) -> None:
    """`others=True` ends the user's earlier tokens of that type, at any moment, and nothing else."""
    name, sid = any_name(), new_sid(any_name())
    for _ in range(3):
        token, other = await _ticket(store, name), await _ticket(store, name)
        spared = [
            await _ticket(store, name, kind=kind) for kind in ("", "access", "refresh", "another purpose")
        ]
        spared += [await _ticket(store), (await _ticket(store, kind="access"))._replace(sid=sid)]
        expect(await store.consume_token(token, others=True) is True, "a valid token is used")
        later = await _ticket(store, name)
        await expect_dead(store, other, "another token of the purpose")
        expect(await store.consume_token(other, others=True) is False, "a token that was ended is not used")
        for alive in (*spared, later):
            await expect_alive(store, alive, f"a token that was not ended, of type {alive.type!r}")
        # Generations of the user and of the purpose are one order: each ends what is older.
        await store.revoke_user(name, keep=later)
        await expect_alive(store, later, "the kept token")
        for dead in (other, *spared[:4]):
            await expect_dead(store, dead, "a token from before a sign-out")


@promised_by(SingleUseStore)
async def two_that_end_the_others_do_not_both_succeed(store: Any) -> None:
    """Of several tokens of one purpose that are used with `others=True` at once, one is used."""
    for _ in range(5):
        name = any_name()
        tokens = [await _ticket(store, name) for _ in range(8)]
        results = await asyncio.gather(*(store.consume_token(token, others=True) for token in tokens))
        expect(sum(results) == 1, "the first call ends the others' tokens")
        for token in tokens:
            await expect_dead(store, token, "a token of the purpose")


@promised_by(SingleUseStore)
async def a_purpose_ends_at_one_moment(store: Any) -> None:
    """A token of the purpose issued while another one was still valid ends with it."""
    for _ in range(5):
        token = await _ticket(store)
        other = await _ticket(store, token.identity)
        await expect_no_survivor(store, other, store.consume_token(token, others=True))


@promised_by(SingleUseStore)
async def a_kept_token_does_not_outlive_its_purpose(store: Any) -> None:
    """`revoke_user(keep=...)` does not exempt a token from the end of its purpose, in either order."""
    name = any_name()
    kept, token = await _ticket(store, name), await _ticket(store, name)
    await store.revoke_user(name, keep=kept)
    again = await _ticket(store, name)
    expect(await store.consume_token(token) is False, "a signed-out token is not used")
    expect(await store.consume_token(again, others=True) is True, "a valid token is used")
    await expect_dead(store, kept, "a kept token whose purpose ended afterwards")
    await store.revoke_user(name, keep=kept)
    await expect_dead(store, kept, "a token whose purpose ended, passed as keep")
    other = (await _ticket(store, name, kind="access"))._replace(sid=new_sid(name))
    ended = (await _ticket(store, name))._replace(sid=other.sid)
    expect(
        await store.consume_token(await _ticket(store, name), others=True) is True, "a valid token is used"
    )
    await store.revoke_user(name, keep=other)
    await expect_dead(store, ended, "a token of the kept session whose purpose had ended")
    await expect_alive(store, other, "an access token of the kept session")


@promised_by(SingleUseStore)
async def purposes_are_any_text_and_any_number(store: Any) -> None:
    """Whatever purposes are called and however many were ended, none that ended revives.

    Up to `MOST_PURPOSES`, a token of another purpose stays valid.
    """
    name = any_name()
    kinds = ["*", ":", " ", "\n", "0 1", "\N{GRINNING FACE}", "a" * 2000]
    kinds += [f"purpose {number}" for number in range(MOST_PURPOSES)]
    ended: list[TokenRef] = []
    spared = await _ticket(store, name)
    for place, kind in enumerate(kinds, start=1):
        token, other = await _ticket(store, name, kind=kind), await _ticket(store, name, kind=kind)
        expect(await store.consume_token(token, others=True) is True, "a valid token is used")
        ended += [token, other]
        await expect_alive(store, await _ticket(store, name, kind=kind), "a later token of the purpose")
        await expect_alive(store, await _ticket(store, name, kind="access"), "an access token")
        if place == MOST_PURPOSES:
            await expect_alive(store, spared, "a token of a purpose that was not ended")
    for dead in ended:
        await expect_dead(store, dead, f"a token of the ended purpose {dead.type[:20]!r}")


@promised_by(SingleUseStore)
async def purposes_without_a_stamp_go_by_their_time(store: Any) -> None:
    """Ending a purpose ends another issuer's tokens of it that were issued before."""
    now, name = time.time(), any_name()
    old = TokenRef(name, any_name(), None, None, now - HOUR, now + HOUR, type="reset")
    other, late = (
        old._replace(jti=any_name(), type="other"),
        old._replace(jti=any_name(), issued_at=now + HOUR),
    )
    expect(
        await store.consume_token(await _ticket(store, name), others=True) is True, "a valid token is used"
    )
    await expect_dead(store, old, "a token of the purpose without a stamp, issued before")
    for token in (other, late):
        await expect_alive(store, token, "a token of another purpose, or issued later")
    expect(await store.consume_token(late) is True, "a token without a stamp is used")
    await expect_dead(store, late, "a used token without a stamp")


@promised_by(SingleUseStore, RefusalStore)
async def a_used_token_is_told_from_a_revoked_one(store: Any) -> None:
    """`refusal_of` returns "used" for used tokens and those that ended with them, else "revoked"."""
    name = any_name()
    used, other, revoked = [await _ticket(store, name) for _ in range(3)]
    await store.revoke_token(revoked)
    expect(await store.consume_token(used, others=True) is True, "a valid token is used")
    for token, reason in ((used, "used"), (other, "used"), (revoked, "revoked")):
        expect(await store.refusal_of(token) == reason, f"the reason is {reason!r}")
    await store.revoke_token(used)
    await store.revoke_user(name)
    for token, reason in ((used, "used"), (other, "revoked")):
        expect(await store.refusal_of(token) == reason, f"the reason after a sign-out is {reason!r}")
    gone = await _ticket(store)
    await store.revoke_user(gone.identity)
    expect(await store.refusal_of(gone) == "revoked", "a signed-out token is revoked, not used")


single_use_contract: Final[tuple[Promise, ...]] = (
    a_token_is_used_once,
    a_used_token_stays_used,
    a_revoked_token_is_not_used,
    using_one_may_end_the_others,
    two_that_end_the_others_do_not_both_succeed,
    a_purpose_ends_at_one_moment,
    a_kept_token_does_not_outlive_its_purpose,
    purposes_are_any_text_and_any_number,
    purposes_without_a_stamp_go_by_their_time,
    a_used_token_is_told_from_a_revoked_one,
)


async def _ticket(
    store: Any, identity: str | None = None, *, kind: str = "reset", sid: str | None = None
) -> TokenRef:
    return (await new_token(store, identity, sid))._replace(type=kind)
