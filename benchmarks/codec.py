"""Decoding and making tokens: ours beside PyJWT and joserfc, with the same keys and claims.

Ours does all its checks: strict parsing, signature, the shape of each claim, times, and what a store needs
to know of the token. PyJWT checks signature and times, joserfc the signature. No framework and no request
take part; making the claims of a token, which takes longer than signing them, does neither.
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable
from typing import Any

import joserfc.jwt
import jwt as pyjwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from async_jwt.core.codec import Codec, encode
from async_jwt.core.settings import Settings
from async_jwt.keys.key import Key
from async_jwt.keys.ring import KeyRing
from benchmarks.rows import Row
from benchmarks.timing import Timed, compare, measure
from benchmarks.tokens import MANY, SECRET


def claims_of_ours() -> dict[str, Any]:
    """The claims of an access token, as we issue them."""
    now = int(time.time())
    return {
        "fresh": False,
        "iat": now,
        "jti": str(uuid.uuid4()),
        "type": "access",
        "sub": "alice",
        "nbf": now,
        "csrf": str(uuid.uuid4()),
        "exp": now + 3600,
        "gen": "m.0.0",
    }


def _pem(private: Any) -> str:
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _public_pem(private: Any) -> str:
    return (
        private.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def _materials(algorithm: str) -> tuple[Any, Any, Any]:
    """What signs, what verifies, and joserfc's key."""
    if algorithm == "HS256":
        return SECRET, SECRET, OctKey.import_key(SECRET)
    private: Any
    if algorithm == "RS256":
        private, kind = rsa.generate_private_key(public_exponent=65537, key_size=2048), RSAKey
    elif algorithm == "ES256":
        private, kind = ec.generate_private_key(ec.SECP256R1()), ECKey
    else:
        private, kind = ed25519.Ed25519PrivateKey.generate(), OKPKey
    return _pem(private), _public_pem(private), kind.import_key(_pem(private))


def _timed(name: str, call: Callable[[], Any]) -> Timed:
    async def run(times: int) -> None:
        for _ in range(times):
            call()

    return Timed(name, run)


def _cases(algorithm: str) -> list[Timed]:
    private, public, jose = _materials(algorithm)
    settings = Settings.from_config({"JWT_ALGORITHM": algorithm})
    ring = KeyRing(Key(private, algorithm))
    keys = ring.at(time.time())
    codec, now = Codec(settings), time.time()
    tokens = [encode({}, claims_of_ours(), ring.signing) for _ in range(MANY)]
    turn = itertools.cycle(tokens)
    one = tokens[0]
    claims = claims_of_ours()
    public_key, private_key = public, private
    if algorithm != "HS256":
        # PyJWT gets key objects, as its fastest users do; FJE hands it text.
        public_key = serialization.load_pem_public_key(public.encode())
        private_key = serialization.load_pem_private_key(private.encode(), None)
    jose_algorithm = "Ed25519" if algorithm == "EdDSA" else algorithm
    jose_header = {"alg": jose_algorithm}
    jose_token = joserfc.jwt.encode(jose_header, claims, jose, [jose_algorithm])
    return [
        _timed("ours, first-seen", lambda: codec.read(codec.verify(next(turn), keys), now)),
        _timed("ours, repeated", lambda: codec.read(codec.verify(one, keys), now)),
        _timed("ours, signing claims that are ready", lambda: encode({}, claims, ring.signing)),
        _timed("PyJWT, decode", lambda: pyjwt.decode(next(turn), public_key, algorithms=[algorithm])),
        _timed("PyJWT, encode", lambda: pyjwt.encode(claims, private_key, algorithm=algorithm)),
        _timed("joserfc, encode", lambda: joserfc.jwt.encode(jose_header, claims, jose, [jose_algorithm])),
        _timed("joserfc, decode", lambda: joserfc.jwt.decode(jose_token, jose, [jose_algorithm])),
    ]


async def run() -> list[Row]:
    """Every algorithm: first-seen, repeated, and issuing."""
    rows: list[Row] = []
    for algorithm in ("HS256", "RS256", "ES256", "EdDSA"):
        cases = _cases(algorithm)
        await measure(cases)
        by_name = {case.name: case for case in cases}
        issuing = [case for case in cases if "encode" in case.name or "signing" in case.name]
        reading = [case for case in cases if case not in issuing]
        rows += compare(algorithm, reading, by_name["PyJWT, decode"])
        rows += compare(algorithm, issuing, by_name["PyJWT, encode"])
    return rows
