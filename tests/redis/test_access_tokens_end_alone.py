"""Access tokens that end alone, on Redis: one trip, and counted. Values of former code are read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections import Counter

import pytest
import redis.asyncio

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores import Session, TokenRef
from async_jwt.stores.contract import bucket_of, new_sid
from async_jwt.stores.redis import RedisStore
from async_jwt.stores.redis.mirror.snapshot import Snapshot
from async_jwt.stores.redis.schema import Bucket, TokenStatus, User, digest_of
from tests.harness.crowd import answered, comes
from tests.harness.wire import Wire

pytestmark = pytest.mark.asyncio


async def token(store, name="alice", kind="access", **more):
    gen = await store.stamp(name)
    values = {"jti": uuid.uuid4().hex, "sid": None, **more}
    return TokenRef(name, gen=gen, issued_at=time.time(), expires_at=time.time() + 600, type=kind, **values)


async def test_one_trip_and_nothing_more_for_a_check(shared_server):
    shared_server.does("FLUSHALL")
    async with Wire(shared_server.port).open() as wire:
        store = RedisStore(wire.url, deadline=5, poll=60)
        refs = [await token(store), await token(store, kind="refresh"), await token(store, kind="reset")]
        await store.expire_access_tokens("bob")

        async def asked(action):
            wire.commands.clear()
            await action
            return Counter(wire.commands)

        assert await asked(store.expire_access_tokens("alice")) == {b"EVALSHA": 1}
        for ref in refs:
            assert await asked(store.check(ref)) == {b"MGET": 1}
        assert await asked(store.refusal_of(refs[0])) == {}, "the reason is known from the check"
        await store.close()


# -- what the code before this kept -----------------------------------------------------------------

EPOCH = "abcdefgh"
SID = new_sid("alice")


def former(identity, value):
    """Keys as the former code wrote them: a bucket, and a user of five fields."""
    name = bucket_of(identity)
    return {
        f"{{{name}}}:all": f"{EPOCH} 0 -1 3 1700000000000000 ",
        f"{{{name}}}:user:{identity}": value,
    }


SAMPLES = {
    "signed out": ("1700000000000000 1700000000.000001 0 0 ", False, False),
    "kept a session": (f"1700000000000000 1700000000.000001 5 -1.000000 {SID}", True, False),
    "kept a token with spaces": ("1700000000000000 1700000000.000001 0 -1.000000 a b\nc", False, True),
}


@pytest.mark.parametrize("sample", SAMPLES)
async def test_users_of_former_code_are_read(redis_url, sample):
    value, keeps_session, keeps_token = SAMPLES[sample]
    prefix = f"test-{uuid.uuid4().hex}:"
    client = redis.asyncio.Redis.from_url(redis_url)
    store = RedisStore(redis_url, prefix=prefix, deadline=5)
    await store.start()
    for number in range(256):
        await client.set(f"{prefix}{{{number:02x}}}:all", f"{EPOCH} 0 -1 3 1700000000000000 ")
    for key, text in former("alice", value).items():
        await client.set(prefix + key, text)
    await store.close()
    store = RedisStore(redis_url, prefix=prefix, deadline=5)
    now = time.time()
    old = TokenRef("alice", "a b\nc", SID, f"{EPOCH}.0.7", now, now + 600)
    before = TokenRef("alice", "other", None, f"{EPOCH}.0.7", now, now + 600)
    current = before._replace(gen=f"{EPOCH}.0.1700000000000000")
    kept = keeps_session or keeps_token
    access, refresh = old._replace(type="access"), old._replace(type="refresh")
    for kind in ("", "access", "refresh", "reset"):
        assert await store.check(old._replace(type=kind)) is kept
        assert not await store.check(before._replace(type=kind))
        assert await store.check(current._replace(type=kind))
    assert (await store.stamp("alice")) == f"{EPOCH}.0.1700000000000000"
    # From here on by this code: what was kept is kept, and what was dead is dead.
    await store.expire_access_tokens("alice")
    assert not await store.check(access)
    assert await store.refusal_of(access) == ("stale" if kept else "revoked")
    assert await store.check(refresh) is kept
    assert not await store.check(before._replace(type="refresh"))
    assert await store.check(current._replace(type="refresh"))
    assert await store.check(await token(store))
    assert store.status().data_losses == 0
    await client.aclose()
    await store.close()


async def test_sessions_of_former_code_go_on(redis_url):
    prefix = f"test-{uuid.uuid4().hex}:"
    client = redis.asyncio.Redis.from_url(redis_url)
    store = RedisStore(redis_url, prefix=prefix, deadline=5)
    stamp, now = await store.stamp("alice"), time.time()
    held = {
        "identity": "alice",
        "device": "Firefox",
        "created_at": now,
        "last_used_at": now,
        "expires_at": now + 600,
        "ends_at": now + 600,
        "stamp": stamp,
        "refresh_jti": "first",
        "previous_jti": None,
        "extras": "",
        "late_streak": 0,
        "repeated_late": False,
    }
    name = bucket_of("alice")
    head = f"{digest_of('alice')} {digest_of('first')},{digest_of('')} 1700000000000000"
    await client.set(f"{prefix}{{{name}}}:session:{SID}", f"{head} {json.dumps(held)}")
    await client.zadd(f"{prefix}{{{name}}}:sessions:{digest_of('alice')}", {SID: now})
    ref = TokenRef("alice", "first", SID, stamp, now, now + 600, type="refresh")
    assert await store.get_session(SID) == Session(SID, **held)
    await store.expire_access_tokens("alice")
    assert not await store.check(ref._replace(jti="its access token", type="access"))
    seen = await store.load_session(ref)
    assert seen.valid
    step = Session(SID, **{**held, "refresh_jti": "second", "previous_jti": "first", "stamp": seen.stamp})
    assert await store.replace_session(step, seen) == ()
    page, _ = await store.list_sessions("alice", 10, None)
    assert list(page) == [step]
    assert step.counts, "sessions of former code count"
    new = Session(new_sid("alice"), "alice", None, now, now + 1, None, None, seen.stamp, "another")
    seen = await store.load_session(TokenRef("alice", None, new.sid, None, 0.0, None))
    assert await store.replace_session(new, seen, limit=1) == (SID,)
    await client.aclose()
    await store.close()


# -- mirrors -------------------------------------------------------------------


async def test_a_mirror_elsewhere_hears_of_it(redis_url):
    url = f"{redis_url}?prefix=test-{uuid.uuid4().hex}:&deadline=5"
    here, there = RedisStore(url), RedisStore(url, mirror=True)
    await there.stamp("alice")
    await comes(lambda: there.status().staleness is not None, "the mirror does not begin")
    for _ in range(3):
        access, refresh = await token(here), await token(here, kind="refresh")
        await here.expire_access_tokens("alice")
        until = time.monotonic() + 30
        while await there.check(access):
            assert time.monotonic() < until
            await asyncio.sleep(0.01)
        assert await there.check(refresh)
        assert await there.check(await token(here))
        assert await there.refusal_of(access) == "stale"
    late = RedisStore(url, mirror=True)  # which reads all of it
    await late.stamp("alice")
    await comes(lambda: late.status().staleness is not None, "the mirror does not begin")
    assert not await late.check(access)
    assert await late.check(refresh)
    for store in (here, there, late):
        assert store.status().data_losses == 0
        await store.close()


async def test_a_snapshot_knows_the_later_of_two_values_of_a_user():
    snapshot = Snapshot(10, 0)
    bucket = Bucket("epoch", 0, -1.0, 1, "1", ())
    ref = TokenRef("alice", "j", None, "epoch.0.5", 0.0, None, type="access")
    snapshot.add("ualice", "5 1.0 0 0 ", 0.0)
    assert snapshot.status(ref, "ab", bucket) is TokenStatus.VALID
    snapshot.add("ualice", "9 +2.0 0 0 \n5 1.0 9 2.0 ab:7:1.5", 0.0)
    snapshot.add("ualice", "5 1.0 0 0 ", 0.0)
    assert snapshot.status(ref, "ab", bucket) is TokenStatus.STALE
    assert snapshot.status(ref._replace(type="refresh"), "ab", bucket) is TokenStatus.VALID
    assert snapshot.status(ref._replace(gen="epoch.0.10"), "ab", bucket) is None, "the server must be asked"
    assert User.read("9 +2.0 0 0 \n5 1.0 9 2.0 ab:7:1.5").partial.purposes == {"ab": (7, 1.5)}


# -- faults -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["command", "reply"])
async def test_a_call_that_failed_may_be_repeated(shared_server, lost):
    """After a 503 it may be done or not; whoever asks again has it done, and nothing else is lost."""
    shared_server.does("FLUSHALL")
    async with Wire(shared_server.port).open() as wire:
        store = RedisStore(wire.url, deadline=5, poll=60)
        access, refresh = await token(store), await token(store, kind="refresh")
        await store.expire_access_tokens("bob")
        if lost == "reply":
            wire.spoils = lambda reply: (b"", True)
        else:
            wire.loses = lambda: True
        with pytest.raises(StoreUnavailableError):
            await store.expire_access_tokens("alice")
        wire.heal()
        await comes(lambda: store.status().available, "it does not come back")
        assert await answered(lambda: store.check(access)) is (lost == "command")
        await answered(lambda: store.expire_access_tokens("alice"))
        assert not await store.check(access)
        assert await store.check(refresh)
        assert store.status().data_losses == 0
        await store.close()


async def test_connections_that_break_lose_nothing_and_revive_nothing(shared_server):
    """What was answered as done holds, for a process that never saw it; and refresh tokens go on."""
    shared_server.does("FLUSHALL")
    async with Wire(shared_server.port).open() as wire:
        store = RedisStore(wire.url, deadline=5, poll=60)
        names = [f"user {number}" for number in range(60)]
        access = [await token(store, name) for name in names]
        refresh = [await token(store, name, "refresh") for name in names]
        done = Counter()

        async def end(name):
            with contextlib.suppress(StoreUnavailableError):
                await store.expire_access_tokens(name)
                done[name] += 1

        async def break_it():
            while True:
                wire.drop()
                await asyncio.sleep(0.002)

        breaking = asyncio.ensure_future(break_it())
        for start in range(0, 60, 6):
            await asyncio.gather(*(end(name) for name in names[start : start + 6] * 2))
            await asyncio.sleep(0.05)
        breaking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await breaking
        other = RedisStore(shared_server.url, deadline=5)
        for name, one, two in zip(names, access, refresh, strict=True):
            assert not (done[name] and await other.check(one)), name
            assert await other.check(two)
        assert other.status().data_losses == 0
        for each in (store, other):
            await each.close()


async def test_an_older_state_that_comes_back_is_noticed(make_server):
    """It counts as a revocation: a server that forgot one ends all tokens made until then."""
    server = make_server("--save", "")
    store = RedisStore(server.url, deadline=5)
    access, refresh = await token(store), await token(store, kind="refresh")
    server.does("SAVE")
    await store.expire_access_tokens("alice")
    server.stop()
    server.start()
    await comes(lambda: store.status().available, "it does not come back")
    assert not await answered(lambda: store.check(access))
    assert not await store.check(refresh)
    assert store.status().data_losses == 1
    await store.close()


async def test_what_another_program_wrote_revives_nothing(redis_url):
    """A user whose value cannot be read ends whole: nobody knows what had been revoked."""
    prefix = f"test-{uuid.uuid4().hex}:"
    store = RedisStore(redis_url, prefix=prefix, deadline=5)
    refs = [await token(store, kind=kind) for kind in ("access", "refresh", "reset")]
    client = redis.asyncio.Redis.from_url(redis_url)
    for junk in ("junk", "7", "7 x"):
        await client.set(f"{prefix}{{{bucket_of('alice')}}}:user:alice", junk)
        await store.expire_access_tokens("alice")
        for ref in refs:
            assert not await store.check(ref)
    assert await store.check(await token(store))
    await client.aclose()
    await store.close()
