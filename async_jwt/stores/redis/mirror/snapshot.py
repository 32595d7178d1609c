"""All that is revoked, in this process's memory: one by one, or as a filter."""

from __future__ import annotations

import json
from typing import NamedTuple

from rbloom import Bloom

from async_jwt.stores.contract import TokenRef, bucket_of_sid
from async_jwt.stores.redis.schema import BUCKET_NAMES, NOT_REVOKED, Bucket, TokenStatus, User, evaluate

__all__ = ["Entry", "Snapshot"]

_BUCKETS = frozenset(BUCKET_NAMES)
_MINUTE = 60.0
_FOR_EVER = 1 << 60
# How often a filter says "perhaps" of what is not in it.
_PERHAPS = 0.001
# How many times as large the next one is, where one was too small: each has to be asked.
_GROWTH = 8
# How many states of a bucket are remembered.
_HISTORY = 16
# How many users of one bucket the channel can make doubtful. Beyond that, the server is asked about each one.
_MOST_DOUBTED = 100
# How many entries are dropped at once when their time has come.
_SWEEP = 5000


class Entry(NamedTuple):
    """One revocation, as it is told.

    Attributes:
        bucket: where it was.
        kind: "j" for a token, "s" for a session, "u" for a user, "a" for everybody.
        id: whose.
        lives: for how many milliseconds it is remembered; -1 for ever.
        user: what stands at the user.
        follows: the mark of the bucket's state before, which tells one history from another.
        state: the bucket's state since.
    """

    bucket: str
    kind: str
    id: str
    ttl_ms: float
    user: str
    follows: str
    state: Bucket

    @classmethod
    def read(cls, raw: bytes) -> Entry:
        """Read one. Raises ValueError for what is none."""
        try:
            fields = json.loads(raw)
        except RecursionError:
            raise ValueError("That is no entry of a feed") from None
        if (
            not isinstance(fields, list)
            or len(fields) != 7
            or not all(isinstance(each, str) for each in fields)
        ):
            raise ValueError("That is no entry of a feed")
        bucket, kind, name, ttl_ms, user, follows, state = fields
        lasts = float(ttl_ms or -1)
        if bucket not in _BUCKETS or kind not in ("j", "s", "u", "a") or not lasts >= -1:
            raise ValueError("That is no entry of a feed")
        return cls(bucket, kind, name, lasts, user, follows, Bucket.read(state.encode("ascii")))


class Snapshot:
    """What is revoked, as far as was heard. Changed by one thread at a time, and read by all.

    Args:
        limit: how many entries are kept one by one. Beyond, a filter says what is surely not
            revoked, and everything else has to be asked for.
        expected: how many there may be.

    Attributes:
        heard: the state of each bucket up to which all was heard; none for one that lacks something.
    """

    def __init__(self, limit: int, expected: int) -> None:
        self._limit = limit
        self._room = 2 * max(limit, expected)
        self.heard: dict[str, Bucket] = {}
        # The marks of its last states, which tell one history from another.
        self._revisions: dict[str, dict[int, str]] = {}
        # Revoked tokens and sessions: the minute in which each is forgotten. Which ones each minute has.
        self._ends: dict[str, int] = {}
        self._minutes: dict[int, list[str]] = {}
        self._users: dict[str, User | None] = {}
        # By bucket: users of whom the channel alone says that they were revoked, and when it said so.
        self._doubted: dict[str, dict[str, float]] = {}
        # The last one takes what comes; how many it has, and may have.
        self._filters: tuple[Bloom, ...] = ()
        self._in_last = 0
        self._filtered = self._drawn = 0

    def __len__(self) -> int:
        """How many entries there are; of a filter, those that went into it."""
        return self._filtered if self._filters else len(self._ends) + len(self._users)

    @property
    def is_overfull(self) -> bool:
        """Whether a filter has taken as much again as it began with: it cannot forget what has ended."""
        return self._filtered > 2 * max(self._limit, self._drawn)

    def mark_complete(self) -> None:
        """All that stood on the servers was added."""
        self._drawn = len(self)

    def begin(self, name: str, bucket: Bucket) -> None:
        """All that was revoked until a state is known, or will be when it counts."""
        self._revisions[name] = {bucket.revocations: bucket.revision}
        self.heard[name] = bucket

    def lacks(self, name: str) -> None:
        """Something of a bucket is not known."""
        del self.heard[name]

    def revision_at(self, name: str, revocations: int) -> str | None:
        """The mark that a bucket had when it counted so many; None if it never did, or long ago."""
        return self._revisions[name].get(revocations)

    def add(self, name: str, value: str | float, now: float) -> None:
        """Add what a server has.

        Args:
            name: "j" or "s", the bucket and the id; or "u" and the user.
            value: of a user, what stands there; else for how many milliseconds it is
                remembered, -1 for ever, less for one that has just ended.
            now: seconds, by a clock that only goes forward.
        """
        if self._filters:
            self._add_to_filter(name)
            return
        if name[0] == "u":
            self._users[name[1:]] = _later(self._users.get(name[1:]), str(value))
        elif (ttl_ms := float(value)) >= -1:
            until = _FOR_EVER if ttl_ms < 0 else int((now + ttl_ms / 1000) // _MINUTE) + 1
            if until > self._ends.get(name, -1):
                self._ends[name] = until
                if until != _FOR_EVER:
                    self._minutes.setdefault(until, []).append(name)
        if len(self) > self._limit:
            self._become_a_filter()

    def apply(self, entry: Entry, now: float) -> bool:
        """Add what is told.

        Args:
            entry: what.
            now: as in `add`.

        Returns:
            Whether it is known now. If not, it does not follow upon what was heard.
        """
        heard, state = self.heard.get(entry.bucket), entry.state
        if heard is None or state.epoch != heard.epoch or state.revocations > heard.revocations + 1:
            return False
        if state.revocations == heard.revocations + 1:
            if entry.follows != heard.revision:
                return False
            if entry.kind == "u":
                self.add(f"u{entry.id}", entry.user, now)
            elif entry.kind != "a":
                self.add(f"{entry.kind}{entry.bucket}{entry.id}", entry.ttl_ms, now)
            revisions = self._revisions[entry.bucket]
            revisions[state.revocations] = state.revision
            if len(revisions) > _HISTORY:
                revisions.pop(next(iter(revisions)), None)
            self.heard[entry.bucket] = state  # last: from now on it counts
        return True

    def apply_unverified(self, entry: Entry, now: float) -> bool:
        """Take what the channel says: whoever may publish there could have said it.

        It can revoke a token or a session, and have the server asked about a user. Generations, and what is
        kept, come from the server alone.

        Args:
            entry: what.
            now: as in `add`.

        Returns:
            Whether all of it is known now. If not, the servers are to be asked for it.
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
        """Forget whom the channel made doubtful before a look at the server began, which heard it all."""
        doubted = self._doubted.get(name)
        if doubted:
            self._doubted[name] = {who: at for who, at in doubted.items() if at >= began}

    def answer(self, ref: TokenRef, name: str, bucket: Bucket) -> bool | None:
        """Whether a token counts; None if that has to be asked for.

        Args:
            ref: the token.
            name: the bucket of its identity.
            bucket: that bucket's state.
        """
        if ref.identity in self._doubted.get(name, ()):
            return None
        # In this order: it becomes a filter before these are emptied.
        ends, users, filters = self._ends, self._users, self._filters
        token = None if ref.jti is None else f"j{name}{ref.jti}"
        session = None if ref.sid is None else f"s{bucket_of_sid(ref.sid)}{ref.sid}"
        user: User | None = NOT_REVOKED
        if filters:
            holder = f"u{ref.identity}"
            for each in filters:
                if holder in each or token in each or session in each:
                    return None
        elif token in ends or session in ends:
            return False
        else:
            user = users.get(ref.identity, NOT_REVOKED)
        status = TokenStatus.FUTURE_GENERATION if user is None else evaluate(ref, bucket, user)
        return status is TokenStatus.VALID if status in (TokenStatus.VALID, TokenStatus.REVOKED) else None

    def sweep(self, now: float) -> None:
        """Drop some of what nobody can ask for any more."""
        left = _SWEEP
        for minute in sorted(minute for minute in self._minutes if minute < now // _MINUTE):
            names = self._minutes[minute]
            while names and left:
                left -= 1
                name = names.pop()
                if self._ends[name] == minute:  # else it was revoked again, for longer
                    del self._ends[name]
            if names:
                return
            del self._minutes[minute]

    def _become_a_filter(self) -> None:
        made = Bloom(self._room, _PERHAPS)
        made.update(self._ends)
        made.update(f"u{identity}" for identity in self._users)
        self._filtered = self._in_last = len(self)
        self._filters = (made,)
        self._ends, self._minutes, self._users = {}, {}, {}

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
        return None  # somebody else wrote there: whoever asks is told
    return user if known is None or user.generation > known.generation else known
