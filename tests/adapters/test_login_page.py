"""`JWT_LOGIN_VIEW` and `safe_next`: page loads go to the login page and back, and nowhere else."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs, urlsplit

import pytest

from async_jwt.testing import outage
from tests.harness.applications import FlaskAsyncHarness, in_each_colour, in_memory

pytestmark = [pytest.mark.asyncio, in_each_colour, in_memory]

COOKIES = {"JWT_TOKEN_LOCATION": ["cookies", "headers"], "JWT_COOKIE_SECURE": False}
LOAD = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


def with_login(app):
    async def login():
        return {"next": app.api.safe_next()}

    async def login_default():
        return {"next": app.api.safe_next(default="/start")}

    app.view("/login", app.colour(login), methods=["GET", "POST"])
    app.view("/login_default", app.colour(login_default))
    return app


@pytest.fixture
def app(make_app):
    return with_login(make_app({**COOKIES, "JWT_LOGIN_VIEW": "/login"}))


def target(answer):
    """Where a redirect leads, and where from there."""
    assert answer.status == 302
    assert answer.headers["Cache-Control"] == "no-store"
    parts = urlsplit(answer.headers["Location"])
    return parts.path, parse_qs(parts.query).get("next", [None])[0]


@pytest.mark.parametrize("view", ["/login", "the endpoint"])
async def test_a_page_load_is_sent_to_the_login_page(make_app, view):
    app = make_app({**COOKIES, "JWT_LOGIN_VIEW": view.replace("the endpoint", "sign_in")})

    async def login():
        return {"next": app.api.safe_next()}

    app.app.add_url_rule("/login", "sign_in", app.colour(login))
    for path in ("/me", "/me?a=b&c=%C3%A9%20d", "/me?u=https://example.com/x"):
        assert target(await app.call(path, headers=LOAD)) == ("/login", path)
        location = (await app.call(path, headers=LOAD)).headers["Location"]
        answer = await app.call(location[location.index("/login") :])
        assert answer.json == {"next": path}


async def test_for_each_reason_that_is_401(app):
    revoked, fresh = await app.mint(), await app.mint()
    await app.jwt.revoke_token(revoked)
    for cookies in ({}, {"access_token_cookie": "junk"}, {"access_token_cookie": revoked}):
        assert target(await app.call(headers=LOAD, cookies=cookies)) == ("/login", "/me")
    assert target(await app.call("/fresh", headers=LOAD, cookies={"access_token_cookie": fresh}))
    dead = await app.call(headers=LOAD, cookies={"access_token_cookie": revoked})
    assert "access_token_cookie" in dead.cookies


async def test_a_client_that_does_not_say_what_it_does(app):
    """Over plain http browsers send no Sec-Fetch-Mode."""
    html = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    assert target(await app.call(headers=html)) == ("/login", "/me")
    for headers in (
        {},
        {"Accept": "*/*"},
        {"Accept": "application/json"},
        {**html, "Sec-Fetch-Mode": "cors"},
    ):
        assert (await app.call(headers=headers)).status == 401


async def test_nothing_else_is_redirected(app):
    @app.jwt.token_verification_loader
    async def verify(header, data):
        return data["sub"] != "odd"

    for method in ("POST", "PUT", "HEAD"):
        assert (await app.call(method=method, headers=LOAD)).status in (401, 405)
    one, two, odd = await app.mint(), await app.mint("bob"), await app.mint("odd")
    twins = f"access_token_cookie={one}; access_token_cookie={two}"
    assert (await app.call(headers={**LOAD, "Cookie": twins})).status == 400
    assert (await app.call(headers=LOAD, cookies={"access_token_cookie": odd})).status == 400
    with outage(app.app):
        assert (await app.call(headers=LOAD, cookies={"access_token_cookie": one})).status == 503
    assert (await app.call("/nowhere", headers=LOAD)).status == 404
    assert (await app.call(headers=LOAD, cookies={"access_token_cookie": one})).status == 200


async def test_a_loader_of_the_application_wins(app):
    @app.jwt.unauthorized_loader
    async def answer(message):
        return {"own": True}, 401

    assert (await app.call(headers=LOAD)).json == {"own": True}
    assert target(await app.call(headers=LOAD, cookies={"access_token_cookie": "junk"}))


async def test_a_path_that_is_too_long_is_left_out(app):
    assert target(await app.call("/me?" + "x" * 1995, headers=LOAD))[1] is not None
    assert target(await app.call("/me?" + "x" * 1997, headers=LOAD))[1] is None


async def test_an_endpoint_without_a_path_to_come_back_to(make_app):
    app = make_app({**COOKIES, "JWT_LOGIN_VIEW": "sign_in"})

    async def login():
        return {}

    app.app.add_url_rule("/login", "sign_in", app.colour(login))
    assert target(await app.call("/me?" + "x" * 3000, headers=LOAD)) == ("/login", None)


async def test_any_path_comes_back_as_it_was(make_app):
    app = make_app({**COOKIES, "JWT_LOGIN_VIEW": "/login"})

    @app.api.jwt_required()
    async def wiki(name):
        return {}

    async def login():
        return {}

    app.app.add_url_rule("/wiki/<path:name>", "wiki", wiki)
    app.app.add_url_rule("/login", "login", app.colour(login))
    for path in (
        "/wiki/100%2525",
        "/wiki/a%3Fb",
        "/wiki/a%23b?c=%26",
        "/wiki/%E2%84%80",
        "/wiki/a%09b",
        "/wiki/a:b",
    ):
        assert target(await app.call(path, headers=LOAD)) == ("/login", path)


async def test_odd_paths_are_no_500(make_app):
    app = make_app({**COOKIES, "JWT_LOGIN_VIEW": "/log/in"})

    @app.api.jwt_required()
    async def wiki(name):
        return {}

    async def login():
        return {}

    app.app.add_url_rule("/<path:name>", "wiki", wiki)
    app.app.add_url_rule("/log/in", "login", app.colour(login))
    for path in ("/a/%09/%5Bx", "/a/%09//a..b", "/%5C%5Cevil", "/a/%09/%E2%84%80x", "/a%00b", "/%ff%fe"):
        assert target(await app.call(path, headers=LOAD))[0] == "/log/in"


async def test_a_login_page_whose_path_names_the_tenant(make_app):
    app = make_app({**COOKIES, "JWT_LOGIN_VIEW": "sign_in"})

    async def login(tenant):
        return {}

    @app.api.jwt_required()
    async def page(tenant=None):
        return {}

    app.app.add_url_rule("/<tenant>/login", "sign_in", app.colour(login))
    app.app.add_url_rule("/<tenant>/page", "page", page)
    app.app.add_url_rule("/page", "no_tenant", page)
    assert target(await app.call("/acme/page", headers=LOAD)) == ("/acme/login", "/acme/page")
    assert (await app.call("/page", headers=LOAD)).status == 401


async def test_a_path_with_a_query(make_app):
    app = with_login(make_app({**COOKIES, "JWT_LOGIN_VIEW": "/login?by=mail"}))
    location = (await app.call(headers=LOAD)).headers["Location"]
    assert location.endswith("/login?by=mail&next=%2Fme")


async def test_it_is_never_redirected_to_itself(make_app):
    """A check by hand is one that nobody sees at start."""
    app = make_app({**COOKIES, "JWT_LOGIN_VIEW": "/login"})

    async def login():
        await app.api.verify_jwt_in_request()
        return {}

    app.view("/login", app.colour(login))
    assert (await app.call("/login", headers=LOAD)).status == 401


async def test_under_another_root(app):
    client = app.app.test_client(use_cookies=False)
    if isinstance(app, FlaskAsyncHarness):
        answer = await asyncio.to_thread(client.get, "/me", base_url="http://localhost/root", headers=LOAD)
    else:
        answer = await client.get("/root/me", root_path="/root", headers=LOAD)
    location = urlsplit(answer.headers["Location"])
    assert (location.path, parse_qs(location.query)["next"]) == ("/root/login", ["/root/me"])


LOCAL = ["/", "/a", "/a/b?c=d#e", "/a?u=https://example.com//x", "/\u00e9", "/a:b", "/.", "/@a"]
FOREIGN = [
    "",
    "a",
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\/evil.example",
    "/a\\b",
    "/a//b",
    "/.//evil.example",
    "https://evil.example",
    "https:/evil.example",
    "javascript:alert(1)",
    " /a",
    "/\t/evil.example",
    "/\n/evil.example",
    "/a b",
    "/a\r\nSet-Cookie: x=y",
    "/\x00",
    "/\x7f",
    "/a?b\\c",
    "/" + "x" * 2000,
    "/" + "\u00e9" * 1000,
]


async def test_what_is_a_local_path(app):
    async with app.context():
        for path in LOCAL:
            assert app.api.safe_next(path) == path
        for text in [*FOREIGN, 7, b"/a", "/\ud800"]:
            assert app.api.safe_next(text) == "/", text
            assert app.api.safe_next(text, default="/start") == "/start"


async def test_of_the_query(app):
    for query, path in (
        ("?next=/a%3Fb", "/a?b"),
        ("", "/"),
        ("?next=//evil.example", "/"),
        ("?next=%2F%5Cevil.example", "/"),
        ("?next=/a&next=//evil.example", "/a"),
        ("?next=%ff", "/"),
    ):
        assert (await app.call(f"/login{query}")).json == {"next": path}
    assert (await app.call("/login_default")).json == {"next": "/start"}


async def test_outside_a_request(app):
    async with app.context():
        with pytest.raises(RuntimeError, match="inside a request"):
            app.api.safe_next()


@pytest.mark.parametrize(
    ("name", "says"),
    [("nowhere", "is no endpoint"), ("me_too", "demands a token"), ("/me_too", "demands a token")],
)
async def test_a_login_page_that_cannot_be_is_refused(make_app, caplog, name, says):
    app = make_app({**COOKIES, "JWT_LOGIN_VIEW": name})

    @app.api.jwt_required()
    async def me_too():
        return {}

    app.app.add_url_rule("/me_too", "me_too", me_too)
    await refused(app, caplog, says)


async def test_a_path_that_a_rule_with_variables_takes(make_app, caplog):
    app = make_app({**COOKIES, "JWT_LOGIN_VIEW": "/en/login?a=b"})

    @app.api.jwt_required()
    async def login(language):
        return {}

    app.app.add_url_rule("/<language>/login", "login", login)
    await refused(app, caplog, "demands a token")


async def test_one_that_is_protected_by_default_too(make_app, caplog):
    app = with_login(make_app({**COOKIES, "JWT_LOGIN_VIEW": "/login", "JWT_DEFAULT_DENY": True}))
    await refused(app, caplog, "demands a token")


async def refused(app, caplog, says):
    if isinstance(app, FlaskAsyncHarness):
        assert (await app.call("/open")).status == 500
        assert says in caplog.text
    else:
        with pytest.raises(Exception, match=says):
            async with app.serving():
                pass


async def test_one_that_lets_anonymous_requests_in(make_app):
    app = make_app({**COOKIES, "JWT_LOGIN_VIEW": "/optional_login"})

    @app.api.jwt_required(optional=True, lenient=True)
    async def login():
        return {"next": app.api.safe_next()}

    app.view("/optional_login", login)
    assert target(await app.call(headers=LOAD)) == ("/optional_login", "/me")
    async with app.serving():
        pass


async def test_a_path_outside_of_the_application(make_app):
    app = make_app({**COOKIES, "JWT_LOGIN_VIEW": "/of/another/service"})
    assert target(await app.call(headers=LOAD)) == ("/of/another/service", "/me")
