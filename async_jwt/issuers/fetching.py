"""Fetching the documents of issuers: a small protocol, and httpx behind it (the extra `issuers`).

A document is refused when it redirects, when it is compressed, and when it is too large: it is read from a
server that may be hostile.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from async_jwt.errors import ConfigurationError

__all__ = ["MAX_BYTES", "Fetch", "FetchError", "Fetched", "HttpFetch", "is_public", "refuse_without_httpx"]

MAX_BYTES = 1_048_576
"""The largest document that is read, in bytes."""

_OK = 200
# How many addresses of a host are tried.
_MOST_ADDRESSES = 3


class FetchError(Exception):
    """A document could not be fetched, or is not what it should be. The text is for the log.

    Args:
        text: what happened.
        status: the HTTP status of the response, if there was one.
    """

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status: int | None = status


class Fetched(NamedTuple):
    """A document.

    Attributes:
        body: its bytes, at most `MAX_BYTES` of them.
        cache_control: its header `Cache-Control`; "" if it has none.
        age: its header `Age`, in seconds; 0 if it has none.
    """

    body: bytes
    cache_control: str = ""
    age: float = 0.0


class Fetch(Protocol):
    """Fetches a document. It is cancelled when the time for all documents of an issuer is over."""

    async def __call__(self, url: str, /) -> Fetched:
        """Fetch a document, follow no redirect, and read no more than `MAX_BYTES`.

        Raises:
            FetchError: it cannot be fetched.
        """
        ...


class _Options(NamedTuple):
    """What distinguishes one `HttpFetch` from another."""

    proxy: str | None
    verify: str | ssl.SSLContext | None
    headers: tuple[tuple[str, str], ...]
    public_only: bool


class HttpFetch:
    """Fetches documents with httpx. Proxies and CA files of the environment count, as everywhere in httpx.

    Args:
        proxy: the address of a proxy.
        verify: a CA file, or a context of `ssl`, for issuers with a private certificate authority.
        headers: headers to send, such as the `Authorization` that a cluster demands.
        public_only: True refuses hosts with any address that is not public.

    Raises:
        ConfigurationError: httpx is not installed.
    """

    def __init__(
        self,
        *,
        proxy: str | None = None,
        verify: str | ssl.SSLContext | None = None,
        headers: Mapping[str, str] | None = None,
        public_only: bool = False,
    ) -> None:
        refuse_without_httpx()
        self._options = _Options(proxy, verify, tuple((headers or {}).items()), public_only)
        self._ready: tuple[Any, ssl.SSLContext] | None = None
        self._headers = {"Accept": "application/json", "Accept-Encoding": "identity", **(headers or {})}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HttpFetch) and self._options == other._options

    def __hash__(self) -> int:
        return hash(self._options)

    async def __call__(self, url: str, /) -> Fetched:
        """Fetch a document. See `Fetch`."""
        if self._ready is None:
            # Imports httpx and reads certificates: once, and not on the event loop.
            self._ready = await anyio.to_thread.run_sync(_prepared, self._options.verify)
        httpx, context = self._ready
        targets = await _targets(url) if self._options.public_only else [(url, {}, {})]
        for number, (target, headers, extensions) in enumerate(targets, 1):
            # The caller limits the time of the whole.
            client = httpx.AsyncClient(verify=context, proxy=self._options.proxy, timeout=None)
            request = client.build_request("GET", target, headers={**self._headers, **headers})
            request.extensions.update(extensions)
            try:
                async with client:
                    response = await client.send(request, stream=True)
                    try:
                        return await _read(response)
                    finally:
                        await response.aclose()
            except httpx.ConnectError as problem:
                if number == len(targets):
                    raise _failed(problem) from None
            except (httpx.HTTPError, httpx.InvalidURL) as problem:
                raise _failed(problem) from None
        raise FetchError("there is no address to connect to")


def _failed(problem: Exception) -> FetchError:
    return FetchError(f"{type(problem).__name__}: {problem}"[:200])


async def _targets(url: str) -> list[tuple[str, dict[str, str], dict[str, str]]]:
    """The addresses to connect to, with headers and extensions: what is checked here is connected to."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        # Not the event loop's own resolver, whose few threads others need.
        found = await anyio.to_thread.run_sync(
            partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM), abandon_on_cancel=True
        )
    except OSError as problem:
        raise FetchError(f"{host!r} cannot be resolved: {problem}") from None
    addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
    if not addresses or not all(map(is_public, addresses)):
        raise FetchError(f"{host!r} has a private address; Issuer(allow_private=True) allows it")
    return [
        (
            parts._replace(netloc=f"[{address}]:{port}" if ":" in address else f"{address}:{port}").geturl(),
            {"Host": parts.netloc},
            {"sni_hostname": host},
        )
        for address in addresses[:_MOST_ADDRESSES]
    ]


async def _read(response: Any) -> Fetched:
    if response.status_code != _OK:
        raise FetchError(f"the response has the status {response.status_code}", response.status_code)
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise FetchError("the response is compressed, although the request asked for plain text")
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > MAX_BYTES:
            raise FetchError(f"the response is larger than {MAX_BYTES} bytes")
    age = response.headers.get("Age", "0")
    seconds = float(age) if age.isascii() and age.isdigit() and len(age) < 10 else 0.0
    return Fetched(bytes(body), response.headers.get("Cache-Control", ""), seconds)


def is_public(address: str) -> bool:
    """True for an address on the public internet, by IANA's registries of special-purpose addresses."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(ip.packed[-4:])))
        if ip not in _GLOBAL_UNICAST:
            return False
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _SPECIAL)


_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Not global by IANA's registries, of which older versions of Python do not know all; 6to4; and the address at
# which Azure's platform answers every machine.
_SPECIAL = tuple(
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",
        "192.0.0.0/24",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
    )
)


def _prepared(verify: str | ssl.SSLContext | None) -> tuple[Any, ssl.SSLContext]:
    """The module httpx, and the context for its connections."""
    import httpx  # noqa: PLC0415  # an extra, imported on demand

    if isinstance(verify, str):
        return httpx, ssl.create_default_context(cafile=verify)
    return httpx, verify or httpx.create_ssl_context()


def refuse_without_httpx() -> None:
    """Refuse to go on without httpx. Raises ConfigurationError."""
    if find_spec("httpx") is None:
        raise ConfigurationError('Fetching the keys of issuers needs httpx: pip install "async-jwt[issuers]"')
