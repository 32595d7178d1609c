"""For each provider, tokens shaped like its own: the access token is accepted, the ID token is not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from async_jwt import issuers
from async_jwt.core.permissions import granted_roles, granted_scopes
from async_jwt.errors import AudienceError, ConfigurationError, JWTExtendedException, WrongTokenError
from async_jwt.issuers import Issuer
from async_jwt.issuers.presets import PRESETS, RULES, preset
from tests.harness.applications import on_both_kinds
from tests.harness.providers import OPENID, Provider

TENANT = "11111111-2222-3333-4444-555555555555"


@dataclass
class Shape:
    """A provider's access token and what must not pass for one."""

    issuer: Issuer
    access: dict[str, Any]
    """Its claims; for an issuer of ID tokens only, those of the ID token."""
    others: list[dict[str, Any]]
    """Claims of its other tokens, with the header under "header"."""
    identity: str = "u-1"
    header: dict[str, Any] = field(default_factory=dict)
    strangers: list[dict[str, Any]] = field(default_factory=list)
    """Access tokens for somebody else."""


SHAPES = {
    "auth0": Shape(
        issuers.auth0("acme.eu.auth0.com", audience="https://api.acme.dev"),
        {
            "sub": "auth0|u-1",
            "aud": ["https://api.acme.dev", "https://acme.eu.auth0.com/userinfo"],
            "azp": "web",
            "scope": "openid profile",
            "permissions": ["read:orders"],
        },
        [{"aud": "web", "nonce": "n", "sid": "s"}, {"aud": "https://api.acme.dev", "nonce": "n"}],
        "auth0|u-1",
        strangers=[{"aud": "https://other.acme.dev"}],
    ),
    "auth0, RFC 9068": Shape(
        issuers.auth0("https://login.acme.dev/", audience="https://api.acme.dev"),
        {"aud": ["https://api.acme.dev"], "client_id": "web", "jti": "j", "scope": "x"},
        [{"header": {"typ": "logout+jwt"}, "aud": "https://api.acme.dev", "events": {}}],
        header={"typ": "at+jwt"},
    ),
    "okta": Shape(
        issuers.okta("acme.okta.com"),
        {
            "sub": "ada@acme.dev",
            "uid": "00u1",
            "aud": "api://default",
            "cid": "web",
            "scp": ["x"],
            "jti": "AT.1",
        },
        [{"aud": "web", "jti": "ID.1", "at_hash": "h"}, {"aud": "api://default", "jti": "ID.1"}],
        "00u1",
        {"typ": None},
    ),
    "keycloak": Shape(
        issuers.keycloak("https://login.acme.dev/", "acme", audience="orders"),
        {
            "aud": ["orders", "account"],
            "typ": "Bearer",
            "azp": "web",
            "jti": "j",
            "scope": "openid",
            "nonce": "old",
        },
        [
            {"aud": "orders", "typ": "ID", "azp": "web", "jti": "j"},
            {"aud": "orders", "typ": "Refresh", "jti": "j"},
            {"aud": "orders", "typ": "Offline", "jti": "j"},
            {"aud": "orders", "typ": "Logout", "events": {}, "jti": "j"},
        ],
        strangers=[{"aud": "account", "typ": "Bearer", "jti": "j"}],
    ),
    "keycloak, by client": Shape(
        issuers.keycloak("https://login.acme.dev", "acme", clients=["web"]),
        {"typ": "Bearer", "azp": "web", "jti": "j", "scope": "openid"},
        [{"aud": "web", "azp": "web", "typ": "ID", "jti": "j"}],
        strangers=[{"typ": "Bearer", "azp": "shop", "jti": "j"}],
    ),
    "cognito": Shape(
        issuers.cognito("eu-central-1", "eu-central-1_abc", clients="web"),
        {"token_use": "access", "client_id": "web", "scope": "x", "jti": "j", "cognito:groups": ["a"]},
        [
            {"token_use": "id", "aud": "web", "jti": "j"},
            {"token_use": "id", "client_id": "web", "jti": "j"},
            {"client_id": "web"},
        ],
        header={"typ": None},
        strangers=[{"token_use": "access", "client_id": "shop"}],
    ),
    "entra, version 1": Shape(
        issuers.entra(TENANT, audience="api://orders", version=1),
        {
            "aud": "api://orders",
            "appid": "web",
            "oid": "o-1",
            "tid": TENANT,
            "scp": "read",
            "uti": "u",
            "ver": "1.0",
        },
        [
            {"aud": "web", "oid": "o-1", "nonce": "n"},
            {"aud": "api://orders", "oid": "o-1", "appid": "web"},
            {"aud": "api://orders", "oid": "o-1", "roles": ["Admin"]},
        ],
        "o-1",
    ),
    "entra, version 2": Shape(
        issuers.entra(TENANT, audience="0000-api", clients=["web"]),
        {
            "aud": "0000-api",
            "azp": "web",
            "oid": "o-1",
            "tid": TENANT,
            "roles": ["Admin"],
            "uti": "u",
            "ver": "2.0",
        },
        [
            {"aud": "0000-api", "azp": "web", "oid": "o-1"},
            {"aud": "0000-api", "azp": "web", "oid": "o-1", "scp": "", "roles": []},
            {"aud": "0000-api", "azp": "web", "oid": "o-1", "header": {"typ": "at+jwt"}},
            {"aud": "web", "oid": "o-1", "roles": ["Admin"]},
        ],
        "o-1",
        strangers=[{"aud": "0000-api", "azp": "shop", "oid": "o-1", "scp": "x"}],
    ),
    "google": Shape(
        issuers.google(clients="web"),
        {"aud": "web", "azp": "web", "email": "a@b.c", "at_hash": "h"},
        [{"aud": "web", "header": {"typ": "at+jwt"}}, {"aud": "web", "token_use": "access"}],
        strangers=[{"aud": "shop"}],
    ),
    "firebase": Shape(
        issuers.firebase("my-project"),
        {"aud": "my-project", "auth_time": 1, "user_id": "u-1"},
        [{"aud": "my-project", "typ": "Bearer"}],
        strangers=[{"aud": "other-project"}],
    ),
    "supabase": Shape(
        issuers.supabase("abcdef"),
        {"aud": "authenticated", "role": "authenticated", "session_id": "s", "email": "a@b.c"},
        [{"aud": "authenticated", "nonce": "n", "at_hash": "h"}],
        strangers=[{"aud": "anon", "role": "anon", "session_id": "s"}],
    ),
    "clerk": Shape(
        issuers.clerk("https://clerk.acme.dev", clients="https://acme.dev"),
        {"azp": "https://acme.dev", "sid": "s", "v": 2, "o": {"rol": "admin"}, "jti": "j"},
        [{"azp": "https://acme.dev", "sid": "s", "aud": "web", "nonce": "n"}, {"azp": "https://acme.dev"}],
        strangers=[{"azp": "https://evil.dev", "sid": "s"}],
    ),
    "zitadel": Shape(
        issuers.zitadel("acme.zitadel.cloud", audience="project-1"),
        {
            "aud": ["web", "project-1"],
            "jti": "j",
            "client_id": "web",
            "urn:zitadel:iam:org:project:roles": {"a": {"1": "acme.zitadel.cloud"}},
        },
        [{"aud": ["web", "project-1"], "azp": "web", "at_hash": "h"}, {"aud": ["web", "project-1"]}],
        strangers=[{"aud": ["web", "project-2"], "jti": "j"}],
    ),
    "authentik": Shape(
        issuers.authentik("https://auth.acme.dev", "orders", audience="web"),
        {"aud": "web", "azp": "web", "uid": "x", "nonce": "n", "at_hash": "h"},
        [{"aud": "web", "nonce": "n", "at_hash": "h"}],
    ),
    "hydra": Shape(
        issuers.hydra("https://hydra.acme.dev", clients="web"),
        {"aud": [], "client_id": "web", "scp": ["x"], "jti": "j", "ext": {}},
        [{"aud": ["web"], "azp": "web", "at_hash": "h", "jti": "j"}, {"client_id": "web"}],
        strangers=[{"aud": [], "client_id": "shop", "jti": "j"}],
    ),
    "github_actions": Shape(
        issuers.github_actions(audience="https://acme.dev"),
        {"sub": "repo:acme/x:ref:refs/heads/main", "aud": "https://acme.dev", "repository": "acme/x"},
        [{"aud": "https://acme.dev", "header": {"typ": "at+jwt"}}],
        "repo:acme/x:ref:refs/heads/main",
        strangers=[{"aud": "https://github.com/acme"}],
    ),
    "gitlab_ci": Shape(
        issuers.gitlab_ci(audience="https://acme.dev"),
        {"aud": ["https://acme.dev"], "project_path": "acme/x"},
        [{"aud": "https://acme.dev", "events": {}}],
        strangers=[{"aud": ["https://acme.dev", "https://other.dev"]}],
    ),
    "kubernetes": Shape(
        issuers.kubernetes(audience="orders"),
        {"sub": "system:serviceaccount:a:b", "aud": ["orders"], "kubernetes.io": {"namespace": "a"}},
        [{"aud": ["orders"]}],
        "system:serviceaccount:a:b",
        {"typ": None},
        [{"aud": ["https://kubernetes.default.svc"], "kubernetes.io": {}}],
    ),
    "apple": Shape(
        issuers.apple(clients=["dev.acme.app"]),
        {"aud": "dev.acme.app", "nonce": "n"},
        [{"aud": "dev.acme.app", "typ": "Bearer"}],
        strangers=[{"aud": "dev.evil.app"}],
    ),
}


def checked(shape, claims):
    held = {"iss": shape.issuer.url, "sub": "u-1", "iat": 1, "exp": 2, **claims}
    header = {"typ": "JWT", **shape.header, **held.pop("header", {})}
    header = {name: value for name, value in header.items() if value is not None}
    shape.issuer.check_purpose(header, held)
    return shape.issuer.identity_of(held)


@pytest.mark.parametrize("name", SHAPES)
def test_its_access_token_is_accepted_and_no_other_one(name):
    shape = SHAPES[name]
    identity = checked(shape, shape.access)
    assert (str(identity), identity.issuer) == (shape.identity, shape.issuer.url)
    for claims in shape.others:
        with pytest.raises((WrongTokenError, AudienceError)):
            checked(shape, claims)
    for claims in shape.strangers:
        with pytest.raises(AudienceError if not name.startswith("gitlab") else JWTExtendedException):
            checked(shape, claims)
    with pytest.raises(AudienceError):
        checked(shape, {**shape.access, "aud": "somebody-else", "azp": "x", "client_id": "x"})


GRANTS = {
    "auth0": ({"openid", "profile"}, set()),
    "okta": ({"x"}, set()),
    "keycloak": ({"openid"}, {"clerk"}),
    "cognito": ({"x"}, {"a"}),
    "entra, version 1": ({"read"}, set()),
    "entra, version 2": (set(), {"Admin"}),
    "supabase": (set(), {"authenticated"}),
    "clerk": (set(), {"admin"}),
    "zitadel": (set(), {"a"}),
    "hydra": ({"x"}, set()),
}


@pytest.mark.parametrize("name", GRANTS)
def test_scopes_and_roles_are_where_each_provider_has_them(name):
    shape = SHAPES[name]
    claims = shape.access
    if name == "keycloak":
        claims = {**claims, "realm_access": {"roles": ["clerk"]}}
    found = granted_scopes(claims, shape.issuer), granted_roles(claims, shape.issuer)
    assert found == GRANTS[name]


@pytest.mark.parametrize("wrong", [7, "", (), ("",), ("a", 7), ["a", "b"], b"a"])
def test_places_that_are_none(wrong):
    for what in ("scopes", "roles"):
        with pytest.raises(ConfigurationError, match=f"{what} must be the name of a claim, or the path"):
            Issuer("https://x.example", audience="a", **{what: wrong})


def test_each_preset_has_a_shape():
    assert {name.partition(",")[0] for name in SHAPES} == {*PRESETS} == {*RULES}
    assert {*PRESETS} <= {*issuers.__all__}
    for shape in SHAPES.values():
        assert "HS256" not in shape.issuer.algorithms


@on_both_kinds
@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["okta", "keycloak", "cognito", "entra", "authentik"])
async def test_through_the_whole_pipeline(harness, name):
    """With keys that are fetched, and a token that another library signed."""
    provider = Provider("RS256")
    shape = next(shape for each, shape in SHAPES.items() if each.startswith(name))
    options = {"aud": shape.issuer.audience, "clients": shape.issuer.clients}
    given = {"audience": options["aud"]} if options["aud"] else {"clients": options["clients"]}
    issuer = preset(name, provider.url, given)
    h = harness({"JWT_SECRET_KEY": None}, issuers=[issuer])
    try:
        header = {"typ": "JWT", **shape.header}
        answer = await h.call(
            token=provider.token(header=header, **{"aud": None, "jti": None, **shape.access})
        )
        assert answer.status == 200, answer
        assert answer.json["identity"] == shape.identity
        for claims in shape.others:
            held = {"aud": None, "jti": None, **claims}
            sent = {**header, **held.pop("header", {})}
            assert (await h.call(token=provider.token(header=sent, **held))).status == 401
        assert provider.asked.count(OPENID) == 1
    finally:
        provider.stop()


def test_urls_are_those_of_the_providers():
    assert SHAPES["auth0"].issuer.url == "https://acme.eu.auth0.com/"
    assert SHAPES["okta"].issuer.url == "https://acme.okta.com/oauth2/default"
    assert SHAPES["keycloak"].issuer.url == "https://login.acme.dev/realms/acme"
    assert SHAPES["cognito"].issuer.url == "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_abc"
    one, two = SHAPES["entra, version 1"].issuer, SHAPES["entra, version 2"].issuer
    assert (one.url, one.fetch_from) == (
        f"https://sts.windows.net/{TENANT}/",
        f"https://login.microsoftonline.com/{TENANT}",
    )
    assert two.url == f"https://login.microsoftonline.com/{TENANT}/v2.0"
    assert SHAPES["firebase"].issuer.jwks_uri.startswith("https://www.googleapis.com/")
    assert SHAPES["authentik"].issuer.url == "https://auth.acme.dev/application/o/orders/"
    assert issuers.okta("a.okta.com", server="x", identity="sub").identity == ("sub",)
    assert issuers.hydra("https://h.example", audience="a").audience == {"a"}


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: issuers.auth0("http://acme.eu.auth0.com", audience="a"),
        lambda: issuers.auth0("", audience="a"),
        lambda: issuers.entra("common", audience="a"),
        lambda: issuers.entra("acme.onmicrosoft.com", audience="a"),
        lambda: issuers.keycloak("https://x.example", "r"),
        lambda: preset("auth1", "https://x.example", {}),
        lambda: Issuer("https://x.example"),
        lambda: Issuer(7, audience="a"),
    ],
)
def test_what_no_provider_is(wrong):
    with pytest.raises(ConfigurationError):
        wrong()


def test_several_audiences_of_an_id_token_need_an_authorized_party():
    issuer = Issuer("https://x.example", audience="web", kind="id_token")
    issuer.check_purpose({}, {"aud": ["web", "shop"], "azp": "web"})
    for claims in (
        {"aud": ["web", "shop"]},
        {"aud": ["web", "shop"], "azp": "shop"},
        {"aud": "web", "azp": 7},
    ):
        with pytest.raises(WrongTokenError):
            issuer.check_purpose({}, claims)


def test_clients_alone_take_no_id_token_for_an_access_token():
    issuer = Issuer("https://x.example", clients="web")
    issuer.check_purpose({"typ": "JWT"}, {"azp": "web", "scope": "x"})
    issuer.check_purpose({"typ": "application/at+jwt"}, {"client_id": "web"})
    for claims in ({"azp": "web"}, {"azp": "web", "scope": ""}):
        with pytest.raises(WrongTokenError):
            issuer.check_purpose({"typ": "JWT"}, claims)
    for claims in (
        {"scope": "x"},
        {"azp": ["web"], "scope": "x"},
        {"azp": "shop", "client_id": "web", "scope": "x"},
    ):
        with pytest.raises(AudienceError):
            issuer.check_purpose({"typ": "JWT"}, claims)


def test_an_issuer_shows_no_keys():
    assert (
        repr(Issuer("https://x.example", audience="a", keys={"keys": []})) == "<Issuer 'https://x.example'>"
    )
