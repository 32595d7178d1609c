"""The applications of `benchmarks.revocation`, as servers load them. `STORE` names the Redis server."""

from __future__ import annotations

import os
from typing import Any

import jwt as pyjwt
import redis
import redis.asyncio
from flask import Flask
from quart import Quart, request

from async_jwt.adapters import quart as ours
from benchmarks.tokens import SECRET

STORE = os.environ["STORE"]


def quart_app() -> Quart:
    """An open view, and the same one protected in several ways."""
    app = Quart("benchmark")
    app.config.update(JWT_SECRET_KEY=SECRET, JWT_STORE_URI=STORE)
    ours.JWTManager(app)
    # At the default of 100 connections, 128 requests at once fail with 500.
    client = redis.asyncio.Redis.from_url(STORE, max_connections=256)

    @ours.public
    async def view() -> str:
        return "ok"

    async def by_hand() -> Any:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            return {"msg": "missing"}, 401
        try:
            claims = pyjwt.decode(token, SECRET, algorithms=["HS256"])
        except pyjwt.InvalidTokenError:
            return {"msg": "invalid"}, 401
        if await client.get(f"revoked:{claims['jti']}") is not None:
            return {"msg": "revoked"}, 401
        return "ok"

    app.add_url_rule("/open", "open", view)
    app.add_url_rule("/unchecked", "unchecked", ours.jwt_required(skip_revocation_check=True)(view))
    app.add_url_rule("/ours", "ours", ours.jwt_required()(view))
    app.add_url_rule("/by-hand", "by_hand", by_hand)
    return app


def mirror_app() -> Quart:
    """An open view, and the same one protected with a mirror of revocations."""
    app = Quart("benchmark")
    app.config.update(JWT_SECRET_KEY=SECRET, JWT_STORE_URI=f"{STORE}?mirror=true")
    ours.JWTManager(app)

    @ours.public
    async def view() -> str:
        return "ok"

    app.add_url_rule("/open", "open", view)
    app.add_url_rule("/ours", "ours", ours.jwt_required()(view))
    return app


def flask_app() -> Flask:
    """An open view, and the same one protected, in plain Flask."""
    from async_jwt.adapters import flask_sync  # noqa: PLC0415  # the other servers do without

    app = Flask("benchmark")
    app.config.update(JWT_SECRET_KEY=SECRET, JWT_STORE_URI=STORE)
    flask_sync.JWTManager(app)

    @flask_sync.public
    def view() -> str:
        return "ok"

    app.add_url_rule("/open", "open", view)
    app.add_url_rule("/ours", "ours", flask_sync.jwt_required()(view))
    return app


def their_app() -> Flask:
    """Flask-JWT-Extended with a blocklist in Redis, as its documentation has it."""
    import flask_jwt_extended as fje  # noqa: PLC0415  # the other servers do without

    app = Flask("benchmark")
    app.config.update(JWT_SECRET_KEY=SECRET)
    manager = fje.JWTManager(app)
    client = redis.Redis.from_url(STORE)

    @manager.token_in_blocklist_loader
    def is_revoked(_header: dict[str, Any], claims: dict[str, Any]) -> bool:
        return client.get(claims["jti"]) is not None

    def view() -> str:
        return "ok"

    app.add_url_rule("/open", "open", view)
    app.add_url_rule("/theirs", "theirs", fje.jwt_required()(view))
    return app
