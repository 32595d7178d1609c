"""An application that rotates, and dies where a request says: `tests.integration.rotating_sessions:app`."""

from __future__ import annotations

import os
import signal
from contextvars import ContextVar

from quart import Quart, request

from async_jwt.adapters.quart import (
    JWTManager,
    create_token_pair,
    get_jti,
    jwt_required,
    rotate_refresh_token,
)
from async_jwt.stores.redis import RedisStore

app = Quart(__name__)
app.config.from_prefixed_env()

looks: ContextVar[int] = ContextVar("looks")


def die_before(step: str) -> None:
    if request.headers.get("Die") == step:
        os.kill(os.getpid(), signal.SIGKILL)


class Doomed(RedisStore):
    async def load_session(self, ref):
        looks.set(looks.get(0) + 1)
        die_before("check" if looks.get() == 1 else "look")
        return await super().load_session(ref)

    async def replace_session(self, session, seen, **more):
        die_before("put")
        put = await super().replace_session(session, seen, **more)
        die_before("stored")
        return put


jwt = JWTManager(app, store=Doomed(app.config["JWT_STORE_URI"]))


@jwt.additional_claims_loader
async def claims(identity):
    die_before("hooks")
    return {}


@app.after_request
async def answer(response):
    die_before("answer")
    return response


@app.post("/login")
async def login():
    pair = await create_token_pair("alice")
    return {"access": pair.access_token, "refresh": pair.refresh_token}


@app.post("/rotate")
@jwt_required(refresh=True)
async def rotate():
    pair = await rotate_refresh_token()
    return {
        "access": pair.access_token,
        "refresh": pair.refresh_token,
        "jti": await get_jti(pair.refresh_token),
    }


@app.get("/me")
@jwt_required()
async def me():
    return {}


@app.get("/open")
async def open_():
    return {}
