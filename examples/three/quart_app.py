"""A notebook, with `async` and `await` where Quart wants them."""

import os
from datetime import timedelta

from quart import Quart, jsonify, request

from async_jwt.adapters.quart import (
    JWTManager,
    create_access_token,
    create_refresh_token,
    current_user,
    get_jwt,
    get_jwt_identity,
    jwt_required,
    set_access_cookies,
    set_refresh_cookies,
    unset_jwt_cookies,
)

app = Quart(__name__)
app.config["JWT_SECRET_KEY"] = os.environ.get("JWT_SECRET_KEY", "for local use only, not to be deployed")
app.config["JWT_COMPAT"] = "flask-jwt-extended"
app.config["JWT_TOKEN_LOCATION"] = ["headers", "cookies"]
app.config["JWT_ACCESS_TOKEN_EXPIRES"] = timedelta(minutes=30)
jwt = JWTManager(app)

USERS = {"ada": "analytical", "grace": "hopper"}
NOTES: dict[str, list[str]] = {"ada": [], "grace": []}
signed_out = set()


@jwt.additional_claims_loader
def roles(identity):
    return {"roles": ["editor"] if identity == "ada" else []}


@jwt.user_lookup_loader
def load_user(_header, claims):
    name = claims["sub"]
    return {"name": name, "notes": NOTES[name]} if name in NOTES else None


@jwt.token_in_blocklist_loader
def is_signed_out(_header, claims):
    return claims["jti"] in signed_out


@jwt.expired_token_loader
def expired(_header, claims):
    return jsonify(msg=f"Sign in again, {claims['sub']}"), 401


@app.post("/login")
async def login():
    sent = await request.get_json()
    name = sent.get("name")
    if name not in USERS or USERS[name] != sent.get("password"):
        return jsonify(msg="Wrong name or password"), 401
    access = await create_access_token(name, fresh=True)
    refresh = await create_refresh_token(name)
    response = jsonify(access=access, refresh=refresh)
    if sent.get("cookies"):
        set_access_cookies(response, access)
        set_refresh_cookies(response, refresh)
    return response


@app.post("/refresh")
@jwt_required(refresh=True)
async def refresh():
    return jsonify(access=await create_access_token(get_jwt_identity()))


@app.get("/")
@jwt_required(optional=True)
async def hello():
    return jsonify(hello=get_jwt_identity() or "stranger")


@app.get("/notes")
@jwt_required()
async def notes():
    return jsonify(name=current_user["name"], notes=current_user["notes"])


@app.post("/notes")
@jwt_required()
async def write():
    if "editor" not in get_jwt()["roles"]:
        return jsonify(msg="Editors only"), 403
    sent = await request.get_json()
    current_user["notes"].append(sent["text"])
    return jsonify(count=len(current_user["notes"])), 201


@app.delete("/notes")
@jwt_required(fresh=True)
async def clear():
    current_user["notes"].clear()
    return jsonify(count=0)


@app.post("/logout")
@jwt_required(verify_type=False)
async def logout():
    signed_out.add(get_jwt()["jti"])
    response = jsonify(msg="Signed out")
    unset_jwt_cookies(response)
    return response
