"""All that is revoked, in this process's memory: of each token, or as a filter."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from rbloom import Bloom

from async_jwt.stores.contract import TokenRef
from async_jwt.stores.redis.layout import BUCKET_NAMES, NOT_REVOKED, Bucket, User
from async_jwt.stores.redis.verdict import Verdict, judge

__all__ = ["Entry", "Picture"]

_BUCKETS = frozenset(BUCKET_NAMES)
_MINUTE = 60.0
_FOR_EVER = 1 << 60
# How often a filter says "perhaps" of what is not in it.
_PERHAPS = 0.001
# How many entries are dropped at once when their time has come.
_SWEEP = 5000


class Entry(NamedTuple):
    """One revocation, as a feed tells it.

    Attributes:
        bucket: where it was.
        kind: "j" for a token, "s" for a session, "u" for a user, "a" for everybody.
        id: whose.
        lives: for how many milliseconds it is remembered; "" for ever.
        user: what stands at the user.
        value: what stands at the bucket since.
    """

    bucket: str
    kind: str
    id: str
    lives: str
    user: str
    value: bytes

    @classmethod
    def read(cls, raw: bytes) -> Entry:
        """Read one. Raises ValueError for what is none."""
        fields = json.loads(raw)
        if (
            not isinstance(fields, list)
            or len(fields) != 6
            or not all(isinstance(each, str) for each in fields)
        ):
            raise ValueError("That is no entry of a feed")
        bucket, kind, name, lives, user, value = fields
        if bucket not in _BUCKETS or kind not in ("j", "s", "u", "a") or (lives and not float(lives) >= 0):
            raise ValueError("That is no entry of a feed")
        return cls(bucket, kind, name, lives, user, value.encode("ascii"))


class Picture:
    """What is revoked, as far as was heard.

    Args:
        limit: how many entries are kept one by one. Beyond, a filter says what is surely not
            revoked, and everything else has to be asked for.
        expected: how many there may be.

    Attributes:
        applied: the state of each bucket up to which everything was heard.
    """

    def __init__(self, limit: int, expected: int) -> None:
        self._limit = limit
        self._room = 2 * max(limit, expected)
        self.applied: dict[str, Bucket] = {}
        # Revoked tokens and sessions: the minute in which each is forgotten. Which ones each minute has.
        self._ends: dict[str, int] = {}
        self._minutes: dict[int, list[str]] = {}
        self._users: dict[str, User | None] = {}
        self._filter: Bloom | None = None
        self._filtered = 0

    def __len__(self) -> int:
        """How many entries there are; of a filter, those that went into it."""
        return len(self._ends) + len(self._users) if self._filter is None else self._filtered

    @property
    def is_full(self) -> bool:
        """Whether the filter holds more than it was made for."""
        return self._filter is not None and self._filtered > self._room

    def add(self, name: str, value: str | float, now: float) -> None:
        """Add what a server has.

        Args:
            name: "j", "s" or "u", and the id.
            value: of a user, what stands there; else for how many milliseconds it is
                remembered, -1 for ever.
            now: seconds, by a clock that only goes forward.
        """
        if self._filter is not None:
            self._filter.add(name)
            self._filtered += 1
            return
        if name[0] == "u":
            self._users[name[1:]] = self._later(self._users.get(name[1:]), str(value))
        elif (lives := float(value)) >= -1:
            until = _FOR_EVER if lives < 0 else int((now + lives / 1000) // _MINUTE) + 1
            known = self._ends.get(name, -1)
            if until > known:
                self._ends[name] = until
                if until != _FOR_EVER:
                    self._minutes.setdefault(until, []).append(name)
        if len(self) > self._limit:
            self._become_a_filter()

    def apply(self, entry: Entry, seen: Bucket, now: float) -> bool:
        """Add what a feed tells.

        Args:
            entry: what.
            seen: the state of its bucket since.
            now: as in `add`.

        Returns:
            Whether it follows upon what was heard. Something is missing if not.
        """
        before = self.applied.get(entry.bucket)
        if before is None or seen.epoch != before.epoch or seen.revocations > before.revocations + 1:
            return False
        if seen.revocations == before.revocations + 1:
            if entry.kind != "a":
                value = entry.user if entry.kind == "u" else float(entry.lives or -1)
                self.add(entry.kind + entry.id, value, now)
            self.applied[entry.bucket] = seen  # last: from now on it counts
        return True

    def says(self, ref: TokenRef, bucket: Bucket) -> bool | None:
        """Whether a token counts; None if that has to be asked for."""
        names = [kind + name for kind, name in (("j", ref.jti), ("s", ref.sid)) if name is not None]
        user: User | None = NOT_REVOKED
        if self._filter is not None:
            if "u" + ref.identity in self._filter or any(name in self._filter for name in names):
                return None
        elif any(name in self._ends for name in names):
            return False
        else:
            user = self._users.get(ref.identity, NOT_REVOKED)
        verdict = Verdict.AHEAD if user is None else judge(ref, bucket, user)
        return verdict is Verdict.COUNTS if verdict in (Verdict.COUNTS, Verdict.DEAD) else None

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

    @staticmethod
    def _later(known: User | None, text: str) -> User | None:
        try:
            user = User.read(text)
        except ValueError:
            return None  # somebody else wrote there: whoever asks is told
        return user if known is None or user.generation > known.generation else known

    def _become_a_filter(self) -> None:
        names: list[Sequence[str]] = [[*self._ends], ["u" + identity for identity in self._users]]
        self._filtered = len(self)
        made = Bloom(self._room, _PERHAPS)
        for each in names:
            made.update(each)
        self._filter = made
        self._ends, self._minutes, self._users = {}, {}, {}
