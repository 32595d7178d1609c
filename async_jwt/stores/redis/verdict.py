"""Whether a token counts, given what stands on the server. Pure: no I/O, no clock."""

from __future__ import annotations

from enum import Enum, auto

from async_jwt.stores.contract import TokenRef
from async_jwt.stores.redis.layout import FORMER, Bucket, User, read_stamp

__all__ = ["MEMORY_EPOCH", "Verdict", "judge"]

MEMORY_EPOCH = "m"
"""What the memory store's stamps say for an epoch: no server can have lost it."""


class Verdict(Enum):
    """What a token's stamp says beside the server's generations."""

    COUNTS = auto()
    DEAD = auto()
    FORMER = auto()
    """Made under an epoch that the server remembers to have left."""
    FOREIGN = auto()
    """Made under an epoch that the server does not remember: it forgot it, or is another."""
    AHEAD = auto()
    """Made under a generation that the server never gave: it went back to an older state."""


def judge(ref: TokenRef, bucket: Bucket, user: User) -> Verdict:
    """Judge a token that was not revoked by itself, nor its session."""
    is_kept = user.keep != "" and user.keep in (ref.sid, ref.jti)
    if ref.gen is None:
        since = max(bucket.raised_at, user.kept_since if is_kept else user.raised_at)
        return Verdict.COUNTS if ref.issued_at > since else Verdict.DEAD
    stamp = read_stamp(ref.gen)
    if stamp is None:
        return Verdict.DEAD
    if stamp.epoch != bucket.epoch:
        former = bucket.former
        is_known = stamp.epoch == MEMORY_EPOCH or stamp.epoch in former or len(former) >= FORMER
        return Verdict.FORMER if is_known else Verdict.FOREIGN
    if stamp.everybody > bucket.generation or stamp.user > user.generation:
        return Verdict.AHEAD
    least = user.kept_from if is_kept else user.generation
    return Verdict.DEAD if stamp.everybody < bucket.generation or stamp.user < least else Verdict.COUNTS
