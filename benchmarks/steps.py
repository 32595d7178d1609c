"""Where the time goes: each step by itself, in a tight loop, and its share of the whole.

The steps are those of `async_jwt.core.codec` and `async_jwt.core.authenticate`, an HS256 token, claims as we
issue them and a memory store. In a server, where other code runs in between, each takes about twice as
long: `python -m benchmarks request`.
"""

from __future__ import annotations

import base64
import hmac
import itertools
import json
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from async_jwt.adapters import quart
from async_jwt.app_state import AppState
from async_jwt.core.authenticate import RequestState, authenticate
from async_jwt.core.claims import check_shape
from async_jwt.core.codec import encode
from async_jwt.core.compact import bytes_in, object_in, split
from async_jwt.core.engine import Engine
from async_jwt.core.locations import find
from async_jwt.core.policy import Policy
from async_jwt.core.tuples import fast_tuple
from async_jwt.stores import TokenRef
from benchmarks import least
from benchmarks.codec import claims_of_ours
from benchmarks.quart_request import our_app
from benchmarks.rows import Row
from benchmarks.timing import Timed, compare, measure
from benchmarks.tokens import MANY, SECRET

__all__ = ["run"]


async def run() -> list[Row]:
    """The steps of a token that comes for the first time, and of a request's check."""
    app = our_app()
    async with app.test_request_context("/me"):
        app_state: AppState = app.extensions["async_jwt"]
        engine = app_state.engine()
        tokens = [encode({}, claims_of_ours(), engine.ring.signing) for _ in range(MANY)]
    headers = {"Authorization": f"Bearer {tokens[0]}", "Accept": "application/json", "User-Agent": "steps"}
    async with app.test_request_context("/me", headers=headers):
        return [
            *await _codec(engine, tokens),
            *await _check(app_state, tokens[0]),
            *await _instead(tokens[0]),
        ]


async def _codec(engine: Engine, tokens: list[str]) -> list[Row]:
    codec, settings, now = engine.codec, engine.settings, time.time()
    keys = engine.ring.at(now)
    key, token, turn = keys.signing, tokens[0], itertools.cycle(tokens)
    parts = split(token, settings.max_token_bytes)
    signature = bytes_in(parts.signature, "crypto")
    claims, _ = object_in(parts.payload, "payload")
    verified = codec.verify(token, keys)
    whole = _timed("the whole", lambda: codec.read(codec.verify(next(turn), keys), now))
    cases = [
        _timed("take the text apart", lambda: split(token, settings.max_token_bytes)),
        _timed("and find its header among those known", lambda: codec.inspect(token)),
        _timed("the signature's base64url", lambda: bytes_in(parts.signature, "crypto")),
        _timed("its HMAC, in constant time", lambda: key.verify(parts.signing_input, signature)),
        _timed("the payload's base64url", lambda: bytes_in(parts.payload, "payload")),
        _timed("and its JSON, strictly", lambda: object_in(parts.payload, "payload")),
        _timed("the shape of all claims", lambda: check_shape(claims, settings)),
        _timed("copies for the caller, and the times", lambda: codec.read(verified, now)),
        _timed("the whole, remembered", lambda: codec.read(codec.verify(token, keys), now)),
        whole,
        _timed("the least: HMAC, base64, JSON and exp, nothing else", lambda: least.verify(next(turn))),
    ]
    await measure(cases)
    return compare("A token for the first time", cases, whole)


async def _check(app_state: AppState, token: str) -> list[Row]:
    api, framework, policy = quart._api, quart._framework, Policy.of()  # noqa: SLF001  # to time its steps
    engine, request = app_state.engine(), framework.current()[1]
    view, now = framework.view(request), time.time()
    verified = engine.codec.verify(token, engine.ring.at(now))

    async def afresh() -> None:
        setattr(request, app_state.slot, None)  # as if it were another request
        await api._verify(policy)  # noqa: SLF001

    whole = _stepped("the whole", afresh)
    cases = [
        _timed("the current application and request", framework.current),
        _timed("what is kept of the application", api._served),  # noqa: SLF001
        _timed("the settings, as they stand now", app_state.engine),
        _timed("what is kept of the request", RequestState),
        _timed("the view of the request", lambda: framework.view(request)),
        _timed("find the token", lambda: find(view, policy, engine.settings)),
        _timed("verify it: remembered", lambda: engine.verify_at_once(token, now)),
        _timed("its times", lambda: engine.codec.check_times(verified, now)),
        _stepped("ask the memory store", lambda: engine.store.check(verified.ref)),
        _stepped("the pipeline, all of these", lambda: authenticate(engine, view, policy, RequestState())),
        whole,
    ]
    await measure(cases)
    return compare("A check on Quart, the token remembered", cases, whole)


@dataclass(frozen=True, slots=True)
class _Frozen:
    """As a `TokenRef` could be."""

    identity: str
    jti: str | None
    sid: str | None
    gen: str | None
    issued_at: float
    expires_at: float | None
    may_fail_open: bool


async def _instead(token: str) -> list[Row]:
    """What was chosen, each beside what it was chosen instead of."""
    parts = split(token, 8192)
    message, payload = parts.signing_input, parts.payload
    raw = bytes_in(payload, "payload")
    text, seven = raw.decode(), ("alice", "jti", None, "m.0.0", 0.0, None, True)
    by_library, by_standard = HMAC(SECRET.encode(), SHA256()), hmac.new(SECRET.encode(), digestmod="sha256")

    def prepared(mac: Any, end: str) -> Callable[[], Any]:
        def make() -> Any:
            once = mac.copy()
            once.update(message)
            return getattr(once, end)()

        return make

    choices: list[tuple[str, Callable[[], Any], str, Callable[[], Any]]] = [
        (
            "ours, cryptography's HMAC, prepared once",
            prepared(by_library, "finalize"),
            "hmac's, prepared once",
            prepared(by_standard, "digest"),
        ),
        (
            "ours, cryptography's HMAC, prepared once",
            prepared(by_library, "finalize"),
            "hmac.digest",
            lambda: hmac.digest(SECRET.encode(), message, "sha256"),
        ),
        (
            "ours, canonical base64url",
            lambda: bytes_in(payload, "payload"),
            "base64.urlsafe_b64decode, which ignores junk",
            lambda: base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)),
        ),
        (
            "ours, strict JSON, its base64url included",
            lambda: object_in(payload, "payload"),
            "json.loads alone, which takes duplicate keys",
            lambda: json.loads(text),
        ),
        (
            "ours, a named tuple of seven, made directly",
            lambda: fast_tuple(TokenRef, seven),
            "a frozen dataclass",
            lambda: _Frozen(*seven),
        ),
        (
            "ours, a named tuple of seven, made directly",
            lambda: fast_tuple(TokenRef, seven),
            "by its own constructor",
            lambda: TokenRef(*seven),
        ),
    ]
    rows: list[Row] = []
    for ours, call, theirs, other in choices:
        base = _timed(theirs, other)
        cases = [_timed(ours, call), base]
        await measure(cases)
        rows += compare("What was chosen, and instead of what", cases[:1], base)
    return rows


def _timed(name: str, call: Callable[[], Any]) -> Timed:
    async def run(times: int) -> None:
        for _ in range(times):
            call()

    return Timed(name, run)


def _stepped(name: str, call: Callable[[], Coroutine[Any, Any, Any]]) -> Timed:
    """A coroutine that waits for nothing."""

    async def run(times: int) -> None:
        for _ in range(times):
            await call()

    return Timed(name, run)
