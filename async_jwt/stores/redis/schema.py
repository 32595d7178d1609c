"""The Redis schema: keys, and the format of their values.

All keys of one identity share the hash tag of its bucket `ab`, and so a Cluster slot. All values
that a check needs are strings, so that one MGET reads them.

| key                              | value                                   | lifetime              |
|----------------------------------|-----------------------------------------|-----------------------|
| `async_jwt:{ab}:all`             | a `Bucket`                              | forever               |
| `async_jwt:{ab}:user:<identity>` | a `User`, once the user was revoked     | forever               |
| `async_jwt:{ab}:jti:<jti>`       | 1; `used` and a nonce once it was used  | a minute past `exp`   |
| `async_jwt:{ab}:sid:<sid>`       | digests of its last two refresh tokens  | a minute past its end |
| `async_jwt:{ab}:session:<sid>`   | a session, see `sessions`               | a minute past its end |
| `async_jwt:{ab}:next:<sid>`      | claims and headers of its refresh token | the grace             |
| `async_jwt:{ab}:sessions:<user>` | a sorted set: sids by their last use    | as its longest sid    |
| `async_jwt:{ab}:uncounted:<user>`| the same of sessions that do not count  | as its longest sid    |
| `async_jwt:{ab}:feed`            | a stream of recent revocations, if a    | an hour after the     |
|                                  | process mirrors them                    | last mirror           |
| `async_jwt:{ab}:evicted`         | run id and evicted keys of the server   | forever               |
|                                  | whose first bucket this is              |                       |

The epoch is one random string for the whole store, set when it is initialized and after each data
loss; `previous_epochs` are the earlier ones that the store remembers. A generation grows with each
revocation of all users, or of one user, and is never below the server's time in microseconds, so
that a new one is above one that was lost. `revocations` grows with each revocation in the bucket;
`revision` is the time of the last one, so that two states with the same count differ.

A user's value begins with the highest of its generations, which stamps take. If some of the user's tokens
ended and others did not, a last line has the generation of each kind, and a plus sign before the time says
so: what is kept may be any text. Otherwise that one generation holds for all.

Generations are below 2^53, as far as Lua's numbers count. A higher one is a value that another program wrote.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import NamedTuple

from async_jwt.clock import system_clock
from async_jwt.stores.contract import (
    BUCKETS,
    CLOCK_MARGIN,
    TokenRef,
    bucket_of,
    bucket_of_sid,
    is_purpose,
    type_digest,
)

__all__ = [
    "BUCKET_NAMES",
    "DECIDED",
    "MAX_PREVIOUS_EPOCHS",
    "MEMORY_EPOCH",
    "NOT_REVOKED",
    "USED",
    "Bucket",
    "Layout",
    "Partial",
    "Stamp",
    "TokenStatus",
    "User",
    "digest_of",
    "evaluate",
    "read_stamp",
    "ttl_ms",
]

# Seconds beyond which a lifetime is unlimited: Redis could not count it.
_AGES = 1e10

BUCKET_NAMES: tuple[str, ...] = tuple(f"{number:02x}" for number in range(BUCKETS))


MAX_PREVIOUS_EPOCHS = 64
"""How many previous epochs a store remembers. Once full, an unknown epoch no longer reveals a loss."""


class Bucket(NamedTuple):
    """The value at a bucket's `all` key."""

    epoch: str
    generation: int
    raised_at: float
    revocations: int
    revision: str
    previous_epochs: tuple[str, ...]

    @classmethod
    def read(cls, raw: bytes) -> Bucket:
        """Parse a value. Raises ValueError if it is malformed."""
        epoch, generation, raised_at, revocations, revision, previous_epochs = raw.decode("ascii").split(" ")
        left = tuple(previous_epochs.split(",")) if previous_epochs else ()
        return cls(epoch, _generation(generation), float(raised_at), int(revocations), revision, left)


_GENERATIONS = 1 << 53


def _generation(text: str) -> int:
    generation = int(text)
    if generation >= _GENERATIONS:
        raise ValueError("A generation is out of range")
    return generation


USED = b"used "
"""How the value at a used token's key begins; a nonce of the call that used it follows."""


class Partial(NamedTuple):
    """Generations of some of a user's tokens.

    Attributes:
        access: access tokens below it are stale, kept or not.
        access_at: when it was raised, in seconds since the epoch.
        purposes: by the digest of its type, the same of each purpose whose tokens were ended; "*" is for
            all purposes.
    """

    access: int
    access_at: float
    purposes: Mapping[str, tuple[int, float]]

    def cutoff_of(self, kind: str) -> tuple[int, float]:
        """The generation of tokens of a type, and when it was raised."""
        if kind == "access":
            return self.access, self.access_at
        if not (self.purposes and is_purpose(kind)):
            return _NEVER
        return max(self.purposes.get(type_digest(kind), _NEVER), self.purposes.get("*", _NEVER))


_NEVER = (0, -1.0)


class User(NamedTuple):
    """The value at a user's key.

    Attributes:
        generation: tokens below it are revoked, except those that are kept.
        raised_at: when it was raised, in seconds since the epoch.
        kept_from: the lowest generation of valid kept tokens.
        kept_since: kept tokens without a stamp must be issued after it, in seconds since the epoch.
        keep: the id of the kept session or token; "" for none.
        latest: the highest of all its generations, which stamps take.
        partial: generations of some of its tokens; None if there are none.
    """

    generation: int
    raised_at: float
    kept_from: int
    kept_since: float
    keep: str
    latest: int = 0
    partial: Partial | None = None

    @classmethod
    def read(cls, text: str) -> User:
        """Parse a value. Raises ValueError if it is malformed."""
        generation, raised_at, kept_from, kept_since, keep = text.split(" ", 4)
        latest = _generation(generation)
        user = cls(latest, float(raised_at), int(kept_from), float(kept_since), keep, latest)
        return user._with_partial() if raised_at.startswith("+") else user

    def _with_partial(self) -> User:
        """Parse the last line of a value that has one."""
        found = _PARTIAL.fullmatch(self.keep)
        if found is None:
            raise ValueError("A user's last line is invalid")
        keep, generation, raised_at, access, access_at, more = found.groups()
        purposes = dict[str, tuple[int, float]]()
        for entry in more.split():
            name, cutoff, at = entry.split(":")
            purposes[name] = int(cutoff), float(at)
        partial = Partial(int(access), float(access_at), purposes)
        if max(int(generation), partial.access, *(cutoff for cutoff, _ in purposes.values())) != self.latest:
            raise ValueError("A user's highest generation is none of its generations")
        return self._replace(
            keep=keep, generation=int(generation), raised_at=float(raised_at), partial=partial
        )


# What is kept, which may be any text; the user's own generation; that of access tokens; those of purposes.
_PARTIAL = re.compile(r"(.*)\n([0-9]+) (-?[0-9.]+) ([0-9]+) (-?[0-9.]+)([ 0-9a-fA-F:.*-]*)", re.DOTALL)


NOT_REVOKED = User(0, -1.0, 0, -1.0, "")
"""A user whose tokens were never revoked, and who therefore has no key."""


class Stamp(NamedTuple):
    """A parsed `gen` claim."""

    epoch: str
    everybody: int
    user: int


def read_stamp(text: str) -> Stamp | None:
    """Parse a token's stamp; None if it is malformed."""
    found = _STAMP.fullmatch(text)
    return None if found is None else Stamp(found[1], int(found[2]), int(found[3]))


# Characters that SCAN patterns give a meaning.
_GLOB = re.compile(r"[*?\[\]\\^]")

_STAMP = re.compile(r"([A-Za-z0-9_-]{1,32})\.([0-9]{1,19})\.([0-9]{1,19})")


def digest_of(text: str) -> str:
    """Digest of any text: short, without spaces or secrets."""
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).hexdigest()


def ttl_ms(until: float | None) -> str:
    """Time to live in milliseconds, as text; "" for no expiry.

    A duration, not a point in time: the server's clock may differ from ours.

    Args:
        until: seconds since the epoch; None for no expiry.
    """
    seconds = math.inf if until is None else until + CLOCK_MARGIN - system_clock()
    return "" if seconds > _AGES else str(max(1, math.ceil(seconds * 1000)))


class Layout:
    """Builds keys.

    Args:
        prefix: the prefix of every key.
    """

    def __init__(self, prefix: str) -> None:
        self._bases = {name: f"{prefix}{{{name}}}:" for name in BUCKET_NAMES}
        self.channel: str = f"{prefix}feed"
        escaped = _GLOB.sub(lambda found: chr(92) + found[0], prefix)
        self.pattern: str = f"{escaped}{{??}}:[jsu]*"
        self.prefix: str = prefix
        self._place = len(prefix) + 1

    def bucket(self, name: str) -> str:
        """Key of a bucket: its epoch, generation and count."""
        return f"{self._bases[name]}all"

    def feed(self, name: str) -> str:
        """Key of a bucket's feed: its recent revocations, for mirrors."""
        return f"{self._bases[name]}feed"

    def with_feeds(self, names: Sequence[str]) -> list[str]:
        """Keys of some buckets, then of their feeds."""
        return [*map(self.bucket, names), *map(self.feed, names)]

    def bucket_in(self, key: str) -> str:
        """Name of the bucket that a key is in."""
        return key[self._place : self._place + 2]

    def is_generation(self, key: str) -> bool:
        """True if a key holds a bucket's or a user's generation."""
        return key.startswith(("all", "user:"), self._place + 4)

    def user(self, identity: str) -> str:
        """Key of a user's generation."""
        return f"{self._bases[bucket_of(identity)]}user:{identity}"

    def token(self, identity: str, jti: str) -> str:
        """Key of a revoked token."""
        return f"{self._bases[bucket_of(identity)]}jti:{jti}"

    def session(self, sid: str) -> str:
        """Key of a revoked session."""
        return f"{self._bases[bucket_of_sid(sid)]}sid:{sid}"

    def evicted(self, bucket: str) -> str:
        """Key of the marker for evicted keys that were already handled.

        Args:
            bucket: the first bucket that the server holds.
        """
        return f"{self._bases[bucket]}evicted"

    def base(self, bucket: str) -> str:
        """Prefix of the keys of a bucket."""
        return self._bases[bucket]

    def live_session(self, sid: str) -> tuple[str, str]:
        """Keys of a session, and of what is kept of its refresh token."""
        base = self._bases[bucket_of_sid(sid)]
        return f"{base}session:{sid}", f"{base}next:{sid}"

    def lists(self, identity: str) -> list[str]:
        """Keys of a user's lists: of sessions that count toward a limit, and of those that do not."""
        base, digest = self._bases[bucket_of(identity)], digest_of(identity)
        return [f"{base}sessions:{digest}", f"{base}uncounted:{digest}"]

    def of(self, ref: TokenRef) -> tuple[str, list[str], tuple[str, list[str]] | None]:
        """The keys that a check reads.

        Returns:
            The bucket; the keys of the user's generation, the revoked token and the revoked session; and
            for a session id of another bucket, that bucket and the session's key there.
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
"""The epoch in the memory store's stamps: no server can have lost it."""


class TokenStatus(Enum):
    """A token's stamp compared with the server's generations."""

    VALID = auto()
    REVOKED = auto()
    STALE = auto()
    """An access token, revoked like all of its user's earlier ones."""
    USED = auto()
    """A token that was used, or ended when another one of its purpose was."""
    PREVIOUS_EPOCH = auto()
    """Issued under an epoch that the server lists as a previous one."""
    UNKNOWN_EPOCH = auto()
    """Issued under an epoch that the server does not know: it lost the epoch, or is another server."""
    FUTURE_GENERATION = auto()
    """Issued under a generation that the server never reached: it went back to an older state."""


DECIDED = frozenset((TokenStatus.VALID, TokenStatus.REVOKED, TokenStatus.STALE, TokenStatus.USED))
"""Token statuses that say whether a token is valid; the others reveal data loss."""


def evaluate(ref: TokenRef, bucket: Bucket, user: User) -> TokenStatus:
    """Judge a token that was not revoked itself, nor through its session."""
    is_kept = user.keep != "" and user.keep in (ref.sid, ref.jti)
    if ref.gen is None:
        return _evaluate_by_time(
            ref, max(bucket.raised_at, user.kept_since if is_kept else user.raised_at), user
        )
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
    if stamp.everybody > bucket.generation or stamp.user > user.latest:
        return TokenStatus.FUTURE_GENERATION
    least = user.kept_from if is_kept else user.generation
    if stamp.everybody < bucket.generation or stamp.user < least:
        return TokenStatus.REVOKED
    is_over = user.partial is not None and stamp.user < user.partial.cutoff_of(ref.type)[0]
    return _partial_status(ref) if is_over else TokenStatus.VALID


def _evaluate_by_time(ref: TokenRef, since: float, user: User) -> TokenStatus:
    if ref.issued_at <= since:
        return TokenStatus.REVOKED
    is_over = user.partial is not None and ref.issued_at <= user.partial.cutoff_of(ref.type)[1]
    return _partial_status(ref) if is_over else TokenStatus.VALID


def _partial_status(ref: TokenRef) -> TokenStatus:
    return TokenStatus.STALE if ref.type == "access" else TokenStatus.USED
