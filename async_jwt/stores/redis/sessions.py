"""Sessions on the server: one value per session, and a list per user.

A session's value holds the digest of its user, the digests of its current and previous refresh token,
the server's time when one replaced the other, and JSON, which the scripts leave alone. What is kept of
its refresh token for the grace has a separate key, which expires with the grace.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any, NamedTuple

from async_jwt.clock import system_clock
from async_jwt.errors import StoreUnavailableError
from async_jwt.stores.contract import (
    Session,
    SessionSnapshot,
    TokenRef,
    bucket_of,
    bucket_of_sid,
    cursor_after,
    read_cursor,
)
from async_jwt.stores.redis.buckets import BucketStore
from async_jwt.stores.redis.lua import CLOCK, DROP_SESSIONS, LIST_SESSIONS, REPLACE_SESSION
from async_jwt.stores.redis.schema import DECIDED, Bucket, TokenStatus, User, digest_of, evaluate, ttl_ms

__all__ = ["Sessions"]


class _Seen(NamedTuple):
    """The state that a session snapshot was read from; `replace` requires it unchanged."""

    jti: str | None
    epoch: str
    generation: int
    user: str
    session: str
    refresh_jti: str | None


class Sessions:
    """The sessions of a store.

    Args:
        buckets: reads and writes them.
    """

    def __init__(self, buckets: BucketStore) -> None:
        self._buckets = buckets
        self._layout = buckets.layout

    async def load(self, ref: TokenRef) -> SessionSnapshot:
        """See `SessionStore.load_session`."""
        # A session is in its user's bucket; a token with a sid of another bucket has none.
        has_one = ref.sid is not None and bucket_of_sid(ref.sid) == bucket_of(ref.identity)
        more = self._layout.live_session(ref.sid) if ref.sid is not None and has_one else ()
        status, found = await self._buckets.judge(ref, more)
        raw, kept = found.more or (None, None)
        session = self._read(ref.sid or "", raw)
        if session is not None and session.identity != ref.identity:
            session, raw = None, None  # as if it were absent; never overwritten
        if session is not None and not self._is_valid(session, found.bucket, found.user):
            session = None
        last = () if found.ended is None else found.ended.decode("utf-8", "replace").split(",")
        return SessionSnapshot(
            valid=status is TokenStatus.VALID,
            stamp=found.stamp,
            session=session,
            successor=None if kept is None or session is None else _successor(kept),
            age=await self._age(ref, session, raw),
            was_replaced=len(last) > 1
            and (ref.jti is None or digest_of(ref.jti) not in last)
            and evaluate(ref, found.bucket, found.user) is TokenStatus.VALID,
            version=_Seen(
                ref.jti,
                found.bucket.epoch,
                found.bucket.generation,
                found.user_text,
                "" if raw is None else raw.decode("utf-8", "replace"),
                None if session is None else session.refresh_jti,
            ),
        )

    async def get(self, sid: str) -> Session | None:
        """See `SessionStore.get_session`."""
        sid.encode("utf-8")  # invalid text must not break a command that others share
        name = bucket_of_sid(sid)
        key, _ = self._layout.live_session(sid)
        _, (raw,) = await self._buckets.read(name, [key])
        session = self._read(sid, raw)
        if session is None:
            return None
        bucket, (user,) = await self._buckets.read(name, [self._layout.user(session.identity)])
        return session if self._is_valid(session, bucket, self._buckets.read_user(user)[1]) else None

    async def replace(
        self,
        session: Session,
        seen: SessionSnapshot,
        successor: str | None,
        keep_for: float | None,
        limit: int | None,
    ) -> tuple[str, ...] | None:
        """See `SessionStore.replace_session`."""
        sid, identity = session.sid, session.identity
        before: _Seen = seen.version
        name, layout = bucket_of(identity), self._layout
        followed = session.refresh_jti if before.jti is None else before.jti
        keys = [
            layout.user(identity),
            layout.token(identity, followed),
            layout.session(sid),
            *layout.live_session(sid),
            *layout.lists(identity),
        ]
        remembered = ttl_ms(session.ends_at)
        head, body = _write(session)
        arguments = [
            before.epoch,
            str(before.generation),
            before.user,
            before.session,
            head,
            body,
            remembered,
            successor or "",
            remembered if keep_for is None else str(max(1, math.ceil(keep_for * 1000))),
            "" if session.refresh_jti == before.refresh_jti else "1",
            repr(session.last_used_at),
            sid,
            "" if limit is None else str(limit),
            layout.base(name),
            "1" if session.counts else "",
        ]
        ended = await self._buckets.write(name, REPLACE_SESSION, keys, arguments)
        return None if ended is None else tuple(str(sid, "utf-8") for sid in ended)

    async def list(
        self, identity: str, limit: int, cursor: str | None
    ) -> tuple[Sequence[Session], str | None]:
        """See `SessionStore.list_sessions`."""
        used, sid = "+inf", ""
        if cursor is not None:
            moment, sid = read_cursor(cursor)
            used = repr(moment)
        name, layout = bucket_of(identity), self._layout
        keys = [layout.user(identity), *layout.lists(identity)]
        page: list[Session] = []
        size = limit + 1
        while True:
            arguments = [used, sid, str(size), layout.base(name)]
            bucket, user, *found = await self._buckets.query(name, LIST_SESSIONS, keys, arguments)
            _, generation = self._buckets.read_user(user or None)
            over: list[str] = []
            following = None
            for at in range(0, len(found), 3):
                sid, used = str(found[at], "utf-8"), str(found[at + 1], "ascii")
                session = self._read(sid, found[at + 2] or None)
                if session is None or not self._is_valid(session, bucket, generation):
                    over += [sid, str(found[at + 2], "utf-8")]
                elif session.expires_at is None or session.expires_at > system_clock():
                    if len(page) == limit:
                        following = cursor_after(page[-1])
                        break
                    page.append(session)
            if over:
                await self._buckets.tidy(name, DROP_SESSIONS, keys[1:], [layout.base(name), *over])
            if following is not None or len(found) < 3 * size:
                return page, following
            size = _MANY

    async def _age(self, ref: TokenRef, session: Session | None, raw: bytes | None) -> float:
        """Seconds since the session's current refresh token replaced the one of `ref`."""
        if session is None or raw is None or ref.jti in (None, session.refresh_jti):
            return 0.0
        _, now = await self._buckets.query(bucket_of(ref.identity), CLOCK, [], [])
        return max(0, int(now) - int(raw.split(b" ", 3)[2])) / 1e6

    def _is_valid(self, session: Session, bucket: Bucket, user: User) -> bool:
        ref = TokenRef(
            session.identity, session.refresh_jti, session.sid, session.stamp, session.last_used_at, None
        )
        status = evaluate(ref, bucket, user)
        if status not in DECIDED and not self._buckets.denies_losses:
            status = evaluate(ref._replace(gen=None), bucket, user)
        return status is TokenStatus.VALID

    @staticmethod
    def _read(sid: str, raw: bytes | None) -> Session | None:
        if raw is None:
            return None
        try:
            _, _, stepped_at, text = raw.decode("utf-8").split(" ", 3)
            int(stepped_at)
            held = json.loads(text)
            # A process of another version may store more fields.
            return Session(sid, **{name: held[name] for name in held if name in _FIELDS})
        except (ValueError, TypeError):
            raise StoreUnavailableError("The revocation store has an invalid value for a session") from None


def _successor(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except ValueError:
        raise StoreUnavailableError("The revocation store has an invalid value for a successor") from None


# Sessions per read once dead sessions left the first page short.
_MANY = 1000


_FIELDS = frozenset(field.name for field in fields(Session)) - {"sid"}


def _write(session: Session) -> tuple[str, str]:
    held: dict[str, Any] = asdict(session)
    del held["sid"]
    last = ",".join(digest_of(jti or "") for jti in (session.refresh_jti, session.previous_jti))
    return f"{digest_of(session.identity)} {last}", json.dumps(held)
