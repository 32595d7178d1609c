"""Tokens of any text, made by Hypothesis."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.adapters.test_bad_input_is_never_a_500 import b64, refused
from tests.harness.applications import on_both_kinds

TOKENS = st.one_of(
    st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")),
    st.tuples(st.binary(max_size=30), st.binary(max_size=30), st.binary(max_size=30)).map(
        lambda parts: ".".join(b64(part) for part in parts)
    ),
)


@on_both_kinds
@given(token=TOKENS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text(harness, token):
    async def ask():
        h = harness()
        for path in ("/me", "/everywhere"):
            refused(await h.call(path, headers=[("Authorization", f"Bearer {token}")]))
        refused(await h.call("/everywhere", method="POST", json={"access_token": token or "-"}))

    clean = token.strip(" \t\r\n,\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0")
    if "\r" not in token and "\n" not in token and clean:
        asyncio.run(ask())
