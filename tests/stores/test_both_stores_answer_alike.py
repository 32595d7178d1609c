"""The same random operations on both stores, side by side: each is answered alike."""

from __future__ import annotations

import asyncio
import random
import uuid
from typing import Any

import pytest

from async_jwt.errors import JWTExtendedException
from async_jwt.stores import MemoryStore
from async_jwt.stores.redis import RedisStore
from tests.harness.applications import NEEDS_QUART, QuartHarness
from tests.harness.rotation import rotating

pytestmark = [NEEDS_QUART, pytest.mark.asyncio]

IDENTITIES = ["alice", "bob"]
STEPS = 25


class Side:
    """An application on one of the stores. What it answers names sessions by when they began."""

    def __init__(self, store: Any, config: dict[str, Any]) -> None:
        self.store = store
        self.app = rotating(QuartHarness({"JWT_REFRESH_LATE_AFTER": 60, **config}, store=store))
        self.tokens: list[tuple[str, str]] = []
        self.sids: list[str] = []
        api = self.app.api

        @api.jwt_required(verify_type=False)
        async def act(what: str, sid: str = "") -> Any:
            if what == "out":
                return {"done": await api.revoke_session(sid or None)}
            if what == "everywhere":
                return {"done": await api.revoke_user()}
            if what == "elsewhere":
                return {"done": await api.revoke_user(keep_current=True)}
            if what == "token":
                return {"done": await api.revoke_token()}
            if what == "stale":
                return {"done": await api.expire_access_tokens()}
            page = await api.list_sessions()
            return {"found": [[self.name(each.sid), each.current, each.actor] for each in page.sessions]}

        self.app.view("/act/<what>", act, methods=["POST"])
        self.app.view("/act/<what>/<sid>", act, methods=["POST"])

    def name(self, sid: str) -> int:
        if sid not in self.sids:
            self.sids.append(sid)
        return self.sids.index(sid)

    def took(self, access: str, refresh: str, sid: str) -> int:
        self.tokens.append((access, refresh))
        return self.name(sid)

    async def sign_in(self, identity: str, _: random.Random) -> Any:
        pair = await self.app.jwt.create_token_pair(identity)
        return self.took(pair.access_token, pair.refresh_token, pair.sid)

    async def act_as(self, identity: str, _: random.Random) -> Any:
        pair = await self.app.jwt.create_token_pair(identity, additional_claims={"act": {"sub": "support"}})
        return self.took(pair.access_token, pair.refresh_token, pair.sid)

    async def sign_in_apart(self, identity: str, _: random.Random) -> Any:
        refresh, access = await self.app.mint_refresh(identity), await self.app.mint(identity)
        self.tokens.append((access, refresh))

    async def rotate(self, identity: str, chance: random.Random) -> Any:
        if not self.tokens:
            return None
        answer = await self.app.call("/rotate", method="POST", token=chance.choice(self.tokens)[1])
        if answer.status == 200:
            return self.took(answer.json["access"], answer.json["refresh"], answer.json["sid"])
        return answer.status, answer.json.get("code")

    async def use(self, identity: str, chance: random.Random) -> Any:
        if not self.tokens:
            return None
        token = chance.choice(chance.choice(self.tokens))
        answer = await self.app.call("/either", token=token)
        return answer.status, answer.json.get("code")

    async def act(self, identity: str, chance: random.Random) -> Any:
        what = chance.choice(["out", "out", "everywhere", "elsewhere", "token", "stale", "list"])
        if not self.tokens:
            return None
        token = chance.choice(chance.choice(self.tokens))
        other = chance.random() < 0.5 and what == "out" and self.sids
        path = f"/act/{what}/{chance.choice(self.sids)}" if other else f"/act/{what}"
        answer = await self.app.call(path, method="POST", token=token)
        return what, answer.status, answer.json

    async def operate(  # noqa: PLR0911  # one for each operation
        self, identity: str, chance: random.Random
    ) -> Any:
        """What an operator does, outside of a request."""
        jwt, what = (
            self.app.jwt,
            chance.choice(["out", "out", "whose", "user", "token", "used", "all", "pages"]),
        )
        try:
            if what == "user":
                return await jwt.revoke_user(identity)
            if what == "all":
                return await jwt.revoke_everything() if chance.random() < 0.2 else None
            if what == "pages":
                found, cursor = [], None
                while True:
                    page = await jwt.list_sessions(identity, limit=2, cursor=cursor)
                    found.append([self.name(each.sid) for each in page.sessions])
                    cursor = page.cursor
                    if cursor is None:
                        return found
            if what == "token" and self.tokens:
                return await jwt.revoke_token(chance.choice(chance.choice(self.tokens)))
            if what == "used":
                reset = [await jwt.create_token(identity, type="reset") for _ in range(3)]
                return [await jwt.consume_token(each, others=each is reset[1]) for each in (*reset, reset[0])]
            sid = chance.choice(self.sids) if self.sids else "none"
            if what == "out":
                return await jwt.revoke_session(sid)
            return await jwt.revoke_session(sid, identity=identity)
        except JWTExtendedException as error:
            return error.error_code


ACTS = [
    "sign_in",
    "sign_in_apart",
    "act_as",
    "rotate",
    "rotate",
    "rotate",
    "use",
    "use",
    "act",
    "act",
    "operate",
]


async def run(side: Side, seed: int) -> list[Any]:
    chance, answers = random.Random(seed), []
    for _ in range(STEPS):
        act, identity = chance.choice(ACTS), chance.choice(IDENTITIES)
        answers.append((act, await getattr(side, act)(identity, random.Random(chance.random()))))
    return answers


async def test_both_answer_alike(redis_url, is_long):
    config = random.Random(0)
    for seed in range(2000 if is_long else 60):
        options = {
            "JWT_REFRESH_GRACE": config.choice([0, 10, "until_used"]),
            "JWT_MAX_SESSIONS": config.choice([None, 2, 3]),
        }
        redis = RedisStore(redis_url, prefix=f"test-{uuid.uuid4().hex}:", deadline=5)
        sides = [Side(MemoryStore(), options), Side(redis, options)]
        one, two = [await run(side, seed) for side in sides]
        assert one == two, (seed, options)
        await redis.close()
        for side in sides:
            side.app.end()
    await asyncio.sleep(0)
