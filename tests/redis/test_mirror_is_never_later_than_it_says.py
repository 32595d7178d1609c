"""The mirror: answers without asking, never later than it says, and asks where it cannot know."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import contextvars
import gc
import json
import time
import uuid
import weakref

import pytest
from redis.crc import key_slot

from async_jwt.errors import ConfigurationError, StoreUnavailableError
from async_jwt.signals import store_state_changed
from async_jwt.stores import TokenRef
from async_jwt.stores.contract import bucket_of, bucket_of_sid, new_sid
from async_jwt.stores.redis import RedisStore
from async_jwt.stores.redis.errors import OutageError
from async_jwt.stores.redis.mirror.feed import _listen
from async_jwt.testing import session_contract, store_contract
from tests.harness.fleets import ClusterOfServers
from tests.harness.insides import (
    last_seen_of,
    layout_of,
    mirror_of,
    node_of,
    open_topologies_of,
    snapshot_of,
    topologies_of,
    topology_of,
)
from tests.harness.wire import Wire
from tests.redis.conftest import rotating

pytestmark = pytest.mark.asyncio


@contextlib.asynccontextmanager
async def mirrored(url, **options):
    """A store whose mirror answers."""
    store = RedisStore(url, mirror=True, **{"deadline": 5, "poll": 60, **options})
    await store.start()
    await live(store)
    try:
        yield store
    finally:
        await store.close()


async def live(store, seconds=5.0):
    until = time.monotonic() + seconds
    while store.status().staleness is None:
        assert time.monotonic() < until, "the mirror does not come up"
        await asyncio.sleep(0.005)


async def token(store, name="alice"):
    gen = await store.stamp(name)
    return TokenRef(name, uuid.uuid4().hex, new_sid(name), gen, 0.0, time.time() + 60)


def without_asking(store, ref):
    """What a check says that does not wait for anything; None if it would."""
    check = store.check(ref)
    try:
        check.send(None)
    except StopIteration as done:
        return done.value
    except StoreUnavailableError:
        return None
    check.close()
    return None


async def comes(store, ref, answer, seconds=5.0):
    """Wait until a check says something without asking."""
    until = time.monotonic() + seconds
    while without_asking(store, ref) is not answer:
        assert time.monotonic() < until, "it does not hear of it"
        await asyncio.sleep(0.002)


async def test_a_refusal_says_why_without_asking(redis_server):
    """It neither waits nor counts an outage, whether it heard of the revocation or read it at its start."""
    async with Wire(redis_server.port).open() as wire:
        server = RedisStore(redis_server.url, deadline=5)
        refs = {reason: await token(server, reason) for reason in ("used", "revoked", "signed out", "stale")}
        refs = {reason: ref._replace(type="access") for reason, ref in refs.items()}
        refs["ended"] = (await token(server, "used"))._replace(type="access")
        refs["session"] = (await token(server, "session"))._replace(sid=new_sid("session"))

        async def revoke():
            assert await server.consume_token(refs["used"])
            await server.revoke_token(refs["revoked"])
            await server.revoke_user("signed out")
            await server.expire_access_tokens("stale")
            await server.expire_access_tokens("used")
            await server.revoke_session(refs["session"].sid, None)

        async def reasons(store):
            for ref in refs.values():
                await comes(store, ref, False)
            wire.swallows = True
            said = {name: await asyncio.wait_for(store.refusal_of(ref), 2) for name, ref in refs.items()}
            assert store.status().refused == 0
            wire.heal()
            return said

        expected = dict.fromkeys(refs, "revoked") | {"used": "used", "stale": "stale", "ended": "stale"}
        async with mirrored(wire.url, deadline=30, mirror_lag=20) as heard:
            await revoke()
            assert await reasons(heard) == expected
        async with mirrored(wire.url, deadline=30, mirror_lag=20) as read:
            assert await reasons(read) == expected
            await read.check(await token(server))
        await server.close()


async def test_forged_messages_let_nobody_in(redis_server):
    """Who may publish on the channel names a later generation, and a session that is kept."""
    async with mirrored(redis_server.url, deadline=5) as store:
        server = RedisStore(redis_server.url, deadline=5)
        ref, place = await token(server, "mallory"), bucket_of("mallory")
        await server.revoke_user("mallory")
        await comes(store, ref, False)
        for number in range(200):
            state = redis_server.does("GET", f"async_jwt:{{{place}}}:all").decode().split(" ")
            epoch, generation, at, count, mark, former = state
            forged = f"{10**18} {time.time():.6f} 0 0 {ref.sid}"
            later = " ".join([epoch, generation, at, str(int(count) + 1), f"{mark}x", former])
            message = json.dumps([place, "u", "mallory", "", forged, mark, later])
            redis_server.does("PUBLISH", "async_jwt:feed", message)
            await asyncio.sleep(0.001 * (number % 4))
            assert await store.check(ref) is False
        assert await store.check(await token(server, "mallory"))
        await server.close()


@pytest.mark.parametrize("most", [100_000, 1], ids=["one by one", "filter"])
@pytest.mark.parametrize("where", ["redis_url", "cluster"])
async def test_it_keeps_all_promises(where, most, request, is_long):
    given = request.getfixturevalue(where)
    url = given if where == "redis_url" else given.url
    promises = [*store_contract, *session_contract]
    for promise in promises if is_long else promises[: 12 if where == "redis_url" else 6]:
        async with mirrored(url, prefix=f"{uuid.uuid4().hex}:", deadline=5, mirror_max=most) as store:
            await promise(store)


@pytest.mark.parametrize("where", ["redis_url", "cluster"])
async def test_what_others_revoke_is_heard(where, request):
    given = request.getfixturevalue(where)
    url, prefix = given if where == "redis_url" else given.url, f"{uuid.uuid4().hex}:"
    other = RedisStore(url, prefix=prefix, deadline=5)
    async with mirrored(url, prefix=prefix, deadline=5) as store:
        refs = [await token(store, f"user {number}") for number in range(5)]
        assert [without_asking(store, ref) for ref in refs] == [True] * 5
        await other.revoke_token(refs[0])
        await other.revoke_session(str(refs[1].sid), None)
        await other.revoke_user(refs[2].identity)
        await other.revoke_user(refs[3].identity, keep=refs[3])
        for ref, counts in zip(refs, [False, False, False, True, True], strict=True):
            await comes(store, ref, counts)
        sibling = refs[3]._replace(jti="another", sid=new_sid(refs[3].identity))
        await comes(store, sibling, False)
        await other.revoke_everything()
        for ref in refs:
            await comes(store, ref, False)
        new = await token(other, "user 0")
        await comes(store, new, True)
    await other.close()


@pytest.mark.parametrize("way", ["token", "session", "user", "everything", "limit"])
async def test_what_it_revokes_itself_holds_at_once(shared_server, way):
    shared_server.does("FLUSHALL")
    async with mirrored(shared_server.url, deadline=5) as store:
        app = rotating(store, JWT_MAX_SESSIONS=1)
        for _ in range(30):
            ref = await token(store)
            if way == "limit":
                pair = await app.jwt.create_token_pair("alice")
                ref = ref._replace(sid=pair.sid)
            assert await store.check(ref)
            if way == "token":
                await store.revoke_token(ref)
            elif way == "session":
                await store.revoke_session(str(ref.sid), None)
            elif way == "user":
                await store.revoke_user("alice")
            elif way == "everything":
                await store.revoke_everything()
            else:
                await app.jwt.create_token_pair("alice")
            assert not await store.check(ref)


async def test_a_session_that_another_bucket_keeps(shared_server):
    shared_server.does("FLUSHALL")
    async with mirrored(shared_server.url, deadline=5) as store:
        other = RedisStore(shared_server.url, deadline=5)
        ref = (await token(store))._replace(sid="zz of nobody")
        assert without_asking(store, ref) is True
        await other.revoke_session("zz of nobody", None)
        await comes(store, ref, False)
        await store.revoke_session("of nobody either", None)
        assert await store.check(ref._replace(sid="of nobody either")) is False
        await other.close()


async def test_revocations_of_before_its_time(shared_server):
    """Those that never end, those of users, and those that it draws in more than one step."""
    shared_server.does("FLUSHALL")
    other = RedisStore(shared_server.url, deadline=5)
    refs = [await token(other, f"user {number}") for number in range(30)]
    for ref in refs[:10]:
        await other.revoke_token(ref._replace(expires_at=None))
    for ref in refs[10:20]:
        await other.revoke_user(ref.identity)
    shared_server.does("EVAL", "for n = 1, 3000 do redis.call('SET', 'noise:' .. n, 'x') end", 0)
    async with mirrored(shared_server.url, deadline=5) as store:
        assert [without_asking(store, ref) for ref in refs] == [False] * 20 + [True] * 10
        assert store.status().mirrored == 20
    await other.close()


async def test_a_prefix_of_any_kind(shared_server):
    shared_server.does("FLUSHALL")
    prefix = "a*[b]?^\\c-"
    other = RedisStore(shared_server.url, prefix=prefix, deadline=5)
    ref = await token(other, "bob's ünïcode\n}:jti:")
    await other.revoke_user(ref.identity)
    stranger = RedisStore(shared_server.url, prefix="ab:", deadline=5)
    await stranger.revoke_token(await token(stranger))
    await stranger.close()
    async with mirrored(shared_server.url, prefix=prefix, deadline=5) as store:
        assert without_asking(store, ref) is False
        assert store.status().mirrored == 1
    await other.close()


async def test_it_tells_how_far_it_may_be_behind(shared_server, caplog):
    shared_server.does("FLUSHALL")
    caplog.set_level("INFO", "async_jwt.store")
    told = []

    @store_state_changed.connect
    def tell(store, state, detail):
        told.append(state)

    async with (
        Wire(shared_server.port).open() as wire,
        mirrored(wire.url, mirror_lag=0.4, deadline=1) as store,
    ):
        ref = await token(store)
        assert without_asking(store, ref) is True
        assert told == ["mirror_live"]
        wire.swallows = True
        began = time.monotonic()
        while (status := store.status()).staleness is not None:
            assert status.staleness <= 0.4
            assert without_asking(store, ref) in (True, None)
            await asyncio.sleep(0.01)
        assert time.monotonic() - began < 0.6
        assert without_asking(store, ref) is None
        with pytest.raises(StoreUnavailableError):
            await store.check(ref)
        await asyncio.sleep(0.15)
        wire.heal()
        await live(store)
        await comes(store, ref, True)
        await asyncio.sleep(0.3)
    assert [state for state in told if "mirror" in state] == ["mirror_live", "mirror_late", "mirror_live"]
    assert caplog.text.count("is behind") == 1


async def test_it_does_not_go_on_listening_where_the_server_was_left(shared_server):
    """What has the name may be another server by now."""
    async with mirrored(shared_server.url) as store:
        mirror = mirror_of(store)
        while mirror._connection is None:
            await asyncio.sleep(0.005)
        first = mirror._connection
        await (await topologies_of(store).here()).at("00")._pool.drop()
        assert first.is_left
        until = time.monotonic() + 5
        while mirror._connection in (None, first):
            assert time.monotonic() < until, "it does not listen anew"
            await asyncio.sleep(0.005)
        revoked = await token(store)
        assert await store.check(revoked)
        await store.revoke_token(revoked)
        await comes(store, revoked, answer=False)


async def test_what_was_not_heard_is_read_in_the_feed(shared_server):
    """Whoever listens is cut off, and somebody revokes meanwhile."""
    shared_server.does("FLUSHALL")
    other = RedisStore(shared_server.url, deadline=5)
    async with mirrored(shared_server.url, deadline=5) as store:
        ref = await token(store)
        shared_server.does("CLIENT", "KILL", "TYPE", "pubsub")
        drawn = snapshot_of(store)
        await other.revoke_token(ref)
        await comes(store, ref, False, seconds=1.0)
        assert snapshot_of(store) is drawn
        await asyncio.sleep(0.3)
        again = await token(store)
        await other.revoke_token(again)
        await comes(store, again, False)
    await other.close()


@pytest.mark.parametrize("way", ["trimmed", "gone", "spoilt"])
async def test_a_feed_that_lacks_something_is_not_believed(shared_server, monkeypatch, way):
    shared_server.does("FLUSHALL")
    other = RedisStore(shared_server.url, deadline=5)
    feed = f"async_jwt:{{{bucket_of('alice')}}}:feed"
    async with mirrored(shared_server.url, deadline=5, mirror_lag=0.4) as store:
        refs = [await token(store) for _ in range(3)]
        drawn = snapshot_of(store)
        monkeypatch.setattr(mirror_of(store), "on_message", lambda raw: None)
        for ref in refs[:2]:
            await other.revoke_token(ref)
        if way == "trimmed":
            shared_server.does("XTRIM", feed, "MAXLEN", 1)
        elif way == "gone":
            shared_server.does("DEL", feed)
        else:
            shared_server.does("SET", feed, "somebody else wrote here")
        until = time.monotonic() + 5
        while snapshot_of(store) is drawn:
            assert without_asking(store, refs[1]) in (True, None)
            assert time.monotonic() < until
            await asyncio.sleep(0.002)
            if way == "spoilt":
                shared_server.does("DEL", feed)
        monkeypatch.undo()
        for ref in refs[:2]:
            await comes(store, ref, False)
        await comes(store, refs[2], True)
        await other.revoke_token(refs[2])
        await comes(store, refs[2], False)
    await other.close()


async def test_it_draws_anew_after_a_loss(shared_server):
    shared_server.does("FLUSHALL")
    async with mirrored(shared_server.url, deadline=5, mirror_lag=0.4) as store:
        old = await token(store)
        await store.revoke_user("bob")
        shared_server.does("FLUSHALL")
        until = time.monotonic() + 0.4 + 0.75
        while await store.check(old):
            assert time.monotonic() < until
            await asyncio.sleep(0.01)
        assert store.status().data_losses == 1
        new = await token(store, "bob")
        await comes(store, new, True)


async def test_noise_on_its_channel_changes_nothing(shared_server):
    shared_server.does("FLUSHALL")
    async with mirrored(shared_server.url, deadline=5) as store:
        ref = await token(store)
        value = shared_server.does("GET", f"async_jwt:{{{bucket_of('alice')}}}:all").decode()
        far, other = value.split(" "), value.split(" ")
        far[3], other[0], other[3] = "7", "elsewhere", "1"
        for noise in (
            *("", "nonsense", "[]", "7", "[1,2,3,4,5,6,7]", '["00","j","x","","","0","junk"]'),
            json.dumps([bucket_of("alice"), "j", ref.jti, "soon", "", "0", value]),
            json.dumps(["zz", "j", ref.jti, "", "", "0", value]),
            json.dumps([bucket_of("alice"), "j", ref.jti, "", "", "0", value]),
            json.dumps([bucket_of("alice"), "j", ref.jti, "", "", "0", " ".join(other)]),
            json.dumps([bucket_of("alice"), "j", ref.jti, "", "", "0", " ".join(far)]),
        ):
            shared_server.does("PUBLISH", "async_jwt:feed", noise)
        await asyncio.sleep(0.1)
        assert without_asking(store, ref) is True
        assert len(last_seen_of(store)._buckets) == 256
        # Who knows what to say can have a token refused until the next look, and nothing else.
        far[3] = "1"
        forged = [bucket_of("alice"), "j", ref.jti, "", "", far[4], " ".join(far)]
        shared_server.does("PUBLISH", "async_jwt:feed", json.dumps(forged))
        await comes(store, ref, False)
        await comes(store, ref, True)
        assert store.status().data_losses == 0


async def test_a_generation_that_nobody_can_read_is_asked_for(shared_server):
    shared_server.does("FLUSHALL")
    other = RedisStore(shared_server.url, deadline=5)
    ref = await token(other)
    shared_server.does("SET", f"async_jwt:{{{bucket_of('alice')}}}:user:alice", "junk")
    async with mirrored(shared_server.url, deadline=5) as store:
        assert without_asking(store, ref) is None
        with pytest.raises(StoreUnavailableError):
            await store.check(ref)
    await other.close()


async def test_who_may_not_read_all_asks_for_each(shared_server):
    shared_server.does("FLUSHALL")
    shared_server.does("ACL", "SETUSER", "some", "on", ">secret", "~*", "&*", "+@all", "-scan")
    url = shared_server.url.replace("://", "://some:secret@")
    store = RedisStore(url, mirror=True, mirror_lag=0.1, deadline=5)
    await store.start()
    ref = await token(store)
    await asyncio.sleep(0.3)
    assert store.status().staleness is None
    assert await store.check(ref)
    await store.close()
    shared_server.does("ACL", "SETUSER", "some", "+scan")
    async with mirrored(url, deadline=5) as store:
        assert without_asking(store, ref) is True
    shared_server.does("ACL", "DELUSER", "some")


async def test_who_may_not_open_feeds_has_no_mirror(shared_server):
    shared_server.does("FLUSHALL")
    shared_server.does("ACL", "SETUSER", "some", "on", ">secret", "~*", "&*", "+@all", "-xadd")
    url = shared_server.url.replace("://", "://some:secret@")
    store = RedisStore(url, mirror=True, mirror_lag=0.1, deadline=5)
    await store.start()
    ref = await token(store)
    await asyncio.sleep(0.2)
    shared_server.does("PUBLISH", "async_jwt:feed", "nobody has a snapshot yet")
    await asyncio.sleep(0.1)
    assert store.status().staleness is None
    assert await store.check(ref)
    await store.close()
    shared_server.does("ACL", "DELUSER", "some")


async def test_a_state_that_came_late_is_no_proof(shared_server, monkeypatch):
    """While a look is under way another reply shows a later state: what it found says nothing of now."""
    shared_server.does("FLUSHALL")
    async with mirrored(shared_server.url, deadline=5, mirror_lag=0.4) as store:
        mirror, known = mirror_of(store), last_seen_of(store)
        ref = await token(store)
        name = bucket_of("alice")
        node = node_of(store, name)
        fetch = node.fetch_each

        async def late(keys):
            values = await fetch(keys)
            former = known.before(name).epoch
            known.compare(name, f"later 7 8.0 0 0 {former}".encode(), known.before(name))
            return values

        monkeypatch.setattr(node, "fetch_each", late)
        until = mirror._fresh_until[name]
        await asyncio.sleep(0.3)
        assert mirror._fresh_until[name] <= until
        assert mirror._fresh_until["00" if name != "00" else "01"] > until
        assert without_asking(store, ref) is None
        monkeypatch.undo()


async def test_what_is_not_of_now_is_asked_for(shared_server):
    shared_server.does("FLUSHALL")
    async with mirrored(shared_server.url, deadline=5, mirror_lag=60) as store:
        mirror, ref = mirror_of(store), await token(store)
        name, heard = bucket_of("alice"), snapshot_of(store).heard
        state = heard[name]
        assert without_asking(store, ref) is True
        known = last_seen_of(store)
        raw = known._buckets[name][0]
        for other in (state._replace(revision="of another history"), state._replace(revocations=7)):
            known._buckets[name] = (raw, other)
            assert without_asking(store, ref) is None
        known._buckets[name] = (raw, state)
        assert heard[name] == state
        foreign = ref._replace(sid="zz of nobody")
        assert without_asking(store, foreign) is True
        mirror._fresh_until[bucket_of_sid("zz of nobody")] = float("-inf")
        assert without_asking(store, foreign) is None
        assert without_asking(store, ref) is True


async def test_what_no_node_holds_is_not_looked_at(shared_server, monkeypatch):
    shared_server.does("FLUSHALL")
    async with mirrored(shared_server.url, deadline=5, mirror_lag=0.2) as store:
        lost, kept = await token(store, "alice"), await token(store, "bob")
        node = node_of(store, "00")
        fetch = node.fetch_each

        async def with_a_hole(keys):
            values = await fetch(keys)
            values[keys.index(layout_of(store).bucket(bucket_of("alice")))] = OutageError("no node holds it")
            return values

        monkeypatch.setattr(node, "fetch_each", with_a_hole)
        await asyncio.sleep(0.3)
        assert without_asking(store, kept) is True
        assert mirror_of(store).status(lost) is None
        monkeypatch.undo()


async def test_who_may_not_listen_does_not_try_all_the_time(shared_server):
    shared_server.does("FLUSHALL")
    shared_server.does("ACL", "SETUSER", "some", "on", ">secret", "~*", "&*", "+@all", "-subscribe")
    url, other = (
        shared_server.url.replace("://", "://some:secret@"),
        RedisStore(shared_server.url, deadline=5),
    )
    async with mirrored(url, deadline=5, mirror_lag=0.4) as store:
        mirror, topology = mirror_of(store), topology_of(store)
        assert mirror._listens_after > float("-inf")  # it has tried
        # However long this machine takes to look again.
        after = mirror._listens_after = time.monotonic() + 60
        await mirror._keep_listening(topology, mirror._feeder)
        assert mirror._listens_after == after
        ref = await token(store)
        await other.revoke_token(ref)
        await comes(store, ref, False)  # it is looked for all the same
    shared_server.does("ACL", "DELUSER", "some")
    await other.close()


async def test_feeds_are_renewed(shared_server):
    shared_server.does("FLUSHALL")
    async with mirrored(shared_server.url, deadline=5, mirror_lag=0.2) as store:
        feed = f"async_jwt:{{{bucket_of('alice')}}}:feed"
        shared_server.does("PEXPIRE", feed, 1000)
        mirror_of(store)._renews_at.clear()
        until = time.monotonic() + 5
        while shared_server.does("PTTL", feed) < 60_000:
            assert time.monotonic() < until
            await asyncio.sleep(0.01)


async def test_of_two_loops_one_feeds_it(shared_server, monkeypatch):
    """Both find that nobody does, and one is a moment later; a snapshot of who fed it before is not taken."""
    shared_server.does("FLUSHALL")
    async with mirrored(shared_server.url, deadline=5, mirror_lag=0.2) as store:
        mirror, feeder = mirror_of(store), mirror_of(store)._feeder
        answers = [False]
        monkeypatch.setattr(mirror, "_is_fed", lambda: answers.pop() if answers else True)
        await store.stamp("alice")
        assert mirror._feeder is feeder
        drawn = snapshot_of(store)
        monkeypatch.undo()
        await mirror._rebuild(topology_of(store), object())
        assert snapshot_of(store) is drawn


async def test_who_listens_for_nobody_goes(shared_server):
    shared_server.does("FLUSHALL")
    store = RedisStore(shared_server.url, deadline=5)
    await store.start()
    topology = weakref.ref(topology_of(store))
    await asyncio.wait_for(_listen(lambda: None, topology, None, "async_jwt:feed", 60), 5)
    await store.close()


async def test_servers_that_cannot_be_found_are_no_mistake(shared_server, monkeypatch, caplog):
    shared_server.does("FLUSHALL")

    async def nowhere(*_):
        raise StoreUnavailableError("no node says who holds what")

    store = RedisStore(shared_server.url, mirror=True, mirror_lag=0.1, deadline=5)
    monkeypatch.setattr(mirror_of(store), "_turn", nowhere)
    await store.start()
    await asyncio.sleep(0.1)
    assert "failed" not in caplog.text
    await store.close()


async def test_a_bucket_that_is_gone_as_it_is_drawn(shared_server, monkeypatch):
    shared_server.does("FLUSHALL")
    store = RedisStore(shared_server.url, mirror=True, mirror_lag=0.4, deadline=5)
    mirror = mirror_of(store)
    opened = mirror._open_feeds

    async def gone(*part):
        found = await opened(*part)
        del found[bucket_of("alice")]
        return found

    monkeypatch.setattr(mirror, "_open_feeds", gone)
    await store.start()
    await live(store)
    ref = await token(store)
    assert without_asking(store, ref) is None
    assert await store.check(ref)
    monkeypatch.undo()
    await comes(store, ref, True)
    await store.close()


async def test_who_may_not_tell_may_not_revoke(shared_server):
    """A revocation of which the mirrors would not hear is refused, and not done in silence."""
    shared_server.does("FLUSHALL")
    shared_server.does("ACL", "SETUSER", "some", "on", ">secret", "~*", "&*", "+@all", "-xadd")
    silent = RedisStore(shared_server.url.replace("://", "://some:secret@"), deadline=5)
    async with mirrored(shared_server.url, deadline=5) as store:
        ref = await token(store)
        with pytest.raises(StoreUnavailableError):
            await silent.revoke_token(ref)
    shared_server.does("ACL", "DELUSER", "some")
    await silent.close()


async def test_a_bucket_begun_anew_beside_its_old_feed(shared_server):
    """The feed knows later numbers: it is dropped, and the mirrors read all once more."""
    shared_server.does("FLUSHALL")
    other = RedisStore(shared_server.url, deadline=5)
    feed = f"async_jwt:{{{bucket_of('alice')}}}:feed"
    async with mirrored(shared_server.url, deadline=5, mirror_lag=0.4) as store:
        shared_server.does("XADD", feed, "1000-0", "e", "")
        ref = await token(store)
        await other.revoke_token(ref)
        await comes(store, ref, False)
        again = await token(store)
        await comes(store, again, True)
        await other.revoke_token(again)
        await comes(store, again, False)
    await other.close()


async def test_another_loop_feeds_it_when_the_first_stands_still(shared_server):
    shared_server.does("FLUSHALL")
    store = RedisStore(shared_server.url, mirror=True, mirror_lag=0.2, deadline=5)
    other = RedisStore(shared_server.url, deadline=5)
    loop = asyncio.new_event_loop()

    async def first():
        await store.start()
        await live(store)
        return await token(store)

    ref = await asyncio.to_thread(loop.run_until_complete, first())
    assert without_asking(store, ref) is True
    await asyncio.sleep(0.25)
    assert without_asking(store, ref) is None
    assert await store.check(ref)
    await comes(store, ref, True)
    await other.revoke_token(ref)
    await asyncio.to_thread(loop.run_until_complete, asyncio.sleep(0.1))  # it goes on, and finds another
    await comes(store, ref, False)
    assert not [
        task for task in asyncio.all_tasks(loop) if "_listen" in repr(task) or "_attend" in repr(task)
    ]
    await asyncio.to_thread(loop.run_until_complete, store.close())
    loop.close()
    await store.close()
    await other.close()


async def test_another_process_begins_anew(shared_server, monkeypatch):
    shared_server.does("FLUSHALL")
    async with mirrored(shared_server.url, deadline=5) as store:
        ref = await token(store)
        assert without_asking(store, ref) is True
        parents = list(open_topologies_of(store).values())
        monkeypatch.setattr("os.getpid", lambda: -1)
        await store.stamp("alice")
        assert without_asking(store, ref) is None
        await comes(store, ref, True)
        await store.close()
    for _, lifespan in parents:
        await lifespan.aclose()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_store_that_nobody_holds_lets_its_mirror_go(shared_server):
    """Neither who feeds it nor who listens keeps it, though nobody closed it."""
    shared_server.does("FLUSHALL")
    store = RedisStore(shared_server.url, mirror=True, mirror_lag=0.1, deadline=5)
    await store.start()
    await live(store)
    mirror = weakref.ref(mirror_of(store))
    del store
    for _ in range(50):
        await asyncio.sleep(0.02)
        gc.collect()
        if mirror() is None:
            break
    assert mirror() is None
    await asyncio.sleep(0.25)
    assert not [task for task in asyncio.all_tasks() if "redis/mirror.py" in repr(task)]
    gc.collect()


async def test_what_it_does_belongs_to_no_request(shared_server, monkeypatch):
    """Nothing of the request that happened to be the first is kept for ever."""
    shared_server.does("FLUSHALL")
    variable = contextvars.ContextVar("request")

    store = RedisStore(shared_server.url, mirror=True, mirror_lag=0.1, deadline=5)
    mirror, seen = mirror_of(store), []
    look, hear = mirror._poll, mirror.on_message

    async def looking(*part):
        seen.append(variable.get(None))
        await look(*part)

    def hearing(raw):
        seen.append(variable.get(None))
        hear(raw)

    monkeypatch.setattr(mirror, "_poll", looking)
    monkeypatch.setattr(mirror, "on_message", hearing)
    variable.set("the first one")
    await store.start()
    await live(store)
    await store.revoke_token(await token(store))
    await asyncio.sleep(0.1)
    assert len(seen) > 2
    assert set(seen) == {None}
    await store.close()


async def test_what_it_cannot_foresee_is_said(shared_server, monkeypatch, caplog):
    shared_server.does("FLUSHALL")

    async def fails(*_):
        raise KeyError("secret")

    store = RedisStore(shared_server.url, mirror=True, mirror_lag=0.1, deadline=5)
    monkeypatch.setattr(mirror_of(store), "_read_snapshot", fails)
    await store.start()
    await asyncio.sleep(0.1)
    assert "The revocation mirror failed: KeyError" in caplog.text
    caplog.clear()
    monkeypatch.setattr(mirror_of(store), "_poll", fails)
    await asyncio.sleep(0.1)
    assert "The revocation mirror failed: KeyError" in caplog.text
    assert "secret" not in caplog.text
    assert await store.check(await token(store))
    await store.close()


async def test_a_connection_that_went_silent_is_replaced(shared_server):
    """Nothing comes any more, though nothing broke; looking still finds it, and listening begins anew."""
    shared_server.does("FLUSHALL")
    other = RedisStore(shared_server.url, deadline=5)
    async with Wire(shared_server.port).open() as wire, mirrored(wire.url, mirror_lag=0.2) as store:
        mirror = mirror_of(store)
        while mirror._connection is None:
            await asyncio.sleep(0.005)
        talk = mirror._connection
        wire.mutes = True
        ref = await token(store)
        await other.revoke_token(ref)
        await comes(store, ref, False)
        until = time.monotonic() + 5
        while mirror._connection in (talk, None):
            assert time.monotonic() < until
            await asyncio.sleep(0.01)
    await other.close()


async def test_users_of_other_nodes_are_answered_while_one_is_down(tmp_path):
    fleet = ClusterOfServers(tmp_path, "--save", "", "--cluster-require-full-coverage", "no", replicas=False)
    try:
        async with mirrored(fleet.url, mirror_lag=0.4) as store:
            refs = [await token(store, f"user {number}") for number in range(40)]
            dying = fleet.masters[0]
            here = [ref for ref in refs if fleet.owner(key_slot(bucket_of(ref.identity).encode())) is dying]
            there = [ref for ref in refs if ref not in here]
            dying.stop()
            await asyncio.sleep(1.0)
            assert here
            assert [without_asking(store, ref) for ref in there] == [True] * len(there)
            assert [without_asking(store, ref) for ref in here] == [None] * len(here)
            await store.revoke_token(there[0])
            await comes(store, there[0], False)
            late = RedisStore(
                fleet.url, mirror=True, mirror_lag=0.4, deadline=5, poll=60
            )  # and one that has just begun
            with pytest.raises(StoreUnavailableError):
                await late.start()
            assert await late.check(there[1])
            await comes(late, there[0], False)
            await comes(late, there[1], True)
            with pytest.raises(StoreUnavailableError):
                await late.check(here[0])
            with pytest.raises(StoreUnavailableError):
                await late.revoke_everything()
            assert not late.status().available
            await late.close()
    finally:
        fleet.stop()


async def test_it_reads_nothing_while_keys_are_on_their_way(cluster):
    """One that moved from a node yet to be read to one read already would be missed."""
    prefix, slot = f"{uuid.uuid4().hex}:", key_slot(bucket_of("alice").encode())
    other = RedisStore(cluster.url, prefix=prefix, deadline=5)
    ref = await token(other)
    await other.revoke_token(ref)
    source = cluster.owner(slot)
    target = next(server for server in cluster.masters if server is not source)
    cluster.open_slot(slot, source, target)
    store = RedisStore(cluster.url, prefix=prefix, mirror=True, mirror_lag=0.2, deadline=5)
    await store.start()
    await asyncio.sleep(0.3)
    assert store.status().staleness is None
    assert await store.check(ref) is False
    while cluster.move_keys(slot, source, target):
        pass
    cluster.close_slot(slot, target)
    await live(store)
    await comes(store, ref, False)
    for each in (store, other):
        await each.close()


async def test_keys_that_moved_while_they_were_read(cluster, monkeypatch):
    prefix, slot = f"{uuid.uuid4().hex}:", key_slot(bucket_of("bob").encode())
    store = RedisStore(cluster.url, prefix=prefix, mirror=True, mirror_lag=0.2, deadline=5)
    await store.start()
    mirror = mirror_of(store)
    read_all, reads = mirror._read_all, []

    async def moved(node, snapshot):
        await read_all(node, snapshot)
        reads.append(node)
        if len(reads) == 1:
            source = cluster.owner(slot)
            target = next(server for server in cluster.masters if server is not source)
            cluster.open_slot(slot, source, target)
            while cluster.move_keys(slot, source, target):
                pass
            cluster.close_slot(slot, target)

    await live(store)
    ref = await token(store, "bob")
    monkeypatch.setattr(mirror, "_read_all", moved)
    drawn = snapshot_of(store)
    del drawn.heard["00"]
    until = time.monotonic() + 10
    while snapshot_of(store) is drawn:
        assert time.monotonic() < until
        await asyncio.sleep(0.01)
    assert len(reads) == 6
    await comes(store, ref, True)
    await store.close()


async def test_its_package_is_asked_for_at_the_start(monkeypatch):
    imports = builtins.__import__

    def without(name, *rest):
        if name == "async_jwt.stores.redis.mirror.feed":
            raise ImportError(name)
        return imports(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigurationError, match="async-jwt\\[mirror\\]"):
        RedisStore(mirror=True)


async def test_what_the_servers_lose_while_it_is_drawn(shared_server, monkeypatch):
    """The snapshot of before denies; the one that is being drawn knows nothing, and is not believed."""
    shared_server.does("FLUSHALL")
    async with mirrored(shared_server.url, deadline=5, mirror_lag=2) as store:
        mirror = mirror_of(store)
        ref = await token(store)
        await store.revoke_token(ref)
        read_all = mirror._read_all

        async def flushed(node, snapshot):
            shared_server.does("FLUSHALL")
            await read_all(node, snapshot)

        monkeypatch.setattr(mirror, "_read_all", flushed)
        mirror._draws_after = float("-inf")
        drawn = snapshot_of(store)
        del drawn.heard["00" if bucket_of("alice") != "00" else "01"]
        mirror._wake.set()
        until = time.monotonic() + 5
        while snapshot_of(store) is drawn:
            assert time.monotonic() < until
            assert await store.check(ref) is False
            await asyncio.sleep(0.001)
        monkeypatch.undo()
        for _ in range(100):
            assert await store.check(ref) is False
            await asyncio.sleep(0.005)


async def test_a_history_that_was_begun_again_is_another_one(make_server):
    """An older state comes back, goes on, and passes the count that was heard."""
    server = make_server("--save", "", "--appendonly", "no")
    async with mirrored(server.url, deadline=5, on_data_loss="accept", mirror_lag=0.4) as store:
        refs = [await token(store) for _ in range(8)]
        server.does("SAVE")
        other = RedisStore(server.url, deadline=5, on_data_loss="accept")
        for ref in refs[:3]:
            await other.revoke_token(ref)
            await comes(store, ref, False)
        server.stop()
        server.start()
        for ref in refs[3:7]:
            while True:
                with contextlib.suppress(StoreUnavailableError):
                    await other.revoke_token(ref)
                    break
                await asyncio.sleep(0.01)
        for ref in refs[3:7]:
            await comes(store, ref, False)
        await comes(store, refs[7], True)
        await other.close()


async def test_what_was_heard_and_lost_hides_nothing_of_its_own(shared_server):
    """A failover loses what was only told; what it revokes then has a number that was told before."""
    shared_server.does("FLUSHALL")
    async with mirrored(shared_server.url, deadline=5, mirror_lag=60) as store:
        refs = [await token(store) for _ in range(3)]
        name = bucket_of("alice")
        epoch, generation, at, count, mark, former = (
            shared_server.does("GET", f"async_jwt:{{{name}}}:all").decode().split(" ")
        )
        for number in range(3):  # of a primary that is gone
            state = " ".join([epoch, generation, at, str(int(count) + number + 1), f"9{number}", former])
            told = [name, "j", f"lost {number}", "", "", f"9{number - 1}" if number else mark, state]
            shared_server.does("PUBLISH", "async_jwt:feed", json.dumps(told))
        until = time.monotonic() + 5
        while snapshot_of(store).heard[name].revocations != int(count) + 3:
            assert time.monotonic() < until
            await asyncio.sleep(0.002)
        for ref in refs:
            await store.revoke_token(ref)
            assert await store.check(ref) is False


async def test_who_may_not_speak_on_the_channel_makes_no_loss(shared_server):
    """What was counted stands before it is told: whoever mirrors it lacks something, and reads anew."""
    shared_server.does("FLUSHALL")
    shared_server.does("ACL", "SETUSER", "some", "on", ">secret", "~*", "resetchannels", "+@all")
    mute = RedisStore(shared_server.url.replace("://", "://some:secret@"), deadline=5)
    async with mirrored(shared_server.url, deadline=5, mirror_lag=0.4) as store:
        refs = [await token(store) for _ in range(3)]
        for ref in refs[:2]:
            with pytest.raises(StoreUnavailableError):
                await mute.revoke_token(ref)
        await asyncio.sleep(0.6)
        assert [await store.check(ref) for ref in refs] == [False, False, True]
        assert store.status().data_losses == 0
    shared_server.does("ACL", "DELUSER", "some")
    await mute.close()


async def test_a_mirror_looks_at_the_server_as_others_do(make_server):
    """No check asks; what shows in no reply is found all the same."""
    server = make_server()
    async with mirrored(server.url, deadline=5, poll=0.1) as store:
        ref = await token(store)
        used = server.does("INFO", "memory")["used_memory"]
        server.does("CONFIG", "SET", "maxmemory", used + 200_000, "maxmemory-policy", "volatile-random")
        for number in range(60):
            server.does("SET", f"junk {number}", "x" * 10_000, "EX", "1000")
        server.does("CONFIG", "SET", "maxmemory", "0")
        until = time.monotonic() + 5
        while await store.check(ref):
            assert time.monotonic() < until
            await asyncio.sleep(0.01)
        assert store.status().data_losses == 1


async def test_keys_that_are_no_text(shared_server):
    shared_server.does("FLUSHALL")
    shared_server.does("SET", b"async_jwt:{00}:jti:\xff\xfe", "1")
    shared_server.does("SET", b"async_jwt:{00}:user:\xff\xfe", b"\xff")
    async with mirrored(shared_server.url, deadline=5) as store:
        assert without_asking(store, await token(store)) is True


async def test_all_is_not_read_anew_for_what_is_only_new(shared_server):
    """Revocations come in all the time, and what becomes known during a look is nothing that is missing."""
    shared_server.does("FLUSHALL")
    other = RedisStore(shared_server.url, deadline=5)
    async with mirrored(shared_server.url, deadline=5, mirror_lag=0.2) as store:
        drawn = snapshot_of(store)
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            names = [f"user {uuid.uuid4().hex}" for _ in range(8)]
            both = (store, other) * 4
            await asyncio.gather(*(each.revoke_user(name) for each, name in zip(both, names, strict=True)))
        assert snapshot_of(store) is drawn
    await other.close()


async def test_a_filter_that_is_overfull_is_made_anew(shared_server):
    shared_server.does("FLUSHALL")
    other = RedisStore(shared_server.url, deadline=5)
    refs = [await token(other, f"user {number}") for number in range(60)]
    for ref in refs[:20]:
        await other.revoke_token(ref)
    async with mirrored(shared_server.url, deadline=5, mirror_max=10, mirror_lag=0.2) as store:
        drawn = snapshot_of(store)
        for ref in refs[20:50]:
            await other.revoke_token(ref)
        until = time.monotonic() + 5
        while snapshot_of(store) is drawn:
            assert time.monotonic() < until
            await asyncio.sleep(0.01)
        assert not snapshot_of(store).is_overfull
        assert [await store.check(ref) for ref in refs] == [False] * 50 + [True] * 10
    await other.close()


async def test_what_is_told_before_anything_was_drawn_is_read_with_the_rest(shared_server):
    async with mirrored(shared_server.url) as other:
        store = RedisStore(shared_server.url, mirror=True, deadline=5)
        revoked = await token(other)
        mirror_of(store).on_message(b"what nobody could place yet")
        await other.revoke_token(revoked)
        await store.start()
        await live(store)
        assert without_asking(store, revoked) is False
        await store.close()
