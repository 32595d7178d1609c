"""The text of a token: RFC examples, the differential test against PyJWT, memory."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, NamedTuple

import jwt as pyjwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_jwt import Key, KeyRing
from async_jwt.core.codec import Codec, encode
from async_jwt.core.compact import MAX_DEPTH, attach, bytes_in, serialise, split
from async_jwt.core.settings import Settings
from async_jwt.errors import (
    AlgorithmError,
    ExpiredTokenError,
    ImmatureTokenError,
    JWTDecodeError,
    MalformedTokenError,
    SignatureError,
)
from async_jwt.keys.ring import ActiveKeys
from tests.harness import SECRET
from tests.harness.keys import ED448, PRIVATE_PEMS, PUBLIC_PEMS, private_pem

NOW = 1_800_000_000


class Decoded(NamedTuple):
    header: dict[str, Any]
    claims: dict[str, Any]


class CodecAt(Codec):
    """A codec that decodes at one time."""

    now = NOW

    def decode(self, token, keys):
        return Decoded(*self.read(self.verify(token, keys), self.now))


def codec_for(now=NOW, **config):
    codec = CodecAt(Settings.from_config({"JWT_REQUIRE_TYPE": False, **config}))
    codec.now = now
    return codec


def b64(raw):
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def unb64(text):
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


class TestRFCExamples:
    """Figures of the specifications, as they stand there."""

    # RFC 7515 A.1 and RFC 7519 3.1
    HS256 = (
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
        ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    )
    SECRET = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"

    def ring(self):
        return KeyRing(Key(unb64(self.SECRET)))

    def test_rfc_7515_a1_is_read(self):
        codec = codec_for(now=1300819379, JWT_IDENTITY_CLAIM="iss", JWT_REQUIRE_JTI=False)
        decoded = codec.decode(self.HS256, self.ring().at(NOW))
        assert decoded.header == {"typ": "JWT", "alg": "HS256"}
        assert decoded.claims["http://example.com/is_root"] is True

    def test_rfc_7515_a1_expires_at_its_second(self):
        codec = codec_for(now=1300819380, JWT_IDENTITY_CLAIM="iss", JWT_REQUIRE_JTI=False)
        with pytest.raises(ExpiredTokenError):
            codec.decode(self.HS256, self.ring().at(NOW))

    def test_rfc_8037_a4_signature(self):
        """Ed25519: the message of appendix A.4 under the key of A.1."""
        jwk = {
            "kty": "OKP",
            "crv": "Ed25519",
            "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        }
        key = Key(pyjwt.PyJWK(jwk, "EdDSA").key, "EdDSA")
        message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
        assert b64(key.sign(message)) == (
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        )

    def test_rfc_7515_a5_unsecured_is_refused(self):
        unsecured = "eyJhbGciOiJub25lIn0." + self.HS256.split(".")[1] + "."
        with pytest.raises(AlgorithmError):
            codec_for().decode(unsecured, self.ring().at(NOW))

    def test_rfc_7520_4_4_hmac_signature(self):
        """The HMAC-SHA256 integrity example of the JOSE cookbook."""
        secret = unb64("hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg")
        header = b'{"alg":"HS256","kid":"018c0ae5-4d9b-471b-bfd6-eef314bc7037"}'
        payload = (
            "It\u2019s a dangerous business, Frodo, going out your door. You step onto the road, and if "
            "you don't keep your feet, there\u2019s no knowing where you might be swept off to."
        ).encode()
        signature = Key(secret).sign(serialise(header, payload))
        assert b64(signature) == "s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0"


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512", *PRIVATE_PEMS])
def test_every_algorithm_signs_and_is_understood_by_pyjwt(algorithm):
    material = PRIVATE_PEMS.get(algorithm, SECRET)
    ring = KeyRing(Key(material, algorithm))
    token = encode({}, {"jti": "1", "sub": "alice"}, ring.signing)
    codec = codec_for(JWT_ALGORITHM=algorithm)
    for _ in range(2):
        assert codec.decode(token, ring.at(NOW)).claims["sub"] == "alice"
    public = PUBLIC_PEMS.get(algorithm, SECRET)
    assert pyjwt.decode(token, public, algorithms=[algorithm]) == {"jti": "1", "sub": "alice"}
    verifying = KeyRing(None, [Key(public, algorithm)])
    assert codec_for(JWT_ALGORITHM=algorithm).decode(token, verifying.at(NOW)).claims["sub"] == "alice"
    head, _, tail = token.rpartition(".")
    with pytest.raises(SignatureError):
        codec.decode(f"{head}.{b64(bytes(len(unb64(tail))))}", ring.at(NOW))
    with pytest.raises(SignatureError):
        codec.decode(f"{head}.{b64(b'short')}", ring.at(NOW))


def test_ed448():
    ring = KeyRing(Key(private_pem(ED448), "EdDSA"))
    token = encode({}, {"jti": "1", "sub": "alice"}, ring.signing)
    assert codec_for(JWT_ALGORITHM="EdDSA").decode(token, ring.at(NOW)).claims["sub"] == "alice"


# -- the differential test ------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.integers(NOW - 30, NOW + 30),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(NOW - 30, NOW + 30),
    st.text(max_size=5),
)
VALUES = st.one_of(
    SCALARS, st.lists(SCALARS, max_size=2), st.dictionaries(st.text(max_size=3), SCALARS, max_size=2)
)
CLAIMS = st.fixed_dictionaries(
    {"sub": st.one_of(st.text(max_size=5), VALUES)},
    optional={
        name: st.one_of(st.sampled_from(["urn:a", "urn:b"]), VALUES)
        for name in ("exp", "nbf", "iat", "aud", "iss", "jti", "other", "type", "fresh", "csrf")
    },
)
HEADERS = st.one_of(
    st.just({"alg": "HS256", "typ": "JWT"}),
    st.fixed_dictionaries(
        {"alg": st.one_of(st.just("HS256"), SCALARS)},
        optional=dict.fromkeys(("typ", "kid", "crit", "b64", "jwk"), VALUES),
    ),
)


def pyjwt_accepts(token, monkeypatched_now, **options):
    class Frozen(pyjwt.api_jwt.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(monkeypatched_now, tz)

    original = pyjwt.api_jwt.datetime
    pyjwt.api_jwt.datetime = Frozen
    try:
        return pyjwt.decode(token, SECRET, algorithms=["HS256"], **options)
    except pyjwt.PyJWTError:
        return None
    finally:
        pyjwt.api_jwt.datetime = original


@pytest.mark.parametrize("compat", [None, "flask-jwt-extended"])
@given(header=HEADERS, claims=CLAIMS, mangle=st.integers(0, 400), leeway=st.sampled_from([0, 5]))
@settings(max_examples=200, deadline=None)
def test_what_we_accept_pyjwt_accepts_with_equal_claims(compat, header, claims, mangle, leeway):
    text = serialise(json.dumps(header).encode(), json.dumps(claims).encode())
    token = attach(text, Key(SECRET).sign(text))
    if mangle < len(token) and mangle % 3 == 0:
        token = token[:mangle] + "A" + token[mangle + 1 :]
    config = {"JWT_COMPAT": compat, "JWT_DECODE_LEEWAY": leeway, "JWT_DECODE_ISSUER": ["urn:a"]}
    theirs = pyjwt_accepts(token, NOW, leeway=leeway, issuer=["urn:a"], options={"verify_aud": False})
    codec = codec_for(**config)
    for _ in range(2):
        try:
            ours = codec.decode(token, KeyRing(Key(SECRET)).at(NOW)).claims
        except JWTDecodeError:
            ours = None
        if ours is not None:
            assert theirs is not None
            assert {name: ours[name] for name in theirs} == theirs
            assert set(ours) - set(theirs) <= {"type", "fresh", "jti"}


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_one_text_for_one_token(header, payload, signature):
    parts = split(attach(serialise(header, payload), signature), 8192)
    assert bytes_in(parts.signature, "crypto") == signature
    assert b64(signature).encode() == parts.signature


@given(st.text("ABCDEFGHwxyz0189-_+/=", max_size=9))
def test_only_canonical_base64url_is_read(text):
    try:
        raw = bytes_in(split(f"a.b.{text}", 8192).signature, "crypto")
    except MalformedTokenError:
        return
    assert b64(raw) == text


# -- depth, memory, times ------------------------------------------------------------------


@pytest.mark.parametrize(("depth", "accepted"), [(MAX_DEPTH - 1, True), (63, True), (65, False)])
def test_depth(depth, accepted):
    deep = "[" * depth + "]" * depth
    text = serialise(b'{"alg":"HS256"}', f'{{"jti":"1","sub":"a","d":{deep}}}'.encode())
    token = attach(text, Key(SECRET).sign(text))
    try:
        codec_for().decode(token, KeyRing(Key(SECRET)).at(NOW))
    except MalformedTokenError:
        assert not accepted
    else:
        assert accepted


@pytest.mark.parametrize("compat", [{}, {"JWT_COMPAT": "flask-jwt-extended"}])
@pytest.mark.parametrize("typ", [7, None, True, ["JWT"], {"a": 1}])
def test_a_type_header_that_is_no_text_is_refused(compat, typ):
    key = Key(SECRET)
    header = json.dumps({"alg": "HS256", "typ": typ})
    text = serialise(header.encode(), b'{"jti":"1","sub":"a","type":"access"}')
    with pytest.raises(MalformedTokenError, match="must be a string"):
        codec_for(**compat).decode(attach(text, key.sign(text)), KeyRing(key).at(NOW))


def test_the_memory_is_bounded_by_count_and_so_by_bytes():
    ring = KeyRing(Key(SECRET))
    codec = codec_for(JWT_TOKEN_CACHE_SIZE=10, JWT_MAX_TOKEN_BYTES=100_000)
    for number in range(100):
        codec.decode(encode({"n": number}, {"jti": "1", "sub": str(number)}, ring.signing), ring.at(NOW))
    assert len(codec._verified[1]) + len(codec._verified[1]._old) <= 10
    assert len(codec._headers) <= 64
    for number in range(20):
        claims = {"jti": "1", "sub": str(number), "x": "y" * 30_000}
        codec.decode(encode({}, claims, ring.signing), ring.at(NOW))
    kept = [*codec._verified[1], *codec._verified[1]._old]
    assert kept
    assert max(map(len, kept)) <= 4096


def test_a_token_in_use_outlives_others_in_the_memory():
    asked = []
    ring = KeyRing(Key(SECRET))
    codec = codec_for(JWT_TOKEN_CACHE_SIZE=4)

    class Watched(ActiveKeys):
        def candidates(self, algorithm, kid):
            asked.append(1)
            return super().candidates(algorithm, kid)

    keys = Watched(ring.signing, ring.keys, 0, NOW)
    mine = encode({}, {"jti": "1", "sub": "mine"}, ring.signing)
    codec.decode(mine, keys)
    for number in range(20):
        codec.decode(encode({}, {"jti": "1", "sub": str(number)}, ring.signing), keys)
        codec.decode(mine, keys)
    assert len(asked) == 21


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_leeway_of_the_start(claim):
    ring = KeyRing(Key(SECRET))
    token = encode({}, {"jti": "1", "sub": "a", claim: NOW + 10}, ring.signing)
    codec_for(now=NOW).decode(token, ring.at(NOW))
    for early in (codec_for(now=NOW - 1), codec_for(JWT_DECODE_LEEWAY=9)):
        with pytest.raises(ImmatureTokenError, match=claim):
            early.decode(token, ring.at(NOW))


def test_under_compat_times_are_read_as_pyjwt_reads_them():
    ring = KeyRing(Key(SECRET))
    token = encode({}, {"jti": "1", "sub": "a", "exp": str(NOW + 5), "nbf": True}, ring.signing)
    assert codec_for(JWT_COMPAT="flask-jwt-extended").decode(token, ring.at(NOW))
    with pytest.raises(JWTDecodeError):
        codec_for().decode(token, ring.at(NOW))
    for wrong in ("soon", None, 10**400):
        token = encode({}, {"jti": "1", "sub": "a", "exp": wrong}, ring.signing)
        with pytest.raises(JWTDecodeError):
            codec_for(JWT_COMPAT="flask-jwt-extended").decode(token, ring.at(NOW))


def test_reprs_show_no_claims():
    ring = KeyRing(Key(SECRET))
    token = encode({}, {"jti": "1", "sub": "a", "csrf": "c-value"}, ring.signing)
    codec = codec_for()
    codec.decode(token, ring.at(NOW))
    parts, _ = codec.inspect(token)
    for value in (parts, codec._verified[1][token]):
        assert "c-value" not in repr(value)
        assert not any(part in repr(value) for part in token.split("."))


def test_decoding_something_that_is_no_text():
    with pytest.raises(MalformedTokenError):
        codec_for().decode(b"bytes", KeyRing(Key(SECRET)).at(NOW))  # type: ignore[arg-type]


def test_a_key_verifies_only_tokens_that_name_its_own_algorithm():
    """Even if the signature is right: the header says HS256, the key that signed it is one for HS512."""
    codec = Codec(Settings.from_config({"JWT_DECODE_ALGORITHMS": ["HS256", "HS512"]}))
    key = Key(SECRET, "HS512")
    header = b'{"alg":"HS256","typ":"JWT"}'
    signing_input = serialise(header, b'{"jti":"1","sub":"a","type":"access"}')
    token = attach(signing_input, key.sign(signing_input))
    parts, read = codec.inspect(token)
    with pytest.raises(SignatureError):
        codec.verify_with(token, parts, read, key)
