"""Sessions under concurrency, and with a connection or a server that fails between any two steps."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
import uuid
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import pytest

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores import MemoryStore, Session, TokenRef
from async_jwt.stores.contract import new_sid
from async_jwt.stores.redis import RedisStore
from tests.harness.applications import FlaskSyncHarness, QuartHarness
from tests.harness.insides import data_loss_of, layout_of
from tests.harness.wire import WRITES, Wire
from tests.redis.conftest import DURABLE, rotating

pytestmark = pytest.mark.asyncio


async def jti_of(app, token):
    return await app.jwt.get_jti(token)


# -- a connection or a server that fails between any two steps ---------------------------


# The check, the look and the step, each lost on its way there, or on its way back.
COMMANDS = list(itertools.product(range(3), ["there", "back"]))


@pytest.mark.parametrize(("place", "way"), COMMANDS)
@pytest.mark.parametrize("grace", [10, "until_used", 0])
async def test_a_connection_that_breaks_leaves_a_session_that_goes_on(shared_server, grace, place, way):
    shared_server.does("FLUSHALL")
    async with Wire(shared_server.port).open() as wire:
        store = RedisStore(wire.url, deadline=2, poll=60)
        app = rotating(store, JWT_REFRESH_GRACE=grace)
        first = (await app.jwt.create_token_pair("alice")).refresh_token
        seen = itertools.count()

        def cut(reply: bytes) -> tuple[bytes, bool]:
            return (b"", True) if next(seen) == place else (reply, False)

        def is_due() -> bool:
            return next(seen) == place

        if way == "back":
            wire.spoils = cut
        else:
            wire.loses = is_due
        answer = await app.call("/rotate", token=first)
        assert next(seen) > place
        wire.heal()
        await until_it_answers(store)
        again = await app.call("/rotate", token=first)
        if grace == 0:
            # The connection was idle, so the command was sent once more, and meant what it meant.
            assert answer.status == 200
            assert (again.status, again.code) == (401, "token_reused")
        else:
            assert (answer.status, again.status) == (200, 200)
            assert again.json["refresh"] == answer.json["refresh"]
            assert (await app.call("/rotate", token=again.json["refresh"])).status == 200
        await store.close()


@pytest.mark.parametrize(("place", "way"), COMMANDS)
@pytest.mark.parametrize("grace", [10, "until_used", 0])
async def test_a_server_that_goes_silent_leaves_a_session_that_goes_on(shared_server, grace, place, way):
    shared_server.does("FLUSHALL")
    async with Wire(shared_server.port).open() as wire:
        store = RedisStore(wire.url, deadline=0.4, poll=60)
        app = rotating(store, JWT_REFRESH_GRACE=grace)
        first = (await app.jwt.create_token_pair("alice")).refresh_token
        seen = itertools.count()

        wire.silences = (way, lambda: next(seen) >= place)
        answer = await app.call("/rotate", token=first)
        assert (answer.status, answer.code) == (503, "store_unavailable")
        wire.heal()
        wire.drop()
        await until_it_answers(store)
        again = await app.call("/rotate", token=first)
        if grace == 0 and (place, way) == (2, "back"):
            assert again.status == 401  # it was used up, and nobody knows: that is what 0 means
        else:
            assert again.status == 200
            assert (await app.call("/rotate", token=again.json["refresh"])).status == 200
        await store.close()


def signing_out(app):
    async def out():
        return {"ended": await app.api.sign_out()}

    app.view("/out", out)


@pytest.mark.parametrize(("place", "way"), [*itertools.product(range(4), ["there", "back"])])
async def test_a_sign_out_that_is_not_answered_is_503_and_can_be_repeated(shared_server, place, way):
    shared_server.does("FLUSHALL")
    async with Wire(shared_server.port).open() as wire:
        store = RedisStore(wire.url, deadline=0.4, poll=60)
        app = rotating(store)
        signing_out(app)
        pair, other = [await app.jwt.create_token_pair("alice") for _ in range(2)]
        seen = itertools.count()
        wire.silences = (way, lambda: next(seen) >= place)
        answer = await app.call("/out", token=pair.access_token)
        assert (answer.status, answer.code) == (503, "store_unavailable")
        wire.heal()
        wire.drop()
        await until_it_answers(store)
        answer = await app.call("/out", token=pair.access_token)
        assert answer.json == {"ended": (place, way) != (3, "back")}  # then it had ended already
        for path, token in (("/me", pair.access_token), ("/rotate", pair.refresh_token)):
            assert (await app.call(path, token=token)).status == 401
        assert (await app.call(token=other.access_token)).status == 200
        await store.close()


@pytest.mark.parametrize("place", range(3))
async def test_a_server_that_is_killed_leaves_a_session_that_goes_on(make_server, place):
    """One that writes before it answers: what was answered is never lost."""
    server = make_server(*DURABLE)
    async with Wire(server.port).open() as wire:
        store = RedisStore(wire.url, deadline=2, poll=60)
        app = rotating(store, JWT_REFRESH_GRACE=60)
        first = (await app.jwt.create_token_pair("alice")).refresh_token
        seen = itertools.count()

        def kill(reply: bytes) -> tuple[bytes, bool]:
            if next(seen) != place:
                return reply, False
            server.stop()
            return b"", True

        wire.spoils = kill
        assert (await app.call("/rotate", token=first)).status == 503
        wire.heal()
        server.start()
        await until_it_answers(store)
        again = await app.call("/rotate", token=first)
        assert again.status == 200
        assert (await app.call("/rotate", token=again.json["refresh"])).status == 200
        await store.close()


def keys_of(server, what):
    return [key for key in server.does("KEYS", "async_jwt:*") if what in key]


@pytest.mark.parametrize("on_data_loss", ["deny", "accept"])
async def test_sessions_after_a_loss_of_data(redis_server, on_data_loss):
    store = RedisStore(redis_server.url, deadline=5, poll=60, on_data_loss=on_data_loss)
    app = rotating(store)
    first = (await app.jwt.create_token_pair("alice")).refresh_token
    redis_server.does("DEL", *keys_of(redis_server, b":all"))  # the sessions themselves are still there
    answer = await app.call("/rotate", token=first)
    page = await app.jwt.list_sessions("alice")
    if on_data_loss == "deny":
        assert (answer.status, len(page.sessions)) == (401, 0)
        assert not keys_of(redis_server, b":session:"), "what is dead is dropped when it is looked at"
    else:
        assert (answer.status, len(page.sessions)) == (200, 1)
        assert (await app.call("/rotate", token=answer.json["refresh"])).status == 200
    redis_server.does("FLUSHALL")
    assert not (await app.jwt.list_sessions("alice")).sessions
    token = answer.json.get("refresh", first)
    assert (await app.call("/rotate", token=token)).status == 401
    assert (
        await app.call("/rotate", token=(await app.jwt.create_token_pair("alice")).refresh_token)
    ).status == 200
    await store.close()


@pytest.mark.parametrize("junk", [b"x", b"a b {}", b"a b [1]", b"\xff \xff \xff", b'a b {"identity": 1}'])
async def test_junk_where_a_session_was_refuses_it(redis_server, junk):
    store = RedisStore(redis_server.url, deadline=5, poll=60)
    app = rotating(store)
    pair, other = [await app.jwt.create_token_pair(name) for name in ("alice", "bob")]
    (key,) = [key for key in keys_of(redis_server, b":session:") if pair.sid.encode() in key]
    redis_server.does("SET", key, junk)
    assert (await app.call("/rotate", token=pair.refresh_token)).status == 503
    with pytest.raises(StoreUnavailableError):
        await app.jwt.list_sessions("alice")
    assert (await app.call("/rotate", token=other.refresh_token)).status == 200
    assert store.status().available
    await store.revoke_session(pair.sid, None)
    assert (await app.call(token=pair.access_token)).status == 401
    await store.close()


@pytest.mark.parametrize("kind", ["LPUSH", "SADD", "SET"])
async def test_other_types_at_a_users_list_lose_no_revocation(redis_server, kind):
    store = RedisStore(redis_server.url, deadline=5, poll=60)
    app = rotating(store)
    pairs = [await app.jwt.create_token_pair("alice") for _ in range(3)]
    (key,) = keys_of(redis_server, b":sessions:")
    for action in (
        lambda: store.revoke_session(pairs[0].sid, None),
        lambda: app.call("/rotate", token=pairs[1].refresh_token),
        lambda: store.revoke_user("alice"),
    ):
        redis_server.does("DEL", key)
        redis_server.does(kind, key, "x")
        await action()
    for pair in pairs:
        assert (await app.call(token=pair.access_token)).status == 401
    await app.jwt.create_token_pair("alice")
    assert len((await app.jwt.list_sessions("alice")).sessions) == 1
    await store.close()


@pytest.mark.parametrize(
    "reply", [b":7\r\n", b"+OK\r\n", b"_\r\n", b"*1\r\n:1\r\n", b"*2\r\n$1\r\nx\r\n$1\r\nx\r\n"]
)
async def test_odd_replies_are_no_page_and_no_step(redis_server, reply):
    async with Wire(redis_server.port).open() as wire:
        store = RedisStore(wire.url, deadline=5, poll=60)
        app = rotating(store)
        pair = await app.jwt.create_token_pair("alice")
        wire.says = (WRITES, reply)
        with pytest.raises(StoreUnavailableError):
            await app.jwt.list_sessions("alice")
        assert (await app.call("/rotate", token=pair.refresh_token)).status == 503
        wire.heal()
        assert (await app.call("/rotate", token=pair.refresh_token)).status in (200, 401)
        await store.close()


async def test_a_server_that_loses_all_the_time_shows_no_page(redis_server, monkeypatch):
    store = RedisStore(redis_server.url, deadline=5, poll=60)
    app = rotating(store)
    await app.jwt.create_token_pair("alice")
    seen = []

    async def lost(topology, loss):
        seen.append(loss.why)

    monkeypatch.setattr(data_loss_of(store), "handle", lost)
    redis_server.does("FLUSHALL")
    with pytest.raises(StoreUnavailableError, match="losing"):
        await app.jwt.list_sessions("alice")
    assert seen == ["a bucket is missing"] * 3
    await store.close()


async def test_lists_do_not_keep_what_has_ended(redis_server):
    """Sessions go by their time; each login drops a few of those that are still listed."""
    store = RedisStore(redis_server.url, deadline=5, poll=60)
    app = rotating(store)
    for _ in range(30):
        await app.jwt.create_token_pair("alice")
    redis_server.does("DEL", *keys_of(redis_server, b":session:"))  # as if their time had come
    (key,) = keys_of(redis_server, b":sessions:")
    for _ in range(30):
        await app.jwt.create_token_pair("alice")
    assert redis_server.does("ZCARD", key) < 45
    assert len((await app.jwt.list_sessions("alice")).sessions) == 30
    assert redis_server.does("ZCARD", key) == 30
    month = 30 * 86400
    assert month - 60 < redis_server.does("TTL", key) <= month + 60
    await store.close()


async def test_what_has_ended_takes_no_place(redis_server):
    """A session that went by its time is still listed; it makes nobody else go."""
    store = RedisStore(redis_server.url, deadline=5, poll=60)
    app = rotating(store, JWT_MAX_SESSIONS=10)
    oldest, *rest = [await app.jwt.create_token_pair("alice") for _ in range(10)]
    for key in keys_of(redis_server, b":session:"):
        if oldest.sid.encode() not in key:
            redis_server.does("DEL", key)
    for _ in range(9):
        await app.jwt.create_token_pair("alice")
    assert (await app.call(token=oldest.access_token)).status == 200
    await app.jwt.create_token_pair("alice")
    assert (await app.call(token=oldest.access_token)).status == 401
    assert all([(await app.call(token=pair.access_token)).status == 200 for pair in rest])
    await store.close()


async def test_lists_of_what_does_not_count_live_as_long_as_it(redis_server):
    store = RedisStore(redis_server.url, deadline=5, poll=60)
    app = rotating(store, JWT_MAX_SESSIONS=5)
    own = [await app.jwt.create_token_pair("alice") for _ in range(5)]
    for _ in range(30):
        await app.jwt.create_token_pair("alice", counts=False)
    (key,) = keys_of(redis_server, b":uncounted:")
    month = 30 * 86400
    assert month - 60 < redis_server.does("TTL", key) <= month + 60
    apart = redis_server.does("ZRANGE", key, 0, -1)
    redis_server.does("DEL", *[k for k in keys_of(redis_server, b":session:") if k.split(b":")[-1] in apart])
    for _ in range(30):
        await app.jwt.create_token_pair("alice", counts=False)
    assert redis_server.does("ZCARD", key) < 45
    assert len((await app.jwt.list_sessions("alice")).sessions) == 35
    assert redis_server.does("ZCARD", key) == 30
    assert all([(await app.call(token=pair.access_token)).status == 200 for pair in own])
    await store.close()


async def test_a_session_that_former_code_moved_is_listed_once(redis_server):
    """It knows one list only, and forgets that a session does not count."""
    store = RedisStore(redis_server.url, deadline=5, poll=60)
    app = rotating(store)
    first = await app.jwt.create_token_pair("alice")
    pair = await app.jwt.create_token_pair("alice", counts=False)
    (key,) = keys_of(redis_server, b":sessions:")
    (used,) = redis_server.does("ZRANGE", keys_of(redis_server, b":uncounted:")[0], 0, -1, "WITHSCORES")[0][
        1:
    ]
    redis_server.does("ZADD", key, used, pair.sid)
    assert [each.sid for each in (await app.jwt.list_sessions("alice")).sessions] == [pair.sid, first.sid]
    await app.call("/rotate", token=pair.refresh_token)
    assert redis_server.does("ZSCORE", key, pair.sid) is None
    assert [each.sid for each in (await app.jwt.list_sessions("alice")).sessions] == [pair.sid, first.sid]
    await store.close()


async def test_many_beyond_a_limit_hold_nobody_up(redis_server):
    """A limit that is set later ends a hundred at each login, and a page skips a thousand dead at once."""
    store = RedisStore(redis_server.url, deadline=5, poll=60)
    app = rotating(store)
    for _ in range(250):
        await app.jwt.create_token_pair("alice")
    app.app.config["JWT_MAX_SESSIONS"] = 10
    left = []
    for _ in range(4):
        await app.jwt.create_token_pair("alice")
        (key,) = keys_of(redis_server, b":sessions:")
        left.append(redis_server.does("ZCARD", key))
    assert left == [151, 52, 10, 10]
    app.app.config["JWT_MAX_SESSIONS"] = None
    for _ in range(240):
        await app.jwt.create_token_pair("alice")
    await app.jwt.revoke_everything()
    await app.jwt.create_token_pair("bob")
    redis_server.does("CONFIG", "RESETSTAT")
    assert not (await app.jwt.list_sessions("alice", limit=1)).sessions
    assert redis_server.does("INFO", "commandstats")["cmdstat_evalsha"]["calls"] <= 4
    await store.close()


async def test_a_step_across_a_loss_is_declined(redis_server):
    """Even where what was lost looks the same but for its epoch."""
    store = RedisStore(redis_server.url, deadline=5, poll=60, on_data_loss="accept")
    app = rotating(store)
    pair = await app.jwt.create_token_pair("alice")
    session = await store.get_session(pair.sid)
    ref = TokenRef("alice", session.refresh_jti, pair.sid, session.stamp, time.time(), None)
    seen = await store.load_session(ref)
    redis_server.does("DEL", *keys_of(redis_server, b":all"))
    assert await store.check(ref)
    step = replace(session, refresh_jti="next", previous_jti=session.refresh_jti)
    assert await store.replace_session(step, seen) is None
    assert await store.replace_session(step, await store.load_session(ref)) == ()
    await store.close()


async def test_what_a_store_is_asked(shared_server):
    """As docs/guide/sessions.md says."""
    shared_server.does("FLUSHALL")
    async with Wire(shared_server.port).open() as wire:
        store = RedisStore(wire.url, deadline=5, poll=60)
        app = rotating(store, JWT_REFRESH_LATE_AFTER=0.3)
        first, other = [await app.jwt.create_token_pair("alice") for _ in range(2)]
        await app.jwt.list_sessions("alice")
        await app.jwt.revoke_session(other.sid)

        async def asked(action):
            wire.commands.clear()
            await action
            return Counter(wire.commands)

        assert await asked(app.jwt.create_token_pair("alice")) == {b"MGET": 1, b"EVALSHA": 1}
        assert await asked(app.call("/rotate", token=first.refresh_token)) == {b"MGET": 2, b"EVALSHA": 1}
        await app.call("/rotate", token=first.refresh_token)  # so that the server has its script
        # Each look at a token that was replaced asks for the server's time.
        assert await asked(app.call("/rotate", token=first.refresh_token)) == {b"MGET": 3, b"EVALSHA": 2}
        await asyncio.sleep(0.35)
        assert await asked(app.call("/rotate", token=first.refresh_token)) == {b"MGET": 3, b"EVALSHA": 3}
        assert await asked(app.call("/rotate", token=first.refresh_token)) == {b"MGET": 3, b"EVALSHA": 2}
        assert await asked(app.jwt.list_sessions("alice")) == {b"EVALSHA": 1}
        assert await asked(app.jwt.revoke_session(first.sid)) == {b"MGET": 2, b"EVALSHA": 1}
        signing_out(app)
        last = await app.jwt.create_token_pair("alice")
        assert await asked(app.call("/out", token=last.access_token)) == {b"MGET": 3, b"EVALSHA": 1}
        await store.close()


async def until_it_answers(store):
    until = time.monotonic() + 10
    while not store.status().available:
        assert time.monotonic() < until
        await asyncio.sleep(0.02)


# -- linearizability ---------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    """What somebody did, when it began and ended, and what came of it."""

    began: float
    ended: float
    what: str
    token: str
    outcome: str


@dataclass(frozen=True)
class Health:
    """One session, one thing at a time. Tokens are their `jti`."""

    current: str
    previous: str = ""
    is_dead: bool = False

    def after(self, event: Event, *, has_grace: bool) -> Health | None:
        """The state after an event; None if it cannot happen here."""
        dead = replace(self, is_dead=True)
        if event.what == "sign out":
            return dead
        if event.what in ("use", "list"):
            return self if event.outcome == ("gone" if self.is_dead else "there") else None
        if event.token == self.current and not self.is_dead:
            is_new = event.outcome not in ("refused", self.current, self.previous)
            return Health(event.outcome, self.current) if is_new else None
        if event.token == self.previous and has_grace and not self.is_dead:
            return self if event.outcome == self.current else None
        return dead if event.outcome == "refused" else None


def is_linearizable(history: list[Event], begin: Health, *, has_grace: bool) -> bool:
    """Whether some order that respects who was done before whom explains it all (Wing and Gong)."""
    seen: set[tuple[frozenset[Event], Health]] = set()
    todo = [(frozenset(history), begin)]
    while todo:
        left, state = todo.pop()
        if not left:
            return True
        if (left, state) in seen:
            continue
        seen.add((left, state))
        first_end = min(event.ended for event in left)
        for event in left:
            if event.began <= first_end:
                after = state.after(event, has_grace=has_grace)
                if after is not None:
                    todo.append((left - {event}, after))
    return False


class History:
    """Some clients, who all know all tokens, of one session."""

    def __init__(self, apps: list[QuartHarness], seed: int) -> None:
        self.apps = apps
        self.chance = random.Random(seed)
        self.events: list[Event] = []

    async def run(self, clients: int, actions: int) -> Health:
        self.pair = await self.apps[0].jwt.create_token_pair("alice")
        self.tokens = [self.pair.refresh_token]
        begin = Health(await jti_of(self.apps[0], self.pair.refresh_token))
        await asyncio.gather(*(self.client(actions) for _ in range(clients)))
        return begin

    async def client(self, actions: int) -> None:
        for _ in range(actions):
            app = self.chance.choice(self.apps)
            what = self.chance.choices(["rotate", "use", "list", "sign out"], [12, 2, 2, 1])[0]
            newest = self.tokens[-3:]  # older ones would end most sessions at once
            token = self.chance.choice(newest if self.chance.random() < 0.95 else self.tokens)
            jti = await jti_of(app, token)
            began = time.perf_counter()
            outcome = await getattr(self, what.replace(" ", "_"))(app, token)
            self.events.append(Event(began, time.perf_counter(), what, jti, outcome))
            await asyncio.sleep(self.chance.random() * 0.002)

    async def rotate(self, app, token):
        answer = await app.call("/rotate", token=token)
        if answer.status == 401:
            return "refused"
        assert answer.status == 200, answer.body
        if answer.json["refresh"] not in self.tokens:
            self.tokens.append(answer.json["refresh"])
        return await jti_of(app, answer.json["refresh"])

    async def use(self, app, token):
        return "there" if (await app.call(token=self.pair.access_token)).status == 200 else "gone"

    async def list(self, app, token):
        page = await app.jwt.list_sessions("alice")
        return "there" if self.pair.sid in {each.sid for each in page.sessions} else "gone"

    async def sign_out(self, app, token):
        await app.jwt.revoke_session(self.pair.sid)
        return "done"


@pytest.mark.parametrize("grace", [0, "until_used"])
@pytest.mark.parametrize("kind", ["memory", "redis"])
async def test_concurrent_histories_have_an_order(kind, grace, request, is_long):
    config = {"JWT_REFRESH_GRACE": grace}
    stores: list[Any]
    for seed in range(300 if is_long else 15):
        if kind == "memory":
            stores = [MemoryStore()]  # asked from several threads
        else:
            prefix = f"test-{uuid.uuid4().hex}:"
            url = request.getfixturevalue("redis_url")
            stores = [RedisStore(url, prefix=prefix, deadline=5) for _ in range(2)]
        make = FlaskSyncHarness if kind == "memory" else QuartHarness
        history = History([rotating(store, make, **config) for store in stores], seed)
        begin = await history.run(clients=4, actions=6)
        assert is_linearizable(history.events, begin, has_grace=grace != 0), (seed, history.events)
        for store in stores:
            await store.close()


async def test_the_judge_of_histories_finds_what_has_no_order():
    begin = Health("a")
    good = [
        Event(0, 3, "rotate", "a", "b"),
        Event(1, 2, "rotate", "a", "b"),
        Event(4, 5, "use", "a", "there"),
    ]
    assert is_linearizable(good, begin, has_grace=True)
    for wrong in (
        [Event(0, 3, "rotate", "a", "b"), Event(1, 2, "rotate", "a", "c")],  # two successors
        [Event(0, 1, "sign out", "a", "done"), Event(2, 3, "use", "a", "there")],
        [Event(0, 1, "sign out", "a", "done"), Event(2, 3, "rotate", "a", "b")],
        [Event(0, 1, "rotate", "a", "b"), Event(2, 3, "list", "a", "gone")],
        [Event(0, 1, "rotate", "a", "refused")],
    ):
        assert not is_linearizable(wrong, begin, has_grace=True)
    assert not is_linearizable(good, begin, has_grace=False)


async def test_junk_where_a_successor_was_is_no_answer(shared_server):
    store = RedisStore(shared_server.url, deadline=5)
    sid, gen = new_sid("alice"), await store.stamp("alice")
    first = TokenRef("alice", "first", sid, gen, 0.0, time.time() + 60)
    seen = await store.load_session(first)
    session = Session(sid, "alice", None, 1.0, 1.0, None, time.time() + 60, gen, "first")
    assert await store.replace_session(session, seen, successor="kept", keep_for=60) is not None
    assert (await store.load_session(first)).successor == "kept"
    _, key = layout_of(store).live_session(sid)
    shared_server.does("SET", key, b"\xff")
    with pytest.raises(StoreUnavailableError, match="invalid value for a successor"):
        await store.load_session(first)
    await store.close()
