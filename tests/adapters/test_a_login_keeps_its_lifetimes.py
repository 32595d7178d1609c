"""Lifetimes and cookie persistence that a login chose go on from token to token."""

from __future__ import annotations

import datetime as dt

import pytest
from dateutil.relativedelta import relativedelta

from async_jwt.core.login import LOGIN
from async_jwt.stores import MemoryStore
from tests.harness.applications import however_it_runs, in_memory

pytestmark = [pytest.mark.asyncio, however_it_runs]

ACCESS, REFRESH = 15 * 60, 30 * 86400
COOKIES = {"JWT_TOKEN_LOCATION": ["cookies", "headers"], "JWT_COOKIE_CSRF_PROTECT": False}


@pytest.fixture
def app(make_app, clock):
    return refreshing(make_app(COOKIES, clock=clock))


def refreshing(app):
    api = app.api

    @api.jwt_required(refresh=True)
    async def rotate():
        pair = await api.rotate_refresh_token()
        response = app.app.response_class("{}")
        api.set_token_cookies(response, pair)
        return response

    @api.jwt_required(refresh=True)
    async def once():
        pair = await api.rotate_refresh_token(access_expires_delta=7, refresh_expires_delta=70)
        response = app.app.response_class("{}")
        api.set_token_cookies(response, pair)
        return response

    @api.jwt_required(refresh=True)
    async def access():
        response = app.app.response_class("{}")
        api.set_access_cookies(response, await api.create_access_token("alice"))
        return response

    for path, view in {"/rotate": rotate, "/once": once, "/access": access}.items():
        app.view(path, view, methods=["POST"])

    async def refresh(response):
        return await api.refresh_expiring_cookies(response)

    app.app.after_request(app.colour(refresh))
    return app


class Browser:
    def __init__(self, app, pair):
        self.app = app
        self.cookies = {"access_token_cookie": pair.access_token, "refresh_token_cookie": pair.refresh_token}
        self.lines = {}

    async def go(self, path="/me", method="GET"):
        answer = await self.app.call(path, method=method, cookies=self.cookies)
        assert answer.status == 200
        self.lines = answer.cookies
        for name, line in answer.cookies.items():
            self.cookies[name] = line.partition(";")[0].partition("=")[2]

    async def lives(self):
        """How long the two tokens live from now, and how long their cookies are kept."""
        ends = []
        for name in ("access_token_cookie", "refresh_token_cookie"):
            claims = await self.app.jwt.decode_token(self.cookies[name])
            ends.append("never" if "exp" not in claims else claims["exp"] - int(self.app.now()))
        return ends

    def kept(self):
        return ["Max-Age" in self.lines[name] for name in sorted(self.lines)]


@pytest.fixture
def sign_in(app, clock):
    async def sign_in(app=app, **options):
        app.now = lambda: clock.now
        return Browser(app, await app.jwt.create_token_pair("alice", **options))

    return sign_in


STEPS = {"rotate": ("/rotate", "POST"), "refresh_expiring_cookies": ("/me", "GET")}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("given", "lives"),
    [
        ({}, [ACCESS, REFRESH]),
        ({"access_expires_delta": 60}, [60, REFRESH]),
        ({"refresh_expires_delta": dt.timedelta(hours=1)}, [ACCESS, 3600]),
        (
            {
                "access_expires_delta": dt.timedelta(minutes=2),
                "refresh_expires_delta": relativedelta(days=90),
            },
            [120, 90 * 86400],
        ),
        ({"refresh_expires_delta": False}, [ACCESS, "never"]),
    ],
)
async def test_successors_live_as_long(sign_in, clock, given, lives, step):
    browser = await sign_in(**given)
    assert await browser.lives() == lives
    for _ in range(3):
        clock.now += lives[0] / 2
        await browser.go(*STEPS[step])
        assert await browser.lives() == lives


@in_memory
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("persistent", [True, False, None])
@pytest.mark.parametrize("is_usual", [True, False])
async def test_cookies_stay_as_persistent(make_app, sign_in, clock, persistent, is_usual, step):
    """Remember me, or until the browser closes."""
    app = refreshing(make_app({**COOKIES, "JWT_SESSION_COOKIE": not is_usual}, clock=clock))
    browser = await sign_in(app, persistent=persistent)
    for _ in range(2):
        clock.now += ACCESS / 2
        await browser.go(*STEPS[step])
        assert browser.kept() == [is_usual if persistent is None else persistent] * 2


async def test_a_new_access_token_of_the_session_keeps_them_too(sign_in, clock):
    browser = await sign_in(access_expires_delta=60, persistent=False)
    clock.now += 50
    await browser.go("/access", "POST")
    assert (await browser.lives())[0] == 60
    assert browser.kept() == [False]
    browser = await sign_in(access_expires_delta=False)
    await browser.go("/access", "POST")
    assert (await browser.lives())[0] == "never"


async def test_what_a_rotation_says_is_for_that_step(sign_in, clock):
    browser = await sign_in(access_expires_delta=60, refresh_expires_delta=600)
    await browser.go("/once", "POST")
    assert await browser.lives() == [7, 70]
    await browser.go("/rotate", "POST")
    assert await browser.lives() == [60, 600]


async def test_the_sessions_age_still_ends_all(make_app, sign_in, clock):
    app = refreshing(make_app({**COOKIES, "JWT_SESSION_MAX_AGE": 100}, clock=clock))
    browser = await sign_in(app, access_expires_delta=60, refresh_expires_delta=600)
    assert await browser.lives() == [60, 100]
    clock.now += 59
    await browser.go("/rotate", "POST")
    assert await browser.lives() == [41, 41]


async def test_what_follows_the_settings_stands_in_no_token(make_app, clock):
    """So that a changed setting applies to sessions that began before."""
    store = MemoryStore(clock=clock)
    app = make_app(COOKIES, store=store, clock=clock)
    pair = await app.jwt.create_token_pair(
        "alice", access_expires_delta=ACCESS, refresh_expires_delta=dt.timedelta(days=30), persistent=True
    )
    assert LOGIN not in await app.jwt.decode_token(pair.access_token)
    later = refreshing(make_app({**COOKIES, "JWT_ACCESS_TOKEN_EXPIRES": 5}, store=store, clock=clock))
    later.now = lambda: clock.now
    browser = Browser(later, pair)
    await browser.go("/rotate", "POST")
    assert (await browser.lives())[0] == 5


async def test_an_explicit_max_age_wins(app):
    pair = await app.jwt.create_token_pair("alice", persistent=False)

    async def view():
        response = app.app.response_class("{}")
        app.api.set_access_cookies(response, pair.access_token, max_age=7)
        return response

    app.view("/max_age", app.colour(view))
    assert "Max-Age=7;" in (await app.call("/max_age")).cookies["access_token_cookie"]


@in_memory
@pytest.mark.parametrize(
    "odd",
    [7, "x", {"access": "60"}, {"access": True}, {"access": -1}, {"access": 1e300}, {"persistent": 1}, []],
)
async def test_a_claim_that_says_nothing_follows_the_settings(app, sign_in, odd):
    """As of another application that shares the key."""
    browser = await sign_in()
    browser.cookies["refresh_token_cookie"] = await app.mint_refresh(additional_claims={LOGIN: odd})
    await browser.go("/access", "POST")
    assert (await browser.lives())[0] == ACCESS
    assert browser.kept() == [True]


async def test_arguments_that_make_no_sense(app):
    create = app.jwt.create_token_pair
    for given in ({"persistent": 1}, {"persistent": "yes"}, {"access_expires_delta": 0}):
        with pytest.raises(ValueError, match=r"persistent|expires_delta"):
            await create("alice", **given)
    with pytest.raises(ValueError, match=LOGIN):
        await create("alice", additional_claims={LOGIN: {"access": 10**9}})


async def test_under_the_compat_preset(make_app, sign_in, clock):
    app = refreshing(make_app({**COOKIES, "JWT_COMPAT": "flask-jwt-extended"}, clock=clock))
    browser = await sign_in(app, refresh_expires_delta=0, persistent=True)
    await browser.go("/rotate", "POST")
    assert await browser.lives() == [ACCESS, "never"]
    assert browser.kept() == [True, True]


async def test_its_own_exp_is_left(app, sign_in, clock):
    @app.api.jwt_required(refresh=True)
    async def own():
        end = int(clock.now) + 33
        token = await app.api.create_access_token("alice", additional_claims={"exp": end})
        other = await app.api.create_access_token("alice", expires_delta=44)
        return {"tokens": [token, other]}

    app.view("/own", own, methods=["POST"])
    browser = await sign_in(access_expires_delta=60)
    answer = await app.call("/own", method="POST", cookies=browser.cookies)
    ends = [(await app.jwt.decode_token(token))["exp"] - int(clock.now) for token in answer.json["tokens"]]
    assert ends == [33, 44]
