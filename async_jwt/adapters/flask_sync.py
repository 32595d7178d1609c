"""async_jwt for Flask with plain views: Flask-JWT-Extended's names, and nothing to await.

Hooks may be plain or async. Where all are plain and the store is in memory, everything happens in
the view's own thread; otherwise it waits for the process's lasting event loop.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from flask import Flask
from werkzeug.local import LocalProxy

from async_jwt.adapters._flask import FlaskFramework, blocking, blocking_method, install
from async_jwt.adapters.api import PublicAPI
from async_jwt.adapters.protect import protect, public
from async_jwt.app_state import AppState, Surroundings
from async_jwt.core.authenticate import Authentication
from async_jwt.core.issue import TokenPair
from async_jwt.core.sessions import SessionInfo, SessionPage
from async_jwt.manager import Manager, ManagerOperations

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

_FJE = "flask-jwt-extended"

_framework = FlaskFramework(keeps_async=False)
_api = PublicAPI(_framework)


class JWTManager(Manager):
    """Sets Flask applications up and holds their loaders. See `async_jwt.manager.Manager`.

    Its operations block; they are those of the functions of the same names.
    """

    surroundings: ClassVar[Surroundings] = _framework

    close: Final = blocking_method(ManagerOperations.close)
    create_access_token: Final = blocking_method(ManagerOperations.create_access_token)
    create_refresh_token: Final = blocking_method(ManagerOperations.create_refresh_token)
    create_token: Final = blocking_method(ManagerOperations.create_token)
    create_token_pair: Final = blocking_method(ManagerOperations.create_token_pair)
    decode_token: Final = blocking_method(ManagerOperations.decode_token)
    get_csrf_token: Final = blocking_method(ManagerOperations.get_csrf_token)
    get_jti: Final = blocking_method(ManagerOperations.get_jti)
    list_sessions: Final = blocking_method(ManagerOperations.list_sessions)
    ping: Final = blocking_method(ManagerOperations.ping)
    revoke_everything: Final = blocking_method(ManagerOperations.revoke_everything)
    revoke_session: Final = blocking_method(ManagerOperations.revoke_session)
    revoke_token: Final = blocking_method(ManagerOperations.revoke_token)
    revoke_user: Final = blocking_method(ManagerOperations.revoke_user)
    rotate_refresh_token: Final = blocking_method(ManagerOperations.rotate_refresh_token)
    start: Final = blocking_method(ManagerOperations.start)

    def _install(self, app: Flask, app_state: AppState) -> None:
        install(app, app_state, _api)
        # Where applications written for Flask-JWT-Extended look for their manager; not over its own.
        if isinstance(app.extensions.get(_FJE, self), JWTManager):
            app.extensions[_FJE] = self


create_access_token: Final = blocking(_api.create_access_token)
create_refresh_token: Final = blocking(_api.create_refresh_token)
create_token: Final = blocking(_api.create_token)
create_token_pair: Final = blocking(_api.create_token_pair)
current_auth: Final = _api.current_auth
current_user_as: Final = _api.current_user_as
decode_token: Final = blocking(_api.decode_token)
get_csrf_token: Final = blocking(_api.get_csrf_token)
get_current_user: Final = _api.get_current_user
get_jti: Final = blocking(_api.get_jti)
get_jwt: Final = _api.get_jwt
get_jwt_header: Final = _api.get_jwt_header
get_jwt_identity: Final = _api.get_jwt_identity
get_jwt_request_location: Final = _api.get_jwt_request_location
get_unverified_jwt_headers: Final = _api.get_unverified_jwt_headers
jwks_view: Final = blocking(_api.jwks_view)
jwt_required: Final = _api.jwt_required
list_sessions: Final = blocking(_api.list_sessions)
refresh_expiring_cookies: Final = blocking(_api.refresh_expiring_cookies)
revoke_session: Final = blocking(_api.revoke_session)
revoke_token: Final = blocking(_api.revoke_token)
revoke_user: Final = blocking(_api.revoke_user)
rotate_refresh_token: Final = blocking(_api.rotate_refresh_token)
set_access_cookies: Final = _api.set_access_cookies
set_refresh_cookies: Final = _api.set_refresh_cookies
set_token_cookies: Final = _api.set_token_cookies
unset_access_cookies: Final = _api.unset_access_cookies
unset_jwt_cookies: Final = _api.unset_jwt_cookies
unset_refresh_cookies: Final = _api.unset_refresh_cookies
verify_jwt_in_request: Final = blocking(_api.verify_jwt_in_request)

current_user: Any = LocalProxy(get_current_user)
"""The user of this request, as `user_lookup_loader` returned it."""
