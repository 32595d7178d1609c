"""Tokens that are used once, on Redis: whatever happens to the server, exactly one caller gets True."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
import uuid
from collections import Counter

import pytest
import redis.asyncio

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores import TokenRef
from async_jwt.stores.contract import MOST_PURPOSES, bucket_of, new_sid
from async_jwt.stores.redis import RedisStore
from async_jwt.stores.redis.schema import User
from tests.harness.applications import QuartHarness
from tests.harness.crowd import answered, comes
from tests.harness.insides import buckets_of, layout_of
from tests.harness.wire import WRITES, Wire

pytestmark = pytest.mark.asyncio


async def ticket(store, name="alice", **more):
    gen = await store.stamp(name)
    values = {"jti": uuid.uuid4().hex, "sid": None, "type": "reset", **more}
    return TokenRef(name, gen=gen, issued_at=time.time(), expires_at=time.time() + 600, **values)


RACER = """
import asyncio, json, sys
from async_jwt.stores import TokenRef
from async_jwt.stores.redis import RedisStore

async def main():
    url, count, text = sys.argv[1:]
    store, ref = RedisStore(url), TokenRef(*json.loads(text))
    await store.start()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    results = await asyncio.gather(*(store.consume_token(ref, others=True) for _ in range(int(count))))
    print(sum(results), len(results), flush=True)
    await store.close()

asyncio.run(main())
"""


async def test_two_hundred_racers_in_two_processes(redis_url):
    import json

    for _ in range(3):
        url = f"{redis_url}?prefix=test-{uuid.uuid4().hex}:&deadline=5"
        store = RedisStore(url)
        ref = await ticket(store)
        command = [sys.executable, "-c", RACER, url, "100", json.dumps(ref)]
        pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
        racers = [await asyncio.create_subprocess_exec(*command, **pipes) for _ in range(2)]
        for racer in racers:
            assert await racer.stdout.readline() == b"ready\n"
        results = await asyncio.gather(*(racer.communicate(b"go\n") for racer in racers))
        counts = [line.split() for line, _ in results]
        assert [count for _, count in counts] == [b"100", b"100"]
        assert sum(int(won) for won, _ in counts) == 1
        assert not await store.check(ref)
        await store.close()


@pytest.mark.parametrize("others", [False, True])
async def test_a_command_that_is_sent_again_recognizes_itself(shared_server, others):
    """The server ran it, the reply was lost with a stale connection, and the client sent it again."""
    shared_server.does("FLUSHALL")
    async with Wire(shared_server.port).open() as wire:
        store = RedisStore(wire.url, deadline=5, poll=60)
        warm, ref, other = [await ticket(store) for _ in range(3)]
        await store.consume_token(warm)
        run, sent = topology_client(store), []

        async def twice(script, keys, arguments, **more):
            """What a retry does: the same command once more."""
            sent.append(await run(script, keys, arguments, **more))
            return await run(script, keys, arguments, **more)

        client_of(store).run = twice
        assert await store.consume_token(ref, others=others) is True
        assert len(sent) == 1
        assert await store.consume_token(ref, others=others) is False
        del client_of(store).run
        assert not await store.check(ref)
        assert await store.check(other) is not others
        assert store.status().data_losses == 0
        await store.close()


def client_of(store):
    from tests.harness.insides import node_of

    return node_of(store, bucket_of("alice"))


def topology_client(store):
    return client_of(store).run


@pytest.mark.parametrize("lost", ["one", "all"])
async def test_a_lost_reply_means_yes_once_it_is_asked_again(shared_server, lost):
    """After a single one the client sends the command again, and it recognizes itself. Else it is a 503."""
    shared_server.does("FLUSHALL")
    async with Wire(shared_server.port).open() as wire:
        store = RedisStore(wire.url, deadline=5, poll=60)
        app = QuartHarness(store=store)
        view_of(app)
        tokens = [await app.jwt.create_token("alice", type="reset") for _ in range(2)]
        assert (await app.call("/reset", method="POST", token=tokens[0])).status == 200

        ran = []

        def after_the_script(reply):
            is_script = reply.startswith(b"*3\r\n$") and b"\r\n:" in reply
            ran.extend([reply] * is_script)
            return (b"", True) if is_script and (lost == "all" or len(ran) == 1) else (reply, False)

        wire.spoils = after_the_script
        answer = await app.call("/reset", method="POST", token=tokens[1])
        assert [b":1\r\n" in reply for reply in ran] == [True, False], "it is counted once"
        if lost == "all":
            assert (answer.status, answer.code) == (503, "store_unavailable")
        else:
            assert answer.status == 200
        wire.heal()
        await comes(lambda: store.status().available, "it does not come back")
        again = await answered(lambda: app.jwt.consume_token(tokens[1]))
        assert again is False, "it was used, though nobody was told"
        await store.close()


def view_of(app, **demands):
    @app.api.jwt_required(**{"type": "reset", "once": True, **demands})
    async def reset():
        return {}

    app.view("/reset", reset, methods=["GET", "POST"])


@pytest.mark.parametrize("on_outage", ["deny", "allow"])
@pytest.mark.parametrize("kind", ["reset", "access"])
async def test_an_outage_is_a_503_whatever_on_outage_says(redis_server, on_outage, kind):
    store = RedisStore(redis_server.url, deadline=5, poll=60, on_outage=on_outage)
    app = QuartHarness(store=store)
    view_of(app, type=kind)
    token = await (app.mint() if kind == "access" else app.jwt.create_token("alice", type=kind))
    redis_server.stop()
    for method in ("GET", "POST"):
        answer = await app.call("/reset", method=method, token=token)
        assert (answer.status, answer.code) == (503, "store_unavailable")
    with pytest.raises(StoreUnavailableError):
        await app.jwt.consume_token(token)
    if kind == "access":
        assert (await app.call(token=token)).status == (200 if on_outage == "allow" else 503)
    redis_server.start()
    await comes(lambda: store.status().available, "it does not come back")
    await store.close()


@pytest.mark.parametrize("reply", [b":7\r\n", b"+OK\r\n", b"*3\r\n$1\r\nx\r\n:1\r\n$1\r\n1\r\n"])
async def test_odd_replies_use_nothing_up(redis_server, reply):
    async with Wire(redis_server.port).open() as wire:
        store = RedisStore(wire.url, deadline=5, poll=60)
        ref = await ticket(store)
        wire.says = (WRITES, reply)
        with pytest.raises(StoreUnavailableError):
            await store.consume_token(ref)
        wire.heal()
        await store.close()


async def test_a_reply_that_is_neither_yes_nor_no(redis_server):
    async with Wire(redis_server.port).open() as wire:
        store = RedisStore(wire.url, deadline=5, poll=60)
        warm, ref = await ticket(store), await ticket(store)
        await store.consume_token(warm)
        wire.spoils = lambda reply: (reply.replace(b"$1\r\n1\r\n", b"$1\r\n7\r\n"), False)
        with pytest.raises(StoreUnavailableError, match="may be used"):
            await store.consume_token(ref)
        wire.heal()
        assert await store.consume_token(ref) is False
        await store.close()


async def test_a_loss_that_only_the_reply_shows_lets_nobody_be_second(redis_url):
    """A replica that lacks the first caller's mark takes over between another one's look and its command."""
    url = f"{redis_url}?prefix=test-{uuid.uuid4().hex}:&deadline=5"
    first, second = RedisStore(url), RedisStore(url)
    client = redis.asyncio.Redis.from_url(redis_url)
    for store in (first, second):
        await store.revoke_user("alice")
    ref, answers = await ticket(second), []
    keys, write = layout_of(second).base(bucket_of("alice")) + "*", buckets_of(second).write

    async def failing_over(*args, **options):
        if not answers:
            before = {key: await client.get(key) for key in await client.keys(keys)}
            answers.append(await first.consume_token(ref))
            await second.stamp("alice")  # the process has seen the state that is lost
            await client.delete(*await client.keys(keys))
            await client.mset(before)
        return await write(*args, **options)

    buckets_of(second).write = failing_over
    answers.append(await second.consume_token(ref))
    assert answers == [True, False]
    assert second.status().data_losses == 1
    assert not await second.check(ref._replace(jti="another"))
    await client.aclose()
    for store in (first, second):
        await store.close()


async def test_many_refusals_that_nobody_asks_about_are_not_kept(redis_url):
    store = RedisStore(redis_url, prefix=f"test-{uuid.uuid4().hex}:", deadline=5)
    await store.revoke_user("alice")
    dead = [TokenRef("alice", str(number), None, None, 1.0, None) for number in range(250)]
    for ref in dead:
        assert not await store.check(ref)
    assert len(store._refusals._reasons) <= 100
    assert await store.refusal_of(dead[0]) == "revoked"
    await store.close()


async def test_claims_of_another_service_are_no_sign_of_a_loss(redis_url):
    """A claim set may be anybody's: its stamp says nothing about this store, and signs nobody out."""
    store = RedisStore(redis_url, prefix=f"test-{uuid.uuid4().hex}:", deadline=5)
    app = QuartHarness(store=store)
    mine = await app.mint()
    claims = await app.jwt.decode_token(await app.jwt.create_token("alice", type="reset"))
    for gen in ("elsewhere.0.0", "m.9.9", f"{claims['gen'].partition('.')[0]}.0.9999999999999999"):
        assert await app.jwt.consume_token({**claims, "gen": gen}) is False
    assert await app.jwt.consume_token(claims) is True
    assert (await app.call(token=mine)).status == 200
    assert store.status().data_losses == 0
    await store.close()


async def test_too_many_that_sign_the_user_out_meanwhile(redis_server):
    async with Wire(redis_server.port).open() as wire:
        store = RedisStore(wire.url, deadline=5, poll=60)
        ref = await ticket(store)
        wire.says = (WRITES, b":0\r\n")
        with pytest.raises(StoreUnavailableError, match="concurrent"):
            await store.consume_token(ref)
        wire.heal()
        assert await store.consume_token(ref) is True
        await store.close()


async def test_what_a_store_is_asked(shared_server):
    """As docs/operations.md says: nothing more for a check, one look and one step to use a token."""
    shared_server.does("FLUSHALL")
    async with Wire(shared_server.port).open() as wire:
        store = RedisStore(wire.url, deadline=5, poll=60)
        warm, ref, other = [await ticket(store) for _ in range(3)]
        await store.consume_token(warm, others=True)
        ref, other = [await ticket(store) for _ in range(2)]

        async def asked(action):
            wire.commands.clear()
            await action
            return Counter(wire.commands)

        assert await asked(store.check(ref)) == {b"MGET": 1}
        assert await asked(store.consume_token(ref)) == {b"MGET": 1, b"EVALSHA": 1}
        assert await asked(store.consume_token(other, others=True)) == {b"MGET": 1, b"EVALSHA": 1}
        assert await asked(store.consume_token(other)) == {b"MGET": 1}

        async def refused():
            assert not await store.check(other)
            assert await store.refusal_of(other) == "used"

        for _ in range(2):
            assert await asked(refused()) == {b"MGET": 1}, "the reason is known from the check"
        assert await asked(store.refusal_of(other)) == {b"MGET": 1}
        await store.check(other)
        await store.revoke_user("alice")
        assert await asked(store.refusal_of(other)) == {b"MGET": 1}, "something else may have happened since"
        await store.close()


async def test_a_session_of_another_bucket_and_one_that_was_signed_out(redis_url):
    store = RedisStore(redis_url, prefix=f"test-{uuid.uuid4().hex}:", deadline=5)
    far = next(sid for sid in iter(lambda: new_sid(uuid.uuid4().hex), "") if sid[:2] != bucket_of("alice"))
    for sid in (far, new_sid("alice")):
        ref, dead = await ticket(store, sid=sid), await ticket(store, sid=sid)
        assert await store.consume_token(ref) is True
        await store.revoke_session(sid, None)
        assert await store.consume_token(dead) is False
    await store.close()


@pytest.mark.parametrize("others", [False, True])
async def test_a_mirror_elsewhere_hears_of_it(redis_url, others):
    url = f"{redis_url}?prefix=test-{uuid.uuid4().hex}:&deadline=5"
    here, there = RedisStore(url), RedisStore(url, mirror=True)
    await there.stamp("alice")
    await comes(lambda: there.status().staleness is not None, "the mirror does not begin")
    ref, other, access = await ticket(here), await ticket(here), await ticket(here, type="access")
    assert await there.check(ref)
    assert await here.consume_token(ref, others=others) is True
    until = time.monotonic() + 30
    while await there.check(ref) or await there.check(other) is others:
        assert time.monotonic() < until
        await asyncio.sleep(0.01)
    assert await there.check(access)
    assert await there.refusal_of(ref) == "used"
    assert await there.consume_token(ref) is False
    for store in (here, there):
        await store.close()


async def test_connections_that_break_lose_no_use_and_revive_none(shared_server):
    """Callers try until they are answered; of each token at most one got True, and none came back."""
    shared_server.does("FLUSHALL")
    async with Wire(shared_server.port).open() as wire:
        stores = [RedisStore(wire.url, deadline=5, poll=60) for _ in range(2)]
        told = Counter()

        async def use(ref, store, others):
            for _ in range(20):
                try:
                    told[ref.jti] += await store.consume_token(ref, others=others)
                except StoreUnavailableError:
                    told["503"] += 1
                    await asyncio.sleep(0.02)
                else:
                    return

        async def break_it():
            while True:
                wire.drop()
                await asyncio.sleep(0.003)

        refs = [await ticket(stores[0], f"user {number}") for number in range(40)]
        breaking = asyncio.ensure_future(break_it())
        work = [use(ref, store, number % 2 == 0) for number, ref in enumerate(refs) for store in stores * 2]
        await asyncio.gather(*work)
        breaking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await breaking
        for store in stores:
            await comes(lambda store=store: store.status().available, "it does not come back")
        assert all(told[ref.jti] <= 1 for ref in refs)
        for ref in refs:
            assert await answered(lambda ref=ref: stores[0].consume_token(ref)) in (False, not told[ref.jti])
            assert not await answered(lambda ref=ref: stores[1].check(ref))
        for store in stores:
            assert store.status().data_losses == 0
            await store.close()


async def test_what_another_program_wrote_at_a_user_ends_all_of_it(redis_url):
    prefix = f"test-{uuid.uuid4().hex}:"
    store = RedisStore(redis_url, prefix=prefix, deadline=5)
    ref = await ticket(store)
    client = redis.asyncio.Redis.from_url(redis_url)
    for junk in ("junk", "7 junk", "1 +1.0 0 0 kept\n1 1.0 0 0 ab:1", "1 +1.0 0 0 kept\n1 1.0 0 0 ab:1:."):
        await client.set(f"{prefix}{{{bucket_of('alice')}}}:user:alice", junk)
        for call in (store.check(ref), store.consume_token(ref)):
            with pytest.raises(StoreUnavailableError):
                await call
    await store.revoke_user("alice")
    assert not await store.check(ref)
    await client.aclose()
    await store.close()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda value: value[: value.rindex(":")],
        lambda value: value.replace("+", "", 1).replace(" ", " +", 1) + ":",
        lambda value: value + " zz:1:1.0",
        lambda value: value.replace(value[:16], str(int(value[:16]) + 1), 1),
        lambda value: value.rpartition("\n")[0],
        lambda value: value + ".5.5",
    ],
    ids=["cut short", "something at its end", "an odd name", "a higher head", "no last line", "an odd time"],
)
async def test_what_cannot_be_read_comes_back_as_nothing(redis_url, spoil):
    """The next change of the user ends everything; it drops no entry that it does not understand."""
    prefix = f"test-{uuid.uuid4().hex}:"
    store = RedisStore(redis_url, prefix=prefix, deadline=5)
    client = redis.asyncio.Redis.from_url(redis_url, decode_responses=True)
    dead, used = await ticket(store), await ticket(store)
    assert await store.consume_token(used, others=True)
    key = f"{prefix}{{{bucket_of('alice')}}}:user:alice"
    await client.set(key, spoil(await client.get(key)))
    with pytest.raises(StoreUnavailableError):
        await store.check(dead)
    await store.expire_access_tokens("alice")
    assert not await store.check(dead)
    assert await store.check(await ticket(store))
    await client.aclose()
    await store.close()


async def test_a_generation_that_lua_cannot_count_on_is_refused(redis_url):
    prefix = f"test-{uuid.uuid4().hex}:"
    store = RedisStore(redis_url, prefix=prefix, deadline=5)
    client = redis.asyncio.Redis.from_url(redis_url)
    ref = await ticket(store)
    for generation in (2**53 - 1, 2**53, 10**20):
        await client.set(f"{prefix}{{{bucket_of('alice')}}}:user:alice", f"{generation} 1.0 0 0 ")
        for call in (store.expire_access_tokens("alice"), store.revoke_user("alice")):
            with pytest.raises(StoreUnavailableError):
                await call
        if generation >= 2**53:
            for call in (store.stamp("alice"), store.check(ref), store.consume_token(ref, others=True)):
                with pytest.raises(StoreUnavailableError):
                    await call
    last = TokenRef("bob", "j", None, await store.stamp("bob"), 0.0, time.time() + 60, type="reset")
    state = f"epoch {2**53} 1.0 1 1 "
    await client.set(f"{prefix}{{{bucket_of('bob')}}}:all", state)
    assert not await store.check(last), "it counts as lost data"
    assert store.status().data_losses == 1
    await client.aclose()
    await store.close()


async def test_a_user_has_as_many_purposes_one_by_one_as_the_contract_says(redis_url):
    prefix = f"test-{uuid.uuid4().hex}:"
    store = RedisStore(redis_url, prefix=prefix, deadline=5)
    spared = await ticket(store)
    for number in range(MOST_PURPOSES + 1):
        assert await store.check(spared)
        assert await store.consume_token(await ticket(store, type=f"purpose {number}"), others=True)
    assert not await store.check(spared)
    await store.close()


async def test_what_is_kept_may_be_any_text(redis_url):
    """Also one that looks like the line with which a user's value ends."""
    assert User.read("5 1.0 0 0 x\n0 0 0 0").generation == 5, "as former code wrote it"
    store = RedisStore(redis_url, prefix=f"test-{uuid.uuid4().hex}:", deadline=5)
    for number, jti in enumerate(["a\n1 1.0 9 9", "\n", "x\n0 -1 0 -1 *:9:9", "a b\n\nc"]):
        name = f"user {number}"
        kept, other = await ticket(store, name, jti=jti), await ticket(store, name)
        await store.revoke_user(name, keep=kept)
        assert await store.check(kept), jti
        assert not await store.check(other)
        assert await store.consume_token(await ticket(store, name, type="invite"), others=True)
        assert await store.check(kept)
        assert await store.consume_token(kept)
        assert not await store.check(kept)
    await store.close()
