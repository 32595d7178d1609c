"""Keys over HTTP: rotation, the JWKS document, key confusion, and tokens of another issuer."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import socket
import threading
import time

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from async_jwt import Key, KeyRing
from async_jwt.errors import ConfigurationError, HookError
from tests.harness import SECRET
from tests.harness.applications import FlaskSyncHarness, however_it_runs, on_both_kinds
from tests.harness.keys import PRIVATE, PRIVATE_PEMS, PUBLIC_PEMS
from tests.keys.test_keys_follow_each_other import _forms as key_texts

pytestmark = pytest.mark.asyncio


def es256(**options):
    return Key(ec.generate_private_key(ec.SECP256R1()), "ES256", **options)


# -- rotation -----------------------------------------------------------------------------


@however_it_runs
async def test_rotation_signs_nobody_out_until_the_former_key_has_ended(harness, clock):
    ring = KeyRing(es256(kid="old"), retention=3600, clock=clock)
    h = harness(keys=ring, clock=clock)
    before = await h.mint(expires_delta=False)
    ring.announce(es256(kid="new", signs_from=clock() + 600))
    assert pyjwt.get_unverified_header(await h.mint())["kid"] == "old"
    clock.now += 600
    after = await h.mint(expires_delta=False)
    assert pyjwt.get_unverified_header(after)["kid"] == "new"
    for token in (before, after):
        assert (await h.call(token=token)).status == 200
    clock.now += 3600
    assert (await h.call(token=before)).code == "token_invalid"
    assert (await h.call(token=after)).status == 200


@however_it_runs
async def test_a_stolen_key_is_ended_at_once(harness):
    ring = KeyRing(es256(kid="stolen"))
    h = harness(keys=ring)
    token = await h.mint()
    assert (await h.call(token=token)).status == 200
    ring.announce(es256(kid="new"))
    ring.sign_with("new")
    ring.retire("stolen", after=0)
    assert (await h.call(token=token)).code == "token_invalid"
    assert (await h.call(token=await h.mint())).status == 200


@however_it_runs
async def test_new_tokens_are_never_signed_with_a_fallback(harness):
    h = harness({"JWT_SECRET_KEY": None, "SECRET_KEY": "n" * 64, "SECRET_KEY_FALLBACKS": ["o" * 64]})
    for token in (await h.mint(), await h.mint_refresh()):
        pyjwt.decode(token, "n" * 64, algorithms=["HS256"])
        with pytest.raises(pyjwt.InvalidSignatureError):
            pyjwt.decode(token, "o" * 64, algorithms=["HS256"])
    # Rotated at run time: the former key goes on as a fallback, and not when it is taken out.
    former = await h.mint()
    h.app.config.update(SECRET_KEY="m" * 64, SECRET_KEY_FALLBACKS=["n" * 64])
    assert (await h.call(token=former)).status == 200
    h.app.config["SECRET_KEY_FALLBACKS"].clear()
    h.app.config["SECRET_KEY_FALLBACKS"] = None
    assert (await h.call(token=former)).code == "token_invalid"


@however_it_runs
async def test_a_loader_serves_requests_and_its_failure_is_no_401(harness, clock):
    keys = [es256(kid="1")]

    async def load():
        return keys

    h = harness(keys=KeyRing(loaded_sign=True, loaded_secrets=True, load=load, refresh=60), clock=clock)
    token = await h.mint()
    assert (await h.call(token=token)).status == 200
    keys[:] = [es256(kid="2")]
    clock.now += 60
    assert (await h.call(token=token)).code == "token_invalid"

    async def broken():
        raise OSError

    h = harness(keys=KeyRing(loaded_sign=True, loaded_secrets=True, load=broken), clock=clock)
    answer = await h.call(token=token)
    assert (answer.status, answer.code) == (500, "hook_error")
    with pytest.raises(HookError):
        await h.jwt.start()


# -- the JWKS document --------------------------------------------------------------------


@however_it_runs
async def test_the_jwks_view_is_public_cacheable_and_enough_to_verify(harness):
    ring = KeyRing(es256(kid="1"), [Key(PUBLIC_PEMS["RS256"], "RS256"), Key(SECRET, kid="s")])
    ring.announce(es256(kid="2"))
    h = harness({"JWT_JWKS_MAX_AGE": 120}, keys=ring)
    h.view("/.well-known/jwks.json", h.api.jwks_view)
    answer = await h.call("/.well-known/jwks.json")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/jwk-set+json"
    assert answer.headers["Cache-Control"] == "public, max-age=120"
    assert [key["kid"] for key in answer.json["keys"]] == ["2", "1"]
    token = await h.mint()
    key = pyjwt.PyJWKSet.from_dict(answer.json)[pyjwt.get_unverified_header(token)["kid"]]
    assert pyjwt.decode(token, key)["sub"] == "alice"


@however_it_runs
async def test_the_jwks_view_loads_what_it_publishes(harness):
    h = harness(keys=KeyRing(loaded_sign=True, loaded_secrets=True, load=lambda: [es256(kid="loaded")]))
    h.view("/jwks", h.api.jwks_view)
    assert [key["kid"] for key in (await h.call("/jwks")).json["keys"]] == ["loaded"]


@however_it_runs
async def test_other_values_of_the_configuration_change_nothing(harness):
    h = harness()
    engine = h.app.extensions["async_jwt"].engine()
    h.app.config["SOMETHING"] = 1
    assert h.app.extensions["async_jwt"].engine() is engine
    h.app.config["JWT_ENCODE_NBF"] = False
    assert h.app.extensions["async_jwt"].engine() is not engine


@however_it_runs
async def test_secrets_publish_an_empty_document(harness):
    h = harness()
    h.view("/jwks", h.api.jwks_view)
    assert (await h.call("/jwks")).json == {"keys": []}
    assert h.jwt.keys.jwks() == {"keys": []}


@however_it_runs
@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "ES256K", "EdDSA"])
async def test_keys_of_the_settings_are_published_by_their_thumbprint(harness, algorithm):
    h = harness({"JWT_ALGORITHM": algorithm, "JWT_PRIVATE_KEY": PRIVATE_PEMS[algorithm]})
    token = await h.mint()
    (jwk,) = h.jwt.keys.jwks()["keys"]
    assert jwk["kid"] == pyjwt.get_unverified_header(token)["kid"] == h.jwt.keys.signing.kid
    assert pyjwt.decode(token, pyjwt.PyJWK(jwk))["sub"] == "alice"
    assert (await h.call(token=token)).status == 200


@however_it_runs
async def test_no_key_is_ever_shown(harness, caplog):
    caplog.set_level(logging.DEBUG)
    pem = PRIVATE_PEMS["ES256"]
    h = harness({"JWT_ALGORITHM": "ES256", "JWT_PRIVATE_KEY": pem})
    await h.call(token=await h.mint())
    await h.call(token="a.b.c")
    shown = [repr(h.jwt.keys), repr(h.jwt.keys.signing), repr(h.jwt.keys.at(0)), caplog.text]
    numbers = PRIVATE["ES256"].private_numbers()
    for secret in (*pem.splitlines()[1:-1], str(numbers.private_value)):
        assert not any(secret in text for text in shown)


# -- key confusion ------------------------------------------------------------------------


def _b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def signed_with_text(text, algorithm="HS256", **header):
    """A token whose HMAC secret is some text, as no library would make it."""
    secret = text.encode() if isinstance(text, str) else text
    head = _b64(json.dumps({"typ": "JWT", "alg": algorithm, **header}).encode())
    payload = _b64(json.dumps({"sub": "eve", "type": "access", "jti": "1", "fresh": True}).encode())
    mac = hmac.new(secret, head + b"." + payload, getattr(hashlib, f"sha{algorithm[2:]}"))
    return (head + b"." + payload + b"." + _b64(mac.digest())).decode()


@pytest.fixture
def no_connections(monkeypatch):
    """Any attempt to reach another machine."""
    tried = []
    monkeypatch.setattr(socket, "create_connection", lambda *args, **kwargs: tried.append(args))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: tried.append(args) or [])
    yield tried
    assert tried == []


@pytest.fixture(params=["public only", "both", "mixed", "ring", "loader"])
def verifier(request, harness):
    """Applications that accept RS256 tokens, some of them HS256 ones too."""
    pair = {"JWT_ALGORITHM": "RS256", "JWT_PUBLIC_KEY": PUBLIC_PEMS["RS256"]}
    private = {"JWT_PRIVATE_KEY": PRIVATE_PEMS["RS256"]}
    if request.param == "public only":
        return harness({**pair, "JWT_SECRET_KEY": None})
    if request.param == "both":
        return harness({**pair, **private})
    if request.param == "mixed":
        return harness({**pair, **private, "JWT_DECODE_ALGORITHMS": ["HS256", "HS512", "RS256", "RS512"]})
    if request.param == "ring":
        keys = [Key(PUBLIC_PEMS["RS256"], "RS256", kid="rsa"), Key(SECRET, "HS256", kid="hmac")]
        return harness(keys=KeyRing(None, keys))
    h = harness({"JWT_DECODE_ALGORITHMS": ["HS256", "RS256", "HS512"]})
    h.jwt.decode_key_loader(lambda header, claims: PUBLIC_PEMS["RS256"])
    return h


@on_both_kinds
async def test_a_public_key_is_no_hmac_secret_in_any_form(verifier, no_connections, caplog):
    for form, text in key_texts(PUBLIC_PEMS["RS256"]).items():
        for algorithm in ("HS256", "HS512"):
            for kid in ({}, {"kid": "rsa"}, {"kid": "hmac"}):
                answer = await verifier.call(token=signed_with_text(text, algorithm, **kid))
                assert answer.status == 401, (form, algorithm, kid)


async def test_a_swapped_algorithm_is_refused(verifier, no_connections):
    claims = {"sub": "eve", "type": "access", "jti": "1"}
    token = pyjwt.encode(claims, PRIVATE["RS256"], algorithm="RS256")
    _, payload, signature = token.split(".")
    for swapped in ("none", "None", "HS256", "RS512", "PS256", "ES256", "EdDSA", "HS384", ""):
        head = _b64(json.dumps({"typ": "JWT", "alg": swapped}).encode()).decode()
        for text in (f"{head}.{payload}.{signature}", f"{head}.{payload}."):
            assert (await verifier.call(token=text)).status == 401, swapped


@however_it_runs
async def test_the_key_id_of_another_key_is_refused(harness, no_connections):
    mine, other = es256(kid="1"), es256(kid="2")
    secret = Key(SECRET, kid="secret")
    h = harness(keys=KeyRing(mine, [other, secret]))
    for signer, kid in [(mine, "2"), (other, "1"), (mine, "secret"), (secret, "1")]:
        signing = harness(keys=KeyRing(signer))
        token = await signing.mint(additional_headers={"kid": kid})
        assert (await h.call(token=token)).code == "token_invalid"


EVIL = rsa.generate_private_key(public_exponent=65537, key_size=2048)


async def test_keys_that_a_token_brings_along_are_never_looked_at(verifier, no_connections):
    jwk = Key(EVIL, "RS256", kid="rsa").public_jwk()
    brought = {
        "jwk": jwk,
        "jku": "https://evil.example/jwks.json",
        "x5u": "https://evil.example/x5u",
        "x5c": ["MIIB"],
    }
    claims = {"sub": "eve", "type": "access", "jti": "1"}
    for header, value in brought.items():
        token = pyjwt.encode(claims, EVIL, algorithm="RS256", headers={header: value, "kid": jwk["kid"]})
        assert (await verifier.call(token=token)).status == 401, header


# -- tokens of another issuer -------------------------------------------------------------

ISSUER = "https://login.example/"


def foreign(key=PRIVATE["RS256"], algorithm="RS256", kid="their-key", **claims):
    full = {"iss": ISSUER, "aud": ["api", "other"], "sub": "auth0|7", "email": "al@example.org", **claims}
    full = {name: value for name, value in full.items() if value is not None}
    return pyjwt.encode(full, key, algorithm=algorithm, headers={"kid": kid})


def accepting(harness, **config):
    return harness(
        {
            "JWT_ALGORITHM": "RS256",
            "JWT_PUBLIC_KEY": PUBLIC_PEMS["RS256"],
            "JWT_DECODE_ISSUER": ISSUER,
            "JWT_DECODE_AUDIENCE": "api",
            "JWT_REQUIRE_TYPE": False,
            "JWT_REQUIRE_JTI": False,
            **config,
        }
    )


@however_it_runs
async def test_tokens_of_another_issuer_with_a_static_key(harness):
    h = accepting(harness)

    @h.jwt.user_lookup_loader
    async def load(header, claims):
        return {"email": claims["email"], "key": header["kid"]}

    answer = await h.call(token=foreign())
    assert answer.json["user"] == {"email": "al@example.org", "key": "their-key"}
    assert answer.json["identity"] == "auth0|7"
    h.app.config["JWT_IDENTITY_CLAIM"] = "email"
    assert (await h.call(token=foreign())).json["identity"] == "al@example.org"


@however_it_runs
@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"iss": None}, "claim_missing"),
        ({"iss": "https://login.example"}, "issuer_invalid"),
        ({"iss": "https://login.example/x"}, "issuer_invalid"),
        ({"iss": [ISSUER]}, "issuer_invalid"),
        ({"iss": ISSUER.upper()}, "issuer_invalid"),
        ({"iss": ""}, "issuer_invalid"),
        ({"aud": None}, "claim_missing"),
        ({"aud": []}, "claim_missing"),
        ({"aud": "ap"}, "audience_invalid"),
        ({"aud": ["apis", "a"]}, "audience_invalid"),
        ({"aud": {"api": 1}}, "audience_invalid"),
        ({"aud": [["api"]]}, "audience_invalid"),
        ({"sub": None}, "claim_missing"),
        ({"sub": 7}, "subject_invalid"),
        ({"type": "Bearer"}, "token_type_wrong"),
        ({"type": ["access"]}, "claim_invalid"),
    ],
)
async def test_issuer_and_audience_are_compared_whole(harness, claims, code):
    h = accepting(harness)
    key = PRIVATE["RS256"]
    payload = {"iss": ISSUER, "aud": "api", "sub": "s", "jti": "1", **claims}
    payload = {name: value for name, value in payload.items() if value is not None}
    # By hand: PyJWT itself refuses to sign some of these.
    token = pyjwt.PyJWS().encode(json.dumps(payload).encode(), key, "RS256", {"kid": "k"})
    answer = await h.call(token=token)
    assert (answer.status, answer.code) == (401, code)


@however_it_runs
async def test_several_issuers_and_audiences_are_sets(harness):
    h = accepting(harness, JWT_DECODE_ISSUER={ISSUER, "me"}, JWT_DECODE_AUDIENCE={"api", "mobile"})
    for claims in ({}, {"iss": "me"}, {"aud": "mobile"}, {"aud": ["mobile", "x"]}):
        assert (await h.call(token=foreign(**claims))).status == 200
    for claims in ({"iss": "them"}, {"aud": "x"}):
        assert (await h.call(token=foreign(**claims))).status == 401


@however_it_runs
async def test_own_tokens_and_those_of_another_issuer_in_one_application(harness):
    ring = KeyRing(es256(kid="own"), [Key(PUBLIC_PEMS["RS256"], "RS256", issuer=ISSUER)])
    h = harness(
        {
            "JWT_DECODE_ISSUER": {ISSUER, "me"},
            "JWT_ENCODE_ISSUER": "me",
            "JWT_DECODE_AUDIENCE": "api",
            "JWT_ENCODE_AUDIENCE": "api",
            "JWT_REQUIRE_TYPE": False,
        },
        keys=ring,
    )
    for token in (await h.mint(), foreign()):
        assert (await h.call(token=token)).status == 200
    # Their key makes no tokens of ours, and is not published as ours.
    assert (await h.call(token=foreign(iss="me"))).code == "issuer_invalid"
    assert (await h.call(token=foreign(kid="own"))).status == 200
    assert [key["kid"] for key in h.jwt.keys.jwks()["keys"]] == ["own"]
    # A user of theirs can be signed out, although their tokens know nothing of our generations.
    token = foreign(iat=int(h.jwt._given.clock()) - 60)
    assert (await h.call(token=token)).status == 200
    # Nor may they name one: neither to outlive it nor to have a store believe that it lost something.
    stamped = foreign(iat=int(h.jwt._given.clock()) - 60, gen="m.9999999999999999999.9999999999999999999")
    assert (await h.call(token=stamped)).status == 200
    async with h.context():
        await h.jwt.revoke_user("auth0|7")
    for revoked in (token, stamped):
        assert (await h.call(token=revoked)).code == "token_revoked"


async def test_a_slow_loader_replaces_the_keys_whatever_loop_the_view_runs_on(harness, clock):
    """Flask gives each async view an event loop that ends with it."""
    old, new = es256(kid="old"), es256(kid="new")
    answers = [[old], [new]]
    ended = threading.Event()

    def load():
        if len(answers) == 1:
            time.sleep(0.8)  # longer than a request waits
            ended.set()
            return answers[0]
        return answers.pop(0)

    h = harness(keys=KeyRing(load=load, loaded_sign=True, refresh=60), clock=clock)
    token = await h.mint()
    assert (await h.call(token=token)).status == 200
    clock.now += 61
    await h.call(token=token)
    assert await asyncio.to_thread(ended.wait, 10)
    await asyncio.sleep(0.1)
    assert (await h.call(token=token)).code == "token_invalid"


async def test_a_thread_that_cannot_be_started_holds_up_no_later_load(clock, monkeypatch, caplog):
    old, new = es256(kid="old"), es256(kid="new")
    answers = [[new], [old]]
    h = FlaskSyncHarness(keys=KeyRing(load=answers.pop, loaded_sign=True, refresh=60), clock=clock)
    token = await h.mint()
    start = threading.Thread.start

    def fail(thread):
        if thread.name == "async_jwt-background":
            raise RuntimeError("can't start new thread")
        start(thread)

    clock.now += 61
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        assert (await h.call(token=token)).status == 200
    assert "can't start new thread" in caplog.text
    clock.now += 61
    await h.call(token=token)
    assert answers == []
    assert (await h.call(token=token)).code == "token_invalid"


OLD, NEW = (
    "the secret of last month, which is long enough too",
    "the secret of this month, which is long enough",
)


async def test_former_secrets_verify_and_never_sign(harness):
    h = harness({"JWT_SECRET_KEY": NEW, "JWT_SECRET_KEY_FALLBACKS": [OLD]})
    former = await harness({"JWT_SECRET_KEY": OLD}).mint()
    assert (await h.call(token=former)).status == 200
    made = await h.mint()
    assert (await harness({"JWT_SECRET_KEY": OLD}).call(token=made)).status == 401
    assert (await harness({"JWT_SECRET_KEY": NEW}).call(token=made)).status == 200
    h.app.config["JWT_SECRET_KEY_FALLBACKS"].clear()  # dropped with the next read of the settings
    assert (await h.call(token=former)).status == 401
    assert (await h.call(token=made)).status == 200


async def test_former_secrets_of_both_kinds(harness):
    """Who moves from JWT_SECRET_KEY to SECRET_KEY."""
    config = {"JWT_SECRET_KEY": None, "SECRET_KEY": NEW, "JWT_SECRET_KEY_FALLBACKS": [OLD]}
    h = harness({**config, "SECRET_KEY_FALLBACKS": [SECRET]})
    for secret in (OLD, NEW, SECRET):
        assert (await h.call(token=await harness({"JWT_SECRET_KEY": secret}).mint())).status == 200


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"JWT_SECRET_KEY_FALLBACKS": OLD}, "JWT_SECRET_KEY_FALLBACKS must be a list"),
        ({"JWT_SECRET_KEY_FALLBACKS": ["short"]}, r"\(JWT_SECRET_KEY_FALLBACKS\)"),
        ({"JWT_SECRET_KEY": None, "JWT_SECRET_KEY_FALLBACKS": [OLD]}, "There is no key for HS256"),
        (
            {
                "JWT_ALGORITHM": "ES256",
                "JWT_PRIVATE_KEY": PRIVATE_PEMS["ES256"],
                "JWT_SECRET_KEY_FALLBACKS": [OLD],
            },
            "no HS algorithm is accepted",
        ),
        (
            {"JWT_KEY_FOLDER": "keys", "JWT_SECRET_KEY": None, "JWT_SECRET_KEY_FALLBACKS": [OLD]},
            "JWT_KEY_FOLDER",
        ),
    ],
)
async def test_former_secrets_that_cannot_be(harness, config, text):
    with pytest.raises(ConfigurationError, match=text):
        await harness(config).jwt.create_access_token("alice")


@pytest.mark.parametrize(("more", "told"), [({}, 1), ({"JWT_SECRET_KEY_FALLBACKS": []}, 0)])
async def test_fallbacks_of_the_other_secret_are_named_once(harness, caplog, more, told):
    h = harness({"JWT_SECRET_KEY": NEW, "SECRET_KEY": SECRET, "SECRET_KEY_FALLBACKS": [OLD], **more})
    for _ in range(2):
        h.app.config["OTHER"] = object()
        await h.call()
    assert caplog.text.count("SECRET_KEY_FALLBACKS does not verify tokens while JWT_SECRET_KEY") == told
