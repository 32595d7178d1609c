"""A weather page whose views ask another service. `flask --app examples.flask_async.app run`."""

from __future__ import annotations

from typing import Any

import httpx
from flask import Flask, request

from async_jwt.adapters.flask import JWTManager, create_token_pair, current_user, jwt_required


def create_app(transport: httpx.AsyncBaseTransport | None = None, **config: Any) -> Flask:
    app = Flask(__name__)
    # All async views and hooks run on one loop, so this client's connections go on from request to request.
    app.config["JWT_SHARED_LOOP"] = True
    app.config.from_prefixed_env()
    app.config.update(config)
    jwt = JWTManager(app)
    client = httpx.AsyncClient(base_url="https://services.example", transport=transport)

    @jwt.user_lookup_loader
    async def load_user(_header: dict[str, Any], claims: dict[str, Any]) -> Any:
        answer = await client.get(f"/users/{claims['sub']}")
        return answer.json() if answer.status_code == 200 else None

    @app.post("/login")
    async def login() -> Any:
        pair = await create_token_pair(request.get_json()["name"])  # and a password, outside of examples
        return {"access_token": pair.access_token, "refresh_token": pair.refresh_token}

    @app.get("/weather")
    @jwt_required()
    async def weather() -> Any:
        answer = await client.get(f"/weather/{current_user['town']}")
        return {"for": current_user["name"], **answer.json()}

    return app
