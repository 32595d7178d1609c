"""The keys that sign and verify tokens.

A `Key` is parsed once and pinned to one algorithm: nothing in a token can make it serve
another (RFC 8725 §3.1). A `KeyRing` is one signing key and any number of verification keys.
Key material never shows in a `repr`, an error or a log. The cryptography is PyJWT's,
`cryptography`'s and the standard library's HMAC.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from typing import Any

from jwt.algorithms import Algorithm, HMACAlgorithm, get_default_algorithms
from jwt.exceptions import InvalidKeyError

from async_jwt.errors import ConfigurationError

__all__ = ["ALGORITHMS", "Key", "KeyRing"]

_IMPLEMENTATIONS: dict[str, Algorithm] = {
    name: implementation
    for name, implementation in get_default_algorithms().items()
    if re.fullmatch(r"(HS|RS|PS)(256|384|512)|ES(256|384|512|256K)|EdDSA", name)
}
ALGORITHMS: tuple[str, ...] = tuple(_IMPLEMENTATIONS)
"""The algorithms that may be named anywhere (RFC 7518 §3.1, RFC 8037 §3.1). Never "none"."""


class Key:
    """One key for one algorithm.

    Args:
        material: an HMAC secret (text or bytes), a PEM text, or a key object of
            `cryptography`. A private key signs and verifies, a public key verifies.
        algorithm: the only algorithm this key may be used with, such as "ES256".
        kid: the key id that goes into the header of tokens it signs and selects it for
            tokens that name one (RFC 7515 §4.1.4). A key without one is tried for any token.
        min_secret_bytes: the least length of an HMAC secret; None is the length of the
            algorithm's hash (RFC 7518 §3.2). 0 also accepts RSA keys below 2048 bits.

    Raises:
        ConfigurationError: the key does not fit the algorithm, or is too weak.
    """

    __slots__ = ("_implementation", "_mac", "_private", "_public", "algorithm", "kid")

    def __init__(
        self,
        material: Any,
        algorithm: str = "HS256",
        kid: str | None = None,
        *,
        min_secret_bytes: int | None = None,
    ) -> None:
        if kid is not None and not (isinstance(kid, str) and kid):
            raise ConfigurationError("A key id must be a non-empty string")
        implementation = _IMPLEMENTATIONS.get(algorithm)
        if implementation is None:
            raise ConfigurationError(
                f"{algorithm!r} is not a signature algorithm; choose one of {', '.join(ALGORITHMS)}"
            )
        self.algorithm: str = algorithm
        self.kid: str | None = kid
        self._implementation = implementation
        prepared = _prepare(implementation, material, algorithm)
        _check_strength(implementation, prepared, algorithm, min_secret_bytes)
        self._mac: hmac.HMAC | None = None
        if isinstance(implementation, HMACAlgorithm):
            self._private = self._public = prepared
            # Scheduled once: PyJWT would do it again for every token.
            self._mac = hmac.new(prepared, digestmod=implementation.hash_alg)
        elif hasattr(prepared, "sign"):
            self._private, self._public = prepared, prepared.public_key()
        else:
            self._private, self._public = None, prepared

    @property
    def can_sign(self) -> bool:
        """Whether this key holds the private half."""
        return self._private is not None

    def sign(self, message: bytes) -> bytes:
        """The signature of a message. Only for a key that `can_sign`."""
        if self._mac is not None:
            return _hmac(self._mac, message)
        signature: bytes = self._implementation.sign(message, self._private)
        return signature

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether this key made the signature. Never raises for bad signatures."""
        if self._mac is not None:
            return hmac.compare_digest(_hmac(self._mac, message), signature)
        return self._implementation.verify(message, self._public, signature)

    def __repr__(self) -> str:
        return f"<Key {self.algorithm} kid={self.kid!r}>"


def _hmac(scheduled: hmac.HMAC, message: bytes) -> bytes:
    mac = scheduled.copy()
    mac.update(message)
    return mac.digest()


def _prepare(implementation: Algorithm, material: Any, algorithm: str) -> Any:
    try:
        return implementation.prepare_key(material)
    except (InvalidKeyError, TypeError, ValueError, AttributeError):
        # The parser's own text may quote the material, so it is not passed on.
        kind = "an HMAC secret" if algorithm.startswith("HS") else "a PEM or `cryptography` key"
        raise ConfigurationError(f"The key for {algorithm} must be {kind} fit for it") from None


def _check_strength(
    implementation: Algorithm, prepared: Any, algorithm: str, min_secret_bytes: int | None
) -> None:
    if isinstance(implementation, HMACAlgorithm):
        least = min_secret_bytes if min_secret_bytes is not None else implementation.hash_alg().digest_size
        if len(prepared) < least:
            raise ConfigurationError(
                f"The secret for {algorithm} is {len(prepared)} bytes long and must have at least {least} "
                "(RFC 7518 §3.2): take one from secrets.token_hex(64), or lower JWT_MIN_SECRET_BYTES"
            )
    elif min_secret_bytes != 0 and implementation.check_key_length(prepared):
        raise ConfigurationError(f"The RSA key for {algorithm} must have at least 2048 bits (RFC 7518 §3.3)")


class KeyRing:
    """The keys of an application: one signs, all may verify.

    Args:
        signing: the key that signs new tokens, and verifies them as well; None for an
            application that only accepts tokens.
        verification: further keys whose tokens are accepted, such as former signing keys.

    Raises:
        ConfigurationError: the signing key cannot sign, two keys share id and algorithm, or
            there is no key at all.
    """

    def __init__(self, signing: Key | None, verification: Iterable[Key] = ()) -> None:
        if signing is not None and not signing.can_sign:
            raise ConfigurationError(f"{signing!r} holds no private key, so it cannot sign")
        self._signing = signing
        self.keys: tuple[Key, ...] = (*(() if signing is None else (signing,)), *verification)
        if not self.keys:
            raise ConfigurationError("A KeyRing needs at least one key")
        self._by_kid: dict[tuple[str, str], Key] = {}
        for key in self.keys:
            if key.kid is None:
                continue
            if (key.kid, key.algorithm) in self._by_kid:
                raise ConfigurationError(f"Two keys of the ring have the id {key.kid!r} for {key.algorithm}")
            self._by_kid[key.kid, key.algorithm] = key
        self._any = _by_algorithm(self.keys)
        self._without_kid = _by_algorithm(key for key in self.keys if key.kid is None)

    @property
    def signing(self) -> Key:
        """The key that signs new tokens.

        Raises:
            ConfigurationError: this application only accepts tokens.
        """
        if self._signing is None:
            raise ConfigurationError(
                "There is no key to sign with: set JWT_PRIVATE_KEY, or give the KeyRing one"
            )
        return self._signing

    def candidates(self, algorithm: str, kid: str | None) -> tuple[Key, ...]:
        """The keys that may verify a token with this header.

        A key id that a key of the ring bears selects that key alone; keys without an id are
        tried for every token of their algorithm.
        """
        if kid is None:
            return self._any.get(algorithm, ())
        named = self._by_kid.get((kid, algorithm))
        return (named,) if named is not None else self._without_kid.get(algorithm, ())

    def __repr__(self) -> str:
        return f"<KeyRing signing={self._signing!r} keys={len(self.keys)}>"


def _by_algorithm(keys: Iterable[Key]) -> dict[str, tuple[Key, ...]]:
    table: dict[str, tuple[Key, ...]] = {}
    for key in keys:
        table[key.algorithm] = (*table.get(key.algorithm, ()), key)
    return table
