"""A small OpenID provider: it alone has private keys, publishes their public halves, and rotates them.

hypercorn --bind localhost:9000 "examples.provider.provider:create_app()"
"""

from __future__ import annotations

from typing import Any

from quart import Quart, request

from async_jwt import Key, KeyRing
from async_jwt.adapters.quart import JWTManager, create_access_token, jwks_view, public

PASSWORDS = {"ada": "analytical"}


def create_app(keys: KeyRing | None = None, **config: Any) -> Quart:
    app = Quart(__name__)
    app.config.update(
        JWT_TOKEN_PROFILE="rfc9068",
        JWT_ENCODE_ISSUER="http://localhost:9000",
        JWT_ENCODE_AUDIENCE="orders",
        JWT_TOKEN_CLIENT_ID="web",
        JWT_JWKS_MAX_AGE=60,
    )
    app.config.from_prefixed_env()
    app.config.update(config)
    # For more than a demonstration: JWT_KEY_FOLDER, and `quart jwt keys rotate`.
    JWTManager(app, keys=keys or KeyRing(Key.generate("ES256")))

    @app.get("/.well-known/openid-configuration")
    @public
    async def metadata() -> Any:
        issuer = app.config["JWT_ENCODE_ISSUER"]
        return {"issuer": issuer, "jwks_uri": f"{issuer}/keys"}

    app.add_url_rule("/keys", view_func=jwks_view)

    @app.post("/token")
    @public
    async def token() -> Any:
        sent = await request.get_json()
        if PASSWORDS.get(sent["name"]) != sent["password"]:
            return {"msg": "Wrong name or password"}, 401
        return {"access_token": await create_access_token(sent["name"])}

    return app
