"""An application that signs with the newest key of a folder, one and a half seconds after it came."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

from quart import Quart

from async_jwt import Key, KeyRing
from async_jwt.adapters.quart import JWTManager, create_access_token, jwks_view, jwt_required

FOLDER = Path(os.environ["QUART_KEY_FOLDER"])
ANNOUNCED = 1.5


def load():
    return [
        Key.from_file(path, "ES256", signs_from=path.stat().st_mtime + ANNOUNCED)
        for path in sorted(FOLDER.glob("*.pem"))
    ]


app = Quart(__name__)
app.config.update(JWT_JWKS_MAX_AGE=1)
jwt = JWTManager(
    app, keys=KeyRing(loaded_sign=True, loaded_secrets=True, load=load, refresh=0.5, retention=3)
)
app.add_url_rule("/.well-known/jwks.json", view_func=jwks_view)


@app.post("/login/<int:seconds>")
async def login(seconds):
    return {"token": await create_access_token("ada", expires_delta=dt.timedelta(seconds=seconds))}


@app.get("/me")
@jwt_required
async def me():
    return {}


@app.get("/open")
async def open_():
    return {"open": True}
