"""A Flask application on an async ORM: `tests.integration.orm_app:app` for WSGI, `:asgi` for ASGI.

Its user lookup and its views share one pooled engine, and its revocations are in Redis.
"""

from __future__ import annotations

import asyncio
import os
import threading
from contextvars import Context

from asgiref.sync import ThreadSensitiveContext
from asgiref.wsgi import WsgiToAsgi
from flask import Flask
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from async_jwt.adapters.flask import JWTManager, current_user, get_jwt_identity, jwt_required, revoke_token

app = Flask(__name__)
app.config.from_prefixed_env()
jwt = JWTManager(app)
engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=5, max_overflow=0)
sessions = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "async_jwt_users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


async def fill() -> None:
    """Make the table, with some users in it."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)
    async with sessions.begin() as session:
        session.add_all(User(id=number, name=f"user{number}") for number in range(1, 21))
    await engine.dispose()


@jwt.user_lookup_loader
async def load_user(_header, claims):
    async with sessions() as session:
        return await session.get(User, int(claims["sub"]))


def about(pid: int | None = None) -> dict[str, object]:
    return {
        "identity": get_jwt_identity(),
        "name": current_user.name,
        "backend": pid,
        "threads": threading.active_count(),
        "process": os.getpid(),
    }


@app.get("/hook")
@jwt_required()
async def hook():
    return about()


@app.get("/plain")
@jwt_required()
def plain():
    return about()


@app.get("/both")
@jwt_required()
async def both():
    async with sessions() as session:
        return about(await session.scalar(select(func.pg_backend_pid())))


@app.post("/logout")
@jwt_required()
async def logout():
    await revoke_token()
    return {}


_inner = WsgiToAsgi(app)


async def _serve(scope, receive, send):
    async with ThreadSensitiveContext():
        await _inner(scope, receive, send)


async def asgi(scope, receive, send):
    if scope["type"] == "http":
        # As our guide says: Uvicorn starts a connection's next request in the context of the last one.
        await asyncio.create_task(_serve(scope, receive, send), context=Context())
