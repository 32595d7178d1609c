"""A site of pages in a real browser: returning users, lost answers, twins, forms, signing out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, Route
from quart import Quart, redirect, render_template_string, request

from async_jwt.adapters.quart import (
    JWTManager,
    create_token_pair,
    get_jwt_identity,
    jwt_required,
    refresh_expiring_cookies,
    safe_next,
    set_token_cookies,
    sign_out,
)
from async_jwt.signals import token_reused
from tests.harness import SECRET
from tests.harness.browser import PATIENCE
from tests.harness.sites import OURS, UNKNOWN, Site, browsing, new_context, served, submit

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # Of Hypercorn, where a browser cuts a connection as it ends.
    pytest.mark.filterwarnings("ignore:.*TCPServer._idle_timeout:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:.*TCPServer._idle_timeout:pytest.PytestUnraisableExceptionWarning"),
]

LIVES, GRACE = 60, 1
ACCESS, REFRESH = "access_token_cookie", "refresh_token_cookie"

NOTE = """<!doctype html><title>Note</title>
<form method="post" action="/note">
  <input type="hidden" name="csrf_token" value="{{ jwt_csrf_token() }}">
  <button>Save</button>
</form>"""
LOGIN = "<!doctype html><title>Sign in</title><form method=post><button>Sign in</button></form>"


def make_site(**config: Any) -> Site:
    app = Quart("pages")
    app.config.update(
        {
            "JWT_SECRET_KEY": SECRET,
            "JWT_TOKEN_LOCATION": ["cookies"],
            "JWT_ACCESS_TOKEN_EXPIRES": LIVES,
            "JWT_REFRESH_GRACE": GRACE,
            "JWT_CSRF_CHECK_FORM": True,
            "JWT_LOGIN_VIEW": "login",
            **config,
        }
    )
    site = Site(app, JWTManager(app))

    def note(_: Quart, kind: str, **_more: object) -> None:
        site.codes.append(kind)

    token_reused.connect(note, sender=app, weak=False)

    @app.get("/")
    @jwt_required(optional=True, lenient=True)
    async def home() -> str:
        link = f"<a id=in href={site.url('/account')}>in</a>"
        return f"<!doctype html><title>Home</title><p id=who>{get_jwt_identity()}</p>{link}"

    @app.get("/account")
    @jwt_required(refresh_cookie=True)
    async def account() -> str:
        return f"<!doctype html><title>Account</title><p id=who>{get_jwt_identity()}</p>"

    @app.get("/note")
    @jwt_required(refresh_cookie=True)
    async def form() -> str:
        return await render_template_string(NOTE)

    @app.post("/note")
    @jwt_required()
    async def save() -> str:
        site.transfers.append(get_jwt_identity())
        return "<!doctype html><title>Saved</title>"

    @app.get("/slow")
    @jwt_required()
    async def slow() -> str:
        await asyncio.sleep(GRACE * 1.5)
        return "<!doctype html><title>Slow</title>"

    @app.route("/login", methods=["GET", "POST"])
    async def login() -> Any:
        if request.method == "GET":
            return LOGIN
        response = redirect(safe_next(default="/account"))
        keeps = {"persistent": request.args.get("remember") != "no"}
        set_token_cookies(response, await create_token_pair("alice", **keeps))
        return response

    @app.post("/logout")
    async def logout() -> Any:
        response = redirect("/")
        await sign_out(response)
        return response

    return site


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    async with browsing(chromium) as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def site(chromium: str, tmp_path: Path) -> AsyncIterator[Site]:
    async with served(make_site(), tmp_path) as site:
        yield site


@pytest_asyncio.fixture(loop_scope="module")
async def context(browser: Browser, site: Site) -> AsyncIterator[BrowserContext]:  # outlives it
    context = await new_context(browser)
    yield context
    await context.close()


async def signed_in(context: BrowserContext, site: Site, query: str = "") -> Page:
    page = await context.new_page()
    await page.goto(site.url(f"/login{query}"))
    await press(page)
    assert await page.title() == "Account"
    return page


async def press(page: Page) -> None:
    async with page.expect_navigation(timeout=PATIENCE):
        await page.click("button")


async def held(context: BrowserContext, name: str) -> str | None:
    return next((cookie["value"] for cookie in await context.cookies() if cookie["name"] == name), None)


async def who(page: Page, site: Site, path: str = "/") -> str | None:
    await page.goto(site.url(path))
    return await page.text_content("#who") if await page.query_selector("#who") else None


async def drop_access(context: BrowserContext) -> None:
    """As the browser itself does when the token ends."""
    await context.clear_cookies(name=ACCESS)


async def sessions(site: Site) -> int:
    return len((await site.jwt.list_sessions("alice")).sessions)


async def test_to_the_login_page_and_back(context, site):
    page = await context.new_page()
    await page.goto(site.url("/account?a=b%26c"))
    assert await page.title() == "Sign in"
    await press(page)
    assert (await page.title(), page.url) == ("Account", site.url("/account?a=b%26c"))
    await page.goto(site.url("/login?next=//evil.test/x"))
    await press(page)
    assert page.url == site.url("/account")
    answer = await page.evaluate("async () => (await fetch('/account?x')).status")
    assert answer == 200


async def test_a_script_gets_401(context, site):
    page = await context.new_page()
    await page.goto(site.url("/"))
    assert await page.evaluate("async () => (await fetch('/account')).status") == 401


async def test_a_returning_user_is_let_in_in_two_tabs_at_once(context, site):
    page = await signed_in(context, site)
    other = await context.new_page()
    await other.goto(site.url("/"))
    for _ in range(2):
        before = await held(context, REFRESH)
        await drop_access(context)
        assert (
            await asyncio.gather(who(page, site, "/account"), who(other, site, "/account")) == ["alice"] * 2
        )
        assert await held(context, REFRESH) != before
    assert (await sessions(site), site.codes) == (1, [])


async def test_a_link_on_another_site_replaces_no_refresh_token(context, site):
    page = await signed_in(context, site)
    before = await held(context, REFRESH)
    await drop_access(context)
    await page.goto(site.url("/", UNKNOWN))
    async with page.expect_navigation(timeout=PATIENCE):
        await page.click("#in")
    assert await page.text_content("#who") == "alice"
    assert (await held(context, REFRESH), await held(context, ACCESS) is None) == (before, False)


async def test_a_lost_answer_ends_no_session(context, site):
    """The server has replaced the tokens, and the browser never hears of it."""
    site.app.after_request(refresh_due)
    page = await signed_in(context, site)
    before = await held(context, REFRESH)

    async def lose(route: Route) -> None:
        cookies = "; ".join(f"{each['name']}={each['value']}" for each in await context.cookies())
        sent = {"Host": f"{OURS}:{site.port}", "Cookie": cookies}
        async with httpx.AsyncClient(verify=False) as client:
            answer = await client.get(f"https://127.0.0.1:{site.port}/account", headers=sent)
        assert any(line.startswith(REFRESH) for line in answer.headers.get_list("set-cookie"))
        await route.abort()

    await page.route("**/account?lost", lose, times=1)
    with pytest.raises(Exception, match="ERR_FAILED"):
        await page.goto(site.url("/account?lost"))
    assert await held(context, REFRESH) == before
    await asyncio.sleep(GRACE + 0.1)
    assert await who(page, site, "/account") == "alice"
    assert (await sessions(site), site.codes) == (1, [])


async def test_a_request_longer_than_the_grace_ends_no_session(context, site):
    site.app.after_request(refresh_due)
    page, other = await signed_in(context, site), await context.new_page()
    slow = asyncio.ensure_future(page.goto(site.url("/slow")))
    await asyncio.sleep(0.2)
    for _ in range(2):
        assert await who(other, site, "/account") == "alice"
    await slow
    assert await page.title() == "Slow"
    assert await who(other, site, "/account") == "alice"
    assert (await sessions(site), site.codes) == (1, [])


async def refresh_due(response: Any) -> Any:
    return await refresh_expiring_cookies(response, within=timedelta(days=1))


async def test_a_form_in_another_tab_outlives_a_rotation(context, site):
    page = await signed_in(context, site)
    await page.goto(site.url("/note"))
    other = await context.new_page()
    for _ in range(2):
        await drop_access(context)
        assert await who(other, site, "/account") == "alice"
    await press(page)
    assert (await page.title(), site.transfers) == ("Saved", ["alice"])
    await page.goto(site.url("/", UNKNOWN))
    await submit(page, site.url("/note"), csrf_token="guess")
    assert site.transfers == ["alice"]


@pytest.mark.parametrize("left", ["both", "refresh alone", "access alone, expired"])
async def test_whatever_cookie_is_left_signing_out_ends_the_session(context, site, left):
    page = await signed_in(context, site)
    if left == "refresh alone":
        await drop_access(context)
    elif left == "access alone, expired":
        claims = await site.jwt.decode_token(await held(context, ACCESS))
        old = await site.jwt.create_access_token(
            "alice", expires_delta=-1, additional_claims={"sid": claims["sid"], "gen": claims["gen"]}
        )
        await context.clear_cookies()
        await context.add_cookies([cookie(ACCESS, old)])
    assert await sessions(site) == 1
    await page.goto(site.url("/login"))
    await submit(page, site.url("/logout"))
    assert await page.text_content("#who") == "None"
    assert (await sessions(site), await context.cookies()) == (0, [])


async def test_on_the_home_page_a_dead_cookie_is_taken_away(context, site):
    page = await signed_in(context, site)
    await site.jwt.revoke_user("alice")
    assert await who(page, site) == "None"
    assert await held(context, ACCESS) is None


async def test_until_the_browser_closes_or_longer(context, site):
    for query, persistent in (("", True), ("?remember=no", False)):
        page = await signed_in(context, site, query)
        for _ in range(2):
            expires = {each["name"]: each["expires"] for each in await context.cookies()}
            assert (expires[REFRESH] > 0, expires[ACCESS] > 0) == (persistent, persistent)
            await drop_access(context)
            await who(page, site, "/account")


def cookie(name: str, value: str, **more: Any) -> Any:
    held = {"name": name, "value": value, "domain": OURS, "path": "/", "secure": True, "httpOnly": True}
    return {**held, **more}


async def test_twins_of_a_former_path_and_domain_are_no_trouble_and_go(browser, tmp_path):
    former = {"JWT_COOKIE_FORMER_DOMAINS": ["site.test"], "JWT_COOKIE_FORMER_PATHS": ["/account"]}
    async with served(make_site(**former), tmp_path) as site:
        context = await new_context(browser)
        old = await site.jwt.create_access_token("alice", expires_delta=-1)
        older = (await site.jwt.create_token_pair("alice")).access_token
        await context.add_cookies(
            [cookie(ACCESS, old, path="/account"), cookie(ACCESS, older, domain=".site.test")]
        )
        page = await context.new_page()
        assert await who(page, site, "/account") == "alice"
        await page.goto(site.url("/login"))
        await press(page)
        places = [
            (each["domain"], each["path"]) for each in await context.cookies() if each["name"] == ACCESS
        ]
        assert places == [(OURS, "/")]
        assert await who(page, site, "/account") == "alice"
