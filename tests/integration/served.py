"""The application that servers run in these tests: `tests.integration.served:app`."""

from __future__ import annotations

from quart import Quart, jsonify, websocket

from async_jwt.adapters.quart import (
    JWTManager,
    create_token_pair,
    current_user,
    get_jwt_request_location,
    jwt_required,
    revoke_token,
    set_token_cookies,
    verify_jwt_in_request,
)

app = Quart(__name__)
app.config.from_prefixed_env()
app.config["JWT_TOKEN_LOCATION"] = [
    "headers",
    "cookies",
    "query_string",
    "json",
    "websocket_protocol",
]
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


@app.websocket("/socket")
@jwt_required()
async def socket():
    while True:
        await websocket.receive()
        await verify_jwt_in_request()
        await websocket.send_json({"name": current_user["name"], "location": get_jwt_request_location()})


@app.get("/open")
async def open_():
    return {"open": True}
