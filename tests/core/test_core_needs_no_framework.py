"""The core without a framework, on asyncio and on trio."""

from __future__ import annotations

from dataclasses import dataclass, field

import anyio
import pytest

from async_jwt.core.authenticate import RequestState, authenticate
from async_jwt.core.claims import check_shape
from async_jwt.core.engine import Engine
from async_jwt.core.hooks import Hooks
from async_jwt.core.issue import TokenSpec, issue
from async_jwt.core.policy import Policy
from async_jwt.core.settings import Settings
from async_jwt.errors import ClaimError, HookTimeoutError, NoAuthorizationError, RevokedTokenError
from async_jwt.stores import MemoryStore
from tests.harness import SECRET

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@dataclass
class View:
    method: str = "GET"
    origin: str = "http://localhost"
    is_json: bool = False
    is_websocket: bool = False
    is_accepted: bool = False
    sent: dict = field(default_factory=dict)

    def headers(self, name):
        return self.sent.get(name, [])

    def cookies(self, name):
        return []

    def query(self, name):
        return []

    async def body(self, limit):
        return b""

    async def form(self, name):
        return None


def engine_of(**config):
    settings = Settings.from_config({"JWT_SECRET_KEY": SECRET, **config})
    return Engine(settings, Hooks(), None, MemoryStore(), lambda: 1_800_000_000.0, str)


async def test_the_whole_way_of_a_token():
    engine = engine_of()
    engine.hooks.register("user_lookup", lambda header, claims: claims["sub"].upper(), inline=False)
    issued = await issue(engine, TokenSpec(identity="alice", type="access"))
    view = View(sent={"Authorization": [f"Bearer {issued.token}"]})
    record = RequestState()
    await authenticate(engine, view, Policy.of(), record)
    found = record.result.authentication
    assert found is record.result.authentication  # made once
    assert (found.user, found.identity, found.location) == ("ALICE", "alice", "headers")
    with pytest.raises(NoAuthorizationError):
        await authenticate(engine, View(), Policy.of(), RequestState())
    await engine.store.revoke_everything()
    with pytest.raises(RevokedTokenError):
        await authenticate(engine, view, Policy.of(), RequestState())


async def test_hooks_are_timed():
    engine = engine_of(JWT_HOOK_TIMEOUT=0.05)

    async def slow(header, claims):
        await anyio.sleep(5)

    engine.hooks.register("user_lookup", slow, inline=False)
    with pytest.raises(HookTimeoutError):
        await engine.call_hook("user_lookup", {}, {})


async def test_many_plain_hooks_wait_for_their_turn():
    import time

    engine = engine_of()
    engine.hooks.register("user_lookup", lambda number, _: time.sleep(0.01) or number, inline=False)
    answers = []

    async def call_hook(number):
        answers.append(await engine.call_hook("user_lookup", number, None))

    async with anyio.create_task_group() as group:
        for number in range(100):
            group.start_soon(call_hook, number)
    assert sorted(answers) == list(range(100))


def test_what_stores_are_told_allows_for_clocks_that_differ():
    settings = Settings.from_config({"JWT_DECODE_LEEWAY": 30, "JWT_CLOCK_SKEW": 7})
    claims = {"sub": "a", "jti": "1", "type": "access", "iat": 1000, "exp": 2000}
    _, _, ref = check_shape(claims, settings)
    assert (ref.issued_at, ref.expires_at) == (993, 2030)


@pytest.mark.parametrize("claim", ["iat", "nbf", "exp"])
@pytest.mark.parametrize("wrong", [10**400, 10**15, -(10**400)], ids=["huge", "late", "early"])
def test_beside_plain_times_one_that_no_clock_shows_is_refused(claim, wrong):
    times = {"iat": 1000, "nbf": 1000, "exp": 2000}
    settings = Settings.from_config({})
    with pytest.raises(ClaimError):
        check_shape({"sub": "a", "jti": "1", "type": "access", **times, claim: wrong}, settings)
    for other in ({"exp": 10}, {"nbf": 3000}, {"iat": -5}):  # odd, and times all the same
        start, end, _ = check_shape({"sub": "a", "jti": "1", "type": "access", **times, **other}, settings)
        found = {**times, **other}
        assert (start, end) == (max(found["iat"], found["nbf"]), found["exp"])


@pytest.mark.parametrize("claim", ["type", "jti", "csrf", "gen", "sid"])
@pytest.mark.parametrize("verify_sub", [True, False])
def test_texts_are_texts_whether_or_not_the_subject_is(claim, verify_sub):
    settings = Settings.from_config({"JWT_VERIFY_SUB": verify_sub})
    for wrong in (7, None, ["a"], {}):
        with pytest.raises(ClaimError):
            check_shape({"sub": "a", "jti": "1", "type": "access", claim: wrong}, settings)
    if not verify_sub:
        check_shape({"sub": 7, "jti": "1", "type": "access"}, settings)
