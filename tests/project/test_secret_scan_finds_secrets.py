"""The scan of all logs, spans and error bodies finds what it looks for."""

from __future__ import annotations

import logging

import pytest

from async_jwt import Key
from tests.harness import SECRET
from tests.harness.applications import QuartHarness, _tracers
from tests.harness.scan import SCAN

pytestmark = pytest.mark.asyncio


@pytest.fixture
def found(nothing_secret_is_told):
    """What the scan found; a test that looks for it takes it away."""
    yield SCAN.found
    SCAN.found.clear()


async def test_tokens_keys_and_csrf_values_are_found_at_every_level(found):
    h = QuartHarness()
    token = await h.mint()
    csrf = (await h.jwt.decode_token(token))["csrf"]
    secrets = [
        Key.generate("ES256").private_jwk()["d"],
        Key.generate("HS256", "one").private_jwk()["k"],
        token.rpartition(".")[2],
    ]
    for secret in (token, csrf, SECRET, *secrets):
        for name in ("async_jwt", "async_jwt.store", "async_jwt.hooks"):
            logger = logging.getLogger(name)
            for tell in (logger.debug, logger.info, logger.warning):
                before = len(found)
                tell("a text with %s in it", secret)
                tell("with fields", extra={"event": secret})
                assert len(found) == before + 2, (secret, name)
    try:
        dict.__getitem__({}, token)
    except KeyError:
        logging.getLogger("async_jwt").exception("a text")
    assert "Traceback" in found[-1]
    logging.getLogger("other").warning(token)
    assert "logger other" in found[-1]


async def test_spans_and_answers_are_looked_at(found):
    h = QuartHarness()
    token = await h.mint()
    with _tracers.get_tracer("tests").start_as_current_span("a span") as span:
        span.set_attribute("token", token)
    assert found[-1].startswith("span: ")

    async def view():
        return {"code": "mine", "msg": token}, 400

    h.view("/bad", view)
    await h.call("/bad")
    assert found[-1].startswith("answer to GET /bad: ")


async def test_other_words_are_not_found(found):
    QuartHarness()
    logging.getLogger("async_jwt").warning("A refresh token was used again (%s)", "predecessor")
    logging.getLogger("async_jwt").info("%(a)s", {"a": "b"})
    logging.getLogger("async_jwt").log(logging.DEBUG, "a level of its own")
    assert found == []
