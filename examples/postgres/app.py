"""Notes in PostgreSQL. `DATABASE_URL=postgresql+asyncpg://... quart --app examples.postgres.app run`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from quart import Quart, request
from sqlalchemy import ForeignKey, String, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from werkzeug.security import check_password_hash, generate_password_hash

from async_jwt.adapters.quart import JWTManager, create_token_pair, current_user, jwt_required, public


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)
    password: Mapped[str] = mapped_column(String(200))


class Note(Base):
    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    text: Mapped[str]


def create_app(**config: Any) -> Quart:
    app = Quart(__name__)
    app.config["JWT_DEFAULT_DENY"] = True
    app.config["DATABASE_URL"] = os.environ.get("DATABASE_URL", "")
    app.config.from_prefixed_env()
    app.config.update(config)
    engine = create_async_engine(app.config["DATABASE_URL"])
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    jwt = JWTManager(app)

    @app.while_serving
    async def database() -> AsyncIterator[None]:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield
        await engine.dispose()

    @jwt.user_identity_loader
    def identity_of(user: User | str) -> str:
        return str(user.id) if isinstance(user, User) else user

    @jwt.user_lookup_loader
    async def load_user(_header: dict[str, Any], claims: dict[str, Any]) -> User | None:
        async with sessions() as session:
            return await session.get(User, int(claims["sub"]))

    @app.post("/users")
    @public
    async def sign_up() -> Any:
        sent = await request.get_json()
        # Hashing takes a while on purpose: in a thread.
        password = await asyncio.to_thread(generate_password_hash, sent["password"])
        user = User(name=sent["name"], password=password)
        try:
            async with sessions.begin() as session:
                session.add(user)
        except IntegrityError:
            return {"msg": "This name is taken"}, 409
        return {"id": user.id}, 201

    @app.post("/login")
    @public
    async def login() -> Any:
        sent = await request.get_json()
        async with sessions() as session:
            user = await session.scalar(select(User).where(User.name == sent["name"]))
        if user is None or not await asyncio.to_thread(check_password_hash, user.password, sent["password"]):
            return {"msg": "Wrong name or password"}, 401
        pair = await create_token_pair(user, fresh=True)
        return {"access_token": pair.access_token, "refresh_token": pair.refresh_token}

    @app.get("/notes")
    async def notes() -> Any:
        async with sessions() as session:
            found = await session.scalars(select(Note).where(Note.owner == current_user.id).order_by(Note.id))
            return {"of": current_user.name, "notes": [note.text for note in found]}

    @app.post("/notes")
    async def write() -> Any:
        sent = await request.get_json()
        async with sessions.begin() as session:
            session.add(Note(owner=current_user.id, text=sent["text"]))
        return {"msg": "Written"}, 201

    @app.delete("/me")
    @jwt_required(fresh=True)
    async def leave() -> Any:
        async with sessions.begin() as session:
            await session.delete(await session.get_one(User, current_user.id))
        return {"msg": "Your account is gone"}

    return app
