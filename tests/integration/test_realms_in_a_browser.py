"""Customers and staff in one browser: two logins, two logouts, and no CSRF value of one for the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page
from quart import Quart, redirect, render_template_string, request

from async_jwt.adapters.quart import (
    JWTManager,
    create_token_pair,
    get_jwt_identity,
    jwt_required,
    set_token_cookies,
    sign_out,
)
from tests.harness import SECRET
from tests.harness.browser import PATIENCE
from tests.harness.sites import Site, browsing, new_context, served, submit

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # Of Hypercorn, where a browser cuts a connection as it ends.
    pytest.mark.filterwarnings("ignore:.*TCPServer._idle_timeout:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:.*TCPServer._idle_timeout:pytest.PytestUnraisableExceptionWarning"),
]

KINDS = {"shop": "", "desk": "staff"}

PAGE = """<!doctype html><title>In</title><p id="who">{{ who }}</p>
<form method="post"><input type="hidden" name="csrf_token" value="{{ jwt_csrf_token() }}">
<button>Save</button></form>"""

# What a script of the page does with its cookies.
SEND = """async ([url, name]) => {
  const value = document.cookie.split("; ").find((cookie) => cookie.startsWith(name + "="))?.split("=")[1];
  return (await fetch(url, {method: "POST", headers: {"X-CSRF-TOKEN": value || ""}})).status;
}"""


def make_site() -> Site:
    app = Quart("realms")
    app.config.update(
        JWT_SECRET_KEY=SECRET,
        JWT_TOKEN_LOCATION=["cookies"],
        JWT_CSRF_CHECK_FORM=True,
        JWT_REALMS={"staff": {"JWT_SECRET_KEY": SECRET[::-1]}},
    )
    site = Site(app, JWTManager(app))

    def add(kind: str, realm: str) -> None:
        demands: dict[str, Any] = {"realm": realm} if realm else {}

        async def login() -> Any:
            response = redirect(f"/{kind}")
            set_token_cookies(response, await create_token_pair(f"{kind}-user", realm=realm))
            return response

        async def logout() -> Any:
            response = redirect("/out")
            await sign_out(response, realm=realm)
            return response

        @jwt_required(**demands)
        async def page() -> Any:
            if request.method == "POST":
                site.transfers.append(str(get_jwt_identity()))
            return await render_template_string(PAGE, who=get_jwt_identity())

        app.add_url_rule(f"/{kind}", kind, page, methods=["GET", "POST"])
        app.add_url_rule(f"/{kind}/login", f"{kind}_login", login, methods=["POST"])
        app.add_url_rule(f"/{kind}/logout", f"{kind}_logout", logout, methods=["POST"])

    for kind, realm in KINDS.items():
        add(kind, realm)

    @app.get("/out")
    async def out() -> str:
        return "<!doctype html><title>Out</title>"

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


async def shown(page: Page, site: Site, kind: str) -> str | int:
    answer = await page.goto(site.url(f"/{kind}"))
    assert answer is not None
    return str(await page.text_content("#who")) if answer.status == 200 else answer.status


async def cookies(context: BrowserContext) -> set[str]:
    return {str(cookie["name"]) for cookie in await context.cookies()}


async def test_two_logins_and_two_logouts(context, site):
    page = await context.new_page()
    await page.goto(site.url("/out"))
    await submit(page, site.url("/shop/login"))
    assert [await shown(page, site, kind) for kind in KINDS] == ["shop-user", 401]
    await submit(page, site.url("/desk/login"))
    assert [await shown(page, site, kind) for kind in KINDS] == ["shop-user", "desk-user"]
    assert len(await cookies(context)) == 8
    await page.goto(site.url("/out"))
    await submit(page, site.url("/desk/logout"))
    assert [await shown(page, site, kind) for kind in KINDS] == ["shop-user", 401]
    assert not any(name.startswith("staff_") for name in await cookies(context))
    await page.goto(site.url("/out"))
    await submit(page, site.url("/desk/login"))
    await page.goto(site.url("/out"))
    await submit(page, site.url("/shop/logout"))
    assert [await shown(page, site, kind) for kind in KINDS] == [401, "desk-user"]
    assert all(name.startswith("staff_") for name in await cookies(context))


async def test_no_csrf_value_of_one_opens_the_other(context, site):
    page = await context.new_page()
    await page.goto(site.url("/out"))
    for kind in KINDS:
        await submit(page, site.url(f"/{kind}/login"))
        await page.goto(site.url("/out"))
    names = {"shop": "csrf_access_token", "desk": "staff_csrf_access_token"}
    for kind in KINDS:
        for of, name in names.items():
            status = await page.evaluate(SEND, [site.url(f"/{kind}"), name])
            assert (kind, of, status) == (kind, of, 200 if kind == of else 401)
    assert site.transfers == ["shop-user", "desk-user"]
    for kind in KINDS:  # the form of a page has the value of its own realm
        await shown(page, site, kind)
        async with page.expect_navigation(timeout=PATIENCE):
            await page.click("button")
        assert await page.text_content("#who") == f"{kind}-user"
    assert site.transfers == ["shop-user", "desk-user"] * 2
