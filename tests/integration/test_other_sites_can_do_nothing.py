"""What other sites can do with a signed-in browser: nothing. And what the application's own pages need."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Browser, Page
from quart import Quart, jsonify, make_response, request, websocket

from async_jwt.adapters.quart import (
    JWTManager,
    create_token_pair,
    get_jwt_identity,
    jwt_required,
    rotate_refresh_token,
    set_token_cookies,
    sign_out,
)
from async_jwt.signals import token_refused
from tests.harness import SECRET
from tests.harness.sites import SIBLING, UNKNOWN, Site, browsing, new_context, served, submit

pytestmark = [
    pytest.mark.asyncio,
    # Of Hypercorn, where a browser cuts a connection as it ends.
    pytest.mark.filterwarnings("ignore:.*TCPServer._idle_timeout:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:.*TCPServer._idle_timeout:pytest.PytestUnraisableExceptionWarning"),
]

UNPROTECTED = {
    "JWT_COOKIE_CSRF_PROTECT": False,
    "JWT_COOKIE_SAMESITE": "None",
    "JWT_CSRF_CHECK_ORIGIN": False,
}

# All that a script may try; what it is not allowed to read still reaches the server.
FETCHES = """async (url) => {
  const bodies = {"text/plain": '{"amount": 5}', "application/x-www-form-urlencoded": "amount=5"};
  const tries = Object.entries(bodies).map(([type, body]) => fetch(url, {
    method: "POST", mode: "no-cors", credentials: "include", headers: {"Content-Type": type}, body,
  }));
  tries.push(fetch(url, {method: "POST", credentials: "include", headers: {"X-CSRF-TOKEN": "a guess"}}));
  tries.push(fetch(url, {method: "DELETE", credentials: "include"}));
  const beacon = navigator.sendBeacon(url, "amount=5");
  const ends = await Promise.allSettled(tries);
  return [beacon, ends.some(({value}) => value?.ok)];
}"""
SOCKET = """(url) => new Promise((resolve) => {
  const socket = new WebSocket(url);
  socket.onmessage = ({data}) => resolve(data);
  socket.onclose = ({code}) => resolve(code);
})"""
# The one header of client code.
OWN = """async ([path, csrf]) => {
  const value = document.cookie.match(new RegExp(csrf + "=([^;]+)"))?.[1] ?? "";
  const answer = await fetch(path, {method: "POST", headers: {"X-CSRF-TOKEN": value}});
  return [answer.status, await answer.json()];
}"""


def make_site(**config: Any) -> Site:
    app = Quart("site")
    app.config.update(
        {
            "JWT_SECRET_KEY": SECRET,
            "JWT_TOKEN_LOCATION": ["cookies"],
            "JWT_COOKIE_PREFIX": "__Host-",
            **config,
        }
    )
    site = Site(app, JWTManager(app))

    async def note(_: Quart, code: str, **_more: object) -> None:
        site.codes.append(code)

    token_refused.connect(note, sender=app, weak=False)

    @app.get("/")
    async def page() -> str:
        # A host that is not ours has the same server: its pages are the attacker's.
        return "<!doctype html><title>A page</title><p>A page"

    @app.post("/login")
    async def login() -> Any:
        name = (await request.form)["name"]
        response = await make_response({"name": name})
        set_token_cookies(response, await create_token_pair(name, fresh=True))
        return response

    @app.get("/me")
    @jwt_required(optional=True)
    async def me() -> Any:
        return jsonify(get_jwt_identity())

    @app.route("/transfer", methods=["POST", "DELETE"])
    @jwt_required()
    async def transfer() -> Any:
        site.transfers.append(get_jwt_identity())
        return {"count": len(site.transfers)}

    @app.post("/refresh")
    @jwt_required(refresh=True)
    async def refresh() -> Any:
        response = await make_response({"refreshed": True})
        set_token_cookies(response, await rotate_refresh_token())
        return response

    @app.post("/logout")
    async def logout() -> Any:
        response = await make_response({"out": True})
        await sign_out(response)
        return response

    @app.websocket("/socket")
    @jwt_required()
    async def live() -> None:
        await websocket.send(get_jwt_identity())

    return site


async def signed_in(browser: Browser, site: Site, name: str = "alice") -> Page:
    page = await (await new_context(browser)).new_page()
    await page.goto(site.url("/"))
    await submit(page, site.url("/login"), name=name)
    assert await who(page, site) == name
    return page


async def who(page: Page, site: Site) -> Any:
    """Whom the site takes the browser for."""
    await page.goto(site.url("/"))
    return await page.evaluate("async () => await (await fetch('/me')).json()")


async def attack(page: Page, site: Site, host: str) -> list[Any]:
    """All that a page of another host can try, and what came of it."""
    await page.goto(site.url("/", host))
    done = [await page.evaluate(FETCHES, site.url("/transfer"))]
    done.append(await page.evaluate(SOCKET, site.url("/socket", scheme="wss")))
    await submit(page, site.url("/transfer"), amount="5")
    return done


@pytest.mark.parametrize(
    ("proxied", "samesite"),
    [(False, "Lax"), (False, "None"), (True, "None")],
    ids=["TLS", "TLS, without SameSite", "behind a proxy, without SameSite"],
)
async def test_other_sites_get_nothing_done_and_the_own_one_all(chromium, tmp_path, proxied, samesite):
    made = make_site(JWT_COOKIE_SAMESITE=samesite)
    async with served(made, tmp_path, proxied=proxied) as site, browsing(chromium) as browser:
        page = await signed_in(browser, site)
        for host in (UNKNOWN, SIBLING):
            assert await attack(page, site, host) == [[True, False], 1006]
            # Nor is a visitor signed in as somebody else, or signed out.
            await page.goto(site.url("/", host))
            await submit(page, site.url("/login"), name="mallory")
            await page.goto(site.url("/", host))
            await submit(page, site.url("/logout"))
            await page.goto(site.url("/", host))
            await submit(page, site.url("/refresh"))
            assert await who(page, site) == "alice"
        assert site.transfers == []
        assert set(site.codes) == {"csrf_failed", "authorization_required"}

        await page.goto(site.url("/"))
        access, refresh = "__Host-csrf_access_token", "__Host-csrf_refresh_token"
        how = f"send the value of the cookie {access}"
        assert await page.evaluate(OWN, ["/transfer", access]) == [200, {"count": 1}]
        assert await page.evaluate(OWN, ["/transfer", "nothing"]) == [
            401,
            {"code": "csrf_failed", "msg": f"Missing CSRF token: {how} in the X-CSRF-TOKEN header"},
        ]
        assert await page.evaluate(SOCKET, site.url("/socket", scheme="wss")) == "alice"
        assert await page.evaluate(OWN, ["/refresh", refresh]) == [200, {"refreshed": True}]
        assert await page.evaluate(OWN, ["/transfer", access]) == [200, {"count": 2}]
        assert await page.evaluate(OWN, ["/logout", access]) == [200, {"out": True}]
        assert await who(page, site) is None


async def test_the_attacks_are_real(chromium, tmp_path):
    """Without the walls the same pages get it all done: else the tests above prove nothing."""
    async with served(make_site(**UNPROTECTED), tmp_path) as site, browsing(chromium) as browser:
        page = await signed_in(browser, site)
        await attack(page, site, UNKNOWN)
        assert "alice" in site.transfers
        await page.goto(site.url("/", UNKNOWN))
        await submit(page, site.url("/login"), name="mallory")
        assert await who(page, site) == "mallory"


async def test_cookies_that_a_sibling_tosses(chromium, tmp_path):
    toss = "([name, value]) => { document.cookie = `${name}=${value}; domain=site.test; path=/; secure`; }"
    async with (
        served(make_site(), tmp_path) as site,
        served(make_site(JWT_COOKIE_PREFIX=""), tmp_path) as plain,
        browsing(chromium) as browser,
    ):
        # With the prefix the browser itself refuses them.
        alice, mallory = await signed_in(browser, site), await signed_in(browser, site, "mallory")
        stolen = {cookie["name"]: cookie["value"] for cookie in await mallory.context.cookies()}
        await alice.goto(site.url("/", SIBLING))
        for name in ("__Host-access_token_cookie", "__Host-csrf_access_token"):
            await alice.evaluate(toss, [name, stolen[name]])
        assert await who(alice, site) == "alice"
        assert await alice.evaluate(OWN, ["/transfer", "__Host-csrf_access_token"]) == [200, {"count": 1}]
        assert site.transfers == ["alice"]

        # Without it they come along, and two tokens are none; a CSRF value belongs to its token.
        alice, mallory = await signed_in(browser, plain), await signed_in(browser, plain, "mallory")
        stolen = {cookie["name"]: cookie["value"] for cookie in await mallory.context.cookies()}
        await alice.goto(plain.url("/", SIBLING))
        await alice.evaluate(toss, ["csrf_access_token", stolen["csrf_access_token"]])
        await submit(alice, plain.url("/transfer"), csrf_token=stolen["csrf_access_token"])
        await alice.goto(plain.url("/", SIBLING))
        await alice.evaluate(toss, ["access_token_cookie", stolen["access_token_cookie"]])
        assert (await who(alice, plain))["code"] == "multiple_tokens"
        assert plain.transfers == []


async def test_nothing_of_it_is_cached_for_others():
    site = make_site()
    client = site.app.test_client()
    response = await client.post("/login", form={"name": "alice"})
    assert response.headers["Cache-Control"] == "no-store"
    assert "Cookie" in response.headers["Vary"]
    for name in ("__Host-access_token_cookie", "__Host-refresh_token_cookie"):
        (line,) = [line for line in response.headers.getlist("Set-Cookie") if line.startswith(f"{name}=")]
        assert "Secure" in line
        assert "HttpOnly" in line
        assert "SameSite=Lax" in line
        assert "Path=/" in line
        assert "Domain" not in line
