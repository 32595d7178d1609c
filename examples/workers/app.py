"""What each worker serves. Its answers say which worker gave them."""

from __future__ import annotations

import os
from typing import Any

from quart import Quart, request

from async_jwt.adapters.quart import (
    JWTManager,
    create_token_pair,
    get_jwt_identity,
    jwt_required,
    list_sessions,
    revoke_user,
)

PASSWORDS = {"ada": "analytical"}

app = Quart(__name__)
app.config.from_prefixed_env()  # QUART_JWT_SECRET_KEY, QUART_JWT_STORE_URI
JWTManager(app)


@app.post("/login")
async def login() -> Any:
    sent = await request.get_json()
    if PASSWORDS.get(sent["name"]) != sent["password"]:
        return {"msg": "Wrong name or password"}, 401
    pair = await create_token_pair(sent["name"])
    return {"worker": os.getpid(), "access_token": pair.access_token}


@app.get("/me")
@jwt_required()
async def me() -> Any:
    page = await list_sessions()
    return {"worker": os.getpid(), "identity": get_jwt_identity(), "devices": len(page.sessions)}


@app.post("/logout-everywhere")
@jwt_required()
async def logout_everywhere() -> Any:
    await revoke_user()
    return {"worker": os.getpid(), "msg": "Signed out on all devices"}
