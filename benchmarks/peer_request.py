"""What others add to a request of their own frameworks: AuthX on FastAPI, Litestar's JWTAuth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from authx import AuthX, AuthXConfig
from fastapi import Depends, FastAPI
from litestar import Litestar, get
from litestar.security.jwt import JWTAuth

from benchmarks.asgi import requests
from benchmarks.quart_request import bare_app, our_app
from benchmarks.rows import Row
from benchmarks.timing import Timed, compare_added, measure
from benchmarks.tokens import MANY, SECRET, bearers, token

__all__ = ["run"]

GROUP = "Other frameworks, each against its own bare view"


def _fastapi() -> FastAPI:
    app = FastAPI()
    auth = AuthX(config=AuthXConfig(JWT_SECRET_KEY=SECRET, JWT_ALGORITHM="HS256"))
    auth.handle_errors(app)

    @app.get("/bare")
    async def bare() -> str:
        return "ok"

    @app.get("/me", dependencies=[Depends(auth.access_token_required)])
    async def me() -> str:
        return "ok"

    return app


@dataclass
class _User:
    name: str


def _litestar() -> Litestar:
    async def load(found: Any, _connection: Any) -> _User:
        return _User(found.sub)

    @get("/bare", exclude_from_auth=True)
    async def bare() -> str:
        return "ok"

    @get("/me")
    async def me() -> str:
        return "ok"

    auth = JWTAuth[_User](retrieve_user_handler=load, token_secret=SECRET)
    return Litestar([bare, me], on_app_init=[auth.on_app_init], openapi_config=None)


async def run() -> list[Row]:
    """What each adds to a request of its framework, beside ours on Quart."""
    new = bearers([token() for _ in range(MANY)])
    fastapi, litestar = _fastapi(), _litestar()
    bares = [
        Timed("Quart, bare view", requests(bare_app(), "/bare", new)),
        Timed("FastAPI, bare view", requests(fastapi, "/bare", new)),
        Timed("Litestar, bare view", requests(litestar, "/bare", new)),
    ]
    ours = Timed("Quart, ours", requests(our_app(), "/me", new)), bares[0]
    cases = [
        ours,
        (Timed("Quart, ours, async user lookup", requests(our_app(user=True), "/me", new)), bares[0]),
        (Timed("FastAPI, AuthX", requests(fastapi, "/me", new)), bares[1]),
        (Timed("Litestar, JWTAuth, async user lookup", requests(litestar, "/me", new)), bares[2]),
    ]
    await measure([*bares, *(case for case, _ in cases)], rounds=150)
    return [
        *(Row(GROUP, bare.name, bare.median) for bare in bares),
        *compare_added(GROUP, cases, ours),
    ]
