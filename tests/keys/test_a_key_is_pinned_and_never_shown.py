"""Keys are parsed once, pinned to an algorithm, and never shown."""

from __future__ import annotations

import base64
import json
import secrets
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from async_jwt import Key, KeyRing
from async_jwt.core.key_loading import ring_of as settings_ring
from async_jwt.core.settings import Settings
from async_jwt.errors import ConfigurationError
from async_jwt.keys.key import _ORDERS, ALGORITHMS
from tests.harness import SECRET
from tests.harness.keys import PRIVATE, PRIVATE_PEMS, PUBLIC_PEMS


def ring_of(**config):
    return settings_ring(Settings.from_config(config))


def test_none_is_no_algorithm():
    assert "none" not in ALGORITHMS
    for name in ("none", "NONE", "RSA", ""):
        with pytest.raises(ConfigurationError, match="signature algorithm"):
            Key(SECRET, name)


@pytest.mark.parametrize(("algorithm", "least"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_hmac_secrets_have_the_length_of_their_hash(algorithm, least):
    Key("x" * least, algorithm)
    for short in ("x" * (least - 1), b"x"):
        with pytest.raises(ConfigurationError, match=rf"at least {least}"):
            Key(short, algorithm)
    Key("x", algorithm, min_secret_bytes=1)


@pytest.mark.parametrize(
    "material", ["", b"", None, 7, PUBLIC_PEMS["RS256"], PRIVATE_PEMS["ES256"], '{"kty":"oct"}']
)
def test_what_is_no_hmac_secret(material):
    with pytest.raises(ConfigurationError):
        Key(material, "HS256", min_secret_bytes=0)


@pytest.mark.parametrize("material", [SECRET, PUBLIC_PEMS["ES256"], "-----BEGIN PUBLIC KEY-----\nx\n", None])
def test_what_is_no_rsa_key(material):
    with pytest.raises(ConfigurationError) as caught:
        Key(material, "RS256")
    assert str(material)[:20] not in str(caught.value) or material is None


def test_short_rsa_keys_are_refused():
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    for least in (None, 16):
        with pytest.raises(ConfigurationError, match="2048"):
            Key(short, "RS256", min_secret_bytes=least)
    Key(short, "RS256", min_secret_bytes=0)


@pytest.mark.parametrize("kid", ["", 5])
def test_key_ids_are_texts(kid):
    with pytest.raises(ConfigurationError, match="key id"):
        Key(SECRET, kid=kid)


def test_nothing_shows_the_material():
    for shown in (repr(Key(SECRET, kid="k")), repr(KeyRing(Key(SECRET))), repr(Settings.from_config({}))):
        assert SECRET not in shown


def test_key_objects_are_taken_as_they_are():
    assert Key(PRIVATE["ES256"], "ES256").can_sign
    assert not Key(PRIVATE["ES256"].public_key(), "ES256").can_sign


def test_ring_needs_keys_that_fit():
    with pytest.raises(ConfigurationError, match="cannot sign"):
        KeyRing(Key(PUBLIC_PEMS["ES256"], "ES256"))
    with pytest.raises(ConfigurationError, match="at least one"):
        KeyRing(None)
    with pytest.raises(ConfigurationError, match="'k'"):
        KeyRing(Key(SECRET, kid="k"), [Key("y" * 32, kid="k")])


def test_candidates():
    plain, first, second = Key("a" * 32), Key("b" * 32, kid="1"), Key("c" * 32, kid="2")
    ring = KeyRing(first, [second, plain])
    assert ring.at(0).candidates("HS256", "2") == (second,)
    assert ring.at(0).candidates("HS256", "unknown") == (plain,)
    assert ring.at(0).candidates("HS256", None) == (first, second, plain)
    assert ring.at(0).candidates("RS256", "1") == ()
    assert ring.at(0).candidates("RS256", None) == ()


def test_ring_of_settings_hmac():
    ring = ring_of(JWT_SECRET_KEY=SECRET, SECRET_KEY="s" * 64, SECRET_KEY_FALLBACKS=["f" * 64])
    assert len(ring.keys) == 1
    ring = ring_of(SECRET_KEY="s" * 64, SECRET_KEY_FALLBACKS=["f" * 64])
    assert len(ring.keys) == 2
    assert ring.signing is ring.keys[0]


def test_ring_of_settings_asymmetric():
    both = {"JWT_PRIVATE_KEY": PRIVATE_PEMS["RS256"], "JWT_PUBLIC_KEY": PUBLIC_PEMS["RS256"]}
    ring = ring_of(JWT_ALGORITHM="RS256", **both)
    assert ring.signing.can_sign
    only_private = ring_of(
        JWT_ALGORITHM="RS256", JWT_DECODE_ALGORITHMS=["PS256"], JWT_PRIVATE_KEY=both["JWT_PRIVATE_KEY"]
    )
    assert {key.algorithm for key in only_private.keys} == {"RS256", "PS256"}
    only_public = ring_of(JWT_ALGORITHM="RS256", JWT_PUBLIC_KEY=both["JWT_PUBLIC_KEY"])
    with pytest.raises(ConfigurationError, match="JWT_PRIVATE_KEY"):
        _ = only_public.signing
    mixed = ring_of(JWT_ALGORITHM="RS256", JWT_DECODE_ALGORITHMS=["HS256"], JWT_SECRET_KEY=SECRET, **both)
    assert mixed.at(0).candidates("HS256", None)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({}, "JWT_SECRET_KEY"),
        ({"JWT_SECRET_KEY": "short"}, "JWT_SECRET_KEY"),
        ({"JWT_ALGORITHM": "RS256"}, "JWT_PRIVATE_KEY"),
        ({"JWT_ALGORITHM": "RS256", "JWT_PRIVATE_KEY": "no pem"}, "JWT_PRIVATE_KEY"),
        ({"JWT_SECRET_KEY": SECRET, "JWT_DECODE_ALGORITHMS": ["ES256"]}, "JWT_PUBLIC_KEY"),
    ],
)
def test_wrong_keys_name_their_setting(config, name):
    with pytest.raises(ConfigurationError, match=name):
        ring_of(**config)


def forms_of_public_keys():
    """How public keys are handed around: none of them is a secret."""
    pair = rsa.generate_private_key(65537, 2048).public_key()
    point = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = pair.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = pair.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ssh = pair.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    blob = ssh.split()[1]
    body = b"".join(pem.split(b"\n")[1:-2])
    raw = point.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    jwk = json.dumps(Key(pair, "RS256").public_jwk())
    return {
        "a line of OpenSSH with options": b'command="x" ' + ssh,
        "its blob": base64.b64decode(blob),
        "its blob in base64": blob,
        "RFC 4716": b"---- BEGIN SSH2 PUBLIC KEY ----\n" + blob + b"\n---- END SSH2 PUBLIC KEY ----",
        "PuTTY": b"PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\n" + blob,
        "a JWK": jwk,
        "a JWK in a JSON string": json.dumps(jwk),
        "a list of JWKs": f"[{jwk}]",
        "a JWK as Python writes it": repr(json.loads(jwk)),
        "a JWK with a byte order mark": "\ufeff" + jwk,
        "PEM in UTF-16": pem.decode().encode("utf-16"),
        "PEM, percent-encoded": quote(pem),
        "a PEM body in quotes": b'"' + body + b'"',
        "a PEM body, percent-encoded": quote(body, safe=""),
        "a data URL": b"data:application/x-pem-file;base64," + base64.b64encode(pem),
        "DER with a comment": base64.b64encode(der) + b" prod-key",
        "hexadecimal with 0x": "0x" + der.hex(),
        "hexadecimal with colons": der.hex(":"),
        "a point": raw,
        "a point in hexadecimal": raw.hex(),
    }


PUBLIC_FORMS = forms_of_public_keys()


@pytest.mark.parametrize("form", PUBLIC_FORMS)
def test_public_keys_are_no_secrets_in_whatever_form(form):
    with pytest.raises(ConfigurationError, match="HS256"):
        Key(PUBLIC_FORMS[form], "HS256")


def test_random_secrets_are_never_taken_for_keys():
    for length in (32, 33, 48, 64, 65, 97, 133):
        for _ in range(100):
            secret = secrets.token_bytes(length)
            for text in (secret, secret.hex(), base64.b64encode(secret), secrets.token_urlsafe(length)):
                assert Key(text, "HS256").can_sign
    for text in (
        '["a", "list", "of texts that are no keys"]',
        "{not JSON, and no key in it either}",
        "%zz" * 20,
    ):
        assert Key(text, "HS256").can_sign


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "ES512", "ES256K"])
def test_our_own_ecdsa_signatures_have_the_lower_s(algorithm):
    """Each has a twin that verifies as well; ours is always the same one of the two."""
    key = Key.generate(algorithm)
    order = _ORDERS[algorithm]
    for number in range(40):
        message = str(number).encode()
        signature = key.sign(message)
        half = len(signature) // 2
        s = int.from_bytes(signature[half:], "big")
        assert 2 * s <= order
        assert key.verify(message, signature)
        assert key.verify(message, signature[:half] + (order - s).to_bytes(half, "big"))
