"""What Flask-JWT-Extended's own tests import of its inside."""

from __future__ import annotations

import json
from typing import Any

from flask import current_app

from async_jwt.adapters._older_flask import json_default


def get_jwt_manager() -> Any:
    return current_app.extensions["flask-jwt-extended"]


class JSONEncoder(json.JSONEncoder):
    def default(self, o: Any) -> Any:
        return json_default(current_app)(o)


def get_json_encoder(app: Any) -> type[json.JSONEncoder]:
    return JSONEncoder if hasattr(app, "json") else app.json_encoder  # before Flask 2.2
