"""The application that Hypercorn serves in these tests: `tests.integration.served:app`."""

from __future__ import annotations

from quart import Quart, jsonify

from async_jwt.adapters.quart import (
    JWTManager,
    create_token_pair,
    current_user,
    jwt_required,
    revoke_token,
    set_token_cookies,
)

app = Quart(__name__)
app.config.from_prefixed_env()
app.config["JWT_TOKEN_LOCATION"] = ["headers", "cookies", "query_string", "json"]
jwt = JWTManager(app)


@jwt.user_lookup_loader
async def load_user(_header, claims):
    return {"name": claims["sub"]} if claims["sub"] != "deleted" else None


@app.post("/login/<name>")
async def login(name):
    pair = await create_token_pair(name)
    response = jsonify(access=pair.access_token, refresh=pair.refresh_token)
    set_token_cookies(response, pair)
    return response


@app.route("/me", methods=["GET", "POST"])
@jwt_required()
async def me():
    return {"name": current_user["name"]}


@app.post("/logout")
@jwt_required()
async def logout():
    await revoke_token()
    return {}


@app.get("/open")
async def open_():
    return {"open": True}
