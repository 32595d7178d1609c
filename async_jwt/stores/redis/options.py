"""What a Redis URL may say: the server's address, redis-py's options and ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

from redis.asyncio.connection import parse_url

from async_jwt.errors import ConfigurationError

__all__ = ["OnDataLoss", "OnOutage", "Options", "read_options"]

OnOutage = Literal["deny", "allow"]
OnDataLoss = Literal["deny", "accept"]

C = TypeVar("C", bound=str)

_SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "unix": "unix",
    "valkey": "redis",
    "valkeys": "rediss",
}
_PASSED_ON = frozenset(
    {
        "client_name",
        "db",
        "protocol",
        "ssl_ca_certs",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "ssl_keyfile",
    }
)


@dataclass(frozen=True, slots=True)
class Options:
    """How a server is asked. `RedisStore` says what each option means."""

    deadline: float = 0.25
    max_connections: int = 32
    prefix: str = "async_jwt:"
    on_outage: OnOutage = "deny"
    on_data_loss: OnDataLoss = "deny"
    poll: float = 5.0


def read_options(url: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], Options]:
    """What redis-py's connections are made with, and our options.

    Args:
        url: the URL; what its query says comes first.
        given: options by their names.

    Raises:
        ConfigurationError: the URL or an option is wrong.
    """
    url, asked = _split(url)
    values: dict[str, Any] = {**given, **asked}
    try:
        address: dict[str, Any] = dict(parse_url(url))
        if not url.startswith("unix:"):
            int(urlsplit(url).path.strip("/") or 0)  # redis-py would take any text for database 0
    except ValueError:
        # Its own text may quote a part of the password.
        raise ConfigurationError(
            "JWT_STORE_URI is not a Redis URL; special characters in a password are percent-encoded"
        ) from None
    connections = _number(values["max_connections"], "max_connections")
    if connections != int(connections):
        raise ConfigurationError("JWT_STORE_URI: max_connections must be a whole number")
    return address, Options(
        deadline=_number(values["deadline"], "deadline"),
        max_connections=int(connections),
        prefix=values["prefix"],
        on_outage=_choice(values["on_outage"], "on_outage", ("deny", "allow")),
        on_data_loss=_choice(values["on_data_loss"], "on_data_loss", ("deny", "accept")),
        poll=_number(values["poll"], "poll"),
    )


_OURS = frozenset(option.name for option in fields(Options))


def _split(url: str) -> tuple[str, dict[str, str]]:
    """The URL with redis-py's options alone, and ours."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise ConfigurationError(f"JWT_STORE_URI must begin with one of {', '.join(_SCHEMES)}, and ://")
    address, _, query = rest.partition("?")
    ours: dict[str, str] = {}
    theirs: list[tuple[str, str]] = []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in _OURS:
            ours[name] = value
        elif name in _PASSED_ON:
            theirs.append((name, value))
        else:
            known = ", ".join(sorted(_OURS | _PASSED_ON))
            raise ConfigurationError(f"JWT_STORE_URI has an unknown option {name!r}; known are {known}")
    return f"{_SCHEMES[scheme]}://{address}?{urlencode(theirs)}", ours


def _number(value: object, name: str) -> float:
    try:
        number = float(cast("Any", value))
    except (TypeError, ValueError):
        number = 0.0
    if not 0 < number < 1e6:
        raise ConfigurationError(f"JWT_STORE_URI: {name} must be a number greater than 0")
    return number


def _choice(value: object, name: str, choices: tuple[C, ...]) -> C:
    if value not in choices:
        raise ConfigurationError(f"JWT_STORE_URI: {name} must be {' or '.join(choices)}, and not {value!r}")
    return value
