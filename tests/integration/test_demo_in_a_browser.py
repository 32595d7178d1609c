"""The demo in a real browser: its cookies, its pages and its WebSocket, as Chromium sees them."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, expect
from quart import Quart, make_response

from async_jwt.adapters.quart import (
    JWTManager,
    create_token_pair,
    get_jwt_identity,
    jwt_required,
    revoke_token,
    rotate_refresh_token,
    set_token_cookies,
)
from async_jwt.signals import token_refused
from examples.demo import live
from examples.demo.__main__ import make_certificates, served
from examples.demo.app import create_app
from tests.harness.browser import PATIENCE, launched

pytestmark = pytest.mark.asyncio

SOCKET = "/live/socket"

# What becomes of a WebSocket: its protocol if it opens, the code of its end if it does not.
OPEN = """([url, protocols]) => new Promise((resolve) => {
  const socket = new WebSocket(url, protocols);
  socket.onopen = () => { resolve({protocol: socket.protocol}); socket.close(); };
  socket.onclose = ({code}) => resolve({code});
})"""


@dataclass
class Demo:
    """The application, where it is served, and a browser before it."""

    app: Quart
    url: str
    browser: Browser
    folder: Path
    passwords: dict[str, str]

    @property
    def socket_url(self) -> str:
        return self.url.replace("https", "wss") + SOCKET

    async def device(self) -> BrowserContext:
        """A browser with cookies of its own, as on a device of its own."""
        context = await self.browser.new_context(ignore_https_errors=True)
        context.set_default_timeout(PATIENCE)
        return context

    async def signed_in(self, name: str) -> Page:
        """The account page on a new device, after the login form."""
        page = await (await self.device()).new_page()
        await page.goto(f"{self.url}/account")
        await page.get_by_label("Name").fill(name)
        await page.get_by_label("Password").fill(self.passwords[name])
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("heading")).to_have_text(f"Hello, {name}")
        return page

    async def live(self, name: str) -> Page:
        """The notice board on a new device, connected."""
        page = await self.signed_in(name)
        await page.get_by_role("link", name="The notice board").click()
        await expect(page.locator("#state")).to_have_text("Connected")
        return page


@pytest_asyncio.fixture
async def demo(chromium: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Demo]:
    monkeypatch.setattr(live, "RECHECK_SECONDS", 0.5)
    passwords = {name: secrets.token_urlsafe(9) for name in ("ada", "grace")}
    app = create_app(
        {
            "JWT_SECRET_KEY": secrets.token_hex(64),
            "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'demo.db'}",
            "USERS": passwords,
        }
    )
    make_certificates(tmp_path)
    async with served(app, 0, tmp_path / "server.pem") as url, launched(chromium) as browser:
        yield Demo(app, url, browser, tmp_path, passwords)


@contextlib.contextmanager
def refusals(app: Quart) -> Iterator[list[str]]:
    """The codes of the refusals while the block runs: browsers tell scripts none of them."""
    codes: list[str] = []

    def note(_: Quart, code: str, **_more: object) -> None:
        codes.append(code)

    with token_refused.connected_to(note, sender=app):
        yield codes


async def post_notice(page: Page, text: str) -> None:
    await page.get_by_label("Notice").fill(text)
    await page.get_by_role("button", name="Post").click()


async def photograph(page: Page, name: str, folder: Path | None) -> None:
    """A picture for the README, where one was asked for."""
    if folder is not None:
        await page.set_viewport_size({"width": 760, "height": 460})
        await page.screenshot(path=folder / f"{name}.png")


async def test_the_pages_and_the_notice_board(demo, pytestconfig):
    pictures = pytestconfig.getoption("--screenshots")
    ada = await demo.signed_in("ada")
    await ada.get_by_role("button", name="Send a protected POST").click()
    await expect(ada.locator("#answer")).to_have_text("200: Good to see you, ada")
    await photograph(ada, "account", pictures)

    desk, grace = await demo.live("ada"), await demo.live("grace")
    await post_notice(desk, "Hello <b>all</b>")
    for page in (desk, grace):
        await expect(page.locator("#notices li")).to_have_text(["ada: Hello <b>all</b>"])
    await photograph(desk, "notices", pictures)

    with refusals(demo.app) as codes:
        await ada.get_by_role("button", name="Log out on all devices").click()
        for page in (ada, desk):
            await expect(page).to_have_url(f"{demo.url}/login")
    assert codes == ["token_revoked", "token_revoked"]  # the open socket, then the refresh token
    await post_notice(grace, "Bye")
    await expect(grace.locator("#notices li")).to_have_text(["ada: Hello <b>all</b>", "grace: Bye"])


async def test_the_script_of_the_cookies_guide_refreshes(chromium, tmp_path):
    """As it stands there, when the browser has dropped the cookie with its token."""
    guide = (Path(__file__).parents[2] / "docs" / "guide" / "cookies.md").read_text("utf-8")
    (script,) = re.findall(r"```js\n(.*?)```", guide, re.DOTALL)
    app = Quart("spa")
    app.config.update(JWT_SECRET_KEY=secrets.token_hex(64), JWT_TOKEN_LOCATION=["cookies"])
    app.config["JWT_ACCESS_TOKEN_EXPIRES"] = 1
    JWTManager(app)
    rotated = []

    @app.get("/")
    async def page():
        return "<!doctype html><title>spa</title>"

    @app.post("/login")
    async def login():
        response = await make_response({})
        set_token_cookies(response, await create_token_pair("ada"))
        return response

    @app.post("/refresh")
    @jwt_required(refresh=True)
    async def refresh():
        rotated.append(1)
        response = await make_response({})
        set_token_cookies(response, await rotate_refresh_token())
        return response

    @app.route("/me", methods=["GET", "POST"])
    @jwt_required()
    async def me():
        return {"who": get_jwt_identity()}

    make_certificates(tmp_path)
    async with served(app, 0, tmp_path / "server.pem") as url, launched(chromium) as browser:
        context = await browser.new_context(ignore_https_errors=True)
        page = await context.new_page()
        await page.goto(url)
        await page.add_script_tag(content=script)
        assert await page.evaluate("call('/login', {method: 'POST'}).then((r) => r.status)") == 200
        for method in ("GET", "POST"):
            await asyncio.sleep(1.6)
            ask = f"callAgain('/me', {{method: '{method}'}}).then((r) => r.json())"
            assert await page.evaluate(ask) == {"who": "ada"}
    assert len(rotated) == 2


async def test_the_notice_board_goes_on_with_a_new_token_when_the_old_one_ends(demo):
    page = await demo.live("ada")
    held = {cookie["name"]: cookie["value"] for cookie in await page.context.cookies()}
    async with page.expect_websocket(timeout=PATIENCE), demo.app.app_context():
        await revoke_token(held["__Host-access_token_cookie"])
    await expect(page.locator("#state")).to_have_text("Connected")
    await post_notice(page, "Still here")
    await expect(page.locator("#notices li")).to_have_text(["ada: Still here"])


# Another tab's answer may replace the cookies after this one has read its CSRF value: then it reads it again,
# and may meet a third one's.
# All at once: a request that begins after another one's answer presents the successor, and what is still on
# its way with the first token is then too old for a grace.
REFRESHES = """async () => Promise.all([1, 2, 3].map(REFRESH))"""
REFRESH = """async () => {
  const csrf = () => document.cookie.match(/__Host-csrf_refresh_token=([^;]+)/)?.[1] ?? "";
  const send = () => fetch("/refresh", {method: "POST", headers: {"X-CSRF-TOKEN": csrf()}});
  for (;;) {
    const before = csrf(), answer = await send();
    if (answer.status !== 401 || csrf() === before) return answer.status;
  }
}"""


async def cookies_of(page: Page) -> dict[str, str]:
    return {cookie["name"]: cookie["value"] for cookie in await page.context.cookies()}


async def test_tabs_refresh_at_once_and_devices_are_signed_out(demo):
    desk, phone = await demo.signed_in("ada"), await demo.signed_in("ada")
    tab = await desk.context.new_page()
    await tab.goto(f"{demo.url}/account")
    before = await cookies_of(desk)
    for page in (desk, tab) * 3:
        assert await page.evaluate(REFRESHES.replace("REFRESH", REFRESH)) == [200] * 3
    after = await cookies_of(desk)
    assert before["__Host-refresh_token_cookie"] != after["__Host-refresh_token_cookie"]
    for page in (desk, tab):
        await page.get_by_role("button", name="Send a protected POST").click()
        await expect(page.locator("#answer")).to_have_text("200: Good to see you, ada")

    await desk.get_by_role("link", name="Your devices").click()
    await expect(desk.locator("li.device")).to_have_count(2)
    await expect(desk.locator("li.device").first).to_contain_text("Chrome on Linux (this one)")
    await desk.locator("li.device").get_by_role("button", name="Sign out").click()
    await expect(desk.locator("li.device")).to_have_count(1)
    with refusals(demo.app) as codes:
        await phone.get_by_role("button", name="Send a protected POST").click()
        await expect(phone.locator("#answer")).to_contain_text("401")
        assert set(codes) == {"token_revoked"}
        assert "__Host-access_token_cookie" not in await cookies_of(phone), "it is of no use any more"
        await phone.goto(f"{demo.url}/account")
        await expect(phone.get_by_role("heading")).to_have_text("Log in")

    thief = await demo.device()
    await thief.add_cookies(
        [{"name": name, "value": value, "url": demo.url, "secure": True} for name, value in before.items()]
    )
    copy = await thief.new_page()
    await copy.goto(f"{demo.url}/login")
    assert await copy.evaluate(REFRESH) == 401
    await desk.get_by_role("link", name="Back to the account").click()
    await expect(desk.get_by_role("heading")).to_have_text("Log in")
    again = await demo.signed_in("ada")
    await again.get_by_role("link", name="Your devices").click()
    await expect(again.get_by_role("alert")).to_contain_text("somebody used a copy of a token")


async def test_pages_in_use_get_new_cookies_in_time(demo):
    demo.app.config["JWT_ACCESS_TOKEN_EXPIRES"] = 2
    page = await demo.signed_in("ada")
    begun = await cookies_of(page)
    for _ in range(6):
        await page.goto(f"{demo.url}/account")
        await expect(page.get_by_role("heading")).to_have_text("Hello, ada")
        await asyncio.sleep(0.5)
    now = await cookies_of(page)
    assert now["__Host-access_token_cookie"] != begun["__Host-access_token_cookie"]


async def test_a_script_sends_the_token_as_a_protocol(demo):
    page = await (await demo.device()).new_page()
    await page.goto(f"{demo.url}/login")
    token = await page.evaluate(
        """async (body) => (await (await fetch("/api/login", {
          method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body),
        })).json()).access_token""",
        {"name": "ada", "password": demo.passwords["ada"]},
    )
    assert await page.evaluate(OPEN, [demo.socket_url, ["bearer", token]]) == {"protocol": "bearer"}
    with refusals(demo.app) as codes:
        assert await page.evaluate(OPEN, [demo.socket_url, ["bearer", f"{token}A"]]) == {"code": 1006}
        assert await page.evaluate(OPEN, [demo.socket_url, []]) == {"code": 1006}
    assert codes == ["token_invalid", "authorization_required"]


async def test_a_page_of_another_origin_cannot_use_the_cookie(demo):
    page = await demo.signed_in("ada")
    assert await page.evaluate(OPEN, [demo.socket_url, []]) == {"protocol": ""}

    other = Quart("other")
    other.add_url_rule("/", view_func=lambda: "another site")
    async with served(other, 0, demo.folder / "server.pem") as url:
        with refusals(demo.app) as codes:
            # Another port is the same site: the cookie comes, and the Origin alone gives it away.
            await page.goto(url)
            assert await page.evaluate(OPEN, [demo.socket_url, []]) == {"code": 1006}
            # Another host is another site: SameSite keeps the cookie at home.
            await page.goto(url.replace("127.0.0.1", "localhost"))
            assert await page.evaluate(OPEN, [demo.socket_url, []]) == {"code": 1006}
        await page.goto("about:blank")
    assert codes == ["csrf_failed", "authorization_required"]
