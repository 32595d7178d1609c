"""Uses a token once: of all callers, in all processes, one gets True."""

from __future__ import annotations

import secrets

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores.contract import MOST_PURPOSES, TokenRef, bucket_of, bucket_of_sid, type_digest
from async_jwt.stores.redis.buckets import CONTENDERS, BucketRead, BucketStore
from async_jwt.stores.redis.lua import CONSUME_TOKEN
from async_jwt.stores.redis.schema import USED, TokenStatus, ttl_ms

__all__ = ["consume"]


async def consume(buckets: BucketStore, ref: TokenRef, *, others: bool) -> bool:
    """See `SingleUseStore.consume_token`.

    The script marks the token only if nothing that its validity depends on changed since it was checked.
    The mark holds a nonce of this call: if the script runs twice because its first reply was lost, it
    recognizes the mark.

    Raises:
        StoreUnavailableError: the token may have been used.
    """
    mark = USED.decode() + secrets.token_hex(16)
    for _ in range(CONTENDERS):
        # An application may pass any claims: they are no evidence of data loss, as a request's token is.
        status, read = await buckets.judge(ref, reports=False)
        if status is not TokenStatus.VALID:
            return False
        done = await _mark(buckets, ref, read, mark, type_digest(ref.type) if others else "")
        if done is not None:
            return done
    raise StoreUnavailableError("Too many concurrent revocations of this token's user")


async def _mark(buckets: BucketStore, ref: TokenRef, read: BucketRead, mark: str, ended: str) -> bool | None:
    """Mark a token as used.

    Returns:
        None if its user, its session or everyone was signed out since it was read, or if the reply shows
        data loss: the server may have forgotten that another call used it.
    """
    name, layout, jti = bucket_of(ref.identity), buckets.layout, ref.jti or ""
    token = layout.token(ref.identity, jti)
    # A session of another bucket may be on another server: the check before has read it.
    has_session = ref.sid is not None and bucket_of_sid(ref.sid) == name
    session = layout.session(ref.sid) if ref.sid is not None and has_session else token
    expected = [read.bucket.epoch, str(read.bucket.generation), read.user_text]
    arguments = [*expected, ttl_ms(ref.expires_at), jti, mark, ended, ref.identity, str(MOST_PURPOSES)]
    keys = [layout.user(ref.identity), token, session]
    reply = await buckets.write(name, CONSUME_TOKEN, keys, arguments, despite_loss=False)
    if reply is None:
        return None
    if reply not in ([b"1"], [b"0"]):
        raise StoreUnavailableError("Unexpected reply from the revocation store; the token may be used")
    return reply == [b"1"]
