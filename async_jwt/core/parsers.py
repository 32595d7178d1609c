"""Parsers for settings: each checks one value and returns it in the core's form.

All raise `ValueError` with a text that completes "JWT_SOMETHING ...".
"""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Protocol, TypeVar

from async_jwt.errors import ConfigurationError
from async_jwt.issuers.issuer import Issuer
from async_jwt.issuers.presets import preset

__all__ = [
    "LOCATIONS",
    "Expires",
    "Lifetime",
    "any_text",
    "audience",
    "client_error",
    "compat_flag",
    "compat_lifetime",
    "count",
    "domain",
    "each",
    "flag",
    "former_domains",
    "former_paths",
    "grace",
    "issuers",
    "lifetime",
    "locations",
    "methods",
    "names",
    "never_empty",
    "one_of",
    "optional",
    "origins",
    "path",
    "positive_count",
    "positive_seconds",
    "prefix",
    "realm_name",
    "realms",
    "same_site",
    "seconds",
    "secret",
    "secrets",
    "text",
    "text_set",
    "texts",
    "token",
]

T = TypeVar("T")

LOCATIONS = ("headers", "cookies", "query_string", "json", "websocket_protocol")


class _Addable(Protocol):
    """Anything that can be added to a datetime, such as dateutil's relativedelta."""

    def __radd__(self, other: dt.datetime, /) -> dt.datetime: ...


Lifetime = dt.timedelta | _Addable
"""The lifetime of a token."""

Expires = Lifetime | float | Literal[False] | None
"""A lifetime as applications pass it. False never expires; None follows the settings."""


def lifetime(value: object) -> Lifetime | None:
    """A token's lifetime: timedelta, int or float seconds, relativedelta; False never expires.

    Raises:
        ValueError: the value is not a lifetime, or it is zero.
    """
    if value is False:
        return None
    now = dt.datetime.now(dt.UTC)
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = dt.timedelta(seconds=value)
        end = now + value  # type: ignore[operator]  # duck-typed on purpose
    except TypeError:
        raise ValueError("must be a timedelta, a number of seconds, or False") from None
    except OverflowError:
        raise ValueError("is too long; use False for a token that never expires") from None
    if end == now:
        raise ValueError("must not be zero; use False for a token that never expires")
    return value  # type: ignore[return-value]  # it can be added to a datetime: just tried


def compat_lifetime(value: object) -> Lifetime | None:
    """Like `lifetime`, but zero never expires, as in Flask-JWT-Extended."""
    zero = not value and value is not None and not isinstance(value, str)
    return None if zero else lifetime(value)


def flag(value: object) -> bool:
    """True or False, and no other truthy or falsy value."""
    if isinstance(value, bool):
        return value
    raise ValueError("must be True or False")


def compat_flag(value: object) -> bool:
    """Like `flag`, but None, 0 and 1 count by their truth, as in Flask-JWT-Extended."""
    return bool(value) if value in (None, 0, 1) else flag(value)


def text(value: object) -> str:
    """A non-empty string."""
    if isinstance(value, str) and value:
        return value
    raise ValueError(f"must be a non-empty string{_unquoted(value)}")


def token(value: object) -> str:
    """A valid name of a header or cookie (RFC 9110 §5.6.2)."""
    if isinstance(value, str) and re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", value):
        return value
    raise ValueError(f"must be a name of ASCII letters, digits and !#$%&'*+-.^_`|~{_unquoted(value)}")


def any_text(value: object) -> str:
    """A string, possibly empty."""
    if isinstance(value, str):
        return value
    raise ValueError(f"must be a string{_unquoted(value)}")


def _unquoted(value: object) -> str:
    """A hint for a number where text is expected: values in the environment are read as JSON."""
    if not isinstance(value, int | float):
        return ""
    return f", not {type(value).__name__}; in the environment put it in quotes, which are part of the value"


def count(value: object) -> int:
    """A whole number, 0 or greater."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError("must be a whole number, 0 or greater")


def client_error(value: object) -> int:
    """An HTTP status for client errors."""
    status = count(value)
    if not 400 <= status <= 499:
        raise ValueError("must be a status from 400 to 499, such as 401")
    return status


def seconds(value: object) -> float:
    """A duration in seconds, from a number or a timedelta."""
    if isinstance(value, dt.timedelta):
        value = value.total_seconds()
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9:
        return value
    raise ValueError("must be a number of seconds, 0 or greater, or a timedelta")


def positive_seconds(value: object) -> float:
    """A duration greater than 0, in seconds."""
    span = seconds(value)
    if span > 0:
        return span
    raise ValueError("must be greater than 0")


def grace(value: object) -> float | Literal["until_used"]:
    """A duration in seconds, possibly 0, or "until_used"."""
    if value == "until_used":
        return "until_used"
    try:
        return seconds(value)
    except ValueError as problem:
        raise ValueError(f'{problem}, or "until_used"') from None


def positive_count(value: object) -> int:
    """A whole number, 1 or greater."""
    number = count(value)
    if number > 0:
        return number
    raise ValueError("must be a whole number, 1 or greater")


def texts(value: object) -> tuple[str, ...]:
    """One string or an iterable of strings. A string is never split into its characters."""
    items = (value,) if isinstance(value, str) else value
    if isinstance(items, Iterable) and not isinstance(items, bytes | Mapping):
        found = tuple(items)
        if found and all(isinstance(item, str) and item for item in found):
            return found
    raise ValueError("must be a string or a non-empty list of strings")


def each(parse: Callable[[object], str]) -> Callable[[object], tuple[str, ...]]:
    """Like `texts`, with each string checked."""

    def check(value: object) -> tuple[str, ...]:
        return tuple(parse(item) for item in texts(value))

    return check


def text_set(value: object) -> frozenset[str]:
    """Like `texts`, without an order."""
    return frozenset(texts(value))


def names(value: object) -> frozenset[str]:
    """Like `text_set`, possibly empty."""
    return frozenset() if isinstance(value, list | tuple | set | frozenset) and not value else text_set(value)


_ISSUER_OPTIONS = (
    "access",
    "algorithms",
    "audience",
    "clients",
    "fetch_from",
    "identity",
    "jwks_uri",
    "keys",
    "kind",
    "leeway",
    "preset",
    "revoked_as",
    "roles",
    "scopes",
)


def issuers(value: object) -> tuple[Issuer, ...]:
    """Issuers by their `iss`, each with the arguments of `Issuer`, and perhaps a `preset`; None for none."""
    if value is None:
        return ()
    if not isinstance(value, Mapping) or not all(isinstance(given, Mapping) for given in value.values()):
        raise ValueError('must be a dict, such as {"https://acme.eu.auth0.com/": {"audience": "my-api"}}')
    return tuple(_issuer(url, given) for url, given in value.items())


def _issuer(url: Any, given: Mapping[Any, Any]) -> Issuer:
    for name in given:
        if name not in _ISSUER_OPTIONS:
            raise ValueError(f"has {name!r} for {url!r}; choose from {', '.join(_ISSUER_OPTIONS)}")
    options = {name: option for name, option in given.items() if name != "preset"}
    for name in ("scopes", "roles"):
        if isinstance(options.get(name), list):  # JSON has no tuples
            options[name] = tuple(options[name])
    try:
        return preset(given["preset"], url, options) if "preset" in given else Issuer(url, **options)
    except ConfigurationError as problem:
        raise ValueError(f"is wrong: {problem}") from None


def realms(value: object) -> Mapping[str, Mapping[str, Any]]:
    """Settings by the names of realms; None for none."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(given, Mapping) for given in value.values()):
        raise ValueError('must be a dict, such as {"admin": {"JWT_SECRET_KEY": "..."}}')
    for name in value:
        realm_name(name)
    return {name: dict(given) for name, given in value.items()}


def realm_name(value: object) -> str:
    """The name of a realm: it begins the names of its cookies, and stands in challenges."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
        return value
    raise ValueError(f"must have names of 1 to 64 letters, digits, '-' or '_', not {value!r:.100}")


def audience(value: object) -> str | tuple[str, ...]:
    """One string unchanged, several as a tuple: `aud` is written in the form it was given."""
    return value if isinstance(value, str) and value else texts(value)


def methods(value: object) -> frozenset[str]:
    """HTTP methods, upper case; possibly none."""
    if isinstance(value, list | tuple | set | frozenset) and not value:
        return frozenset()
    return frozenset(method.upper() for method in texts(value))


def locations(value: object) -> tuple[str, ...]:
    """Token locations, in the given order."""
    found = texts(value)
    unknown = [name for name in found if name not in LOCATIONS]
    if unknown:
        raise ValueError(f"may hold only {', '.join(LOCATIONS)}; not {', '.join(unknown)}")
    if isinstance(value, set | frozenset):  # a set has no order to keep
        return tuple(name for name in LOCATIONS if name in found)
    return found


def secret(value: object) -> str | bytes:
    """An HMAC secret."""
    if isinstance(value, str | bytes) and value:
        return value
    raise ValueError(f"must be a non-empty string or bytes{_unquoted(value)}")


def secrets(value: object) -> tuple[str | bytes, ...]:
    """A list of HMAC secrets."""
    if isinstance(value, list | tuple):
        return tuple(secret(item) for item in value)
    raise ValueError("must be a list of strings or bytes; a single string would be split up")


def same_site(value: object) -> str:
    """A SameSite attribute."""
    for name in ("Lax", "Strict", "None"):
        if isinstance(value, str) and value.lower() == name.lower():
            return name
    raise ValueError('must be "Lax", "Strict", "None" or None')


def prefix(value: object) -> str:
    """A cookie name prefix that browsers know."""
    if value in ("", "__Host-", "__Secure-"):
        return str(value)
    raise ValueError('must be "", "__Host-" or "__Secure-"')


def domain(value: object) -> str:
    """The host name of a cookie's Domain attribute (RFC 6265 §4.1.2.3)."""
    host = text(value)
    if re.fullmatch(r"\.?[^\s/:;,@*?#\[\]\\.]+(\.[^\s/:;,@*?#\[\]\\.]+)*", host):
        return host
    raise ValueError('must be a host name such as "example.com", without scheme, port or path')


def former_domains(value: object) -> tuple[str | None, ...]:
    """A list of hosts for a cookie's Domain attribute; None is no such attribute."""
    items = (value,) if isinstance(value, str) else value
    if isinstance(items, list | tuple | set | frozenset):
        return tuple(None if item is None else domain(item) for item in items)
    raise ValueError("must be a list of host names, and None for cookies without a domain")


def former_paths(value: object) -> tuple[str, ...]:
    """A list of absolute paths of cookies; possibly empty."""
    found = () if isinstance(value, list | tuple | set | frozenset) and not value else texts(value)
    for item in found:
        if not re.fullmatch(r"/[^;\s,]*", item):
            raise ValueError(f"must hold paths such as '/app'; not {item!r}")
    return found


def origins(value: object) -> frozenset[str]:
    """Web origins, lower case (RFC 6454 §6.2)."""
    found = frozenset(origin.lower().rstrip("/") for origin in texts(value))
    for origin in found:
        if "*" in origin:
            raise ValueError(f"does not support wildcards: name each origin, not {origin!r}")
        if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s/@?#,;]+", origin):
            raise ValueError(f'must hold origins such as "https://app.example"; not {origin!r}')
    # Browsers omit a scheme's default port (RFC 6454 §6.1).
    return frozenset(re.sub(r"^(http://.*):80$|^(https://.*):443$", r"\1\2", origin) for origin in found)


def path(value: object) -> str:
    """The path of a file or folder."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str) and value and "\0" not in value:
        return value
    raise ValueError("must be a path")


def one_of(*names: str) -> Callable[[object], str]:
    """A parser that accepts one of these names."""

    def check(value: object) -> str:
        if isinstance(value, str) and value in names:
            return value
        raise ValueError("must be one of " + ", ".join(repr(name) for name in names))

    return check


def optional(parse: Callable[[object], T]) -> Callable[[object], T | None]:
    """Like another parser, but accepts None."""

    def check(value: object) -> T | None:
        return None if value is None else parse(value)

    return check


def never_empty(parse: Callable[[object], T]) -> Callable[[object], T | None]:
    """Like another parser, but an empty value counts as not set, as in FJE."""

    def check(value: object) -> T | None:
        return parse(value) if value else None

    return check
