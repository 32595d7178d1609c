"""Finds the token in a request, and its CSRF value.

Other modules check what it finds. Header, cookie and query are searched first, and the body
only if they hold no token, whatever the configured order. If `JWT_STRICT_LOCATIONS` is off,
the order alone decides, as in Flask-JWT-Extended.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from itertools import islice, pairwise, product
from typing import Any

from async_jwt.core.policy import Policy
from async_jwt.core.request import RequestView
from async_jwt.core.settings import Settings
from async_jwt.errors import (
    AmbiguousTokenError,
    InvalidHeaderError,
    InvalidQueryParamError,
    MalformedTokenError,
    NoAuthorizationError,
)

__all__ = [
    "BEARER",
    "Found",
    "cookie_name",
    "csrf_names",
    "csrf_value",
    "find",
    "find_all",
    "find_in_body",
    "has_short_body",
    "twin_cookies",
]

log: logging.Logger = logging.getLogger("async_jwt")

BEARER = "bearer"
"""The WebSocket subprotocol that precedes a token: browsers cannot set headers on a handshake."""


Found = tuple[str, str]
"""A token's text and the location that held it."""

_Look = Callable[[RequestView, Policy, Settings], Sequence[str]]


def find(view: RequestView, policy: Policy, settings: Settings) -> Found | None:
    """The token of a request, if one is found outside the body.

    Raises:
        AmbiguousTokenError: the request carries two different tokens.
        InvalidHeaderError: the header names the scheme, but not exactly one token.
        InvalidQueryParamError: the parameter lacks its prefix.
    """
    found: Found | None = None
    strict = settings.strict_locations
    for location, look in _places(policy.locations or settings.token_location, strict):
        for token in look(view, policy, settings):
            if found is None:
                found = token, location
                if not strict:
                    return found
            elif token != found[0]:
                raise AmbiguousTokenError(_two_places(found[1], location, policy))
    return found


def twin_cookies(view: RequestView, policy: Policy, settings: Settings) -> list[str]:
    """The different tokens in cookies of one name; none if a token came elsewhere too."""
    held = {
        location: look(view, policy, settings)
        for location, look in _places(policy.locations or settings.token_location, settings.strict_locations)
    }
    texts = [*dict.fromkeys(held.pop("cookies", ()))]
    return [] if any(held.values()) else texts


def _two_places(first: str, second: str, policy: Policy) -> str:
    if first == second:
        return f"The request carries two different tokens in {first}: send one"
    refresh = "refresh=True, " if policy.refresh else ""
    return (
        f"The request carries different tokens in {first} and in {second}: send one, or have the view look "
        f'in one place, as jwt_required({refresh}locations="{second}") does'
    )


@lru_cache
def _places(locations: tuple[str, ...], strict: bool) -> tuple[tuple[str, _Look], ...]:
    """The locations to search before the body, and how; none if the body's place in the order decides."""
    if not strict and "json" in locations:
        return ()
    return tuple((location, _LOOK[location]) for location in locations if location != "json")


async def find_in_body(view: RequestView, policy: Policy, settings: Settings) -> Found:
    """The token of a request in which `find` found none: looks in the body too.

    Raises:
        NoAuthorizationError: there is none; the text names the locations searched.
        MalformedTokenError: the token in the JSON body is not a string.
        JWTExtendedException: what `find` raises, if the order of the locations decides.
    """
    locations = policy.locations or settings.token_location
    for location in locations:
        found: Found | None = None
        if location == "json":
            found = await _in_json(view, policy, settings)
        elif not settings.strict_locations:
            found = next(((token, location) for token in _LOOK[location](view, policy, settings)), None)
        if found is not None:
            return found
    raise NoAuthorizationError(_missing(locations, view, policy, settings))


# How many tokens of one request are verified, at most.
_MOST = 8

_EACH = (Policy.of(), Policy.of(refresh=True))


async def find_all(view: RequestView, settings: Settings) -> list[Found]:
    """All tokens of a request, access and refresh tokens, for a sign-out: what is malformed is left out.

    Header and cookies count even if `JWT_TOKEN_LOCATION` does not name them, and so does the body of a POST:
    JSON or a form with the keys `JWT_JSON_KEY` and `JWT_REFRESH_JSON_KEY`.
    """
    found: dict[str, str] = {}
    places = [
        name for name in dict.fromkeys(("headers", "cookies", *settings.token_location)) if name in _LOOK
    ]
    for location, policy in product(places, _EACH):
        with suppress(InvalidHeaderError, InvalidQueryParamError):
            found.update(dict.fromkeys(_LOOK[location](view, policy, settings), location))
    if view.method == "POST":
        for policy in _EACH:
            text = await _posted(view, policy, settings)
            if text:
                found.setdefault(text, "json")
    return [*islice(found.items(), _MOST)]


async def _posted(view: RequestView, policy: Policy, settings: Settings) -> str | None:
    if view.is_json:
        with suppress(MalformedTokenError):
            held = await _in_json(view, policy, settings)
            return None if held is None else held[0]
        return None
    return await view.form(_json_key(policy, settings)) if has_short_body(view, settings) else None


def has_short_body(view: RequestView, settings: Settings) -> bool:
    """True if a request's body is known to be no longer than `JWT_MAX_JSON_BYTES`, by its headers."""
    length = next(iter(view.headers("Content-Length")), "x" if view.headers("Transfer-Encoding") else "0")
    return length.isdecimal() and len(length) < 12 and int(length) <= settings.max_json_bytes


def _in_headers(view: RequestView, _policy: Policy, settings: Settings) -> Sequence[str]:
    values = view.headers(settings.header_name)
    if len(values) == 1:
        scheme, _, token = values[0].partition(" ")
        if scheme == settings.header_type and not _ODD.search(token):
            return (token,)  # the common case
    if not settings.strict_locations:
        values = values[:1]
    if not settings.header_type:
        return [_bare(value, settings) for value in values if value.strip(_BLANK + ",")]
    tokens = [token for value in values for token in _credentials(value, settings)]
    # As FJE: several credentials of the scheme count as none.
    return tokens if settings.strict_locations or len(tokens) == 1 else []


# Only these separate the fields of a header (RFC 9110 §5.6.3).
_BLANK = " \t"
# A header that needs the slow path: another separator, a comma, or a placeholder for no token.
_ODD = re.compile(r"[\s,]|^(?:null|undefined)?$")
# A list element: a comma in a quoted string does not separate (RFC 9110 §5.6.1, §5.6.4).
_ELEMENT = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*"?)+')
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*")


def _credentials(value: str, settings: Settings) -> list[str]:
    """The tokens of a header: each ``Bearer <token>``, and anything after it that looks like a token.

    Raises:
        InvalidHeaderError: the scheme comes without exactly one token, or with a placeholder for none.
    """
    tokens: list[str] = []
    is_ours = False
    for element in _ELEMENT.findall(value):
        parts = [part for part in re.split(r"[ \t]+", element) if part]
        if len(parts) == 1 and is_ours and settings.strict_locations and _TOKEN68.fullmatch(parts[0]):
            tokens.append(parts[0])
        elif parts:
            wanted = settings.header_type
            is_ours = parts[0] == wanted or _is_same_scheme(parts[0], wanted, settings)
            if is_ours:
                tokens.append(_single(parts[1:], settings))
    return tokens


def _single(parts: list[str], settings: Settings) -> str:
    name, scheme = settings.header_name, settings.header_type
    if len(parts) != 1:
        raise InvalidHeaderError(f"Bad {name} header. Expected '{name}: {scheme} <JWT>'")
    if parts[0] in ("null", "undefined") and not settings.is_compat:
        raise InvalidHeaderError(
            f"The {name} header holds '{scheme} {parts[0]}', which is not a token: leave the header out"
        )
    return parts[0]


def _is_same_scheme(scheme: str, wanted: str, settings: Settings) -> bool:
    return not settings.strict_scheme_case and scheme.lower() == wanted.lower()


def _bare(value: str, settings: Settings) -> str:
    parts = [part for part in re.split(r"[ \t]+", value.strip(_BLANK + ",")) if part]
    if len(parts) != 1:
        name = settings.header_name
        raise InvalidHeaderError(f"Bad {name} header. Expected '{name}: <JWT>'")
    return parts[0]


def _in_protocols(view: RequestView, _: Policy, __: Settings) -> Sequence[str]:
    offered = view.subprotocols()
    if BEARER not in offered:
        return ()
    tokens = [token for name, token in pairwise(offered) if name == BEARER]
    if not tokens:
        raise InvalidHeaderError(f"Bad {_PROTOCOLS} header. Expected '{_PROTOCOLS}: {BEARER}, <JWT>'")
    return tokens


def cookie_name(refresh: bool, settings: Settings) -> str:
    """The name of the cookie that holds a token, with its prefix."""
    return settings.cookie_prefix + (settings.refresh_cookie_name if refresh else settings.access_cookie_name)


def _in_cookies(view: RequestView, policy: Policy, settings: Settings) -> Sequence[str]:
    return [value for value in view.cookies(cookie_name(policy.refresh, settings)) if value]


def _in_query(view: RequestView, _: Policy, settings: Settings) -> Sequence[str]:
    prefix = settings.query_string_value_prefix
    values = view.query(settings.query_string_name)
    if not settings.strict_locations:
        values = values[:1]
    values = [value for value in values if value]
    for value in values:
        if not value.startswith(prefix):
            raise InvalidQueryParamError(
                f"Invalid value for query parameter '{settings.query_string_name}'. "
                f"Expected the value to start with '{prefix}'"
            )
    return [value[len(prefix) :] for value in values]


_LOOK: dict[str, _Look] = {
    "headers": _in_headers,
    "cookies": _in_cookies,
    "query_string": _in_query,
    "websocket_protocol": _in_protocols,
}
_PROTOCOLS = "Sec-WebSocket-Protocol"


async def _in_json(view: RequestView, policy: Policy, settings: Settings) -> Found | None:
    if not view.is_json:
        return None
    text = await view.body(settings.max_json_bytes)
    if text is None:
        _warn_too_long(settings.max_json_bytes)
        return None
    try:
        body: Any = json.loads(text)
    except (ValueError, RecursionError):  # truncated, not UTF-8, or nested too deeply
        return None
    token = body.get(_json_key(policy, settings)) if isinstance(body, dict) else None
    if not token:
        return None
    if not isinstance(token, str):
        raise MalformedTokenError("Invalid token type. Token must be a string")
    return token, "json"


@cache
def _warn_too_long(limit: int) -> None:
    """Log this once: any client can send such bodies."""
    log.warning(
        "A JSON body longer than JWT_MAX_JSON_BYTES = %d was not searched for a token: send the token in a "
        "header, or raise the limit",
        limit,
        extra={"event": "json_too_long"},
    )


def _json_key(policy: Policy, settings: Settings) -> str:
    return settings.refresh_json_key if policy.refresh else settings.json_key


def _missing(locations: Sequence[str], view: RequestView, policy: Policy, settings: Settings) -> str:
    elsewhere = "json" if view.is_websocket else "websocket_protocol"
    locations = [name for name in locations if name != elsewhere] or locations
    reasons = [_reason(location, view, policy, settings) for location in locations]
    if len(locations) == 1:
        return reasons[0]
    return f"Missing JWT in {', '.join(locations[:-1])} or {locations[-1]} ({'; '.join(reasons)})"


def _reason(location: str, view: RequestView, policy: Policy, settings: Settings) -> str:
    if location == "headers":
        return _no_header(view, settings)
    if location == "cookies":
        return f'Missing cookie "{cookie_name(policy.refresh, settings)}"'
    if location == "query_string":
        # "paramater" is how FJE spells it, and clients compare texts.
        word = "paramater" if settings.is_compat else "parameter"
        return f"Missing '{settings.query_string_name}' query {word}"
    if location == "websocket_protocol":
        return f"Missing '{BEARER}' in the {_PROTOCOLS} header. Expected '{_PROTOCOLS}: {BEARER}, <JWT>'"
    if not view.is_json:
        return "Invalid content-type. Must be application/json."
    return f'Missing "{_json_key(policy, settings)}" key in json data.'


def _no_header(view: RequestView, settings: Settings) -> str:
    name, scheme = settings.header_name, settings.header_type
    if not any(value.strip(_BLANK + ",") for value in view.headers(name)):
        return f"Missing {name} Header"
    return f"Missing '{scheme}' type in '{name}' header. Expected '{name}: {scheme} <JWT>'"


def csrf_names(settings: Settings, *, refresh: bool) -> tuple[str, str]:
    """The header that carries a CSRF value, and the cookie that scripts read it from."""
    if refresh:
        return settings.refresh_csrf_header_name, settings.cookie_prefix + settings.refresh_csrf_cookie_name
    return settings.access_csrf_header_name, settings.cookie_prefix + settings.access_csrf_cookie_name


async def csrf_value(view: RequestView, policy: Policy, settings: Settings) -> str | None:
    """The CSRF value that the client sent in a header, or in a form field where allowed.

    The cookie's copy never counts: a browser would send it along with a forged request.
    """
    header, _ = csrf_names(settings, refresh=policy.refresh)
    field = settings.refresh_csrf_field_name if policy.refresh else settings.access_csrf_field_name
    values = view.headers(header)
    if values and values[0]:
        return _as_utf8(values[0])
    return (await view.form(field)) or None if settings.csrf_check_form else None


def _as_utf8(value: str) -> str:
    """A header's text, which frameworks read as ISO 8859-1, as UTF-8 like forms and tokens."""
    return value.encode("latin-1", "replace").decode("utf-8", "replace")
