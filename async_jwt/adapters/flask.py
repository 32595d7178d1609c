"""async_jwt for Flask with `async def` views; plain views may be protected as well.

Functions that create or decode tokens are coroutines. Hooks may be async or plain. Stores and async
hooks run on the store loop, which is long-lived, so that their connections are too.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Final, ParamSpec, TypeVar

from flask import Flask
from werkzeug.local import LocalProxy

from async_jwt.adapters._flask import AsyncFlask, install
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
from async_jwt.manager import AsyncManager

__all__ = [*PUBLIC, "JWTManager"]  # noqa: PLE0604  # one list for all adapters

P = ParamSpec("P")
T = TypeVar("T")

_framework = AsyncFlask()
_api = PublicAPI(_framework)
_cookies, _operations = _api.cookies, _api.operations


def _exposed(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    return _framework.expose(function, _api.current)


class JWTManager(AsyncManager):
    """Sets up Flask applications and holds their loaders. See `async_jwt.manager.Manager`."""

    framework: ClassVar[FrameworkContext] = _framework

    def _install(self, app: Flask, app_state: AppState) -> None:
        install(app, app_state, _api)


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
