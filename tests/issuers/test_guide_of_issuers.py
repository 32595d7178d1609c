"""Each tab of the guide, as it stands there, against a provider of its shape."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from async_jwt.issuers import Fetched, FetchError, HttpFetch
from async_jwt.issuers.documents import metadata_urls
from tests.harness.applications import NEEDS_QUART
from tests.harness.providers import Provider
from tests.issuers.test_presets_know_their_providers import SHAPES

GUIDE = (Path(__file__).parents[2] / "docs" / "guide" / "issuers.md").read_text("utf-8")
TABS = dict(re.findall(r":::\{tab-item\} (.+?)\n```python\n(.*?)```", GUIDE, re.DOTALL))
# What each tab names otherwise than the shape of its provider.
TOKENS = {
    "Auth0": ("auth0", {}),
    "Okta": ("okta", {}),
    "Keycloak": ("keycloak", {}),
    "Cognito": ("cognito", {"client_id": "1example23456789"}),
    "Entra ID": ("entra, version 2", {"aud": "0000-your-api-id"}),
    "Google": (
        "google",
        {"aud": "123-abc.apps.googleusercontent.com", "azp": "123-abc.apps.googleusercontent.com"},
    ),
    "Firebase": ("firebase", {}),
    "Supabase": ("supabase", {}),
    "Clerk": ("clerk", {}),
    "Zitadel": ("zitadel", {}),
    "Authentik": ("authentik", {}),
    "Hydra": ("hydra", {}),
    "GitHub Actions": ("github_actions", {"repository": "acme/orders"}),
    "GitLab CI": ("gitlab_ci", {"project_path": "acme/orders"}),
    "Kubernetes": ("kubernetes", {}),
    "Apple": ("apple", {}),
    "Any other": ("auth0, RFC 9068", {"aud": "my-api"}),
}


def test_each_tab_is_tried():
    assert TABS.keys() == TOKENS.keys()


@NEEDS_QUART
@pytest.mark.asyncio
@pytest.mark.parametrize("tab", TABS)
async def test_what_the_tab_says_accepts_the_providers_tokens(tab, monkeypatch):
    import quart

    from async_jwt.adapters import quart as api

    app = quart.Quart("guide")
    namespace = {"app": app, "JWTManager": api.JWTManager}
    exec(TABS[tab], namespace)
    (source,) = app.extensions["async_jwt"].registry.configured
    provider = Provider("RS256")
    provider.stop()
    provider.url = issuer = source.issuer.url
    asked = []

    async def fetch(self, url):
        asked.append(url)
        if url == metadata_urls(source.issuer.fetch_from or issuer)[0]:
            return Fetched(json.dumps({"issuer": issuer, "jwks_uri": "https://keys.example/k"}).encode())
        if url in ("https://keys.example/k", source.issuer.jwks_uri):
            return Fetched(json.dumps(provider.jwks()).encode())
        raise FetchError("there is no such document", 404)

    monkeypatch.setattr(HttpFetch, "__call__", fetch)

    @app.get("/orders")
    @api.jwt_required()
    async def orders():
        return {"for": api.get_jwt_identity()}

    async def ask(header, **claims):
        now = int(time.time())
        sent = {"typ": "JWT", **shape.header, **header}
        token = provider.token(
            header=sent, **{"aud": None, "jti": None, "iat": now, "exp": now + 60, **claims}
        )
        answer = await app.test_client().get("/orders", headers={"Authorization": f"Bearer {token}"})
        return answer.status_code, await answer.get_json()

    name, changes = TOKENS[tab]
    shape = SHAPES[name]
    access = {**shape.access, **changes}
    assert await ask({}, **access) == (200, {"for": shape.identity if tab != "Any other" else "u-1"})
    for claims in (*shape.others, *shape.strangers):
        header = claims.get("header", {})
        held = {key: value for key, value in claims.items() if key != "header"}
        assert (await ask(header, **held))[0] == 401
    assert len(asked) in (1, 2)
    for key, value in changes.items():
        if key in ("repository", "project_path"):
            assert (await ask({}, **{**access, key: f"{value}-fork"}))[0] == 400
