"""async_jwt for Flask with plain views: Flask-JWT-Extended's names, and nothing to await.

Hooks may be plain or async. If all are plain and the store is in memory, everything runs in the
view's own thread; otherwise that thread waits for the store loop.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Final, ParamSpec, TypeVar, cast

from flask import Flask
from werkzeug.local import LocalProxy

from async_jwt.adapters._flask import PlainFlask, install
from async_jwt.adapters.api import PUBLIC, PublicAPI
from async_jwt.adapters.protect import protect as protect
from async_jwt.adapters.protect import public as public
from async_jwt.app_state import AppState, FrameworkContext
from async_jwt.core.authenticate import Authentication as Authentication
from async_jwt.core.cookie_scope import CookieScope as CookieScope
from async_jwt.core.issue import TokenPair as TokenPair
from async_jwt.core.permissions import any_of as any_of
from async_jwt.core.sessions import SessionInfo as SessionInfo
from async_jwt.core.sessions import SessionPage as SessionPage
from async_jwt.manager import Manager, Operation
from async_jwt.operations import Operations

__all__ = [*PUBLIC, "JWTManager"]  # noqa: PLE0604  # one list for all adapters

P = ParamSpec("P")
T = TypeVar("T")

_FJE = "flask-jwt-extended"

_framework = PlainFlask()
_api = PublicAPI(_framework)
_cookies, _operations = _api.cookies, _api.operations


def _exposed(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    return _framework.expose(function, _api.current)


class _Blocking(Operation[P, T]):
    """Descriptor for one of a manager's operations, in a blocking form."""

    def __get__(self, manager: Manager | None, owner: type[Manager]) -> Callable[P, T]:  # type: ignore[override]  # nothing to await
        return cast("Callable[P, T]", super().__get__(manager, owner))


class JWTManager(Manager):
    """Sets up Flask applications and holds their loaders. See `async_jwt.manager.Manager`.

    Its operations block, like the functions of the same names.
    """

    framework: ClassVar[FrameworkContext] = _framework

    authenticate_token: Final = _Blocking(Operations.authenticate_token)
    close: Final = _Blocking(Operations.close)
    consume_token: Final = _Blocking(Operations.consume_token)
    create_access_token: Final = _Blocking(Operations.create_access_token)
    create_refresh_token: Final = _Blocking(Operations.create_refresh_token)
    create_token: Final = _Blocking(Operations.create_token)
    create_token_pair: Final = _Blocking(Operations.create_token_pair)
    decode_token: Final = _Blocking(Operations.decode_token)
    expire_access_tokens: Final = _Blocking(Operations.expire_access_tokens)
    get_csrf_token: Final = _Blocking(Operations.get_csrf_token)
    get_jti: Final = _Blocking(Operations.get_jti)
    list_sessions: Final = _Blocking(Operations.list_sessions)
    ping: Final = _Blocking(Operations.ping)
    revoke_everything: Final = _Blocking(Operations.revoke_everything)
    revoke_session: Final = _Blocking(Operations.revoke_session)
    revoke_token: Final = _Blocking(Operations.revoke_token)
    revoke_user: Final = _Blocking(Operations.revoke_user)
    rotate_refresh_token: Final = _Blocking(Operations.rotate_refresh_token)
    start: Final = _Blocking(Operations.start)

    def _install(self, app: Flask, app_state: AppState) -> None:
        install(app, app_state, _api)
        # Applications written for Flask-JWT-Extended look here for their manager. Never replaces its own.
        if isinstance(app.extensions.get(_FJE, self), JWTManager):
            app.extensions[_FJE] = self


authenticate_token: Final = _exposed(_operations.authenticate_token)
consume_token: Final = _exposed(_operations.consume_token)
create_access_token: Final = _exposed(_operations.create_access_token)
create_refresh_token: Final = _exposed(_operations.create_refresh_token)
create_token: Final = _exposed(_operations.create_token)
create_token_pair: Final = _exposed(_operations.create_token_pair)
current_auth: Final = _api.current_auth
current_user_as: Final = _api.current_user_as
decode_token: Final = _exposed(_operations.decode_token)
expire_access_tokens: Final = _exposed(_operations.expire_access_tokens)
get_csrf_token: Final = _exposed(_operations.get_csrf_token)
get_current_user: Final = _api.get_current_user
get_jti: Final = _exposed(_operations.get_jti)
get_jwt: Final = _api.get_jwt
get_jwt_header: Final = _api.get_jwt_header
get_jwt_identity: Final = _api.get_jwt_identity
get_jwt_request_location: Final = _api.get_jwt_request_location
get_unverified_jwt_headers: Final = _api.get_unverified_jwt_headers
jwks_view: Final = _exposed(_api.jwks_view)
jwt_csrf_token: Final = _api.jwt_csrf_token
jwt_required: Final = _api.jwt_required
list_sessions: Final = _exposed(_operations.list_sessions)
refresh_expiring_cookies: Final = _exposed(_cookies.refresh_expiring_cookies)
revoke_session: Final = _exposed(_operations.revoke_session)
revoke_token: Final = _exposed(_operations.revoke_token)
revoke_user: Final = _exposed(_operations.revoke_user)
rotate_refresh_token: Final = _exposed(_operations.rotate_refresh_token)
safe_next: Final = _api.safe_next
set_access_cookies: Final = _cookies.set_access_cookies
set_refresh_cookies: Final = _cookies.set_refresh_cookies
set_token_cookies: Final = _cookies.set_token_cookies
sign_out: Final = _exposed(_cookies.sign_out)
unset_access_cookies: Final = _cookies.unset_access_cookies
unset_jwt_cookies: Final = _cookies.unset_jwt_cookies
unset_refresh_cookies: Final = _cookies.unset_refresh_cookies
verify_jwt_in_request: Final = _exposed(_api.verify_jwt_in_request)

current_user: Any = LocalProxy(get_current_user)
"""The user of this request, as `user_lookup_loader` returned it."""
