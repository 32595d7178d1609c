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

import base64
import hashlib
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

from async_jwt.errors import InvalidPageError

__all__ = [
    "BUCKETS",
    "LONGEST_ID",
    "Session",
    "SessionSnapshot",
    "SessionStore",
    "Store",
    "StoreStatus",
    "TokenRef",
    "adopted_sid",
    "bucket_of",
    "bucket_of_sid",
    "cursor_after",
    "latest",
    "new_sid",
    "read_cursor",
    "refuse_odd_texts",
    "text_of",
]

LONGEST_ID = 256
"""How long the id of a session, or a cursor, can be that clients send."""

LONGEST_TEXT = 65_536
"""How many characters an identity, a `jti` or a `sid` may have."""

BUCKETS = 256
"""How many buckets the identities are spread over; all keys of one identity share one."""


def text_of(given: Any, what: str) -> str:
    """An identity or id as stores keep it: text, and never a proxy of text or a subclass of `str`.

    Args:
        given: what a caller handed over.
        what: what it is, for the error.

    Raises:
        ValueError: it is not text, it is longer than `LONGEST_TEXT`, or text that UTF-8 cannot hold.
    """
    if not isinstance(given, str):
        raise ValueError(f"{what} must be text, not {type(given).__name__}")  # noqa: TRY004  # the caller's value
    text = str(given)
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"{what} must be text of {LONGEST_TEXT} characters at most")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{what} must be text that UTF-8 can hold") from None
    return text


def bucket_of(identity: str) -> str:
    """The bucket of an identity: two hexadecimal digits, the same in every process."""
    return hashlib.blake2b(identity.encode("utf-8"), digest_size=1).hexdigest()


def new_sid(identity: str) -> str:
    """A new session id: its identity's bucket, then 128 random bits.

    The bucket is part of it so that a session can be found by its id alone.
    """
    return bucket_of(identity) + secrets.token_urlsafe(16)


def adopted_sid(identity: str, jti: str) -> str:
    """The session id of a refresh token without one: always the same, so that all see one session."""
    named = f"{len(identity)}:{identity}{jti}".encode()
    digest = hashlib.blake2b(named, digest_size=16).digest()
    return bucket_of(identity) + base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")


def latest(ends: Sequence[float | None]) -> float | None:
    """The latest of some times, where None is never."""
    known = [end for end in ends if end is not None]
    return max(known) if len(known) == len(ends) else None


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
    may_fail_open: bool = False


def refuse_odd_texts(ref: TokenRef) -> None:
    """Refuse a token whose identity or ids cannot be kept. Raises ValueError."""
    identity, jti, sid = ref.identity or "", ref.jti or "", ref.sid or ""
    if identity.isascii() and jti.isascii() and sid.isascii() and len(identity + jti + sid) <= LONGEST_TEXT:
        return  # as nearly always
    for text, what in ((ref.identity, "The identity"), (ref.jti, "The jti"), (ref.sid, "The sid")):
        if text is not None and not (text.isascii() and len(text) <= LONGEST_TEXT):
            text_of(text, what)


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
        clock_ahead: seconds by which the server's clock was ahead of this machine's when it was last
            looked at.
        staleness: seconds by which answers from a mirror may be behind; None where nothing is
            answered from one.
        mirrored: how many revocations the mirror holds; None without one.
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
    clock_ahead: float | None = None
    staleness: float | None = None
    mirrored: int | None = None


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
                keeps the revocation for ever. Never less long than a session that the store
                keeps says itself (`Session.ends_at`).
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
    """One device of one user, as a store keeps it. All times in seconds since the epoch.

    Attributes:
        sid: its id.
        identity: whose it is, as text.
        device: what the application calls the device.
        created_at: when the user signed in on it.
        last_used_at: when its refresh token was last replaced; `created_at` at first.
        expires_at: when its refresh token expires, leeway included; None for never.
        ends_at: when the last of its tokens expires, leeway included; None for never. Until then
            a store remembers the session, or that it was revoked.
        stamp: the stamp that its refresh token was made under.
        refresh_jti: its refresh token.
        previous_jti: the refresh token that this one replaced; None for the first.
        extras: claims and headers that all of its tokens carry, as JSON.
        late_streak: how many of its last steps, one after another, were each repeated late.
        repeated_late: whether its last step was.
    """

    sid: str
    identity: str
    device: str | None
    created_at: float
    last_used_at: float
    expires_at: float | None
    ends_at: float | None
    stamp: str
    refresh_jti: str
    previous_jti: str | None = None
    extras: str = field(default="", repr=False)
    late_streak: int = 0
    repeated_late: bool = False


@dataclass(frozen=True, slots=True)
class SessionSnapshot:
    """A token and its session as they stood at one moment.

    Attributes:
        counts: whether the token counts, as `check` says it.
        stamp: the stamp for a token made at that moment.
        session: the session; None if the store knows none, or it was revoked.
        successor: what `replace_session` was told to keep for a while.
        age: of a token that is not the session's current one: how many seconds ago, by the store's
            clock, the current one took its predecessor's place. Else 0.
        was_replaced: of a token of a revoked session, whose user was not signed out otherwise: whether
            it is neither the session's last refresh token nor the one before that.
        version: the store's own: what `replace_session` compares.
    """

    valid: bool
    stamp: str
    session: Session | None = None
    successor: str | None = field(default=None, repr=False)
    age: float = 0.0
    was_replaced: bool = False
    version: Any = field(default=None, repr=False)


def cursor_after(session: Session) -> str:
    """Where a page ended: when its last session was used, and its id."""
    return f"{session.last_used_at!r} {session.sid}"


def read_cursor(cursor: Any) -> tuple[float, str]:
    """What `cursor_after` says. Raises PageError for what it never says: clients send these."""
    if not isinstance(cursor, str) or len(cursor) > LONGEST_ID:
        raise InvalidPageError
    used, _, sid = cursor.partition(" ")
    try:
        moment = float(used)
    except ValueError:
        raise InvalidPageError from None
    if not (math.isfinite(moment) and sid and sid.isascii()):
        raise InvalidPageError
    return moment, sid


@runtime_checkable
class SessionStore(Store, Protocol):
    """A store that also keeps sessions: for refresh rotation, and lists of devices.

    Whoever revokes a session, a user or everybody ends the sessions with it.
    """

    async def load_session(self, ref: TokenRef) -> SessionSnapshot:
        """Look at a token and its session.

        All of it stood so at one moment, or the stamp is the oldest part: then whatever is
        revoked later revokes what is made under that stamp.
        """
        ...

    async def get_session(self, sid: str) -> Session | None:
        """The session of that id; None if there is none, or it counts no more."""
        ...

    async def replace_session(
        self,
        session: Session,
        seen: SessionSnapshot,
        *,
        successor: str | None = None,
        keep_for: float | None = None,
        limit: int | None = None,
    ) -> tuple[str, ...] | None:
        """Put a session in the place of what was seen of it, in one atomic step.

        Where its refresh token is the one that was seen, there is no step: what was kept, for how
        long and since when, stays as it is.

        Args:
            session: the session as it shall be; a new one where none was seen.
            seen: what `load_session` returned for the token that it replaces.
            successor: what to show as `successor` from now on.
            keep_for: for how many seconds; None as long as the session is remembered.
            limit: how many sessions one user may have: the least recently used ones beyond are
                revoked, never the one that is put. Of very many beyond, some are left to later steps.

        Returns:
            The ids of sessions that the limit ended; None without doing anything if the session
            is another one by now, or the token, the session, the user or everybody was revoked
            since. Of any number of calls that saw the same, exactly one is done.
        """
        ...

    async def list_sessions(
        self, identity: str, limit: int, cursor: str | None
    ) -> tuple[Sequence[Session], str | None]:
        """Sessions of one user that count and have not expired, the last used first.

        Args:
            identity: the identity as text.
            limit: how many at most.
            cursor: where the page before ended, as it said; None is the first page.

        Returns:
            The sessions, and where the next page begins; None after the last. A session that
            is not used meanwhile is on exactly one page.

        Raises:
            PageError: the cursor is none.
        """
        ...
