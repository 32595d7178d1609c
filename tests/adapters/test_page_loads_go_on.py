"""Pages of the server: `refresh_cookie=True`, `lenient=True`, and the login page."""

from __future__ import annotations

import pytest

from async_jwt.errors import ConfigurationError
from async_jwt.signals import token_reused, user_loaded
from async_jwt.stores import MemoryStore
from async_jwt.testing import outage
from tests.harness.applications import FlaskAsyncHarness, in_each_colour, in_memory

pytestmark = [pytest.mark.asyncio, in_each_colour]

LIVES = 900
GRACE = 10
ACCESS, REFRESH = "access_token_cookie", "refresh_token_cookie"
COOKIES = {
    "JWT_TOKEN_LOCATION": ["cookies", "headers"],
    "JWT_REFRESH_GRACE": GRACE,
    "JWT_COOKIE_SECURE": False,
}
LOAD = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "same-origin"}


def with_pages(app):
    api = app.api

    async def report():
        return {"identity": api.get_jwt_identity(), "location": api.get_jwt_request_location()}

    async def careless():
        response = app.app.response_class("{}")
        response.headers["Cache-Control"] = "public, max-age=60"
        return response

    async def leaves():
        response = app.app.response_class("{}")
        await api.sign_out(response)
        return response

    async def signs_in():
        response = app.app.response_class("{}")
        api.set_token_cookies(response, await api.create_token_pair("bob"))
        return response

    async def revokes():
        await api.revoke_session()
        return {}

    async def unchanged():
        return app.app.response_class("", status=304)

    page, home = api.jwt_required(refresh_cookie=True), api.jwt_required(optional=True, lenient=True)
    either = api.jwt_required(optional=True, lenient=True, refresh_cookie=True)
    views = {
        "/page": page(report),
        "/page/careless": page(careless),
        "/page/leaves": page(leaves),
        "/page/signs_in": page(signs_in),
        "/page/revokes": page(revokes),
        "/page/unchanged": page(unchanged),
        "/optional_page": api.jwt_required(optional=True, refresh_cookie=True)(report),
        "/home": home(report),
        "/home/signs_in": home(signs_in),
        "/home/unchanged": home(unchanged),
        "/either": either(report),
    }
    for path, view in views.items():
        app.view(path, view, methods=["GET", "POST"])

    @app.app.after_request
    @app.colour
    async def caches(response):
        response.headers["X-Seen"] = ",".join(sorted(response.headers.keys()))
        return response

    return app


@pytest.fixture
def app(make_app, clock):
    return with_pages(make_app(COOKIES, clock=clock))


class Tab:
    """A browser's tab; several share cookies if they are given the same."""

    def __init__(self, app, pair, cookies=None):
        self.app, self.pair = app, pair
        self.cookies = (
            {ACCESS: pair.access_token, REFRESH: pair.refresh_token} if cookies is None else cookies
        )

    async def load(self, path="/page", method="GET", **headers):
        sent = {**LOAD, **{name.replace("_", "-"): value for name, value in headers.items()}}
        sent = {name: value for name, value in sent.items() if value is not None}
        answer = await self.app.call(path, method=method, cookies=self.cookies, headers=sent)
        for line in answer.headers.getlist("Set-Cookie"):
            name, value = line.partition(";")[0].split("=", 1)
            if value:
                self.cookies[name] = value
            else:
                self.cookies.pop(name, None)
        return answer

    def drop_access(self):
        """As a browser does when the cookie's Max-Age is over."""
        del self.cookies[ACCESS]
        return self


async def tab_of(app, **options):
    return Tab(app, await app.jwt.create_token_pair("alice", **options))


async def sid_of(app, token):
    return (await app.jwt.decode_token(token))["sid"]


def is_not_stored(answer):
    return answer.headers["Cache-Control"] == "no-store" and "Cookie" in answer.headers["Vary"]


# -- refresh_cookie ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("access", "site", "path"),
    [
        ("missing", "none", "/page"),
        ("missing", "same-origin", "/either"),
        ("expired", "none", "/optional_page"),
        ("expired", "same-origin", "/page"),
        ("junk", "none", "/either"),
        ("stale", "same-origin", "/page"),
        ("stale", "none", "/either"),
    ],
)
async def test_a_returning_user_is_let_in(app, clock, access, site, path):
    users = []
    user_loaded.connect(lambda _, **sent: users.append(sent["identity"]), app.app, weak=False)

    @app.jwt.user_lookup_loader
    async def load(header, data):
        return data["sub"]

    tab = await tab_of(app)
    if access == "stale":
        await app.jwt.expire_access_tokens("alice")
    else:
        clock.now += LIVES + 1
    if access == "junk":
        tab.cookies[ACCESS] = "junk"
    elif access == "missing":
        tab.drop_access()
    answer = await tab.load(path, Sec_Fetch_Site=site)
    assert answer.json == {"identity": "alice", "location": "cookies"}
    assert set(answer.cookies) == {ACCESS, REFRESH, "csrf_access_token", "csrf_refresh_token"}
    assert is_not_stored(answer)
    assert tab.cookies[REFRESH] != tab.pair.refresh_token
    assert await sid_of(app, tab.cookies[REFRESH]) == tab.pair.sid
    assert users == ["alice"]
    again = await tab.load(path)
    assert (again.status, again.cookies) == (200, {})


async def test_two_tabs_at_once_end_with_the_same_token(app, clock):
    tab = await tab_of(app)
    tab.drop_access()
    other = Tab(app, tab.pair, dict(tab.cookies))
    assert [(await each.load()).status for each in (tab, other)] == [200, 200]
    assert tab.cookies[REFRESH] == other.cookies[REFRESH]
    clock.now += LIVES + 1
    assert [(await each.drop_access().load()).status for each in (tab, other)] == [200, 200]


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_from_another_site_the_refresh_token_stays(app, clock, site):
    """A link in a mail: any site could cause it, at a moment of its choice."""
    tab = await tab_of(app)
    answer = await tab.drop_access().load(Sec_Fetch_Site=site)
    assert (answer.status, set(answer.cookies)) == (200, {ACCESS, "csrf_access_token"})
    assert tab.cookies[REFRESH] == tab.pair.refresh_token
    assert await sid_of(app, tab.cookies[ACCESS]) == tab.pair.sid
    assert is_not_stored(answer)


@in_memory
@pytest.mark.parametrize("name", ["If-None-Match", "If-Modified-Since", "Range"])
async def test_where_the_answer_may_be_a_304_the_refresh_token_stays(app, name):
    """Its cookies would be lost, and then it would be too late."""
    tab = (await tab_of(app)).drop_access()
    answer = await tab.load("/page/unchanged", **{name.replace("-", "_"): '"x"'})
    assert (answer.status, answer.cookies) == (304, {})
    assert (await tab.load()).status == 200


NO_LOADS = [
    {"method": "POST"},
    {"Sec_Fetch_Mode": "cors", "Sec_Fetch_Dest": "empty"},
    {"Sec_Fetch_Dest": "iframe"},
    {"Sec_Fetch_Mode": None},
    {"Sec_Fetch_Dest": None},
    {"Sec_Purpose": "prefetch"},
    {"Sec_Purpose": "prefetch;prerender"},
    {"Purpose": "prefetch"},
]


@in_memory
@pytest.mark.parametrize("sent", NO_LOADS)
async def test_what_is_no_page_load_is_refused_as_ever(app, sent):
    tab = (await tab_of(app)).drop_access()
    answer = await tab.load(**sent)
    assert (answer.status, answer.code, answer.cookies) == (401, "authorization_required", {})
    answer = await tab.load("/optional_page", **sent)
    assert (answer.json, answer.cookies) == ({"identity": None, "location": None}, {})


@pytest.mark.parametrize("steps", [1, 2])
async def test_a_late_or_older_refresh_token_is_no_replay(make_app, clock, steps):
    app = with_pages(make_app(COOKIES, store=MemoryStore(clock=clock), clock=clock))
    told = []
    token_reused.connect(lambda _, **sent: told.append(sent), app.app, weak=False)
    tab = await tab_of(app)
    old = Tab(app, tab.pair, dict(tab.cookies))
    for _ in range(steps):
        clock.now += LIVES + 1
        assert (await tab.load()).status == 200
    clock.now += GRACE + 1
    answer = await old.drop_access().load()
    assert (answer.status, answer.code, told) == (401, "authorization_required", [])
    assert (await old.load("/either")).json["identity"] is None
    assert (await tab.load()).status == 200


async def test_what_was_signed_out_stays_out(app, clock):
    for revoke in (
        lambda pair: app.jwt.revoke_session(pair.sid),
        lambda pair: app.jwt.revoke_user("alice"),
        lambda pair: app.jwt.revoke_token(pair.refresh_token),
    ):
        tab = await tab_of(app)
        await revoke(tab.pair)
        assert (await tab.load()).code == "token_revoked"
        tab = Tab(app, tab.pair, {REFRESH: tab.pair.refresh_token})
        answer = await tab.load()
        assert (answer.status, answer.code) == (401, "authorization_required")


async def test_an_access_token_that_was_revoked_alone_is_not_replaced(app):
    tab = await tab_of(app)
    await app.jwt.revoke_token(tab.pair.access_token)
    assert (await tab.load()).code == "token_revoked"


async def test_users_who_are_gone_stay_out(app):
    users = {"alice"}

    @app.jwt.user_lookup_loader
    async def load(header, data):
        return data["sub"] if data["sub"] in users else None

    tab = (await tab_of(app)).drop_access()
    users.clear()
    assert (await tab.load()).code == "authorization_required"


async def test_a_user_who_goes_meanwhile_keeps_the_session_in_step(app):
    """The refresh token is replaced by then: its successor must arrive."""

    @app.jwt.user_lookup_loader
    async def load(header, data):
        return data["sub"] if data["type"] == "refresh" else None

    tab = (await tab_of(app)).drop_access()
    answer = await tab.load()
    assert (answer.status, answer.code) == (401, "authorization_required")
    assert tab.cookies[REFRESH] != tab.pair.refresh_token


async def test_a_token_in_a_header_is_not_replaced(app, clock):
    tab = await tab_of(app)
    clock.now += LIVES + 1
    cookies = {REFRESH: tab.pair.refresh_token}
    answer = await app.call("/page", token=tab.pair.access_token, cookies=cookies, headers=LOAD)
    assert (answer.status, answer.code) == (401, "token_expired")


async def test_the_view_decides_about_its_own_cookies(app):
    for path, expected in (("/page/signs_in", "bob"), ("/page/leaves", None), ("/page/revokes", None)):
        tab = (await tab_of(app)).drop_access()
        answer = await tab.load(path)
        assert (answer.cookies == {}) is path.endswith("revokes")
        answer = await tab.load("/either")
        assert answer.json["identity"] == expected, path


@in_memory
async def test_no_cache_keeps_what_the_view_calls_public(app):
    tab = (await tab_of(app)).drop_access()
    assert is_not_stored(await tab.load("/page/careless"))
    assert (await tab.load("/page/careless")).headers["Cache-Control"] == "public, max-age=60"


@in_memory
async def test_an_answer_of_an_error_carries_them_too(app):
    @app.api.jwt_required(refresh_cookie=True)
    async def missing():
        from werkzeug.exceptions import NotFound

        raise NotFound

    app.view("/page/missing", missing)
    tab = (await tab_of(app)).drop_access()
    answer = await tab.load("/page/missing")
    assert answer.status == 404
    assert tab.cookies[REFRESH] != tab.pair.refresh_token


@in_memory
async def test_a_stream_sets_them_before_its_first_byte(app):
    api = app.api
    if isinstance(app, FlaskAsyncHarness):

        @api.jwt_required(refresh_cookie=True)
        def stream():
            yield f"hello {api.get_jwt_identity()}"

    else:

        @api.jwt_required(refresh_cookie=True)
        async def stream():
            yield f"hello {api.get_jwt_identity()}"

    app.view("/page/stream", stream)
    answer = await (await tab_of(app)).drop_access().load("/page/stream")
    assert (answer.body, set(answer.cookies) >= {ACCESS, REFRESH}) == (b"hello alice", True)


@in_memory
async def test_the_refresh_helper_leaves_them_alone(make_app, clock):
    app = with_pages(make_app(COOKIES, clock=clock))

    async def refresh(response):
        return await app.api.refresh_expiring_cookies(response, within=10**6)

    app.app.after_request(app.colour(refresh))
    tab = (await tab_of(app)).drop_access()
    answer = await tab.load()
    assert len(answer.headers.getlist("Set-Cookie")) == 4


async def test_an_outage_is_no_reason_to_sign_in(app):
    tab = (await tab_of(app)).drop_access()
    with outage(app.app):
        for path in ("/page", "/optional_page", "/either"):
            answer = await tab.load(path)
            assert (answer.status, answer.code, answer.cookies) == (503, "store_unavailable", {})
    assert (await tab.load()).status == 200


async def test_a_cookie_that_would_be_too_large_changes_nothing(app, caplog):
    size = 10

    @app.jwt.additional_claims_loader
    async def more(identity):
        return {"more": "x" * size}

    tab = (await tab_of(app)).drop_access()
    size = 5000
    for site in ("none", "cross-site"):
        answer = await tab.load(Sec_Fetch_Site=site)
        assert (answer.status, answer.cookies) == (401, {})
    assert "Token cookies were not refreshed" in caplog.text
    size = 10
    assert (await tab.load()).status == 200


@in_memory
async def test_in_the_view_itself(app):
    api = app.api

    async def view():
        await api.verify_jwt_in_request(refresh_cookie=True)
        return {"identity": api.get_jwt_identity()}

    app.view("/by_hand", app.colour(view))
    tab = (await tab_of(app)).drop_access()
    assert (await tab.load("/by_hand")).json == {"identity": "alice"}
    assert tab.cookies[REFRESH] != tab.pair.refresh_token


@in_memory
@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"JWT_REFRESH_GRACE": 0}, "needs a JWT_REFRESH_GRACE other than 0"),
        ({"JWT_REFRESH_COOKIE_PATH": "/auth"}, "set JWT_REFRESH_COOKIE_PATH, which is '/auth'"),
        ({"JWT_REFRESH_COOKIE_PATH": "/pag"}, "set JWT_REFRESH_COOKIE_PATH, which is '/pag'"),
        ({"JWT_TOKEN_LOCATION": ["headers"]}, "reads no cookies"),
    ],
)
async def test_an_application_that_cannot_do_it_does_not_start(make_app, caplog, config, says):
    app = with_pages(make_app({**COOKIES, **config}))
    if isinstance(app, FlaskAsyncHarness):
        assert (await app.call("/open")).status == 500
        assert says in caplog.text
    else:
        with pytest.raises(Exception, match=says):
            async with app.serving():
                pass


@in_memory
async def test_by_hand_the_grace_is_asked_for_too(make_app, caplog):
    app = make_app({**COOKIES, "JWT_REFRESH_GRACE": 0})

    async def view():
        await app.api.verify_jwt_in_request(refresh_cookie=True)
        return {}

    app.view("/by_hand", app.colour(view))
    assert (await (await tab_of(app)).drop_access().load("/by_hand")).status == 500
    assert "JWT_REFRESH_GRACE" in caplog.text


class KeepsNoSessions:
    def __init__(self, store):
        for name in ("stamp", "check", "revoke_token", "revoke_session", "revoke_user", "start", "close"):
            setattr(self, name, getattr(store, name))


async def test_a_store_without_sessions_is_refused(make_app, caplog):
    app = with_pages(make_app(COOKIES, store=KeepsNoSessions(MemoryStore())))
    if isinstance(app, FlaskAsyncHarness):
        assert (await app.call("/open")).status == 500
        assert "keeps no sessions" in caplog.text
    else:
        with pytest.raises(Exception, match="keeps no sessions"):
            async with app.serving():
                pass


@in_memory
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"lenient": True}, "needs optional=True"),
        ({"lenient": 1, "optional": True}, "must be True or False"),
        ({"refresh_cookie": "yes"}, "must be True or False"),
        ({"refresh_cookie": True, "refresh": True}, "is for access tokens"),
        ({"refresh_cookie": True, "type": "reset"}, "is for access tokens"),
        ({"lenient": True, "optional": True, "verify_type": False}, "is for access tokens"),
        ({"refresh_cookie": True, "locations": "headers"}, 'needs "cookies"'),
        ({"refresh_cookie": True, "fresh": True}, "cannot be combined with fresh"),
    ],
)
async def test_demands_that_contradict_each_other(make_app, given, says):
    with pytest.raises(ConfigurationError, match=says):
        make_app().api.jwt_required(**given)


# -- what a hostile reading found --------------------------------------------------------


@in_memory
async def test_a_response_that_is_shared_carries_nobodys_tokens(app):
    shared = []

    @app.api.jwt_required(optional=True, refresh_cookie=True)
    async def view():
        shared.append(app.app.response_class("{}"))
        return shared[0]

    app.view("/page/shared", view)
    tab = (await tab_of(app)).drop_access()
    assert REFRESH in (await tab.load("/page/shared")).cookies
    assert (await app.call("/page/shared")).cookies == {}
    assert REFRESH in (await (await tab_of(app)).drop_access().load("/page/shared")).cookies


@pytest.mark.parametrize("site", ["none", "cross-site"])
async def test_a_ban_while_tokens_are_made_ends_them(make_app, clock, site):
    store = MemoryStore(clock=clock)
    app = with_pages(make_app(COOKIES, store=store, clock=clock))
    tab = (await tab_of(app)).drop_access()

    @app.jwt.additional_claims_loader
    async def more(identity):
        await store.revoke_user("alice")
        return {}

    answer = await tab.load(Sec_Fetch_Site=site)
    assert answer.status == 401
    assert not any("access_token_cookie=e" in line for line in answer.headers.getlist("Set-Cookie"))


@in_memory
async def test_a_ban_right_after_the_look_at_the_session_ends_the_new_token(make_app, clock):
    store = MemoryStore(clock=clock)
    app = with_pages(make_app(COOKIES, store=store, clock=clock))
    tab, looks = (await tab_of(app)).drop_access(), []
    load = store.load_session

    async def load_session(ref):
        seen = await load(ref)
        looks.append(ref)
        if len(looks) == 2:  # the first one was the check
            await store.revoke_user("alice")
        return seen

    store.load_session = load_session
    assert (await tab.load(Sec_Fetch_Site="cross-site")).status == 401
    assert len(looks) == 2


@in_memory
@pytest.mark.parametrize("site", ["none", "cross-site"])
async def test_the_sessions_claims_and_headers_go_on(app, site):
    """Above all `act`: whoever acts as a user does so after a link in a mail, too."""
    tab = await tab_of(
        app, additional_claims={"act": {"sub": "support"}}, additional_headers={"kind": "session"}
    )
    await tab.drop_access().load(Sec_Fetch_Site=site)
    assert (await app.jwt.decode_token(tab.cookies[ACCESS]))["act"] == {"sub": "support"}
    answer = await app.call("/me", cookies=tab.cookies)
    assert answer.json["header"]["kind"] == "session"


async def test_what_the_view_does_loses_no_successor(app):
    """Else the browser would come with a replaced token, and look like a thief."""
    api = app.api

    async def step_up():
        response = app.app.response_class("{}")
        api.set_access_cookies(response, await api.create_access_token("alice", fresh=True))
        return response

    async def ends_another():
        await api.revoke_session(other.sid)
        return {}

    async def makes_stale():
        await api.expire_access_tokens("bob")
        return {}

    guard = api.jwt_required(refresh_cookie=True)
    for name, view in {"step_up": step_up, "ends": ends_another, "stale": makes_stale}.items():
        app.view(f"/page/{name}", guard(view))
    for name in ("step_up", "ends", "stale"):
        other = await app.jwt.create_token_pair("alice")
        tab = (await tab_of(app)).drop_access()
        assert (await tab.load(f"/page/{name}")).status == 200
        assert tab.cookies[REFRESH] != tab.pair.refresh_token, name
        assert (await tab.load("/me")).json["claims"]["fresh"] is (name == "step_up")


async def test_sessions_beyond_the_most_end_without_this_one(make_app, clock):
    app = with_pages(make_app(COOKIES, clock=clock))
    tabs = [await tab_of(app) for _ in range(3)]
    app.app.config["JWT_MAX_SESSIONS"] = 1
    assert (await tabs[2].drop_access().load()).status == 200
    assert tabs[2].cookies[REFRESH] != tabs[2].pair.refresh_token
    assert (await tabs[0].load()).code == "token_revoked"


@in_memory
@pytest.mark.parametrize("expired", [True, False])
@pytest.mark.parametrize("demands", [{}, {"optional": True}, {"optional": True, "lenient": True}])
async def test_a_function_before_the_request_renews_for_the_view_too(app, clock, demands, expired):
    api = app.api

    async def before():
        await api.verify_jwt_in_request(optional=True, refresh_cookie=True)

    @api.jwt_required(**demands)
    async def view():
        return {"identity": api.get_jwt_identity()}

    app.app.before_request(app.colour(before))
    app.view("/page/after", view)
    tab = await tab_of(app)
    if expired:
        clock.now += LIVES + 1
    else:
        tab.drop_access()
    answer = await tab.load("/page/after")
    assert answer.json == {"identity": "alice"}
    assert tab.cookies[REFRESH] != tab.pair.refresh_token
    assert (await tab.load("/page/after")).cookies == {}


@in_memory
async def test_a_failing_hook_is_never_anonymous(app):
    tab = (await tab_of(app)).drop_access()

    @app.jwt.additional_claims_loader
    async def more(identity):
        raise ValueError("of the database")

    for site in ("none", "cross-site"):
        assert (await tab.load("/either", Sec_Fetch_Site=site)).status == 500


@pytest.mark.parametrize("site", ["none", "cross-site"])
async def test_a_session_past_its_age_is_anonymous_on_a_public_page(make_app, clock, site):
    app = with_pages(make_app(COOKIES, clock=clock))
    tab = (await tab_of(app)).drop_access()
    clock.now += 100
    app.app.config["JWT_SESSION_MAX_AGE"] = 50
    answer = await tab.load("/either", Sec_Fetch_Site=site)
    assert (answer.status, answer.json["identity"], answer.cookies) == (200, None, {})


async def test_cookies_of_two_users_are_not_mixed(app, clock):
    alice, bob = await tab_of(app), await app.jwt.create_token_pair("bob")
    alice.cookies[REFRESH] = bob.refresh_token
    clock.now += LIVES + 1
    assert (await alice.load()).code == "token_expired"


async def test_a_session_that_the_store_forgot(make_app, clock):
    store = MemoryStore(clock=clock)
    app = with_pages(make_app(COOKIES, store=store, clock=clock))
    tab = (await tab_of(app)).drop_access()
    store._forget(tab.pair.sid)
    for site in ("none", "cross-site"):
        assert (await tab.load(Sec_Fetch_Site=site)).code == "authorization_required"


@pytest.mark.parametrize("site", ["none", "cross-site"])
async def test_a_refresh_token_made_without_a_session(app, site):
    tab = Tab(app, await app.jwt.create_token_pair("alice"), {REFRESH: await app.mint_refresh()})
    assert (await tab.load(Sec_Fetch_Site=site)).status == 200
    assert (await tab.load()).status == 200


@in_memory
async def test_caches_of_a_cdn_are_told_too(app):
    @app.api.jwt_required(refresh_cookie=True)
    async def view():
        headers = {"CDN-Cache-Control": "max-age=60", "Surrogate-Control": "max-age=60"}
        return app.app.response_class("{}", headers=headers)

    app.view("/page/cdn", view)
    answer = await (await tab_of(app)).drop_access().load("/page/cdn")
    assert is_not_stored(answer)
    assert not {"CDN-Cache-Control", "Surrogate-Control"} & set(answer.headers.keys())


@in_memory
async def test_a_response_that_is_under_way_keeps_all_functions_after_it(app):
    """The first page load of a process adds one to their list."""
    before = app.app.after_request_funcs[None]
    assert (await (await tab_of(app)).drop_access().load()).status == 200
    after = app.app.after_request_funcs[None]
    assert after is not before
    assert after[1:] == before
    assert (await (await tab_of(app)).drop_access().load()).status == 200
    assert app.app.after_request_funcs[None] is after


# -- lenient -----------------------------------------------------------------------------


async def unusable(app, clock):
    """Texts for the access cookie, and whether the response takes them away."""
    revoked, short = await app.mint(), await app.mint(expires_delta=1)
    await app.jwt.revoke_token(revoked)
    gone = await app.mint("gone")
    clock.now += 61
    good = await app.mint()
    return {
        "expired": short,
        "revoked": revoked,
        "forged": good[:-4] + "AAAA",
        "malformed": "junk",
        "of another type": await app.mint_refresh(),
        "whose user is gone": gone,
    }


@in_memory
async def test_on_a_public_page_an_unusable_cookie_is_none(app, clock):
    @app.jwt.user_lookup_loader
    async def load(header, data):
        return None if data["sub"] == "gone" else data["sub"]

    for kind, text in (await unusable(app, clock)).items():
        for method in ("GET", "HEAD"):
            answer = await app.call("/home", method=method, cookies={ACCESS: text})
            assert (answer.status, set(answer.cookies)) == (200, {ACCESS, "csrf_access_token"}), kind
            assert is_not_stored(answer)
            assert all("Expires=Thu, 01 Jan 1970" in line for line in answer.cookies.values())
        answer = await app.call("/home", cookies={ACCESS: text})
        assert answer.json == {"identity": None, "location": None}
        assert (await app.call("/optional", cookies={ACCESS: text})).status == 401, kind
        assert (await app.call("/home", method="POST", cookies={ACCESS: text})).status == 401, kind
        assert (await app.call("/home", token=text)).status == 401, kind


@pytest.mark.parametrize("is_stale", [True, False])
async def test_an_expired_cookie_stays_for_its_refresh_token(app, clock, is_stale):
    tab = await tab_of(app)
    if is_stale:
        await app.jwt.expire_access_tokens("alice")
    else:
        clock.now += LIVES + 1
    assert (await tab.load("/me")).cookies == {}
    answer = await tab.load("/home")
    assert (answer.json["identity"], answer.cookies) == (None, {})
    del tab.cookies[REFRESH]
    assert set((await tab.load("/home")).cookies) == {ACCESS, "csrf_access_token"}


@in_memory
async def test_where_a_domain_is_shared_only_what_is_over_goes(make_app, clock):
    app = with_pages(make_app({**COOKIES, "JWT_COOKIE_DOMAIN": "localhost.example"}, clock=clock))
    texts = await unusable(app, clock)
    for kind, text in texts.items():
        taken = set((await app.call("/home", cookies={ACCESS: text})).cookies)
        assert bool(taken) is (kind in ("expired", "revoked", "malformed")), kind


@in_memory
async def test_what_is_never_lenient(app, clock):
    one, two = await app.mint(), await app.mint("bob")
    answer = await app.call("/home", headers={"Cookie": f"{ACCESS}={one}; {ACCESS}={two}"})
    assert answer.code == "multiple_tokens"
    with outage(app.app):
        assert (await app.call("/home", cookies={ACCESS: one})).status == 503
    assert (await app.call("/home", method="POST", cookies={ACCESS: one})).code == "csrf_failed"

    @app.jwt.token_verification_loader
    async def broken(header, data):
        return "yes"

    assert (await app.call("/home", cookies={ACCESS: one})).status == 500


@in_memory
async def test_of_twins_none_of_which_counts(app, clock):
    text = await app.mint(expires_delta=1)
    clock.now += 2
    answer = await app.call("/home", headers={"Cookie": f"{ACCESS}=junk; {ACCESS}={text}"})
    assert answer.json["identity"] is None


@in_memory
async def test_a_login_in_the_same_request_keeps_its_cookies(app):
    answer = await app.call("/home/signs_in", cookies={ACCESS: "junk"})
    assert all("Expires=Thu, 01 Jan 1970" not in line for line in answer.cookies.values())


@in_memory
async def test_a_304_takes_nothing_away(app):
    assert (await app.call("/home/unchanged", cookies={ACCESS: "junk"})).cookies == {}


@in_memory
async def test_an_earlier_check_is_forgotten(app):
    """Else a page for everybody would show what is somebody's."""
    api = app.api

    @api.jwt_required(locations="headers", optional=True)
    async def view():
        before = api.get_jwt_identity()
        await api.verify_jwt_in_request(optional=True, lenient=True, locations="cookies")
        return {"before": before, "after": api.get_jwt_identity()}

    app.view("/twice", view)
    answer = await app.call("/twice", token=await app.mint(), cookies={ACCESS: "junk"})
    assert answer.json == {"before": "alice", "after": None}


@in_memory
async def test_under_the_compat_preset_no_cookie_is_taken_away(make_app):
    app = with_pages(make_app({**COOKIES, "JWT_COMPAT": "flask-jwt-extended"}))
    answer = await app.call("/home", cookies={ACCESS: "junk"})
    assert (answer.status, answer.cookies) == (200, {})
