"""Keys follow each other by the time, are loaded again, and are published without their secrets."""

from __future__ import annotations

import base64
import datetime as dt
import json
import logging
import threading

import anyio
import anyio.lowlevel
import joserfc.jwk
import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from async_jwt import Key, KeyRing
from async_jwt.core.codec import encode
from async_jwt.core.hooks import Hooks
from async_jwt.core.realm import Realm
from async_jwt.core.settings import Settings
from async_jwt.errors import ConfigurationError, ExpiredTokenError, HookError, JWTDecodeError, SignatureError
from async_jwt.keys import ALGORITHMS
from async_jwt.stores import MemoryStore
from tests.conftest import SECRET
from tests.unit.keys import PRIVATE, PRIVATE_PEMS, PUBLIC_PEMS, private_pem

PAIRS = [name for name in ALGORITHMS if not name.startswith("HS")]
NOW = 1_800_000_000.0
MEMBERS = {"crv", "e", "kty", "n", "x", "y", "kid", "alg", "use"}


def es256(**options):
    return Key(ec.generate_private_key(ec.SECP256R1()), "ES256", **options)


def realm_of(ring, clock, **config):
    settings = Settings.from_config({"JWT_SECRET_KEY": SECRET, **config})
    return Realm(settings, Hooks(), ring, MemoryStore(clock=clock), clock, str)


async def token_of(realm, **more):

    key = await realm.signing_key("alice")
    return encode({}, {"sub": "alice", "type": "access", **more}, key)


# -- ids and the JWKS document ------------------------------------------------------------


def test_thumbprint_of_rfc_7638():
    """§3.1 of the RFC, its only example."""
    jwk = {
        "kty": "RSA",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPeb"
        "WK"
        "RXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAt"
        "aSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPks"
        "INHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
        "e": "AQAB",
        "alg": "RS256",
        "kid": "2011-04-29",
    }
    assert Key(pyjwt.PyJWK(jwk).key, "RS256").kid == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@pytest.mark.parametrize("algorithm", PAIRS)
def test_pairs_are_named_by_their_thumbprint_and_published_without_their_private_half(algorithm):
    key = Key(PRIVATE_PEMS[algorithm], algorithm)
    assert key.kid == Key(PUBLIC_PEMS[algorithm], algorithm).kid
    assert key.kid == joserfc.jwk.import_key(PUBLIC_PEMS[algorithm], _type(algorithm)).thumbprint()
    assert not key.is_named
    document = KeyRing(key).jwks()
    assert set(document["keys"][0]) <= MEMBERS
    assert document["keys"][0]["use"] == "sig"
    read = pyjwt.PyJWKSet.from_dict(json.loads(json.dumps(document)))
    signed = key.sign(b"message")
    assert read[key.kid].Algorithm.verify(b"message", read[key.kid].key, signed)


def _type(algorithm):
    return {"R": "RSA", "P": "RSA", "E": "OKP" if algorithm == "EdDSA" else "EC"}[algorithm[0]]


def test_secrets_have_no_id_of_their_own_and_are_never_published():
    secret = Key(SECRET, kid="s", published=True)
    assert Key(SECRET).kid is None
    assert KeyRing(secret, [Key("x" * 64)]).jwks() == {"keys": []}


def test_keys_of_others_are_published_only_on_demand():
    own, foreign = es256(kid="own"), Key(PUBLIC_PEMS["ES256"], "ES256", kid="theirs")
    former = Key(PUBLIC_PEMS["RS256"], "RS256", kid="former", published=True)
    hidden = es256(kid="hidden", published=False)
    ring = KeyRing(own, [foreign, former, hidden])
    assert [jwk["kid"] for jwk in ring.jwks()["keys"]] == ["own", "former"]


def test_a_pair_given_twice_is_one_key():
    ring = KeyRing(Key(PRIVATE_PEMS["RS256"], "RS256"), [Key(PUBLIC_PEMS["RS256"], "RS256")])
    assert len(ring.keys) == 1
    assert ring.signing.can_sign


def test_keys_that_were_given_no_id_are_tried_for_tokens_that_name_an_unknown_one():
    """A static key of another issuer, whose ids we do not know."""
    foreign, named = Key(PUBLIC_PEMS["ES256"], "ES256"), es256(kid="named")
    keys = KeyRing(named, [foreign]).at(NOW)
    assert keys.candidates("ES256", "theirs") == (foreign,)
    assert keys.candidates("ES256", foreign.kid) == (foreign,)
    assert keys.candidates("ES256", "named") == (named,)
    assert keys.candidates("ES256", None) == (named, foreign)


# -- by the time --------------------------------------------------------------------------


def test_keys_follow_each_other_by_the_time():
    first, second = es256(kid="1"), es256(kid="2", signs_from=NOW + 100)
    third = es256(kid="3", signs_from=dt.datetime.fromtimestamp(NOW + 200, dt.UTC))
    ring = KeyRing([first, second, third], retention=dt.timedelta(seconds=50))

    def state(offset):
        keys = ring.at(NOW + offset)
        return keys.signing.kid, "".join(sorted(key.kid for key in keys.accepted))

    # In any order: a clock may be set back.
    for offset, expected in [
        (0, ("1", "123")),
        (100, ("2", "123")),
        (149, ("2", "123")),
        (150, ("2", "23")),
        (99, ("1", "123")),
        (200, ("3", "23")),
        (250, ("3", "3")),
        (1e9, ("3", "3")),
        (-1e9, ("1", "123")),
    ]:
        assert state(offset) == expected, offset
    assert ring.at(NOW + 120) is ring.at(NOW + 149.9)
    assert ring.at(NOW + 120) is not ring.at(NOW + 150)


def test_without_retention_former_keys_are_accepted_until_they_end_themselves():
    former = es256(kid="1", accepted_until=NOW + 10)
    ring = KeyRing([former, es256(kid="2", signs_from=NOW)])
    assert former in ring.at(NOW + 9).accepted
    assert former not in ring.at(NOW + 10).accepted
    assert ring.at(NOW + 10).signing.kid == "2"


def test_a_key_that_ended_signs_no_more():
    ring = KeyRing(es256(accepted_until=NOW))
    assert ring.at(NOW - 1).signing
    with pytest.raises(ConfigurationError, match="no key to sign with"):
        _ = ring.at(NOW).signing


def test_the_first_of_equal_keys_signs_and_verification_keys_never_do():
    first = es256(kid="1")
    fallback = es256(kid="f", signs_from=NOW - 1)
    ring = KeyRing([first, es256(kid="2")], [fallback])
    assert ring.at(NOW).signing is first
    assert ring.signing is first
    with pytest.raises(ConfigurationError, match="not given to sign"):
        ring.sign_with("f")


def test_announce_sign_retire(clock):
    old = es256(kid="old")
    ring = KeyRing(old, retention=60, clock=clock)
    new = es256(kid="new")
    ring.announce(new)
    assert ring.signing is old
    assert [jwk["kid"] for jwk in ring.jwks()["keys"]] == ["new", "old"]
    with pytest.raises(ConfigurationError, match="signs now"):
        ring.retire("old")
    clock.now += 10
    ring.sign_with("new")
    assert ring.signing is new
    clock.now += 59
    assert old in ring.at(clock()).accepted
    clock.now += 1
    assert ring.at(clock()).accepted == (new,)
    ring.announce(es256(kid="next", signs_from=clock() + 5))
    clock.now += 5
    assert ring.signing.kid == "next"
    # A stolen key: at once.
    ring.retire("new", after=0)
    assert [key.kid for key in ring.at(clock()).accepted] == ["next"]


def test_retiring_never_takes_longer_than_it_was_to_take(clock):
    spare = es256(kid="spare", accepted_until=clock() + 10)
    ring = KeyRing(es256(kid="1"), [spare], clock=clock)
    ring.retire("spare", after=dt.timedelta(seconds=5))
    ring.retire("spare", after=100)
    clock.now += 5
    assert spare not in ring.at(clock()).accepted


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda ring: ring.announce(Key(PUBLIC_PEMS["ES256"], "ES256")), "cannot sign"),
        (lambda ring: ring.announce(es256(kid="a")), "'a'"),
        (lambda ring: ring.sign_with("?"), "No key"),
        (lambda ring: ring.retire("?", after=1), "No key"),
        (lambda ring: ring.retire("b"), "needs retire"),
        (lambda ring: ring.retire("b", after=-1), "negative"),
        (lambda ring: ring.retire("b", after=True), "after"),
        (lambda ring: KeyRing([Key(PUBLIC_PEMS["ES256"], "ES256")]), "cannot sign"),
        (lambda ring: KeyRing("secret"), "Key objects, not str"),
        (lambda ring: KeyRing(es256(), ["x"]), "Key objects, not str"),
        (lambda ring: KeyRing(es256(), retention=-1), "retention"),
        (lambda ring: KeyRing(load=list, refresh="1"), "refresh"),
        (lambda ring: KeyRing(load=list).announce(es256()), "loads"),
        (lambda ring: KeyRing(load=list).sign_with("a"), "loads"),
        (lambda ring: KeyRing(load=list).retire("a", after=1), "loads"),
    ],
)
def test_wrong_steps_name_the_fix_and_change_nothing(act, text):
    ring = KeyRing(es256(kid="a"), [es256(kid="b")])
    before = ring.keys
    with pytest.raises(ConfigurationError, match=text):
        act(ring)
    assert ring.keys == before
    assert ring.signing.kid == "a"


@pytest.mark.parametrize("wrong", [True, "2026", dt.datetime(2026, 1, 1), float("nan"), None.__class__])  # noqa: DTZ001
def test_moments_are_seconds_or_aware_datetimes(wrong):
    for name in ("signs_from", "accepted_until"):
        with pytest.raises(ConfigurationError, match=name):
            Key(SECRET, **{name: wrong})


# -- the codec forgets what a key verified ------------------------------------------------


@pytest.mark.anyio
async def test_a_remembered_token_ends_with_its_key(clock):
    old = es256(kid="1")
    ring = KeyRing([old, es256(kid="2", signs_from=clock() + 10)], retention=5)
    realm = realm_of(ring, clock)
    token = await token_of(realm)
    for _ in range(15):
        assert (await realm.decode(token)).claims["sub"] == "alice"
        clock.now += 1
    with pytest.raises(SignatureError):
        await realm.decode(token)
    clock.now -= 1
    assert await realm.decode(token)


@pytest.mark.anyio
async def test_a_given_ring_decides_on_algorithms_and_loaders_go_by_the_settings(clock):
    ring = KeyRing(es256())
    realm = realm_of(ring, clock, JWT_ALGORITHM="HS256")
    token = await token_of(realm)
    assert pyjwt.get_unverified_header(token)["alg"] == "ES256"
    assert await realm.decode(token)
    realm.hooks.register("decode_key", lambda header, claims: ring.signing, inline=True)
    with pytest.raises(JWTDecodeError, match="alg"):
        await realm.decode(token)


# -- loaders ------------------------------------------------------------------------------


class Source:
    """Keys that change, and how often they were asked for."""

    def __init__(self, *keys):
        self.keys = keys
        self.asked = 0
        self.problem = None

    async def load(self):
        self.asked += 1
        await anyio.lowlevel.checkpoint()
        if self.problem is not None:
            raise self.problem
        return self.keys


@pytest.mark.anyio
async def test_loaded_keys_are_read_at_first_use_and_again_when_due(clock):
    source = Source(es256(kid="1"))
    realm = realm_of(KeyRing(load=source.load, refresh=60), clock)
    token = await token_of(realm)
    for _ in range(3):
        assert await realm.decode(token)
    assert source.asked == 1
    source.keys = (es256(kid="2"),)
    clock.now += 59
    assert await realm.decode(token)
    clock.now += 1
    with pytest.raises(SignatureError):
        await realm.decode(token)
    assert source.asked == 2
    assert (await realm.signing_key("alice")).kid == "2"


@pytest.mark.anyio
async def test_plain_loaders_run_in_a_thread(clock):

    ran = []

    def load():
        ran.append(threading.current_thread())
        return [es256()]

    assert await token_of(realm_of(KeyRing(load=load), clock))
    assert ran != [threading.current_thread()]


@pytest.mark.anyio
async def test_an_unknown_key_id_is_looked_for_once_in_a_while_only(clock):
    mine, theirs = es256(kid="1"), es256(kid="2")
    source = Source(mine)
    realm = realm_of(KeyRing(load=source.load, refresh=3600), clock)
    other = realm_of(KeyRing(theirs), clock)
    token, stranger = await token_of(other), await token_of(realm_of(KeyRing(es256(kid="x")), clock))
    await token_of(realm)
    clock.now += 10
    source.keys = (mine, theirs)
    assert await realm.decode(token)
    assert source.asked == 2
    for _ in range(1000):
        with pytest.raises(SignatureError):
            await realm.decode(stranger)
    assert source.asked == 2
    clock.now += 5
    with pytest.raises(SignatureError):
        await realm.decode(stranger)
    assert source.asked == 3
    # A wrong signature under a known id, or no id at all, asks nobody.
    clock.now += 5
    forged = (await token_of(realm))[:-8] + "AAAAAAAA"
    for bad in (forged, pyjwt.encode({"sub": "a"}, "x" * 64, algorithm="HS256")):
        with pytest.raises(JWTDecodeError):
            await realm.decode(bad)
    assert source.asked == 3


@pytest.mark.anyio
@pytest.mark.parametrize("failure", [OSError("secret in the text"), "empty", "wrong"])
async def test_keys_stay_in_use_while_their_source_fails(clock, caplog, failure):
    source = Source(es256(kid="1"))
    realm = realm_of(KeyRing(load=source.load, refresh=60), clock)
    token = await token_of(realm)
    good = source.keys
    source.problem = failure if isinstance(failure, Exception) else None
    source.keys = {"empty": (), "wrong": ("secret in the text",)}.get(failure, good)
    clock.now += 60
    with caplog.at_level(logging.ERROR, "async_jwt.keys"):
        for _ in range(10):
            assert await realm.decode(token)
    assert source.asked == 2
    assert [record.name for record in caplog.records] == ["async_jwt.keys"]
    assert "secret" not in caplog.text
    clock.now += 5
    assert await realm.decode(token)
    assert source.asked == 3
    # Set back, a clock does not keep the keys for ever.
    clock.now -= 1e6
    source.problem, source.keys = None, good
    assert await realm.decode(token)
    assert source.asked == 4


@pytest.mark.anyio
async def test_without_any_key_a_failing_source_is_an_error_each_time(clock):
    source = Source(es256())
    source.problem = OSError("secret in the text")
    realm = realm_of(KeyRing(load=source.load), clock)
    for _ in range(2):
        with pytest.raises(HookError, match="OSError") as caught:
            await realm.decode("a.b.c")
        assert "secret" not in str(caught.value)
    source.problem = None
    assert await token_of(realm)


@pytest.mark.anyio
async def test_slow_sources_are_given_up(clock):
    async def load():
        await anyio.sleep(60)

    realm = realm_of(KeyRing(load=load), clock, JWT_HOOK_TIMEOUT=0.01)
    with pytest.raises(HookError, match="HookTimeoutError"):
        await realm.active_keys()


@pytest.mark.anyio
async def test_one_request_asks_and_the_others_go_on(clock):
    source = Source(es256())
    realm = realm_of(KeyRing(load=source.load, refresh=60), clock)
    token = await token_of(realm)
    clock.now += 60

    async def one():
        assert await realm.decode(token)

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(one)
    assert source.asked == 2


@pytest.mark.anyio
async def test_public_keys_of_a_loader_verify_only(clock):
    key = es256(kid="1")
    public = Key(key.public_jwk() and _public(key), "ES256", kid="1")
    realm = realm_of(KeyRing(load=lambda: [public]), clock)
    token = await token_of(realm_of(KeyRing(key), clock))
    assert await realm.decode(token)
    with pytest.raises(ConfigurationError, match="no key to sign with"):
        await realm.signing_key("alice")
    with pytest.raises(ExpiredTokenError):
        await realm.decode(await token_of(realm_of(KeyRing(key), clock), exp=1))


def _public(key):
    return pyjwt.PyJWK(key.public_jwk()).key


# -- files and the environment ------------------------------------------------------------


def test_keys_from_files(tmp_path):
    path = tmp_path / "key.pem"
    path.write_text(PRIVATE_PEMS["ES256"] + "\n")
    assert Key.from_file(path, "ES256", kid="f").can_sign
    path.write_bytes(SECRET.encode() + b"\r\n")
    assert Key.from_file(path).sign(b"m") == Key(SECRET).sign(b"m")
    with pytest.raises(ConfigurationError, match=r"missing\.pem cannot be read: No such file"):
        Key.from_file(tmp_path / "missing.pem", "ES256")
    path.write_text("-----BEGIN PRIVATE KEY-----\nhush\n-----END PRIVATE KEY-----")
    with pytest.raises(ConfigurationError, match=r"key\.pem: The key for ES256") as caught:
        Key.from_file(path, "ES256")
    assert "hush" not in str(caught.value)


def test_keys_from_the_environment(monkeypatch):
    monkeypatch.setenv("SIGNING_KEY", PRIVATE_PEMS["ES256"].replace("\n", "\\n"))
    assert Key.from_env("SIGNING_KEY", "ES256").can_sign
    monkeypatch.setenv("SIGNING_KEY", r"a secret with \n in it, long enough for HS256")
    key = Key.from_env("SIGNING_KEY")
    assert key.sign(b"m") == Key(r"a secret with \n in it, long enough for HS256").sign(b"m")
    for value in ("", "short"):
        monkeypatch.setenv("SIGNING_KEY", value)
        with pytest.raises(ConfigurationError, match="variable SIGNING_KEY"):
            Key.from_env("SIGNING_KEY")


def test_encrypted_keys():
    pem = PRIVATE["ES256"].private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"open sesame"),
    )
    for password in ("open sesame", b"open sesame"):
        assert Key(pem, "ES256", password=password).can_sign
        assert Key(pem.decode(), "ES256", password=password).can_sign
    for material, password in [(pem, "wrong"), (PRIVATE_PEMS["ES256"], "x"), (7, "x"), ("no pem", "x")]:
        with pytest.raises(ConfigurationError, match="password") as caught:
            Key(material, "ES256", password=password)
        assert "sesame" not in str(caught.value)


# -- what is no secret --------------------------------------------------------------------


def _forms(pem):
    key = serialization.load_pem_public_key(pem.encode())
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    body = "".join(pem.splitlines()[1:-1])
    jwk = json.dumps(Key(key, "RS256").public_jwk())
    ssh = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return {
        "PEM": pem,
        "PEM without its last line break": pem.strip(),
        "PEM after white space": " \n\t" + pem,
        "PEM with CRLF": pem.replace("\n", "\r\n"),
        "PEM on one line": pem.replace("\n", " "),
        "PEM without line breaks": pem.replace("\n", ""),
        "PEM after a form feed": "\f" + pem,
        "PKCS1 PEM": key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1).decode(),
        "PKCS1 DER": key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1),
        "DER": der,
        "DER and a line break": der + b"\n",
        "base64 of DER": body,
        "base64 of DER in lines": "\n".join(pem.splitlines()[1:-1]),
        "ssh": ssh,
        "ssh after white space": b"  " + ssh,
        "JWK": jwk,
        "JWK after white space": "\n " + jwk,
        "JWKS": json.dumps({"keys": [json.loads(jwk)]}),
        "nested JWK": json.dumps({"key": json.loads(jwk)}),
        "private DER": base64.b64decode("".join(private_pem(PRIVATE["RS256"]).splitlines()[1:-1])),
    }


@pytest.mark.parametrize("form", list(_forms(PUBLIC_PEMS["RS256"])))
def test_the_text_of_a_public_key_is_no_secret(form):
    """Whoever has the public key, which is everybody, could sign with it."""
    for least in (None, 0):
        with pytest.raises(ConfigurationError, match="HS256"):
            Key(_forms(PUBLIC_PEMS["RS256"])[form], "HS256", min_secret_bytes=least)


@pytest.mark.parametrize(
    "secret", ["{" + "x" * 40, "[" * 40, '{"' + "[" * 100_000, "x" * 40, "a/+=" * 10, b"\x30\x82" + b"x" * 40]
)
def test_secrets_that_only_look_alike(secret):
    assert Key(secret).can_sign
