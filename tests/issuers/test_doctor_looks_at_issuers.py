"""The doctor fetches the documents of issuers, and says what is wrong with them."""

from __future__ import annotations

import pytest

from async_jwt.cli.diagnosis_of_issuers import of_issuers
from async_jwt.issuers import Issuer
from tests.harness.applications import on_both_kinds
from tests.harness.providers import JWKS, OPENID

pytestmark = pytest.mark.asyncio


async def findings(harness, *issuers, hook=None, **config):
    h = harness({"JWT_SECRET_KEY": None, **config}, issuers=issuers)
    if hook is not None:
        h.jwt.decode_key_loader(hook)
    found = await of_issuers(h.app.extensions["async_jwt"])
    return [(finding.level, finding.what) for finding in found]


@on_both_kinds
async def test_a_sound_issuer(harness, provider):
    assert await findings(harness, Issuer(provider.url, audience="api")) == []
    assert await findings(harness, Issuer("https://x.example", audience="api", keys=provider.jwks())) == []


@on_both_kinds
async def test_what_is_wrong(harness, provider):
    issuer = Issuer(provider.url, audience="api")
    assert await findings(harness, Issuer(provider.url, audience=None)) == [
        ("error", "tokens that it made for any other service are accepted")
    ]
    assert await findings(harness, Issuer(provider.url, audience="api", algorithms=["RS256"])) == [
        ("error", "none of its 1 keys can verify tokens")
    ]
    ((level, what),) = await findings(harness, Issuer(provider.url, audience="api", revoked_as="plain"))
    assert (level, what[:20]) == ("warning", 'revoked_as="plain" a')
    ((level, what),) = await findings(harness, issuer, hook=lambda header, claims: None)
    assert (level, what[:30]) == ("warning", "decode_key_loader is registered"[:30])
    provider.answers = {JWKS: 500}
    assert await findings(harness, issuer) == [
        ("error", "its keys cannot be fetched: the response has the status 500")
    ]
    h = harness({"JWT_SECRET_KEY": None}, issuers=[issuer])
    for _ in range(2):  # the second time within the pause
        assert [found.level for found in await of_issuers(h.app.extensions["async_jwt"])] == ["error"]
    provider.answers = {OPENID: {"issuer": f"{provider.url}/", "jwks_uri": "x"}}
    assert await findings(harness, issuer) == [
        ("error", f"its keys cannot be fetched: the metadata names another issuer: '{provider.url}/'")
    ]


@on_both_kinds
async def test_keys_over_plain_http(harness, provider, monkeypatch):
    monkeypatch.setattr("async_jwt.cli.diagnosis_of_issuers.is_loopback", lambda parts: False)
    issuer = Issuer(provider.url, audience="api", jwks_uri=f"{provider.url}{JWKS}")
    assert await findings(harness, issuer) == [
        ("warning", f"its keys are fetched over http, from {provider.url}{JWKS}")
    ]
