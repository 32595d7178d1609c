"""Cookies of one tenant among several on one host: own names and paths, and tokens that stay there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from async_jwt.core.settings import Settings
from async_jwt.errors import CookieScopeError

__all__ = ["ANY", "NONE", "SCOPE", "CookieScope", "check_scope", "problem_with", "scoped"]

SCOPE: Final = "async_jwt_scope"
"""Our own claim: the name of the cookie scope that a token was made in."""

ANY: Final = object()
"""Tokens of every scope are accepted: the application has none, or there is no request."""

NONE: Final = object()
"""No token is accepted: the scope of the request could not be told."""


@dataclass(frozen=True, slots=True)
class CookieScope:
    """The cookies of one tenant among several on one host. What `cookie_scope_loader` returns.

    Attributes:
        name: the tenant: 1 to 64 letters, digits, `-` or `_`. It begins the names of the cookies, and every
            token that is made in a request of the scope carries it.
        path: the path of the tenant's pages, such as "/acme"; "/" if its host tells the tenant. The paths
            of the `JWT_*_PATH` settings are below it.
    """

    name: str
    path: str = "/"


def problem_with(scope: CookieScope, settings: Settings) -> str | None:
    """What is wrong with a scope; None if nothing is."""
    if not isinstance(scope.name, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", scope.name):
        return "its name must be 1 to 64 letters, digits, '-' or '_'"
    if not isinstance(scope.path, str) or not re.fullmatch(r"/[!-+\--:<-~]{0,255}", scope.path):
        return "its path must begin with a slash and be ASCII without spaces, commas and semicolons"
    if settings.cookie_prefix == "__Host-" and scope.path != "/":
        return 'JWT_COOKIE_PREFIX = "__Host-" allows no path but "/"'
    return None


def scoped(settings: Settings, scope: CookieScope) -> Settings:
    """The settings with the cookie names and paths of a scope."""
    names = ("access_cookie", "refresh_cookie", "access_csrf_cookie", "refresh_csrf_cookie")
    base = scope.path.rstrip("/")
    changes = {f"{name}_name": f"{scope.name}_{getattr(settings, f'{name}_name')}" for name in names}
    for name in names:
        path = getattr(settings, f"{name}_path")
        changes[f"{name}_path"] = (base or "/") if path == "/" else base + path
    return replace(settings, **changes)  # type: ignore[arg-type]  # these fields are all text


def check_scope(claims: Mapping[str, Any], expected: object) -> None:
    """Refuse a token that was made in another scope than a request's.

    Args:
        claims: the token's claims.
        expected: the name of the request's scope; None if it has none; `ANY` for every scope.

    Raises:
        CookieScopeError: it was.
    """
    if expected is not ANY and claims.get(SCOPE) != expected:
        raise CookieScopeError
