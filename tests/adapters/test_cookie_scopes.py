"""`cookie_scope_loader`: several tenants on one host, each with cookies and tokens of its own."""

from __future__ import annotations

import pytest

from async_jwt.core.cookie_scope import SCOPE
from async_jwt.errors import ConfigurationError, CookieScopeError
from tests.harness.applications import FlaskAsyncHarness, however_it_runs, in_memory

pytestmark = [pytest.mark.asyncio, however_it_runs, in_memory]

COOKIES = {"JWT_TOKEN_LOCATION": ["cookies", "headers"], "JWT_COOKIE_SECURE": False, "JWT_REFRESH_GRACE": 10}
LOAD = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "none"}


def with_tenants(app, calls=None):
    api = app.api

    @app.jwt.cookie_scope_loader
    def scope(request):  # of a request that no route takes, view_args is None
        if calls is not None:
            calls.append(request.path)
        tenant = (request.view_args or {}).get("tenant")
        return None if tenant is None else api.CookieScope(tenant, f"/t/{tenant}")

    async def login(tenant=None):
        response = app.app.response_class("{}")
        api.set_token_cookies(response, await api.create_token_pair("alice"))
        return response

    async def out(tenant=None):
        response = app.app.response_class("{}")
        response.headers["X-Ended"] = str(await api.sign_out(response))
        return response

    @api.jwt_required()
    async def me(tenant=None):
        return api.get_jwt()

    @api.jwt_required(refresh_cookie=True)
    async def page(tenant=None):
        return api.get_jwt()

    @api.jwt_required(refresh=True)
    async def rotate(tenant=None):
        pair = await api.rotate_refresh_token()
        response = app.app.response_class("{}")
        api.set_token_cookies(response, pair)
        return response

    views = {"login": app.colour(login), "out": app.colour(out), "me": me, "page": page, "rotate": rotate}
    for name, view in views.items():
        for prefix in ("/t/<tenant>", "/all"):
            rule = f"{prefix}/{name}"
            app.app.add_url_rule(rule, rule, view, methods=["GET", "POST"])
    return app


@pytest.fixture
def app(make_app, clock):
    return with_tenants(make_app(COOKIES, clock=clock))


class Browser:
    """Keeps cookies of all paths, and sends those that a path is below."""

    def __init__(self, app):
        self.app, self.cookies = app, {}

    def held(self, path):
        return {
            name: value
            for (name, under), value in self.cookies.items()
            if path == under or path.startswith(under.rstrip("/") + "/")
        }

    async def go(self, path, method="GET", **headers):
        held = self.held(path)
        csrf = next((value for name, value in held.items() if "csrf_access" in name), "")
        csrf = next((value for name, value in held.items() if "csrf_refresh" in name), "") or csrf
        sent = {"X-CSRF-TOKEN": csrf, **LOAD, "Sec-Fetch-Site": "same-origin", **headers}
        answer = await self.app.call(path, method=method, cookies=held, headers=sent)
        for line in answer.headers.getlist("Set-Cookie"):
            first, *parts = line.split("; ")
            name, _, value = first.partition("=")
            under = dict(part.partition("=")[::2] for part in parts)["Path"]
            if value:
                self.cookies[name, under] = value
            else:
                self.cookies.pop((name, under), None)
        return answer


async def test_two_tenants_do_not_overwrite_each_other(app):
    browser = Browser(app)
    for tenant in ("acme", "globex"):
        answer = await browser.go(f"/t/{tenant}/login", "POST")
        assert set(answer.cookies) == {
            f"{tenant}_{name}"
            for name in (
                "access_token_cookie",
                "refresh_token_cookie",
                "csrf_access_token",
                "csrf_refresh_token",
            )
        }
        assert all(f"Path=/t/{tenant}" in line for line in answer.cookies.values())
    await browser.go("/all/login", "POST")
    assert len(browser.cookies) == 12
    sessions = set()
    for path, scope in (("/t/acme/me", "acme"), ("/t/globex/me", "globex"), ("/all/me", None)):
        for method in ("GET", "POST"):
            claims = (await browser.go(path, method)).json
            assert claims.get(SCOPE) == scope
        sessions.add(claims["sid"])
    assert len(sessions) == 3


async def test_a_token_of_another_scope_is_refused_wherever_it_is(app):
    """A cookie's name is no boundary: whoever holds a token can send it as they like."""
    browser = Browser(app)
    for path in ("/t/acme/login", "/t/globex/login", "/all/login"):
        await browser.go(path, "POST")
    held = {
        "acme": browser.cookies["acme_access_token_cookie", "/t/acme"],
        "globex": browser.cookies["globex_access_token_cookie", "/t/globex"],
        None: browser.cookies["access_token_cookie", "/"],
    }
    for own, token in held.items():
        for tenant in ("acme", "globex", None):
            path = "/all/me" if tenant is None else f"/t/{tenant}/me"
            name = "access_token_cookie" if tenant is None else f"{tenant}_access_token_cookie"
            for sent in ({"token": token}, {"cookies": {name: token}}):
                answer = await app.call(path, **sent)
                if own == tenant:
                    assert answer.status == 200
                else:
                    assert (answer.status, answer.code) == (401, "cookie_scope_wrong")


async def test_rotation_page_loads_and_sign_out_stay_in_the_scope(app, clock):
    browser = Browser(app)
    await browser.go("/t/acme/login", "POST")
    await browser.go("/t/globex/login", "POST")
    first = browser.cookies["acme_refresh_token_cookie", "/t/acme"]
    assert (await browser.go("/t/acme/rotate", "POST")).status == 200
    assert browser.cookies["acme_refresh_token_cookie", "/t/acme"] != first
    clock.now += 1000
    answer = await browser.go("/t/acme/page")
    assert (answer.status, answer.json[SCOPE]) == (200, "acme")
    assert all(name.startswith("acme_") for name in answer.cookies)
    answer = await browser.go("/t/acme/out", "POST")
    assert answer.headers["X-Ended"] == "True"
    assert {under for _, under in browser.cookies} == {"/t/globex"}
    assert (await browser.go("/t/globex/page")).status == 200


async def test_a_refresh_token_of_another_scope_revokes_nothing(app):
    browser = Browser(app)
    await browser.go("/t/acme/login", "POST")
    refresh = browser.cookies["acme_refresh_token_cookie", "/t/acme"]
    for _ in range(2):
        answer = await app.call("/t/globex/rotate", method="POST", token=refresh)
        assert (answer.status, answer.code) == (401, "cookie_scope_wrong")
    assert (await browser.go("/t/acme/rotate", "POST")).status == 200


async def test_outside_a_request_a_scope_may_be_given(app):
    token = await app.mint(additional_claims={SCOPE: "acme"})
    assert (await app.call("/t/acme/me", token=token)).status == 200
    assert (await app.call("/t/globex/me", token=token)).status == 401
    assert (await app.jwt.authenticate_token(token)).claims[SCOPE] == "acme"


async def test_what_a_request_makes_is_of_its_scope(app):
    @app.api.jwt_required()
    async def make(tenant):
        return {"token": await app.api.create_access_token("alice", additional_claims={SCOPE: "globex"})}

    app.app.add_url_rule("/t/<tenant>/make", "make", make)
    token = await app.mint(additional_claims={SCOPE: "acme"})
    made = (await app.call("/t/acme/make", token=token)).json["token"]
    assert (await app.jwt.decode_token(made))[SCOPE] == "acme"


async def test_it_is_asked_once_in_a_request(make_app):
    calls = []
    app = with_tenants(make_app(COOKIES), calls)
    await app.call("/t/acme/login", method="POST")
    await app.call("/t/acme/me")
    assert calls == ["/t/acme/login", "/t/acme/me"]
    assert (await app.call("/nowhere")).status == 404


@pytest.mark.parametrize(
    "returned",
    [
        ("a b", "/"),
        ("", "/"),
        ("x" * 65, "/"),
        ("a;b", "/"),
        (7, "/"),
        ("acme", "acme"),
        ("acme", "/a;b"),
        ("acme", "/a b"),
        ("acme", "/\u00e9"),
        ("acme", "/" + "x" * 256),
        ("acme", None),
    ],
)
async def test_what_is_no_scope_accepts_no_token(make_app, caplog, returned):
    app = make_app(COOKIES)
    app.jwt.cookie_scope_loader(lambda request: app.api.CookieScope(*returned))
    token = await app.mint()
    for _ in range(2):
        answer = await app.call(token=token)
        assert answer.status == 500
    assert "cookie_scope_loader returned" in caplog.text


async def test_what_else_a_loader_may_do(make_app):
    app = make_app(COOKIES)
    token = await app.mint()
    for odd in ("acme", ("acme", "/"), True, 0):
        app.jwt.cookie_scope_loader(lambda request, odd=odd: odd)
        assert (await app.call(token=token)).status == 500

    def fails(request):
        raise LookupError("no such tenant")

    app.jwt.cookie_scope_loader(fails)
    assert (await app.call(token=token)).status == 500

    def asks_us(request):
        assert app.api.get_jwt_request_location() is None

    app.jwt.cookie_scope_loader(asks_us)
    assert (await app.call(token=token)).status == 200


async def test_the_host_prefix(make_app):
    app = make_app({**COOKIES, "JWT_COOKIE_SECURE": True, "JWT_COOKIE_PREFIX": "__Host-"})

    async def login():
        response = app.app.response_class("{}")
        app.api.set_access_cookies(response, await app.api.create_access_token("alice"))
        return response

    app.view("/login", app.colour(login), methods=["POST"])
    app.jwt.cookie_scope_loader(lambda request: app.api.CookieScope("acme"))
    answer = await app.call("/login", method="POST")
    assert set(answer.cookies) == {"__Host-acme_access_token_cookie", "__Host-acme_csrf_access_token"}
    app.jwt.cookie_scope_loader(lambda request: app.api.CookieScope("acme", "/acme"))
    assert (await app.call("/login", method="POST")).status == 500


async def test_paths_of_the_settings_are_below_the_scopes(make_app):
    app = with_tenants(make_app({**COOKIES, "JWT_REFRESH_COOKIE_PATH": "/rotate"}))
    cookies = (await app.call("/t/acme/login", method="POST")).cookies
    assert "Path=/t/acme/rotate" in cookies["acme_refresh_token_cookie"]
    assert "Path=/t/acme;" in f"{cookies['acme_access_token_cookie']};"


async def test_settings_that_change_are_seen(app):
    await app.call("/t/acme/login", method="POST")
    app.app.config["JWT_ACCESS_COOKIE_NAME"] = "at"
    assert "acme_at" in (await app.call("/t/acme/login", method="POST")).cookies


async def test_many_tenants_need_no_more_memory(app, monkeypatch):
    monkeypatch.setattr("async_jwt.app_state._MOST_SCOPES", 3)
    for number in range(10):
        assert (
            f"t{number}_access_token_cookie" in (await app.call(f"/t/t{number}/login", method="POST")).cookies
        )
    assert len(app.app.extensions["async_jwt"].base_engine().scoped) <= 3


async def test_all_tenants_share_the_keys(app):
    engine = app.app.extensions["async_jwt"].base_engine()
    for number in range(3):
        await app.call(f"/t/t{number}/login", method="POST")
    assert len(engine.scoped) == 3
    assert {id(each.ring) for each in engine.scoped.values()} == {id(engine.ring)}


async def test_what_a_sign_out_and_a_single_use_see(app):
    token = await app.mint(additional_claims={SCOPE: "acme"})
    used = await app.jwt.create_token("alice", type="reset", additional_claims={SCOPE: "acme"})

    async def consume(tenant):
        claims = await app.api.decode_token(used)
        for given in (used, claims):
            try:
                await app.api.consume_token(given)
            except CookieScopeError:
                continue
            return {"used": True}
        return {"used": False}

    app.app.add_url_rule("/t/<tenant>/use", "use", app.colour(consume), methods=["POST"])
    for tenant in ("globex", "acme"):
        own = tenant == "acme"
        answer = await app.call(f"/t/{tenant}/out", method="POST", token=token)
        assert answer.headers["X-Ended"] == str(own)
        assert (await app.call(f"/t/{tenant}/use", method="POST")).json == {"used": own}


async def test_a_time_limit_for_hooks_does_not_forbid_it(make_app):
    app = with_tenants(make_app({**COOKIES, "JWT_HOOK_TIMEOUT": 5}))
    app.jwt.cookie_scope_loader(inline=True)(lambda request: None)
    assert (await app.call("/all/me", token=await app.mint())).status == 200


async def test_a_coroutine_function_is_refused(make_app):
    app = make_app()

    async def scope(request):
        return None

    with pytest.raises(ConfigurationError, match="needs a plain function"):
        app.jwt.cookie_scope_loader(scope)
    with pytest.raises(ConfigurationError, match=r"calls its hook with \(request\)"):
        app.jwt.cookie_scope_loader(lambda: None)


async def test_websockets_have_scopes(app):
    if isinstance(app, FlaskAsyncHarness):
        pytest.skip("Flask has no WebSockets")
    import quart
    from quart.testing.connections import WebsocketResponseError

    @app.app.websocket("/t/<tenant>/socket")
    @app.api.jwt_required()
    async def view(tenant):
        await quart.websocket.send(app.api.get_jwt_identity())

    token = await app.mint(additional_claims={SCOPE: "acme"})
    client = app.app.test_client()
    cookie = {"Cookie": f"acme_access_token_cookie={token}", "Origin": "http://localhost"}
    async with client.websocket("/t/acme/socket", headers=cookie) as socket:
        assert await socket.receive() == "alice"
    header = {"Authorization": f"Bearer {token}"}
    with pytest.raises(WebsocketResponseError) as refused:
        async with client.websocket("/t/globex/socket", headers=header) as socket:
            await socket.receive()
    assert refused.value.response.status_code == 401
