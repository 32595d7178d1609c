"""Both stores against one simple model, in any order of events."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, rule, run_state_machine_as_test

from async_jwt.stores import MemoryStore, TokenRef
from async_jwt.stores.contract import new_sid
from async_jwt.stores.redis import RedisStore

IDENTITIES = ["alice", "bob", "carol"]
NEVER = (float("-inf"), None, float("-inf"))


@dataclass(frozen=True)
class Token:
    ref: TokenRef
    made: float
    """Its place in the order of events; without a stamp it seems to be made long before, or after, all."""


class Machine(RuleBasedStateMachine):
    """Revokes, and knows by the order of events alone what must be dead."""

    tokens = Bundle("tokens")

    def __init__(self, make):
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = make()
        self.events = itertools.count(1)
        self.all: list[Token] = []
        self.dead_ids: set[str] = set()
        self.everybody = float("-inf")
        self.users: dict[str, tuple[float, str | None, float]] = {}
        self.purposes: dict[tuple[str, str], float] = {}

    def teardown(self):
        for token in self.all:
            self.compare(token)
        self.runner.run(self.store.close())
        self.runner.close()

    def valid(self, token: Token) -> bool:
        cutoff, kept, kept_from = self.users.get(token.ref.identity, NEVER)
        is_kept = kept is not None and kept in (token.ref.sid, token.ref.jti)
        return (
            not self.dead_ids.intersection({f"j{token.ref.jti}", f"s{token.ref.sid}"})
            and token.made > self.everybody
            and token.made > (kept_from if is_kept else cutoff)
            and token.made > self.purposes.get((token.ref.identity, token.ref.type), float("-inf"))
        )

    def compare(self, token: Token) -> None:
        assert self.runner.run(self.store.check(token.ref)) is self.valid(token), token

    @rule(
        target=tokens,
        identity=st.sampled_from(IDENTITIES),
        has_session=st.booleans(),
        has_jti=st.booleans(),
        kind=st.sampled_from(["", "access", "refresh", "reset", "invite"]),
    )
    def sign_in(self, identity, has_session, has_jti, kind):
        gen = self.runner.run(self.store.stamp(identity))
        sid = new_sid(identity) if has_session else None
        jti = uuid.uuid4().hex if has_jti else None
        ref = TokenRef(identity, jti, sid, gen, 0.0, time.time() + 60, type=kind)
        return self.add(Token(ref, next(self.events)))

    @rule(target=tokens, token=tokens)
    def go_on_in_the_same_session(self, token):
        gen = self.runner.run(self.store.stamp(token.ref.identity))
        ref = token.ref._replace(jti=uuid.uuid4().hex, gen=gen)
        return self.add(Token(ref, next(self.events)))

    @rule(
        target=tokens,
        identity=st.sampled_from(IDENTITIES),
        age=st.sampled_from([-1e9, 1e9]),
        kind=st.sampled_from(["", "access", "reset"]),
    )
    def come_from_another_issuer(self, identity, age, kind):
        issued = max(0.0, time.time() + age)
        ref = TokenRef(identity, uuid.uuid4().hex, None, None, issued, time.time() + 60, type=kind)
        return self.add(Token(ref, age))

    @rule(identity=st.sampled_from(IDENTITIES))
    def expire_access_tokens(self, identity):
        self.runner.run(self.store.expire_access_tokens(identity))
        self.purposes[identity, "access"] = next(self.events)

    @rule(token=tokens)
    def refuse(self, token):
        """Only what nothing else ended is stale."""
        if not self.valid(token):
            ends = self.purposes.pop((token.ref.identity, "access"), float("-inf"))
            reason = self.runner.run(self.store.refusal_of(token.ref))
            assert (reason == "stale") is self.valid(token), token
            self.purposes[token.ref.identity, "access"] = ends

    @rule(token=tokens, others=st.booleans())
    def consume_token(self, token, others):
        ref, others = token.ref, others and token.ref.type in ("reset", "invite")
        if ref.jti is not None:
            was_valid = self.valid(token)
            assert self.runner.run(self.store.consume_token(ref, others=others)) is was_valid, token
            if was_valid:
                self.dead_ids.add(f"j{ref.jti}")
                if others:
                    self.purposes[ref.identity, ref.type] = next(self.events)
                assert self.runner.run(self.store.refusal_of(ref)) == "used"

    @rule(token=tokens)
    def check(self, token):
        self.compare(token)

    @rule(token=tokens)
    def revoke_token(self, token):
        if token.ref.jti is None:
            with pytest.raises(ValueError, match="jti"):
                self.runner.run(self.store.revoke_token(token.ref))
        else:
            self.runner.run(self.store.revoke_token(token.ref))
            self.dead_ids.add(f"j{token.ref.jti}")

    @rule(token=tokens, lives=st.sampled_from([60, None]))
    def revoke_session(self, token, lives):
        if token.ref.sid is not None:
            expires_at = None if lives is None else time.time() + lives
            self.runner.run(self.store.revoke_session(token.ref.sid, expires_at))
            self.dead_ids.add(f"s{token.ref.sid}")

    @rule(identity=st.sampled_from(IDENTITIES))
    def revoke_user(self, identity):
        self.runner.run(self.store.revoke_user(identity))
        self.users[identity] = (next(self.events), None, 0.0)

    @rule(token=tokens)
    def revoke_user_but(self, token):
        kept = (token.ref.sid or token.ref.jti) if self.valid(token) else None
        self.runner.run(self.store.revoke_user(token.ref.identity, keep=token.ref))
        cutoff, before, kept_from = self.users.get(token.ref.identity, NEVER)
        goes_on = kept is not None and kept == before
        self.users[token.ref.identity] = (next(self.events), kept, kept_from if goes_on else cutoff)

    @rule()
    def revoke_everything(self):
        self.runner.run(self.store.revoke_everything())
        self.everybody = next(self.events)

    @rule(token=consumes(tokens))
    def forget(self, token):
        """Fewer tokens make for more events about each."""

    def add(self, token: Token) -> Token:
        self.all.append(token)
        self.compare(token)
        return token


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
            max_examples=1000 if is_long else 15,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
