"""async_jwt for Flask with `async def` views; plain ones may be protected as well.

What makes or decodes a token is awaited. Hooks may be async or plain. Stores and async hooks run on
one event loop that lasts, so that their connections do.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from flask import Flask
from werkzeug.local import LocalProxy

from async_jwt.adapters._flask import FlaskFramework, install, on_store_loop, operations_on_store_loop
from async_jwt.adapters.api import PublicAPI
from async_jwt.adapters.protect import protect, public
from async_jwt.app_state import AppState, Surroundings
from async_jwt.core.authenticate import Authentication
from async_jwt.core.issue import TokenPair
from async_jwt.core.sessions import SessionInfo, SessionPage
from async_jwt.manager import AsyncManager

__all__ = [
    "Authentication",
    "JWTManager",
    "SessionInfo",
    "SessionPage",
    "TokenPair",
    "create_access_token",
    "create_refresh_token",
    "create_token",
    "create_token_pair",
    "current_auth",
    "current_user",
    "current_user_as",
    "decode_token",
    "get_csrf_token",
    "get_current_user",
    "get_jti",
    "get_jwt",
    "get_jwt_header",
    "get_jwt_identity",
    "get_jwt_request_location",
    "get_unverified_jwt_headers",
    "jwks_view",
    "jwt_required",
    "list_sessions",
    "protect",
    "public",
    "refresh_expiring_cookies",
    "revoke_session",
    "revoke_token",
    "revoke_user",
    "rotate_refresh_token",
    "set_access_cookies",
    "set_refresh_cookies",
    "set_token_cookies",
    "unset_access_cookies",
    "unset_jwt_cookies",
    "unset_refresh_cookies",
    "verify_jwt_in_request",
]

_framework = FlaskFramework(keeps_async=True)
_api = PublicAPI(_framework)


@operations_on_store_loop
class JWTManager(AsyncManager):
    """Sets Flask applications up and holds their loaders. See `async_jwt.manager.Manager`."""

    surroundings: ClassVar[Surroundings] = _framework

    def _install(self, app: Flask, app_state: AppState) -> None:
        install(app, app_state, _api)


create_access_token: Final = on_store_loop(_api.create_access_token)
create_refresh_token: Final = on_store_loop(_api.create_refresh_token)
create_token: Final = on_store_loop(_api.create_token)
create_token_pair: Final = on_store_loop(_api.create_token_pair)
current_auth: Final = _api.current_auth
current_user_as: Final = _api.current_user_as
decode_token: Final = on_store_loop(_api.decode_token)
get_csrf_token: Final = on_store_loop(_api.get_csrf_token)
get_current_user: Final = _api.get_current_user
get_jti: Final = on_store_loop(_api.get_jti)
get_jwt: Final = _api.get_jwt
get_jwt_header: Final = _api.get_jwt_header
get_jwt_identity: Final = _api.get_jwt_identity
get_jwt_request_location: Final = _api.get_jwt_request_location
get_unverified_jwt_headers: Final = _api.get_unverified_jwt_headers
jwks_view: Final = on_store_loop(_api.jwks_view)
jwt_required: Final = _api.jwt_required
list_sessions: Final = on_store_loop(_api.list_sessions)
refresh_expiring_cookies: Final = on_store_loop(_api.refresh_expiring_cookies)
revoke_session: Final = on_store_loop(_api.revoke_session)
revoke_token: Final = on_store_loop(_api.revoke_token)
revoke_user: Final = on_store_loop(_api.revoke_user)
rotate_refresh_token: Final = on_store_loop(_api.rotate_refresh_token)
set_access_cookies: Final = _api.set_access_cookies
set_refresh_cookies: Final = _api.set_refresh_cookies
set_token_cookies: Final = _api.set_token_cookies
unset_access_cookies: Final = _api.unset_access_cookies
unset_jwt_cookies: Final = _api.unset_jwt_cookies
unset_refresh_cookies: Final = _api.unset_refresh_cookies
verify_jwt_in_request: Final = on_store_loop(_api.verify_jwt_in_request)

current_user: Any = LocalProxy(get_current_user)
"""The user of this request, as `user_lookup_loader` returned it."""
