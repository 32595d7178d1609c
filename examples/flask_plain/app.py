"""A guest book. `flask --app examples.flask_plain.app run`."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from flask import Flask, request
from werkzeug.security import check_password_hash, generate_password_hash

from async_jwt.adapters.flask_sync import (
    JWTManager,
    create_token_pair,
    current_user,
    get_jwt_identity,
    jwt_required,
    revoke_session,
    rotate_refresh_token,
)

SCHEMA = """
CREATE TABLE IF NOT EXISTS guests (name TEXT PRIMARY KEY, password TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS entries (name TEXT NOT NULL REFERENCES guests, text TEXT NOT NULL);
"""


def create_app(**config: Any) -> Flask:
    app = Flask(__name__)
    app.config["DATABASE"] = "guests.db"
    app.config.from_prefixed_env()
    app.config.update(config)
    jwt = JWTManager(app)

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(app.config["DATABASE"])
        connection.row_factory = sqlite3.Row
        return connection

    with closing(connect()) as connection:
        connection.executescript(SCHEMA)

    @jwt.user_lookup_loader
    def load_guest(_header: dict[str, Any], claims: dict[str, Any]) -> Any:
        with closing(connect()) as connection:
            return connection.execute("SELECT name FROM guests WHERE name = ?", (claims["sub"],)).fetchone()

    @app.post("/guests")
    def sign_up() -> Any:
        sent = request.get_json()
        try:
            with closing(connect()) as connection, connection:
                row = (sent["name"], generate_password_hash(sent["password"]))
                connection.execute("INSERT INTO guests VALUES (?, ?)", row)
        except sqlite3.IntegrityError:
            return {"msg": "This name is taken"}, 409
        return {"name": sent["name"]}, 201

    @app.post("/login")
    def login() -> Any:
        sent = request.get_json()
        with closing(connect()) as connection:
            found = connection.execute("SELECT * FROM guests WHERE name = ?", (sent["name"],)).fetchone()
        if found is None or not check_password_hash(found["password"], sent["password"]):
            return {"msg": "Wrong name or password"}, 401
        pair = create_token_pair(found["name"])
        return {"access_token": pair.access_token, "refresh_token": pair.refresh_token}

    @app.post("/refresh")
    @jwt_required(refresh=True)
    def refresh() -> Any:
        pair = rotate_refresh_token()
        return {"access_token": pair.access_token, "refresh_token": pair.refresh_token}

    @app.post("/logout")
    @jwt_required()
    def logout() -> Any:
        revoke_session()
        return {"msg": "Signed out"}

    @app.get("/entries")
    @jwt_required(optional=True)
    def entries() -> Any:
        with closing(connect()) as connection:
            found = connection.execute("SELECT name, text FROM entries").fetchall()
        return {"reader": get_jwt_identity(), "entries": [dict(row) for row in found]}

    @app.post("/entries")
    @jwt_required()
    def write() -> Any:
        with closing(connect()) as connection, connection:
            row = (current_user["name"], request.get_json()["text"])
            connection.execute("INSERT INTO entries VALUES (?, ?)", row)
        return {"msg": "Thank you"}, 201

    return app
