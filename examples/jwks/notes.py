"""The service that believes those tokens. It knows the address of the keys, and no secret."""

from __future__ import annotations

from typing import Any

import httpx
from quart import Quart

from async_jwt import Key, KeyRing
from async_jwt.adapters.quart import JWTManager, get_jwt_identity, jwt_required

ISSUER = "https://accounts.example"


def create_app(transport: httpx.AsyncBaseTransport | None = None, **config: Any) -> Quart:
    app = Quart(__name__)
    app.config["JWT_DECODE_ISSUER"] = ISSUER
    app.config["JWT_DECODE_AUDIENCE"] = "notes"
    app.config.from_prefixed_env()
    app.config.update(config)

    async def fetch() -> list[Key]:
        async with httpx.AsyncClient(base_url=ISSUER, transport=transport, timeout=3) as client:
            answer = await client.get("/.well-known/jwks.json")
            answer.raise_for_status()
            return [Key.from_jwk(jwk, issuer=ISSUER) for jwk in answer.json()["keys"]]

    # Fetched as the server starts, every five minutes, and for a token whose key is not known yet.
    JWTManager(app, keys=KeyRing(load=fetch, refresh=300))

    @app.get("/notes")
    @jwt_required()
    async def notes() -> Any:
        return {"notes_of": get_jwt_identity()}

    return app
