"""Keys follow each other by the time, are loaded again, and are published without their secrets."""

from __future__ import annotations

import base64
import datetime as dt
import json
import logging
import os
import threading
import traceback

import anyio
import anyio.lowlevel
import joserfc.jwk
import jwt as pyjwt
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from async_jwt import Key, KeyRing
from async_jwt.core.codec import Codec, encode
from async_jwt.core.engine import Engine
from async_jwt.core.hooks import Hooks
from async_jwt.core.key_loading import ring_of
from async_jwt.core.settings import Settings
from async_jwt.errors import (
    ConfigurationError,
    ExpiredTokenError,
    HookError,
    IssuerError,
    JWTDecodeError,
    SignatureError,
)
from async_jwt.keys.key import ALGORITHMS
from async_jwt.keys.ring import ActiveKeys
from async_jwt.stores import MemoryStore
from tests.harness import SECRET
from tests.harness.keys import PRIVATE, PRIVATE_PEMS, PUBLIC_PEMS, private_pem

PAIRS = [name for name in ALGORITHMS if not name.startswith("HS")]
NOW = 1_800_000_000.0
MEMBERS = {"crv", "e", "kty", "n", "x", "y", "kid", "alg", "use"}


def es256(**options):
    return Key(ec.generate_private_key(ec.SECP256R1()), "ES256", **options)


def engine_of(ring, clock, **config):
    settings = Settings.from_config({"JWT_SECRET_KEY": SECRET, **config})
    return Engine(settings, Hooks(), ring, MemoryStore(clock=clock), clock, str)


async def token_of(engine, **more):

    key = await engine.signing_key("alice")
    return encode({}, {"jti": "1", "sub": "alice", "type": "access", **more}, key)


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
    with pytest.raises(ConfigurationError, match="not one of the signing keys"):
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
        (lambda ring: ring.retire("b"), "has no retention"),
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
    engine = engine_of(ring, clock)
    token = await token_of(engine)
    for _ in range(15):
        assert (await engine.decode(token))[1]["sub"] == "alice"
        clock.now += 1
    with pytest.raises(SignatureError):
        await engine.decode(token)
    clock.now -= 1
    assert await engine.decode(token)


@pytest.mark.anyio
async def test_a_given_ring_decides_on_algorithms_and_loaders_go_by_the_settings(clock):
    ring = KeyRing(es256())
    engine = engine_of(ring, clock, JWT_ALGORITHM="HS256")
    token = await token_of(engine)
    assert pyjwt.get_unverified_header(token)["alg"] == "ES256"
    assert await engine.decode(token)
    engine.hooks.register("decode_key", lambda header, claims: ring.signing, inline=True)
    with pytest.raises(JWTDecodeError, match="alg"):
        await engine.decode(token)


# -- loaders ------------------------------------------------------------------------------


class Source:
    """Keys that change, and how often they were asked for."""

    def __init__(self, *keys):
        self.keys = keys
        self.asked = 0
        self.problem = None
        self.delay = 0

    async def load(self):
        self.asked += 1
        await anyio.sleep(self.delay)
        if self.problem is not None:
            raise self.problem
        return self.keys


@pytest.mark.anyio
async def test_loaded_keys_are_read_at_first_use_and_again_when_due(clock):
    source = Source(es256(kid="1"))
    engine = engine_of(KeyRing(loaded_sign=True, loaded_secrets=True, load=source.load, refresh=60), clock)
    token = await token_of(engine)
    for _ in range(3):
        assert await engine.decode(token)
    assert source.asked == 1
    source.keys = (es256(kid="2"),)
    clock.now += 59
    assert await engine.decode(token)
    clock.now += 1
    with pytest.raises(SignatureError):
        await engine.decode(token)
    assert source.asked == 2
    assert (await engine.signing_key("alice")).kid == "2"


@pytest.mark.anyio
async def test_plain_loaders_run_in_a_thread(clock):

    ran = []

    def load():
        ran.append(threading.current_thread())
        return [es256()]

    assert await token_of(engine_of(KeyRing(loaded_sign=True, loaded_secrets=True, load=load), clock))
    assert ran != [threading.current_thread()]


@pytest.mark.anyio
async def test_an_unknown_key_id_is_looked_for_once_in_a_while_only(clock):
    mine, theirs = es256(kid="1"), es256(kid="2")
    source = Source(mine)
    engine = engine_of(KeyRing(loaded_sign=True, loaded_secrets=True, load=source.load, refresh=3600), clock)
    other = engine_of(KeyRing(theirs), clock)
    token, stranger = await token_of(other), await token_of(engine_of(KeyRing(es256(kid="x")), clock))
    await token_of(engine)
    clock.now += 10
    source.keys = (mine, theirs)
    assert await engine.decode(token)
    assert source.asked == 2
    for _ in range(1000):
        with pytest.raises(SignatureError):
            await engine.decode(stranger)
    assert source.asked == 2
    clock.now += 4.9
    with pytest.raises(SignatureError):
        await engine.decode(stranger)
    assert source.asked == 2
    clock.now += 0.1
    with pytest.raises(SignatureError):
        await engine.decode(stranger)
    assert source.asked == 3
    # A wrong signature under a known id, or no id at all, asks nobody.
    clock.now += 5
    forged = (await token_of(engine))[:-8] + "AAAAAAAA"
    for bad in (forged, pyjwt.encode({"sub": "a"}, "x" * 64, algorithm="HS256")):
        with pytest.raises(JWTDecodeError):
            await engine.decode(bad)
    assert source.asked == 3


@pytest.mark.anyio
@pytest.mark.parametrize("failure", [OSError("secret in the text"), "empty", "wrong"])
async def test_keys_stay_in_use_while_their_source_fails(clock, caplog, failure):
    source = Source(es256(kid="1"))
    engine = engine_of(KeyRing(loaded_sign=True, loaded_secrets=True, load=source.load, refresh=60), clock)
    token = await token_of(engine)
    good = source.keys
    source.problem = failure if isinstance(failure, Exception) else None
    source.keys = {"empty": (), "wrong": ("secret in the text",)}.get(failure, good)
    clock.now += 60
    with caplog.at_level(logging.ERROR, "async_jwt.keys"):
        for _ in range(10):
            assert await engine.decode(token)
    assert source.asked == 2
    assert [record.name for record in caplog.records] == ["async_jwt.keys"]
    assert "secret" not in caplog.text
    clock.now += 5
    assert await engine.decode(token)
    assert source.asked == 3
    # Set back, a clock does not keep the keys for ever.
    clock.now -= 1e6
    source.problem, source.keys = None, good
    assert await engine.decode(token)
    assert source.asked == 4


@pytest.mark.anyio
async def test_without_any_key_a_failing_source_is_an_error_each_time(clock):
    source = Source(es256())
    source.problem = OSError("secret in the text")
    engine = engine_of(KeyRing(loaded_sign=True, loaded_secrets=True, load=source.load), clock)
    for asked in (1, 2):
        with pytest.raises(HookError, match="OSError") as caught:
            await engine.decode("a.b.c")
        # Not even as what it was caused by: logs print that too.
        assert "secret" not in "".join(traceback.format_exception(caught.value))
        for _ in range(100):
            with pytest.raises(HookError):
                await engine.decode("a.b.c")
        assert source.asked == asked
        clock.now += 1
    source.problem = None
    assert await token_of(engine)


@pytest.mark.anyio
async def test_slow_sources_are_given_up(clock):
    async def load():
        await anyio.sleep(60)

    engine = engine_of(
        KeyRing(loaded_sign=True, loaded_secrets=True, load=load), clock, JWT_HOOK_TIMEOUT=0.01
    )
    with pytest.raises(HookError, match="HookTimeoutError"):
        await engine.active_keys()


@pytest.mark.anyio
async def test_one_request_asks_and_the_others_go_on(clock):
    source = Source(es256())
    engine = engine_of(KeyRing(loaded_sign=True, loaded_secrets=True, load=source.load, refresh=60), clock)
    token = await token_of(engine)
    clock.now += 60

    async def one():
        assert await engine.decode(token)

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(one)
    assert source.asked == 2


@pytest.mark.anyio
async def test_public_keys_of_a_loader_verify_only(clock):
    key = es256(kid="1")
    public = Key(key.public_jwk() and _public(key), "ES256", kid="1")
    engine = engine_of(KeyRing(loaded_sign=True, loaded_secrets=True, load=lambda: [public]), clock)
    token = await token_of(engine_of(KeyRing(key), clock))
    assert await engine.decode(token)
    with pytest.raises(ConfigurationError, match="no key to sign with"):
        await engine.signing_key("alice")
    with pytest.raises(ExpiredTokenError):
        await engine.decode(await token_of(engine_of(KeyRing(key), clock), exp=1))


def _public(key):
    return pyjwt.PyJWK(key.public_jwk()).key


@pytest.mark.anyio
async def test_what_did_not_change_stays_known(clock):
    pem = PRIVATE_PEMS["ES256"]
    ring = KeyRing(
        loaded_sign=True,
        loaded_secrets=True,
        load=lambda: [Key(pem, "ES256")],
        verification=[Key(SECRET)],
        refresh=60,
    )
    engine = engine_of(ring, clock)
    token, by_secret = await token_of(engine), await token_of(engine_of(KeyRing(Key(SECRET)), clock))
    assert await engine.decode(token)
    before, keys = ring.at(clock()), ring.keys
    clock.now += 60
    # The loader made new Key objects, and the further keys of the ring are still there.
    assert await engine.decode(token)
    assert await engine.decode(by_secret)
    assert ring.at(clock()) is before
    assert ring.keys == keys


@pytest.mark.anyio
async def test_everybody_waits_for_the_key_that_is_being_loaded(clock):
    mine, theirs = es256(kid="1"), es256(kid="2")
    source = Source(mine)
    engine = engine_of(KeyRing(loaded_sign=True, loaded_secrets=True, load=source.load, refresh=3600), clock)
    await token_of(engine)
    clock.now += 10
    token = await token_of(engine_of(KeyRing(theirs), clock))
    source.keys, source.delay = (mine, theirs), 0.05
    found = []

    async def one():
        found.append((await engine.decode(token))[1]["sub"])

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(one)
    assert found == ["alice"] * 10
    assert source.asked == 2


@pytest.mark.anyio
async def test_the_first_requests_share_one_load(clock):
    source = Source(es256())
    source.delay = 0.05
    engine = engine_of(KeyRing(loaded_sign=True, loaded_secrets=True, load=source.load), clock)
    made = []

    async def one():
        made.append(await token_of(engine))

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(one)
    assert (len(made), source.asked) == (10, 1)


@pytest.mark.anyio
async def test_a_source_that_hangs_holds_up_one_request_and_no_other_hook(clock):
    hold = threading.Event()
    calls = []

    def load():
        calls.append(1)
        if len(calls) > 1:
            hold.wait(10)
        return [es256(kid="1")]

    engine = engine_of(
        KeyRing(loaded_sign=True, loaded_secrets=True, load=load, refresh=60), clock, JWT_HOOK_TIMEOUT=0.2
    )
    token = await token_of(engine)
    try:
        for _ in range(3):
            clock.now += 60
            assert await engine.decode(token)
        assert len(calls) == 2  # one thread hangs, and no further ones are made
        engine.hooks.register("user_lookup", lambda header, claims: claims["sub"], inline=False)
        assert await engine.call_hook("user_lookup", {}, {"sub": "alice"}) == "alice"
    finally:
        hold.set()


def test_a_load_that_never_ends_is_given_up_and_what_it_says_later_is_thrown_away(clock):
    """As in a plain view's thread, where nothing can interrupt a loader."""
    ring = KeyRing(load=list, loaded_sign=True, refresh=60, clock=clock)
    hung = ring.claim_load(clock(), 5)
    assert ring.claim_load(clock(), 5) is None
    clock.now += 7
    second = ring.claim_load(clock(), 5)
    ring.replace([es256(kid="new")], clock(), second)
    ring.end_load(second)
    ring.replace([es256(kid="old")], clock(), hung)
    ring.end_load(hung)
    assert [key.kid for key in ring.keys] == ["new"]
    assert not ring.is_loading


def test_loads_that_hang_are_few(clock):
    ring = KeyRing(load=list, loaded_sign=True, refresh=60, clock=clock)
    claimed = []
    for _ in range(10):
        claimed.append(ring.claim_load(clock(), 5))
        clock.now += 60
    hung = [load for load in claimed if load is not None]
    assert len(hung) == 4
    ring.end_load(hung[0])
    assert ring.claim_load(clock(), 5) is not None


@pytest.mark.anyio
async def test_the_time_is_read_again_after_a_load(clock):
    key = es256(kid="1", accepted_until=clock() + 70)
    engine = engine_of(KeyRing([key, es256(kid="2")], clock=clock), clock)
    token = await token_of(engine)

    async def load():
        clock.now += 10
        return [key]

    ring = KeyRing(loaded_sign=True, loaded_secrets=True, load=load, refresh=60)
    engine = engine_of(ring, clock)
    assert await engine.decode(token)
    clock.now += 60
    with pytest.raises(SignatureError):
        await engine.decode(token)


@pytest.mark.parametrize("load", ["keys", 7, lambda: (yield es256())])
def test_a_loader_is_a_function_that_returns(load):
    with pytest.raises(ConfigurationError, match="load must be a function"):
        KeyRing(loaded_sign=True, loaded_secrets=True, load=load)


# -- threads ------------------------------------------------------------------------------


def test_a_thread_that_still_verifies_with_former_keys_leaves_nothing_behind(clock):
    """What it verified must not be found by those who know that the key was retired."""
    stolen = es256(kid="stolen")
    ring = KeyRing([stolen, es256(kid="new", signs_from=clock() - 1)], clock=clock)
    codec = Codec(Settings.from_config({}), ALGORITHMS)
    token = encode({}, {"jti": "1", "sub": "eve", "type": "access"}, stolen)
    verifying, go_on = threading.Event(), threading.Event()

    class Slow(Key):
        __slots__ = ()

        def verify(self, message, signature):
            verifying.set()
            go_on.wait(10)
            return super().verify(message, signature)

    slow = Slow(stolen._private, "ES256", "stolen")
    before = ActiveKeys(None, (slow,), 0, clock() + 1)
    thread = threading.Thread(target=lambda: codec.verify(token, before))
    thread.start()
    assert verifying.wait(10)
    ring.retire("stolen", after=0)
    for _ in range(2):
        with pytest.raises(SignatureError):
            codec.verify(token, ring.at(clock()))
        go_on.set()
        thread.join()


def test_many_threads_announce_and_none_is_lost():
    ring = KeyRing(Key(SECRET, kid="first"))
    threads = [
        threading.Thread(target=ring.announce, args=(Key(f"{n}" * 64, kid=str(n)),)) for n in range(1, 10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ring.keys) == 10


# -- rotations that were called off, clocks that go back ----------------------------------


def test_a_key_that_never_came_to_sign_ends_nobody(clock):
    current = es256(kid="a")
    ring = KeyRing(current, retention=60, clock=clock)
    ring.announce(es256(kid="leaked", signs_from=clock() + 100))
    ring.announce(es256(kid="dropped", signs_from=clock() + 200))
    ring.retire("leaked", after=0)
    ring.retire("dropped")
    for seconds in (0, 100, 160, 260, 1e6):
        keys = ring.at(clock() + seconds)
        assert (keys.signing, current in keys.accepted) == (current, True)
    short = es256(kid="b", signs_from=clock() + 10, accepted_until=clock() + 5)
    assert current in KeyRing([current, short], retention=1).at(clock() + 1e6).accepted


def test_a_key_whose_time_is_over_cannot_sign(clock):
    ring = KeyRing(es256(kid="a"), clock=clock)
    ring.announce(es256(kid="b"))
    ring.sign_with("b")
    ring.retire("a", after=0)
    with pytest.raises(ConfigurationError, match="no longer accepted"):
        ring.sign_with("a")
    assert ring.at(clock() + 1e6).signing.kid == "b"


def test_what_was_done_by_hand_is_not_undone_by_the_clock(clock):
    stolen = es256(kid="stolen")
    ring = KeyRing(stolen, clock=clock)
    ring.announce(es256(kid="new"))
    ring.sign_with("new")
    ring.retire("stolen", after=0)
    for seconds in (0, -1, -1e6):
        keys = ring.at(clock() + seconds)
        assert keys.signing.kid == "new"
        assert stolen not in keys.accepted
    assert ring.at(clock() - 5) is ring.at(clock() - 7)


def test_before_the_time_of_all_keys_the_earliest_signs():
    """A folder whose only key was just put there."""
    ring = KeyRing([es256(kid="2", signs_from=NOW + 20), es256(kid="1", signs_from=NOW + 10)])
    assert [ring.at(NOW + seconds).signing.kid for seconds in (0, 10, 20)] == ["1", "1", "2"]


# -- ids ----------------------------------------------------------------------------------


def test_retiring_an_id_retires_all_keys_that_bear_it(clock):
    both = [Key(SECRET, "HS256", kid="k"), Key(SECRET, "HS512", kid="k")]
    ring = KeyRing(es256(kid="new"), both, clock=clock)
    ring.retire("k", after=0)
    assert [key.kid for key in ring.at(clock()).accepted] == ["new"]
    ring = KeyRing(Key(SECRET), [Key("y" * 64)])
    with pytest.raises(ConfigurationError, match="No key"):
        ring.retire(None, after=0)


def test_a_retired_key_is_not_accepted_under_another_id(clock):
    named = es256(kid="a")
    ring = KeyRing([es256(kid="n"), named], [Key(_public(named), "ES256")], clock=clock)
    assert len(ring.keys) == 2
    ring.retire("a", after=0)
    keys = ring.at(clock())
    assert not {named} & {*keys.candidates("ES256", "a"), *keys.candidates("ES256", None)}


def test_named_and_unnamed_keys_of_one_id_are_a_mistake():
    key = es256()
    with pytest.raises(ConfigurationError, match="Two keys"):
        KeyRing(key, [es256(kid=key.kid)])


@pytest.mark.anyio
async def test_a_key_of_another_issuer_makes_tokens_of_that_issuer_alone(clock):
    theirs = Key(PRIVATE_PEMS["ES256"], "ES256", issuer="https://login.example/")
    own = es256(kid="own")
    engine = engine_of(KeyRing(own, [theirs]), clock, JWT_DECODE_ISSUER={"me", "https://login.example/"})
    for key, issuer, accepted in [
        (theirs, "https://login.example/", True),
        (theirs, "me", False),
        (theirs, None, False),
        (own, "me", True),
    ]:
        token = encode({}, {"jti": "1", "sub": "a", "type": "access", "iss": issuer or "me"}, key)
        if issuer is None:
            token = encode({}, {"jti": "1", "sub": "a", "type": "access"}, key)
        if accepted:
            assert await engine.decode(token)
        else:
            with pytest.raises(IssuerError):
                await engine.decode(token)
    for wrong in ("", 7):
        with pytest.raises(ConfigurationError, match="issuer"):
            Key(SECRET, issuer=wrong)


def test_the_settings_ring_is_not_for_acts_by_hand():
    ring = ring_of(Settings.from_config({"JWT_SECRET_KEY": SECRET}))
    for act in (
        lambda: ring.announce(es256()),
        lambda: ring.sign_with("a"),
        lambda: ring.retire("a", after=0),
    ):
        with pytest.raises(ConfigurationError, match="ring of your own"):
            act()


def test_one_key_for_several_algorithms_is_published_once():
    config = {
        "JWT_ALGORITHM": "RS256",
        "JWT_DECODE_ALGORITHMS": ["PS256"],
        "JWT_PRIVATE_KEY": PRIVATE["RS256"],
    }
    ring = ring_of(Settings.from_config(config))
    assert [jwk["alg"] for jwk in ring.jwks()["keys"]] == ["RS256"]


# -- nothing quotes a key -----------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda pem: Key("ES256", pem),
        lambda pem: Key(SECRET, SECRET),
        lambda pem: Key.from_file(pem, "ES256"),
        lambda pem: Key.from_file(SECRET, "HS256"),
        lambda pem: Key.from_env(pem, "ES256"),
        lambda pem: Key(pem[:-50], "ES256"),
        lambda pem: Key(pem, "RS256"),
        lambda pem: Key(pem + "\ud800", "ES256"),
        lambda pem: Key(pem, "ES256", password="\ud800"),
        lambda pem: Key(pem, ["ES256"]),
        lambda pem: Key.from_file("a\0b"),
        lambda pem: Key.from_file(7),
        lambda pem: Key(pem, "ES256", signs_from=10**400),
    ],
)
def test_mistakes_quote_no_key_and_are_configuration_errors(make):
    pem = PRIVATE_PEMS["ES256"]
    with pytest.raises(ConfigurationError) as caught:
        make(pem)
    shown = "".join(traceback.TracebackException.from_exception(caught.value).format_exception_only())
    error = caught.value
    while error is not None:
        shown += repr(error)
        error = error.__context__
    for secret in (*pem.splitlines()[1:-1], SECRET):
        assert secret not in shown


def test_environment_variables_may_hold_any_bytes(monkeypatch):
    monkeypatch.setenv("SIGNING_KEY", os.fsdecode(b"\xff" * 40))
    assert Key.from_env("SIGNING_KEY").sign(b"m") == Key(b"\xff" * 40).sign(b"m")


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
        "base64 of PEM": base64.b64encode(pem.encode()),
        "base64url of DER": base64.urlsafe_b64encode(der).rstrip(b"="),
        "hex of DER": der.hex(),
        "base64 of JWK": base64.b64encode(jwk.encode()),
        "PEM without its first line": pem.partition("\n")[2],
        "PEM with escaped line breaks": pem.replace("\n", "\\n"),
        "base64 with escaped line breaks": "\\n".join(pem.splitlines()[1:-1]),
        "base64 of ssh": base64.b64encode(ssh),
        "ecdsa ssh": b"ecdsa-sha2-nistp256 AAAA",
        "certificate": trustme.CA().cert_pem.bytes(),
        "base64 of a certificate": "".join(trustme.CA().cert_pem.bytes().decode().splitlines()[1:-1]),
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


def test_a_ring_has_one_source_of_signing_keys(clock):
    with pytest.raises(ConfigurationError, match="loaded_sign=True cannot be combined with signing keys"):
        KeyRing(es256(kid="own"), load=list, loaded_sign=True)


@pytest.mark.anyio
async def test_loaded_secrets_are_refused_unless_they_are_accepted_aloud(clock):
    """Whoever can write to where keys are loaded from could choose a secret that he knows."""
    secret = Key(SECRET, "HS256", kid="loaded")
    token = await token_of(engine_of(KeyRing(secret), clock))
    own = es256(kid="own")
    with pytest.raises(SignatureError):
        await engine_of(KeyRing(own, load=lambda: [secret]), clock).decode(token)
    ring = KeyRing(own, load=lambda: [secret], loaded_secrets=True)
    assert await engine_of(ring, clock).decode(token)
