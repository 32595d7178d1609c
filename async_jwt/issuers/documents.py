"""The documents of issuers: metadata (OpenID Connect Discovery, RFC 8414) and JWKS (RFC 7517). Pure.

Each key is read by itself: one that is broken, private, symmetric or of an unknown kind is left out and
spoils nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from async_jwt.issuers.fetching import FetchError

__all__ = ["PublishedKey", "freshness", "jwks_uri_in", "metadata_urls", "published_keys", "read_json"]

MAX_KEYS: Final = 1000
_PRIVATE: Final = frozenset({"d", "dp", "dq", "k", "oth", "p", "priv", "q", "qi"})
_BY_KIND: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("RSA", ""): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("EC", "secp256k1"): ("ES256K",),
    ("OKP", "Ed25519"): ("EdDSA",),
    ("OKP", "Ed448"): ("EdDSA",),
}
_SHORTEST: Final = 60.0
_LONGEST: Final = 86_400.0
_USUAL: Final = 600.0


class PublishedKey(NamedTuple):
    """A key as an issuer publishes it, not yet parsed.

    Attributes:
        kid: its id; None if it has none.
        algorithms: the algorithms that it may verify.
        members: its public members, which are what distinguishes it.
    """

    kid: str | None
    algorithms: tuple[str, ...]
    members: tuple[tuple[str, str], ...]


def read_json(body: bytes) -> dict[str, Any]:
    """A document. Raises FetchError if it is not a JSON object."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise FetchError("the response is not JSON") from None
    if not isinstance(document, dict):
        raise FetchError("the response is not a JSON object")
    return document


def metadata_urls(base: str) -> tuple[str, ...]:
    """Where an issuer's metadata may be: OpenID Connect Discovery §4, then RFC 8414 §3.1.

    Args:
        base: the issuer, or the address where it is reached.
    """
    parts = urlsplit(base)
    path = parts.path.rstrip("/")
    openid = parts._replace(path=f"{path}/.well-known/openid-configuration", query="", fragment="")
    oauth = parts._replace(path=f"/.well-known/oauth-authorization-server{path}", query="", fragment="")
    return openid.geturl(), oauth.geturl()


def jwks_uri_in(document: Mapping[str, Any], issuer: str, fetched_from: str) -> str:
    """The address of the keys in an issuer's metadata.

    Args:
        document: the metadata.
        issuer: the issuer: the document must name it, byte for byte.
        fetched_from: the address at which the issuer is reached. If it begins with http://, the keys may be
            fetched so from the same host.

    Raises:
        FetchError: the metadata is another issuer's, or names no address to fetch keys from.
    """
    if document.get("issuer") != issuer:
        raise FetchError(f"the metadata names another issuer: {document.get('issuer')!r:.200}")
    address = document.get("jwks_uri")
    if not isinstance(address, str):
        raise FetchError("the metadata names no jwks_uri")
    address = _reached(address, issuer, fetched_from)
    base = urlsplit(fetched_from)
    try:
        parts = urlsplit(address)
        is_same_host = parts.netloc == base.netloc
    except ValueError:
        raise FetchError("the metadata names a jwks_uri that is no address") from None
    may_be_plain = parts.scheme == "http" and base.scheme == "http" and is_same_host
    if not parts.hostname or not (parts.scheme == "https" or may_be_plain):
        raise FetchError(f"the metadata names a jwks_uri that does not begin with https://: {address!r:.200}")
    return address


def _reached(address: str, issuer: str, fetched_from: str) -> str:
    """An address below the issuer's, as it is reached where the issuer is reached elsewhere."""
    outside, inside = issuer.rstrip("/") + "/", fetched_from.rstrip("/") + "/"
    return inside + address.removeprefix(outside) if address.startswith(outside) else address


def published_keys(
    document: Mapping[str, Any], issuer: str, algorithms: Collection[str]
) -> tuple[tuple[PublishedKey, ...], int]:
    """The keys of a JWKS document that may verify tokens, and how many others it has.

    Args:
        document: the document.
        issuer: the issuer; a key that names another one is left out.
        algorithms: the algorithms that the application accepts of this issuer.

    Raises:
        FetchError: it is no JWKS document, or has more than 1,000 keys.
    """
    listed = document.get("keys")
    if not isinstance(listed, list):
        raise FetchError("the response is not a JWKS document: it has no list of keys")
    if len(listed) > MAX_KEYS:
        raise FetchError(f"the response has {len(listed)} keys; {MAX_KEYS} is the limit")
    found = (_published(each, issuer, algorithms) for each in listed)
    usable = tuple(dict.fromkeys(each for each in found if each is not None))
    return usable, len(listed) - len(usable)


def _published(given: object, issuer: str, algorithms: Collection[str]) -> PublishedKey | None:
    if (
        not isinstance(given, dict)
        or not _is_for_signatures(given)
        or not _is_of(given.get("issuer"), issuer)
    ):
        return None
    kind, curve, kid = given.get("kty"), given.get("crv", ""), given.get("kid")
    if not isinstance(kind, str) or not isinstance(curve, str) or not isinstance(kid, str | None):
        return None
    fitting = _BY_KIND.get((kind, curve), ())
    if "alg" in given:
        fitting = tuple(name for name in fitting if name == given["alg"])
    fitting = tuple(name for name in fitting if name in algorithms)
    members = [(name, given[name]) for name in ("crv", "e", "kty", "n", "x", "y") if name in given]
    if not fitting or not all(isinstance(value, str) for _, value in members):
        return None
    return PublishedKey(kid, fitting, tuple(members))


def _is_for_signatures(given: Mapping[str, Any]) -> bool:
    """True for a public key that may verify (RFC 7517 §4.2, §4.3). Everybody knows a private one by then."""
    operations = given.get("key_ops", ["verify"])
    may_verify = isinstance(operations, list) and "verify" in operations
    return given.get("use", "sig") == "sig" and may_verify and _PRIVATE.isdisjoint(given)


def _is_of(named: object, issuer: str) -> bool:
    """True if a key's own `issuer` is this one; Microsoft's may have `{tenantid}` for any tenant."""
    if named is None:
        return True
    if not isinstance(named, str):
        return False
    before, template, after = named.partition("{tenantid}")
    if not template:
        return named == issuer
    if not (issuer.startswith(before) and issuer.endswith(after) and len(issuer) > len(before) + len(after)):
        return False
    tenant = issuer[len(before) : len(issuer) - len(after)]
    return tenant.replace("-", "").isalnum()


def freshness(cache_control: str, age: float) -> float:
    """How long a key document is fresh, in seconds: what it says, from a minute to a day; else ten minutes.

    Args:
        cache_control: its header `Cache-Control` (RFC 9111 §5.2.2).
        age: its header `Age`, in seconds.
    """
    directives: Sequence[str] = [each.strip().lower() for each in cache_control.split(",")]
    if "no-cache" in directives or "no-store" in directives:
        return _SHORTEST
    for directive in directives:
        found = re.fullmatch(r'max-age="?(\d{1,9})"?', directive)
        if found is not None:
            return min(max(float(found[1]) - age, _SHORTEST), _LONGEST)
    return _USUAL
