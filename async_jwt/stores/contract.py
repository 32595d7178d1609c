"""What a revocation store promises: the `Store` protocol and the values it deals in.

A store answers one question, "does this token still count?", and keeps what is needed to
answer it: revoked tokens (`jti`), revoked sessions (`sid`) and generations. A generation
is a counter of one user, or of everybody, that signing out everywhere raises; a token
carries the generations it was made under as its `gen` claim, an opaque stamp, and is dead
once one of them was raised. Counters and not clocks, so that signing out and in again
within one second is right whatever the machines' clocks say. Tokens without a stamp, made
by others, go by their `iat`.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import NamedTuple, Protocol

__all__ = [
    "BUCKETS",
    "Session",
    "SessionStep",
    "SessionStore",
    "Store",
    "StoreStatus",
    "TokenRef",
    "bucket_of",
    "bucket_of_sid",
    "new_sid",
]

BUCKETS = 256
"""How many buckets the identities are spread over; all keys of one identity share one."""


def bucket_of(identity: str) -> str:
    """The bucket of an identity: two hexadecimal digits, the same in every process."""
    return hashlib.blake2b(identity.encode("utf-8"), digest_size=1).hexdigest()


def new_sid(identity: str) -> str:
    """A new session id: its identity's bucket, then 128 random bits.

    The bucket is part of it so that a session can be found by its id alone.
    """
    return bucket_of(identity) + secrets.token_urlsafe(16)


def bucket_of_sid(sid: str) -> str:
    """The bucket of a session id; that of its text for one that `new_sid` did not make."""
    bucket = sid[:2]
    is_one = len(bucket) == 2 and all(digit in "0123456789abcdef" for digit in bucket)
    return bucket if is_one else bucket_of(sid)


class TokenRef(NamedTuple):
    """What a store needs to know of one token.

    Attributes:
        identity: the identity as text; "" for a token without one.
        jti: the token's id, or None for a foreign token without one.
        sid: the session's id, or None outside a session.
        gen: the stamp it was made under, or None for a foreign token.
        issued_at: seconds since the epoch at which it counts as issued: `iat` less the
            allowed clock skew, 0 without `iat`. For tokens whose stamp says nothing.
        expires_at: seconds since the epoch after which nobody accepts it any more, leeway
            included; None for a token that never expires.
        is_plain: whether it is an access token that is not fresh: the only kind that a store
            may let through unchecked in an outage, where it was told to.
    """

    identity: str
    jti: str | None
    sid: str | None
    gen: str | None
    issued_at: float
    expires_at: float | None
    is_plain: bool = False


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """How a store fares, for health checks and metrics. None is what it does not know.

    Attributes:
        available: whether it answers.
        since: seconds since the epoch at which that began.
        problem: what keeps it from answering, or from revoking; None if nothing does.
        refused: how many calls were not answered since the process started.
        let_through: how many checks an outage let through (`on_outage="allow"`).
        data_losses: how often this process noticed that the server forgot revocations.
        may_evict: whether the server may drop keys to make room.
        persists: whether it keeps its data on disk.
        read_only: whether it is a replica, which cannot revoke.
    """

    available: bool
    since: float
    problem: str | None = None
    refused: int = 0
    let_through: int = 0
    data_losses: int = 0
    may_evict: bool | None = None
    persists: bool | None = None
    read_only: bool | None = None


class Store(Protocol):
    """A revocation store. All methods may be called at once from many tasks and loops.

    Every method that cannot be answered raises `StoreUnavailableError`: a store never
    guesses. A revocation has succeeded only when it returned.
    """

    async def stamp(self, identity: str) -> str:
        """The stamp for a token of this identity made now."""
        ...

    async def check(self, ref: TokenRef) -> bool:
        """Whether the token still counts: False once it, its session or its user was revoked."""
        ...

    async def revoke_token(self, ref: TokenRef) -> None:
        """Revoke one token, until it would expire. A token without `jti` raises ValueError."""
        ...

    async def revoke_session(self, sid: str, expires_at: float | None) -> None:
        """Revoke all tokens of a session.

        Args:
            sid: the session's id.
            expires_at: when its longest token expires, in seconds since the epoch; None
                keeps the revocation for ever.
        """
        ...

    async def revoke_user(self, identity: str, keep: TokenRef | None = None) -> None:
        """Revoke every token of an identity made until now.

        Args:
            identity: the identity as text.
            keep: a token whose session, or itself where it has none, stays valid, as far
                as it was: nothing that was dead already is kept alive.
        """
        ...

    async def revoke_everything(self) -> None:
        """Revoke every token made until now."""
        ...

    async def start(self) -> None:
        """Get ready, for instance connect. Called when the server starts; optional to succeed."""
        ...

    async def close(self) -> None:
        """Release what the running event loop holds. The store may be used again later."""
        ...


@dataclass(frozen=True, slots=True)
class Session:
    """One device of one user, as a store keeps it. All times in seconds since the epoch."""

    sid: str
    identity: str
    device: str | None
    created_at: float
    last_used_at: float
    expires_at: float | None
    refresh_jti: str


@dataclass(frozen=True, slots=True)
class SessionStep:
    """The outcome of presenting a refresh token: the session as it was, and as it is now.

    `advanced` says whether this call did the step; otherwise `current` shows who came first.
    """

    advanced: bool
    current: Session | None


class SessionStore(Store, Protocol):
    """A store that also keeps sessions, for refresh rotation."""

    async def open_session(self, session: Session) -> None:
        """Remember a new session until it expires."""
        ...

    async def step_session(self, sid: str, presented_jti: str, successor: Session) -> SessionStep:
        """Put `successor` in place if the session's current refresh token is the presented one.

        One atomic compare-and-set: of any number of concurrent calls with the same token,
        exactly one advances.
        """
        ...
