"""Access tokens of other issuers: accepted as they should be, and nothing else, in each framework."""

from __future__ import annotations

import json
import time

import jwt as pyjwt
import pytest

from async_jwt import Key, KeyRing
from async_jwt.errors import ConfigurationError, JWTDecodeError
from async_jwt.issuers import Issuer, IssuerIdentity
from async_jwt.signals import token_refused, token_revoked
from async_jwt.stores import MemoryStore
from tests.harness import SECRET
from tests.harness.applications import NEEDS_QUART, however_it_runs, on_a_servers_loop, on_both_kinds
from tests.harness.keys import PRIVATE, PUBLIC_PEMS
from tests.harness.providers import JWKS, OPENID, Provider

pytestmark = pytest.mark.asyncio

PERMISSIONS = "https://acme.dev/perms"


@pytest.fixture
def provider():
    provider = Provider()
    yield provider
    provider.stop()


@pytest.fixture
def other():
    other = Provider()
    yield other
    other.stop()


def accepting(harness, *providers, config=None, **options):
    issuers = [Issuer(provider.url, **{"audience": "api", **options}) for provider in providers]
    return harness({"JWT_SECRET_KEY": None, **(config or {})}, issuers=issuers)


async def outcome(h, token, path="/me", **options):
    answer = await h.call(path, token=token, **options)
    return answer.status if answer.status == 200 else answer.code


# -- what is accepted ----------------------------------------------------------------------


@however_it_runs
async def test_a_token_names_its_user_and_its_issuer(harness, provider):
    h = accepting(harness, provider)
    found = []

    @h.jwt.user_lookup_loader
    async def load(header, claims):
        return {"who": claims["sub"], "at": claims["iss"]}

    @h.api.jwt_required()
    async def whose():
        identity = h.api.get_jwt_identity()
        found.append((identity, identity.issuer, h.api.current_auth().issuer))
        return {}

    h.view("/whose", whose)
    for _ in range(3):
        answer = await h.call(token=provider.token())
        assert answer.status == 200
        assert answer.json["identity"] == "u-1"
        assert answer.json["user"] == {"who": "u-1", "at": provider.url}
    assert (await h.call("/whose", token=provider.token())).status == 200
    assert found == [(IssuerIdentity("u-1", issuer=provider.url), provider.url, provider.url)]
    assert provider.asked == [OPENID, JWKS]


@however_it_runs
async def test_scopes_and_roles_are_where_the_issuer_has_them(harness, provider, other):
    h = harness(
        {"JWT_SECRET_KEY": SECRET},
        issuers=[
            Issuer(
                provider.url, audience="api", scopes="https://acme.dev/perms", roles=("a", "b.c", "roles")
            ),
            Issuer(other.url, audience="api"),
        ],
    )
    h.jwt.scopes_imply({"all": "read"})

    async def view():
        return {}

    for path, demands in (("/scopes", {"scopes": "read"}), ("/roles", {"roles": "admin"})):
        h.view(path, h.api.jwt_required(**demands)(view))
    for claims, status in (
        ({PERMISSIONS: "read write"}, 200),
        ({PERMISSIONS: ["all"]}, 200),
        ({PERMISSIONS: "reader", "scope": "read"}, "insufficient_scope"),
        ({"scope": "read"}, "insufficient_scope"),
    ):
        assert await outcome(h, provider.token(**claims), "/scopes") == status
    for claims, status in (
        ({"a": {"b.c": {"roles": {"admin": {"org": "1"}}}}}, 200),
        ({"a": {"b.c": {"roles": ["admin"]}}}, 200),
        ({"a": {"b": {"c": {"roles": ["admin"]}}}}, "permission_denied"),
        ({"a": ["b.c"], "roles": ["admin"]}, "permission_denied"),
    ):
        assert await outcome(h, provider.token(**claims), "/roles") == status
    assert await outcome(h, other.token(scp=["read"]), "/scopes") == 200
    listed = harness({"JWT_ISSUERS": {other.url: {"audience": "api", "roles": ["realm_access", "roles"]}}})
    listed.view("/roles", listed.api.jwt_required(roles="admin")(view))
    assert await outcome(listed, other.token(realm_access={"roles": ["admin"]}), "/roles") == 200
    assert await outcome(h, other.token(scope="x", scp="read"), "/scopes") == "insufficient_scope"
    assert await outcome(h, other.token(roles="admin"), "/roles") == 200
    assert await outcome(h, await h.mint(scopes="read", roles="admin"), "/roles") == 200


@however_it_runs
async def test_an_application_that_only_accepts_needs_no_secret(harness, provider):
    h = accepting(harness, provider)
    assert await outcome(h, provider.token()) == 200
    assert (
        await outcome(h, pyjwt.encode({"sub": "a", "type": "access", "jti": "1"}, SECRET)) == "token_invalid"
    )
    with pytest.raises(ConfigurationError, match="no key to sign with"):
        await h.mint()


@however_it_runs
async def test_own_tokens_go_on_beside_them(harness, provider):
    h = accepting(harness, provider, config={"JWT_SECRET_KEY": SECRET})
    own = await h.mint()
    for _ in range(2):
        assert await outcome(h, own) == 200
        assert await outcome(h, provider.token()) == 200
    async with h.context():
        assert (await h.jwt.decode_token(provider.token()))["sub"] == "u-1"


@on_both_kinds
async def test_keys_that_a_loader_chooses_verify_what_no_issuer_made(harness, provider):
    h = accepting(harness, provider)
    h.jwt.decode_key_loader(lambda header, claims: SECRET)
    assert await outcome(h, provider.token()) == 200
    bare = {"sub": "a", "type": "access"}
    assert await outcome(h, pyjwt.encode(bare, SECRET)) == 200
    assert await outcome(h, pyjwt.encode({**bare, "iss": provider.url}, SECRET)) == "token_invalid"


@on_both_kinds
async def test_issuers_come_from_settings_too(harness, provider, other):
    given = {provider.url: {"audience": "api"}, other.url: {"clients": ["web"], "preset": "hydra"}}
    h = harness({"JWT_SECRET_KEY": None, "JWT_ISSUERS": given})
    assert await outcome(h, provider.token()) == 200
    assert await outcome(h, other.token(client_id="web", aud=None)) == 200
    assert await outcome(h, other.token(client_id="app")) == "audience_invalid"
    h.app.config["JWT_ISSUERS"] = {other.url: {"audience": "api"}}
    assert await outcome(h, other.token()) == 200
    assert await outcome(h, provider.token()) != 200


@on_both_kinds
async def test_a_changed_setting_keeps_the_keys_that_are_known(harness, provider):
    h = harness({"JWT_SECRET_KEY": None, "JWT_ISSUERS": {provider.url: {"audience": "api"}}})
    assert await outcome(h, provider.token()) == 200
    provider.fail()
    h.app.config["JWT_ERROR_MESSAGE_KEY"] = "message"
    assert await outcome(h, provider.token()) == 200
    assert provider.fetches == 1
    h.app.config["JWT_ISSUERS"][provider.url]["audience"] = "others"
    assert await outcome(h, provider.token()) == "issuer_unavailable"


@NEEDS_QUART
@on_a_servers_loop
async def test_websockets_accept_them(harness, provider):
    import quart

    h = accepting(harness, provider)

    @h.app.websocket("/ws")
    @h.api.jwt_required()
    async def ws():
        await quart.websocket.send(str(h.api.get_jwt_identity()))

    client = h.app.test_client()
    async with client.websocket("/ws", headers={"Authorization": f"Bearer {provider.token()}"}) as socket:
        assert await socket.receive() == "u-1"


# -- whose keys verify what ----------------------------------------------------------------


@however_it_runs
async def test_keys_of_one_issuer_verify_no_other_ones_tokens(harness, provider, other):
    h = accepting(harness, provider, other, config={"JWT_SECRET_KEY": SECRET, "JWT_ALGORITHM": "HS256"})
    assert await outcome(h, provider.token()) == 200
    assert await outcome(h, other.token()) == 200
    assert await outcome(h, provider.token(iss=other.url)) == "token_invalid"
    assert await outcome(h, other.token(iss=provider.url)) == "token_invalid"
    # Ours verify no tokens of theirs, nor theirs ours.
    own = {"sub": "a", "type": "access", "jti": "1", "aud": "api", "iat": 1, "exp": int(time.time()) + 60}
    assert await outcome(h, pyjwt.encode({**own, "iss": provider.url}, SECRET)) == "token_invalid"
    for theirs in (provider.token(iss=None), provider.token(iss="me"), provider.token(iss=[provider.url])):
        assert await outcome(h, theirs) == "token_invalid"


@on_both_kinds
@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA"])
async def test_nothing_confuses_their_keys(harness, algorithm):
    provider = Provider(algorithm)
    h = accepting(harness, provider)
    try:
        good = provider.token()
        assert await outcome(h, good) == 200
        public = provider.jwk("k1")
        pem = provider.keys["k1"][1].as_pem(private=False)
        claims = pyjwt.decode(good, options={"verify_signature": False})
        forged = []
        for secret in (pem, pem.strip(), json.dumps(public).encode(), b"", b"k1"):
            for alg in ("HS256", "HS384", "HS512"):
                signer = pyjwt.PyJWS()
                forged.append(_hmac(signer, claims, secret, alg, "k1"))
        forged.append(pyjwt.encode(claims, None, algorithm="none", headers={"kid": "k1"}))
        for name in ("RS256", "PS256", "ES256", "ES384", "EdDSA"):
            key, embedded = PRIVATE[name], {"kid": "k1"}
            forged.append(pyjwt.encode(claims, key, algorithm=name, headers=embedded))
            forged.append(
                pyjwt.encode(claims, key, algorithm=name, headers={**embedded, "jwk": {"kty": "RSA"}})
            )
            jku = {**embedded, "jku": f"{provider.url}{JWKS}", "x5u": provider.url}
            forged.append(pyjwt.encode(claims, key, algorithm=name, headers=jku))
        head, body, signature = good.split(".")
        forged += [f"{head}.{body}.", f"{head}.{body}.{'A' * len(signature)}"]
        for token in forged:
            assert await outcome(h, token) == "token_invalid", token
        assert provider.fetches == 1
    finally:
        provider.stop()


def _hmac(signer, claims, secret, algorithm, kid):
    import base64
    import hashlib
    import hmac

    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    text = part({"alg": algorithm, "kid": kid, "typ": "at+jwt"}) + b"." + part(claims)
    mac = hmac.new(secret, text, getattr(hashlib, f"sha{algorithm[2:]}")).digest()
    return (text + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


@on_both_kinds
@pytest.mark.parametrize(
    ("header", "claims", "code"),
    [
        ({"kid": "unknown"}, {}, "token_invalid"),
        ({"kid": 7}, {}, "token_invalid"),
        ({"crit": ["x"]}, {}, "token_invalid"),
        ({}, {"iss": "https://elsewhere.example"}, "token_invalid"),
        ({}, {"iss": "{url}/"}, "token_invalid"),
        ({}, {"aud": "shop"}, "audience_invalid"),
        ({}, {"aud": None}, "audience_invalid"),
        ({}, {"aud": {"api": 1}}, "audience_invalid"),
        ({}, {"aud": ["shop", 7, "api"]}, "audience_invalid"),
        ({}, {"exp": None}, "claim_missing"),
        ({}, {"iat": None}, "claim_missing"),
        ({}, {"exp": True}, "claim_invalid"),
        ({}, {"iat": "1"}, "claim_invalid"),
        ({}, {"exp": 1}, "token_expired"),
        ({}, {"nbf": 4_000_000_000}, "token_immature"),
        ({}, {"iat": 4_000_000_000}, "token_immature"),
        ({}, {"sub": None}, "claim_missing"),
        ({}, {"sub": 7}, "claim_invalid"),
        ({}, {"sub": ""}, "claim_invalid"),
        ({}, {"jti": 7}, "claim_invalid"),
        ({"typ": "JWT"}, {"nonce": "n"}, "token_type_wrong"),
        ({"typ": "JWT"}, {"at_hash": "h"}, "token_type_wrong"),
        ({"typ": "logout+jwt"}, {}, "token_type_wrong"),
        ({"typ": "dpop+jwt"}, {}, "token_type_wrong"),
        ({}, {"events": {}}, "token_type_wrong"),
        ({}, {"typ": "Refresh"}, "token_type_wrong"),
        ({}, {"token_use": "id"}, "token_type_wrong"),
        ({}, {"token_use": ["access"]}, "token_type_wrong"),
    ],
)
async def test_what_is_refused_and_why(harness, provider, header, claims, code):
    h = accepting(harness, provider)
    claims = {
        name: value.format(url=provider.url) if isinstance(value, str) else value
        for name, value in claims.items()
    }
    payload = {"iss": provider.url, "aud": "api", "sub": "u-1", "iat": int(time.time()), **claims}
    payload.setdefault("exp", int(time.time()) + 60)
    payload = {name: value for name, value in payload.items() if value is not None}
    assert await outcome(h, _signed(provider, {"kid": "k1", "typ": "at+jwt", **header}, payload)) == code


def _signed(provider, header, payload):
    """By hand: no library signs all of these."""
    from joserfc.util import json_b64encode

    algorithm, key = provider.keys["k1"]
    text = json_b64encode({"alg": algorithm, **header}) + b"." + json_b64encode(payload)
    from joserfc.jws import JWSRegistry
    from joserfc.util import urlsafe_b64encode

    signature = JWSRegistry.algorithms[algorithm].sign(text, key)
    return (text + b"." + urlsafe_b64encode(signature)).decode()


@on_both_kinds
async def test_the_leeway_is_the_issuers(harness, provider, clock):
    clock.now = time.time()
    h = harness({"JWT_SECRET_KEY": None}, issuers=[Issuer(provider.url, audience="api")], clock=clock)
    now = int(clock.now)
    assert await outcome(h, provider.token(exp=now - 29)) == 200
    assert await outcome(h, provider.token(exp=now - 31)) == "token_expired"
    assert await outcome(h, provider.token(iat=now + 29)) == 200
    assert await outcome(h, provider.token(nbf=now + 32)) == "token_immature"
    # A remembered token ends at the same moment.
    token = provider.token(exp=now + 10)
    assert await outcome(h, token) == 200
    clock.now = now + 39.9
    assert await outcome(h, token) == 200
    clock.now = now + 40
    assert await outcome(h, token) == "token_expired"
    strict = accepting(harness, provider, leeway=0)
    assert await outcome(strict, provider.token(nbf=int(time.time()) + 5)) == "token_immature"


# -- what such a token is good for ---------------------------------------------------------


@however_it_runs
@pytest.mark.parametrize(
    ("path", "code"),
    [("/fresh", "fresh_token_required"), ("/refresh", "token_type_wrong"), ("/reset", "token_type_wrong")],
)
async def test_they_are_access_tokens_and_nothing_more(harness, provider, path, code):
    h = accepting(harness, provider)
    for claims in ({}, {"fresh": True}, {"type": "access"}, {"token_type": "Bearer", "fresh": 9**10}):
        assert await outcome(h, provider.token(**claims), path) == code
        answer = await h.call(token=provider.token(**claims))
        assert (answer.json["claims"]["type"], answer.json["claims"]["fresh"]) == ("access", False)


@on_both_kinds
@pytest.mark.parametrize(
    "claims",
    [
        {"type": "refresh"},
        {"type": "reset", "async_jwt_purpose": True},
        {"async_jwt_purpose": True},
        {"async_jwt_scope": "acme"},
        {"async_jwt_login": {}},
        {"token_type": "refresh"},
        {"type": ["access"]},
        {"type": 7},
    ],
)
async def test_tokens_of_another_purpose_are_refused(harness, provider, claims):
    """As where the issuer is an application like this one."""
    assert await outcome(accepting(harness, provider), provider.token(**claims)) == "token_type_wrong"


@on_both_kinds
async def test_the_compat_preset_accepts_them_no_more_freely(harness, provider):
    h = accepting(harness, provider, config={"JWT_COMPAT": "flask-jwt-extended"})
    assert (await h.call(token=provider.token())).status == 200
    for claims in ({"aud": "shop"}, {"sub": 7}, {"exp": "1"}):
        payload = {
            "iss": provider.url,
            "aud": "api",
            "sub": "a",
            "iat": 1,
            "exp": int(time.time()) + 60,
            **claims,
        }
        token = _signed(provider, {"kid": "k1"}, payload)
        assert (await h.call(token=token)).status == 422
    assert (await h.call("/refresh", token=provider.token(type="refresh"))).status == 422


@however_it_runs
async def test_their_users_get_no_token_of_ours_by_their_name(harness, provider):
    h = accepting(harness, provider, config={"JWT_SECRET_KEY": SECRET})
    said = []

    @h.api.jwt_required()
    async def exchange():
        for options in ({}, {"additional_claims": {"sub": h.api.get_jwt_identity()}}):
            try:
                await h.api.create_access_token(
                    h.api.get_jwt_identity() if not options else "alice", **options
                )
            except ValueError as problem:
                said.append(str(problem))
        return {"token": await h.api.create_access_token("our-17")}

    h.view("/exchange", exchange)
    answer = await h.call("/exchange", token=provider.token())
    assert [text.partition(":")[0] for text in said] == ["IssuerIdentity('u-1', issuer='http"] * 2
    assert (await h.call(token=answer.json["token"])).json["identity"] == "our-17"


# -- revocation ----------------------------------------------------------------------------


@pytest.fixture
def two(make_app, provider, other):
    issuers = [Issuer(each.url, audience="api") for each in (provider, other)]
    h = make_app({"JWT_SECRET_KEY": SECRET}, issuers=issuers)

    @h.api.jwt_required()
    async def out():
        await h.api.revoke_token()
        return {}

    @h.api.jwt_required()
    async def everywhere():
        await h.api.revoke_user()
        return {}

    h.view("/out", out, methods=["POST"])
    h.view("/everywhere", everywhere, methods=["POST"])
    return h


@however_it_runs
async def test_one_token_is_revoked_alone(two, provider, other):
    mine, same = provider.token(), other.token()  # with the same `jti`
    assert (await two.call("/out", method="POST", token=mine)).status == 200
    assert await outcome(two, mine) == "token_revoked"
    assert await outcome(two, same) == 200
    assert await outcome(two, provider.token(jti="t-2")) == 200
    await two.jwt.revoke_token(same)
    assert await outcome(two, same) == "token_revoked"
    third = provider.token(jti="t-3")
    await two.jwt.revoke_token(await two.jwt.decode_token(third))
    assert await outcome(two, third) == "token_revoked"
    uti = provider.token(jti=None, uti="x")
    await two.jwt.revoke_token(uti)
    assert await outcome(two, uti) == "token_revoked"
    with pytest.raises(ValueError, match="jti"):
        await two.jwt.revoke_token(provider.token(jti=None))


@however_it_runs
async def test_the_same_name_at_two_issuers_is_two_people(two, provider, other):
    past = int(time.time()) - 60
    mine, same, own = provider.token(iat=past), other.token(iat=past), await two.mint("u-1")
    assert (await two.call("/everywhere", method="POST", token=mine)).status == 200
    assert await outcome(two, mine) == "token_revoked"
    assert await outcome(two, same) == 200
    assert await outcome(two, own) == 200
    await two.jwt.revoke_user("u-1")
    assert await outcome(two, own) == "token_revoked"
    assert await outcome(two, same) == 200
    await two.jwt.revoke_user(IssuerIdentity("u-1", issuer=other.url))
    assert await outcome(two, same) == "token_revoked"
    # By `iat`, and the clock of the issuer may be ahead.
    assert await outcome(two, other.token(iat=int(time.time()) + 20, jti="t-9")) == 200


@however_it_runs
async def test_everything_can_be_revoked(two, provider):
    token = provider.token(iat=int(time.time()) - 60)
    assert await outcome(two, token) == 200
    await two.jwt.revoke_everything()
    assert await outcome(two, token) == "token_revoked"


@on_both_kinds
async def test_no_own_user_has_the_name_of_theirs(two, provider):
    name = IssuerIdentity("u-1", issuer=provider.url).stored_name
    token = provider.token(iat=int(time.time()) - 60)
    own = await two.mint(name)
    await two.jwt.revoke_user(name)
    assert await outcome(two, own) == "token_revoked"
    assert await outcome(two, token) == 200
    assert len(IssuerIdentity("u", issuer="https://" + "x" * 2000).stored_name) < 40


@on_both_kinds
async def test_who_was_banned_under_the_bare_name_stays_out(make_app, provider):
    past = int(time.time()) - 60
    h = make_app(
        {"JWT_SECRET_KEY": SECRET}, issuers=[Issuer(provider.url, audience="api", revoked_as="plain")]
    )
    assert await outcome(h, provider.token(iat=past)) == 200
    await h.jwt.revoke_user("u-1")
    assert await outcome(h, provider.token(iat=past)) == "token_revoked"
    assert await outcome(h, provider.token(iat=past, sub="u-2")) == 200


@on_both_kinds
async def test_signals_and_errors_name_the_user_of_the_issuer(two, provider):
    told = []

    def on_refusal(sender, identity, **more):
        told.append(identity)

    def on_revocation(sender, identity, **more):
        told.append(identity)

    token_refused.connect(on_refusal)
    token_revoked.connect(on_revocation)
    try:
        await two.call("/everywhere", method="POST", token=provider.token(iat=int(time.time()) - 60))
        await two.call(token=provider.token(iat=int(time.time()) - 60))
    finally:
        token_refused.disconnect(on_refusal)
        token_revoked.disconnect(on_revocation)
    identity = IssuerIdentity("u-1", issuer=provider.url)
    assert told == [identity.stored_name, identity]
    assert told[1].issuer == provider.url


# -- issuers that a loader names -----------------------------------------------------------


@however_it_runs
async def test_a_loader_names_issuers(harness, provider, other):
    h = harness()
    asked = []

    @h.jwt.issuer_loader
    async def tenant(iss):
        asked.append(iss)
        return Issuer(iss, audience="api", allow_private=True) if iss == provider.url else None

    for _ in range(3):
        assert await outcome(h, provider.token()) == 200
        assert await outcome(h, other.token()) == "token_invalid"
        assert await outcome(h, await h.mint()) == 200
    assert asked == [provider.url, other.url]
    assert other.asked == []


@however_it_runs
async def test_a_plain_loader_and_an_own_issuer(harness, provider):
    h = harness({"JWT_ENCODE_ISSUER": "https://us.example"})
    asked = []

    @h.jwt.issuer_loader
    def tenant(iss):
        asked.append(iss)
        return Issuer(iss, audience="api", allow_private=True)

    assert await outcome(h, await h.mint()) == 200
    assert asked == []
    assert await outcome(h, provider.token()) == 200
    assert await outcome(h, provider.token(iss="x" * 3000)) == "token_invalid"
    assert asked == [provider.url]


@on_both_kinds
async def test_a_loader_may_return_nothing_else(harness, provider, caplog):
    h = harness()
    h.jwt.issuer_loader(lambda iss: iss)
    assert await outcome(h, provider.token()) == "hook_error"
    h = harness()
    h.jwt.issuer_loader(lambda iss: Issuer("https://another.example", audience="api"))
    assert await outcome(h, provider.token()) == "token_invalid"
    assert "it returned 'https://another.example'" in caplog.text
    with pytest.raises(ConfigurationError, match="issuer_loader"):
        h.jwt.issuer_loader(lambda: None)


@on_both_kinds
async def test_a_loaders_issuers_must_have_public_addresses(harness, provider, caplog):
    h = harness()
    h.jwt.issuer_loader(lambda iss: Issuer(iss, audience="api"))
    assert await outcome(h, provider.token()) == "token_invalid"
    assert "would be fetched without TLS" in caplog.text
    answer = await h.call(token=provider.token(iss=provider.url.replace("http:", "https:")))
    assert (answer.status, answer.code) == (503, "issuer_unavailable")
    assert provider.asked == []
    assert "has a private address" in caplog.text


@on_both_kinds
async def test_only_what_may_be_an_issuer_is_asked_about(harness, provider):
    h = harness({"JWT_DECODE_ISSUER": ["https://us.example", "https://then.example"]})
    asked = []
    h.jwt.issuer_loader(asked.append)
    for iss in ("", "\x00", "a b", "a\nb", "é", "x" * 2049, "https://us.example", "https://then.example"):
        assert await outcome(h, provider.token(iss=iss)) == "token_invalid"
    assert asked == []
    assert await outcome(h, provider.token()) == "token_invalid"
    assert asked == [provider.url]


# -- wrong settings ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ([], "must be a dict"),
        ("https://x.example", "must be a dict"),
        ({"https://x.example": "api"}, "must be a dict"),
        ({"https://x.example": {}}, "set audience="),
        ({"https://x.example": {"audiense": "api"}}, "has 'audiense'"),
        ({"https://x.example": {"audience": ""}}, "audience must be"),
        ({"https://x.example": {"audience": 7}}, "audience must be"),
        ({"https://x.example": {"clients": [7]}}, "clients must be"),
        ({"https://x.example": {"audience": "api", "preset": "auth1"}}, "no preset 'auth1'"),
        ({"http://x.example": {"audience": "api"}}, "does not begin with https://"),
        ({"https://a:b@x.example": {"audience": "api"}}, "does not begin with https://"),
        ({"https://[x": {"audience": "api"}}, "does not begin with https://"),
        ({"kubernetes": {"audience": "api"}}, "does not begin with https://"),
        ({"": {"audience": "api"}}, "must be text"),
        ({"https://x.example": {"audience": "api", "jwks_uri": "file:///etc/passwd"}}, "jwks_uri must be"),
        ({"https://x.example": {"audience": "api", "fetch_from": "keycloak:8080"}}, "fetch_from must be"),
        ({"https://x.example": {"audience": "api", "algorithms": ["RS255"]}}, "choose from"),
        ({"https://x.example": {"audience": "api", "algorithms": ["HS256"]}}, "needs a secret"),
        ({"https://x.example": {"audience": "api", "kind": "id"}}, "kind must be one of"),
        ({"https://x.example": {"clients": "web", "kind": "id_token"}}, "needs audience="),
        ({"https://x.example": {"audience": "api", "leeway": -1}}, "leeway must be"),
        ({"https://x.example": {"audience": "api", "leeway": True}}, "leeway must be"),
        ({"https://x.example": {"audience": "api", "identity": []}}, "identity must be"),
        ({"https://x.example": {"audience": "api", "revoked_as": "bare"}}, "revoked_as must be"),
        ({"https://x.example": {"audience": "api", "keys": {"keys": []}}}, "no key of keys="),
        ({"https://x.example": {"audience": "api", "keys": {}}}, "no JWKS document"),
        (
            {"https://x.example": {"audience": "api", "access": {"typs": ["jwt"]}}},
            "access has the wrong parts",
        ),
        ({"https://x.example": {"audience": "api", "access": "jwt"}}, "access must be"),
        ({"https://x.example": {"audience": "api", "keys": 7}}, "keys must be"),
        (
            {"https://x.example": {"audience": "api", "keys": {"keys": []}, "jwks_uri": "https://y"}},
            "leave out",
        ),
    ],
)
@on_both_kinds
async def test_a_wrong_setting_names_itself_and_the_fix(harness, given, problem):
    with pytest.raises(ConfigurationError, match=problem):
        harness({"JWT_ISSUERS": given})


@on_both_kinds
async def test_issuers_that_cannot_be(harness):
    issuer = Issuer("https://x.example", audience="api")
    with pytest.raises(ConfigurationError, match="configured twice"):
        harness({"JWT_ISSUERS": {"https://x.example": {"audience": "api"}}}, issuers=[issuer])
    with pytest.raises(ConfigurationError, match="an `iss` of its own"):
        harness({"JWT_ENCODE_ISSUER": "https://x.example"}, issuers=[issuer])
    with pytest.raises(ConfigurationError, match="Issuer objects"):
        harness(issuers=["https://x.example"])


@on_both_kinds
async def test_tokens_for_anybody_are_warned_of(harness, provider, caplog):
    h = accepting(harness, provider, audience=None)
    assert "tokens that it made for any other service are accepted" in caplog.text
    assert await outcome(h, provider.token(aud="shop")) == 200


@on_both_kinds
async def test_without_httpx_the_fix_is_named(harness, monkeypatch):
    monkeypatch.setattr("async_jwt.issuers.fetching.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install \"async-jwt\[issuers\]\""):
        harness(issuers=[Issuer("https://x.example", audience="api")])


# -- keys that the application gives -------------------------------------------------------


@on_both_kinds
async def test_given_keys_are_never_fetched(harness, provider):
    jwks = {"keys": [{"kty": "oct", "k": "AAAA"}, provider.jwk("k1")]}
    pem = provider.keys["k1"][1].as_pem(private=False)
    for keys in (jwks, [Key(pem, "ES256", "k1")], [Key(pem, "ES256")]):
        h = accepting(harness, provider, keys=keys)
        assert await outcome(h, provider.token()) == 200
        assert await outcome(h, provider.token("k1", header={"kid": None})) == 200
        assert await outcome(h, provider.token(iss="https://x.example")) == "token_invalid"
    assert provider.asked == []


@on_both_kinds
async def test_a_secret_that_was_given(harness):
    issuer = Issuer("https://legacy.example", audience="api", keys=[Key(SECRET)], algorithms=["HS256"])
    h = harness({"JWT_SECRET_KEY": None}, issuers=[issuer])
    now = int(time.time())
    claims = {"iss": "https://legacy.example", "aud": "api", "sub": "a", "iat": now, "exp": now + 60}
    assert await outcome(h, pyjwt.encode(claims, SECRET)) == 200
    assert await outcome(h, pyjwt.encode({**claims, "iss": "us"}, SECRET)) == "token_invalid"
    with pytest.raises(JWTDecodeError):
        await h.jwt.decode_token(pyjwt.encode(claims, "y" * 32))


@on_both_kinds
async def test_a_ring_beside_issuers(harness, provider):
    ring = KeyRing(
        Key(PRIVATE["ES256"], "ES256", "own"), load=lambda: [Key(PUBLIC_PEMS["RS256"], "RS256", "theirs")]
    )
    h = harness(keys=ring, issuers=[Issuer(provider.url, audience="api")])
    assert await outcome(h, await h.mint()) == 200
    assert await outcome(h, provider.token()) == 200
    assert await outcome(h, provider.token(iss=None)) == "token_invalid"


# -- users of several issuers --------------------------------------------------------------


@however_it_runs
async def test_a_user_lookup_is_told_whose_user_it_is(harness, provider, other):
    h = accepting(harness, provider, other, config={"JWT_SECRET_KEY": SECRET})

    @h.jwt.user_lookup_loader
    async def load(header, claims, issuer):
        return f"{claims['sub']} of {issuer}"

    async def user(token):
        return (await h.call(token=token)).json["user"]

    assert await user(provider.token()) == f"u-1 of {provider.url}"
    assert await user(other.token()) == f"u-1 of {other.url}"
    assert await user(await h.mint("u-1")) == "u-1 of None"
    async with h.serving():
        pass


@however_it_runs
async def test_a_lookup_that_is_not_told_meets_no_user_of_others(harness, provider, other):
    """The own user of the same name, an administrator perhaps, would be taken for theirs."""
    h = accepting(harness, provider, config={"JWT_SECRET_KEY": SECRET})
    h.jwt.user_lookup_loader(lambda header, claims: claims["sub"])
    assert await outcome(h, await h.mint("u-1")) == 200
    assert await outcome(h, provider.token()) == "hook_error"
    with pytest.raises(Exception, match="needs a third parameter"):  # in Quart one of its own
        async with h.serving():
            pass
    alone = accepting(harness, provider)
    alone.jwt.user_lookup_loader(lambda header, claims: claims["sub"])
    assert await outcome(alone, provider.token()) == 200
    for several in (accepting(harness, provider, other), accepting(harness, provider)):
        if len(several.app.extensions["async_jwt"].registry.configured) == 1:
            several.jwt.issuer_loader(lambda iss: None)
        several.jwt.user_lookup_loader(lambda header, claims: claims["sub"])
        assert await outcome(several, provider.token()) == "hook_error"


# -- keys of the application's own ---------------------------------------------------------


@on_both_kinds
@pytest.mark.parametrize(
    "config", [{"SECRET_KEY": "dev"}, {"SECRET_KEY": "x" * 64, "JWT_ALGORITHM": "RS256"}]
)
async def test_a_secret_for_other_purposes_is_no_key(harness, provider, config):
    h = accepting(harness, provider, config=config)
    assert await outcome(h, provider.token()) == 200
    with pytest.raises(ConfigurationError, match="no key to sign with"):
        await h.mint()


@on_both_kinds
async def test_given_keys_end_when_they_should(harness, provider, clock):
    clock.now = time.time()
    pem = provider.keys["k1"][1].as_pem(private=False)
    key = Key(pem, "ES256", "k1", accepted_until=clock.now + 60, issuer=provider.url)
    h = harness(
        {"JWT_SECRET_KEY": None}, issuers=[Issuer(provider.url, audience="api", keys=[key])], clock=clock
    )
    token = provider.token()
    for _ in range(2):
        assert await outcome(h, token) == 200
    clock.now += 61
    for text in (token, provider.token(jti="2")):
        assert await outcome(h, text) == "token_invalid"
    with pytest.raises(ConfigurationError, match="bound to another issuer"):
        Issuer("https://x.example", audience="api", keys=[key])


@on_both_kinds
async def test_keys_in_the_configuration(harness):
    given = {"https://legacy.example": {"audience": "api", "keys": [Key(SECRET)]}}
    h = harness({"JWT_SECRET_KEY": None, "JWT_ISSUERS": given})
    now = int(time.time())
    claims = {"iss": "https://legacy.example", "aud": "api", "sub": "a", "iat": now, "exp": now + 60}
    assert await outcome(h, pyjwt.encode(claims, SECRET)) == 200


@on_both_kinds
async def test_a_rule_in_the_configuration(harness, provider):
    given = {provider.url: {"audience": "api", "access": {"all_of": ["scope"], "typ": ["at+jwt"]}}}
    h = harness({"JWT_SECRET_KEY": None, "JWT_ISSUERS": given})
    assert await outcome(h, provider.token(scope="x")) == 200
    assert await outcome(h, provider.token()) == "token_type_wrong"
    assert await outcome(h, provider.token(header={"typ": "JWT"}, scope="x")) == "token_type_wrong"


@on_both_kinds
async def test_a_token_for_microsoft_graph_is_explained_once(harness, provider, caplog):
    h = accepting(harness, provider)
    now = int(time.time())
    claims = {"iss": provider.url, "aud": "api", "sub": "a", "iat": now, "exp": now + 60}
    token = _signed(provider, {"kid": "k1", "nonce": "n"}, claims).rpartition(".")[0]
    for _ in range(2):
        assert await outcome(h, f"{token}.{'A' * 86}") == "token_invalid"
    assert caplog.text.count("Microsoft Graph") == 1


# -- claims instead of tokens --------------------------------------------------------------


@however_it_runs
async def test_claims_of_an_issuer_that_is_not_in_memory_name_its_token(make_app, provider):
    """As in a job, and after a restart: a tenant's token may have the `jti` of somebody else's."""

    def made():
        h = make_app({"JWT_SECRET_KEY": SECRET}, store=store)
        h.jwt.issuer_loader(
            lambda iss: Issuer(iss, audience="api", allow_private=True) if iss == provider.url else None
        )
        return h

    store = MemoryStore()
    first, second = made(), made()
    own = await first.mint("u-1", additional_claims={"jti": "t-1"})
    claims = await first.jwt.decode_token(provider.token())
    await second.jwt.revoke_token(claims)
    assert await outcome(first, provider.token()) == "token_revoked"
    assert await outcome(first, own) == 200
    with pytest.raises(ValueError, match="does not know the issuer"):
        await second.jwt.revoke_token({**claims, "iss": "https://gone.example"})


@on_both_kinds
async def test_the_former_name_is_that_of_the_former_claim(make_app, provider):
    past = int(time.time()) - 60
    issuer = Issuer(provider.url, audience="api", identity="oid", revoked_as="plain")
    h = make_app({"JWT_SECRET_KEY": SECRET}, issuers=[issuer])
    one, two = provider.token(iat=past, oid="o-1"), provider.token(iat=past, oid="o-2", sub=None, jti="t-2")
    assert await outcome(h, one) == await outcome(h, two) == 200
    await h.jwt.revoke_user("u-1")
    assert await outcome(h, one) == "token_revoked"
    assert await outcome(h, two) == 200


@on_both_kinds
async def test_a_planted_cookie_of_an_issuer_that_is_out(harness, provider):
    provider.fail()
    config = {"JWT_SECRET_KEY": SECRET, "JWT_TOKEN_LOCATION": "cookies"}
    h = accepting(harness, provider, config=config)
    own = await h.mint()
    cookie = [("Cookie", f"access_token_cookie={provider.token()}; access_token_cookie={own}")]
    assert (await h.call(headers=cookie)).status == 200
    planted = [
        ("Cookie", f"access_token_cookie={provider.token()}; access_token_cookie={provider.token(jti='2')}")
    ]
    assert (await h.call(headers=planted)).code == "issuer_unavailable"


@on_both_kinds
async def test_a_page_load_renews_nothing_for_their_users(harness, provider, clock):
    """An expired access cookie of theirs, and a refresh cookie of ours: the same text, but two people."""
    load = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "same-origin"}
    clock.now = time.time()
    config = {"JWT_SECRET_KEY": SECRET, "JWT_TOKEN_LOCATION": "cookies", "JWT_REFRESH_TOKEN_EXPIRES": 9**6}
    h = harness(config, issuers=[Issuer(provider.url, audience="api")], clock=clock)

    @h.api.jwt_required(refresh_cookie=True)
    async def page():
        return {"who": str(h.api.get_jwt_identity())}

    h.view("/page", page)
    pair = await h.jwt.create_token_pair("u-1")
    jar = {"access_token_cookie": provider.token(), "refresh_token_cookie": pair.refresh_token}
    assert (await h.call("/page", cookies=jar, headers=load)).status == 200
    clock.now += 900
    answer = await h.call("/page", cookies=jar, headers=load)
    assert (answer.status, answer.code) == (401, "token_expired")
    jar["access_token_cookie"] = pair.access_token
    clock.now += 900
    assert (await h.call("/page", cookies=jar, headers=load)).json == {"who": "u-1"}


@on_both_kinds
async def test_whom_claims_name(harness, provider):
    engine = accepting(harness, provider).app.extensions["async_jwt"].engine()
    assert engine.identity_in({"iss": provider.url}) is None
    assert engine.identity_in({"iss": provider.url, "sub": "a"}) == IssuerIdentity("a", issuer=provider.url)
    assert engine.identity_in({"iss": "https://x.example", "sub": "a"}) == "a"
    assert engine.identity_in({}) is None


@however_it_runs
async def test_signing_out_with_their_token(make_app, provider):
    h = make_app({"JWT_SECRET_KEY": SECRET}, issuers=[Issuer(provider.url, audience="api")])

    async def logout():
        response = (
            await h.framework.make_response("")
            if h.framework.__name__ == "quart"
            else h.app.response_class("")
        )
        await h.api.sign_out(response)
        return response

    h.view("/logout", logout, methods=["POST"])
    token = provider.token()
    assert await outcome(h, token) == 200
    assert (await h.call("/logout", method="POST", token=token)).status == 200
    assert await outcome(h, token) == "token_revoked"
    for harmless in (provider.token(jti=None), provider.token(aud="shop"), provider.token(token_use="id")):
        assert (await h.call("/logout", method="POST", token=harmless)).status == 200


@on_both_kinds
async def test_an_error_of_a_loader_is_the_applications(harness, provider):
    h = harness()

    @h.jwt.issuer_loader
    async def tenant(iss):
        raise LookupError("the database is down")

    with pytest.raises(LookupError):
        await h.jwt.decode_token(provider.token())
