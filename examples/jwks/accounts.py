"""The service that people sign in to. It alone has private keys: `quart jwt keys new` makes the first one."""

from __future__ import annotations

from typing import Any

from quart import Quart, request

from async_jwt.adapters.quart import JWTManager, create_access_token, jwks_view

PASSWORDS = {"ada": "analytical"}


def create_app(**config: Any) -> Quart:
    app = Quart(__name__)
    app.config["JWT_KEY_FOLDER"] = "keys"
    app.config["JWT_ENCODE_ISSUER"] = "https://accounts.example"
    app.config["JWT_ENCODE_AUDIENCE"] = "notes"
    app.config.from_prefixed_env()
    app.config.update(config)
    JWTManager(app)
    app.add_url_rule("/.well-known/jwks.json", view_func=jwks_view)

    @app.post("/login")
    async def login() -> Any:
        sent = await request.get_json()
        if PASSWORDS.get(sent["name"]) != sent["password"]:
            return {"msg": "Wrong name or password"}, 401
        return {"access_token": await create_access_token(sent["name"])}

    return app
