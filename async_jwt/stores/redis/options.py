"""Parses store URLs: server addresses, redis-py's options and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, cast
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from redis.asyncio.connection import parse_url

from async_jwt.errors import ConfigurationError
from async_jwt.stores.redis.pool import connection_of

__all__ = ["Address", "OnDataLoss", "OnOutage", "Options", "Place", "read_options"]

OnOutage = Literal["deny", "allow"]
OnDataLoss = Literal["deny", "accept"]
Kind = Literal["server", "sentinel", "cluster"]

C = TypeVar("C", bound=str)

_BASES = {
    "redis": "redis",
    "rediss": "rediss",
    "valkey": "redis",
    "valkeys": "rediss",
}
_KINDS: dict[str, Kind] = {"": "server", "sentinel": "sentinel", "cluster": "cluster"}
_PORTS: dict[Kind, int] = {"server": 6379, "sentinel": 26379, "cluster": 6379}
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
_NAME = re.compile("[a-z_]{2,24}")
_OF_SENTINELS = frozenset({"sentinel_username", "sentinel_password"})


class Address(NamedTuple):
    """The address of a server."""

    host: str
    port: int

    def __str__(self) -> str:
        """`host:port`, as logged."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the servers are.

    Attributes:
        kind: a single server, a Sentinel service or a Cluster.
        connection: options for redis-py's connections; for a single server with its address.
        hosts: the sentinels, or the seed nodes of the Cluster.
        service: the sentinels' name for the primary.
        sentinel: options for connections to sentinels.
    """

    kind: Kind
    connection: dict[str, Any] = field(repr=False)
    hosts: tuple[Address, ...] = ()
    service: str = ""
    sentinel: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Options:
    """The store's options. `RedisStore` documents each one."""

    deadline: float = 0.25
    max_connections: int = 32
    prefix: str = "async_jwt:"
    on_outage: OnOutage = "deny"
    on_data_loss: OnDataLoss = "deny"
    poll: float = 5.0
    mirror: bool = False
    mirror_max: int = 100_000
    mirror_lag: float = 1.0


def read_options(url: str, given: Mapping[str, Any]) -> tuple[Place, Options]:
    """Parse a URL into server addresses and options.

    Args:
        url: the URL; its query parameters take precedence.
        given: options by name.

    Raises:
        ConfigurationError: the URL or an option is wrong.
    """
    scheme, separator, rest = url.partition("://")
    base, _, kind = scheme.partition("+")
    if not separator or not (scheme == "unix" or (base in _BASES and kind in _KINDS)):
        raise ConfigurationError(
            f"JWT_STORE_URI must begin with unix://, or with one of {', '.join(_BASES)}, then optionally "
            "+sentinel or +cluster, then ://, such as redis://localhost:6379/0"
        )
    address, _, query = rest.partition("?")
    ours, theirs, sentinels = _sorted(query, may_name_sentinels=kind == "sentinel")
    values: dict[str, Any] = {**given, **ours}
    options = Options(
        deadline=_number(values["deadline"], "deadline"),
        max_connections=_count(values["max_connections"], "max_connections"),
        prefix=_prefix(values["prefix"]),
        on_outage=_choice(values["on_outage"], "on_outage", ("deny", "allow")),
        on_data_loss=_choice(values["on_data_loss"], "on_data_loss", ("deny", "accept")),
        poll=_number(values["poll"], "poll"),
        mirror=_flag(values["mirror"], "mirror"),
        mirror_max=_count(values["mirror_max"], "mirror_max"),
        mirror_lag=_number(values["mirror_lag"], "mirror_lag", least=0.02),
    )
    try:
        if scheme == "unix":
            place = Place("server", dict(parse_url(f"unix://{address}?{urlencode(theirs)}")))
        else:
            place = _place(_BASES[base], _KINDS[kind], address, theirs, sentinels)
    except ValueError:
        # The original text may quote part of the password.
        raise ConfigurationError(
            "JWT_STORE_URI is not a Redis URL; special characters in a password must be percent-encoded"
        ) from None
    return _checked(place), options


_OURS = frozenset(option.name for option in fields(Options))


def _sorted(
    query: str, *, may_name_sentinels: bool
) -> tuple[dict[str, str], list[tuple[str, str]], dict[str, str]]:
    """Split a query into our options, redis-py's, and those for sentinels."""
    ours: dict[str, str] = {}
    theirs: list[tuple[str, str]] = []
    sentinels: dict[str, str] = {}
    of_sentinels = _OF_SENTINELS if may_name_sentinels else frozenset[str]()
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in _OURS:
            ours[name] = value
        elif name in _PASSED_ON:
            theirs.append((name, value))
        elif name in of_sentinels:
            sentinels[name.removeprefix("sentinel_")] = value
        else:
            raise ConfigurationError(_unknown(name, query, _OURS | _PASSED_ON | of_sentinels))
    return ours, theirs, sentinels


def _unknown(name: str, query: str, known: frozenset[str]) -> str:
    # The name may be the rest of a password.
    is_name = _NAME.fullmatch(name) is not None and "password" not in query
    quoted = f" {name!r}" if is_name else ""
    return (
        f"JWT_STORE_URI has an unknown option{quoted}; known options: {', '.join(sorted(known))}. "
        "Special characters in a password must be percent-encoded"
    )


def _place(
    base: str, kind: Kind, address: str, theirs: list[tuple[str, str]], sentinels: dict[str, str]
) -> Place:
    netloc, _, path = address.partition("/")
    login, at, names = netloc.rpartition("@")
    service = ""
    if kind == "sentinel":
        service, _, path = path.partition("/")
        if not service:
            raise ConfigurationError(
                "JWT_STORE_URI has no Sentinel service name: use redis+sentinel://host,host2/<service>/<database>"
            )
    database = path.strip("/") or dict(theirs).get("db", "0")
    if not database.isdecimal():  # redis-py treats other text as 0
        raise ConfigurationError(
            "JWT_STORE_URI is not a Redis URL: the database must be a number; special characters in a "
            "password must be percent-encoded"
        )
    if kind == "server":
        return Place(kind, dict(parse_url(f"{base}://{netloc}/{path}?{urlencode(theirs)}")))
    if kind == "cluster" and int(database):
        raise ConfigurationError("JWT_STORE_URI: a Cluster has only database 0")
    hosts = tuple(_host(name, _PORTS[kind]) for name in names.split(","))
    shared = [each for each in theirs if each[0] != "db"]
    connection = dict(parse_url(f"{base}://{login}{at}/{database}?{urlencode(shared)}"))
    access = f"{quote(sentinels.get('username', ''), '')}:{quote(sentinels.get('password', ''), '')}@"
    alike = dict(parse_url(f"{base}://{access if sentinels else ''}?{urlencode(shared)}"))
    return Place(kind, connection, hosts, unquote(service), alike)


def _host(name: str, port: int) -> Address:
    try:
        parts = urlsplit(f"//{name}")
        host, given = parts.hostname, parts.port
    except ValueError:
        host, given = None, None
    if not host or re.search(r"[\s;]", host) or given == 0:
        raise ConfigurationError(
            "JWT_STORE_URI: write hosts as host:port, separated by commas; [address]:port for IPv6"
        )
    return Address(host, given or port)


def _prefix(value: object) -> str:
    if not isinstance(value, str) or not value or "{" in value or "}" in value:
        raise ConfigurationError("JWT_STORE_URI: prefix must be a non-empty string without { or }")
    return value


def _checked(place: Place) -> Place:
    """Check that connections can be created from a place's options. Raises ConfigurationError."""
    for options in (place.connection, place.sentinel):
        if options.get("protocol", 3) not in (2, 3, "2", "3"):
            raise ConfigurationError("JWT_STORE_URI: protocol must be 2 or 3")
        for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
            if name in options and not Path(options[name]).exists():
                raise ConfigurationError(f"JWT_STORE_URI: there is no file at {name}")
        try:
            connection_of(options)
        except Exception:  # noqa: BLE001  # the original text may quote secrets
            raise ConfigurationError(
                "JWT_STORE_URI has an option that does not go with its scheme, such as ssl_* without TLS, or "
                "an invalid value"
            ) from None
    return place


def _number(value: object, name: str, least: float = 0.0, most: float = 1e6) -> float:
    try:
        number = float(cast("Any", value))
    except (TypeError, ValueError):
        number = 0.0
    if not least < number < most:
        raise ConfigurationError(f"JWT_STORE_URI: {name} must be a number greater than {least:g}")
    return number


def _count(value: object, name: str) -> int:
    number = _number(value, name, most=1e9)
    if number != int(number):
        raise ConfigurationError(f"JWT_STORE_URI: {name} must be a whole number")
    return int(number)


def _flag(value: object, name: str) -> bool:
    flags = {"true": True, "1": True, "false": False, "0": False}
    if str(value).lower() not in flags:
        raise ConfigurationError(f"JWT_STORE_URI: {name} must be true or false")
    return flags[str(value).lower()]


def _choice(value: object, name: str, choices: tuple[C, ...]) -> C:
    if value not in choices:
        raise ConfigurationError(f"JWT_STORE_URI: {name} must be {' or '.join(choices)}")
    return value
