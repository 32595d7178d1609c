"""Whatever callers do to one user's tokens at the same time, one after the other explains it."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from dataclasses import dataclass

import pytest

from async_jwt.stores import MemoryStore, TokenRef
from async_jwt.stores.redis import RedisStore
from tests.redis.test_sessions_survive_faults import Event, is_linearizable

pytestmark = pytest.mark.asyncio

KINDS = ["reset", "reset", "invite", "access", "refresh"]


@dataclass(frozen=True)
class Alive:
    """The valid tokens of one user, one thing at a time. Names begin with their type."""

    tokens: frozenset[str]

    def after(self, event: Event, *, has_grace: bool) -> Alive | None:
        """The state after an event; None if it cannot happen here."""
        if event.what == "make":
            return Alive(self.tokens | {event.token})
        if event.what == "sign out":
            return Alive(frozenset())
        if event.what == "expire":
            return Alive(frozenset(token for token in self.tokens if not token.startswith("access ")))
        if event.outcome != str(event.token in self.tokens):
            return None
        if event.what == "check" or event.outcome == "False":
            return self
        kind = event.token.partition(" ")[0] + " "
        gone = {event.token}
        if event.what == "use, and end the others":
            gone |= {token for token in self.tokens if token.startswith(kind)}
        return Alive(self.tokens - gone)


class History:
    """Some callers, who know all tokens of one user."""

    def __init__(self, stores, seed):
        self.stores = stores
        self.chance = random.Random(seed)
        self.events: list[Event] = []
        self.tokens: dict[str, TokenRef] = {}

    async def run(self, callers, actions):
        for kind in KINDS:
            await self.make(self.stores[0], kind)
        begin = Alive(frozenset(self.tokens))
        self.events.clear()
        await asyncio.gather(*(self.call(actions) for _ in range(callers)))
        return begin

    async def make(self, store, kind):
        began = time.perf_counter()
        gen = await store.stamp("alice")
        name = f"{kind} {len(self.tokens)}"
        self.tokens[name] = TokenRef("alice", uuid.uuid4().hex, None, gen, 0.0, time.time() + 600, type=kind)
        self.events.append(Event(began, time.perf_counter(), "make", name, "done"))

    async def call(self, actions):
        ways = ["check", "use", "use, and end the others", "sign out", "make", "expire"]
        for _ in range(actions):
            store, what = self.chance.choice(self.stores), self.chance.choices(ways, [6, 4, 2, 1, 3, 2])[0]
            if what == "make":
                await self.make(store, self.chance.choice(KINDS))
                continue
            name = self.chance.choice([*self.tokens][-6:])
            ref = self.tokens[name]
            if what == "use, and end the others" and ref.type not in ("reset", "invite"):
                what = "use"
            began = time.perf_counter()
            outcome = await self.do(store, what, ref)
            self.events.append(Event(began, time.perf_counter(), what, name, str(outcome)))

    async def do(self, store, what, ref):
        if what == "check":
            return await store.check(ref)
        if what == "sign out":
            return await store.revoke_user("alice")
        if what == "expire":
            return await store.expire_access_tokens("alice")
        return await store.consume_token(ref, others=what != "use")


@pytest.mark.parametrize("kind", ["memory", "redis"])
async def test_concurrent_histories_have_an_order(kind, request, is_long):
    for seed in range(500 if is_long else 30):
        if kind == "memory":
            stores = [MemoryStore()]
        else:
            prefix = f"test-{uuid.uuid4().hex}:"
            url = request.getfixturevalue("redis_url")
            stores = [RedisStore(url, prefix=prefix, deadline=5) for _ in range(2)]
        history = History(stores, seed)
        begin = await history.run(callers=4, actions=6)
        assert is_linearizable(history.events, begin, has_grace=False), (seed, history.events)
        for store in stores:
            await store.close()


async def test_the_judge_of_histories_finds_what_has_no_order():
    begin = Alive(frozenset({"reset 0", "reset 1", "invite 2", "access 3"}))
    good = [
        Event(0, 3, "use", "reset 0", "True"),
        Event(1, 2, "use, and end the others", "reset 1", "True"),
        Event(4, 5, "check", "invite 2", "True"),
    ]
    assert is_linearizable(good, begin, has_grace=False)
    both = "use, and end the others"
    for wrong in (
        [Event(0, 3, "use", "reset 0", "True"), Event(1, 2, "use", "reset 0", "True")],
        [Event(0, 3, both, "reset 0", "True"), Event(1, 2, both, "reset 1", "True")],
        [Event(0, 1, both, "reset 0", "True"), Event(2, 3, "check", "reset 1", "True")],
        [Event(0, 1, "sign out", "reset 0", "None"), Event(2, 3, "use", "reset 0", "True")],
        [Event(0, 1, both, "reset 0", "True"), Event(2, 3, "check", "invite 2", "False")],
        [Event(0, 1, "expire", "reset 0", "None"), Event(2, 3, "check", "access 3", "True")],
        [Event(0, 1, "expire", "reset 0", "None"), Event(2, 3, "check", "reset 0", "False")],
    ):
        assert not is_linearizable(wrong, begin, has_grace=False)
