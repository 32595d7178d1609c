"""Where things stand on the server, and how they are written.

All keys of one identity share the braces of its bucket `ab`, and so a Cluster slot. All values
that a check needs are strings, so that one MGET reads them.

| key                              | holds                                   | lives                 |
|----------------------------------|-----------------------------------------|-----------------------|
| `async_jwt:{ab}:all`             | a `Bucket`                              | for ever              |
| `async_jwt:{ab}:user:<identity>` | a `User`, of one who was signed out     | for ever              |
| `async_jwt:{ab}:jti:<jti>`       | 1                                       | a minute past `exp`   |
| `async_jwt:{ab}:sid:<sid>`       | digests of its last two refresh tokens  | a minute past its end |
| `async_jwt:{ab}:session:<sid>`   | a session, see `sessions`               | a minute past its end |
| `async_jwt:{ab}:next:<sid>`      | claims and headers of its refresh token | the grace             |
| `async_jwt:{ab}:sessions:<user>` | a sorted set: when each sid was used    | as its longest sid    |
| `async_jwt:{ab}:feed`            | a stream: what was revoked of late, if  | an hour after the     |
|                                  | anybody mirrors it                      | last one who did      |
| `async_jwt:{ab}:evicted`         | run id and evicted keys of the server   | for ever              |
|                                  | whose first bucket this is              |                       |

The epoch is one random text for the whole store, given when it is founded and after each loss
of data; `previous_epochs` are those before it, which the store remembers to have left. A generation
grows with each revocation of everybody, or of a user, and is never below the server's time in
microseconds, so that one begun anew stands above one that was lost. The count grows with each
revocation in the bucket; the mark is when that was, so that two states with the same count differ.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple

from async_jwt.clock import system_clock
from async_jwt.stores.contract import BUCKETS, TokenRef, bucket_of, bucket_of_sid

__all__ = [
    "BUCKET_NAMES",
    "CLOCK_MARGIN",
    "MAX_PREVIOUS_EPOCHS",
    "MEMORY_EPOCH",
    "NOT_REVOKED",
    "Bucket",
    "Layout",
    "Stamp",
    "TokenStatus",
    "User",
    "digest_of",
    "evaluate",
    "read_stamp",
    "ttl_ms",
]

CLOCK_MARGIN = 60
"""Seconds that a revocation outlives its token, for processes whose clocks are behind ours."""

# Longer than that is for ever, and than Redis could count.
_AGES = 1e10

BUCKET_NAMES: tuple[str, ...] = tuple(f"{number:02x}" for number in range(BUCKETS))


MAX_PREVIOUS_EPOCHS = 64
"""How many epochs that it left a store remembers. From then on an unknown one is no news any more."""


class Bucket(NamedTuple):
    """What stands at a bucket's `all`."""

    epoch: str
    generation: int
    raised_at: float
    revocations: int
    revision: str
    previous_epochs: tuple[str, ...]

    @classmethod
    def read(cls, raw: bytes) -> Bucket:
        """Read one. Raises ValueError for what is none."""
        epoch, generation, raised_at, revocations, revision, previous_epochs = raw.decode("ascii").split(" ")
        left = tuple(previous_epochs.split(",")) if previous_epochs else ()
        return cls(epoch, int(generation), float(raised_at), int(revocations), revision, left)


class User(NamedTuple):
    """What stands at a user's generation.

    Attributes:
        generation: tokens below it are dead, but for those that are kept.
        raised_at: when it was raised, in seconds since the epoch.
        kept_from: the generation that tokens of what is kept have at least.
        kept_since: when those without a stamp were issued at the earliest.
        keep: the session, or the token, that is kept; "" for none.
    """

    generation: int
    raised_at: float
    kept_from: int
    kept_since: float
    keep: str

    @classmethod
    def read(cls, text: str) -> User:
        """Read one. Raises ValueError for what is none."""
        generation, raised_at, kept_from, kept_since, keep = text.split(" ", 4)
        return cls(int(generation), float(raised_at), int(kept_from), float(kept_since), keep)


NOT_REVOKED = User(0, -1.0, 0, -1.0, "")
"""A user whose tokens were never revoked, and who therefore has no key."""


class Stamp(NamedTuple):
    """What a token's `gen` claim says."""

    epoch: str
    everybody: int
    user: int


def read_stamp(text: str) -> Stamp | None:
    """Read a token's stamp; None for one that no store gave."""
    found = _STAMP.fullmatch(text)
    return None if found is None else Stamp(found[1], int(found[2]), int(found[3]))


# What SCAN takes for a pattern.
_GLOB = re.compile(r"[*?\[\]\\^]")

_STAMP = re.compile(r"([A-Za-z0-9_-]{1,32})\.([0-9]{1,19})\.([0-9]{1,19})")


def digest_of(text: str) -> str:
    """A text of any kind and length as one that has neither spaces nor secrets."""
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).hexdigest()


def ttl_ms(until: float | None) -> str:
    """For how long something is remembered, in milliseconds as text; "" for ever.

    By how long it lives and not until when: the server's clock may be any.

    Args:
        until: seconds since the epoch; None for ever.
    """
    seconds = math.inf if until is None else until + CLOCK_MARGIN - system_clock()
    return "" if seconds > _AGES else str(max(1, math.ceil(seconds * 1000)))


class Layout:
    """Names keys.

    Args:
        prefix: what every key begins with.
    """

    def __init__(self, prefix: str) -> None:
        self._bases = {name: f"{prefix}{{{name}}}:" for name in BUCKET_NAMES}
        self.channel: str = f"{prefix}feed"
        escaped = _GLOB.sub(lambda found: chr(92) + found[0], prefix)
        self.pattern: str = f"{escaped}{{??}}:[jsu]*"
        self.prefix: str = prefix
        self._place = len(prefix) + 1

    def bucket(self, name: str) -> str:
        """What is known of a bucket: its epoch, generation and count."""
        return f"{self._bases[name]}all"

    def feed(self, name: str) -> str:
        """What was revoked in a bucket of late, for those who mirror it."""
        return f"{self._bases[name]}feed"

    def with_feeds(self, names: Sequence[str]) -> list[str]:
        """Some buckets, then their feeds."""
        return [*map(self.bucket, names), *map(self.feed, names)]

    def bucket_in(self, key: str) -> str:
        """The bucket that a key is in."""
        return key[self._place : self._place + 2]

    def is_generation(self, key: str) -> bool:
        """Whether a bucket's or a user's generation stands at a key."""
        return key.startswith(("all", "user:"), self._place + 4)

    def user(self, identity: str) -> str:
        """A user's generation."""
        return f"{self._bases[bucket_of(identity)]}user:{identity}"

    def token(self, identity: str, jti: str) -> str:
        """A revoked token."""
        return f"{self._bases[bucket_of(identity)]}jti:{jti}"

    def session(self, sid: str) -> str:
        """A revoked session."""
        return f"{self._bases[bucket_of_sid(sid)]}sid:{sid}"

    def evicted(self, bucket: str) -> str:
        """How many keys that a server dropped were dealt with.

        Args:
            bucket: the first one that it holds.
        """
        return f"{self._bases[bucket]}evicted"

    def base(self, bucket: str) -> str:
        """What the keys of a bucket begin with."""
        return self._bases[bucket]

    def live_session(self, sid: str) -> tuple[str, str]:
        """A session, and what is kept of its refresh token."""
        base = self._bases[bucket_of_sid(sid)]
        return f"{base}session:{sid}", f"{base}next:{sid}"

    def sessions(self, identity: str) -> str:
        """A user's sessions."""
        return f"{self._bases[bucket_of(identity)]}sessions:{digest_of(identity)}"

    def of(self, ref: TokenRef) -> tuple[str, list[str], tuple[str, list[str]] | None]:
        """What a check reads.

        Returns:
            The bucket; the keys of the user's generation, the revoked token and the revoked session; and
            where a foreign session id says so, another bucket and the session's key there.
        """
        name = bucket_of(ref.identity)
        base = self._bases[name]
        keys = [f"{base}user:{ref.identity}"]
        if ref.jti is not None:
            keys.append(f"{base}jti:{ref.jti}")
        if ref.sid is not None:
            other = bucket_of_sid(ref.sid)
            if other != name:
                return name, keys, (other, [self.session(ref.sid)])
            keys.append(f"{base}sid:{ref.sid}")
        return name, keys, None


MEMORY_EPOCH = "m"
"""What the memory store's stamps say for an epoch: no server can have lost it."""


class TokenStatus(Enum):
    """What a token's stamp says beside the server's generations."""

    VALID = auto()
    REVOKED = auto()
    PREVIOUS_EPOCH = auto()
    """Made under an epoch that the server remembers to have left."""
    UNKNOWN_EPOCH = auto()
    """Made under an epoch that the server does not remember: it forgot it, or is another."""
    FUTURE_GENERATION = auto()
    """Made under a generation that the server never gave: it went back to an older state."""


def evaluate(ref: TokenRef, bucket: Bucket, user: User) -> TokenStatus:
    """Judge a token that was not revoked by itself, nor its session."""
    is_kept = user.keep != "" and user.keep in (ref.sid, ref.jti)
    if ref.gen is None:
        since = max(bucket.raised_at, user.kept_since if is_kept else user.raised_at)
        return TokenStatus.VALID if ref.issued_at > since else TokenStatus.REVOKED
    stamp = read_stamp(ref.gen)
    if stamp is None:
        return TokenStatus.REVOKED
    if stamp.epoch != bucket.epoch:
        previous_epochs = bucket.previous_epochs
        is_known = (
            stamp.epoch == MEMORY_EPOCH
            or stamp.epoch in previous_epochs
            or len(previous_epochs) >= MAX_PREVIOUS_EPOCHS
        )
        return TokenStatus.PREVIOUS_EPOCH if is_known else TokenStatus.UNKNOWN_EPOCH
    if stamp.everybody > bucket.generation or stamp.user > user.generation:
        return TokenStatus.FUTURE_GENERATION
    least = user.kept_from if is_kept else user.generation
    return (
        TokenStatus.REVOKED
        if stamp.everybody < bucket.generation or stamp.user < least
        else TokenStatus.VALID
    )
