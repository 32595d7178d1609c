"""A tour of the demo: requests over its sockets, and whether the answers are the expected ones."""

from __future__ import annotations

import base64
import datetime as dt
import json
import secrets
import ssl
from typing import cast

import httpx
import jwt as pyjwt
from quart import Quart
from websockets.exceptions import WebSocketException

from async_jwt.adapters.quart import create_access_token
from examples.demo.live import MAX_NOTICE_LENGTH
from examples.demo.models import Users
from examples.demo.steps import (
    ACCESS_COOKIE,
    Claims,
    Step,
    Tour,
    show_body,
    show_challenge,
    show_flags,
    show_keys,
    show_text,
)

CSRF_COOKIE = "__Host-csrf_access_token"
REFRESH_CSRF_COOKIE = "__Host-csrf_refresh_token"


async def run_tour(app: Quart, url: str, trust: ssl.SSLContext, name: str, password: str) -> list[Step]:
    """Ask the running application everything that it should allow, and refuse.

    Args:
        app: the application, to make an expired token with its own key.
        url: where it is served.
        trust: knows the server's certificate authority.
        name: a user whom the tour may delete in the end.
        password: that user's password.

    Returns:
        The steps, up to the one after which the tour could not go on.
    """
    tour = Tour(url, trust)
    async with (
        httpx.AsyncClient(base_url=url, verify=trust, trust_env=False) as program,
        httpx.AsyncClient(base_url=url, verify=trust, trust_env=False) as browser,
    ):
        try:
            await _wrong_tokens(tour, program, app, name, password)
            password = await _freshness(tour, program, name, password)
            await _logging_out(tour, program, name, password)
            await _sessions(tour, program, name, password)
            await _locations(tour, program, name, password)
            await _cookies(tour, browser, name, password)
            await _sockets(tour, program, name, password)
            await _deletion(tour, program, name, password)
            await tour.ask(program, "a CORS preflight needs no token", "OPTIONS /api/me", "200")
            await tour.ask(program, "what does not exist stays 404", "GET /api/nothing", "404")
        except (httpx.HTTPError, WebSocketException, OSError) as problem:
            tour.steps.append(Step("the tour cannot go on", "", "an answer", type(problem).__name__))
    return tour.steps


async def _login(tour: Tour, client: httpx.AsyncClient, what: str, name: str, password: str) -> Claims:
    body = {"name": name, "password": password}
    response = await tour.ask(
        client, what, "POST /api/login", "200 access_token refresh_token", show=show_keys, json=body
    )
    pair: Claims = response.raise_for_status().json()
    return pair


async def _wrong_tokens(tour: Tour, client: httpx.AsyncClient, app: Quart, name: str, password: str) -> None:
    await tour.ask(client, "a page without login", "GET /account", "401 Bearer", show=show_challenge)
    await tour.ask(
        client,
        "the API without login",
        "GET /api/me",
        "401 authorization_required Bearer",
        show=show_challenge,
    )
    body = {"name": name, "password": "a guess"}
    await tour.ask(client, "log in, wrong password", "POST /api/login", "401 login_failed", json=body)
    pair = await _login(tour, client, "log in", name, password)
    token = pair["access_token"]
    await tour.ask(client, "the token", "GET /api/me", f"200 {name}", bearer=token, show=show_body("name"))

    await tour.ask(
        client,
        "a forged token: signature changed",
        "GET /api/me",
        '401 token_invalid Bearer error="invalid_token"',
        bearer=_with_other_signature(token),
        show=show_challenge,
    )
    for what, wrong in {
        'a forged token: "alg": "none"': _unsigned(token),
        "a forged token: signed with another key": _with_other_key(token),
    }.items():
        await tour.ask(client, what, "GET /api/me", "401 token_invalid", bearer=wrong)
    await tour.ask(
        client, "an expired token", "GET /api/me", "401 token_expired", bearer=await _expired(app, name)
    )
    await tour.ask(
        client,
        "a refresh token as access token",
        "GET /api/me",
        "401 token_type_wrong",
        bearer=pair["refresh_token"],
    )


async def _freshness(tour: Tour, client: httpx.AsyncClient, name: str, password: str) -> str:
    first = await _login(tour, client, "log in on a first device", name, password)
    response = await tour.ask(
        client,
        "refresh: two new tokens",
        "POST /api/refresh",
        "200 access_token refresh_token",
        bearer=first["refresh_token"],
        show=show_keys,
    )
    stale = response.json().get("access_token", "")
    await tour.ask(
        client, "the new token", "GET /api/me", f"200 {name}", bearer=stale, show=show_body("name")
    )
    new_password = secrets.token_urlsafe()
    body = {"password": new_password}
    await tour.ask(
        client,
        "it is not fresh: no new password with it",
        "POST /api/password",
        "401 fresh_token_required",
        bearer=stale,
        json=body,
    )
    second = (await _login(tour, client, "log in again", name, password))["access_token"]
    await tour.ask(
        client,
        "a fresh token: a new password",
        "POST /api/password",
        "200",
        bearer=second,
        json=body,
    )
    await tour.ask(client, "the session that changed it goes on", "GET /api/me", "200", bearer=second)
    await tour.ask(
        client, "the first device is out", "GET /api/me", "401 token_revoked", bearer=first["access_token"]
    )
    return new_password


async def _logging_out(tour: Tour, client: httpx.AsyncClient, name: str, password: str) -> None:
    pair = await _login(tour, client, "log in", name, password)
    access, refresh = pair["access_token"], pair["refresh_token"]
    await tour.ask(client, "log out", "POST /api/logout", "200", bearer=access)
    await tour.ask(client, "the token afterwards", "GET /api/me", "401 token_revoked", bearer=access)
    await tour.ask(
        client, "its refresh token afterwards", "POST /api/refresh", "401 token_revoked", bearer=refresh
    )
    laptop = await _login(tour, client, "log in on a laptop", name, password)
    phone = await _login(tour, client, "log in on a phone", name, password)
    await tour.ask(
        client,
        "log out everywhere, on the laptop",
        "POST /api/logout-everywhere",
        "200",
        bearer=laptop["access_token"],
    )
    for device, left in (("laptop", laptop), ("phone", phone)):
        await tour.ask(
            client,
            f"the {device}'s token afterwards",
            "GET /api/me",
            "401 token_revoked",
            bearer=left["access_token"],
        )
    await tour.ask(
        client,
        "the phone's refresh token afterwards",
        "POST /api/refresh",
        "401 token_revoked",
        bearer=phone["refresh_token"],
    )


async def _sessions(tour: Tour, client: httpx.AsyncClient, name: str, password: str) -> None:
    async def refresh(what: str, token: str, expected: str) -> Claims:
        response = await tour.ask(client, what, "POST /api/refresh", expected, bearer=token, show=show_keys)
        answer: Claims = response.json()
        return answer

    both = "200 access_token refresh_token"
    first = await _login(tour, client, "log in on a tablet", name, password)
    second = await refresh("refresh: the old token is used up", first["refresh_token"], both)
    lost = await refresh("that answer got lost: the old one leads to it", first["refresh_token"], both)
    third = await refresh("the token that both answers held", lost["refresh_token"], both)
    stolen = first["refresh_token"]
    await refresh("a thief comes with a copy of the first", stolen, "401 token_reused")
    for what, ask, token in (
        ("the session has ended, for the thief", "GET /api/me", second["access_token"]),
        ("and for its owner, who logs in again", "GET /api/me", third["access_token"]),
        ("no refresh token of it is left", "POST /api/refresh", third["refresh_token"]),
    ):
        await tour.ask(client, what, ask, "401 token_revoked", bearer=token)


async def _locations(tour: Tour, client: httpx.AsyncClient, name: str, password: str) -> None:
    token = (await _login(tour, client, "log in again at once", name, password))["access_token"]
    other = (await _login(tour, client, "and once more", name, password))["access_token"]
    where = show_body("location")
    await tour.ask(
        client,
        "the token in the query",
        "GET /api/download",
        "200 query_string",
        params={"jwt": token},
        show=where,
    )
    await tour.ask(
        client,
        "in the query of a view that does not look there",
        "GET /api/me",
        "401 authorization_required",
        params={"jwt": token},
    )
    await tour.ask(
        client,
        "the token in the JSON body",
        "POST /api/beacon",
        "200 json",
        json={"access_token": token},
        show=where,
    )
    await tour.ask(
        client,
        "two different tokens at once",
        "GET /api/download",
        "400 multiple_tokens",
        bearer=token,
        params={"jwt": other},
    )
    await tour.ask(
        client,
        "a token of 30 kB",
        "POST /api/beacon",
        "401 token_invalid",
        json={"access_token": token + "A" * 30_000},
    )
    await tour.ask(
        client,
        "a body of 100 kB, which is searched for none",
        "POST /api/beacon",
        "401 authorization_required",
        json={"access_token": token, "filler": "A" * 100_000},
    )
    await tour.ask(
        client, "a JSON body that is an array", "POST /api/beacon", "401 authorization_required", json=[token]
    )


async def _cookies(tour: Tour, browser: httpx.AsyncClient, name: str, password: str) -> None:
    form = {"name": name, "password": password}
    foreign = {"Origin": "https://attacker.example"}
    await tour.ask(
        browser,
        "the login form, sent by another site",
        "POST /login",
        "401 csrf_failed",
        data=form,
        headers=foreign,
    )
    await tour.ask(
        browser,
        "the login form",
        "POST /login",
        "303 Secure HttpOnly SameSite=Lax",
        data=form,
        headers={"Origin": _origin(browser)},
        show=show_flags,
    )
    shown = f"200 Hello, {name}"
    await tour.ask(browser, "a page with the cookie", "GET /account", shown, show=show_text(f"Hello, {name}"))
    ask = "POST /api/greeting"
    csrf = _csrf(browser, CSRF_COOKIE)
    await tour.ask(browser, "a cookie without its CSRF value", ask, "401 csrf_failed")
    await tour.ask(
        browser, "with a wrong CSRF value", ask, "401 csrf_failed", headers={"X-CSRF-TOKEN": "a guess"}
    )
    await tour.ask(browser, "with its CSRF value", ask, "200", headers=csrf)
    own = {**csrf, "Origin": _origin(browser)}
    await tour.ask(browser, "and the page's own Origin", ask, "200", headers=own)
    await tour.ask(browser, "and a foreign Origin", ask, "401 csrf_failed", headers={**csrf, **foreign})
    renew = _csrf(browser, REFRESH_CSRF_COOKIE)
    await tour.ask(
        browser,
        "refresh by cookie",
        "POST /refresh",
        "200 Secure HttpOnly SameSite=Lax",
        headers=renew,
        show=show_flags,
    )
    await tour.ask(
        browser,
        "the devices of the user",
        "GET /devices/",
        "200 (this one)",
        show=show_text("(this one)"),
    )
    cookie = {"Cookie": f"{ACCESS_COOKIE}={browser.cookies.get(ACCESS_COOKIE)}"}
    await tour.handshake(
        "a WebSocket with the cookie and the page's own Origin",
        "101",
        headers=cookie,
        origin=_origin(browser),
    )
    await tour.handshake(
        "with the cookie and a foreign Origin", "401 csrf_failed", headers={**cookie, **foreign}
    )
    await tour.handshake("with the cookie and no Origin", "401 csrf_failed", headers=cookie)
    csrf = _csrf(browser, CSRF_COOKIE)
    await tour.ask(browser, "log out by cookie", "POST /logout", "200", headers=csrf)
    await tour.ask(browser, "the page afterwards", "GET /account", "401")


async def _sockets(tour: Tour, client: httpx.AsyncClient, name: str, password: str) -> None:
    await tour.handshake(
        "a WebSocket without login", "401 authorization_required Bearer", show=show_challenge
    )
    token = (await _login(tour, client, "log in for a WebSocket", name, password))["access_token"]
    await tour.handshake(
        "a forged token as its protocol",
        '401 token_invalid Bearer error="invalid_token"',
        protocols=("bearer", _with_other_signature(token)),
        show=show_challenge,
    )
    notice = json.dumps({"name": name, "text": "Hello"})
    async with (
        tour.socket("the token as its protocol", "101 bearer", protocols=("bearer", token)) as first,
        tour.socket("the token in its header", "101", headers={"Authorization": f"Bearer {token}"}) as second,
    ):
        await tour.say(first, "a notice comes back, with the name", "Hello", notice)
        await tour.hear(second, "and to everybody else", notice)
        await tour.say(second, "a notice that is too long", "A" * (MAX_NOTICE_LENGTH + 1), "closed 1009")
        await tour.ask(client, "log out everywhere", "POST /api/logout-everywhere", "200", bearer=token)
        await tour.say(first, "a notice over the socket left open", "Hello", "closed 1008 token_revoked")


async def _deletion(tour: Tour, client: httpx.AsyncClient, name: str, password: str) -> None:
    token = (await _login(tour, client, "log in a last time", name, password))["access_token"]
    await tour.ask(client, "delete the account", "DELETE /api/me", "200", bearer=token)
    await tour.ask(client, "the token of a deleted user", "GET /api/me", "401 user_not_found", bearer=token)


# -- tokens that must not be accepted -----------------------------------------------------


def _with_other_signature(token: str) -> str:
    signed, _, signature = token.rpartition(".")
    return f"{signed}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def _unsigned(token: str) -> str:
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "JWT"}).encode()).rstrip(b"=")
    return f"{header.decode()}.{token.split('.')[1]}."


def _with_other_key(token: str) -> str:
    claims: Claims = pyjwt.decode(token, options={"verify_signature": False})
    return pyjwt.encode(claims, secrets.token_hex(64), algorithm="HS256")


async def _expired(app: Quart, name: str) -> str:
    async with app.app_context():
        user = await cast("Users", app.extensions["users"]).named(name)
        return await create_access_token(user, expires_delta=dt.timedelta(minutes=-1))


# -- what a browser sends along ----------------------------------------------------------


def _csrf(browser: httpx.AsyncClient, cookie: str) -> dict[str, str]:
    return {"X-CSRF-TOKEN": browser.cookies.get(cookie) or ""}


def _origin(client: httpx.AsyncClient) -> str:
    return str(client.base_url).rstrip("/")
