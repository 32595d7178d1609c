"""One key for one algorithm: parsed once, pinned, and never shown.

Nothing in a token can make a key work with another algorithm than its own (RFC 8725 §3.1). Key
material never appears in a `repr`, an error or a log. PyJWT and `cryptography` do the
cryptography.
"""

from __future__ import annotations

import binascii
import datetime as dt
import hashlib
import json
import math
import os
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hmac import HMAC
from jwt.algorithms import Algorithm, HMACAlgorithm, get_default_algorithms
from jwt.exceptions import InvalidKeyError

from async_jwt.errors import ConfigurationError

__all__ = ["ALGORITHMS", "Key", "Moment"]

_IMPLEMENTATIONS: dict[str, Algorithm] = {
    name: implementation
    for name, implementation in get_default_algorithms().items()
    if re.fullmatch(r"(HS|RS|PS)(256|384|512)|ES(256|384|512|256K)|EdDSA", name)
}
ALGORITHMS: tuple[str, ...] = tuple(_IMPLEMENTATIONS)
"""All supported algorithms (RFC 7518 §3.1, RFC 8037 §3.1). Never "none"."""

# Beyond any time that a datetime can hold.
_LATEST = 10**12

Moment = float | dt.datetime
"""A point in time: seconds since the epoch, or a datetime with a time zone."""


class Key:
    """One key for one algorithm.

    Args:
        material: an HMAC secret (text or bytes), a PEM text, or a key object of
            `cryptography`. A private key signs and verifies, a public key verifies.
        algorithm: the only algorithm this key may be used with, such as "ES256".
        kid: the key id: it goes into the header of tokens that the key signs, and selects the
            key for tokens that name one (RFC 7515 §4.1.4). Without one, an asymmetric key gets
            its thumbprint (RFC 7638) and a secret none; both are also tried for tokens with an
            unknown key id.
        password: the password of an encrypted PEM text.
        signs_from: when it begins to sign, in seconds since the epoch or as a datetime with
            a time zone; until then it is accepted and published. None is always.
        accepted_until: when its tokens stop being accepted, likewise; None is never.
        published: whether the JWKS document includes it; None includes keys that could sign.
        issuer: the only `iss` that tokens of this key may name (RFC 8725 §3.8); for keys of
            others. None leaves that to `JWT_DECODE_ISSUER`.
        min_secret_bytes: the minimum length of an HMAC secret in bytes; None is the length of
            the algorithm's hash (RFC 7518 §3.2). 0 also accepts RSA keys below 2048 bits.

    Attributes:
        algorithm: as given.
        kid: the key id, given or derived; None for a secret without one.
        is_named: whether the key id was given.
        signs_from: seconds since the epoch, minus infinity for None.
        accepted_until: seconds since the epoch, infinity for None.
        is_published: whether the JWKS document includes it. It never includes a secret.
        issuer: as given.
        fingerprint: a digest of what it verifies with: equal for the two halves of a pair.

    Raises:
        ConfigurationError: the key does not fit the algorithm, or is too weak.
    """

    __slots__ = (
        "_implementation",
        "_mac",
        "_private",
        "_public",
        "accepted_until",
        "algorithm",
        "fingerprint",
        "is_named",
        "is_published",
        "issuer",
        "kid",
        "signs_from",
    )

    def __init__(
        self,
        material: Any,
        algorithm: str = "HS256",
        kid: str | None = None,
        *,
        password: str | bytes | None = None,
        signs_from: Moment | None = None,
        accepted_until: Moment | None = None,
        published: bool | None = None,
        issuer: str | None = None,
        min_secret_bytes: int | None = None,
    ) -> None:
        if kid is not None and not (isinstance(kid, str) and kid):
            raise ConfigurationError("A key id must be a non-empty string")
        implementation = _IMPLEMENTATIONS.get(algorithm) if isinstance(algorithm, str) else None
        if implementation is None:
            # Show only short values: with the arguments swapped, this is the key.
            shown = repr(algorithm) if isinstance(algorithm, str) and len(algorithm) < 12 else "This"
            raise ConfigurationError(
                f"{shown} is not a signature algorithm; choose one of {', '.join(ALGORITHMS)}"
            )
        if issuer is not None and not (isinstance(issuer, str) and issuer):
            raise ConfigurationError("The issuer of a key must be a non-empty string")
        self.issuer: str | None = issuer
        self.algorithm: str = algorithm
        self.signs_from: float = -math.inf if signs_from is None else moment("signs_from", signs_from)
        self.accepted_until: float = math.inf
        if accepted_until is not None:
            self.accepted_until = moment("accepted_until", accepted_until)
        self._implementation = implementation
        if password is not None:
            material = _decrypted(material, password, algorithm)
        prepared = _prepare(implementation, material, algorithm)
        _check_strength(implementation, prepared, algorithm, min_secret_bytes)
        self._mac: HMAC | None = None
        if isinstance(implementation, HMACAlgorithm):
            self._private = self._public = prepared
            # Set up once: PyJWT would do it again for every token.
            self._mac = HMAC(prepared, _HASHES[algorithm])
        elif hasattr(prepared, "sign"):
            self._private, self._public = prepared, prepared.public_key()
        else:
            self._private, self._public = None, prepared
        self.is_named: bool = kid is not None
        thumbprint = None if self._mac is not None else self._thumbprint()
        self.kid: str | None = thumbprint if kid is None else kid
        self.fingerprint: bytes = hashlib.sha256(
            prepared if thumbprint is None else thumbprint.encode()
        ).digest()
        self.is_published: bool = self._mac is None and (self.can_sign if published is None else published)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], algorithm: str = "HS256", **options: Any) -> Key:
        """Read a key from a file: PEM, or a secret, without its last line break.

        Blocks, so call it at start-up or in a plain loader.

        Args:
            path: the file.
            algorithm: as for `Key`.
            options: the further arguments of `Key`.

        Raises:
            ConfigurationError: the file cannot be read, or holds no such key.
        """
        source = f"The key file {_name(path)}".rstrip()
        try:
            material = Path(path).read_bytes()
        except (OSError, TypeError, ValueError) as problem:
            reason = problem.strerror if isinstance(problem, OSError) else "this is not a path"
        else:
            return cls._from_text(source, material, algorithm, options)
        raise ConfigurationError(f"{source} cannot be read: {reason}")

    @classmethod
    def from_env(cls, name: str, algorithm: str = "HS256", **options: Any) -> Key:
        r"""Read a key from an environment variable: PEM, also with ``\n`` for line breaks, or a secret.

        Args:
            name: the variable.
            algorithm: as for `Key`.
            options: the further arguments of `Key`.

        Raises:
            ConfigurationError: the variable is not set, or holds no such key.
        """
        source = f"The environment variable {_name(name)}".rstrip()
        text = os.fsencode(os.environ.get(name, ""))
        if not text:
            raise ConfigurationError(f"{source} is not set")
        if b"-----BEGIN" in text:
            text = text.replace(b"\\n", b"\n")
        return cls._from_text(source, text, algorithm, options)

    @classmethod
    def from_jwk(cls, jwk: Mapping[str, Any], **options: Any) -> Key:
        """Read a JSON Web Key (RFC 7517 §4) that names its `alg`; its `kid` is the key id.

        Args:
            jwk: the key, private or public, or a secret (`"kty": "oct"`).
            options: the further arguments of `Key`.

        Raises:
            ConfigurationError: it is not such a key, or does not fit its algorithm.
        """
        algorithm = jwk.get("alg")
        implementation = _IMPLEMENTATIONS.get(algorithm) if isinstance(algorithm, str) else None
        if implementation is None:
            raise ConfigurationError(f"The JSON Web Key must name its alg: one of {', '.join(ALGORITHMS)}")
        material: Any = None
        # As in `_prepare`: the parser's own errors may quote the material.
        with suppress(InvalidKeyError, TypeError, ValueError, AttributeError, KeyError):
            material = implementation.from_jwk(dict(jwk))
        if material is None:
            raise _unfit(str(algorithm))
        return cls(material, str(algorithm), jwk.get("kid"), **options)

    @classmethod
    def generate(cls, algorithm: str = "ES256", kid: str | None = None, **options: Any) -> Key:
        """Generate a key: a pair on the algorithm's curve, an RSA pair of 3072 bits, or a 64-byte secret.

        Args:
            algorithm: as for `Key`.
            kid: as for `Key`; a secret without one gets a random id.
            options: the further arguments of `Key`.

        Raises:
            ConfigurationError: there is no such algorithm.
        """
        if algorithm not in ALGORITHMS:
            return cls(b"", algorithm, kid)  # raises: lists the algorithms
        if algorithm.startswith("HS"):
            return cls(secrets.token_bytes(64), algorithm, kid or secrets.token_urlsafe(9), **options)
        if algorithm in _CURVES:
            return cls(ec.generate_private_key(_CURVES[algorithm]), algorithm, kid, **options)
        if algorithm == "EdDSA":
            return cls(ed25519.Ed25519PrivateKey.generate(), algorithm, kid, **options)
        return cls(rsa.generate_private_key(65537, 3072), algorithm, kid, **options)

    @classmethod
    def _from_text(cls, source: str, material: bytes, algorithm: str, options: dict[str, Any]) -> Key:
        try:
            return cls(material.removesuffix(b"\n").removesuffix(b"\r"), algorithm, **options)
        except ConfigurationError as problem:
            reason = str(problem)
        raise ConfigurationError(f"{source}: {reason}")

    @property
    def can_sign(self) -> bool:
        """True if this key holds the private half."""
        return self._private is not None

    @property
    def is_secret(self) -> bool:
        """True for an HMAC secret, which both signs and verifies."""
        return self._mac is not None

    def sign(self, message: bytes) -> bytes:
        """The signature of a message. Only for a key that `can_sign`."""
        if self._mac is not None:
            mac = self._mac.copy()
            mac.update(message)
            return mac.finalize()
        signature: bytes = self._implementation.sign(message, self._private)
        order = _ORDERS.get(self.algorithm)
        return signature if order is None else _with_low_s(signature, order)

    def verify(self, message: bytes, signature: bytes) -> bool:
        """True if this key made the signature. Never raises for bad signatures."""
        if self._mac is not None:
            mac = self._mac.copy()
            mac.update(message)
            try:
                mac.verify(signature)  # in constant time
            except InvalidSignature:
                return False
            return True
        return self._implementation.verify(message, self._public, signature)

    def public_jwk(self) -> dict[str, Any]:
        """The public half as a JSON Web Key (RFC 7517 §4). Only for an asymmetric key."""
        return {**self._public_members(), "kid": self.kid, "alg": self.algorithm, "use": "sig"}

    def private_jwk(self) -> dict[str, Any]:
        """The whole key as a JSON Web Key: store it as a key. Only for a key that `can_sign`."""
        jwk: dict[str, Any] = self._implementation.to_jwk(self._private, as_dict=True)
        return {**jwk, "kid": self.kid, "alg": self.algorithm, "use": "sig"}

    def _public_members(self) -> dict[str, Any]:
        jwk: dict[str, Any] = self._implementation.to_jwk(self._public, as_dict=True)
        return {name: jwk[name] for name in ("crv", "e", "kty", "n", "x", "y") if name in jwk}

    def _thumbprint(self) -> str:
        """The thumbprint of RFC 7638 §3: of the public members alone, in exactly this form."""
        text = json.dumps(self._public_members(), separators=(",", ":"), sort_keys=True)
        return urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()

    def __repr__(self) -> str:
        return f"<Key {self.algorithm} kid={self.kid!r}>"


def _name(given: Any) -> str:
    """A path or variable name for an error; empty if it looks like the key itself."""
    text = str(given)
    return text if len(text) <= 120 and re.fullmatch(r"[\w./:\\~ -]+", text) and "BEGIN" not in text else ""


def moment(name: str, given: Moment) -> float:
    """A point in time as seconds since the epoch.

    Raises:
        ConfigurationError: it is not one.
    """
    if isinstance(given, dt.datetime) and given.tzinfo is not None:
        return given.timestamp()
    if isinstance(given, int | float) and not isinstance(given, bool) and abs(given) < _LATEST:
        return float(given)
    raise ConfigurationError(
        f"{name} must be seconds since the epoch, or a datetime with a time zone, not {type(given).__name__}"
    )


def _unfit(algorithm: str) -> ConfigurationError:
    kind = "an HMAC secret" if algorithm.startswith("HS") else "a PEM or `cryptography` key"
    return ConfigurationError(f"The key for {algorithm} must be {kind} fit for it")


def _decrypted(material: Any, password: str | bytes, algorithm: str) -> Any:
    with suppress(TypeError, ValueError, UnsupportedAlgorithm):
        secret = password.encode() if isinstance(password, str) else password
        text = material.encode() if isinstance(material, str) else material
        return serialization.load_pem_private_key(text, secret)
    raise ConfigurationError(f"The key for {algorithm} is not a PEM text that its password decrypts")


def _prepare(implementation: Algorithm, material: Any, algorithm: str) -> Any:
    prepared: Any = None
    # The parsers' own errors may quote the material: none of their text is passed on.
    with suppress(InvalidKeyError, TypeError, ValueError, AttributeError):
        prepared = implementation.prepare_key(material)
    if prepared is None:
        raise _unfit(algorithm)
    if isinstance(implementation, HMACAlgorithm) and _is_key_text(prepared):
        # Anyone with the public half could sign.
        raise ConfigurationError(
            f"The secret for {algorithm} is the text of a key pair or of a JSON Web Key, not a secret"
        )
    return prepared


def _is_key_text(secret: bytes, depth: int = 3) -> bool:
    """True if a secret is an asymmetric key in one of its usual encodings."""
    text = secret.strip().removeprefix(b"\xef\xbb\xbf")
    if _KEY_TEXT.search(text) or _is_der(secret) or _is_der(text) or _is_point(secret):
        return True
    if text[:1] in (b"{", b"["):
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return re.search(rb"[\"']kty[\"']\s*:", text) is not None  # a JSON Web Key as Python prints it
        return isinstance(found, dict) or any(isinstance(item, dict) for item in found)
    return depth > 0 and any(_is_key_text(inner, depth - 1) for inner in _unwrapped(text))


# PEM, RFC 4716, PuTTY files, a line of OpenSSH with or without options, and what such a line encodes.
_KEY_TYPE = rb"(ssh-|ecdsa-|sk-ssh-|sk-ecdsa-)"
_KEY_TEXT = re.compile(
    rb"----[- ]?(BEGIN|END) |^PuTTY-User-Key-File|^"
    + _KEY_TYPE
    + rb"|(^|\s)"
    + _KEY_TYPE
    + rb"[\w@.-]+ +AAAA"
    rb"|^\0\0\0[\x07-\x2a]" + _KEY_TYPE
)


def _unwrapped(text: bytes) -> Iterator[bytes]:
    """The contents of a text, decoded or unquoted in each of the usual ways."""
    if text[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in text[:4]:
        with suppress(UnicodeDecodeError):
            yield text.decode("utf-16").encode("utf-8", "replace")
    if text.startswith(b"data:"):
        yield text.partition(b",")[2]
    if b"%" in text:
        yield unquote_to_bytes(text)
    if len(text) > 1 and text[:1] == text[-1:] and text[:1] in (b'"', b"'"):
        with suppress(ValueError):
            yield str(json.loads(text)).encode("utf-8", "replace")
        yield text[1:-1]
    lines = text.replace(b"\\n", b"\n")
    for plain in {b"".join(lines.split()), *lines.split()}:  # over several lines, or followed by a comment
        digits = plain.rstrip(b"=").translate(_TO_BASE64)
        with suppress(binascii.Error):
            yield binascii.a2b_base64(digits + b"=" * (-len(digits) % 4), strict_mode=True)
        with suppress(ValueError):
            yield bytes.fromhex(plain.decode("ascii", "replace").removeprefix("0x").replace(":", ""))


def _is_point(data: bytes) -> bool:
    """True for an uncompressed point of a curve: a public key without any wrapping."""
    for curve in _CURVES.values():
        if data[:1] == b"\x04" and len(data) == 1 + 2 * ((curve.key_size + 7) // 8):
            with suppress(ValueError):
                ec.EllipticCurvePublicKey.from_encoded_point(curve, data)
                return True
    return False


def _with_low_s(signature: bytes, order: int) -> bytes:
    """The same ECDSA signature in its unique form with the lower s: order - s would verify as well."""
    half = len(signature) // 2
    s = int.from_bytes(signature[half:], "big")
    return signature if 2 * s <= order else signature[:half] + (order - s).to_bytes(half, "big")


def _is_der(data: bytes) -> bool:
    for load in _DER:
        with suppress(TypeError, ValueError, UnsupportedAlgorithm):
            load(data)
            return True
    return False


_CURVES: dict[str, ec.EllipticCurve] = {
    "ES256": ec.SECP256R1(),
    "ES384": ec.SECP384R1(),
    "ES512": ec.SECP521R1(),
    "ES256K": ec.SECP256K1(),
}
# The orders of the curves' base points (SEC 2 §2.4, §2.5, §2.6): not every version of cryptography has them.
_ORDERS: dict[str, int] = {
    "ES256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "ES384": int(
        "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16
    ),
    "ES512": int(
        "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa"
        "51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409",
        16,
    ),
    "ES256K": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
}
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "HS256": hashes.SHA256(),
    "HS384": hashes.SHA384(),
    "HS512": hashes.SHA512(),
}
_TO_BASE64 = bytes.maketrans(b"-_", b"+/")
_DER: tuple[Callable[[bytes], Any], ...] = (
    serialization.load_der_public_key,
    lambda data: serialization.load_der_private_key(data, None),
    x509.load_der_x509_certificate,
)


def _check_strength(
    implementation: Algorithm, prepared: Any, algorithm: str, min_secret_bytes: int | None
) -> None:
    if isinstance(implementation, HMACAlgorithm):
        least = min_secret_bytes if min_secret_bytes is not None else implementation.hash_alg().digest_size
        if len(prepared) < least:
            raise ConfigurationError(
                f"The secret for {algorithm} is {len(prepared)} bytes long and must have at least {least} "
                "(RFC 7518 §3.2): generate one with secrets.token_hex(64), or lower JWT_MIN_SECRET_BYTES"
            )
    elif min_secret_bytes != 0 and implementation.check_key_length(prepared):
        raise ConfigurationError(f"The RSA key for {algorithm} must have at least 2048 bits (RFC 7518 §3.3)")
