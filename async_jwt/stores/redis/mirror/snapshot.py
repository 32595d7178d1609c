"""All revocations in this process's memory: individually, or as a Bloom filter."""

from __future__ import annotations

import json
from typing import NamedTuple

from rbloom import Bloom

from async_jwt.stores.contract import TokenRef, bucket_of_sid
from async_jwt.stores.redis.schema import (
    BUCKET_NAMES,
    DECIDED,
    NOT_REVOKED,
    Bucket,
    TokenStatus,
    User,
    evaluate,
)

__all__ = ["Entry", "Snapshot"]

_BUCKETS = frozenset(BUCKET_NAMES)
_MINUTE = 60.0
_FOR_EVER = 1 << 60
# False positive rate of a filter.
_PERHAPS = 0.001
# How much larger each further filter is: a check looks into all of them.
_GROWTH = 8
# Remembered states per bucket.
_HISTORY = 16
# Users per bucket that the channel can mark doubtful. Beyond that, the server is asked about all of them.
_MOST_DOUBTED = 100
# Maximum expired entries dropped per sweep.
_SWEEP = 5000


class Entry(NamedTuple):
    """One revocation, as published.

    Attributes:
        bucket: its bucket.
        kind: "j" for a token, "s" for a session, "u" for a user, "a" for all users.
        id: the id of the token, session or user.
        ttl_ms: milliseconds that it is remembered; -1 forever.
        value: for a user, the value at its key; for a token, "used" if it was used.
        follows: the revision of the bucket's previous state, which tells histories apart.
        state: the bucket's state after it.
    """

    bucket: str
    kind: str
    id: str
    ttl_ms: float
    value: str
    follows: str
    state: Bucket

    @classmethod
    def read(cls, raw: bytes) -> Entry:
        """Parse an entry. Raises ValueError if it is malformed."""
        try:
            fields = json.loads(raw)
        except RecursionError:
            raise ValueError("Invalid feed entry") from None
        if (
            not isinstance(fields, list)
            or len(fields) != 7
            or not all(isinstance(each, str) for each in fields)
        ):
            raise ValueError("Invalid feed entry")
        bucket, kind, name, ttl_ms, value, follows, state = fields
        lasts = float(ttl_ms or -1)
        if bucket not in _BUCKETS or kind not in ("j", "s", "u", "a") or not lasts >= -1:
            raise ValueError("Invalid feed entry")
        return cls(bucket, kind, name, lasts, value, follows, Bucket.read(state.encode("ascii")))


class Snapshot:
    """All revocations received so far. Changed by one thread at a time, read by all.

    Args:
        limit: how many entries are kept individually. Beyond that, a filter says what is surely
            not revoked, and the server must be asked about everything else.
        expected: how many entries to expect.

    Attributes:
        heard: the state up to which each bucket is complete; incomplete buckets are absent.
    """

    def __init__(self, limit: int, expected: int) -> None:
        self._limit = limit
        self._room = 2 * max(limit, expected)
        self.heard: dict[str, Bucket] = {}
        # The revisions of its last states, which tell histories apart.
        self._revisions: dict[str, dict[int, str]] = {}
        # Revoked tokens and sessions: the minute in which each expires, and which ones expire in each minute.
        self._ends: dict[str, int] = {}
        self._minutes: dict[int, list[str]] = {}
        # Those of the tokens that were used.
        self._used: set[str] = set()
        self._users: dict[str, User | None] = {}
        # By bucket: users that only the channel reported as revoked, and when it did.
        self._doubted: dict[str, dict[str, float]] = {}
        # New entries go into the last one; how many it has, and may have.
        self._filters: tuple[Bloom, ...] = ()
        self._in_last = 0
        self._filtered = self._drawn = 0

    def __len__(self) -> int:
        """Number of entries; for a filter, of those added to it."""
        return self._filtered if self._filters else len(self._ends) + len(self._users)

    @property
    def is_overfull(self) -> bool:
        """True if a filter has doubled since it was built: it cannot drop what has expired."""
        return self._filtered > 2 * max(self._limit, self._drawn)

    def mark_complete(self) -> None:
        """Record that everything on the servers was added."""
        self._drawn = len(self)

    def begin(self, name: str, bucket: Bucket) -> None:
        """Start a bucket at a state; everything revoked up to it must be added before use."""
        self._revisions[name] = {bucket.revocations: bucket.revision}
        self.heard[name] = bucket

    def lacks(self, name: str) -> None:
        """Mark a bucket as incomplete."""
        del self.heard[name]

    def revision_at(self, name: str, revocations: int) -> str | None:
        """The revision that a bucket had at a count; None if it never had it, or long ago."""
        return self._revisions[name].get(revocations)

    def add(self, name: str, value: str | float, now: float) -> None:
        """Add an entry read from a server.

        Args:
            name: "j", "c" for one that was used, or "s", the bucket and the id; or "u" and the user.
            value: for a user, the value at its key; otherwise milliseconds that it is
                remembered, -1 forever, less for one that has just expired.
            now: seconds, by a monotonic clock.
        """
        if is_used := name[0] == "c":
            name = f"j{name[1:]}"
        if self._filters:
            self._add_to_filter(name)
            return
        if name[0] == "u":
            self._users[name[1:]] = _later(self._users.get(name[1:]), str(value))
        elif (ttl_ms := float(value)) >= -1:
            until = _FOR_EVER if ttl_ms < 0 else int((now + ttl_ms / 1000) // _MINUTE) + 1
            if is_used:
                self._used.add(name)  # before the entry itself, which checks look for
            if until > self._ends.get(name, -1):
                self._ends[name] = until
                if until != _FOR_EVER:
                    self._minutes.setdefault(until, []).append(name)
        if len(self) > self._limit:
            self._become_a_filter()

    def apply(self, entry: Entry, now: float) -> bool:
        """Add a published entry.

        Args:
            entry: the entry.
            now: as in `add`.

        Returns:
            True if it is known now; False if it does not follow what was received.
        """
        heard, state = self.heard.get(entry.bucket), entry.state
        if heard is None or state.epoch != heard.epoch or state.revocations > heard.revocations + 1:
            return False
        if state.revocations == heard.revocations + 1:
            if entry.follows != heard.revision:
                return False
            if entry.kind == "u":
                self.add(f"u{entry.id}", entry.value, now)
            elif entry.kind != "a":
                kind = "c" if entry.kind == "j" and entry.value == "used" else entry.kind
                self.add(f"{kind}{entry.bucket}{entry.id}", entry.ttl_ms, now)
            revisions = self._revisions[entry.bucket]
            revisions[state.revocations] = state.revision
            if len(revisions) > _HISTORY:
                revisions.pop(next(iter(revisions)), None)
            self.heard[entry.bucket] = state  # last: from now on checks use it
        return True

    def apply_unverified(self, entry: Entry, now: float) -> bool:
        """Apply a channel message, which any client that may publish there could have sent.

        It can revoke a token or a session, and make checks of a user query the server. Generations, and
        what is kept, come from the server alone.

        Args:
            entry: the entry.
            now: as in `add`.

        Returns:
            True if all of it is known now; False if the servers must be polled for it.
        """
        heard, state = self.heard.get(entry.bucket), entry.state
        if heard is None:
            return False
        if entry.kind == "u":
            doubted = self._doubted.setdefault(entry.bucket, {})
            if len(doubted) < _MOST_DOUBTED:
                doubted[entry.id] = now
            else:
                self.lacks(entry.bucket)
            return False
        if entry.kind == "a" or state._replace(revocations=0, revision="") != heard._replace(
            revocations=0, revision=""
        ):
            return False
        return self.apply(entry, now)

    def confirm(self, name: str, began: float) -> None:
        """Clear users marked doubtful before a complete poll began: it received their entries."""
        doubted = self._doubted.get(name)
        if doubted:
            self._doubted[name] = {who: at for who, at in doubted.items() if at >= began}

    def status(self, ref: TokenRef, name: str, bucket: Bucket) -> TokenStatus | None:
        """Return a token's status, one of `DECIDED`; None if the server must be asked.

        Args:
            ref: the token.
            name: the bucket of its identity.
            bucket: that bucket's state.
        """
        if ref.identity in self._doubted.get(name, ()):
            return None
        # In this order: the filter is set before these are emptied.
        ends, users, filters = self._ends, self._users, self._filters
        token = None if ref.jti is None else f"j{name}{ref.jti}"
        session = None if ref.sid is None else f"s{bucket_of_sid(ref.sid)}{ref.sid}"
        user: User | None = NOT_REVOKED
        if filters:
            holder = f"u{ref.identity}"
            for each in filters:
                if holder in each or token in each or session in each:
                    return None
        elif token in ends:
            return TokenStatus.USED if token in self._used else TokenStatus.REVOKED
        elif session in ends:
            return TokenStatus.REVOKED
        else:
            user = users.get(ref.identity, NOT_REVOKED)
        status = TokenStatus.FUTURE_GENERATION if user is None else evaluate(ref, bucket, user)
        return status if status in DECIDED else None

    def sweep(self, now: float) -> None:
        """Drop some of the expired entries."""
        left = _SWEEP
        for minute in sorted(minute for minute in self._minutes if minute < now // _MINUTE):
            names = self._minutes[minute]
            while names and left:
                left -= 1
                name = names.pop()
                if self._ends[name] == minute:  # otherwise it was revoked again, for longer
                    del self._ends[name]
                    self._used.discard(name)
            if names:
                return
            del self._minutes[minute]

    def _become_a_filter(self) -> None:
        made = Bloom(self._room, _PERHAPS)
        made.update(self._ends)
        made.update(f"u{identity}" for identity in self._users)
        self._filtered = self._in_last = len(self)
        self._filters = (made,)
        self._ends, self._minutes, self._users, self._used = {}, {}, {}, set()

    def _add_to_filter(self, name: str) -> None:
        if self._in_last >= self._room:
            self._room, self._in_last = _GROWTH * self._room, 0
            self._filters = (*self._filters, Bloom(self._room, _PERHAPS))
        self._filters[-1].add(name)
        self._in_last += 1
        self._filtered += 1


def _later(known: User | None, text: str) -> User | None:
    try:
        user = User.read(text)
    except ValueError:
        return None  # overwritten by another program: the check on the server raises
    return user if known is None or user.latest > known.latest else known
