"""`RedisStore`: revocation shared by all processes, one round trip a check.

Keys, with `ab` an identity's bucket (see `stores.contract`), so that all of one identity's
keys share a Cluster slot:

| key                              | type   | holds                    | lives                 |
|----------------------------------|--------|--------------------------|-----------------------|
| `async_jwt:{ab}:all`             | hash   | epoch, gen, at           | for ever              |
| `async_jwt:{ab}:user:<identity>` | hash   | gen, at, keep            | for ever              |
| `async_jwt:{ab}:jti:<jti>`       | string | "1"                      | a minute past `exp`   |
| `async_jwt:{ab}:sid:<sid>`       | string | "1"                      | a minute past its end |
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Awaitable, Coroutine
from importlib.resources import files
from typing import Any, TypeVar, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

from redis.asyncio import Redis
from redis.asyncio.connection import parse_url
from redis.commands.core import AsyncScript

from async_jwt.errors import ConfigurationError, StoreUnavailableError
from async_jwt.stores.contract import BUCKETS, TokenRef, bucket_of, bucket_of_sid
from async_jwt.stores.redis.connection import Connections

__all__ = ["RedisStore"]

T = TypeVar("T")

CLOCK_MARGIN = 60
"""Seconds that a revocation outlives its token, for a server whose clock is ahead of ours."""

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


def _load(*names: str) -> AsyncScript:
    """One script of one or several files, hashed once. Whoever calls it names the client."""
    folder = files(__package__) / "scripts"
    text = b"".join((folder / f"{name}.lua").read_bytes() for name in names)
    return AsyncScript(cast("Redis", None), text)


_SCRIPTS = {
    "stamp": _load("stamp"),
    "check": _load("counts", "check"),
    "raise_user": _load("counts", "raise_user"),
    "raise_all": _load("raise_all"),
}


class RedisStore:
    """Revocations on a Redis or Valkey server (6.2 or newer).

    Args:
        url: `redis://[user:password@]host[:port][/db]`, `rediss://` for TLS, or
            `unix://path`; `valkey://` and `valkeys://` mean the same. These options may be
            given as query parameters as well, and redis-py's `protocol`, `client_name`,
            `db` and `ssl_*` as query parameters only.
        deadline: seconds that one call may take in all.
        max_connections: how many connections each event loop may hold.
        prefix: what every key begins with.

    Raises:
        ConfigurationError: the URL or an option is wrong.
    """

    def __init__(
        self,
        url: str = "redis://localhost",
        *,
        deadline: float = 0.25,
        max_connections: int = 32,
        prefix: str = "async_jwt:",
    ) -> None:
        url, given = _split_options(url)
        deadline = _number(given.get("deadline", deadline), "deadline")
        connections = _number(given.get("max_connections", max_connections), "max_connections")
        if connections != int(connections):
            raise ConfigurationError("JWT_STORE_URI: max_connections must be a whole number")
        self._prefix = given.get("prefix", prefix)
        try:
            options = parse_url(url)
            if not url.startswith("unix:"):
                int(urlsplit(url).path.strip("/") or 0)  # redis-py would take any text for database 0
        except ValueError:
            # Its own text may quote a part of the password.
            raise ConfigurationError(
                "JWT_STORE_URI is not a Redis URL; special characters in a password are percent-encoded"
            ) from None
        self._connections = Connections(dict(options), deadline=deadline, max_connections=int(connections))

    async def stamp(self, identity: str) -> str:
        base = self._base(bucket_of(identity))
        keys = [f"{base}all", f"{base}user:{identity}"]
        answer = await self._script("stamp", keys, [secrets.token_urlsafe(6)])
        if not isinstance(answer, bytes | str):
            raise StoreUnavailableError("The revocation store answered something else than a stamp")
        return answer.decode() if isinstance(answer, bytes) else answer

    async def check(self, ref: TokenRef) -> bool:
        answer = await self._script("check", self._keys_of(ref), _arguments_of(ref))
        if answer not in (0, 1):
            raise StoreUnavailableError("The revocation store answered neither yes nor no")
        return bool(answer)

    async def revoke_token(self, ref: TokenRef) -> None:
        if ref.jti is None:
            raise ValueError("A token without a jti cannot be revoked by itself: revoke its session or user")
        await self._keep(f"{self._base(bucket_of(ref.identity))}jti:{ref.jti}", ref.expires_at)

    async def revoke_session(self, sid: str, expires_at: float | None) -> None:
        await self._keep(f"{self._base(bucket_of_sid(sid))}sid:{sid}", expires_at)

    async def revoke_user(self, identity: str, keep: TokenRef | None = None) -> None:
        kept = keep or _NOBODY
        keys = self._keys_of(kept._replace(identity=identity))
        arguments = [*_arguments_of(kept), kept.sid or kept.jti or ""]
        await _to_the_end(self._script("raise_user", keys, arguments))

    async def revoke_everything(self) -> None:
        async def raise_all(client: Redis) -> None:
            async with client.pipeline(transaction=True) as pipeline:
                script = _SCRIPTS["raise_all"]
                for number in range(BUCKETS):
                    await script(keys=[f"{self._base(f'{number:02x}')}all"], client=pipeline)
                await pipeline.execute()

        await _to_the_end(self._connections.run(raise_all))

    async def start(self) -> None:
        """Connect. An unreachable server is an error here, and may come back later."""
        await self._connections.run(lambda client: cast("Awaitable[Any]", client.ping()))

    async def close(self) -> None:
        await self._connections.close()

    def _keys_of(self, ref: TokenRef) -> list[str]:
        """The keys that a check reads, in the order of counts.lua."""
        base = self._base(bucket_of(ref.identity))
        sid_base = base if ref.sid is None else self._base(bucket_of_sid(ref.sid))
        return [
            f"{base}all",
            f"{base}user:{ref.identity}",
            f"{base}none" if ref.jti is None else f"{base}jti:{ref.jti}",
            f"{base}none" if ref.sid is None else f"{sid_base}sid:{ref.sid}",
        ]

    def _base(self, bucket: str) -> str:
        return f"{self._prefix}{{{bucket}}}:"

    async def _script(self, name: str, keys: list[str], args: list[Any]) -> Any:
        def call(client: Redis) -> Awaitable[Any]:
            return _SCRIPTS[name](keys=keys, args=args, client=client)

        return await self._connections.run(call)

    async def _keep(self, key: str, expires_at: float | None) -> None:
        until = None if expires_at is None else math.ceil((expires_at + CLOCK_MARGIN) * 1000)

        def call(client: Redis) -> Awaitable[Any]:
            return client.set(key, "1", pxat=until)

        await _to_the_end(self._connections.run(call))


async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Finish a revocation even if whoever asked for it is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    # Whoever was cancelled asks for no outcome; it was logged as the store's.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return await asyncio.shield(task)


_NOBODY = TokenRef("", None, None, None, 0.0, None)


def _arguments_of(ref: TokenRef) -> list[Any]:
    """What a check is told of a token, in the order of counts.lua."""
    return [*_stamp_parts(ref.gen), ref.issued_at, ref.jti or "", ref.sid or ""]


def _stamp_parts(stamp: str | None) -> tuple[str, str, str]:
    if stamp is None:
        return ("", "", "")
    parts = stamp.split(".")
    if len(parts) == 3 and parts[0] and all(part.isascii() and part.isdigit() for part in parts[1:]):
        return (parts[0], parts[1], parts[2])
    return ("?", "0", "0")  # no epoch is called that: refused


def _split_options(url: str) -> tuple[str, dict[str, str]]:
    """The URL with redis-py's options alone, and ours."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise ConfigurationError(f"JWT_STORE_URI must begin with one of {', '.join(_SCHEMES)}, and ://")
    address, _, query = rest.partition("?")
    ours: dict[str, str] = {}
    theirs: list[tuple[str, str]] = []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in ("deadline", "max_connections", "prefix"):
            ours[name] = value
        elif name in _PASSED_ON:
            theirs.append((name, value))
        else:
            known = ", ".join(sorted({"deadline", "max_connections", "prefix", *_PASSED_ON}))
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
