"""The contract of every revocation store, and of those that do more."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from typing import Any, Final

from async_jwt.stores.contract import Store, TokenRef, new_sid
from async_jwt.testing.access import access_contract
from async_jwt.testing.contract import (
    HOUR,
    ContractViolation,
    Promise,
    any_name,
    expect,
    expect_alive,
    expect_dead,
    expect_no_survivor,
    new_token,
)
from async_jwt.testing.single_use import single_use_contract

__all__ = ["store_contract"]


async def a_new_token_counts(store: Store) -> None:
    """A token is valid once its stamp was issued, however often it is checked."""
    token = await new_token(store)
    expect(isinstance(token.gen, str) and token.gen.isascii(), "a stamp is ASCII text")
    for _ in range(3):
        await expect_alive(store, token, "a new token")
    expect(await store.check(token) is True, "check() returns a bool")
    await store.revoke_token(token)
    expect(await store.check(token) is False, "check() returns a bool")


async def a_revoked_token_is_dead_alone(store: Store) -> None:
    """`revoke_token` revokes one token, and no other of its session or user."""
    token = await new_token(store, sid="own")
    await store.revoke_token(token)
    await expect_dead(store, token, "a revoked token")
    await expect_alive(store, token._replace(jti=any_name()), "another token of the session")
    await expect_alive(store, token._replace(jti=None, sid=None), "a token without jti and sid")
    await expect_alive(store, await new_token(store, token.identity), "a later token of the user")


async def a_token_without_jti_is_not_revoked_alone(store: Store) -> None:
    """`revoke_token` raises ValueError for a token without `jti`, instead of doing nothing."""
    try:
        await store.revoke_token((await new_token(store))._replace(jti=None))
    except ValueError:
        return
    raise ContractViolation("revoke_token() raises ValueError for a token without jti")


async def a_revoked_session_takes_all_its_tokens(store: Store) -> None:
    """`revoke_session` revokes all tokens of the session, including later ones, and no others."""
    token = await new_token(store, sid="own")
    other = await new_token(store, token.identity, sid="own")
    foreign = token._replace(sid=f"not of ours {any_name()}")
    for lives in (time.time() + HOUR, None):
        for dead in (token, foreign):
            await expect_alive(store, dead._replace(sid=str(dead.sid) + str(lives)), "a token of a session")
            await store.revoke_session(str(dead.sid) + str(lives), lives)
            await expect_dead(
                store, dead._replace(sid=str(dead.sid) + str(lives)), "a token of a revoked session"
            )
    await expect_alive(store, other, "a token of the user's other session")
    await expect_alive(store, token._replace(sid=None), "a token without a session")


async def a_revoked_user_is_signed_out_everywhere(store: Store) -> None:
    """`revoke_user` revokes every token issued to an identity so far, and no other user's."""
    token = await new_token(store, sid="own")
    bystander = await new_token(store)
    await store.revoke_user(token.identity)
    for dead in (token, token._replace(jti=None), token._replace(sid=None), token._replace(jti=any_name())):
        await expect_dead(store, dead, "a token of a revoked user")
    await expect_alive(store, bystander, "another user's token")


async def signing_out_and_in_at_once_works(store: Store) -> None:
    """A token whose stamp was issued after a revocation is valid, however soon after."""
    name = any_name()
    old: list[TokenRef] = []
    for everybody in (False, True) * 3:
        old.append(await new_token(store, name))
        await (store.revoke_everything() if everybody else store.revoke_user(name))
        await expect_alive(store, await new_token(store, name), "a token made right after a revocation")
        for token in old:
            await expect_dead(store, token, "a token made right before a revocation")


async def a_revocation_happens_at_one_moment(store: Store) -> None:
    """A token issued while an older one was still valid does not outlive the revocation of the older one.

    A stamp with the new generation must not be issued before `check` knows of the revocation.
    """
    for _ in range(5):
        old = await new_token(store, sid="own")
        keep = await new_token(store, old.identity, sid="own")
        await expect_no_survivor(store, old, store.revoke_user(old.identity, keep=keep))
        await expect_no_survivor(store, keep, store.revoke_user(old.identity))
        last = await new_token(store)
        await expect_no_survivor(store, last, store.revoke_everything())


async def all_combinations_of_revocations_are_right(store: Store) -> None:
    """A token is dead if any of these was revoked: itself, its session, its user, everything."""
    for token_is, session_is, user_is, all_are in itertools.product((False, True), repeat=4):
        token = await new_token(store, sid="own")
        if token_is:
            await store.revoke_token(token)
        if session_is:
            await store.revoke_session(str(token.sid), time.time() + HOUR)
        if user_is:
            await store.revoke_user(token.identity)
        if all_are:
            await store.revoke_everything()
        what = f"revoked: token {token_is}, session {session_is}, user {user_is}, everything {all_are}"
        if token_is or session_is or user_is or all_are:
            await expect_dead(store, token, what)
        else:
            await expect_alive(store, token, what)


async def what_is_kept_outlives_its_user(store: Store) -> None:
    """`revoke_user(keep=...)` spares a session, or a token without one, until the next revocation."""
    for sid in ("own", None):
        kept = await new_token(store, sid=sid)
        other = await new_token(store, kept.identity, sid=sid)
        await store.revoke_user(kept.identity, keep=kept)
        await expect_alive(store, kept, "the kept token")
        if sid is not None:
            await expect_alive(store, kept._replace(jti=any_name()), "another token of the kept session")
        await expect_dead(store, other, "a token that was not kept")
        await store.revoke_user(kept.identity)
        await expect_dead(store, kept, "the token kept at the previous revocation")


async def nothing_dead_is_kept_alive(store: Store) -> None:
    """Keeping an already revoked token revives neither it nor any other."""
    tokens = [await new_token(store, sid="own") for _ in range(3)]
    await store.revoke_token(tokens[0])
    await store.revoke_session(str(tokens[1].sid), None)
    await store.revoke_user(tokens[2].identity)
    for dead in tokens:
        await store.revoke_user(dead.identity, keep=dead)
        await expect_dead(store, dead, "a revoked token passed as keep")
    former = await new_token(store, sid="own")
    await store.revoke_user(former.identity)
    later = former._replace(jti=any_name(), gen=await store.stamp(former.identity))
    for _ in range(2):
        await store.revoke_user(former.identity, keep=later)
        await expect_alive(store, later, "a token of the kept session")
        await expect_dead(store, former, "an earlier, revoked token of the kept session")
    ended = await new_token(store, sid="own")
    await store.revoke_everything()
    await store.revoke_user(ended.identity, keep=ended)
    await expect_dead(store, ended, "a token passed as keep after everything was revoked")


async def tokens_without_a_stamp_go_by_their_time(store: Store) -> None:
    """Revocations after its `issued_at` revoke another issuer's token, unless it is kept."""
    now = time.time()
    old = TokenRef(any_name(), any_name(), None, None, now - HOUR, now + HOUR)
    kept, late = old._replace(jti=any_name()), old._replace(issued_at=now + HOUR)
    timeless = old._replace(issued_at=0.0)
    for token in (old, kept, late, timeless):
        await expect_alive(store, token, "a token without a stamp")
    await store.revoke_user(old.identity, keep=kept)
    for token in (old, timeless):
        await expect_dead(store, token, "a token issued before its user was revoked")
    for token in (kept, late):
        await expect_alive(store, token, "a token that was kept, or issued later")
    await store.revoke_everything()
    for token in (old, kept, timeless):
        await expect_dead(store, token, "a token issued before everything was revoked")
    await expect_alive(store, late, "a token issued later")


async def stamps_of_nobody_open_no_door(store: Store) -> None:
    """An invalid stamp is revoked with its user, as any other; it raises no error."""
    token = await new_token(store)
    await store.revoke_user(token.identity)
    for stamp in (
        "",
        "?",
        "a.b.c",
        "1.2",
        "1.2.3.4",
        "..",
        "m.-1.0",
        "m.\N{SUPERSCRIPT TWO}.9",
        "x" * 10_000,
    ):
        await expect_dead(
            store, token._replace(gen=stamp), f"a token of a revoked user with the stamp {stamp[:20]!r}"
        )


async def stamps_of_another_state_open_no_door(store: Store) -> None:
    """A stamp of another store, or of a later state of this store, outlives no revocation.

    An emptied database restarts at low generations: older tokens must not pass as newer.
    """
    token = await new_token(store)
    await store.revoke_user(token.identity)
    stamp = await store.stamp(token.identity)
    epoch, dot, rest = stamp.partition(".")
    others = (f"other{dot}{rest}", f"other{dot}{re.sub('[0-9]', '9', rest)}", f"x{epoch}{dot}{rest}")
    for other in others:
        await expect_dead(store, token._replace(gen=other), "a token of a revoked user, from another store")


async def revocations_are_never_shortened(store: Store) -> None:
    """Revoking again with an earlier expiry changes nothing."""
    sid, other = new_sid("somebody"), new_sid("somebody")
    token = await new_token(store)
    past, future = time.time() - HOUR, time.time() + HOUR
    for expires_at in (future, past):
        await store.revoke_session(sid, expires_at)
        await store.revoke_token(token._replace(expires_at=expires_at))
    for ends in (None, past, 1e16):
        await store.revoke_session(other, ends)
    await expect_dead(store, token, "a token revoked again with an earlier expiry")
    for revoked in (sid, other):
        await expect_dead(
            store,
            token._replace(jti=any_name(), sid=revoked),
            "a session revoked again with an earlier expiry",
        )


async def any_text_is_a_name(store: Store) -> None:
    """Identities, `jti` and `sid` may be any text, and are never confused with each other."""
    mark = any_name()
    texts = [
        "",
        " ",
        ":",
        "{",
        "}",
        "{a}",
        "*",
        "\\",
        "'",
        '"',
        "\n",
        "\0",
        "%s",
        "\u00e9",
        "\U0001f600",
        "x" * 2000,
    ]
    tokens = [await new_token(store, mark + text) for text in texts]
    tokens = [
        token._replace(jti=mark + text, sid=mark + text) for token, text in zip(tokens, texts, strict=True)
    ]
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        await store.revoke_user(token.identity)
        await expect_dead(store, token, f"the token of {token.identity[:40]!r}")
        if following is not None:
            await expect_alive(store, following, f"the token of {following.identity[:40]!r}")
    for token in tokens:
        await expect_dead(store, token, f"the token of {token.identity[:40]!r}")
    fresh = await new_token(store)
    await store.revoke_token(fresh._replace(jti=mark))
    await expect_alive(store, fresh._replace(jti=None, sid=mark), "a session with the ID of a revoked token")
    await store.revoke_session(mark + "s", None)
    await expect_alive(store, fresh._replace(jti=mark + "s"), "a token with the ID of a revoked session")
    for short in ("", "0", "a", "00", "g"):
        await store.revoke_session(short, None)
        await expect_dead(store, fresh._replace(sid=short), f"a token of the revoked session {short!r}")
        await store.revoke_token(fresh._replace(jti=short))
        await expect_dead(store, fresh._replace(jti=short), f"the revoked token {short!r}")


async def revocations_at_the_same_time_all_hold(store: Store) -> None:
    """No revocation is lost to a concurrent one, of the same user or of others."""
    tokens = [await new_token(store, sid="own") for _ in range(12)]
    again = [await new_token(store, token.identity) for token in tokens]
    await asyncio.gather(
        *(store.revoke_user(token.identity) for token in tokens[:4] * 2),
        *(store.revoke_session(str(token.sid), None) for token in tokens[4:8]),
        *(store.revoke_token(token) for token in tokens[8:]),
    )
    for token in tokens:
        await expect_dead(store, token, "a token revoked concurrently with others")
    for token in again[:4]:
        await expect_dead(store, token, "another token of a revoked user")
    for token in again[4:]:
        await expect_alive(store, token, "another token of a user who was not revoked")


async def no_check_after_a_revocation_lets_pass(store: Store) -> None:
    """A check that starts after a revocation returned refuses the token, however many run."""
    for _ in range(5):
        token = await new_token(store)
        checks = [asyncio.ensure_future(store.check(token)) for _ in range(20)]
        await store.revoke_token(token)
        late = await asyncio.gather(*(store.check(token) for _ in range(20)))
        await asyncio.gather(*checks)
        expect(not any(late), "a check that starts after a revocation refuses the token")


async def a_cancelled_call_spoils_no_other(store: Store) -> None:
    """Cancelling a check or a revocation changes no other call's answer."""
    good, bad = await new_token(store), await new_token(store)
    await store.revoke_token(bad)
    for _ in range(10):
        doomed: list[asyncio.Future[Any]] = [asyncio.ensure_future(store.check(bad)) for _ in range(4)]
        doomed.append(asyncio.ensure_future(store.revoke_user(any_name())))
        await asyncio.sleep(0)
        for task in doomed:
            task.cancel()
        answers = await asyncio.gather(store.check(good), store.check(bad))
        await asyncio.gather(*doomed, return_exceptions=True)
        expect(list(answers) == [True, False], "calls concurrent with a cancelled one return correct answers")


async def a_store_opens_and_closes_again(store: Store) -> None:
    """`start` and `close` may be called at any time, and a closed store can be used again."""
    token = await new_token(store)
    await store.revoke_token(token)
    await store.start()
    await store.start()
    await store.close()
    await store.close()
    await expect_dead(store, token, "a token revoked before the store was closed")
    await expect_alive(store, await new_token(store), "a token made after the store was closed")


store_contract: Final[tuple[Promise, ...]] = (
    a_new_token_counts,
    a_revoked_token_is_dead_alone,
    a_token_without_jti_is_not_revoked_alone,
    a_revoked_session_takes_all_its_tokens,
    a_revoked_user_is_signed_out_everywhere,
    signing_out_and_in_at_once_works,
    a_revocation_happens_at_one_moment,
    all_combinations_of_revocations_are_right,
    what_is_kept_outlives_its_user,
    nothing_dead_is_kept_alive,
    tokens_without_a_stamp_go_by_their_time,
    stamps_of_nobody_open_no_door,
    stamps_of_another_state_open_no_door,
    revocations_are_never_shortened,
    any_text_is_a_name,
    revocations_at_the_same_time_all_hold,
    no_check_after_a_revocation_lets_pass,
    a_cancelled_call_spoils_no_other,
    a_store_opens_and_closes_again,
    *single_use_contract,
    *access_contract,
)
