"""A revocation store of one's own: on any database that SQLAlchemy's asyncio reaches.

It keeps every promise of `async_jwt.testing.store_contract`, on SQLite and on PostgreSQL. Each user has
one counter, from which all generations come: that of all tokens, of access tokens, and of purposes.

    engine = create_async_engine("postgresql+asyncpg://...")
    jwt = JWTManager(app, store=SQLStore(engine))

What changes a user's generations is one transaction, so that a reader sees all of it or nothing. All else
is single statements. What cannot be answered raises `StoreUnavailableError`, and the request gets a 503.

SQLite must be a file: its `:memory:` has one connection, which transactions cannot share.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores import Refusal, TokenRef

__all__ = ["SQLStore"]

T = TypeVar("T")

DEADLINE = 1.0
"""Seconds that a call may take. Let the driver have a limit too, such as asyncpg's `command_timeout`."""
NEVER = 1e300
"""An expiry that is never reached; the largest time that a database compares rightly."""

metadata = sa.MetaData()

revoked = sa.Table(
    "jwt_revoked",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),  # a digest: names may be any text of any length
    sa.Column("expires_at", sa.Float(53), nullable=False, index=True),
)
cutoffs = sa.Table(
    "jwt_cutoffs",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("raised_at", sa.Float(53), nullable=False),
    # Of what is kept: its name, and what its tokens have at least. What was dead before stays so.
    sa.Column("keep", sa.String(64), nullable=False),
    sa.Column("kept_from", sa.BigInteger, nullable=False),
    sa.Column("kept_since", sa.Float(53), nullable=False),
)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()  # a type may be any text


def _name(kind: str, text: str | None) -> str:
    return "" if text is None else _digest(f"{kind}:{text}")


_NOTHING = {"raised_at": 0.0, "keep": "", "kept_from": 0, "kept_since": -1.0}

EVERYBODY = _name("everybody", "")
EPOCH = _name("epoch", "")
"""The row whose `keep` names this database's time."""


class SQLStore:
    """Revocations in two tables, which `start` makes where they are missing."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._insert, level = {
            "sqlite": (sqlite.insert, "SERIALIZABLE"),
            "postgresql": (postgresql.insert, "READ COMMITTED"),  # reads after a wait see what was waited for
        }[engine.dialect.name]
        self._transactions = engine.execution_options(isolation_level=level)
        self._tasks: set[asyncio.Future[Any]] = set()

    async def start(self) -> None:
        await self._do(self._begin)

    async def close(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks)  # what goes on although whoever asked was cancelled
        await self._engine.dispose()

    async def stamp(self, identity: str) -> str:
        found = await self._do(lambda db: self._cutoffs(db, identity))
        everybody, *own = [found[name].generation if name in found else 0 for name in _names(identity)]
        return f"{found[EPOCH].keep}.{everybody}.{max(own)}"

    async def check(self, ref: TokenRef) -> bool:
        return await self._do(lambda db: self._refusal(db, ref)) is None

    async def refusal_of(self, ref: TokenRef) -> Refusal:
        return await self._do(lambda db: self._refusal(db, ref)) or "revoked"

    async def consume_token(self, ref: TokenRef, *, others: bool = False) -> bool:
        await self._do(self._sweep)  # first: if it fails, the token is not used
        return await self._change(lambda db: self._consume(db, ref, others=others))

    async def expire_access_tokens(self, identity: str) -> None:
        await self._change(lambda db: self._raise(db, identity, _type_name(identity, "access"), None))

    async def revoke_token(self, ref: TokenRef) -> None:
        if ref.jti is None:
            raise ValueError("A token without a jti cannot be revoked by itself: revoke its session or user")
        await self._do(lambda db: self._revoke(db, _name("jti", ref.jti), ref.expires_at))

    async def revoke_session(self, sid: str, expires_at: float | None) -> None:
        await self._do(lambda db: self._revoke(db, _name("sid", sid), expires_at))

    async def revoke_user(self, identity: str, keep: TokenRef | None = None) -> None:
        await self._change(lambda db: self._raise(db, identity, _name("user", identity), keep))

    async def revoke_everything(self) -> None:
        await self._do(self._raise_all)

    async def _begin(self, db: AsyncConnection) -> None:
        """Make the tables, and name this database's time: generations of another one say nothing here."""
        await db.run_sync(metadata.create_all)
        values = {**_NOTHING, "generation": 0, "keep": secrets.token_urlsafe(9)}
        await db.execute(self._insert(cutoffs).values(name=EPOCH, **values).on_conflict_do_nothing())

    async def _refusal(self, db: AsyncConnection, ref: TokenRef) -> Refusal | None:
        """Why a token is over; None if it is not."""
        kept = {_name("jti", ref.jti), _name("sid", ref.sid)} - {""}
        own = kept | {_name("used", ref.jti)} - {""}
        dead = {
            row.name for row in await db.execute(sa.select(revoked.c.name).where(revoked.c.name.in_(own)))
        }
        if dead:
            return "used" if _name("used", ref.jti) in dead else "revoked"
        found = await self._cutoffs(db, ref.identity, ref.type)
        epoch = found.pop(EPOCH).keep
        parts = (ref.gen or "").split(".")
        if ref.gen is not None and not (
            len(parts) == 3 and parts[0] == epoch and all(map(_is_number, parts[1:]))
        ):
            return "revoked" if found else None  # a stamp that is none, or of another store or database
        kind = _type_name(ref.identity, ref.type)
        for name, cutoff in sorted(found.items(), key=lambda item: item[0] == kind):  # what ended more first
            if name == _name("counter", ref.identity):
                continue  # it ends nothing itself
            is_kept = cutoff.keep and cutoff.keep in kept
            if ref.gen is None:
                is_over = ref.issued_at <= (cutoff.kept_since if is_kept else cutoff.raised_at)
            else:
                made = int(parts[1 if name == EVERYBODY else 2])
                is_over = made < (cutoff.kept_from if is_kept else cutoff.generation)
            if is_over:
                return "revoked" if name != kind else "stale" if ref.type == "access" else "used"
        return None

    async def _cutoffs(self, db: AsyncConnection, identity: str, kind: str = "") -> dict[str, sa.Row]:
        names = (*_names(identity), _type_name(identity, kind), EPOCH)
        rows = await db.execute(sa.select(cutoffs).where(cutoffs.c.name.in_(names)))
        return {row.name: row for row in rows}

    async def _lock(self, db: AsyncConnection, identity: str, step: int) -> int:
        """Raise a user's counter by `step`; no stamp has the result yet if that is 1. Returns it.

        A transaction that changes the user begins with this: until it ends the others wait, and whoever reads
        sees all of it or nothing. A stamp that counts already while the old tokens still pass would outlive
        the sign-out.
        """
        user = sa.select(sa.func.coalesce(sa.func.max(cutoffs.c.generation), 0) + step)
        first = user.where(cutoffs.c.name == _name("user", identity)).scalar_subquery()
        return await self._count(db, _name("counter", identity), first, step, _NOTHING)

    async def _count(
        self, db: AsyncConnection, name: str, first: Any, step: int, values: dict[str, Any]
    ) -> int:
        new = self._insert(cutoffs).values(name=name, generation=first, **values)
        higher = new.on_conflict_do_update(
            index_elements=["name"], set_={"generation": cutoffs.c.generation + step, **values}
        )
        return int((await db.execute(higher.returning(cutoffs.c.generation))).scalar_one())

    async def _raise(self, db: AsyncConnection, identity: str, name: str, keep: TokenRef | None) -> None:
        values: dict[str, Any] = {**_NOTHING, "generation": await self._lock(db, identity, 1)}
        values["raised_at"] = time.time()
        if keep is not None and await self._refusal(db, keep) is None:  # nothing dead is kept alive
            values["keep"] = _name("sid", keep.sid) or _name("jti", keep.jti)
            before = (await db.execute(sa.select(cutoffs).where(cutoffs.c.name == name))).first()
            if before is not None:
                goes_on = before.keep == values["keep"]
                values["kept_from"] = before.kept_from if goes_on else before.generation
                values["kept_since"] = before.kept_since if goes_on else before.raised_at
        await self._put(db, name, values)

    async def _put(self, db: AsyncConnection, name: str, values: dict[str, Any]) -> None:
        new = self._insert(cutoffs).values(name=name, **values)
        await db.execute(new.on_conflict_do_update(index_elements=["name"], set_=values))

    async def _raise_all(self, db: AsyncConnection) -> None:
        await self._count(db, EVERYBODY, 1, 1, {**_NOTHING, "raised_at": time.time()})

    async def _consume(self, db: AsyncConnection, ref: TokenRef, *, others: bool) -> bool:
        generation = await self._lock(db, ref.identity, 1 if others else 0)
        if await self._refusal(db, ref) is not None:
            return False
        await db.execute(sa.insert(revoked).values(name=_name("used", ref.jti), expires_at=ref.expires_at))
        if others:
            values = {**_NOTHING, "generation": generation, "raised_at": time.time()}
            await self._put(db, _type_name(ref.identity, ref.type), values)
        return True

    async def _revoke(self, db: AsyncConnection, name: str, expires_at: float | None) -> None:
        new = self._insert(revoked).values(name=name, expires_at=NEVER if expires_at is None else expires_at)
        longer = new.on_conflict_do_update(
            index_elements=["name"],
            set_={"expires_at": new.excluded.expires_at},
            where=new.excluded.expires_at > revoked.c.expires_at,
        )
        await db.execute(longer)
        await self._sweep(db)

    async def _sweep(self, db: AsyncConnection) -> None:
        await db.execute(sa.delete(revoked).where(revoked.c.expires_at < time.time() - 60))

    async def _do(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Do something with a connection, each statement by itself."""

        async def do() -> T:
            async with self._engine.connect() as db:
                return await work(db)

        return await self._to_the_end(do())

    async def _change(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Do something in one transaction. Its first statement writes: in SQLite that locks the database."""

        async def do() -> T:
            async with self._transactions.begin() as db:
                return await work(db)

        return await self._to_the_end(do())

    async def _to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Finish something even if its caller is cancelled meanwhile."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        try:
            return await asyncio.wait_for(asyncio.shield(task), DEADLINE)
        except (SQLAlchemyError, OSError, TimeoutError) as problem:
            raise StoreUnavailableError("The database did not answer") from problem

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked was told, or is gone


def _names(identity: str) -> tuple[str, str, str]:
    return EVERYBODY, _name("user", identity), _name("counter", identity)


def _type_name(identity: str, kind: str) -> str:
    return _name("type", f"{len(identity)}:{identity}{kind}") if kind else ""


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19
