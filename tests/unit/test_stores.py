"""The store contract, on both stores; and what is each one's own."""

from __future__ import annotations

import asyncio
import os
import time
import uuid

import pytest

from async_jwt.binding import open_store
from async_jwt.errors import ConfigurationError, StoreUnavailableError
from async_jwt.stores import MemoryStore, TokenRef
from async_jwt.stores.contract import BUCKETS, bucket_of, bucket_of_sid, new_sid
from async_jwt.stores.redis import RedisStore

pytestmark = pytest.mark.asyncio


def ref(gen, **more):
    values = {"identity": "alice", "jti": "j", "sid": None, "issued_at": 0.0, "expires_at": time.time() + 60}
    return TokenRef(**{**values, "gen": gen, **more})


@pytest.fixture(params=["memory", "redis"])
def store(request):
    if request.param == "memory":
        return MemoryStore()
    url = request.getfixturevalue("redis_url")
    return RedisStore(url, prefix=f"test-{uuid.uuid4().hex}:", deadline=5)


async def test_stamp_and_check(store):
    gen = await store.stamp("alice")
    assert await store.check(ref(gen))
    assert await store.stamp("alice") == gen
    await store.revoke_token(ref(gen))
    assert not await store.check(ref(gen))
    assert await store.check(ref(gen, jti="other"))
    assert await store.check(ref(gen, jti=None))


async def test_tokens_without_jti_cannot_be_revoked_alone(store):
    with pytest.raises(ValueError, match="jti"):
        await store.revoke_token(ref(None, jti=None))


async def test_sessions(store):
    sid = new_sid("alice")
    gen = await store.stamp("alice")
    await store.revoke_session(sid, time.time() + 60)
    assert not await store.check(ref(gen, sid=sid))
    assert await store.check(ref(gen, sid=new_sid("alice")))
    await store.revoke_session("foreign session", None)
    assert not await store.check(ref(gen, sid="foreign session"))


async def test_unstamped_tokens_go_by_their_time(store):
    await store.stamp("alice")
    assert await store.check(ref(None, issued_at=5.0))
    await store.revoke_user("alice", keep=ref(None, issued_at=5.0, sid="kept"))
    assert not await store.check(ref(None, issued_at=time.time() - 60))
    assert await store.check(ref(None, issued_at=time.time() + 60))
    assert await store.check(ref(None, issued_at=5.0, sid="kept"))
    await store.revoke_everything()
    assert not await store.check(ref(None, issued_at=5.0, sid="kept"))


async def test_stamps_of_nobody(store):
    await store.stamp("alice")
    await store.revoke_user("alice")
    for gen in ("", "?", "a.b.c", "1.2", "m.-1.0", "q.99.0", "..", "m.²." + "9"):
        assert not await store.check(ref(gen))


async def test_concurrent_revocations_all_hold(store):
    gens = {name: await store.stamp(name) for name in map(str, range(20))}
    await asyncio.gather(*(store.revoke_user(name) for name in gens))
    for name, gen in gens.items():
        assert not await store.check(ref(gen, identity=name))
        assert await store.check(ref(await store.stamp(name), identity=name))


async def test_start_and_close_and_use_again(store):
    await store.start()
    await store.close()
    await store.close()
    assert await store.check(ref(await store.stamp("alice")))


# -- memory ------------------------------------------------------------------------------


async def test_memory_forgets_what_has_expired(clock):
    store = MemoryStore(clock=clock)
    for number in range(10):
        await store.revoke_token(ref(None, jti=str(number), expires_at=clock.now + number))
    await store.revoke_session("for ever", None)
    await store.revoke_token(ref(None, jti="5", expires_at=clock.now + 100))
    clock.now += 50
    await store.revoke_token(ref(None, jti="last", expires_at=clock.now + 1))
    assert len(store) == 3
    assert not await store.check(ref(None, jti="5"))


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
    store = RedisStore(redis_url, prefix=prefix, deadline=5)
    gen = await store.stamp("alice")
    await store.revoke_token(ref(gen))
    await store.revoke_session(new_sid("alice"), None)
    await store.revoke_user("alice")
    client = redis.asyncio.Redis.from_url(redis_url, decode_responses=True)
    lives = {key: await client.pttl(key) async for key in client.scan_iter(prefix + "*")}
    await client.aclose()
    bucket = bucket_of("alice")
    # A minute more than the token lives, should the server's clock be ahead.
    assert 110_000 < lives[f"{prefix}{{{bucket}}}:jti:j"] <= 120_000
    assert lives[f"{prefix}{{{bucket}}}:user:alice"] == -1
    assert {key.split("}")[0] for key in lives} == {f"{prefix}{{{bucket}"}


async def test_redis_that_lost_its_data_refuses_what_it_stamped(redis_server):
    store = RedisStore(redis_server.url, deadline=5)
    gen = await store.stamp("alice")
    redis_server.stop()
    redis_server.start()
    assert not await store.check(ref(gen))
    assert await store.check(ref(await store.stamp("alice")))


async def test_redis_down_refused_and_back(redis_server, caplog):
    caplog.set_level("INFO")
    store = RedisStore(redis_server.url, deadline=0.5)
    await store.start()
    redis_server.stop()
    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            await store.check(ref("a.0.0"))
    with pytest.raises(StoreUnavailableError):
        await store.revoke_token(ref("a.0.0"))
    with pytest.raises(StoreUnavailableError):
        await store.revoke_everything()
    redis_server.start()
    assert await store.check(ref(await store.stamp("alice")))
    assert caplog.text.count("does not answer") == 1
    assert caplog.text.count("answers again") == 1


async def test_redis_frozen_answers_within_the_deadline(redis_server):
    store = RedisStore(redis_server.url, deadline=0.2)
    await store.start()
    redis_server.freeze()
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        await store.check(ref("a.0.0"))
    assert time.monotonic() - started < 2
    redis_server.thaw()
    assert await store.stamp("alice")


async def test_a_cancelled_check_spoils_no_other(redis_url):
    store = RedisStore(redis_url, prefix=f"test-{uuid.uuid4().hex}:", deadline=5, max_connections=2)
    good, bad = await store.stamp("good"), await store.stamp("bad")
    await store.revoke_user("bad")
    for _ in range(30):
        doomed = [asyncio.ensure_future(store.check(ref(bad, identity="bad"))) for _ in range(4)]
        await asyncio.sleep(0)
        for task in doomed:
            task.cancel()
        assert await store.check(ref(good, identity="good")) is True
        assert await store.check(ref(bad, identity="bad")) is False
        await asyncio.gather(*doomed, return_exceptions=True)


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


async def test_odd_replies_are_no_answers(redis_url, monkeypatch):
    store = RedisStore(redis_url)

    async def odd(name, keys, args):
        return 7

    monkeypatch.setattr(store, "_script", odd)
    with pytest.raises(StoreUnavailableError, match="neither"):
        await store.check(ref("a.0.0"))
    with pytest.raises(StoreUnavailableError, match="stamp"):
        await store.stamp("alice")


async def test_decoded_replies_are_understood(redis_url, monkeypatch):
    store = RedisStore(redis_url)

    async def text(name, keys, args):
        return "e.0.0"

    monkeypatch.setattr(store, "_script", text)
    assert await store.stamp("alice") == "e.0.0"


def run_on_a_loop_of_its_own(store):
    async def use():
        return await store.check(ref(await store.stamp("alice")))

    return asyncio.run(use())


@pytest.mark.asyncio(loop_scope="function")
async def test_each_loop_has_its_own_connections(redis_url):
    store = RedisStore(redis_url, deadline=5)
    for _ in range(3):
        assert await asyncio.to_thread(run_on_a_loop_of_its_own, store)
    assert await store.check(ref(await store.stamp("alice")))
    await store.close()


async def test_a_forked_process_makes_its_own_connections(redis_url, monkeypatch):
    store = RedisStore(redis_url, deadline=5)
    await store.stamp("alice")
    parents = store._connections._clients
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert await store.stamp("alice")
    assert store._connections._clients is not parents
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
        ("redis://localhost/0?db=x", "Redis URL"),
        ("redis://localhost/one", "Redis URL"),
        ("redis://:sec/ret@localhost", "percent-encoded"),
        ("memory://host", "memory"),
    ],
)
async def test_wrong_uris_are_refused(uri, text):
    with pytest.raises(ConfigurationError, match=text):
        open_store(uri, time.time)


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
