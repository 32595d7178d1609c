"""Decodes a token's text into a verified header and claim set, and encodes new tokens.

Verified tokens are cached by their whole text, for as long as their keys and settings
last. Time checks run every time, so a cached token stops being accepted at the same
instant as any other.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from async_jwt.core import claims as claim_set
from async_jwt.core.compact import Compact, attach, bytes_in, object_in, serialise, split
from async_jwt.core.settings import Settings
from async_jwt.core.tuples import fast_tuple
from async_jwt.errors import AlgorithmError, AudienceError, IssuerError, MalformedTokenError, SignatureError
from async_jwt.issuers.keyset import KeySet
from async_jwt.keys.key import Key
from async_jwt.keys.ring import ActiveKeys
from async_jwt.stores.contract import TokenRef

__all__ = [
    "Codec",
    "Decoded",
    "Header",
    "Memory",
    "Verified",
    "copy_of",
    "encode",
    "encoder_of",
    "read_unverified",
]

log: logging.Logger = logging.getLogger("async_jwt")

_HEADERS = 64
# The longest token text that is cached, in bytes: as much as a cookie can hold.
_LONGEST = 4096

Decoded = tuple[dict[str, Any], dict[str, Any]]
"""The header and claims of a verified token, copied for the caller."""


class Header(NamedTuple):
    """The header of a token that we may be able to verify. Do not modify."""

    parameters: dict[str, Any]
    nested: bool
    """True if a shallow copy would share nested values."""
    algorithm: str
    kid: str | None


class Verified(NamedTuple):
    """A cached token whose signature and shape are valid.

    Shared by all requests that present it, so its header and claims are never handed out:
    `copy_of` makes copies.
    """

    key: Key
    header: dict[str, Any]
    claims: dict[str, Any]
    type: str
    """The token's type; "" for a non-text type, which only the compat preset accepts."""
    nested: bool
    """True if a shallow copy would share nested values."""
    start: float
    end: float
    ref: TokenRef
    source: KeySet | None
    """The keys of the issuer that made it; None for a token of our own."""

    def __repr__(self) -> str:
        return "<Verified>"


class Codec:
    """Decodes tokens under one set of settings.

    Args:
        settings: they define what is accepted.
        algorithms: the accepted algorithms; None takes those of the settings.
    """

    def __init__(self, settings: Settings, algorithms: Collection[str] | None = None) -> None:
        self._settings = settings
        self._accepted = frozenset(settings.accepted_algorithms if algorithms is None else algorithms)
        accept_typ = settings.accept_typ
        self._typ = None if accept_typ is None else frozenset(typ.lower() for typ in accept_typ)
        self._expiry_leeway = settings.expiry_leeway
        self._start_leeway = settings.start_leeway
        # The cache belongs to the keys that verified it. One value, so that threads with
        # different keys, as around a rotation, cannot mix them up.
        self._verified: tuple[ActiveKeys | None, Memory] = (None, Memory(settings.token_cache_size))
        self._chosen = Memory(settings.token_cache_size)
        # The headers of tokens verified or made here: an application has a handful of them.
        self._headers: dict[bytes, Header] = {}
        self._warned_of_audience = False

    def verify(self, token: str, keys: ActiveKeys) -> Verified:
        """Check a token's signature and shape with the keys of a ring.

        Args:
            token: the token's text.
            keys: the keys; changed keys drop every cached token.

        Raises:
            JWTDecodeError: the token is not accepted; the subclass says why.
        """
        known, memory = self._verified
        if keys is not known:
            memory = Memory(self._settings.token_cache_size)
            self._verified = (keys, memory)
        verified = memory[token]
        if verified is None:
            parts, header = self.inspect(token)
            verified = self._verify(parts, header, keys.candidates(header.algorithm, header.kid), keys)
            memory.put(token, verified)
        return verified

    def verify_with(self, token: str, parts: Compact, header: Header, key: Key) -> Verified:
        """Check an inspected token with the one key that the application chose for it.

        A cached token counts only under the same key.

        Raises:
            JWTDecodeError: the token is not accepted.
        """
        verified = self._chosen[token]
        if verified is None or verified.key is not key:
            verified = self._verify(parts, header, (key,))
            self._chosen.put(token, verified)
        return verified

    def read(self, verified: Verified, now: float, *, allow_expired: bool = False) -> Decoded:
        """The header and claims of a token that is valid now.

        Args:
            verified: the token.
            now: seconds since the epoch.
            allow_expired: whether to accept a token whose `exp` has passed.

        Raises:
            ImmatureTokenError: it is not valid yet.
            ExpiredTokenError: it is no longer valid.
        """
        self.check_times(verified, now, allow_expired=allow_expired)
        return copy_of(verified)

    def check_times(self, verified: Verified, now: float, *, allow_expired: bool = False) -> None:
        """Refuse a token that is not valid at `now`. Like `read`, but returns nothing."""
        # The same comparisons as PyJWT's, to the last bit.
        if verified.start > now + self._start_leeway or verified.end <= now - self._expiry_leeway:
            source = verified.source
            leeway = self._start_leeway if source is None else source.issuer.leeway
            claim_set.refuse_times(*copy_of(verified), self._settings, now + leeway, allow_expired)

    def inspect(self, token: str) -> tuple[Compact, Header]:
        """Split a token and read its header, without a key.

        Raises:
            JWTDecodeError: the token is malformed, or its header is never accepted.
        """
        parts = split(token, self._settings.max_token_bytes)
        known = self._headers.get(parts.header)
        return parts, self._read_header(parts, self._accepted, self._typ) if known is None else known

    def known(self, token: str, keys: ActiveKeys) -> Verified | None:
        """A token that is cached under these keys."""
        known, memory = self._verified
        return memory[token] if keys is known else None

    def header_for(self, parts: Compact, algorithms: Collection[str]) -> Header:
        """The header of another issuer's token. Its `typ` is left to the issuer's rules.

        Raises:
            JWTDecodeError: it is never accepted, or has another algorithm.
        """
        return self._read_header(parts, algorithms, None)

    def key_of(self, parts: Compact, algorithm: str, keys: Sequence[Key]) -> Key:
        """The key that made a token's signature. Raises SignatureError if none of them did."""
        signature = bytes_in(parts.signature, "crypto")
        for key in keys:
            # The key's algorithm, not the token's, decides: they must be the same.
            if key.algorithm == algorithm and key.verify(parts.signing_input, signature):
                return key
        raise SignatureError("Signature verification failed")

    def trust(self, encoded: bytes, header: Header) -> None:
        """Cache the header of a token verified or made here; other headers are unbounded in number."""
        if encoded not in self._headers and len(self._headers) < _HEADERS:
            self._headers[encoded] = header

    def _read_header(
        self, parts: Compact, algorithms: Collection[str], types: frozenset[str] | None
    ) -> Header:
        header, nested = object_in(parts.header, "header")
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in algorithms:
            raise AlgorithmError("The specified alg value is not allowed")
        # RFC 7515 §4.1.11: we understand no extension, so any critical one is refused.
        # `jku`, `jwk`, `x5u` and `x5c` are never read: keys never come from a token.
        if "crit" in header or "b64" in header:
            raise MalformedTokenError("Unsupported critical extension")
        kid = header.get("kid")
        if not isinstance(kid, str) and "kid" in header:
            raise MalformedTokenError("Key ID header parameter must be a string")
        typ = header.get("typ")
        if not isinstance(typ, str) and "typ" in header:
            raise MalformedTokenError("Type header parameter must be a string")
        if types is not None and typ is not None and not _is_accepted_typ(typ, types):
            raise MalformedTokenError("The specified typ value is not allowed")
        return Header(header, nested, algorithm, kid)

    def _verify(
        self, parts: Compact, header: Header, keys: Sequence[Key], active: ActiveKeys | None = None
    ) -> Verified:
        parameters, header_nested, algorithm, _ = header
        key = self.key_of(parts, algorithm, keys)
        claims, nested = object_in(parts.payload, "payload")
        if key.issuer is not None and claims.get("iss") != key.issuer:
            raise IssuerError("Invalid issuer")
        own = active is not None and key.issuer is None and key not in active.loaded
        try:
            start, end, ref = claim_set.check_shape(claims, self._settings, own=own)
        except AudienceError:
            self._log_audience()
            raise
        if not own and (key.issuer is not None or (active is not None and active.has_own)):
            ref = ref._replace(gen=None)  # another issuer's `gen` is not a stamp of our store
        if parts.header not in self._headers:
            self.trust(parts.header, header)
        kind = claims["type"]
        if not isinstance(kind, str):
            kind = ""
        nested = nested or header_nested
        return fast_tuple(Verified, (key, parameters, claims, kind, nested, start, end, ref, None))

    def _log_audience(self) -> None:
        if not self._warned_of_audience:
            self._warned_of_audience = True
            log.warning(
                "Refused a token for another audience: if it is meant for this application, add its `aud` to "
                "JWT_DECODE_AUDIENCE",
                extra={"event": "audience_refused"},
            )


def _is_accepted_typ(typ: str, accepted: frozenset[str]) -> bool:
    """True if `typ` is accepted, whatever its case; "application/" is optional (RFC 7515 §4.1.9)."""
    return typ.lower().removeprefix("application/") in accepted


class Memory(dict[str, "Verified | None"]):
    """A cache of recently verified tokens: two generations, so that no hit has to write.

    Bounded by count, and so in bytes: long tokens are not cached. When the young generation,
    the dict itself, is full, it becomes the old one, and unused old entries are dropped. A token
    in neither reads as None.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self._half = (size + 1) // 2
        self._longest = _LONGEST if size else -1
        self._old: dict[str, Verified | None] = {}

    def __missing__(self, token: str) -> Verified | None:
        found = self._old.get(token)
        if found is not None:
            self.put(token, found)
        return found

    def put(self, token: str, verified: Verified) -> None:
        """Cache a token."""
        if len(token) > self._longest:
            return
        if len(self) >= self._half:
            self._old = self.copy()
            self.clear()
        self[token] = verified


def copy_of(verified: Verified) -> Decoded:
    """Copies of a token's header and claims, for the caller to keep."""
    if verified.nested:
        return _copy(verified.header), _copy(verified.claims)
    return verified.header.copy(), verified.claims.copy()


def _copy(value: Any) -> Any:
    """A deep copy of parsed JSON, whose depth is bounded."""
    if isinstance(value, dict):
        return {name: _copy(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value


def encode(
    header: Mapping[str, Any],
    claims: Mapping[str, Any],
    key: Key,
    encoder: json.JSONEncoder | None = None,
) -> str:
    """Sign a token.

    Args:
        header: additional header parameters; `alg` and a key's `kid` are set here.
        claims: the claim set.
        key: the key that signs.
        encoder: writes JSON; use one from `encoder_of` for values that JSON does not support.

    Raises:
        TypeError: a value cannot be written as JSON.
        ValueError: a number is not finite, or a text is not UTF-8.
    """
    own = {"typ": "JWT", "kid": key.kid}
    full = {name: value for name, value in {**own, **header}.items() if name not in own or value is not None}
    full["alg"] = key.algorithm
    write = (encoder or _ENCODER).encode
    signing_input = serialise(write(full).encode(), write(claims).encode())
    return attach(signing_input, key.sign(signing_input))


def encoder_of(default: Callable[[Any], Any] | None) -> json.JSONEncoder:
    """The JSON encoder for tokens.

    Args:
        default: converts values that JSON does not support.
    """
    return json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=default)


_ENCODER = encoder_of(None)


def read_unverified(token: str, max_bytes: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of an unverified token. Only for tokens that the caller made itself.

    Raises:
        MalformedTokenError: it is not a token.
    """
    parts = split(token, max_bytes)
    header, _ = object_in(parts.header, "header")
    claims, _ = object_in(parts.payload, "payload")
    return header, claims
