"""Settings by the private names that Flask-JWT-Extended's own tests read, out of `app.config` and ours."""

from __future__ import annotations

import datetime as dt
from typing import Any

from flask import current_app

from async_jwt.manager import app_state_of
from flask_jwt_extended.internal_utils import get_json_encoder

KEYS = {
    "csrf_request_methods": "JWT_CSRF_METHODS",
    "error_msg_key": "JWT_ERROR_MESSAGE_KEY",
    "identity_claim_key": "JWT_IDENTITY_CLAIM",
    "leeway": "JWT_DECODE_LEEWAY",
}
LOCATIONS = {
    "jwt_in_cookies": "cookies",
    "jwt_in_headers": "headers",
    "jwt_in_json": "json",
    "jwt_in_query_string": "query_string",
}


class Config:
    exempt_methods = frozenset({"OPTIONS"})

    def __getattr__(self, name: str) -> Any:
        settings = app_state_of(current_app).engine().settings  # refuses what is wrong
        if name in LOCATIONS:
            return LOCATIONS[name] in settings.token_location
        return current_app.config[KEYS.get(name, f"JWT_{name.upper()}")]

    @property
    def json_encoder(self) -> Any:
        return get_json_encoder(current_app)

    @property
    def token_location(self) -> Any:
        app_state_of(current_app).engine()
        given = current_app.config["JWT_TOKEN_LOCATION"]
        return (given,) if isinstance(given, str) else given

    @property
    def is_asymmetric(self) -> bool:
        return not self.algorithm.startswith("HS")

    @property
    def access_expires(self) -> Any:
        return self._lifetime("JWT_ACCESS_TOKEN_EXPIRES")

    @property
    def refresh_expires(self) -> Any:
        return self._lifetime("JWT_REFRESH_TOKEN_EXPIRES")

    @staticmethod
    def _lifetime(key: str) -> Any:
        app_state_of(current_app).engine()
        value = current_app.config[key]
        return dt.timedelta(seconds=value) if type(value) is int else value

    @property
    def decode_algorithms(self) -> list[str]:
        return list(app_state_of(current_app).engine().settings.accepted_algorithms)

    @property
    def cookie_max_age(self) -> int | None:
        return None if self.session_cookie else 31540000

    @property
    def encode_key(self) -> Any:
        return self._key("JWT_PRIVATE_KEY")

    @property
    def decode_key(self) -> Any:
        return self._key("JWT_PUBLIC_KEY")

    def _key(self, asymmetric: str) -> Any:
        names = (asymmetric,) if self.is_asymmetric else ("JWT_SECRET_KEY", "SECRET_KEY")
        found = [current_app.config[name] for name in names if current_app.config.get(name)]
        return found[0] if found else app_state_of(current_app).engine().ring


config = Config()
