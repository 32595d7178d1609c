"""One CSRF value per session: a form that is open in another tab outlives a rotation."""

from __future__ import annotations

import base64
import re

import pytest

from async_jwt.stores import MemoryStore
from tests.harness.applications import FlaskAsyncHarness, in_each_colour, in_memory
from tests.harness.rotation import rotate, rotating

pytestmark = [pytest.mark.asyncio, in_each_colour, in_memory]

COOKIES = {"JWT_TOKEN_LOCATION": ["cookies", "headers"], "JWT_CSRF_CHECK_FORM": True}


@pytest.fixture
def app(make_app):
    return rotating(make_app(COOKIES))


async def csrf_of(app, token):
    return (await app.jwt.decode_token(token))["csrf"]


def cookies_of(access):
    return {"access_token_cookie": access}


async def test_each_token_of_a_session_carries_it(app):
    @app.api.jwt_required(refresh=True)
    async def access():
        return {"access": await app.api.create_access_token("alice")}

    @app.api.jwt_required()
    async def of_another():
        return {"access": await app.api.create_access_token("bob")}

    app.view("/access", access)
    app.view("/of_another", of_another)
    pair, other = await app.jwt.create_token_pair("alice"), await app.jwt.create_token_pair("alice")
    value = await csrf_of(app, pair.access_token)
    assert await csrf_of(app, pair.refresh_token) == value
    assert await csrf_of(app, other.access_token) != value
    made = (await app.call("/access", token=pair.refresh_token)).json["access"]
    assert await csrf_of(app, made) == value
    foreign = (await app.call("/of_another", token=pair.access_token)).json["access"]
    assert await csrf_of(app, foreign) != value
    refresh = pair.refresh_token
    for _ in range(3):
        new = await rotate(app, refresh)
        again = await rotate(app, refresh)
        for token in (new["access"], new["refresh"], again["access"], again["refresh"]):
            assert await csrf_of(app, token) == value
        refresh = new["refresh"]


async def test_a_form_from_before_a_rotation_counts(app):
    pair = await app.jwt.create_token_pair("alice")
    value = await csrf_of(app, pair.access_token)
    new = await rotate(app, pair.refresh_token)
    for sent in ({"headers": {"X-CSRF-TOKEN": value}}, {"form": {"csrf_token": value}}):
        assert (await app.call(method="POST", cookies=cookies_of(new["access"]), **sent)).status == 200


async def test_a_session_from_before_takes_over_its_refresh_tokens_value(app):
    """The tokens of a pair had one value each."""
    old = await app.jwt.create_token_pair("alice", additional_claims={"csrf": "of the session"})
    new = await rotate(app, old.refresh_token)
    assert {await csrf_of(app, token) for token in (new["access"], new["refresh"])} == {"of the session"}
    apart = await app.mint_refresh()
    new = await rotate(app, apart)
    assert await csrf_of(app, new["access"]) == await csrf_of(app, apart)


async def test_a_token_without_one_gets_one(make_app):
    store = MemoryStore()
    pair = await make_app({"JWT_COOKIE_CSRF_PROTECT": False}, store=store).jwt.create_token_pair("alice")
    new = await rotate(rotating(make_app(COOKIES, store=store)), pair.refresh_token)
    assert len(await csrf_of(make_app(COOKIES), new["access"])) == 36


async def test_without_csrf_protection_there_is_none(make_app):
    app = rotating(make_app({"JWT_COOKIE_CSRF_PROTECT": False}))

    @app.api.jwt_required()
    async def value():
        return {"value": app.api.jwt_csrf_token()}

    app.view("/value", value)
    pair = await app.jwt.create_token_pair("alice")
    assert "csrf" not in await app.jwt.decode_token(pair.access_token)
    assert "csrf" not in await app.jwt.decode_token((await rotate(app, pair.refresh_token))["access"])
    assert (await app.call("/value", token=pair.access_token)).json == {"value": ""}


async def test_what_the_application_says_stands(app):
    @app.api.jwt_required()
    async def own():
        return {"access": await app.api.create_access_token("alice", additional_claims={"csrf": "own"})}

    app.view("/own", own)
    pair = await app.jwt.create_token_pair("alice")
    assert await csrf_of(app, (await app.call("/own", token=pair.access_token)).json["access"]) == "own"


# -- jwt_csrf_token ----------------------------------------------------------------------


def with_form(app, template="<input name=csrf_token value='{{ jwt_csrf_token() }}'>"):
    api = app.api
    render = app.framework.render_template_string

    @api.jwt_required(optional=True)
    async def form():
        page = render(template)
        return page if isinstance(page, str) else await page

    async def unchecked():
        page = render(template)
        return page if isinstance(page, str) else await page

    app.view("/form", form)
    app.view("/unchecked", app.colour(unchecked))
    return app


def value_in(answer):
    return re.search(r"value='(.*)'", answer.body.decode())[1]


async def test_a_form_holds_it_masked_anew(app):
    with_form(app)
    pair = await app.jwt.create_token_pair("alice")
    cookies = cookies_of(pair.access_token)
    plain = await csrf_of(app, pair.access_token)
    values = {value_in(await app.call("/form", cookies=cookies)) for _ in range(5)}
    assert len(values) == 5
    assert plain not in values
    new = cookies_of((await rotate(app, pair.refresh_token))["access"])
    for value in values:
        for sent in ({"form": {"csrf_token": value}}, {"headers": {"X-CSRF-TOKEN": value}}):
            assert (await app.call(method="POST", cookies=new, **sent)).status == 200
    claims = await app.jwt.decode_token(pair.access_token, csrf_value=values.pop())
    assert claims["csrf"] == plain


async def test_a_macro_of_another_template_has_it(app):
    from jinja2 import DictLoader

    app.app.jinja_loader = DictLoader(
        {"forms.html": "{% macro field() %}<i value='{{ jwt_csrf_token() }}'>{% endmacro %}"}
    )
    with_form(app, "{% import 'forms.html' as forms %}{{ forms.field() }}")
    answer = await app.call("/form", cookies=cookies_of(await app.mint()))
    assert len(value_in(answer)) == 96


async def test_what_is_no_mask_of_it_is_refused(app):
    with_form(app)
    pair, other = [await app.jwt.create_token_pair("alice") for _ in range(2)]
    mine, theirs = (cookies_of(each.access_token) for each in (pair, other))
    foreign = value_in(await app.call("/form", cookies=theirs))
    good = value_in(await app.call("/form", cookies=mine))
    bent = base64.urlsafe_b64encode(base64.urlsafe_b64decode(good)[:-1] + b"\0").decode()
    for wrong in (foreign, bent, good[:-4], good + good, "=", "AAAA", "A" * 96, "\u00e9" * 96):
        answer = await app.call(method="POST", cookies=mine, headers={"X-CSRF-TOKEN": wrong})
        assert (answer.status, answer.code) == (401, "csrf_failed"), wrong


async def test_where_nobody_is_authenticated_it_is_empty(app):
    with_form(app)
    assert value_in(await app.call("/form")) == ""
    assert value_in(await app.call("/unchecked")) == ""


async def test_names_of_the_application_stay(make_app):
    app = make_app(COOKIES)
    app.app.template_global("jwt_csrf_token")(lambda: "own")
    with_form(app, "<i value='{{ jwt_csrf_token() }}'>{{ csrf_token is defined }}</i>")
    answer = await app.call("/form", cookies=cookies_of(await app.mint()))
    assert answer.body == b"<i value='own'>False</i>"


async def test_it_is_plain(app):
    if isinstance(app, FlaskAsyncHarness):

        @app.api.jwt_required()
        def view():
            return {"value": app.api.jwt_csrf_token()}

    else:

        @app.api.jwt_required()
        async def view():
            return {"value": app.api.jwt_csrf_token()}

    app.view("/value", view)
    assert len((await app.call("/value", token=await app.mint())).json["value"]) == 96
