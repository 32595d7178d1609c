"""What is said to developers, word for word, and that the documentation has each."""

from __future__ import annotations

import asyncio
import gc
import re
import warnings
from pathlib import Path

import pytest

from async_jwt.adapters import flask as flask_adapter
from async_jwt.adapters import flask_sync as flask_sync_adapter
from async_jwt.adapters._flask_loop import NOTE
from async_jwt.errors import ConfigurationError
from tests.harness.applications import (
    NEEDS_QUART,
    FlaskAsyncHarness,
    QuartHarness,
    on_each_loop,
    quart_adapter,
)

pytestmark = pytest.mark.asyncio

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "messages.md").read_text("utf-8")
LISTED = re.findall(r"^```text\n(.+)\n```$", PAGE, re.MULTILINE)
COOKIES = {"JWT_TOKEN_LOCATION": ["cookies"]}


def listed(text):
    """Whether the documentation has a message."""
    assert text in LISTED
    return True


async def fails(work):
    """What a coroutine function, or a plain one, raises."""

    async def ended():
        found = work()
        return await found if asyncio.iscoroutine(found) else found

    with pytest.raises((ConfigurationError, RuntimeError, TypeError)) as caught:
        await ended()
    return str(caught.value)


async def test_each_is_listed_once():
    assert len(LISTED) == len(set(LISTED)) == 25


@pytest.mark.parametrize(
    ("config", "start"),
    [
        ({"JWT_SECRET_KEY": "short"}, "The secret for HS256 is 5 bytes long"),
        ({"JWT_SECRET_KEY": None}, "There is no key for HS256"),
        ({"JWT_TOKEN_LOCATION": "nowhere"}, "JWT_TOKEN_LOCATION may"),
        ({"JWT_COOKIE_SAMESITE": "None", "JWT_COOKIE_SECURE": False}, "JWT_COOKIE_SAMESITE = "),
    ],
)
@on_each_loop
async def test_wrong_settings(harness, config, start):
    text = await fails(lambda: harness(config).jwt.start())  # noqa: PLW0108  # making one fails as well
    assert text.startswith(start)
    assert listed(text)


@on_each_loop
async def test_the_preset_comes_first(harness):
    h = harness()
    h.app.config["JWT_COMPAT"] = "flask-jwt-extended"
    text = await fails(h.mint)
    assert text.startswith("JWT_COMPAT must be set before")
    assert listed(text)


@NEEDS_QUART
async def test_managers_of_another_framework():
    app = QuartHarness.make_app(None)
    assert listed(await fails(lambda: flask_adapter.JWTManager(app)))
    assert "async_jwt.adapters.flask_sync.JWTManager does not serve a quart.app.Quart" in await fails(
        lambda: flask_sync_adapter.JWTManager(app)
    )
    other = FlaskAsyncHarness.make_app(None)
    assert "async_jwt.adapters.quart.JWTManager does not serve a flask.app.Flask" in await fails(
        lambda: quart_adapter.JWTManager(other)
    )
    assert (app.extensions, other.extensions) == ({}, {})


@on_each_loop
async def test_an_application_without_a_manager(harness):
    h = harness()
    h.app.extensions.clear()
    async with h.context():
        assert listed(await fails(lambda: h.api.create_access_token("alice")))


@on_each_loop
async def test_accessors_where_nothing_was_checked(harness):
    h = harness()
    texts = []

    async def view():
        names = ("get_jwt", "get_jwt_header", "get_jwt_identity", "get_current_user", "current_auth")
        texts.extend([await fails(getattr(h.api, name)) for name in names])
        return {}

    h.view("/unchecked-view", h.colour(view))
    assert (await h.call("/unchecked-view")).status == 200
    assert len(set(texts)) == 1
    assert listed(texts[0])


@on_each_loop
async def test_accessors_where_there_is_no_request(harness):
    h = harness()
    assert listed(await fails(h.api.get_jwt))
    async with h.context():
        assert listed(await fails(lambda: h.api.current_user.name))


@on_each_loop
async def test_a_current_user_that_nobody_loads(harness):
    h = harness()
    texts = []

    async def view():
        texts.append(await fails(h.api.get_current_user))
        return {}

    h.view("/user", h.api.jwt_required()(h.colour(view)))
    assert (await h.call("/user", token=await h.mint())).status == 200
    assert listed(texts[0])


@on_each_loop
async def test_decorated_classes(harness):
    class Account:
        pass

    guard = harness.api.__dict__.get("_blocking", harness.api).jwt_required()
    assert listed(await fails(lambda: guard(Account)))


@NEEDS_QUART
@pytest.mark.parametrize("harness", ["flask_sync", "flask_async"], indirect=True)
async def test_functions_of_another_framework(harness):
    h = harness()
    texts = []

    async def view():
        texts.append(await fails(lambda: quart_adapter.create_access_token("alice").send(None)))
        texts.append(await fails(quart_adapter.get_jwt))
        texts.append(await fails(lambda: quart_adapter.verify_jwt_in_request().send(None)))
        return {}

    h.view("/mixed", h.colour(view))
    assert (await h.call("/mixed")).status == 200
    assert len(set(texts)) == 1
    assert listed(texts[0])


@NEEDS_QUART
async def test_functions_of_flask_in_quart():
    h = QuartHarness()
    texts = []

    async def view():
        texts.append(await fails(flask_adapter.get_jwt))
        return {}

    h.view("/mixed", view)
    assert (await h.call("/mixed")).status == 200
    assert texts == [
        "This is a function for Flask, called in a Quart application: import it from async_jwt.adapters.quart"
    ]


@pytest.mark.parametrize("harness", ["quart", "flask_async"], indirect=True)
async def test_a_missing_await(harness):
    h = harness()
    response = h.app.response_class()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Python's own, that something was never awaited
        async with h.context():
            api = h.api
            for given in (
                lambda: api.decode_token(api.create_access_token("1")),
                lambda: api.get_jti(api.create_access_token("1")),
                lambda: api.get_csrf_token(api.create_access_token("1")),
                lambda: api.revoke_token(api.create_access_token("1")),
                lambda: api.get_unverified_jwt_headers(api.create_access_token("1")),
                lambda: api.set_access_cookies(response, api.create_access_token("1")),
                lambda: api.set_refresh_cookies(response, api.create_refresh_token("1")),
            ):
                text = await fails(given)
                assert "create_access_token" in text
                assert listed(text)
            text = await fails(lambda: api.set_token_cookies(response, api.create_token_pair("1")))
            assert "create_token_pair" in text
            assert listed(text)
            text = await fails(lambda: api.create_access_token(asyncio.sleep(0)))
            assert text.endswith("await the call that loads the user")
            assert listed(text)
        gc.collect()


@on_each_loop
async def test_other_things_than_coroutines_that_are_to_be_awaited(harness):
    h = harness()
    future = asyncio.get_running_loop().create_future()
    async with h.context():
        assert listed(await fails(lambda: h.api.set_access_cookies(h.app.response_class(), future)))


@pytest.mark.parametrize("harness", ["flask_shared", "flask_asgi"], indirect=True)
async def test_a_blocking_function_on_the_loop(harness):
    h = harness({"JWT_STORE_URI": "redis://localhost:1"})
    texts = []

    async def view():
        texts.append(await fails(lambda: flask_sync_adapter.create_access_token("alice")))
        return {}

    h.view("/blocking", view)
    assert (await h.call("/blocking")).status == 200
    assert listed(texts[0])


@on_each_loop
async def test_loaders_that_return_the_wrong_thing(harness, caplog):
    h = harness()
    h.jwt.token_verification_loader(lambda header, claims: None)
    answer = await h.call("/me", token=await h.mint())
    assert (answer.status, answer.code) == (500, "hook_error")
    assert listed(caplog.messages[0])


@on_each_loop
async def test_hooks_that_nothing_can_stop(harness):
    h = harness({"JWT_HOOK_TIMEOUT": 1})
    register = h.jwt.user_lookup_loader(inline=True)
    assert listed(await fails(lambda: register(lambda header, claims: {})))


async def test_pools_on_two_loops():
    """Where it comes up is in test_flask_loops.py."""
    assert listed(NOTE)


async def add_login(h):
    """A view that sets an access token's cookie."""

    async def login():
        response = h.app.response_class()
        h.api.set_access_cookies(response, token)
        return response

    token = await h.mint()
    h.view("/login", h.colour(login))


@on_each_loop
async def test_secure_cookies_over_http(harness, caplog):
    h = harness()
    await add_login(h)
    await h.call("/login", headers={"Host": "localhost:5000"})  # to themselves browsers take them
    assert not caplog.messages
    for _ in range(3):
        answer = await h.call("/login", headers={"Host": "app.example"})
        assert "access_token_cookie" in answer.cookies
    (text,) = caplog.messages
    assert listed(text)


@on_each_loop
async def test_no_word_where_cookies_need_no_https(harness, caplog):
    h = harness({"JWT_COOKIE_SECURE": False})
    await add_login(h)
    await h.call("/login", headers={"Host": "app.example"})
    assert not caplog.messages


@on_each_loop
async def test_a_proxy_that_nobody_told_of(harness, caplog):
    h = harness(COOKIES)
    headers = {"Host": "app.example", "Origin": "https://app.example", "Sec-Fetch-Site": "same-origin"}
    token = await h.mint()
    answer = await h.call("/me", method="POST", cookies={"access_token_cookie": token}, headers=headers)
    assert answer.code == "csrf_failed"
    assert listed(caplog.messages[0])
    caplog.clear()
    for _ in range(3):
        await h.call("/me", method="POST", cookies={"access_token_cookie": token}, headers=headers)
    assert not caplog.messages, "once"


@on_each_loop
@pytest.mark.parametrize("site", ["same-site", "cross-site", "same-origin", None])
async def test_a_page_of_another_origin(harness, caplog, site):
    h = harness(COOKIES)
    headers = {"Host": "localhost:5000", "Origin": "http://localhost:5173"}
    headers |= {} if site is None else {"Sec-Fetch-Site": site}
    token = await h.mint()
    for _ in range(3):
        answer = await h.call("/me", method="POST", cookies={"access_token_cookie": token}, headers=headers)
        assert answer.code == "csrf_failed"
    (message,) = caplog.messages
    assert listed(message)


@on_each_loop
async def test_clients_cannot_fill_the_log_with_origins(harness, caplog):
    h = harness(COOKIES)
    token = await h.mint()
    for number in range(120):
        headers = {"Origin": f"https://{number}.example"}
        await h.call("/me", method="POST", cookies={"access_token_cookie": token}, headers=headers)
    assert len(caplog.messages) == 50


@on_each_loop
async def test_a_log_has_one_line_of_what_a_client_sends(harness, caplog):
    h = harness(COOKIES)
    headers = {"Origin": "https://" + "x" * 5000 + "é", "Sec-Fetch-Site": "same-origin"}
    await h.call("/me", method="POST", cookies={"access_token_cookie": await h.mint()}, headers=headers)
    assert len(caplog.messages[0]) < 600


@on_each_loop
async def test_csrf_values_and_where_they_come_from(harness):
    h = harness(COOKIES)
    cookies = {"access_token_cookie": await h.mint()}
    answer = await h.call("/me", method="POST", cookies=cookies)
    assert listed(answer.json["msg"])
    answer = await h.call("/me", method="POST", cookies=cookies, headers={"X-CSRF-TOKEN": "another"})
    assert listed(answer.json["msg"])


@pytest.mark.parametrize(
    ("config", "path", "says"),
    [
        (
            {"JWT_COOKIE_PREFIX": "__Host-"},
            "/me",
            "send the value of the cookie __Host-csrf_access_token in the X-CSRF-TOKEN header",
        ),
        (
            {"JWT_REFRESH_CSRF_COOKIE_NAME": "mine", "JWT_REFRESH_CSRF_HEADER_NAME": "X-Mine"},
            "/refresh",
            "send the value of the cookie mine in the X-Mine header",
        ),
        ({"JWT_CSRF_IN_COOKIES": False}, "/me", "send the token's CSRF value in the X-CSRF-TOKEN header"),
    ],
)
@on_each_loop
async def test_csrf_values_by_other_names(harness, config, path, says):
    h = harness({**COOKIES, **config})
    prefix = config.get("JWT_COOKIE_PREFIX", "")
    cookies = {
        f"{prefix}access_token_cookie": await h.mint(),
        f"{prefix}refresh_token_cookie": await h.mint_refresh(),
    }
    answer = await h.call(path, method="POST", cookies=cookies)
    assert answer.json["msg"] == f"Missing CSRF token: {says}"


@on_each_loop
async def test_a_store_that_nobody_chose(harness, caplog):
    h = harness()
    await h.jwt.revoke_user("alice")
    assert listed(caplog.messages[0])
