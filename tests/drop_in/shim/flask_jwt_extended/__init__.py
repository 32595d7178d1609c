"""The names that other projects import from Flask-JWT-Extended, answered by async_jwt."""

from __future__ import annotations

from typing import Any

from flask import Flask

from async_jwt.adapters import flask_sync
from async_jwt.adapters.flask_sync import *  # the change of import, for all who import from here

__version__ = "4.7.4"


class JWTManager(flask_sync.JWTManager):
    """With the one line that the migration guide adds."""

    def init_app(self, app: Flask, add_context_processor: bool = False) -> None:
        app.config.setdefault("JWT_COMPAT", "flask-jwt-extended")
        super().init_app(app, add_context_processor)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"JWTManager has no {name}: Flask-JWT-Extended's private attributes are its own")
