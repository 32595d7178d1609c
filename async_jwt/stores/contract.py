"""The contract of a revocation store: the `Store` protocol and its value types.

A store answers one question, "is this token still valid?", and keeps what it needs for the
answer: revoked tokens (`jti`), revoked sessions (`sid`) and generations. A generation is a
counter of one user, or of everyone, that signing out everywhere raises. A token carries the
generations it was issued under as its `gen` claim, an opaque stamp, and is dead once one of
them was raised. These are counters, not clocks, so that signing out and in again within one
second works whatever the machines' clocks say. Tokens without a stamp, from other issuers,
go by their `iat`.
"""

from __future__ import annotations

import base64
import hashlib
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from async_jwt.errors import InvalidPageError

__all__ = [
    "BUCKETS",
    "CLOCK_MARGIN",
    "LONGEST_ID",
    "MOST_PURPOSES",
    "AccessExpiryStore",
    "Refusal",
    "RefusalStore",
    "Session",
    "SessionSnapshot",
    "SessionStore",
    "SingleUseStore",
    "Store",
    "StoreStatus",
    "TokenRef",
    "adopted_sid",
    "bucket_of",
    "bucket_of_sid",
    "cursor_after",
    "is_purpose",
    "latest",
    "new_sid",
    "read_cursor",
    "refuse_odd_texts",
    "text_of",
    "type_digest",
]

LONGEST_ID = 256
"""Maximum length of a session ID or a cursor that clients send, in characters."""

LONGEST_TEXT = 65_536
"""Maximum length of an identity, a `jti` or a `sid`, in characters."""

BUCKETS = 256
"""Number of buckets that identities are spread over; all keys of one identity share one."""

CLOCK_MARGIN = 60
"""Seconds that a revocation outlives its token, for processes whose clocks are behind and clocks that step
back."""

MOST_PURPOSES = 64
"""Number of purposes per user whose outstanding tokens were ended that a store keeps one by one. Beyond it,
the oldest of them is kept for all purposes: tokens of any purpose that are older still end with it."""


def text_of(given: Any, what: str) -> str:
    """Return an identity or ID as stores keep it: a plain `str`, never a proxy or a subclass.

    Args:
        given: the caller's value.
        what: its name, for the error.

    Raises:
        ValueError: it is not text, is longer than `LONGEST_TEXT`, or cannot be encoded as UTF-8.
    """
    if not isinstance(given, str):
        raise ValueError(f"{what} must be text, not {type(given).__name__}")  # noqa: TRY004  # the caller's value
    text = str(given)
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"{what} must be text of at most {LONGEST_TEXT} characters")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{what} must be text that UTF-8 can encode") from None
    return text


def bucket_of(identity: str) -> str:
    """Return the bucket of an identity: two hexadecimal digits, the same in every process."""
    return hashlib.blake2b(identity.encode("utf-8"), digest_size=1).hexdigest()


def new_sid(identity: str) -> str:
    """Return a new session ID: its identity's bucket, then 128 random bits.

    With the bucket in it, a session can be found by its ID alone.
    """
    return bucket_of(identity) + secrets.token_urlsafe(16)


def adopted_sid(identity: str, jti: str) -> str:
    """Return the session ID for a refresh token without one: deterministic, so that all see one session."""
    named = f"{len(identity)}:{identity}{jti}".encode()
    digest = hashlib.blake2b(named, digest_size=16).digest()
    return bucket_of(identity) + base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")


def latest(ends: Sequence[float | None]) -> float | None:
    """Return the latest of some times, where None means never."""
    known = [end for end in ends if end is not None]
    return max(known) if len(known) == len(ends) else None


def bucket_of_sid(sid: str) -> str:
    """Return the bucket of a session ID; for one not made by `new_sid`, that of its text."""
    bucket = sid[:2]
    is_one = len(bucket) == 2 and all(digit in "0123456789abcdef" for digit in bucket)
    return bucket if is_one else bucket_of(sid)


class TokenRef(NamedTuple):
    """What a store needs to know about one token.

    Attributes:
        identity: the identity as text; "" for a token without one.
        jti: the token's id, or None for a foreign token without one.
        sid: the session's id, or None outside a session.
        gen: the stamp it was issued under, or None for a foreign token.
        issued_at: seconds since the epoch at which it counts as issued: `iat` minus the
            allowed clock skew, 0 without `iat`. Used for tokens without a stamp.
        expires_at: seconds since the epoch after which no check accepts it, leeway included;
            None for a token that never expires.
        may_fail_open: True for an access token that is not fresh: the only kind that a store
            may let through unchecked in an outage, if configured to.
        type: "access", "refresh" or the token's purpose; "" if that does not matter: neither
            what ended access tokens nor what ended a purpose then applies.
    """

    identity: str
    jti: str | None
    sid: str | None
    gen: str | None
    issued_at: float
    expires_at: float | None
    may_fail_open: bool = False
    type: str = ""


def is_purpose(kind: str) -> bool:
    """Return True for the type of a purpose token, such as a password reset."""
    return kind not in ("", "access", "refresh")


def type_digest(kind: str) -> str:
    """Return a digest of a token type, which may be any text: 32 hexadecimal digits."""
    return hashlib.blake2b(kind.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def refuse_odd_texts(ref: TokenRef) -> None:
    """Raise ValueError for a token whose identity or IDs cannot be stored."""
    identity, jti, sid = ref.identity or "", ref.jti or "", ref.sid or ""
    if identity.isascii() and jti.isascii() and sid.isascii() and len(identity + jti + sid) <= LONGEST_TEXT:
        return  # the common case
    for text, what in ((ref.identity, "The identity"), (ref.jti, "The jti"), (ref.sid, "The sid")):
        if text is not None and not (text.isascii() and len(text) <= LONGEST_TEXT):
            text_of(text, what)


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """A store's health, for health checks and metrics. None means unknown.

    Attributes:
        available: whether it answers.
        since: seconds since the epoch at which that state began.
        problem: what keeps it from answering or revoking; None if nothing does.
        refused: how many calls were not answered since the process started.
        let_through: how many checks an outage let through (`on_outage="allow"`).
        data_losses: how often this process detected that the server lost revocations.
        may_evict: whether the server may evict keys to free memory.
        persists: whether it keeps its data on disk.
        read_only: whether it is a replica, which cannot store revocations.
        clock_ahead: seconds by which the server's clock was ahead of this machine's when last
            measured.
        staleness: seconds by which answers from a mirror may be behind; None if no answers come
            from a mirror.
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
    """A revocation store. Many tasks and event loops may call all methods concurrently.

    A method that cannot answer raises `StoreUnavailableError`: a store never guesses. A
    revocation has succeeded only when it returned.
    """

    async def stamp(self, identity: str) -> str:
        """Return the stamp for a token issued to this identity now."""
        ...

    async def check(self, ref: TokenRef) -> bool:
        """Return True if the token is valid, False once it, its session or its user was revoked."""
        ...

    async def revoke_token(self, ref: TokenRef) -> None:
        """Revoke one token, until it would expire. Raises ValueError for a token without `jti`."""
        ...

    async def revoke_session(self, sid: str, expires_at: float | None) -> None:
        """Revoke all tokens of a session.

        Args:
            sid: the session's id.
            expires_at: when its longest token expires, in seconds since the epoch; None
                keeps the revocation forever. If the store keeps the session, its own end
                (`Session.ends_at`) applies if later.
        """
        ...

    async def revoke_user(self, identity: str, keep: TokenRef | None = None) -> None:
        """Revoke every token issued to an identity until now.

        Args:
            identity: the identity as text.
            keep: a token whose session stays valid, or the token itself if it has none.
                This revives nothing that was dead already.
        """
        ...

    async def revoke_everything(self) -> None:
        """Revoke every token issued until now."""
        ...

    async def start(self) -> None:
        """Prepare, for instance connect. Called when the server starts; may fail without harm."""
        ...

    async def close(self) -> None:
        """Release the running event loop's resources. The store may be used again later."""
        ...


@runtime_checkable
class SingleUseStore(Protocol):
    """What a store does beside `Store` for tokens that are used once. `consume_token()` needs it."""

    async def consume_token(self, ref: TokenRef, *, others: bool = False) -> bool:
        """Atomically revoke a valid token, as used.

        Of any number of calls with one token, in all processes, exactly one returns True. The token is
        invalid from then on and cannot be revived. A store that sends its command again because a reply was
        lost must recognize its own mark and return True.

        Args:
            ref: the token; it has a `jti` and an expiry.
            others: True also revokes the user's other tokens of the same purpose that were issued until
                now. This is a generation of the user and the type, like those that `Store` keeps: the stamps
                of later tokens are not below it. It revokes no token of another type, for up to
                `MOST_PURPOSES` types of one user. Beyond that, a store may let the oldest of these
                generations hold for all purposes, and so end older tokens of other purposes.

        Returns:
            True if this call used the token. False, with nothing revoked, if it was not valid any more.
        """
        ...


@runtime_checkable
class AccessExpiryStore(Protocol):
    """What a store does beside `Store` to end access tokens only. `expire_access_tokens()` needs it."""

    async def expire_access_tokens(self, identity: str) -> None:
        """Revoke the access tokens issued to an identity until now, and nothing else.

        This is one more generation of the user, in the same order as those that `Store` keeps: the stamps of
        later tokens are not below it. Only tokens of the type "access" are judged by it, and no `keep` of
        `revoke_user` exempts them, before or after. Those without a stamp go by their `issued_at`.
        Sessions go on; if one is being replaced meanwhile, that is declined, or its access token is revoked
        too.
        """
        ...


Refusal = Literal["revoked", "stale", "used"]
"""Why a token is not valid.

- "used": it was used itself (`SingleUseStore`), even if something else has ended it since.
- "revoked": otherwise, it, its session, its user or everything was revoked.
- "stale": otherwise, for an access token: its user's access tokens ended (`AccessExpiryStore`).
- "used": otherwise, the tokens of its purpose ended when another one was used.
"""


@runtime_checkable
class RefusalStore(Protocol):
    """What a store does beside `Store` to tell stale and used tokens from revoked ones.

    `check` alone decides, and stays a plain bool. The reason is a question of its own, asked only after
    `check` returned False: a subclass that overrides `check`, or a store without this method, stays as
    strict as it is, and a valid token costs nothing more.
    """

    async def refusal_of(self, ref: TokenRef) -> Refusal:
        """Return why `check` refuses a token; "revoked" if it does not."""
        ...


@dataclass(frozen=True, slots=True)
class Session:
    """One device of one user, as a store keeps it. All times in seconds since the epoch.

    Attributes:
        sid: its ID.
        identity: its user's identity, as text.
        device: the application's name for the device.
        created_at: when the user signed in on it.
        last_used_at: when its refresh token was last replaced; `created_at` at first.
        expires_at: when its refresh token expires, leeway included; None for never.
        ends_at: when the last of its tokens expires, leeway included; None for never. Until then
            a store remembers the session, or its revocation.
        stamp: the stamp that its refresh token was issued under.
        refresh_jti: the `jti` of its refresh token.
        previous_jti: the `jti` of the refresh token that this one replaced; None for the first.
        extras: claims and headers that all of its tokens carry, as JSON.
        late_streak: how many of its latest rotations in a row were each repeated late.
        repeated_late: whether its last rotation was.
        counts: whether it counts toward the limit of `replace_session`. A session that was stored
            without this field counts.
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
    counts: bool = True


@dataclass(frozen=True, slots=True)
class SessionSnapshot:
    """A token and its session at one moment.

    Attributes:
        valid: whether the token is valid, as `check` reports it.
        stamp: the stamp for a token issued at that moment.
        session: the session; None if it is unknown or was revoked.
        successor: the value that `replace_session` keeps for a while.
        age: for a token that is not the session's current one: seconds, by the store's clock, since
            the current one replaced its predecessor. Otherwise 0.
        was_replaced: for a token of a revoked session, whose user was not signed out otherwise: True
            if it is neither the session's last refresh token nor the one before that.
        version: store-specific; `replace_session` compares it.
    """

    valid: bool
    stamp: str
    session: Session | None = None
    successor: str | None = field(default=None, repr=False)
    age: float = 0.0
    was_replaced: bool = False
    version: Any = field(default=None, repr=False)


def cursor_after(session: Session) -> str:
    """Return the cursor of a page's end: when its last session was used, and its ID."""
    return f"{session.last_used_at!r} {session.sid}"


def read_cursor(cursor: Any) -> tuple[float, str]:
    """Parse a cursor of `cursor_after`. Raises InvalidPageError for any other: clients send these."""
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
    """A store that also keeps sessions, for refresh rotation and device lists.

    Revoking a session, a user or everything also ends the sessions.
    """

    async def load_session(self, ref: TokenRef) -> SessionSnapshot:
        """Return a snapshot of a token and its session.

        All parts are from the same moment, or the stamp is the oldest part: then any later
        revocation also revokes what is issued under that stamp.
        """
        ...

    async def get_session(self, sid: str) -> Session | None:
        """Return the session with that ID; None if it is unknown or no longer valid."""
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
        """Atomically replace a session, if its snapshot is still current.

        If the refresh token is the same as in the snapshot, this is no rotation: the kept
        successor, its lifetime and its age are unchanged.

        Args:
            session: the session's new state; a new session if the snapshot has none.
            seen: the snapshot from `load_session` for the token that it replaces.
            successor: what snapshots show as `successor` from now on.
            keep_for: for how many seconds; None for as long as the session is remembered.
            limit: how many sessions one user may have: the least recently used ones beyond it are
                revoked, never the one being stored. If very many are beyond it, later calls revoke
                the rest. Sessions that do not count are neither counted nor revoked for this, and
                storing one revokes none.

        Returns:
            The IDs of sessions that the limit ended. None, with nothing changed, if the session
            changed since the snapshot, or if the token, the session, the user or everything was
            revoked since. Of any number of calls with the same snapshot, exactly one succeeds.
        """
        ...

    async def list_sessions(
        self, identity: str, limit: int, cursor: str | None
    ) -> tuple[Sequence[Session], str | None]:
        """List one user's sessions that are valid and have not expired, last used first.

        Args:
            identity: the identity as text.
            limit: the maximum number of sessions.
            cursor: the cursor that the previous page returned; None for the first page.

        Returns:
            The sessions, and the cursor of the next page; None after the last. A session that
            is not used in the meantime is on exactly one page.

        Raises:
            InvalidPageError: the cursor is invalid.
        """
        ...
