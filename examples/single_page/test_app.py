"""The API as the page's script asks it, and the page itself in a real browser where there is one."""

import asyncio

import pytest
from hypercorn.asyncio import serve
from hypercorn.config import Config

from async_jwt.testing import assert_protected, jwt_client
from examples.conftest import free_port
from examples.single_page.app import create_app

pytestmark = pytest.mark.asyncio
SECRET = "a secret for the tests of this example alone"


async def test_the_api_of_the_page():
    app = create_app(JWT_SECRET_KEY=SECRET)
    assert_protected(app)
    async with app.test_app():
        ada = jwt_client(app, "ada", location="cookies")
        assert (await ada.post("/api/list", json={"text": "Punched cards"})).status_code == 201
        found = await (await ada.get("/api/list")).get_json()
        assert found == {"name": "ada", "list": ["Punched cards"]}
        forged = await ada.post("/api/list", json={"text": "x"}, headers={"Origin": "https://evil.example"})
        assert (forged.status_code, (await forged.get_json())["code"]) == (401, "csrf_failed")
        expired = await jwt_client(app, "ada", location="cookies", expired=True).get("/api/list")
        assert expired.status_code == 401
        assert (await app.test_client().get("/api/list")).status_code == 401


async def test_the_page_in_a_browser(chromium):
    from playwright.async_api import async_playwright, expect  # noqa: PLC0415  # only where it runs

    app = create_app(JWT_SECRET_KEY=SECRET)
    port, stop = free_port(), asyncio.Event()
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.loglevel = "WARNING"
    server = asyncio.create_task(serve(app, config, shutdown_trigger=stop.wait))
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = await (await browser.new_context()).new_page()
        for _ in range(100):
            try:
                await page.goto(f"http://localhost:{port}/")
            except Exception:  # noqa: BLE001  # not listening yet
                await asyncio.sleep(0.05)
            else:
                break
        await sign_in(page, "wrong")
        await expect(page.get_by_role("alert")).to_have_text("Wrong name or password")
        await sign_in(page, "analytical")
        await expect(page.get_by_role("heading")).to_have_text("ada's list")
        await page.get_by_label("New item").fill("<b>Punched</b> cards")
        await page.get_by_role("button", name="Add").click()
        await expect(page.get_by_role("listitem")).to_have_text("<b>Punched</b> cards")
        assert "access_token_cookie" not in await page.evaluate("document.cookie")
        await page.context.clear_cookies(name="access_token_cookie")  # as if its time were over
        await page.reload()
        await expect(page.get_by_role("heading")).to_have_text("ada's list")
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_label("Name")).to_be_visible()
        await browser.close()
    stop.set()
    await server


async def sign_in(page, password):
    await page.get_by_label("Name").fill("ada")
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Sign in").click()
