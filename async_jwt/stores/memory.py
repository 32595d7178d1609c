"""A store in this process's memory: the embedded default.

Other processes do not see its revocations and a restart forgets them. It awaits nothing.
"""

from __future__ import annotations

import heapq
import threading
from dataclasses import dataclass

from async_jwt.core.clock import Clock, system_clock
from async_jwt.stores.contract import StoreStatus, TokenRef

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
    """Of what is kept: the generation that its tokens have at least, and since when they were issued."""


class MemoryStore:
    """Revocations in memory.

    Stamps begin at 0 and a raise jumps to the time in microseconds: a process that forgot
    its counters (a restart) or never saw them (another worker) thus accepts what others
    stamped until it revokes, and refuses it afterwards.

    Args:
        clock: seconds since the epoch.

    Attributes:
        awaits_nothing: its methods never wait, so plain views need no event loop for them.
    """

    awaits_nothing = True

    def __init__(self, *, clock: Clock = system_clock) -> None:
        self._clock = clock
        self._since = clock()
        self._lock = threading.Lock()
        self._everybody = _Cutoff()
        self._users: dict[str, _Cutoff] = {}
        # Revoked jti and sid: both are unguessable ids of ours, told apart by their prefix.
        self._revoked: dict[str, float] = {}
        self._expiries: list[tuple[float, str]] = []

    async def stamp(self, identity: str) -> str:
        user = self._users.get(identity)
        return f"m.{self._everybody.generation}.{user.generation if user else 0}"

    async def check(self, ref: TokenRef) -> bool:
        return self._counts(ref)

    def _counts(self, ref: TokenRef) -> bool:
        revoked = self._revoked
        if revoked and (
            (ref.jti is not None and f"j:{ref.jti}" in revoked)
            or (ref.sid is not None and f"s:{ref.sid}" in revoked)
        ):
            return False
        user = self._users.get(ref.identity)
        everybody = self._everybody
        if user is None and everybody.generation == 0:
            return True
        stamp = _parse(ref.gen) if ref.gen is not None else None
        if stamp is None and ref.gen is not None:
            return False
        made_globally, made_for_user = stamp or (None, None)
        return _outlives(ref, everybody, made_globally) and (
            user is None or _outlives(ref, user, made_for_user)
        )

    async def revoke_token(self, ref: TokenRef) -> None:
        if ref.jti is None:
            raise ValueError("A token without a jti cannot be revoked by itself: revoke its session or user")
        self._revoke(f"j:{ref.jti}", ref.expires_at)

    async def revoke_session(self, sid: str, expires_at: float | None) -> None:
        self._revoke(f"s:{sid}", expires_at)

    async def revoke_user(self, identity: str, keep: TokenRef | None = None) -> None:
        with self._lock:
            kept = keep.sid or keep.jti if keep is not None and self._counts(keep) else None
            before = self._users.get(identity, _Cutoff())
            raised = self._users[identity] = self._raised(before, kept)
            goes_on = kept is not None and before.keep == kept
            raised.kept_from = before.kept_from if goes_on else before.generation
            raised.kept_since = before.kept_since if goes_on else before.raised_at

    async def revoke_everything(self) -> None:
        with self._lock:
            self._everybody = self._raised(self._everybody, None)

    async def start(self) -> None:
        """Nothing to get ready."""

    async def close(self) -> None:
        """Nothing to release: what was revoked stays revoked."""

    def status(self) -> StoreStatus:
        """That of a store which cannot fail, and keeps nothing on disk."""
        return StoreStatus(
            available=True, since=self._since, may_evict=False, persists=False, read_only=False
        )

    def __len__(self) -> int:
        """How many revoked tokens and sessions are remembered."""
        return len(self._revoked)

    def _raised(self, before: _Cutoff, keep: str | None) -> _Cutoff:
        now = self._clock()
        return _Cutoff(max(before.generation + 1, int(now * 1_000_000)), now, keep)

    def _revoke(self, entry: str, expires_at: float | None) -> None:
        with self._lock:
            before = self._revoked.get(entry, 0.0)
            until = max(_FOREVER if expires_at is None else expires_at, before)
            self._revoked[entry] = until
            if before != until != _FOREVER:
                heapq.heappush(self._expiries, (until, entry))
            now = self._clock()
            while self._expiries and self._expiries[0][0] < now:
                _, stale = heapq.heappop(self._expiries)
                if self._revoked.get(stale, _FOREVER) < now:
                    del self._revoked[stale]


def _outlives(ref: TokenRef, cutoff: _Cutoff, made_under: int | None) -> bool:
    if cutoff.generation == 0:
        return True
    is_kept = cutoff.keep is not None and cutoff.keep in (ref.sid, ref.jti)
    if made_under is None:
        return ref.issued_at > (cutoff.kept_since if is_kept else cutoff.raised_at)
    return made_under >= (cutoff.kept_from if is_kept else cutoff.generation)


def _parse(stamp: str) -> tuple[int, int] | None:
    """The generations of everybody and of the user in a stamp; None for one of no store."""
    parts = stamp.split(".")
    if len(parts) == 3 and all(part.isascii() and part.isdigit() and len(part) < 20 for part in parts[1:]):
        return int(parts[1]), int(parts[2])
    return None
