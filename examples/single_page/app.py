"""The API and the page of one application. `quart --app examples.single_page.app run --cert ... --key ...`.

Browsers take Secure cookies on http://localhost too.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from quart import Quart, Response, jsonify, request, send_from_directory

from async_jwt.adapters.quart import (
    JWTManager,
    create_token_pair,
    get_jwt_identity,
    jwt_required,
    public,
    rotate_refresh_token,
    set_token_cookies,
    sign_out,
)

HERE = Path(__file__).parent
PASSWORDS = {"ada": "analytical"}


def create_app(**config: Any) -> Quart:
    app = Quart(__name__)
    app.config.update(
        JWT_DEFAULT_DENY=True,
        JWT_TOKEN_LOCATION=["cookies"],
        JWT_ACCESS_TOKEN_EXPIRES=timedelta(minutes=5),
        JWT_REFRESH_GRACE=10,  # several tabs may refresh at once
    )
    app.config.from_prefixed_env()
    app.config.update(config)
    JWTManager(app)
    lists: dict[str, list[str]] = {}

    @app.get("/")
    @public
    async def page() -> Response:
        return await send_from_directory(HERE, "page.html")

    @app.post("/login")
    @public
    async def login() -> Any:
        sent = await request.get_json()
        if PASSWORDS.get(sent["name"]) != sent["password"]:
            return {"msg": "Wrong name or password"}, 401
        response = jsonify(name=sent["name"])
        set_token_cookies(response, await create_token_pair(sent["name"]))
        return response

    @app.post("/refresh")
    @jwt_required(refresh=True)
    async def refresh() -> Any:
        response = jsonify(msg="Refreshed")
        set_token_cookies(response, await rotate_refresh_token())
        return response

    @app.post("/logout")
    @public
    async def logout() -> Any:
        response = jsonify(msg="Signed out")
        await sign_out(response)
        return response

    @app.get("/api/list")
    async def read() -> Any:
        name = get_jwt_identity()
        return {"name": name, "list": lists.get(name, [])}

    @app.post("/api/list")
    async def add() -> Any:
        sent = await request.get_json()
        lists.setdefault(get_jwt_identity(), []).append(str(sent["text"])[:200])
        return {"msg": "Added"}, 201

    return app
