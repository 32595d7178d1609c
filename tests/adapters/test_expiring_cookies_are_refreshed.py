"""Cookies that are refreshed while they are used: the helper for `after_request`."""

from __future__ import annotations

import datetime as dt

import pytest

from async_jwt.adapters import flask_sync
from async_jwt.core.sessions import SessionPage
from async_jwt.signals import token_repeated, token_reused
from async_jwt.stores import MemoryStore
from tests.harness.applications import FlaskAsyncHarness, FlaskSyncHarness, QuartHarness, however_it_runs

pytestmark = [pytest.mark.asyncio, however_it_runs]

LIVES = 900


class Browser:
    """Sends the cookies that it was given, with their CSRF value."""

    def __init__(self, app):
        self.app = app
        self.cookies = {}

    async def go(self, path="/me", method="GET"):
        headers = {} if method == "GET" else {"X-CSRF-TOKEN": self.cookies["csrf_access_token"]}
        answer = await self.app.call(path, method=method, cookies=self.cookies, headers=headers)
        for name, line in answer.cookies.items():
            value = line.partition(";")[0].partition("=")[2]
            if value:
                self.cookies[name] = value
            else:
                self.cookies.pop(name, None)
        return answer

    async def claims(self, kind="access"):
        return await self.app.jwt.decode_token(self.cookies[f"{kind}_token_cookie"], allow_expired=True)


def refreshing(app, **options):
    """Lets an application refresh cookies, with views that sign out and the like."""
    api = app.api
    if isinstance(app, FlaskSyncHarness):

        @app.app.after_request
        def refresh(response):
            return flask_sync.refresh_expiring_cookies(response, **options)

    elif options:

        @app.app.after_request
        async def refresh(response):
            return await api.refresh_expiring_cookies(response, **options)

    else:
        app.app.after_request(api.refresh_expiring_cookies)

    @api.jwt_required()
    async def logout():
        await api.revoke_session()
        return {}

    @api.jwt_required()
    async def revoke_other():
        await api.revoke_user("bob")
        return {}

    @api.jwt_required(skip_revocation_check=True)
    async def unchecked():
        return {}

    @api.jwt_required()
    async def leave():
        response = app.app.response_class("{}")
        api.unset_jwt_cookies(response)
        return response

    views = {"/logout": logout, "/revoke": revoke_other, "/careless": unchecked, "/leave": leave}
    for path, view in views.items():
        app.view(path, view, methods=["POST"])
    return app


@pytest.fixture
def make(harness, clock):
    made = []

    def make(config=None, **options):
        config = {"JWT_TOKEN_LOCATION": ["cookies", "headers"], **(config or {})}
        made.append(harness(config, store=MemoryStore(clock=clock), clock=clock))
        return refreshing(made[-1], **options)

    yield make
    for app in made:
        app.end()


async def signed_in(app, identity="alice", fresh=True, **options):
    browser = Browser(app)
    pair = await app.jwt.create_token_pair(identity, fresh=fresh, **options)
    browser.cookies = {
        "access_token_cookie": pair.access_token,
        "refresh_token_cookie": pair.refresh_token,
        "csrf_access_token": (await app.jwt.decode_token(pair.access_token))["csrf"],
    }
    browser.pair = pair
    return browser


async def test_what_is_revoked_before_the_first_check_stops_no_refresh(make, clock):
    """An empty state that such a call leaves behind once hid the check that came later."""
    app = make()

    async def before():
        await app.api.revoke_token({"sub": "bob", "jti": "one", "type": "access", "exp": clock.now + LIVES})

    app.app.before_request(app.colour(before))
    browser = await signed_in(app)
    clock.now += LIVES / 2
    assert "access_token_cookie" in (await browser.go()).cookies


async def test_both_tokens_are_replaced_in_the_second_half_of_a_tokens_life(make, clock):
    app = make()
    browser = await signed_in(app, additional_claims={"tenant": "a"})
    clock.now += LIVES / 2 - 1
    assert (await browser.go()).cookies == {}
    clock.now += 1
    answer = await browser.go()
    assert answer.status == 200
    assert set(answer.cookies) == {
        "access_token_cookie",
        "refresh_token_cookie",
        "csrf_access_token",
        "csrf_refresh_token",
    }
    for kind in ("access", "refresh"):
        found = await browser.claims(kind)
        assert (found["sid"], found["tenant"]) == (browser.pair.sid, "a")
    assert (await browser.claims())["exp"] == clock.now + LIVES
    assert (await browser.go()).cookies == {}
    clock.now += LIVES / 2
    assert set((await browser.go("/revoke", "POST")).cookies) == set()  # it revoked something
    assert (await browser.go("/me", "POST")).cookies != {}  # with the access token's CSRF value


async def test_tabs_that_ask_at_once_end_with_the_same_token(make, clock):
    app = make()
    tabs = [await signed_in(app)]
    for _ in range(3):
        tab = Browser(app)
        tab.cookies = dict(tabs[0].cookies)
        tabs.append(tab)
    clock.now += LIVES / 2
    for tab in tabs:
        assert (await tab.go()).status == 200
    assert len({tab.cookies["refresh_token_cookie"] for tab in tabs}) == 1
    clock.now += LIVES / 2
    for tab in tabs:
        assert (await tab.go()).status == 200


@pytest.mark.parametrize(
    ("within", "left", "happens"),
    [(100, 101, False), (100, 100, True), (dt.timedelta(minutes=5), 301, False), (300.5, 300, True)],
)
async def test_how_early(make, clock, within, left, happens):
    app = make(within=within)
    browser = await signed_in(app)
    clock.now += LIVES - left
    assert bool((await browser.go()).cookies) is happens


async def test_what_the_view_does_with_the_cookies_counts(make, clock):
    app = make()
    browser = await signed_in(app)
    clock.now += LIVES / 2
    answer = await browser.go("/logout", "POST")
    assert (answer.status, answer.cookies) == (200, {})
    assert (await browser.go()).status == 401

    browser = await signed_in(app)
    clock.now += LIVES / 2
    await browser.go("/leave", "POST")
    assert browser.cookies == {}


async def test_a_request_that_makes_its_own_token_stale_gets_new_ones(make):
    """As one that changes its user's own roles."""
    app = make()

    @app.api.jwt_required()
    async def roles():
        await app.api.expire_access_tokens()
        return {}

    @app.api.jwt_required()
    async def of_another():
        await app.api.expire_access_tokens("bob")
        return {}

    app.view("/roles", roles, methods=["POST"])
    app.view("/of_another", of_another, methods=["POST"])
    browser = await signed_in(app)
    old = dict(browser.cookies)
    assert (await browser.go("/of_another", "POST")).cookies == {}
    assert "access_token_cookie" in (await browser.go("/roles", "POST")).cookies
    assert (await browser.go()).status == 200
    assert (await app.call(cookies=old)).code == "token_stale"


async def test_nothing_that_was_signed_out_is_revived(make, clock):
    app = make()
    for revoke in (
        lambda pair: app.jwt.revoke_session(pair.sid),
        lambda pair: app.jwt.revoke_user("alice"),
        lambda pair: app.jwt.revoke_token(pair.refresh_token),
    ):
        browser = await signed_in(app)
        clock.now += LIVES / 2
        await revoke(browser.pair)
        assert (await browser.go("/careless", "POST")).cookies == {}
        taken = (await browser.go()).cookies
        assert set(taken) <= {"access_token_cookie", "csrf_access_token"}
        assert all("Expires=Thu, 01 Jan 1970" in line for line in taken.values())


async def test_a_view_that_skips_the_check_refreshes_nothing(make, clock):
    browser = await signed_in(make())
    clock.now += LIVES / 2
    answer = await browser.go("/careless", "POST")
    assert (answer.status, answer.cookies) == (200, {})


async def test_other_requests_are_left_alone(make, clock):
    app = make()
    browser = await signed_in(app)
    clock.now += LIVES / 2
    for answer in (
        await app.call("/optional"),
        await app.call("/open"),
        await app.call("/nowhere"),
        await app.call(token=browser.pair.access_token),
        await app.call("/refresh", token=browser.pair.refresh_token),
        await app.call(cookies={"access_token_cookie": browser.pair.access_token}),
        await app.call(
            cookies={"access_token_cookie": browser.pair.access_token, "refresh_token_cookie": "junk"}
        ),
        await app.call(cookies={"access_token_cookie": await app.mint(expires_delta=False)}),
    ):
        assert answer.cookies == {}
    clock.now += LIVES
    assert (await browser.go()).status == 401


async def test_a_refresh_token_of_another_session_is_not_used(make, clock):
    app = make()
    mine, yours, other = (
        await signed_in(app),
        await signed_in(app, "mallory"),
        await signed_in(app),
    )
    clock.now += LIVES / 2
    for foreign in (yours, other):
        mixed = Browser(app)
        mixed.cookies = {
            **mine.cookies,
            "refresh_token_cookie": foreign.cookies["refresh_token_cookie"],
        }
        answer = await mixed.go()
        assert (answer.status, answer.cookies) == (200, {})


async def test_tokens_made_apart_become_a_session(make, clock):
    app = make()
    browser = Browser(app)
    browser.cookies = {
        "access_token_cookie": await app.mint(),
        "refresh_token_cookie": await app.mint_refresh(),
    }
    clock.now += LIVES / 2
    await browser.go()
    assert (await browser.claims())["sid"] == (await browser.claims("refresh"))["sid"]


def slowly(app, clock):
    """Views that take a while: what else happens meanwhile is handed in."""
    meanwhile = []

    @app.api.jwt_required()
    async def slow():
        for what in meanwhile:
            await what()
        return {}

    app.view("/slow", slow)
    return meanwhile


def told_of(app):
    told = []
    token_reused.connect(lambda _, **sent: told.append(sent["kind"]), app.app, weak=False)
    token_repeated.connect(lambda _, **sent: told.append(sent["in_a_row"]), app.app, weak=False)
    return told


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("seconds", [1, 5, 60])
@pytest.mark.parametrize("grace", [10, "until_used"])
async def test_a_request_that_takes_long_is_no_replay(make, clock, grace, seconds, steps):
    """A report, an upload: meanwhile faster requests of the same browser have replaced its token."""
    app = make({"JWT_REFRESH_GRACE": grace, "JWT_REFRESH_LATE_LIMIT": 1}, within=LIVES - 20)
    if not isinstance(app, QuartHarness) or isinstance(app, FlaskAsyncHarness):
        pytest.skip("a view of Flask's cannot await another request")
    told = told_of(app)
    browser = await signed_in(app)
    slow = Browser(app)
    slow.cookies = dict(browser.cookies)

    async def faster():
        for _ in range(steps):
            clock.now += 20
            assert (await browser.go()).cookies
        clock.now += seconds

    slowly(app, clock).append(faster)
    answer = await slow.go("/slow")
    leads_on = steps == 1 and (seconds < 10 or grace == "until_used")
    assert (answer.status, bool(answer.cookies)) == (200, leads_on)
    if leads_on:
        assert slow.cookies["refresh_token_cookie"] == browser.cookies["refresh_token_cookie"]
    assert told == []
    clock.now += 20
    assert (await browser.go()).cookies


@pytest.mark.parametrize("grace", [10, "until_used"])
async def test_an_answer_that_was_lost_is_made_good_by_the_next_request(make, clock, grace):
    """As when its user leaves the page, and comes to the next one a while later."""
    app = make({"JWT_REFRESH_GRACE": grace})
    told = told_of(app)
    browser = await signed_in(app)
    for _ in range(12):
        clock.now += LIVES / 2
        before = dict(browser.cookies)
        await browser.go()
        lost = browser.cookies
        browser.cookies = before
        clock.now += 5
        assert (await browser.go()).cookies
        assert browser.cookies["refresh_token_cookie"] == lost["refresh_token_cookie"]
        clock.now += LIVES / 2
        assert (await browser.go()).cookies  # whose answer came
    assert told == []


async def test_a_thief_who_comes_first_is_found_out_when_the_owner_refreshes(make, clock):
    app = make({"JWT_REFRESH_GRACE": 10})
    told = told_of(app)
    browser = await signed_in(app)
    thief = Browser(app)
    thief.cookies = dict(browser.cookies)
    clock.now += LIVES / 2
    await thief.go()
    clock.now += 20
    answer = await browser.go()
    assert (answer.status, answer.cookies, told) == (200, {}, [])
    csrf = (await browser.claims("refresh"))["csrf"]
    answer = await app.call(
        "/refresh", method="POST", cookies=browser.cookies, headers={"X-CSRF-TOKEN": csrf}
    )
    assert (answer.status, answer.code, told) == (401, "token_reused", ["predecessor"])
    assert (await thief.go()).status == 401
    assert await app.jwt.list_sessions("alice") == SessionPage((), None)


async def test_a_follower_within_the_grace_is_told_of(make, clock):
    """Here, nothing is revoked; the next rotation that a client asks for counts on."""
    app = make({"JWT_REFRESH_GRACE": "until_used", "JWT_REFRESH_LATE_LIMIT": 2})
    told = told_of(app)
    browser = await signed_in(app)
    thief = Browser(app)
    thief.cookies = dict(browser.cookies)
    for _ in range(4):
        clock.now += LIVES / 2
        assert (await thief.go()).cookies
        clock.now += 20
        assert (await browser.go()).cookies
    assert told == [2, 3, 4]


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("seconds", [11, LIVES / 2 - 1])
async def test_a_response_lost_for_longer_than_the_grace_ends_no_session(make, clock, seconds, steps):
    """The browser goes on with its old cookies, as it never got the new ones."""
    app = make({"JWT_REFRESH_GRACE": 10}, within=LIVES)
    told = told_of(app)
    browser = await signed_in(app)
    lost = Browser(app)
    lost.cookies = dict(browser.cookies)
    for _ in range(steps):
        clock.now += 1
        assert (await lost.go()).cookies
    clock.now += seconds
    for _ in range(3):
        answer = await browser.go()
        assert (answer.status, answer.cookies, told) == (200, {}, [])
    assert (await lost.go()).cookies
    assert len((await app.jwt.list_sessions("alice")).sessions) == 1


async def test_users_who_are_gone_get_no_new_token(make, clock):
    users = {"alice"}
    loads = []

    app = make()

    @app.jwt.user_lookup_loader
    async def load(header, data):
        loads.append(data["type"])
        return data["sub"] if data["type"] == "access" or data["sub"] in users else None

    browser = await signed_in(app)
    clock.now += LIVES / 2
    users.clear()
    answer = await browser.go()
    assert (answer.status, answer.cookies, loads) == (200, {}, ["access", "refresh"])


async def test_loaders_get_the_identity_that_is_given(make, clock):
    asked = []

    app = make(identity=7)

    @app.jwt.user_identity_loader
    async def identity(number):
        return str(number)

    @app.jwt.additional_claims_loader
    async def more(number):
        asked.append(number)
        return {}

    browser = await signed_in(app, 7)
    clock.now += LIVES / 2
    assert (await browser.go()).cookies != {}
    assert asked == [7] * 4


async def test_it_needs_a_grace(make, caplog):
    browser = await signed_in(make({"JWT_REFRESH_GRACE": 0}))
    assert (await browser.go()).status == 500
    assert "needs a JWT_REFRESH_GRACE other than 0" in caplog.text


async def test_odd_times_are_not_due(make, clock):
    """Under the compat preset, where they may be texts."""
    app = make({"JWT_COMPAT": "flask-jwt-extended", "JWT_COOKIE_CSRF_PROTECT": False})
    for odd in ({"exp": str(int(clock.now + 5))}, {"iat": str(int(clock.now))}):
        cookies = {
            "access_token_cookie": await app.mint(additional_claims=odd),
            "refresh_token_cookie": await app.mint_refresh(),
        }
        clock.now += LIVES / 2
        assert (await app.call(cookies=cookies)).cookies == {}


@pytest.mark.parametrize("fresh", [True, dt.timedelta(seconds=500), False])
async def test_the_new_token_is_as_fresh_as_the_old_one_and_no_longer(make, clock, fresh):
    app = make()
    begun = clock.now
    browser = await signed_in(app, fresh=fresh)
    clock.now += LIVES / 2
    assert (await browser.go()).cookies != {}
    until = {True: LIVES, False: 0}.get(fresh, 500)
    if fresh is not False:
        clock.now = begun + until
        assert (await browser.go("/fresh")).status == 200
    clock.now = begun + until + LIVES / 2
    assert (await browser.go("/fresh")).status == 401
    assert (await browser.go()).status == 200


async def test_cookies_that_would_be_too_large_use_nothing_up(make, clock, caplog):
    """The browser would keep the old token, and look like a thief with it."""
    app = make({"JWT_REFRESH_GRACE": 5})
    size = 10

    @app.jwt.additional_claims_loader
    async def more(identity):
        return {"more": "x" * size}

    browser = await signed_in(app)
    clock.now += LIVES / 2
    size = 5000
    answer = await browser.go()
    assert (answer.status, answer.cookies) == (200, {})
    assert "cookie" in caplog.text
    clock.now += 60
    size = 10
    answer = await browser.go()
    assert answer.status == 200
    assert "refresh_token_cookie" in answer.cookies
