"""The pure checks of a verified token: CSRF, origin, type, freshness, scopes, roles and claims."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from async_jwt.core.claims import PURPOSE
from async_jwt.core.codec import Verified, copy_of
from async_jwt.core.csrf import is_same
from async_jwt.core.locations import csrf_names
from async_jwt.core.permissions import (
    ImpliedScopes,
    canonical,
    granted_roles,
    granted_scopes,
    unmet,
)
from async_jwt.core.policy import ACCESS, REFRESH, Policy
from async_jwt.core.request import RequestView
from async_jwt.core.settings import Settings
from async_jwt.errors import (
    CSRFError,
    FreshTokenRequired,
    InsufficientScopeError,
    MissingClaimError,
    PermissionDeniedError,
    WrongTokenError,
)

__all__ = [
    "check_csrf",
    "check_demands",
    "check_origin",
    "check_origin_of_any_method",
    "check_permissions",
    "check_type",
    "is_insecure",
]

log: logging.Logger = logging.getLogger("async_jwt")

_ACCESS_ONLY = frozenset((ACCESS,))


def check_csrf(claims: Mapping[str, Any], sent: str | None, settings: Settings, *, refresh: bool) -> None:
    """Compare the CSRF value that a client sent, masked or not, with the token's own, in constant time.

    Args:
        claims: the token's claims.
        sent: what the client sent; None or "" for nothing.
        settings: they name the header and the cookie.
        refresh: True for a refresh token's CSRF value.

    Raises:
        CSRFError: it is missing or wrong.
        MissingClaimError: the token has no CSRF value.
    """
    if not sent:
        raise CSRFError(f"Missing CSRF token: {_how_to_send(settings, refresh=refresh)}")
    expected = claims.get("csrf")
    if expected is None:
        raise MissingClaimError("csrf", "Missing claim: csrf")
    if not isinstance(expected, str) or not is_same(expected, sent):
        if settings.is_compat:
            raise CSRFError("CSRF double submit tokens do not match")
        raise CSRFError(
            f"Wrong CSRF token: {_how_to_send(settings, refresh=refresh)}; each login has its own"
        )


def _how_to_send(settings: Settings, *, refresh: bool) -> str:
    header, cookie = csrf_names(settings, refresh=refresh)
    where = f"in the {header} header"
    if settings.csrf_check_form:
        field = settings.refresh_csrf_field_name if refresh else settings.access_csrf_field_name
        where = f"{where}, or in the form field {field}"
    what = f"the value of the cookie {cookie}" if settings.csrf_in_cookies else "the token's CSRF value"
    return f"send {what} {where}"


def check_origin(view: RequestView, settings: Settings) -> None:
    """Refuse a request that the browser itself marks as coming from another site.

    `Origin` decides if the client sends it, else `Sec-Fetch-Site`. A client that sends neither is
    not a modern browser; it still needs the CSRF value. A WebSocket handshake has no CSRF value,
    but browsers always send its `Origin` (RFC 6455 §10.2), so a handshake without one is refused.

    Raises:
        CSRFError: the origin is not trusted.
    """
    origins, sites = view.headers("Origin"), view.headers("Sec-Fetch-Site")
    if origins:
        trusted = settings.trusted_origins or frozenset()
        own = view.origin if _is_safe(view.origin, settings) else None
        if all(origin.lower() == own or origin.lower() in trusted for origin in origins):
            return
        # With Referrer-Policy: no-referrer the site's own forms send "null" (Fetch §3.2). Scripts cannot set
        # Sec-Fetch-Site, and a page with an opaque origin, such as a sandboxed one, is cross-site.
        if not view.is_websocket and {*origins} == {"null"} and {*sites} == {"same-origin"}:
            return
    elif not view.is_websocket and all(site in ("same-origin", "none") for site in sites):
        return
    _warn_origin(origins[0] if origins else "", view.origin, settings)
    raise CSRFError("The request comes from an origin that is not trusted")


def check_origin_of_any_method(view: RequestView, settings: Settings) -> None:
    """Like `check_origin`, for what other sites must not cause with a link either.

    A request of a method that needs no CSRF value must say that it comes from this site: by its `Origin`,
    or by `Sec-Fetch-Site: same-origin`.

    Raises:
        CSRFError: the origin is not trusted, or unknown.
    """
    check_origin(view, settings)
    needs_none = view.method not in settings.csrf_methods
    if needs_none and not view.headers("Origin") and {*view.headers("Sec-Fetch-Site")} != {"same-origin"}:
        raise CSRFError("The request does not say that it comes from this site: use a form with method POST")


def _is_safe(origin: str, settings: Settings) -> bool:
    """True if our own origin is trustworthy: with Secure cookies, plain http could be altered in transit."""
    return not settings.cookie_secure or not is_insecure(origin)


def is_insecure(origin: str) -> bool:
    """True for http, except on this machine, where browsers send Secure cookies even over http."""
    return re.match(r"http://(?!([\w-]+\.)*localhost(:|$)|127\.0\.0\.1(:|$)|\[::1\])", origin) is not None


# Origins already logged: once each, and at most this many, because clients send what they like.
_warned: set[tuple[str, str]] = set()
_MAX_WARNED = 50


def _warn_origin(origin: str, own: str, settings: Settings) -> None:
    if (origin, own) in _warned or len(_warned) >= _MAX_WARNED:
        return
    _warned.add((origin, own))
    if origin == "null":
        fix = "a page without an origin, such as a sandboxed frame or a local file, cannot be trusted"
    elif is_insecure(own) and settings.cookie_secure:
        fix = "behind a TLS-terminating proxy, have ProxyFix read its headers, or set JWT_TRUSTED_ORIGINS"
    else:
        fix = "if the page is yours, set JWT_TRUSTED_ORIGINS; behind a proxy, have ProxyFix read its headers"
    log.warning(
        "Refused a request from origin %.200r; this application believes its own origin is %.200r: %s",
        origin,
        own,
        fix,
        extra={"event": "origin_unknown"},
    )


def check_demands(verified: Verified, policy: Policy, settings: Settings, now: float) -> None:
    """Refuse a token of another type than the view demands, or one that is not fresh enough.

    Args:
        verified: the token.
        policy: what the view demands.
        settings: the settings.
        now: seconds since the epoch.

    Raises:
        WrongTokenError: it is of another type.
        FreshTokenRequired: it is not fresh, or no longer fresh.
    """
    check_type(verified.claims, policy, settings)
    if policy.fresh:
        _check_fresh(verified, now)


def check_type(claims: Mapping[str, Any], policy: Policy, settings: Settings) -> None:
    """Refuse a token of another type than the view demands. Raises WrongTokenError."""
    kind, wanted = claims["type"], policy.types
    if wanted is not None and isinstance(kind, str) and kind in wanted:
        return
    # As in FJE, except for tokens that `create_token` made for a purpose.
    is_any = settings.is_compat and claims.get(PURPOSE) is not True
    if wanted is None and (is_any or kind in (ACCESS, REFRESH)):
        return
    if wanted == _ACCESS_ONLY and is_any and kind != REFRESH:
        return
    if policy.refresh:
        raise WrongTokenError("Only refresh tokens are allowed")
    if wanted == _ACCESS_ONLY:
        # FJE's words: there, a token of any other type would have passed.
        kinds = "non-refresh" if is_any else "access"
        raise WrongTokenError(f"Only {kinds} tokens are allowed")
    raise WrongTokenError


def _check_fresh(verified: Verified, now: float) -> None:
    fresh = verified.claims["fresh"]
    is_fresh = fresh if isinstance(fresh, bool) else isinstance(fresh, (int, float)) and fresh >= now
    if not is_fresh:
        raise FreshTokenRequired(None, *copy_of(verified))


def check_permissions(verified: Verified, policy: Policy, implied: ImpliedScopes) -> None:
    """Refuse a token that lacks a scope, a role or a claim that a view demands.

    Args:
        verified: the token.
        policy: what the view demands.
        implied: what scopes imply.

    Raises:
        InsufficientScopeError: it lacks a scope.
        PermissionDeniedError: it lacks a role, or a claim is missing or has another value.
    """
    claims, issuer = verified.claims, None if verified.source is None else verified.source.issuer
    if policy.scopes:
        lacking = unmet(policy.scopes, implied.with_implied(granted_scopes(claims, issuer)))
        if lacking is not None:
            demanded = tuple(choice[0] for choice in policy.scopes)
            text = f"The token lacks the scope {_quoted(lacking)}"
            raise InsufficientScopeError(text, *copy_of(verified), scopes=demanded)
    if policy.roles:
        lacking = unmet(policy.roles, granted_roles(claims, issuer))
        if lacking is not None:
            raise PermissionDeniedError(f"The token lacks the role {_quoted(lacking)}", *copy_of(verified))
    for name, wanted in policy.claims:
        if name not in claims or canonical(claims[name]) != wanted:
            raise PermissionDeniedError(f"The claim {name!r} is not {wanted}", *copy_of(verified))


def _quoted(choice: Sequence[str]) -> str:
    return " or ".join(map(repr, choice))
