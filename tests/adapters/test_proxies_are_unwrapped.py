"""Werkzeug's proxies are taken wherever an application, a response, a user or a text is."""

from __future__ import annotations

import asyncio

import flask
import pytest
from opentelemetry.sdk.trace import TracerProvider
from werkzeug.local import LocalProxy

from async_jwt import MemoryStore
from async_jwt.adapters._route_audit import routes_of
from async_jwt.adapters.protect import protect, public
from async_jwt.core.proxies import unproxied
from async_jwt.errors import ConfigurationError
from async_jwt.manager import app_state_of
from async_jwt.observe import instrument, uninstrument
from async_jwt.stores import TokenRef
from async_jwt.stores.redis import RedisStore
from async_jwt.testing import assert_protected, frozen_clock, jwt_client, outage
from tests.adapters.test_helpers_for_application_tests import ask
from tests.harness import SECRET

pytestmark = pytest.mark.asyncio


def proxy(value):
    return LocalProxy(lambda: value)


async def test_an_application_is_found_behind_current_app(harness):
    app = harness().make_app()
    app.config.update(JWT_SECRET_KEY=SECRET, JWT_DEFAULT_DENY=True)
    app.add_url_rule("/", "index", dict)
    jwt = harness.api.JWTManager()
    current = proxy(app)
    jwt.init_app(current)
    assert app_state_of(current).app is app
    assert [route.state for route in routes_of(app_state_of(current))] == ["protected"]
    assert_protected(current)
    instrument(current, tracer_provider=TracerProvider())
    uninstrument(current)
    with frozen_clock(current) as clock:
        client = await asyncio.to_thread(jwt_client, current, proxy("alice"))
        assert (await ask(client, "/"))[0] == 200
        clock.tick(1)
    with outage(current):
        pass


async def test_a_proxy_without_an_application_says_so(harness):
    with pytest.raises(RuntimeError, match="application context"):
        harness.api.JWTManager().init_app(flask.current_app)


async def test_what_is_marked_is_what_the_proxy_stands_for(harness):
    blueprint = harness.framework.Blueprint("admin", "admin")
    assert protect(proxy(blueprint)) is blueprint
    with pytest.raises(ConfigurationError, match="demands a token"):
        public(proxy(blueprint))

    def view():
        return {}

    assert public(proxy(view)) is view


async def test_identities_users_and_responses(harness):
    h = harness({"JWT_COOKIE_SECURE": False})
    asked = []
    h.jwt.user_identity_loader(lambda user: asked.append(type(user)) or user)

    @h.api.jwt_required()
    async def cookies():
        response = h.framework.Response("ok")
        token = await h.api.create_access_token(proxy("alice"))
        h.api.set_access_cookies(proxy(response), token)
        h.api.unset_refresh_cookies(proxy(response))
        return response

    h.view("/cookies", cookies)
    pair = await h.jwt.create_token_pair(proxy("alice"))
    for token in (await h.mint(proxy("alice")), pair.access_token):
        assert (await h.call(token=token)).json["identity"] == "alice"
    assert "access_token_cookie" in (await h.call("/cookies", token=pair.access_token)).cookies
    page = await h.jwt.list_sessions(proxy("alice"))
    assert [session.sid for session in page.sessions] == [pair.sid]
    assert await h.jwt.revoke_session(pair.sid, identity=proxy("alice"))
    token = await h.mint("alice")
    await h.jwt.revoke_user(proxy("alice"))
    assert (await h.call(token=token)).code == "token_revoked"
    assert set(asked) == {str}


async def test_a_proxy_of_nobody_is_nobody(harness):
    """It is not None itself: whoever compares it with None lets everybody in."""
    h = harness()
    h.jwt.user_lookup_loader(lambda _header, _claims: proxy(None))
    assert (await h.call(token=await h.mint())).code == "user_not_found"


@pytest.mark.parametrize("kind", ["memory", "redis"])
async def test_stores_keep_the_text_and_no_proxy(kind, redis_url):
    store = MemoryStore() if kind == "memory" else RedisStore(f"{redis_url}?prefix=proxies:", deadline=5)
    before = TokenRef("proxied", "1", None, await store.stamp(proxy("proxied")), 0.0, None)
    assert await store.check(before)
    await store.revoke_user(proxy("proxied"))
    assert not await store.check(before)
    assert await store.list_sessions(proxy("proxied"), 10, None) == ([], None)
    for odd in (None, 7, proxy(None), "\ud800"):
        for call in (store.stamp, store.revoke_user):
            with pytest.raises(ValueError, match="identity must be text"):
                await call(odd)
    await store.close()


async def test_only_a_proxy_is_asked_what_it_stands_for():
    class Answers:
        def __getattr__(self, name):
            return lambda: None

    anything = Answers()
    assert unproxied(anything) is anything
    assert unproxied(proxy(proxy("deep"))) == "deep"
