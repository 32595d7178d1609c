"""Cookies to set and unset, as plain values; adapters add them to their responses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from async_jwt.core.locations import cookie_name, csrf_names
from async_jwt.core.login import is_persistent
from async_jwt.core.settings import Settings

__all__ = ["MAX_COOKIE_BYTES", "Cookie", "CookieTooLargeError", "cookies_to_set", "cookies_to_unset"]

MAX_COOKIE_BYTES = 4093
"""The largest cookie that browsers keep, in bytes: name, value and attributes (RFC 6265 §6.1)."""


class CookieTooLargeError(ValueError):
    """A cookie would be larger than browsers keep."""


@dataclass(frozen=True, slots=True, repr=False)
class Cookie:
    """One Set-Cookie header.

    Attributes:
        max_age: seconds to keep it; None is until the browser session ends.
        expires: when it ends, in seconds since the epoch; 0 deletes it.
    """

    name: str
    value: str
    path: str
    domain: str | None
    max_age: int | None
    expires: int | None
    secure: bool
    httponly: bool
    samesite: str | None
    partitioned: bool

    @property
    def size(self) -> int:
        """The length of the header's value in bytes."""
        text = f"{self.name}={self.value}; Path={self.path}"
        if self.domain is not None:
            text += f"; Domain={self.domain}"
        if self.max_age is not None:
            text += f"; Max-Age={self.max_age}"
        if self.samesite is not None:
            text += f"; SameSite={self.samesite}"
        flags = {"; Secure": self.secure, "; HttpOnly": self.httponly, "; Partitioned": self.partitioned}
        return len(text.encode()) + sum(len(flag) for flag, on in flags.items() if on)


def cookies_to_set(
    token: str,
    claims: Mapping[str, Any],
    settings: Settings,
    now: float,
    *,
    refresh: bool,
    max_age: int | None = None,
    domain: str | None = None,
) -> list[Cookie]:
    """The cookie of a token and, if CSRF protection is on, its script-readable CSRF cookie.

    Args:
        token: the encoded token.
        claims: its claims.
        settings: the application's settings.
        now: seconds since the epoch.
        refresh: whether it is a refresh token.
        max_age: seconds to keep the cookies; None follows the token's login, else the settings.
        domain: the cookies' domain; None follows the settings.

    Raises:
        ValueError: the cookie would be larger than browsers keep, or the token has no CSRF
            value although CSRF protection is on.
    """
    if max_age == 0 and settings.is_compat:
        max_age = None  # as FJE
    if max_age is None and is_persistent(claims, settings):
        max_age = _life(claims, settings, now)
    cookies = [_cookie(settings, refresh, token, max_age, domain)]
    if settings.cookie_csrf_protect:
        value = claims.get("csrf")
        if value is None:
            raise ValueError("The token has no CSRF value: create it with JWT_COOKIE_CSRF_PROTECT = True")
        if settings.csrf_in_cookies:
            cookies.append(_csrf_cookie(settings, refresh, value, max_age, domain))
    for cookie in cookies:
        if cookie.size > MAX_COOKIE_BYTES and not settings.is_compat:
            raise CookieTooLargeError(
                f"The cookie {cookie.name!r} would have {cookie.size} bytes; browsers drop cookies "
                f"over {MAX_COOKIE_BYTES}: put fewer claims into the token"
            )
    return [*_twins_of(cookies, settings), *cookies]


def _life(claims: Mapping[str, Any], settings: Settings, now: float) -> int:
    exp: float | None = claims.get("exp")
    if exp is None or settings.is_compat:
        return 31_540_000  # a year, as FJE; browsers cap it at 400 days
    return max(0, math.ceil(exp - now))


def cookies_to_unset(settings: Settings, *, refresh: bool, domain: str | None = None) -> list[Cookie]:
    """The cookies that delete a token's cookies, and those that former domains and paths left behind."""
    cookies = [_cookie(settings, refresh, "", None, domain, expires=0)]
    if settings.cookie_csrf_protect and settings.csrf_in_cookies:
        cookies.append(_csrf_cookie(settings, refresh, "", None, domain, expires=0))
    return [*_twins_of(cookies, settings), *cookies]


def _twins_of(cookies: list[Cookie], settings: Settings) -> list[Cookie]:
    """The cookies that delete those of the same names under former domains and paths."""
    twins: list[Cookie] = []
    for cookie in cookies:
        domains = {_bare(each): each for each in (*settings.cookie_former_domains, cookie.domain)}
        paths = dict.fromkeys((*settings.cookie_former_paths, cookie.path))
        twins += [
            replace(cookie, value="", domain=domain, path=path, max_age=None, expires=0)
            for domain, path in product(domains.values(), paths)
            if (domain, path) != (cookie.domain, cookie.path)
        ]
    return twins


def _bare(domain: str | None) -> str:
    """A domain as browsers compare it (RFC 6265 §5.2.3)."""
    return (domain or "").lstrip(".").lower()


def _cookie(
    settings: Settings,
    refresh: bool,
    value: str,
    max_age: int | None,
    domain: str | None,
    expires: int | None = None,
) -> Cookie:
    path = settings.refresh_cookie_path if refresh else settings.access_cookie_path
    name = cookie_name(refresh, settings)
    return _made(settings, name, value, path, max_age, domain, expires, httponly=True)


def _csrf_cookie(
    settings: Settings,
    refresh: bool,
    value: str,
    max_age: int | None,
    domain: str | None,
    expires: int | None = None,
) -> Cookie:
    path = settings.refresh_csrf_cookie_path if refresh else settings.access_csrf_cookie_path
    _, name = csrf_names(settings, refresh=refresh)
    # Scripts must read this one: it holds no credential, only what proves the same origin.
    return _made(settings, name, value, path, max_age, domain, expires, httponly=False)


def _made(
    settings: Settings,
    name: str,
    value: str,
    path: str,
    max_age: int | None,
    domain: str | None,
    expires: int | None,
    *,
    httponly: bool,
) -> Cookie:
    if domain is not None and settings.cookie_prefix == "__Host-":
        raise ValueError("Cookies with the __Host- prefix cannot have a domain: browsers drop them")
    return Cookie(
        name=name,
        value=value,
        path=path,
        domain=domain or settings.cookie_domain,
        max_age=max_age,
        expires=expires,
        secure=settings.cookie_secure,
        httponly=httponly,
        samesite=settings.cookie_samesite,
        partitioned=settings.cookie_partitioned,
    )
