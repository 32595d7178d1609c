"""One store for several realms: signing out everybody of one realm leaves the others signed in.

A realm has a generation of its own: that of a name that no user has, kept like a user's. A stamp of the realm
holds both the user's and the realm's, and a token is valid while both are. Everything else of a realm has
names of its own already, which the core gives it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

from async_jwt.stores.contract import Refusal, Session, SessionSnapshot, SessionStore, Store, TokenRef
from async_jwt.stores.wrapped import wrapped

__all__ = ["realm_store"]


_Read = Callable[[], Coroutine[Any, Any, Any]]


def realm_store(store: Store, everybody: str, prefix: str) -> Store:
    """Return a store as one realm sees it.

    Args:
        store: the store that all realms share. It is neither started nor closed through this one.
        everybody: the identity whose generation is the realm's; no user has it.
        prefix: how the identities of its users begin.
    """
    realm = _Realm(store, everybody, prefix)
    calls: dict[str, Any] = {name: getattr(realm, name) for name in dir(realm) if not name.startswith("_")}

    def of_realm(name: str, call: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        return cast("Callable[..., Any]", calls.get(name, call))

    realm_view: Store = wrapped(store, of_realm)
    return realm_view


class _Realm:
    """The calls that differ for a realm. `expire_access_tokens` does not."""

    def __init__(self, store: Store, everybody: str, prefix: str) -> None:
        self._store: Any = store
        self._everybody = everybody
        self._prefix = prefix
        self._never_waits: bool = getattr(store, "awaits_nothing", False)

    async def stamp(self, identity: str) -> str:
        # The realm's first: what ends the realm from now on also ends the token.
        of_realm = await self._store.stamp(self._everybody)
        return _join(of_realm, await self._store.stamp(identity))

    async def check(self, ref: TokenRef) -> bool:
        of_realm, token = _parts(ref, self._everybody)
        check = self._store.check
        alive, valid = await self._both(partial(check, of_realm), partial(check, token))
        return cast("bool", valid if alive is True else alive)

    async def revoke_token(self, ref: TokenRef) -> None:
        await self._store.revoke_token(_parts(ref, self._everybody)[1])

    async def revoke_user(self, identity: str, keep: TokenRef | None = None) -> None:
        if keep is None:
            await self._store.revoke_user(identity)
            return
        of_realm, token = _parts(keep, self._everybody)
        # What the realm ended is not kept.
        kept = token if await self._store.check(of_realm) is True else None
        await self._store.revoke_user(identity, kept)

    async def revoke_everything(self) -> None:
        await self._store.revoke_user(self._everybody)

    async def consume_token(self, ref: TokenRef, *, others: bool = False) -> bool:
        of_realm, token = _parts(ref, self._everybody)
        if await self._store.check(of_realm) is not True:
            return False
        return cast("bool", await self._store.consume_token(token, others=others))

    async def refusal_of(self, ref: TokenRef) -> Refusal:
        of_realm, token = _parts(ref, self._everybody)
        if await self._store.check(of_realm) is not True:
            return "revoked"
        return cast("Refusal", await self._store.refusal_of(token))

    async def load_session(self, ref: TokenRef) -> SessionSnapshot:
        store: SessionStore = self._store
        stamp = await store.stamp(self._everybody)  # first: see `stamp`
        of_realm, token = _parts(ref, self._everybody)
        alive, seen = await self._both(partial(store.check, of_realm), partial(store.load_session, token))
        found: SessionSnapshot = replace(
            seen,
            valid=seen.valid if alive is True else alive,
            stamp=_join(stamp, seen.stamp),
            session=None if seen.session is None or alive is not True else _outward(seen.session),
            was_replaced=seen.was_replaced and alive is True,
        )
        return found

    async def revoke_session(self, sid: str, expires_at: float | None) -> None:
        if isinstance(self._store, SessionStore):
            session = await self._store.get_session(sid)
            if session is not None and not session.identity.startswith(self._prefix):
                return  # of another realm
        await self._store.revoke_session(sid, expires_at)

    async def get_session(self, sid: str) -> Session | None:
        session = await self._store.get_session(sid)
        if session is None or not session.identity.startswith(self._prefix):
            return None
        found = _outward(session)
        return found if await self._lives(found, {}) else None

    async def replace_session(
        self, session: Session, seen: SessionSnapshot, **options: Any
    ) -> tuple[str, ...] | None:
        before = replace(seen, stamp=_split(seen.stamp)[1])
        of_realm = TokenRef(self._everybody, None, None, _split(seen.stamp)[0], 0.0, None)
        if await self._store.check(of_realm) is not True:
            return None
        return cast(
            "tuple[str, ...] | None", await self._store.replace_session(_inward(session), before, **options)
        )

    async def list_sessions(
        self, identity: str, limit: int, cursor: str | None
    ) -> tuple[Sequence[Session], str | None]:
        page, following = await self._store.list_sessions(identity, limit, cursor)
        known: dict[str, bool] = {}
        return [each for each in map(_outward, page) if await self._lives(each, known)], following

    async def start(self) -> None:
        """Do nothing: the application starts its store."""

    async def close(self) -> None:
        """Do nothing: the application closes its store."""

    async def _lives(self, session: Session, known: dict[str, bool]) -> bool:
        """True unless the realm has ended a session. Stores end sessions of what they know as everything."""
        stamp = _split(session.stamp)[0]
        if stamp not in known:
            ref = TokenRef(self._everybody, None, None, stamp, 0.0, None)
            known[stamp] = await self._store.check(ref) is True
        return known[stamp]

    async def _both(self, first: _Read, second: _Read) -> Any:
        """Make two reads, at once where that saves the second one's way to a server."""
        if self._never_waits or not _on_asyncio():
            return await first(), await second()
        return await asyncio.gather(first(), second())


def _on_asyncio() -> bool:
    return asyncio._get_running_loop() is not None  # noqa: SLF001  # the variant that does not raise


def _join(of_realm: str, of_user: str) -> str:
    return f"{len(of_realm)}.{of_realm}{of_user}"


def _split(stamp: str) -> tuple[str, str]:
    """The realm's and the user's part of a stamp. Any other text is both: stores refuse it, or know it."""
    length, _, rest = stamp.partition(".")
    if length.isascii() and length.isdigit() and len(length) < 4 and int(length) <= len(rest):
        return rest[: int(length)], rest[int(length) :]
    return stamp, stamp


def _parts(ref: TokenRef, everybody: str) -> tuple[TokenRef, TokenRef]:
    """A token as its realm's generation judges it, and as its user's does."""
    of_realm, of_user = (None, None) if ref.gen is None else _split(ref.gen)
    whole = TokenRef(everybody, None, None, of_realm, ref.issued_at, ref.expires_at, ref.may_fail_open)
    return whole, ref._replace(gen=of_user)


def _inward(session: Session) -> Session:
    """A session as the store keeps it: the realm's part of its stamp goes with its extras."""
    of_realm, of_user = _split(session.stamp)
    return replace(session, stamp=of_user, extras=f"{of_realm}\n{session.extras}")


def _outward(session: Session) -> Session:
    of_realm, _, extras = session.extras.partition("\n")
    return replace(session, stamp=_join(of_realm, session.stamp), extras=extras)
