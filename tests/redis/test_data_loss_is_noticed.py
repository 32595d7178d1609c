"""The server loses what it knew. `on_data_loss` says what becomes of the tokens made until then."""

from __future__ import annotations

import asyncio
import shutil
import time
import uuid

import jwt as pyjwt
import pytest

from async_jwt import Key, KeyRing
from async_jwt.signals import store_state_changed
from async_jwt.stores import TokenRef
from async_jwt.stores.contract import bucket_of
from async_jwt.stores.redis import RedisStore
from tests.harness import SECRET
from tests.harness.applications import QuartHarness

pytestmark = pytest.mark.asyncio


async def test_tokens_of_another_service_tell_nothing_of_our_store(shared_server, make_server):
    """Both are ours by make: a partner's stamp names the partner's store, and no loss of this one."""
    theirs = Key.generate("ES256")
    partner = QuartHarness(keys=KeyRing(theirs), store=RedisStore(make_server().url, deadline=5))
    public = Key(pyjwt.PyJWK(theirs.public_jwk()).key, "ES256", kid=theirs.kid)
    ring = KeyRing(Key.generate("ES256"), load=lambda: [public])
    store = RedisStore(shared_server.url, deadline=5)
    app = QuartHarness(keys=ring, store=store)
    mine, shown = await app.mint("alice"), await partner.mint("bob")
    for token in (mine, shown, mine):
        assert (await app.call(token=token)).status == 200
    assert store.status().data_losses == 0
    await app.jwt.revoke_user("bob")
    assert (await app.call(token=shown)).status == 401  # it goes by its time, as others' tokens do
    await store.close()
    await partner.jwt.store.close()


class Fleet:
    """Two processes on one server, as far as the server can tell."""

    def __init__(self, server, **options):
        self.server = server
        self.stores = [RedisStore(server.url, deadline=5, **options) for _ in range(2)]
        self.apps = [QuartHarness({"JWT_REQUIRE_TYPE": False}, store=store) for store in self.stores]

    async def settle(self):
        one, two = self.apps
        for app in self.apps:
            await app.jwt.start()
        self.good = await one.mint("good")
        self.token, self.user, self.session = await one.mint("x"), await two.mint("y"), None
        self.pair = await two.jwt.create_token_pair("z")
        self.foreign = foreign("good")
        self.foreign_revoked = foreign("w")
        await one.jwt.revoke_token(self.token)
        await two.jwt.revoke_user("y")
        await one.jwt.store.revoke_session(self.pair.sid, None)
        await two.jwt.revoke_user("w")
        await self.epochs()
        return self

    def revoked(self):
        return [self.token, self.user, self.pair.access_token, self.foreign_revoked]

    async def statuses(self, *tokens):
        return [(await app.call(token=token)).status for app in self.apps for token in tokens]

    async def epochs(self):
        return {(await store.stamp("good")).partition(".")[0] for store in self.stores}

    async def close(self):
        for store in self.stores:
            await store.close()


def foreign(name):
    """A token of another issuer: without a stamp."""
    return pyjwt.encode(
        {"sub": name, "jti": uuid.uuid4().hex, "iat": int(time.time()) - 30, "exp": int(time.time()) + 60},
        SECRET,
        algorithm="HS256",
    )


def flushed(fleet):
    fleet.server.does("FLUSHALL")


def restarted_without_persistence(fleet):
    fleet.server.stop()
    fleet.server.start()


def bucket_gone(fleet):
    fleet.server.does("DEL", f"async_jwt:{{{bucket_of('good')}}}:all")


def bucket_of_another_type(fleet):
    bucket_gone(fleet)
    fleet.server.does("LPUSH", f"async_jwt:{{{bucket_of('good')}}}:all", "x")


def an_empty_server_in_its_place(fleet):
    """Which somebody else has begun to use: the same keys, another epoch."""
    flushed(fleet)
    asyncio.run(_begin_anew(fleet.server.url))


async def _begin_anew(url):
    store = RedisStore(url, deadline=5)
    await store.stamp("somebody")
    await store.close()


LOSSES = [
    flushed,
    restarted_without_persistence,
    bucket_gone,
    bucket_of_another_type,
    an_empty_server_in_its_place,
]


@pytest.mark.parametrize("loss", LOSSES)
async def test_denied(redis_server, loss, caplog, record_property):
    fleet = await Fleet(redis_server).settle()
    told = []

    @store_state_changed.connect
    def listen(store, state, detail):
        told.append(state)

    await asyncio.to_thread(loss, fleet)
    old = [*fleet.revoked(), fleet.good, fleet.foreign]
    started = time.perf_counter()
    assert (await fleet.apps[0].call(token=fleet.good)).status == 401
    record_property(
        "loss", {"name": loss.__name__.replace("_", " "), "noticed": time.perf_counter() - started}
    )
    assert await fleet.statuses(*old) == [401] * 12
    new = await fleet.apps[1].mint("good")
    assert await fleet.statuses(new) == [200, 200]
    assert await fleet.statuses(*old) == [401] * 12
    assert await fleet.statuses(new) == [200, 200], "it was dealt with once"
    assert len(await fleet.epochs()) == 1
    assert caplog.text.count("lost data") == told.count("data_lost") == 1
    assert sum(store.status().data_losses for store in fleet.stores) == 1
    await fleet.apps[0].jwt.revoke_user("good")
    assert await fleet.statuses(new) == [401, 401]
    await fleet.close()


@pytest.mark.parametrize("loss", LOSSES)
async def test_accepted(redis_server, loss, caplog):
    fleet = await Fleet(redis_server, on_data_loss="accept").settle()
    await asyncio.to_thread(loss, fleet)
    assert await fleet.statuses(fleet.good, fleet.foreign) == [200] * 4
    assert await fleet.statuses(fleet.good, fleet.foreign) == [200] * 4
    assert 1 <= caplog.text.count("lost data") <= 4
    said = caplog.text.count("lost data")
    new = await fleet.apps[1].mint("good")
    assert await fleet.statuses(new, fleet.good) == [200] * 4
    assert caplog.text.count("lost data") == said, "it was said once"
    await fleet.apps[0].jwt.revoke_user("good")
    assert await fleet.statuses(new, fleet.good, fleet.foreign) == [401] * 6
    await fleet.close()


@pytest.mark.parametrize("restarted", [False, True], ids=["same processes", "new processes"])
async def test_an_older_state_comes_back(make_server, restarted):
    """As with a snapshot that was restored, or a replica that was promoted too early."""
    server = make_server("--save", "")
    fleet = await Fleet(server).settle()
    server.does("SAVE")
    shutil.copy(server.folder / "dump.rdb", server.folder / "older.rdb")
    late = await fleet.apps[0].mint("late")
    await fleet.apps[0].jwt.revoke_user("late")
    later = await fleet.apps[0].mint("late")
    await fleet.apps[0].jwt.revoke_token(later)
    unknown = await fleet.apps[0].mint("late")
    server.stop()
    shutil.copy(server.folder / "older.rdb", server.folder / "dump.rdb")
    server.start()
    if restarted:
        await fleet.close()
        fleet.stores = [RedisStore(server.url, deadline=5) for _ in range(2)]
        fleet.apps = [QuartHarness({"JWT_REQUIRE_TYPE": False}, store=store) for store in fleet.stores]
        # Nobody knows that it went back, until somebody shows a token of later than that.
        assert await fleet.statuses(unknown) == [401, 401]
    assert await fleet.statuses(late, later, unknown, *fleet.revoked(), fleet.good) == [401] * 16
    new = await fleet.apps[0].mint("late")
    assert await fleet.statuses(new) == [200, 200]
    await fleet.close()


async def test_an_older_state_that_is_accepted(make_server, caplog):
    server = make_server("--save", "")
    fleet = await Fleet(server, on_data_loss="accept").settle()
    server.does("SAVE")
    shutil.copy(server.folder / "dump.rdb", server.folder / "older.rdb")
    await fleet.apps[0].jwt.revoke_user("late")
    ahead = await fleet.apps[0].mint("late")
    server.stop()
    shutil.copy(server.folder / "older.rdb", server.folder / "dump.rdb")
    server.start()
    assert await fleet.statuses(ahead, fleet.good) == [200] * 4
    assert await fleet.statuses(*fleet.revoked()) == [401] * 8
    assert "lost data" in caplog.text
    await fleet.close()


async def test_tokens_of_a_state_that_nobody_remembers(redis_server, caplog):
    """New processes on a new server: the first token of before tells."""
    fleet = await Fleet(redis_server).settle()
    await fleet.close()
    flushed(fleet)
    fleet = Fleet(redis_server)
    fleet_two = await Fleet(redis_server).settle()
    await fleet_two.close()
    fleet.stores, fleet.apps = fleet_two.stores, fleet_two.apps
    store = fleet.stores[0]
    now = time.time()
    before = TokenRef("q", "j", None, "gone.0.0", now, now + 60)
    without = TokenRef("q", "j", None, None, now - 30, now + 60)
    new = before._replace(gen=await store.stamp("q"))
    assert await store.check(new)
    assert await store.check(without)
    assert not await store.check(before)
    # It may have been revoked in the state that is gone, and so may whatever has no stamp.
    assert not await store.check(without)
    assert not await store.check(new)
    newest = before._replace(gen=await store.stamp("q"))
    for _ in range(3):
        assert not await store.check(before)
        assert await store.check(newest)
    assert caplog.text.count("lost data") == 1
    # A stamp of the memory store was never known to any server.
    assert not await store.check(before._replace(gen="m.0.0"))
    assert await store.check(newest)
    await fleet.close()


@pytest.mark.parametrize("on_data_loss", ["deny", "accept"])
async def test_evicted_keys(redis_server, on_data_loss, caplog):
    """No reply shows them: the server is asked now and then."""
    fleet = await Fleet(redis_server, on_data_loss=on_data_loss, poll=0.05).settle()
    used = redis_server.does("INFO", "memory")["used_memory"]
    redis_server.does(
        "CONFIG", "SET", "maxmemory", str(used + 200_000), "maxmemory-policy", "volatile-random"
    )
    for number in range(100):
        redis_server.does("SET", f"junk {number}", "x" * 10_000, "EX", "1000")
    assert redis_server.does("INFO", "stats")["evicted_keys"] > 0
    redis_server.does("CONFIG", "SET", "maxmemory", "0")
    for _ in range(200):
        await fleet.statuses(fleet.good)
        if "make room" in caplog.text:
            break
        await asyncio.sleep(0.01)
    assert "dropped" in caplog.text
    assert (await fleet.statuses(fleet.good)) == ([401, 401] if on_data_loss == "deny" else [200, 200])
    new = await fleet.apps[0].mint("good")
    await asyncio.sleep(0.2)
    assert await fleet.statuses(new) == [200, 200], "once for the whole fleet"
    await fleet.close()


async def test_without_rights_nothing_is_founded(redis_server):
    redis_server.does("REPLICAOF", "127.0.0.1", "1")
    store = RedisStore(redis_server.url, deadline=5)
    with pytest.raises(Exception, match="refused: ReadOnly"):
        await store.stamp("alice")
    redis_server.does("REPLICAOF", "NO", "ONE")
    assert await store.stamp("alice")
    await store.close()
