"""Making and reading tokens."""

from __future__ import annotations

import datetime as dt
import uuid

import jwt as pyjwt
import pytest

from async_jwt import Key, KeyRing
from async_jwt.errors import (
    AudienceError,
    ConfigurationError,
    CSRFError,
    ExpiredTokenError,
    HookError,
    IssuerError,
    JWTDecodeError,
    MissingClaimError,
)
from tests.harness import SECRET

pytestmark = pytest.mark.asyncio


def read(token):
    return pyjwt.decode(token, options={"verify_signature": False})


async def test_claims_of_an_access_token(harness, clock):
    h = harness(clock=clock)
    claims = read(await h.mint())
    now = int(clock.now)
    assert claims == {
        "fresh": False,
        "iat": now,
        "nbf": now,
        "exp": now + 900,
        "type": "access",
        "sub": "alice",
        "gen": "m.0.0",
        "jti": claims["jti"],
        "csrf": claims["csrf"],
    }
    assert uuid.UUID(claims["jti"])
    assert uuid.UUID(claims["csrf"])


async def test_a_pair_shares_one_session(harness):
    h = harness()
    pair = await h.jwt.create_token_pair("alice", fresh=True, additional_claims={"role": "admin"})
    access, refresh = read(pair.access_token), read(pair.refresh_token)
    assert access["sid"] == refresh["sid"] == pair.sid
    assert (access["type"], refresh["type"]) == ("access", "refresh")
    assert (access["fresh"], refresh["fresh"]) == (True, False)
    assert access["role"] == refresh["role"] == "admin"
    assert pair.access_token not in repr(pair)


async def test_a_new_access_token_inherits_its_requests_session(harness):
    h = harness()

    @h.api.jwt_required(refresh=True)
    async def refresh():
        own = await h.api.create_access_token(h.api.get_jwt_identity())
        other = await h.api.create_access_token("bob")
        return {"own": read(own).get("sid"), "other": read(other).get("sid")}

    h.view("/new", refresh)
    pair = await h.jwt.create_token_pair("alice")
    assert (await h.call("/new", token=pair.refresh_token)).json == {"own": pair.sid, "other": None}


async def test_lifetimes(harness, clock):
    h = harness({"JWT_REFRESH_TOKEN_EXPIRES": 60}, clock=clock)
    now = int(clock.now)
    assert read(await h.mint_refresh())["exp"] == now + 60
    assert read(await h.mint(expires_delta=dt.timedelta(hours=1)))["exp"] == now + 3600
    assert read(await h.mint(expires_delta=30))["exp"] == now + 30
    assert "exp" not in read(await h.mint(expires_delta=False))

    class Month:
        def __radd__(self, other):
            return other + dt.timedelta(days=31)

    assert read(await h.mint(expires_delta=Month()))["exp"] == now + 31 * 86400
    for wrong in (0, dt.timedelta(0), "soon", True):
        with pytest.raises(ValueError, match="expires_delta"):
            await h.mint(expires_delta=wrong)


async def test_under_compat_zero_is_never(harness):
    h = harness({"JWT_COMPAT": "flask-jwt-extended", "JWT_ACCESS_TOKEN_EXPIRES": 0})
    assert "exp" not in read(await h.mint())
    for zero in (0, dt.timedelta(0)):
        assert "exp" not in read(await h.mint(expires_delta=zero))
    token = await h.mint(7)  # refused only when it is read, as there
    assert (await h.call(token=token)).status == 422


async def test_expired_at_the_same_instant_cached_or_not(harness, clock):
    for size in (0, 1024):
        h = harness({"JWT_TOKEN_CACHE_SIZE": size}, clock=clock)
        token = await h.mint()
        start = clock.now
        for _ in range(2):
            assert (await h.call(token=token)).status == 200
        clock.now = start + 899.999
        assert (await h.call(token=token)).status == 200
        clock.now = start + 900
        assert (await h.call(token=token)).code == "token_expired"
        clock.now = start - 10.5
        assert (await h.call(token=token)).code == "token_immature"
        clock.now = start


async def test_additional_claims_override_everything_the_call_over_the_loader(harness):
    h = harness()

    @h.jwt.additional_claims_loader
    async def claims(identity):
        return {"role": "user", "team": identity, "nbf": None}

    @h.jwt.additional_headers_loader
    async def headers(identity):
        return {"by": "loader", "typ": None}

    token = await h.mint(
        additional_claims={"role": "admin", "exp": dt.datetime(2100, 1, 1, tzinfo=dt.UTC)},
        additional_headers={"by": "call", "alg": "none"},
    )
    found = read(token)
    assert (found["role"], found["team"]) == ("admin", "alice")
    assert found["exp"] == 4102444800
    assert "nbf" not in found
    assert pyjwt.get_unverified_header(token) == {"alg": "HS256", "by": "call"}
    assert (await h.call(token=token)).status == 200


async def test_values_of_the_applications_json(harness):
    h = harness()
    identity = uuid.uuid4()
    token = await h.mint(identity, additional_claims={"day": dt.date(2026, 1, 2), "id": identity})
    answer = await h.call(token=token)
    assert answer.json["identity"] == str(identity)
    assert answer.json["claims"]["id"] == str(identity)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"identity": 7}, "user_identity_loader"),
        ({"identity": None}, "Subject must be a string"),
        ({"identity": "a", "additional_claims": {"jti": 5}}, "JWT ID"),
        ({"identity": "a", "additional_claims": {"exp": "soon"}}, "exp"),
        ({"identity": "a", "additional_claims": {"type": None}}, "Type claim"),
        ({"identity": "a", "additional_claims": {"aud": [1]}}, "claim format"),
        ({"identity": "a", "additional_claims": {"iss": 1}}, "Issuer"),
        ({"identity": "a", "additional_claims": {"big": "x" * 9000}}, "8192"),
        ({"identity": "a", "additional_headers": {"crit": ["exp"]}}, "critical"),
        ({"identity": "\ud800"}, "UTF-8"),
        ({"identity": "a", "additional_claims": {"x": float("nan")}}, "Out of range"),
    ],
)
async def test_a_token_that_would_not_be_accepted_is_not_made(harness, options, text):
    h = harness()
    with pytest.raises(ValueError, match=text):
        await h.jwt.create_access_token(**options)


async def test_deep_claims_are_not_made(harness):
    deep = []
    for _ in range(70):
        deep = [deep]
    with pytest.raises(ValueError, match="nested too deeply"):
        await harness().mint(additional_claims={"deep": deep})


async def test_unserialisable_values_are_type_errors(harness):
    h = harness()
    with pytest.raises(TypeError, match="user_identity_loader"):
        await h.mint(object())
    with pytest.raises(TypeError):
        await h.mint(additional_claims={"what": object()})


async def test_identity_none_with_sub_in_the_claims(harness):
    h = harness()
    h.jwt.user_identity_loader(lambda identity: None)
    token = await h.mint(additional_claims={"sub": "carol"})
    assert (await h.call(token=token)).json["identity"] == "carol"


async def test_other_identity_claim_may_be_any_json(harness):
    h = harness({"JWT_IDENTITY_CLAIM": "who"})
    token = await h.mint({"id": [1, 2]})
    assert (await h.call(token=token)).json["identity"] == {"id": [1, 2]}
    await h.jwt.revoke_user({"id": [1, 2]})
    assert (await h.call(token=token)).code == "token_revoked"


@pytest.mark.parametrize("kind", ["", "access", "refresh"])
async def test_purpose_tokens_need_a_purpose(harness, kind):
    h = harness()
    with pytest.raises(ValueError, match="purpose"):
        await h.jwt.create_token("alice", type=kind)


async def test_a_purpose_token_is_no_access_token_whatever_its_claims_say(harness):
    """Under the preset, where any type but "refresh" is one; and whichever service made it."""
    compat = {"JWT_COMPAT": "flask-jwt-extended"}
    h = harness(compat)
    h.jwt.additional_claims_loader(lambda _identity: {"purpose": "web"})
    tokens = [
        await h.jwt.create_token("alice", type="reset"),
        await h.jwt.create_token("alice", type="reset", additional_claims={"purpose": "password"}),
        await h.jwt.create_token("alice", type="reset", additional_claims={"async_jwt_purpose": False}),
        await harness().jwt.create_token("alice", type="reset"),
    ]
    for token in tokens:
        assert (await h.call(token=token)).status == 422
    assert (await h.call(token=await h.mint())).status == 200


async def test_decode_token(harness, clock):
    h = harness(clock=clock)
    token = await h.mint()
    claims = read(token)
    assert await h.jwt.decode_token(token) == claims
    assert await h.jwt.decode_token(token, csrf_value=claims["csrf"]) == claims
    for wrong in ("other", ""):
        with pytest.raises(CSRFError):
            await h.jwt.decode_token(token, csrf_value=wrong)
    assert await h.jwt.get_jti(token) == claims["jti"]
    assert await h.jwt.get_csrf_token(token) == claims["csrf"]
    clock.now += 3600
    with pytest.raises(pyjwt.ExpiredSignatureError) as caught:
        await h.jwt.decode_token(token)
    assert isinstance(caught.value, ExpiredTokenError)
    assert caught.value.jwt_data == claims
    assert (await h.jwt.decode_token(token, allow_expired=True))["sub"] == "alice"


async def test_decoded_claims_are_the_callers_own(harness):
    h = harness()
    token = await h.mint(additional_claims={"roles": ["a"]})
    (await h.jwt.decode_token(token))["roles"].append("b")
    assert (await h.jwt.decode_token(token))["roles"] == ["a"]


async def test_functions_work_in_an_app_context(harness):
    h = harness()
    async with h.context():
        api = h.api
        token = await api.create_access_token("alice")
        assert (await api.decode_token(token))["sub"] == "alice"
        assert api.get_unverified_jwt_headers(token) == {"typ": "JWT", "alg": "HS256"}
        with pytest.raises(JWTDecodeError):
            api.get_unverified_jwt_headers("no token")
        refresh = await api.create_refresh_token("alice")
        assert (await api.decode_token(refresh))["type"] == "refresh"
        reset = await api.create_token("alice", type="reset")
        assert (await api.decode_token(reset))["type"] == "reset"
        assert (await api.create_token_pair("alice")).sid


async def test_tokens_without_nbf_or_csrf(harness):
    claims = read(await harness({"JWT_ENCODE_NBF": False, "JWT_COOKIE_CSRF_PROTECT": False}).mint())
    assert not {"nbf", "csrf"} & set(claims)


async def test_a_claim_set_without_the_identity(harness):
    h = harness()
    foreign = pyjwt.encode({"type": "access"}, SECRET, algorithm="HS256")
    with pytest.raises(MissingClaimError) as caught:
        await h.jwt.decode_token(foreign)
    assert caught.value.claim == "sub"
    with pytest.raises(JWTDecodeError):
        await h.jwt.decode_token(["no text"])


async def test_audience_and_issuer(harness):
    h = harness(
        {
            "JWT_ENCODE_AUDIENCE": ["web", "app"],
            "JWT_DECODE_AUDIENCE": "web",
            "JWT_ENCODE_ISSUER": "urn:us",
            "JWT_DECODE_ISSUER": ["urn:us", "urn:them"],
        }
    )
    assert (await h.call(token=await h.mint())).status == 200
    other = harness(
        {"JWT_DECODE_AUDIENCE": None, "JWT_ENCODE_AUDIENCE": "other", "JWT_ENCODE_ISSUER": "urn:us"}
    )
    for claims, error in (
        ({"aud": "other"}, AudienceError),
        ({"aud": None}, MissingClaimError),
        ({"aud": []}, MissingClaimError),
        ({"iss": "urn:"}, IssuerError),
        ({"iss": None}, MissingClaimError),
    ):
        if "aud" in claims:
            with pytest.raises(ValueError, match="would not be accepted"):
                await h.mint(additional_claims=claims)
        other.app.config["JWT_ENCODE_AUDIENCE"] = claims.get("aud", "web") or None
        token = await (other if "aud" in claims else h).mint(additional_claims=claims)
        with pytest.raises(error):
            await h.jwt.decode_token(token)
        assert (await h.call(token=token)).status == 401


async def test_an_issuer_is_not_matched_in_part(harness):
    h = harness({"JWT_DECODE_ISSUER": "urn:expected"})
    token = await h.mint(additional_claims={"iss": "urn:"})
    assert (await h.call(token=token)).code == "issuer_invalid"


async def test_foreign_tokens_without_our_claims(harness):
    foreign = pyjwt.encode({"sub": "eve"}, SECRET, algorithm="HS256")
    assert (await harness().call(token=foreign)).code == "claim_missing"
    h = harness({"JWT_REQUIRE_TYPE": False})
    assert (await h.call(token=foreign)).code == "claim_missing"
    h = harness({"JWT_REQUIRE_TYPE": False, "JWT_REQUIRE_JTI": False})
    answer = await h.call(token=foreign)
    assert answer.status == 200
    assert answer.json["claims"] == {"sub": "eve", "type": "access", "fresh": False, "jti": None}
    with pytest.raises(ValueError, match="jti"):
        await h.jwt.revoke_token(foreign)


@pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt", "application/at+jwt", None])
async def test_accepted_typ(harness, typ):
    h = harness()
    assert (await h.call(token=await h.mint(additional_headers={"typ": typ}))).status == 200


async def test_other_typ_is_refused_unless_accepted(harness):
    h = harness()
    token = await harness({"JWT_ACCEPT_TYP": None}).mint(additional_headers={"typ": "secevent+jwt"})
    assert (await h.call(token=token)).code == "token_invalid"
    for accepted in (None, ["secevent+jwt"]):
        assert (await harness({"JWT_ACCEPT_TYP": accepted}).call(token=token)).status == 200


async def test_key_ring_with_key_ids(harness):
    old, new = Key("o" * 32, kid="old"), Key("n" * 32, kid="new")
    before = harness(keys=KeyRing(old))
    h = harness(keys=KeyRing(new, [old]))
    assert h.jwt.keys.signing is new
    for token in (await before.mint(), await h.mint()):
        assert (await h.call(token=token)).status == 200
    assert (await before.call(token=await h.mint())).status == 401
    assert pyjwt.get_unverified_header(await h.mint())["kid"] == "new"


async def test_secret_key_and_its_fallbacks(harness):
    keys = {"JWT_SECRET_KEY": None, "SECRET_KEY": "n" * 64, "SECRET_KEY_FALLBACKS": ["o" * 64]}
    h = harness(keys)
    old = await harness({"JWT_SECRET_KEY": "o" * 64}).mint()
    assert (await h.call(token=old)).status == 200
    pyjwt.decode(await h.mint(), "n" * 64, algorithms=["HS256"])


async def test_loaders_choose_keys_per_token(harness):
    secrets = {"a": "a" * 64, "b": "b" * 64}
    h = harness()

    @h.jwt.encode_key_loader
    async def encode_key(identity):
        return secrets[identity]

    @h.jwt.decode_key_loader
    async def decode_key(header, claims):
        claims.clear()
        header["kid"] = "changed"
        return secrets["a"]

    token = await h.mint("a")
    for _ in range(2):
        answer = await h.call(token=token)
        assert answer.json["identity"] == "a"
        assert "kid" not in answer.json["header"]
    assert (await h.call(token=await h.mint("b"))).code == "token_invalid"


async def test_loaders_may_return_keys_of_any_kind(harness):
    from tests.harness.keys import PRIVATE, PUBLIC_PEMS

    h = harness({"JWT_ALGORITHM": "ES256", "JWT_DECODE_ALGORITHMS": ["HS256"]})
    private = PRIVATE["ES256"]
    h.jwt.encode_key_loader(lambda identity: private)
    token = await h.mint()
    for material in (Key(PUBLIC_PEMS["ES256"], "ES256"), private.public_key(), PUBLIC_PEMS["ES256"]):
        h.jwt.decode_key_loader(lambda header, claims, material=material: material)
        for _ in range(2):
            assert (await h.call(token=token)).status == 200
    h.jwt.decode_key_loader(lambda header, claims: SECRET)
    assert (await h.call(token=token)).code == "token_invalid"
    h.jwt.decode_key_loader(lambda header, claims: "short")
    assert (await h.call(token=token)).code == "hook_error"
    h.jwt.encode_key_loader(lambda identity: PUBLIC_PEMS["ES256"])
    with pytest.raises(HookError, match="cannot sign"):
        await h.mint()


async def test_many_loaded_keys_are_not_kept_for_ever(harness):
    h = harness()
    h.jwt.encode_key_loader(lambda identity: identity * 40)
    for number in range(100, 200):
        await h.mint(str(number))
    assert len(h.app.extensions["async_jwt"].engine()._loaded) <= 64


async def test_a_remembered_token_needs_the_same_key(harness):
    h = harness()
    chosen = [SECRET]
    h.jwt.decode_key_loader(shaped := (lambda header, claims: chosen[0]))
    token = await h.mint()
    assert (await h.call(token=token)).status == 200
    chosen[0] = "another secret that is long enough to be one, for certain it is"
    assert (await h.call(token=token)).status == 401
    assert shaped is not None


async def test_changed_settings_forget_remembered_tokens(harness):
    h = harness()
    token = await h.mint()
    assert (await h.call(token=token)).status == 200
    h.app.config["JWT_SECRET_KEY"] = "q" * 64
    assert (await h.call(token=token)).status == 401


async def test_the_times_of_a_key_that_a_loader_returns_hold(harness, clock):
    h = harness(clock=clock)
    key = Key(SECRET, "HS256", signs_from=clock.now + 10, accepted_until=clock.now + 60)
    h.jwt.encode_key_loader(lambda identity: key)
    h.jwt.decode_key_loader(lambda header, claims: key)
    with pytest.raises(HookError, match="cannot sign now"):
        await h.mint()
    clock.now += 10
    token = await h.mint()
    assert (await h.call(token=token)).status == 200
    clock.now += 50
    assert (await h.call(token=token)).code == "token_invalid"
    with pytest.raises(HookError, match="cannot sign now"):
        await h.mint()


# -- strict for our own tokens -------------------------------------------------------------


async def test_an_audience_that_no_setting_names_is_refused(harness):
    h = harness()
    foreign = await harness({"JWT_ENCODE_AUDIENCE": "shop"}).mint()
    assert (await h.call(token=foreign)).code == "audience_invalid"
    with pytest.raises(ValueError, match="JWT_DECODE_AUDIENCE"):
        await h.mint(additional_claims={"aud": "shop"})
    h.app.config["JWT_DECODE_AUDIENCE"] = ["shop"]
    assert (await h.call(token=foreign)).status == 200
    with pytest.raises(ValueError, match="Set JWT_ENCODE_AUDIENCE"):
        await h.mint()
    assert (await harness({"JWT_COMPAT": "flask-jwt-extended"}).call(token=foreign)).status == 200


async def test_the_accepted_audience_follows_the_own_one(harness):
    h = harness({"JWT_ENCODE_AUDIENCE": ["web", "app"]})
    assert (await h.call(token=await h.mint())).status == 200
    assert (await h.call(token=await harness({"JWT_ENCODE_AUDIENCE": "app"}).mint())).status == 200
    assert (await h.call(token=await harness().mint())).code == "claim_missing"
    with pytest.raises(ConfigurationError, match="JWT_DECODE_AUDIENCE names no audience"):
        harness({"JWT_ENCODE_AUDIENCE": ["web"], "JWT_DECODE_AUDIENCE": "app"})


async def test_a_refused_audience_is_logged_once(harness, caplog):
    h = harness()
    foreign = await harness({"JWT_ENCODE_AUDIENCE": "shop"}).mint()
    for _ in range(3):
        await h.call(token=foreign)
    told = [record for record in caplog.records if getattr(record, "event", "") == "audience_refused"]
    assert [record.levelname for record in told] == ["WARNING"]
    assert "JWT_DECODE_AUDIENCE" in told[0].getMessage()


@pytest.mark.parametrize("jti", [None, ""])
async def test_what_cannot_be_revoked_alone_is_not_accepted(harness, jti):
    h = harness()
    claims = {"sub": "alice", "type": "access", **({} if jti is None else {"jti": jti})}
    token = pyjwt.encode(claims, SECRET, algorithm="HS256")
    assert (await h.call(token=token)).code == "claim_missing"
    with pytest.raises(ValueError, match="would not be accepted"):
        await h.mint(additional_claims={"jti": jti})
    h.app.config["JWT_REQUIRE_JTI"] = False
    assert (await h.call(token=token)).status == 200
    assert (await harness({"JWT_COMPAT": "flask-jwt-extended"}).call(token=token)).status == 200


async def test_keys_of_others_keep_their_ways(harness):
    claims = {"sub": "alice", "type": "access", "aud": "them", "iss": "https://them.example/"}
    token = pyjwt.encode(claims, SECRET, algorithm="HS256")
    bound = Key(SECRET, issuer="https://them.example/")
    own = Key("o" * 32)
    for keys in (KeyRing(own, [bound]), KeyRing(own, load=lambda: [Key(SECRET)], loaded_secrets=True)):
        assert (await harness(keys=keys).call(token=token)).status == 200
    h = harness()
    h.jwt.decode_key_loader(lambda header, claims: SECRET)
    assert (await h.call(token=token)).status == 200
    assert (await harness(keys=KeyRing(own, [Key(SECRET)])).call(token=token)).status == 401


PROFILE = {
    "JWT_TOKEN_PROFILE": "rfc9068",
    "JWT_ENCODE_ISSUER": "https://us.example",
    "JWT_ENCODE_AUDIENCE": "api",
    "JWT_TOKEN_CLIENT_ID": "web",
}


async def test_access_tokens_of_rfc_9068(harness):
    h = harness(PROFILE)
    token = await h.mint()
    assert pyjwt.get_unverified_header(token)["typ"] == "at+jwt"
    assert {"iss", "exp", "aud", "sub", "client_id", "iat", "jti"} <= read(token).keys()
    assert read(token)["client_id"] == "web"
    assert read(await h.mint(additional_claims={"client_id": "app"}))["client_id"] == "app"
    assert (await h.call(token=token)).status == 200
    refresh = await h.mint_refresh()
    assert pyjwt.get_unverified_header(refresh)["typ"] == "JWT"
    assert "client_id" not in read(refresh)
    for name in ("client_id", "exp"):
        claims = {"client_id": ""} if name == "client_id" else {}
        with pytest.raises(ValueError, match=name):
            await h.mint(additional_claims=claims, expires_delta=False if name == "exp" else None)


@pytest.mark.parametrize("missing", [key for key in PROFILE if key != "JWT_TOKEN_PROFILE"])
async def test_the_profile_needs_its_settings(harness, missing):
    with pytest.raises(ConfigurationError, match=f"{missing} .*RFC 9068"):
        harness({key: value for key, value in PROFILE.items() if key != missing})
