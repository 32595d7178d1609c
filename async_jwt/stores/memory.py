"""In-memory store: the embedded default.

Other processes do not see its revocations, and a restart loses them. Its methods never wait.
"""

from __future__ import annotations

import heapq
import threading
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from async_jwt.clock import Clock, system_clock
from async_jwt.stores.contract import (
    CLOCK_MARGIN,
    MOST_PURPOSES,
    Refusal,
    Session,
    SessionSnapshot,
    StoreStatus,
    TokenRef,
    cursor_after,
    is_purpose,
    latest,
    read_cursor,
    refuse_odd_texts,
    text_of,
    type_digest,
)

__all__ = ["MemoryStore"]

_FOREVER = float("inf")


@dataclass(slots=True)
class _Cutoff:
    """One generation: its number, when it was raised, and what outlives it."""

    generation: int = 0
    raised_at: float = float("-inf")
    keep: str | None = None
    kept_from: int = 0
    kept_since: float = float("-inf")
    """Kept tokens have at least this generation, or were issued after this time."""


@dataclass(slots=True)
class _Partial:
    """Generations of some of a user's tokens.

    Attributes:
        access: that of access tokens.
        purposes: by the digest of its type, that of each purpose that was ended; "*" is for all purposes.
    """

    access: _Cutoff = field(default_factory=_Cutoff)
    purposes: dict[str, _Cutoff] = field(default_factory=dict)

    @property
    def latest(self) -> int:
        """The highest of them."""
        return max(cutoff.generation for cutoff in (self.access, *self.purposes.values()))

    def refusal(self, ref: TokenRef, made_under: int | None) -> Refusal | None:
        """Return how one of them ended a token; None if none did."""
        if ref.type == "access":
            return None if _outlives(ref, self.access, made_under) else "stale"
        if not is_purpose(ref.type):
            return None
        cutoffs = (self.purposes.get(type_digest(ref.type)), self.purposes.get("*"))
        alive = all(cutoff is None or _outlives(ref, cutoff, made_under) for cutoff in cutoffs)
        return None if alive else "used"

    def end_purpose(self, kind: str, cutoff: _Cutoff) -> None:
        """End a purpose's tokens. Of too many purposes, the oldest generation holds for all of them."""
        self.purposes[type_digest(kind)] = cutoff
        held = self.purposes.keys() - {"*"}
        if len(held) > MOST_PURPOSES:
            oldest = min(held, key=lambda name: self.purposes[name].generation)
            self.purposes["*"] = self.purposes[oldest]  # first: checks in other threads do not wait
            self.purposes.pop(oldest)


@dataclass(frozen=True, slots=True)
class _Kept:
    """A session, and its successor for the grace."""

    session: Session
    successor: str | None
    successor_until: float
    stepped_at: float


class MemoryStore:
    """Revocations and sessions in memory.

    Generations start at 0, and a raise jumps to the time in microseconds. A process that lost
    its counters (a restart) or never had them (another worker) thus accepts tokens stamped by
    others until it revokes, and refuses them afterwards.

    Args:
        clock: returns seconds since the epoch.

    Attributes:
        clock: as given.
        awaits_nothing: its methods never wait, so sync views need no event loop for them.
    """

    awaits_nothing = True

    def __init__(self, *, clock: Clock = system_clock) -> None:
        self.clock: Clock = clock
        self._since = clock()
        self._lock = threading.Lock()
        self._everybody = _Cutoff()
        self._users: dict[str, _Cutoff] = {}
        self._partial: dict[str, _Partial] = {}
        # Revoked jti and sid: both are our own unguessable IDs, distinguished by a prefix.
        self._revoked: dict[str, float] = {}
        self._consumed: set[str] = set()
        self._expiries: list[tuple[float, str]] = []
        self._sessions: dict[str, _Kept] = {}
        # By identity: (last used, sid) of each of its sessions, sorted.
        self._used: dict[str, list[tuple[float, str]]] = {}
        # The last two refresh tokens of revoked sessions.
        self._last: dict[str, tuple[str, str | None]] = {}

    async def stamp(self, identity: str) -> str:
        return self._stamp(text_of(identity, "The identity"))

    async def check(self, ref: TokenRef) -> bool:
        return self._is_valid(ref)

    def _is_valid(self, ref: TokenRef) -> bool:
        revoked = self._revoked
        if revoked and (
            (ref.jti is not None and f"j:{ref.jti}" in revoked)
            or (ref.sid is not None and f"s:{ref.sid}" in revoked)
        ):
            return False
        if not self._users and self._everybody.generation == 0:
            return True  # no user was ever signed out everywhere
        return self._refusal_by_generation(ref) is None

    def _refusal_by_generation(self, ref: TokenRef) -> Refusal | None:
        """Return what ended a token since it was issued, other than its own or its session's revocation."""
        # In this order: signing a user out elsewhere sets the user, then drops the partial generations.
        partial = self._partial.get(ref.identity)
        user, everybody = self._users.get(ref.identity), self._everybody
        if user is None and everybody.generation == 0:
            return None
        stamp = _parse(ref.gen) if ref.gen is not None else None
        if stamp is None and ref.gen is not None:
            return "revoked"
        made_globally, made_for_user = stamp or (None, None)
        if not _outlives(ref, everybody, made_globally):
            return "revoked"
        if user is not None and not _outlives(ref, user, made_for_user):
            return "revoked"
        return None if partial is None else partial.refusal(ref, made_for_user)

    async def revoke_token(self, ref: TokenRef) -> None:
        if ref.jti is None:
            raise ValueError("A token without a jti cannot be revoked by itself: revoke its session or user")
        refuse_odd_texts(ref)
        with self._lock:
            self._revoke(f"j:{ref.jti}", ref.expires_at)

    async def consume_token(self, ref: TokenRef, *, others: bool = False) -> bool:
        refuse_odd_texts(ref)
        with self._lock:
            if not self._is_valid(ref):
                return False
            self._consumed.add(f"j:{ref.jti}")
            self._revoke(f"j:{ref.jti}", ref.expires_at)
            if others:
                cutoff = self._raised(self._latest_of(ref.identity), None)
                self._partial_of(ref.identity).end_purpose(ref.type, cutoff)
            return True

    async def expire_access_tokens(self, identity: str) -> None:
        identity = text_of(identity, "The identity")
        with self._lock:
            cutoff = self._raised(self._latest_of(identity), None)
            self._partial_of(identity).access = cutoff

    async def refusal_of(self, ref: TokenRef) -> Refusal:
        if f"j:{ref.jti}" in self._consumed:
            return "used"
        is_revoked = not self._revoked.keys().isdisjoint((f"j:{ref.jti}", f"s:{ref.sid}"))
        return "revoked" if is_revoked else self._refusal_by_generation(ref) or "revoked"

    async def revoke_session(self, sid: str, expires_at: float | None) -> None:
        sid = text_of(sid, "The sid")
        with self._lock:
            self._end(sid, expires_at)

    async def revoke_user(self, identity: str, keep: TokenRef | None = None) -> None:
        identity = text_of(identity, "The identity")
        with self._lock:
            kept = keep.sid or keep.jti if keep is not None and self._is_valid(keep) else None
            before = self._users.get(identity, _Cutoff())
            raised = self._raised(self._latest_of(identity), kept)
            goes_on = kept is not None and before.keep == kept
            raised.kept_from = before.kept_from if goes_on else before.generation
            raised.kept_since = before.kept_since if goes_on else before.raised_at
            self._users[identity] = raised  # complete: checks in other threads do not wait
            if kept is None:
                self._partial.pop(identity, None)  # it matters for what is kept
            for _, sid in self._used.get(identity, [])[:]:
                if sid != kept:
                    self._forget(sid)

    async def revoke_everything(self) -> None:
        with self._lock:
            self._everybody = self._raised(self._everybody.generation, None)
            self._sessions.clear()
            self._used.clear()

    async def load_session(self, ref: TokenRef) -> SessionSnapshot:
        with self._lock:
            kept = self._sessions.get(ref.sid or "")
            if kept is not None and kept.session.identity != ref.identity:
                kept = None
            last, now = self._last.get(ref.sid or ""), self.clock()
            is_replaced = kept is not None and ref.jti not in (None, kept.session.refresh_jti)
            return SessionSnapshot(
                valid=self._is_valid(ref),
                stamp=self._stamp(ref.identity),
                session=None if kept is None else kept.session,
                successor=kept.successor if kept is not None and now < kept.successor_until else None,
                age=max(0.0, now - kept.stepped_at) if kept is not None and is_replaced else 0.0,
                was_replaced=last is not None
                and ref.jti not in last
                and self._refusal_by_generation(ref) is None,
                version=(ref.jti, kept),
            )

    async def get_session(self, sid: str) -> Session | None:
        kept = self._sessions.get(sid)
        return None if kept is None else kept.session

    async def replace_session(
        self,
        session: Session,
        seen: SessionSnapshot,
        *,
        successor: str | None = None,
        keep_for: float | None = None,
        limit: int | None = None,
    ) -> tuple[str, ...] | None:
        with self._lock:
            self._sweep()
            jti, before = seen.version
            revoked = self._revoked
            if (
                self._stamp(session.identity) != seen.stamp
                or self._sessions.get(session.sid) is not before
                or f"s:{session.sid}" in revoked
                or (jti is not None and f"j:{jti}" in revoked)
            ):
                return None
            self._forget(session.sid)
            if before is not None and before.session.refresh_jti == session.refresh_jti:
                kept = replace(before, session=session)
            else:
                now = self.clock()
                until = _FOREVER if keep_for is None else now + keep_for
                kept = _Kept(session, successor, until, now)
            self._sessions[session.sid] = kept
            used = self._used.setdefault(session.identity, [])
            insort(used, (session.last_used_at, session.sid))
            if before is None or before.session.ends_at is None:
                self._expire(f"live:{session.sid}", _FOREVER if session.ends_at is None else session.ends_at)
            ended = () if limit is None or not session.counts else self._beyond(session, limit)
            for sid in ended:
                self._end(sid, 0.0)
            return ended

    def _beyond(self, session: Session, limit: int) -> tuple[str, ...]:
        """Return the least recently used sessions beyond a limit, without the one being stored."""
        counted = [sid for _, sid in self._used[session.identity] if self._sessions[sid].session.counts]
        beyond = max(0, len(counted) - limit)
        return tuple(islice((sid for sid in counted if sid != session.sid), beyond))

    async def list_sessions(
        self, identity: str, limit: int, cursor: str | None
    ) -> tuple[Sequence[Session], str | None]:
        identity = text_of(identity, "The identity")
        with self._lock:
            used = self._used.get(identity, [])
            place = len(used) if cursor is None else bisect_left(used, read_cursor(cursor))
            page: list[Session] = []
            now = self.clock()
            while place:
                place -= 1
                session = self._sessions[used[place][1]].session
                if session.expires_at is not None and session.expires_at <= now:
                    continue
                if len(page) == limit:
                    return page, cursor_after(page[-1])
                page.append(session)
            return page, None

    async def start(self) -> None:
        """Do nothing: no connections to open."""

    async def close(self) -> None:
        """Do nothing: revocations stay in force."""

    def status(self) -> StoreStatus:
        """Return the status of a store that cannot fail and keeps nothing on disk."""
        return StoreStatus(
            available=True, since=self._since, may_evict=False, persists=False, read_only=False
        )

    def __len__(self) -> int:
        """Number of revocations and sessions in memory."""
        return len(self._revoked) + len(self._sessions)

    def _raised(self, before: int, keep: str | None) -> _Cutoff:
        now = self.clock()
        return _Cutoff(max(before + 1, int(now * 1_000_000)), now, keep)

    def _latest_of(self, identity: str) -> int:
        """Return the highest generation of a user, which stamps take."""
        user, partial = self._users.get(identity), self._partial.get(identity)
        return max(user.generation if user else 0, partial.latest if partial else 0)

    def _partial_of(self, identity: str) -> _Partial:
        self._users.setdefault(identity, _Cutoff())  # whoever has one is among the users
        return self._partial.setdefault(identity, _Partial())

    def _stamp(self, identity: str) -> str:
        latest = self._latest_of(identity) if self._users else 0
        return f"m.{self._everybody.generation}.{latest}"

    def _end(self, sid: str, expires_at: float | None) -> None:
        """Revoke a session until `expires_at`, and for as long as its tokens may live."""
        session = self._forget(sid)
        if session is not None:
            self._last[sid] = session.refresh_jti, session.previous_jti
            expires_at = latest((expires_at, session.ends_at))
        self._revoke(f"s:{sid}", expires_at)

    def _forget(self, sid: str) -> Session | None:
        kept = self._sessions.pop(sid, None)
        if kept is None:
            return None
        session = kept.session
        used = self._used[session.identity]
        del used[bisect_left(used, (session.last_used_at, sid))]
        if not used:
            del self._used[session.identity]
        return session

    def _revoke(self, entry: str, expires_at: float | None) -> None:
        before = self._revoked.get(entry, 0.0)
        until = max(_FOREVER if expires_at is None else expires_at, before)
        self._revoked[entry] = until
        if before != until:
            self._expire(entry, until)
        self._sweep()

    def _expire(self, entry: str, until: float) -> None:
        if until != _FOREVER:
            heapq.heappush(self._expiries, (until, entry))

    def _sweep(self) -> None:
        """Drop revocations and sessions that have long expired."""
        now = self.clock() - CLOCK_MARGIN
        while self._expiries and self._expiries[0][0] < now:
            _, stale = heapq.heappop(self._expiries)
            kind, _, name = stale.partition(":")
            if kind == "live":
                ends_at = self._sessions[name].session.ends_at if name in self._sessions else None
                if ends_at is None:
                    continue
                if ends_at < now:
                    self._forget(name)
                else:  # it was used since
                    self._expire(stale, ends_at)
            elif self._revoked.get(stale, _FOREVER) < now:
                del self._revoked[stale]
                self._consumed.discard(stale)
                if kind == "s":
                    self._last.pop(name, None)


def _outlives(ref: TokenRef, cutoff: _Cutoff, made_under: int | None) -> bool:
    if cutoff.generation == 0:
        return True
    is_kept = cutoff.keep is not None and cutoff.keep in (ref.sid, ref.jti)
    if made_under is None:
        return ref.issued_at > (cutoff.kept_since if is_kept else cutoff.raised_at)
    return made_under >= (cutoff.kept_from if is_kept else cutoff.generation)


def _parse(stamp: str) -> tuple[int, int] | None:
    """Return the generations of everyone and of the user in a stamp; None if the stamp is invalid."""
    parts = stamp.split(".")
    if (
        len(parts) == 3
        and parts[0] == "m"
        and all(part.isascii() and part.isdigit() and len(part) < 20 for part in parts[1:])
    ):
        return int(parts[1]), int(parts[2])
    return None
