"""A Quart application that keeps its revocations in SQL. `quart --app examples.own_store.app run`."""

from __future__ import annotations

from typing import Any

from quart import Quart, request
from sqlalchemy.ext.asyncio import create_async_engine

from async_jwt.adapters.quart import (
    JWTManager,
    create_access_token,
    get_jwt_identity,
    jwt_required,
    revoke_token,
    revoke_user,
)
from examples.own_store.sql_store import SQLStore

PASSWORDS = {"ada": "analytical"}


def create_app(**config: Any) -> Quart:
    app = Quart(__name__)
    app.config["DATABASE_URL"] = "sqlite+aiosqlite:///revocations.db"
    app.config.from_prefixed_env()
    app.config.update(config)
    JWTManager(app, store=SQLStore(create_async_engine(app.config["DATABASE_URL"])))

    @app.post("/login")
    async def login() -> Any:
        sent = await request.get_json()
        if PASSWORDS.get(sent["name"]) != sent["password"]:
            return {"msg": "Wrong name or password"}, 401
        return {"access_token": await create_access_token(sent["name"])}

    @app.get("/me")
    @jwt_required()
    async def me() -> Any:
        return {"identity": get_jwt_identity()}

    @app.post("/logout")
    @jwt_required()
    async def logout() -> Any:
        await revoke_token()
        return {"msg": "Signed out"}

    @app.post("/logout-everywhere")
    @jwt_required()
    async def logout_everywhere() -> Any:
        await revoke_user()
        return {"msg": "Signed out on all devices"}

    return app
