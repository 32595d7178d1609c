"""The users: SQLAlchemy's asyncio side, and passwords hashed without blocking the loop."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import uuid

from sqlalchemy import String, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The base of all tables."""


class User(Base):
    """Somebody who can log in."""

    __tablename__ = "user"

    # A random id is never given twice, so an old token never fits a newer user. Row numbers
    # would be: SQLite hands the number of a deleted last row out again.
    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=lambda: uuid.uuid4().hex)
    name: Mapped[str] = mapped_column(String(80), unique=True)
    password_hash: Mapped[str] = mapped_column(String(200))


class Users:
    """All that the application asks of its database.

    Args:
        url: an asyncio URL of SQLAlchemy, such as "sqlite+aiosqlite:///users.db".
    """

    def __init__(self, url: str) -> None:
        self._engine: AsyncEngine = create_async_engine(url)
        # Users leave their session: nothing of them may be loaded only when it is looked at.
        self._session: async_sessionmaker[AsyncSession] = async_sessionmaker(
            self._engine, expire_on_commit=False
        )

    async def create_tables(self) -> None:
        async with self._engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)

    async def close(self) -> None:
        await self._engine.dispose()

    async def add(self, name: str, password: str) -> User:
        user = User(name=name, password_hash=await hash_password(password))
        async with self._session.begin() as session:
            session.add(user)
        return user

    async def get(self, user_id: str) -> User | None:
        async with self._session() as session:
            return await session.get(User, user_id)

    async def named(self, name: str) -> User | None:
        async with self._session() as session:
            found: User | None = await session.scalar(select(User).where(User.name == name))
            return found

    async def with_password(self, name: str, password: str) -> User | None:
        """The user of this name, if the password is theirs."""
        user = await self.named(name)
        if user is None:
            await hash_password(password)  # takes as long, so the time does not tell which names exist
            return None
        return user if await verify_password(password, user.password_hash) else None

    async def set_password(self, user_id: str, password: str) -> None:
        password_hash = await hash_password(password)
        async with self._session.begin() as session:
            user = await session.get_one(User, user_id)
            user.password_hash = password_hash

    async def delete(self, user_id: str) -> None:
        async with self._session.begin() as session:
            user = await session.get(User, user_id)
            if user is not None:
                await session.delete(user)


async def hash_password(password: str) -> str:
    """A salted hash, made in a thread: it is slow on purpose."""
    salt = os.urandom(16)
    return f"{salt.hex()}${(await asyncio.to_thread(_scrypt, password, salt)).hex()}"


async def verify_password(password: str, password_hash: str) -> bool:
    salt, _, expected = password_hash.partition("$")
    found = await asyncio.to_thread(_scrypt, password, bytes.fromhex(salt))
    return hmac.compare_digest(found, bytes.fromhex(expected))


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)
