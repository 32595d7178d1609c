"""Sessions over HTTP, on both stores, against one simple model, in any order of events."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from async_jwt.stores import MemoryStore
from async_jwt.stores.redis import RedisStore
from tests.harness.applications import QuartHarness

IDENTITIES = ["alice", "bob"]
LIMIT = 3


@dataclass
class Session:
    """What is true of a session. Tokens are known by their `jti`."""

    identity: str
    current: str
    used: int
    previous: str | None = None
    is_dead: bool = False
    counts: bool = True


@dataclass(frozen=True)
class Held:
    """A refresh token, and the access token that came with it."""

    sid: str
    refresh: str
    access: str
    jti: str


class Machine(RuleBasedStateMachine):
    """Signs in, refreshes with tokens of any age, and signs out."""

    tokens = Bundle("tokens")

    def __init__(self, make):
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = make()
        self.sessions: dict[str, Session] = {}
        self.events = itertools.count()
        self.made: list[tuple[str, str]] = []
        self.stale: set[str] = set()

    @initialize(grace=st.sampled_from([0, "until_used"]))
    def begin(self, grace):
        self.has_grace = grace != 0
        config = {"JWT_REFRESH_GRACE": grace, "JWT_MAX_SESSIONS": LIMIT, "JWT_COOKIE_CSRF_PROTECT": False}
        self.app = QuartHarness(config, store=self.store)
        api = self.app.api

        @api.jwt_required(refresh=True)
        async def rotate():
            pair = await api.rotate_refresh_token()
            return {"sid": pair.sid, "refresh": pair.refresh_token, "access": pair.access_token}

        @api.jwt_required()
        async def elsewhere():
            await api.revoke_user(keep_current=True)
            return {}

        self.app.view("/rotate", rotate)
        self.app.view("/elsewhere", elsewhere)

    def teardown(self):
        for identity in IDENTITIES:
            self.compare_lists(identity)
        self.runner.run(self.store.close())
        self.runner.close()

    def call(self, path, token):
        return self.runner.run(self.app.call(path, token=token))

    def held(self, sid, refresh, access):
        claims = self.runner.run(self.app.jwt.decode_token(refresh))
        assert claims["sid"] == sid
        self.made.append((claims["sub"], access))
        return Held(sid, refresh, access, claims["jti"])

    def make_room(self, identity):
        """The limit of a user's sessions ends the least recently used."""
        alive = [
            each
            for each in self.sessions.values()
            if each.identity == identity and not each.is_dead and each.counts
        ]
        for session in sorted(alive, key=lambda each: each.used)[: max(0, len(alive) - LIMIT)]:
            session.is_dead = True

    def end(self, identity=None, but=None):
        for sid, session in self.sessions.items():
            if identity in (None, session.identity) and sid != but:
                session.is_dead = True

    def compare_lists(self, identity):
        page = self.runner.run(self.app.jwt.list_sessions(identity))
        alive = [
            (session.used, sid)
            for sid, session in self.sessions.items()
            if session.identity == identity and not session.is_dead
        ]
        assert [each.sid for each in page.sessions] == [sid for _, sid in sorted(alive, reverse=True)]

    @rule(
        target=tokens,
        identity=st.sampled_from(IDENTITIES),
        apart=st.booleans(),
        counts=st.sampled_from([1, 1, 0]),
    )
    def sign_in(self, identity, apart, counts):
        counts = apart or counts == 1
        if apart:  # as Flask-JWT-Extended's users do; its first rotation makes a session of it
            refresh = self.runner.run(self.app.mint_refresh(identity))
            answer = self.call("/rotate", refresh)
            assert answer.status == 200
            held = self.held(answer.json["sid"], answer.json["refresh"], answer.json["access"])
            previous = self.runner.run(self.app.jwt.get_jti(refresh))
        else:
            pair = self.runner.run(self.app.jwt.create_token_pair(identity, counts=counts))
            held, previous = self.held(pair.sid, pair.refresh_token, pair.access_token), None
        self.sessions[held.sid] = Session(identity, held.jti, next(self.events), previous, counts=counts)
        self.make_room(identity)
        return held

    @rule(target=tokens, token=tokens)
    def refresh(self, token):
        session = self.sessions[token.sid]
        answer = self.call("/rotate", token.refresh)
        is_current = token.jti == session.current
        is_again = self.has_grace and token.jti == session.previous
        if session.is_dead:
            assert answer.status == 401
            return token
        if not is_current and not is_again:
            assert (answer.status, answer.code) == (401, "token_reused")
            session.is_dead = True
            return token
        assert answer.status == 200
        held = self.held(answer.json["sid"], answer.json["refresh"], answer.json["access"])
        if is_again:
            assert held.jti == session.current
        else:
            assert held.jti not in (session.current, session.previous)
            session.previous, session.current = session.current, held.jti
            session.used = next(self.events)
        return held

    @rule(token=tokens)
    def use(self, token):
        answer = self.call("/me", token.access)
        if self.sessions[token.sid].is_dead:
            assert (answer.status, answer.code) == (401, "token_revoked")
        elif token.access in self.stale:
            assert (answer.status, answer.code) == (401, "token_stale")
        else:
            assert answer.status == 200

    @rule(identity=st.sampled_from(IDENTITIES))
    def end_access_tokens(self, identity):
        """Sessions go on."""
        self.runner.run(self.app.jwt.expire_access_tokens(identity))
        self.stale |= {access for who, access in self.made if who == identity}

    @rule(token=tokens)
    def show_the_refresh_token_elsewhere(self, token):
        session = self.sessions[token.sid]
        known = [session.current] + [session.previous] * self.has_grace
        accepted = not session.is_dead and token.jti in known
        assert self.call("/refresh", token.refresh).status == (200 if accepted else 401)
        session.is_dead |= not accepted

    @rule(token=tokens)
    def sign_out(self, token):
        self.runner.run(self.app.jwt.revoke_session(token.sid))
        self.sessions[token.sid].is_dead = True

    @rule(token=tokens)
    def sign_out_everywhere_else(self, token):
        session = self.sessions[token.sid]
        answer = self.call("/elsewhere", token.access)
        is_stale = token.access in self.stale
        assert answer.status == (401 if session.is_dead or is_stale else 200)
        if answer.status == 200:
            self.end(session.identity, but=token.sid)

    @rule(identity=st.sampled_from(IDENTITIES))
    def sign_out_everywhere(self, identity):
        self.runner.run(self.app.jwt.revoke_user(identity))
        self.end(identity)

    @rule()
    def sign_everybody_out(self):
        self.runner.run(self.app.jwt.revoke_everything())
        self.end()

    @rule(identity=st.sampled_from(IDENTITIES))
    def list_them(self, identity):
        self.compare_lists(identity)


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_both_do_as_the_model_does(kind, request, is_long):
    if kind == "memory":
        make = MemoryStore
    else:
        url = request.getfixturevalue("redis_url")

        def make():
            return RedisStore(url, prefix=f"test-{uuid.uuid4().hex}:", deadline=5)

    run_state_machine_as_test(
        lambda: Machine(make),
        settings=settings(
            max_examples=500 if is_long else 20,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
