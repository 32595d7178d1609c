"""The additional contract of a store that keeps sessions."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any, Final

from async_jwt.errors import InvalidPageError
from async_jwt.stores.contract import Session, SessionSnapshot, SessionStore, TokenRef, bucket_of, new_sid
from async_jwt.testing.contract import (
    HOUR,
    Promise,
    any_name,
    expect,
    expect_alive,
    expect_dead,
)

__all__ = ["session_contract"]


async def a_session_is_found_as_it_was_put(store: SessionStore) -> None:
    """Whatever its texts and times, a session is found unchanged by its ID and by each of its tokens."""
    odd = ["", " ", "a b", '"', "\\", "{}", "\n", "\0", "%s", "\u00e9\U0001f600", "x" * 2000]
    for text in [None, *odd]:
        identity = any_name() + (text or "")
        now = time.time()
        session = Session(
            sid=new_sid(identity),
            identity=identity,
            device=text,
            created_at=now - 1,
            last_used_at=now,
            expires_at=None if text is None else now + HOUR,
            ends_at=None if text == "" else now + 2 * HOUR,
            stamp=await store.stamp(identity),
            refresh_jti=any_name() + (text or ""),
            previous_jti=text,
            extras=text or "",
        )
        seen = await _nothing_of(store, session)
        expect(seen.session is None, "no session exists before it is stored")
        expect(await store.replace_session(session, seen) == (), "a new session is stored")
        expect(await store.get_session(session.sid) == session, f"a session is found as stored: {text!r}")
        for jti in (session.refresh_jti, any_name(), None):
            found = await store.load_session(_ref(session)._replace(jti=jti))
            expect(found.session == session and found.valid is True, "each of its tokens finds it")
    stranger = next(name for name in iter(any_name, "") if bucket_of(name) == bucket_of(session.identity))
    expect(await store.get_session(new_sid(stranger)) is None, "an unknown session is not found")
    for sid in (None, "", "not of ours", session.sid):
        foreign = TokenRef(stranger, any_name(), sid, None, time.time(), None)
        expect((await store.load_session(foreign)).session is None, "another user's session is not found")


async def a_step_is_done_once(store: SessionStore) -> None:
    """Of all calls with the same snapshot, one stores its session; all see that one afterwards."""
    for _ in range(5):
        session = await _signed_in(store, any_name())
        views = await asyncio.gather(*(store.load_session(_ref(session)) for _ in range(20)))
        steps = [_next(session) for _ in views]
        done = await asyncio.gather(
            *(store.replace_session(step, seen) for step, seen in zip(steps, views, strict=True))
        )
        winners = [step for step, put in zip(steps, done, strict=True) if put is not None]
        expect(len(winners) == 1, "exactly one call per snapshot succeeds")
        expect(await store.get_session(session.sid) == winners[0], "the stored session is the winner's")
        for late in (views[0], await _nothing_of(store, replace(session, sid=new_sid(session.identity)))):
            expect(await store.replace_session(_next(session), late) is None, "a stale snapshot is declined")
    first, second = await _nothing_of(store, session), await _nothing_of(store, session)
    expect(first.session == winners[0] == second.session, "a snapshot shows the stored session")


async def a_step_after_a_revocation_is_declined(store: SessionStore) -> None:
    """After any revocation in between, the session is not stored, and none of its tokens revives."""
    for kind in ("token", "session", "user", "everything"):
        session = await _signed_in(store, any_name())
        seen = await store.load_session(_ref(session))
        await _revoke(store, session, kind)
        step = _next(session)
        expect(
            await store.replace_session(step, seen) is None,
            f"a rotation is declined after its {kind} was revoked",
        )
        again = await store.load_session(_ref(session))
        expect(again.valid is False, f"a token is invalid after its {kind} was revoked")
        if kind != "token":
            await expect_dead(store, _ref(step), f"a token of a declined rotation ({kind})")


async def a_new_session_is_declined_after_a_sign_out(store: SessionStore) -> None:
    """A new session is not stored if it, its user or everyone was signed out since its snapshot."""
    for kind in ("session", "user", "everything"):
        identity = any_name()
        session = await _new(store, identity)
        seen = await _nothing_of(store, session)
        await _revoke(store, session, kind)
        expect(
            await store.replace_session(session, seen) is None,
            f"a new session is declined after its {kind} was revoked",
        )
        page, _ = await store.list_sessions(identity, 10, None)
        expect(not page, "a declined session is not listed")


async def a_stamp_seen_is_a_stamp(store: SessionStore) -> None:
    """A snapshot's stamp is valid for a token issued then, and is revoked with the user's tokens."""
    session = await _signed_in(store, any_name())
    for _ in range(2):
        seen = await store.load_session(_ref(session))
        token = _ref(session)._replace(jti=any_name(), sid=None, gen=seen.stamp)
        await expect_alive(store, token, "a token with a snapshot's stamp")
        await store.revoke_user(session.identity)
        await expect_dead(store, token, "a token with a snapshot's stamp, after a sign-out")


async def what_is_kept_is_kept_for_its_time(store: SessionStore) -> None:
    """`successor` is returned for as long as requested, and until the next rotation."""
    session = await _signed_in(store, any_name())
    for kept, keep_for in (("a \n\u00e9{}", None), ("b", HOUR), (None, None), ("c", 0.05), (None, None)):
        step = _next(session)
        seen = await store.load_session(_ref(session))
        expect(
            await store.replace_session(step, seen, successor=kept, keep_for=keep_for) == (),
            "a rotation succeeds",
        )
        for ref in (_ref(step), _ref(session)):
            shown = (await store.load_session(ref)).successor
            expect(shown == kept or keep_for == 0.05, "all tokens of the session show the successor")
        session = step
        if keep_for == 0.05:
            await asyncio.sleep(0.15)
            expect(
                (await store.load_session(_ref(session))).successor is None,
                "the successor is dropped after its time",
            )


async def a_look_tells_the_age_of_the_step(store: SessionStore) -> None:
    """`age` uses the store's clock, and storing a session without a rotation does not change it."""
    first = await _signed_in(store, any_name())
    expect((await store.load_session(_ref(first))).age == 0, "the current token has age 0")
    step = _next(first)
    seen, began = await store.load_session(_ref(first)), time.monotonic()
    expect(await store.replace_session(step, seen, successor="x", keep_for=0.3) == (), "a rotation succeeds")
    await asyncio.sleep(0.1)
    seen = await store.load_session(_ref(first))
    expect(0.05 <= seen.age <= time.monotonic() - began + 0.5, "age is the time since the rotation")
    counted = replace(step, late_streak=3, repeated_late=True)
    expect(await store.replace_session(counted, seen) == (), "a session is stored without a rotation")
    expect(await store.replace_session(counted, seen) is None, "one call per snapshot succeeds")
    seen = await store.load_session(_ref(first))
    is_kept = seen.successor == "x" or time.monotonic() - began > 0.3
    expect(seen.session == counted and is_kept, "the successor of its rotation is still kept")
    expect(seen.age >= 0.05, "the age keeps growing")
    await asyncio.sleep(0.25)
    seen = await store.load_session(_ref(first))
    expect(seen.age >= 0.3 and seen.successor is None, "the successor is dropped after its time")


async def a_revoked_session_is_gone(store: SessionStore) -> None:
    """It is neither found nor listed, and a snapshot says whether a token of it had been replaced."""
    identity = any_name()
    other = await _signed_in(store, identity)
    for rotations in range(3):
        steps = [await _signed_in(store, identity)]
        for _ in range(rotations):
            steps.append(_next(steps[-1]))
            seen = await store.load_session(_ref(steps[-2]))
            expect(await store.replace_session(steps[-1], seen, successor="x") == (), "a rotation succeeds")
        session = steps[-1]
        expect(
            not (await store.load_session(_ref(steps[0]))).was_replaced,
            "was_replaced is False for a live session",
        )
        for _ in range(2):
            await store.revoke_session(session.sid, time.time() + HOUR)
            expect(await store.get_session(session.sid) is None, "a revoked session is not found")
            page, _ = await store.list_sessions(identity, 10, None)
            expect([each.sid for each in page] == [other.sid], "a revoked session is not listed")
            for number, step in enumerate(steps):
                seen = await store.load_session(_ref(step))
                expect(
                    seen.session is None and seen.successor is None,
                    "a snapshot has nothing of a revoked session",
                )
                expect(seen.valid is False, "no token of a revoked session is valid")
                expect(
                    seen.was_replaced is (number < rotations - 1),
                    "was_replaced is True only before the last two tokens",
                )
    await store.revoke_session("00 unknown", None)
    unknown = _ref(other)._replace(sid="00 unknown")
    expect(
        not (await store.load_session(unknown)).was_replaced, "was_replaced is False for an unknown session"
    )


async def a_session_is_revoked_for_as_long_as_it_lives(store: SessionStore) -> None:
    """Whatever expiry `revoke_session` is given, the session's own end applies if it is later."""
    now = time.time()
    for ends_at in (now + HOUR, None):
        for told in (now - HOUR, now + HOUR / 2, None):
            session = await _signed_in(store, any_name(), ends_at=ends_at)
            await store.revoke_session(session.sid, told)
            await store.revoke_token(_ref(session)._replace(expires_at=now - HOUR))  # a chance to sweep
            await asyncio.sleep(0.005)
            await expect_dead(store, _ref(session)._replace(jti=any_name()), "a token of a revoked session")


async def signing_out_everywhere_ends_all_sessions(store: SessionStore) -> None:
    """It ends all sessions of the user, or of everyone, except the kept one, which stays valid."""
    identity, bystander = any_name(), await _signed_in(store, any_name())
    sessions = [await _signed_in(store, identity) for _ in range(3)]
    kept = sessions[1]
    await store.revoke_user(identity, keep=_ref(kept))
    page, _ = await store.list_sessions(identity, 10, None)
    expect(list(page) == [kept], "only the kept session is listed")
    seen = await store.load_session(_ref(kept))
    expect(seen.valid is True and seen.session == kept, "the kept session stays valid")
    step = replace(_next(kept), stamp=seen.stamp)
    expect(await store.replace_session(step, seen) == (), "the kept session rotates")
    for dead in (sessions[0], sessions[2]):
        expect((await store.load_session(_ref(dead))).valid is False, "the other sessions are invalid")
        expect(await store.get_session(dead.sid) is None, "the other sessions are not found")
    expect(await store.get_session(kept.sid) == step, "the kept session is found")
    await store.revoke_user(identity)
    page, following = await store.list_sessions(identity, 10, None)
    expect(not page and following is None, "no session is listed after a sign-out everywhere")
    page, _ = await store.list_sessions(bystander.identity, 10, None)
    expect(list(page) == [bystander], "another user's session is listed")
    await store.revoke_everything()
    page, _ = await store.list_sessions(bystander.identity, 10, None)
    expect(not page, "no session is listed after everyone was signed out")
    again = await _signed_in(store, identity)
    page, _ = await store.list_sessions(identity, 10, None)
    expect(list(page) == [again], "a new session is listed")


async def pages_hold_each_session_once(store: SessionStore) -> None:
    """Last used first, even if several were used at the same moment."""
    identity, now = any_name(), time.time()
    sessions = [await _signed_in(store, identity, used=now + number // 3) for number in range(11)]
    await _signed_in(store, any_name())
    expired = [await _signed_in(store, identity, expires_at=now - 1, used=now + n) for n in (0, 2, 4)]
    for limit in (1, 2, 3, 4, 11, 100):
        found: list[Session] = []
        cursor = None
        for _ in range(20):
            page, cursor = await store.list_sessions(identity, limit, cursor)
            expect(len(page) == limit or cursor is None, "every page but the last is full")
            found += page
            if cursor is None:
                break
        expect(
            sorted(found, key=_sid) == sorted(sessions, key=_sid), f"each session is on one page of {limit}"
        )
        used = [session.last_used_at for session in found]
        expect(used == sorted(used, reverse=True), "sessions are listed last used first")
        expect(not any(session in found for session in expired), "an expired session is not listed")
    seen = await store.load_session(_ref(sessions[0]))
    moved = replace(sessions[0], last_used_at=now + 100)
    expect(await store.replace_session(moved, seen) == (), "a rotation succeeds")
    page, _ = await store.list_sessions(identity, 1, None)
    expect(list(page) == [moved], "the last used session is first")


async def a_cursor_of_nobody_is_refused(store: SessionStore) -> None:
    """A made-up cursor raises InvalidPageError or returns some page: clients send cursors."""
    identity = any_name()
    session = await _signed_in(store, identity)
    wrong: list[Any] = ["", " ", "x", "1", "1 x", "nan x", "inf", "-inf x", "1e999 x", "1 \ud800", "\0 \0"]
    for cursor in [*wrong, "9" * 5000, "1 " + "x" * 5000, 5, ["1 x"]]:
        try:
            page, _ = await store.list_sessions(identity, 10, cursor)
        except InvalidPageError:
            continue
        expect(list(page) in ([], [session]), f"a cursor returns only the user's sessions: {cursor!r}")
    page, _ = await store.list_sessions(identity, 10, None)
    expect(list(page) == [session], "invalid cursors change nothing")


async def a_limit_ends_the_least_recently_used(store: SessionStore) -> None:
    """They are revoked at once and returned; sessions that ended already do not count."""
    identity, now = any_name(), time.time()
    sessions = [await _signed_in(store, identity, used=now - number) for number in range(4)]
    others = await _signed_in(store, any_name(), used=now - 1000)
    await store.revoke_session(sessions[1].sid, now + HOUR)
    new = await _new(store, identity, used=now - 100)
    put = await store.replace_session(new, await _nothing_of(store, new), limit=4)
    expect(put == (), "revoked sessions do not count")
    put = await store.replace_session(_next(new), await store.load_session(_ref(new)), limit=3)
    expect(put == (sessions[3].sid,), "the least recently used is ended, never the one being stored")
    seen = await store.load_session(_ref(sessions[3]))
    expect(seen.valid is False and seen.session is None, "a session beyond the limit is dead")
    last = await _new(store, identity, used=now + 1)
    put = await store.replace_session(last, await _nothing_of(store, last), limit=1)
    expect(put is not None and len(put) == 3, "all sessions beyond the limit are ended")
    page, _ = await store.list_sessions(identity, 10, None)
    expect(list(page) == [last], "only the remaining session is listed")
    await expect_alive(store, _ref(others), "another user's session")


async def a_kept_session_does_not_go_before_dead_ones(store: SessionStore) -> None:
    """After a sign-out everywhere else, signed-out sessions do not count toward the limit."""
    identity, now = any_name(), time.time()
    kept, *_ = [await _signed_in(store, identity, used=now + number) for number in range(3)]
    await store.revoke_user(identity, keep=_ref(kept))
    new = await _new(store, identity, used=now + 10)
    put = await store.replace_session(new, await _nothing_of(store, new), limit=2)
    expect(put == (), "signed-out sessions do not count")
    await expect_alive(store, _ref(kept), "the kept session")


async def a_session_that_does_not_count_is_spared(store: SessionStore) -> None:
    """The limit neither counts nor ends it; all else is as with any session, for as long as it lasts."""
    identity, now = any_name(), time.time()
    own = [await _signed_in(store, identity, used=now + 2 * number) for number in range(2)]
    apart = await _signed_in(store, identity, used=now - 100, counts=False)
    expect(await store.get_session(apart.sid) == apart, "it is found as it was stored")
    seen = await store.load_session(_ref(apart))
    step = replace(_next(apart), last_used_at=now + 1)
    expect(await store.replace_session(step, seen, limit=1) == (), "storing it again ends no session")
    late = await _new(store, identity, used=now + 3, counts=False)
    put = await store.replace_session(late, await _nothing_of(store, late), limit=1)
    expect(put == (), "storing a new one ends no session")
    new = await _new(store, identity, used=now + 4)
    put = await store.replace_session(new, await _nothing_of(store, new), limit=3)
    expect(put == (), "it is not counted")
    put = await store.replace_session(_next(new), await store.load_session(_ref(new)), limit=1)
    expect(put is not None and {*put} == {each.sid for each in own}, "it is not ended, whenever it was used")
    for size in (1, 2, 10):
        page, cursor = await store.list_sessions(identity, size, None)
        found = [*page]
        while cursor is not None and len(found) < 5:
            page, cursor = await store.list_sessions(identity, size, cursor)
            found += page
        listed = [session.sid for session in found]
        expect(listed == [new.sid, late.sid, apart.sid], "it is listed among the others, last used first")
    expect(not found[2].counts and found[2] == step, "it does not count after a rotation either")
    await store.revoke_user(identity, keep=_ref(step))
    page, _ = await store.list_sessions(identity, 10, None)
    expect(list(page) == [step], "it is kept as any other")
    await store.revoke_session(apart.sid, None)
    page, _ = await store.list_sessions(identity, 10, None)
    expect(not page, "it is revoked as any other")
    await expect_dead(store, _ref(step), "a token of a revoked session")
    other = await _signed_in(store, identity, counts=False)
    await store.revoke_user(identity)
    page, _ = await store.list_sessions(identity, 10, None)
    expect(not page, "it ends with its user's sign-out")
    await expect_dead(store, _ref(other), "a token of a user who was signed out")


session_contract: Final[tuple[Promise, ...]] = (
    a_session_is_found_as_it_was_put,
    a_step_is_done_once,
    a_step_after_a_revocation_is_declined,
    a_new_session_is_declined_after_a_sign_out,
    a_stamp_seen_is_a_stamp,
    what_is_kept_is_kept_for_its_time,
    a_look_tells_the_age_of_the_step,
    a_revoked_session_is_gone,
    a_session_is_revoked_for_as_long_as_it_lives,
    signing_out_everywhere_ends_all_sessions,
    pages_hold_each_session_once,
    a_cursor_of_nobody_is_refused,
    a_limit_ends_the_least_recently_used,
    a_kept_session_does_not_go_before_dead_ones,
    a_session_that_does_not_count_is_spared,
)


async def _new(store: SessionStore, identity: str, *, used: float | None = None, **more: Any) -> Session:
    now = time.time()
    ends = {"expires_at": now + HOUR, "ends_at": now + HOUR, **more}
    stamp = await store.stamp(identity)
    used = now if used is None else used
    return Session(new_sid(identity), identity, None, now, used, stamp=stamp, refresh_jti=any_name(), **ends)


async def _signed_in(store: SessionStore, identity: str, **more: Any) -> Session:
    session = await _new(store, identity, **more)
    expect(await store.replace_session(session, await _nothing_of(store, session)) == (), "a session is put")
    return session


async def _nothing_of(store: SessionStore, session: Session) -> SessionSnapshot:
    return await store.load_session(TokenRef(session.identity, None, session.sid, None, 0.0, None))


async def _revoke(store: SessionStore, session: Session, kind: str) -> None:
    if kind == "token":
        await store.revoke_token(_ref(session))
    elif kind == "session":
        await store.revoke_session(session.sid, session.ends_at)
    elif kind == "user":
        await store.revoke_user(session.identity)
    else:
        await store.revoke_everything()


def _next(session: Session) -> Session:
    return replace(session, refresh_jti=any_name(), previous_jti=session.refresh_jti)


def _ref(session: Session) -> TokenRef:
    """The session's refresh token."""
    return TokenRef(
        session.identity,
        session.refresh_jti,
        session.sid,
        session.stamp,
        session.created_at,
        session.expires_at,
    )


def _sid(session: Session) -> str:
    return session.sid
