"""An API behind an OpenID provider. It has no secret: the provider's keys are fetched and followed.

hypercorn "examples.provider.api:create_app()"
"""

from __future__ import annotations

from typing import Any

from quart import Quart

from async_jwt.adapters.quart import JWTManager, current_auth, get_jwt_identity, jwt_required
from async_jwt.issuers import Issuer


def create_app(issuer: str = "http://localhost:9000") -> Quart:
    app = Quart(__name__)
    JWTManager(app, issuers=[Issuer(issuer, audience="orders")])

    @app.get("/orders")
    @jwt_required()
    async def orders() -> Any:
        return {"orders_of": get_jwt_identity(), "says": current_auth().issuer}

    return app
