"""What stores promise, kept by both of ours; and what is each one's own."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import uuid
from dataclasses import asdict, replace

import pytest
import pytest_asyncio

from async_jwt.app_state import open_store
from async_jwt.errors import ConfigurationError
from async_jwt.stores import MemoryStore, Session, TokenRef
from async_jwt.stores.contract import BUCKETS, MOST_PURPOSES, bucket_of, bucket_of_sid, new_sid
from async_jwt.stores.memory import _Cutoff, _Partial
from async_jwt.stores.realm import realm_store
from async_jwt.stores.redis import RedisStore
from async_jwt.stores.redis.options import Options, read_options
from async_jwt.testing import ContractViolation, promises_of, session_contract, store_contract
from tests.harness.insides import open_topologies_of

pytestmark = pytest.mark.asyncio


def ref(gen, **more):
    values = {"identity": "alice", "jti": "j", "sid": None, "issued_at": 0.0, "expires_at": time.time() + 60}
    return TokenRef(**{**values, "gen": gen, **more})


@pytest_asyncio.fixture(params=["memory", "redis", "realm in memory", "realm in redis"])
async def store(request):
    if "memory" in request.param:
        store = MemoryStore()
    else:
        url = request.getfixturevalue("redis_url")
        store = RedisStore(url, prefix=f"test-{uuid.uuid4().hex}:", deadline=5)
    yield realm_store(store, "everybody of the realm", "") if "realm" in request.param else store
    await store.close()


@pytest.mark.parametrize(
    "promise", [*store_contract, *session_contract], ids=lambda promise: promise.__name__
)
async def test_what_stores_promise(store, promise):
    await promise(store)


# Memory stores with one mistake each, and by which promise it is found.


class Forgetful(MemoryStore):
    async def revoke_token(self, ref):
        pass


class Careless(MemoryStore):
    async def revoke_token(self, ref):
        self._revoke(f"j:{ref.jti}", ref.expires_at)


class Harsh(MemoryStore):
    async def revoke_token(self, ref):
        await super().revoke_token(ref)
        await self.revoke_user(ref.identity)


class Truthy(MemoryStore):
    async def check(self, ref):
        return 1 if self._is_valid(ref) else 0


class Reviving(MemoryStore):
    async def revoke_user(self, identity, keep=None):
        await super().revoke_user(identity)
        if keep is not None:
            cutoff = self._users[identity]
            cutoff.keep, cutoff.kept_from = keep.sid or keep.jti, 0


class Ageless(MemoryStore):
    async def check(self, ref):
        return self._is_valid(ref._replace(issued_at=2e9))


class Shortening(MemoryStore):
    def _revoke(self, entry, expires_at):
        self._revoked.pop(entry, None)
        if expires_at is None or expires_at > time.time():
            super()._revoke(entry, expires_at)


class Confusing(MemoryStore):
    async def revoke_session(self, sid, expires_at):
        await super().revoke_session(sid, expires_at)
        self._revoke(f"j:{sid}", expires_at)


class ByTheClock(MemoryStore):
    def _raised(self, before, keep):
        cutoff = super()._raised(before, keep)
        cutoff.generation += 1_000_000
        return cutoff

    async def stamp(self, identity):
        return f"m.{int(time.time() * 1_000_000)}.{int(time.time() * 1_000_000)}"


class Racing(MemoryStore):
    """Looks, and puts what it looked for: no lock, no comparison."""

    async def replace_session(self, session, seen, **more):
        now = await self.load_session(TokenRef(session.identity, seen.version[0], session.sid, None, 0, None))
        return await super().replace_session(session, replace(seen, version=now.version), **more)


class Resurrecting(MemoryStore):
    async def replace_session(self, session, seen, **more):
        for entry in (f"s:{session.sid}", f"j:{seen.version[0]}"):
            self._revoked.pop(entry, None)
        return await super().replace_session(session, seen, **more)


class Restamping(MemoryStore):
    async def replace_session(self, session, seen, **more):
        stamp = await self.stamp(session.identity)
        seen = replace(seen, stamp=stamp, version=(None, self._sessions.get(session.sid)))
        return await super().replace_session(session, seen, **more)


class Stampless(MemoryStore):
    async def load_session(self, ref):
        return replace(await super().load_session(ref), stamp="m.9999999999999999.9999999999999999")


class Gracious(MemoryStore):
    async def replace_session(self, session, seen, *, keep_for=None, **more):
        return await super().replace_session(session, seen, **more)


class Indiscreet(MemoryStore):
    async def load_session(self, ref):
        seen = await super().load_session(ref)
        kept = self._sessions.get(ref.sid)
        return replace(seen, session=None if kept is None else kept.session)


class Lingering(MemoryStore):
    async def revoke_session(self, sid, expires_at):
        kept = self._sessions.pop(sid, None)
        await super().revoke_session(sid, expires_at)
        if kept is not None:
            self._sessions[sid] = kept


class Accusing(MemoryStore):
    async def load_session(self, ref):
        seen = await super().load_session(ref)
        return replace(seen, was_replaced=not seen.valid)


class Brief(MemoryStore):
    async def revoke_session(self, sid, expires_at):
        self._forget(sid)
        self._revoke(f"s:{sid}", expires_at)


class Clinging(MemoryStore):
    async def revoke_user(self, identity, keep=None):
        used = self._used.pop(identity, None)
        await super().revoke_user(identity, keep)
        if used is not None:
            self._used[identity] = used


class Unsorted(MemoryStore):
    async def list_sessions(self, identity, limit, cursor):
        page, following = await super().list_sessions(identity, limit, cursor)
        return page[::-1], following


class Skipping(MemoryStore):
    """Goes by the time alone, so that of several used at once only some are shown."""

    async def list_sessions(self, identity, limit, cursor):
        before = None if cursor is None else cursor.partition(" ")[0] + " "
        return await super().list_sessions(identity, limit, before)


class Endless(MemoryStore):
    async def list_sessions(self, identity, limit, cursor):
        page, _ = await super().list_sessions(identity, limit, None)
        return page, f"{page[-1].last_used_at!r} x"


class Expired(MemoryStore):
    async def list_sessions(self, identity, limit, cursor):
        clock, self.clock = self.clock, lambda: 0.0
        try:
            return await super().list_sessions(identity, limit, cursor)
        finally:
            self.clock = clock


class Trusting(MemoryStore):
    async def list_sessions(self, identity, limit, cursor):
        float((cursor or "0").partition(" ")[0])
        return await super().list_sessions(identity, limit, cursor)


class Limitless(MemoryStore):
    async def replace_session(self, session, seen, *, limit=None, **more):
        return await super().replace_session(session, seen, **more)


class Silent(MemoryStore):
    async def replace_session(self, session, seen, **more):
        put = await super().replace_session(session, seen, **more)
        return None if put is None else ()


class Unlocked(MemoryStore):
    """Looks, and marks what it looked at: no lock, no comparison."""

    async def consume_token(self, ref, **more):
        valid = await self.check(ref)
        await asyncio.sleep(0)
        await super().consume_token(ref, **more)
        return valid


class Pardoning(MemoryStore):
    async def revoke_user(self, identity, keep=None):
        await super().revoke_user(identity, keep)
        if keep is not None and f"j:{keep.jti}" in self._consumed:
            del self._revoked[f"j:{keep.jti}"]
            self._users[identity].keep = keep.jti


class Credulous(MemoryStore):
    async def consume_token(self, ref, **more):
        used = f"j:{ref.jti}" in self._consumed
        await super().consume_token(ref, **more)
        return not used


class Sparing(MemoryStore):
    async def consume_token(self, ref, *, others=False):
        return await super().consume_token(ref)


class Sweeping(MemoryStore):
    async def consume_token(self, ref, *, others=False):
        used = await super().consume_token(ref, others=others)
        if used and others:
            await self.revoke_user(ref.identity)
        return used


class Hasty(MemoryStore):
    """Marks, and ends the others later."""

    async def consume_token(self, ref, *, others=False):
        used = await super().consume_token(ref)
        await asyncio.sleep(0)
        if used and others:
            cutoff = self._raised(self._latest_of(ref.identity), None)
            self._partial_of(ref.identity).end_purpose(ref.type, cutoff)
        return used


class Exempting(MemoryStore):
    async def revoke_user(self, identity, keep=None):
        await super().revoke_user(identity, keep)
        self._partial.pop(identity, None)


class ShortOfMemory(MemoryStore):
    async def consume_token(self, ref, **more):
        used = await super().consume_token(ref, **more)
        if ref.identity in self._partial:
            self._partial[ref.identity].purposes.pop("*", None)
        return used


class Stampbound(MemoryStore):
    def _refusal_by_generation(self, ref):
        reason = super()._refusal_by_generation(ref)
        return None if reason == "used" and ref.gen is None else reason


class Forgiving(MemoryStore):
    async def expire_access_tokens(self, identity):
        pass


class Thorough(MemoryStore):
    async def expire_access_tokens(self, identity):
        await self.revoke_user(identity)


class Absolving(MemoryStore):
    async def expire_access_tokens(self, identity):
        await super().expire_access_tokens(identity)
        self._users[identity] = _Cutoff()


class Favouring(MemoryStore):
    """Whoever keeps a session keeps its access tokens."""

    async def revoke_user(self, identity, keep=None):
        await super().revoke_user(identity, keep)
        self._partial.pop(identity, None)


class Undated(MemoryStore):
    def _refusal_by_generation(self, ref):
        reason = super()._refusal_by_generation(ref)
        return None if reason == "stale" and ref.gen is None else reason


class Unguarded(MemoryStore):
    """Reads, and writes what it read with its change: no lock, no comparison."""

    async def expire_access_tokens(self, identity):
        partial, before = self._partial_of(identity), self._users.get(identity)
        await asyncio.sleep(0)
        partial.access = self._raised(self._latest_of(identity), None)
        self._partial[identity], self._users[identity] = partial, before


class Unsubtle(MemoryStore):
    async def refusal_of(self, ref):
        reason = await super().refusal_of(ref)
        return "revoked" if reason == "stale" else reason


class Uprooting(MemoryStore):
    async def expire_access_tokens(self, identity):
        await super().expire_access_tokens(identity)
        for _, sid in self._used.get(identity, [])[:]:
            self._forget(sid)


class Counting(MemoryStore):
    async def replace_session(self, session, seen, **more):
        return await super().replace_session(replace(session, counts=True), seen, **more)


class Unsparing(MemoryStore):
    """Leaves them out of the count, and ends them all the same."""

    def _beyond(self, session, limit):
        beyond = len(super()._beyond(session, limit))
        return tuple(sid for _, sid in self._used[session.identity] if sid != session.sid)[:beyond]


class Hiding(MemoryStore):
    async def list_sessions(self, identity, limit, cursor):
        page, following = await super().list_sessions(identity, limit, cursor)
        return [session for session in page if session.counts], following


async def begin(store, identity):
    """The first of two steps: stamps have the new generation, and nothing has ended yet."""
    cutoff = store._raised(store._latest_of(identity), None)
    store._partial_of(identity).purposes["-"] = cutoff
    await asyncio.sleep(0)
    return cutoff


class HalfSignedOut(MemoryStore):
    async def revoke_user(self, identity, keep=None):
        if keep is None:
            self._users[identity] = await begin(self, identity)
        else:
            await super().revoke_user(identity, keep)


class HalfExpired(MemoryStore):
    async def expire_access_tokens(self, identity):
        self._partial_of(identity).access = await begin(self, identity)


class HalfUsed(MemoryStore):
    async def consume_token(self, ref, *, others=False):
        done = await super().consume_token(ref)
        if done and others:
            self._partial_of(ref.identity).end_purpose(ref.type, await begin(self, ref.identity))
        return done


class Narrow(MemoryStore):
    """Ends all purposes instead of remembering which."""

    async def consume_token(self, ref, *, others=False):
        done = await super().consume_token(ref, others=others)
        partial = self._partial.get(ref.identity, _Partial())
        if len(partial.purposes) > 16:
            partial.purposes["*"] = min(partial.purposes.values(), key=lambda each: each.generation)
        return done


class Retelling(MemoryStore):
    """Names what ended a used token last."""

    async def refusal_of(self, ref):
        reason = self._refusal_by_generation(ref)
        return "revoked" if reason == "revoked" else await super().refusal_of(ref)


class Mumbling(MemoryStore):
    async def refusal_of(self, ref):
        return "revoked"


MISTAKES = {
    HalfSignedOut: "a_revocation_happens_at_one_moment",
    HalfExpired: "access_tokens_end_at_one_moment",
    HalfUsed: "a_purpose_ends_at_one_moment",
    Narrow: "purposes_are_any_text_and_any_number",
    Retelling: "a_used_token_is_told_from_a_revoked_one",
    Counting: "a_session_that_does_not_count_is_spared",
    Unsparing: "a_session_that_does_not_count_is_spared",
    Hiding: "a_session_that_does_not_count_is_spared",
    Forgiving: "access_tokens_end_and_nothing_else_does",
    Thorough: "access_tokens_end_and_nothing_else_does",
    Absolving: "ending_access_tokens_revives_nothing",
    Favouring: "no_keep_exempts_access_tokens",
    Undated: "access_tokens_without_a_stamp_go_by_their_time",
    Unguarded: "none_of_several_at_once_is_lost",
    Unsubtle: "a_stale_token_is_told_from_a_revoked_one",
    Uprooting: "sessions_go_on_without_their_access_tokens",
    Unlocked: "a_token_is_used_once",
    Pardoning: "a_used_token_stays_used",
    Credulous: "a_revoked_token_is_not_used",
    Sparing: "using_one_may_end_the_others",
    Sweeping: "using_one_may_end_the_others",
    Hasty: "two_that_end_the_others_do_not_both_succeed",
    Exempting: "a_kept_token_does_not_outlive_its_purpose",
    ShortOfMemory: "purposes_are_any_text_and_any_number",
    Stampbound: "purposes_without_a_stamp_go_by_their_time",
    Mumbling: "a_used_token_is_told_from_a_revoked_one",
    Racing: "a_step_is_done_once",
    Resurrecting: "a_step_after_a_revocation_is_declined",
    Restamping: "a_new_session_is_declined_after_a_sign_out",
    Stampless: "a_stamp_seen_is_a_stamp",
    Gracious: "what_is_kept_is_kept_for_its_time",
    Indiscreet: "a_session_is_found_as_it_was_put",
    Lingering: "a_revoked_session_is_gone",
    Accusing: "a_revoked_session_is_gone",
    Brief: "a_session_is_revoked_for_as_long_as_it_lives",
    Clinging: "a_kept_session_does_not_go_before_dead_ones",
    Unsorted: "pages_hold_each_session_once",
    Skipping: "pages_hold_each_session_once",
    Endless: "pages_hold_each_session_once",
    Expired: "pages_hold_each_session_once",
    Trusting: "a_cursor_of_nobody_is_refused",
    Limitless: "a_limit_ends_the_least_recently_used",
    Silent: "a_limit_ends_the_least_recently_used",
    Forgetful: "a_revoked_token_is_dead_alone",
    Careless: "a_token_without_jti_is_not_revoked_alone",
    Harsh: "a_revoked_token_is_dead_alone",
    Truthy: "a_new_token_counts",
    Reviving: "nothing_dead_is_kept_alive",
    Ageless: "tokens_without_a_stamp_go_by_their_time",
    Shortening: "revocations_are_never_shortened",
    Confusing: "any_text_is_a_name",
    ByTheClock: "signing_out_and_in_at_once_works",
}


@pytest.mark.parametrize(
    ("kind", "promise"), MISTAKES.items(), ids=lambda value: getattr(value, "__name__", value)
)
async def test_a_broken_promise_is_found(kind, promise):
    """By that promise, and so that whoever wrote it sees what is wrong or where it breaks."""
    broken = []

    async def evaluate(each):
        try:
            await each(kind())
        except ContractViolation:
            broken.append(each.__name__)
        except Exception as problem:
            if isinstance(problem, AttributeError) and isinstance(problem.obj, MemoryStore):
                raise  # the mistake itself is mistaken: it uses a name that is gone
            broken.append(f"{each.__name__} {problem!r}")

    (named,) = (each for each in (*store_contract, *session_contract) if each.__name__ == promise)
    await evaluate(named)
    assert any(one.startswith(promise) for one in broken), broken


class Least:
    """A store that does what each must, and no more."""

    def __init__(self):
        store = MemoryStore()
        for name in ("stamp", "check", "revoke_token", "revoke_session", "revoke_user", "revoke_everything"):
            setattr(self, name, getattr(store, name))
        self.start, self.close = store.start, store.close


async def test_a_store_promises_what_it_has_methods_for():
    """A promise of what a store cannot do is kept by it, and is not among those that it makes."""
    least, whole = promises_of(Least(), store_contract), promises_of(MemoryStore(), store_contract)
    assert whole == store_contract
    left = {promise.__name__ for promise in store_contract} - {promise.__name__ for promise in least}
    assert {"a_token_is_used_once", "a_used_token_is_told_from_a_revoked_one"} <= left
    assert {"no_keep_exempts_access_tokens", "sessions_go_on_without_their_access_tokens"} <= left
    assert "a_new_token_counts" not in left
    for promise in store_contract:
        await promise(Least())


# -- memory ------------------------------------------------------------------------------


async def test_memory_forgets_what_has_long_expired(clock):
    store = MemoryStore(clock=clock)
    for number in range(10):
        await store.revoke_token(ref(None, jti=str(number), expires_at=clock.now + number))
    await store.revoke_session("for ever", None)
    await store.revoke_token(ref(None, jti="5", expires_at=clock.now + 100))
    clock.now += 100
    await store.revoke_token(ref(None, jti="last", expires_at=clock.now + 1))
    assert len(store) == 3
    assert not await store.check(ref(None, jti="5"))


async def test_memory_forgets_used_tokens_that_have_expired(clock):
    store = MemoryStore(clock=clock)
    used = ref(None, jti="used", expires_at=clock.now + 10, type="reset")
    assert await store.consume_token(used)
    assert await store.refusal_of(used) == "used"
    clock.now += 100
    await store.revoke_token(ref(None, jti="last", expires_at=clock.now + 1))
    assert len(store) == 1
    assert not store._consumed


async def test_memory_revives_nothing_when_its_clock_steps_back(clock):
    store = MemoryStore(clock=clock)
    used, revoked = [ref(None, jti=jti, expires_at=clock.now + 10, type="reset") for jti in ("used", "gone")]
    assert await store.consume_token(used)
    await store.revoke_token(revoked)
    clock.now += 40
    await store.revoke_token(ref(None, jti="other", expires_at=clock.now + 1))
    clock.now -= 35
    for dead in (used, revoked):
        assert not await store.check(dead)
        assert await store.consume_token(dead) is False


@pytest.mark.parametrize("read", ["_users", "_partial"])
async def test_memory_checks_in_other_threads_see_no_half_of_a_sign_out(read):
    """Another thread signs the user out right after a check has read one of the user's generations."""
    store = MemoryStore()
    stale = ref(await store.stamp("alice"), type="access")
    await store.expire_access_tokens("alice")

    class Generations(dict):
        def get(self, *key):
            found = super().get(*key)
            setattr(store, read, dict(self))
            sign_out = threading.Thread(target=lambda: asyncio.run(store.revoke_user("alice")))
            sign_out.start()
            sign_out.join()
            return found

    setattr(store, read, Generations(getattr(store, read)))
    assert not await store.check(stale)


async def test_memory_checks_in_other_threads_see_no_half_of_a_purpose():
    store, seen = MemoryStore(), []
    dead = ref(await store.stamp("alice"), type="purpose 0")
    for number in range(MOST_PURPOSES):
        used = ref(await store.stamp("alice"), jti=str(number), type=f"purpose {number}")
        assert await store.consume_token(used, others=True)

    class Purposes(dict):
        def pop(self, *key):
            found = super().pop(*key)
            seen.append(store._is_valid(dead))
            return found

    store._partial["alice"].purposes = Purposes(store._partial["alice"].purposes)
    last = ref(await store.stamp("alice"), jti="last", type="one more")
    assert await store.consume_token(last, others=True)
    assert seen == [False]


async def test_memory_checks_in_other_threads_see_no_half_of_what_is_kept():
    """An earlier token of the kept session is dead before, and must not be valid for a moment."""
    store, seen = MemoryStore(), []
    former = ref(await store.stamp("alice"), jti="former", sid="kept")
    await store.revoke_user("alice")
    keep = ref(await store.stamp("alice"), sid="kept")

    class Users(dict):
        def __setitem__(self, *entry):
            super().__setitem__(*entry)
            seen.append(store._is_valid(former))

    store._users = Users(store._users)
    await store.revoke_user("alice", keep=keep)
    assert seen == [False]


async def test_memory_forgets_sessions_that_have_ended(clock):
    store = MemoryStore(clock=clock)

    async def put(sid, ends_at, jti="first"):
        session = Session(sid, "alice", None, clock.now, clock.now, ends_at, ends_at, "m.0.0", jti)
        seen = await store.load_session(TokenRef("alice", None, sid, None, 0.0, None))
        assert await store.replace_session(session, seen) == ()

    for number in range(10):
        await put(f"session {number}", clock.now + number)
    await put("for ever", None)
    await put("session 3", clock.now + 100, "second")
    await put("session 4", None, "second")
    await store.revoke_session("session 5", None)
    clock.now += 99
    await put("last", clock.now + 1)
    assert len(store) == 5, "three that go on, the last one, and that one was revoked"
    page, _ = await store.list_sessions("alice", 100, None)
    assert {session.sid for session in page} == {"for ever", "session 3", "session 4", "last"}
    clock.now += 1000
    await store.revoke_token(ref(None, jti="some", expires_at=clock.now + 1))
    assert len(store) == 4


async def test_memory_forgets_a_session_that_was_used_after_its_first_end(clock):
    store = MemoryStore(clock=clock)
    seen = await store.load_session(TokenRef("alice", None, "sid", None, 0.0, None))
    first = Session("sid", "alice", None, clock.now, clock.now, None, None, "m.0.0", "0")
    for number, ends_at in enumerate((clock.now + 15, None, clock.now + 50)):
        session = replace(first, refresh_jti=str(number), ends_at=ends_at)
        assert await store.replace_session(session, seen) == ()
        seen = await store.load_session(TokenRef("alice", str(number), "sid", "m.0.0", 0.0, None))
        clock.now += 10
    clock.now += 1000
    await store.revoke_token(ref(None, jti="some", expires_at=clock.now + 1))
    assert len(store) == 1


async def test_memory_is_available_and_keeps_nothing(clock):
    status = MemoryStore(clock=clock).status()
    assert (status.available, status.since, status.persists, status.problem) == (True, clock.now, False, None)


async def test_memory_after_a_restart_revokes_what_came_before(clock):
    before = MemoryStore(clock=clock)
    await before.revoke_user("alice")
    old = await before.stamp("alice")
    clock.now += 1
    after = MemoryStore(clock=clock)
    assert await after.check(ref(old))
    await after.revoke_user("alice")
    assert not await after.check(ref(old))


# -- redis -------------------------------------------------------------------------------


async def test_redis_entries_end_with_what_they_concern(redis_url):
    import redis.asyncio

    prefix = f"test-{uuid.uuid4().hex}:"
    store = RedisStore(redis_url, prefix=prefix, deadline=5, poll=60)
    gen = await store.stamp("alice")
    await store.revoke_token(ref(gen))
    await store.revoke_session(new_sid("alice"), None)
    await store.revoke_user("alice")
    client = redis.asyncio.Redis.from_url(redis_url, decode_responses=True)
    bucket = bucket_of("alice")
    lives = {key: await client.pttl(key) async for key in client.scan_iter(f"{prefix}{{{bucket}}}*")}
    others = {key async for key in client.scan_iter(prefix + "*")} - set(lives)
    await client.aclose()
    # A minute more than the token lives, should the server's clock be ahead.
    assert 110_000 < lives[f"{prefix}{{{bucket}}}:jti:j"] <= 120_000
    assert lives[f"{prefix}{{{bucket}}}:user:alice"] == -1
    assert len(lives) == 4
    assert others == {f"{prefix}{{{number:02x}}}:all" for number in range(BUCKETS)} - set(lives)


async def test_a_cancelled_revocation_is_finished(redis_url):
    store = RedisStore(redis_url, prefix=f"test-{uuid.uuid4().hex}:", deadline=5)
    gen = await store.stamp("alice")
    task = asyncio.ensure_future(store.revoke_user("alice"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(100):
        if not await store.check(ref(gen)):
            break
        await asyncio.sleep(0.01)
    assert not await store.check(ref(gen))


def run_on_a_loop_of_its_own(store):
    async def use():
        return await store.check(ref(await store.stamp("alice")))

    return asyncio.run(use())


@pytest.mark.asyncio(loop_scope="function")
async def test_each_loop_has_its_own_connections(redis_url):
    store = RedisStore(redis_url, deadline=5)
    await store.start()
    for _ in range(3):
        assert await asyncio.to_thread(run_on_a_loop_of_its_own, store)
    assert await store.check(ref(await store.stamp("alice")))
    await store.close()


async def test_a_forked_process_makes_its_own_connections(redis_url, monkeypatch):
    store = RedisStore(redis_url, deadline=5)
    await store.stamp("alice")
    parents = open_topologies_of(store)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert await store.stamp("alice")
    assert open_topologies_of(store) is not parents
    for _, lifespan in list(parents.values()):
        await lifespan.aclose()
    await store.close()


@pytest.mark.parametrize("query", ["", "?protocol=2", "?protocol=3"])
async def test_both_protocols(redis_url, query):
    store = RedisStore(redis_url + query, deadline=5)
    assert await store.check(ref(await store.stamp("alice")))


async def test_valkey_urls_and_databases(redis_url):
    store = RedisStore(redis_url.replace("redis://", "valkey://") + "/1?deadline=5", prefix="p:")
    assert await store.check(ref(await store.stamp("alice")))


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("http://localhost", "begin with"),
        ("localhost", "begin with"),
        ("redis://localhost?mirrors=true", "mirrors"),
        ("redis://localhost?deadline=soon", "deadline"),
        ("redis://localhost?deadline=0", "deadline"),
        ("redis://localhost?max_connections=-1", "max_connections"),
        ("redis://localhost?max_connections=0.5", "max_connections"),
        ("redis://localhost?on_outage=ignore", "on_outage must be deny or allow"),
        ("redis://localhost?on_data_loss=", "on_data_loss must be deny or accept"),
        ("redis://localhost?poll=0", "poll"),
        ("redis://localhost/0?db=x", "Redis URL"),
        ("redis://localhost/one", "Redis URL"),
        ("redis://:sec/ret@localhost", "percent-encoded"),
        ("memory://host", "memory"),
        ("redis+other://localhost", "begin with"),
        ("unix+cluster://localhost", "begin with"),
        ("redis://localhost?mirror=perhaps", "mirror must be true or false"),
        ("redis://localhost?mirror_max=0.5", "mirror_max"),
        ("redis://localhost?mirror_lag=0.001", "mirror_lag must be a number greater than 0.02"),
        ("redis://localhost?prefix=", "prefix"),
        ("redis://localhost?prefix={app}:", "prefix"),
        ("redis://localhost?protocol=9", "protocol must be 2 or 3"),
        ("redis://localhost?ssl_cert_reqs=none", "does not go with its scheme"),
        ("rediss://localhost?ssl_ca_certs=/nowhere.pem", "no file at ssl_ca_certs"),
        ("rediss://localhost?ssl_cert_reqs=bogus", "does not go with its scheme"),
        ("redis+sentinel://localhost", "no Sentinel service name"),
        ("redis+sentinel:///shop", "host:port"),
        ("redis+sentinel://one,,two/shop", "host:port"),
        ("redis+sentinel://one;two/shop", "host:port"),
        ("redis+sentinel://one two/shop", "host:port"),
        ("redis+sentinel://one:0/shop", "host:port"),
        ("redis+sentinel://one:port/shop", "host:port"),
        ("redis+sentinel://[::1/shop", "host:port"),
        ("redis+sentinel://one/shop/-1", "must be a number"),
        ("redis+cluster://one,", "host:port"),
        ("redis+cluster://one/3", "only database 0"),
        ("redis+cluster://one?sentinel_username=shop", "sentinel_username"),
    ],
)
async def test_wrong_uris_are_refused(uri, text):
    with pytest.raises(ConfigurationError, match=text):
        open_store(uri, time.time)


@pytest.mark.parametrize(
    "uri",
    [
        "redis://:se?cret@localhost",
        "redis://:hush?cret@localhost&db=1",
        "redis+sentinel://one/shop?sentinel_password=hush&cret",
        "redis+sentinel://:hush:cret@one:cret/shop",
        "redis://:hush/cret@localhost",
        "rediss://:cret@localhost?ssl_certfile=/nowhere",
    ],
)
async def test_no_refusal_quotes_a_password(uri):
    with pytest.raises(ConfigurationError) as refused:
        open_store(uri, time.time)
    assert "cret" not in str(refused.value)


async def test_where_several_servers_are():
    place, options = read_options(
        "valkeys+sentinel://shop:s%40cret@one,two:26380,[::1]:7/my%2Fmaster/2"
        "?sentinel_username=watch&sentinel_password=h%2Fush&mirror=True&protocol=2",
        asdict(Options()),
    )
    assert place.kind == "sentinel"
    assert place.hosts == (("one", 26379), ("two", 26380), ("::1", 7))
    assert place.service == "my/master"
    given = {name: place.connection[name] for name in ("username", "password", "db", "protocol")}
    assert given == {"username": "shop", "password": "s@cret", "db": 2, "protocol": 2}
    assert (place.sentinel["username"], place.sentinel["password"]) == ("watch", "h/ush")
    assert place.connection["connection_class"] is place.sentinel["connection_class"]
    assert options.mirror is True
    assert "cret" not in repr(place)
    place, _ = read_options("redis+sentinel://:secret@one/shop", asdict(Options()))
    assert not {"username", "password"} & place.sentinel.keys()
    place, _ = read_options("redis+cluster://:secret@one,two:7000", asdict(Options(mirror=False)))
    assert (place.kind, place.hosts) == ("cluster", (("one", 6379), ("two", 7000)))
    assert str(place.hosts[1]) == "two:7000"
    assert place.connection["password"] == "secret"


async def test_a_missing_extra_names_itself(monkeypatch):
    import sys

    for name in [name for name in sys.modules if name.startswith(("redis", "async_jwt.stores.redis"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigurationError, match=r"async-jwt\[redis\]"):
        open_store("redis://localhost", time.time)
    monkeypatch.setitem(sys.modules, "redis.driver_info", None)
    monkeypatch.setitem(sys.modules, "async_jwt.stores.redis", None)
    with pytest.raises(ModuleNotFoundError):
        open_store("redis://localhost", time.time)


async def test_the_password_is_in_no_error():
    with pytest.raises(ConfigurationError) as caught:
        RedisStore("redis://:sec/ret@localhost")
    assert "sec" not in str(caught.value).replace("percent-encoded", "")


async def test_unix_sockets_are_addresses_too():
    assert RedisStore("unix:///run/redis.sock?db=1")


async def test_buckets():
    assert len({bucket_of(str(number)) for number in range(5000)}) == BUCKETS
    sid = new_sid("alice")
    assert bucket_of_sid(sid) == bucket_of("alice")
    assert len(sid) == 24
    assert len(bucket_of_sid("{evil}")) == 2
