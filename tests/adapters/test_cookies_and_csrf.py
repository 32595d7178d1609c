"""Tokens in cookies, and the walls against forged cross-site requests."""

from __future__ import annotations

import contextlib
from datetime import timedelta

import pytest

from async_jwt import Key, KeyRing
from async_jwt.errors import JWTDecodeError
from async_jwt.stores import MemoryStore
from tests.harness import SECRET
from tests.harness.applications import on_a_servers_loop

pytestmark = pytest.mark.asyncio

COOKIES = {"JWT_TOKEN_LOCATION": ["cookies"]}


def with_login(harness, config=None, **manager):
    h = harness({**COOKIES, **(config or {})}, **manager)
    api = h.api

    async def login():
        jsonify = h.framework.jsonify

        response = jsonify(ok=True)
        pair = await api.create_token_pair("alice")
        api.set_token_cookies(response, pair)
        return response

    async def logout():
        jsonify = h.framework.jsonify

        response = jsonify(ok=True)
        api.unset_jwt_cookies(response)
        return response

    h.view("/login", login, methods=["POST"])
    h.view("/logout", logout, methods=["POST"])
    return h


def values(answer):
    return {name: line.split(";")[0].partition("=")[2] for name, line in answer.cookies.items()}


async def test_cookies_are_safe_by_default(harness, clock):
    answer = await with_login(harness, clock=clock).call("/login", method="POST")
    cookies = answer.cookies
    for name, seconds in (("access_token_cookie", 900), ("refresh_token_cookie", 2592000)):
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= set(cookies[name].split("; "))
        assert f"Max-Age={seconds}" in cookies[name]
    for name in ("csrf_access_token", "csrf_refresh_token"):
        assert {"Secure", "Path=/", "SameSite=Lax"} <= set(cookies[name].split("; "))
        assert "HttpOnly" not in cookies[name]
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Cookie" in answer.headers["Vary"]


async def test_logout_takes_them_away(harness):
    answer = await with_login(harness).call("/logout", method="POST")
    assert set(answer.cookies) == {
        "access_token_cookie",
        "csrf_access_token",
        "refresh_token_cookie",
        "csrf_refresh_token",
    }
    for line in answer.cookies.values():
        assert "Expires=Thu, 01 Jan 1970 00:00:00 GMT" in line


async def test_cookies_as_flask_jwt_extended_sets_them(harness):
    h = with_login(harness, {"JWT_COMPAT": "flask-jwt-extended"})
    answer = await h.call("/login", method="POST")
    assert set(answer.cookies["access_token_cookie"].split("; ")[1:]) == {"HttpOnly", "Path=/"}
    assert set(answer.cookies["csrf_access_token"].split("; ")[1:]) == {"Path=/"}
    assert "Cache-Control" not in answer.headers
    h.app.config["JWT_SESSION_COOKIE"] = False
    assert "Max-Age=31540000" in (await h.call("/login", method="POST")).cookies["access_token_cookie"]


async def test_other_attributes(harness):
    h = with_login(
        harness,
        {
            "JWT_COOKIE_SAMESITE": "None",
            "JWT_COOKIE_DOMAIN": "app.example",
            "JWT_COOKIE_PARTITIONED": True,
            "JWT_SESSION_COOKIE": True,
            "JWT_REFRESH_COOKIE_PATH": "/refresh",
            "JWT_COOKIE_PREFIX": "__Secure-",
        },
    )
    cookies = (await h.call("/login", method="POST")).cookies
    line = cookies["__Secure-access_token_cookie"]
    assert {"Secure", "SameSite=None", "Domain=app.example", "Partitioned"} <= set(line.split("; "))
    assert "Max-Age" not in line
    assert "Path=/refresh" in cookies["__Secure-refresh_token_cookie"]


async def test_host_prefix_round_trip(harness):
    h = with_login(harness, {"JWT_COOKIE_PREFIX": "__Host-"})
    sent = values(await h.call("/login", method="POST"))
    assert (await h.call(cookies=sent)).json["location"] == "cookies"
    assert (await h.call(cookies={"access_token_cookie": sent["__Host-access_token_cookie"]})).status == 401


async def test_one_cookie_where_csrf_is_off_or_not_in_cookies(harness):
    for config in ({"JWT_COOKIE_CSRF_PROTECT": False}, {"JWT_CSRF_IN_COOKIES": False}):
        h = with_login(harness, config)
        assert len((await h.call("/login", method="POST")).cookies) == 2
        assert len((await h.call("/logout", method="POST")).cookies) == 2


async def test_max_age_and_domain_of_one_call(harness):
    h = harness(COOKIES)
    token = await h.mint()
    forever = await h.mint(expires_delta=False)
    async with h.context():
        response = h.framework.Response("")
        h.api.set_access_cookies(response, token, max_age=0, domain="other.example")
        h.api.set_refresh_cookies(response, await h.mint_refresh(), max_age=7)
        lines = response.headers.getlist("Set-Cookie")
        assert "Max-Age=0" in lines[0]
        assert "Domain=other.example" in lines[0]
        assert "Max-Age=7" in lines[2]
        response = h.framework.Response("")
        h.api.set_access_cookies(response, forever)
        assert "Max-Age=31540000" in response.headers["Set-Cookie"]
        with pytest.raises(JWTDecodeError):
            h.api.set_access_cookies(response, "no token")


async def test_cookies_that_browsers_would_drop_are_refused(harness):
    h = harness(COOKIES)
    token = await h.mint(additional_claims={"roles": "x" * 3000})
    async with h.context():
        with pytest.raises(ValueError, match="4093"):
            h.api.set_access_cookies(h.framework.Response(""), token, domain="app.example")


async def test_the_host_prefix_takes_no_domain(harness):
    h = harness({**COOKIES, "JWT_COOKIE_PREFIX": "__Host-"})
    token = await h.mint()
    async with h.context():
        with pytest.raises(ValueError, match="__Host-"):
            h.api.set_access_cookies(h.framework.Response(""), token, domain="app.example")


async def test_token_made_without_a_csrf_value(harness):
    token = await harness({"JWT_COOKIE_CSRF_PROTECT": False}).mint()
    h = harness(COOKIES)
    async with h.context():
        with pytest.raises(ValueError, match="CSRF"):
            h.api.set_access_cookies(h.framework.Response(""), token)
    sent = {"cookies": {"access_token_cookie": token}, "method": "POST"}
    assert (await h.call(**sent, headers={"X-CSRF-TOKEN": "x"})).code == "claim_missing"


async def test_double_submit(harness):
    h = with_login(harness)
    sent = values(await h.call("/login", method="POST"))
    call = {"method": "POST", "cookies": sent}
    assert (await h.call(cookies=sent)).status == 200
    missing = await h.call(**call)
    assert (missing.status, missing.code) == (401, "csrf_failed")
    assert "X-CSRF-TOKEN" in missing.json["msg"]
    others = await h.mint("bob")
    for wrong in ("x", "é", (await h.jwt.decode_token(others))["csrf"]):
        assert (await h.call(**call, headers={"X-CSRF-TOKEN": wrong})).code == "csrf_failed"
    assert (await h.call(**call, headers={"X-CSRF-TOKEN": sent["csrf_access_token"]})).status == 200
    refresh = {"X-CSRF-TOKEN": sent["csrf_refresh_token"]}
    assert (await h.call("/refresh", **call, headers=refresh)).status == 200
    assert (await h.call("/refresh", **call)).code == "csrf_failed"
    assert (await h.call("/optional", **call)).code == "csrf_failed"


async def test_csrf_value_in_a_form(harness):
    h = with_login(harness, {"JWT_CSRF_CHECK_FORM": True})
    sent = values(await h.call("/login", method="POST"))
    call = {"method": "POST", "cookies": sent}
    assert (await h.call(**call, form={"csrf_token": sent["csrf_access_token"]})).status == 200
    assert (await h.call(**call, form={"csrf_token": "é\x00"})).code == "csrf_failed"
    assert (await h.call(**call, form={})).code == "csrf_failed"
    strict = with_login(harness)
    assert (await strict.call(**call, form={"csrf_token": sent["csrf_access_token"]})).code == "csrf_failed"


@pytest.mark.parametrize(
    ("headers", "accepted"),
    [
        ({}, True),
        ({"Origin": "http://localhost"}, True),
        ({"Origin": "HTTP://LOCALHOST"}, True),
        ({"Origin": "https://spa.example"}, True),
        ({"Origin": "https://other.example"}, True),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({"Origin": "http://localhost:81"}, False),
        ({"Origin": "https://localhost"}, False),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Origin": "https://spa.example", "Sec-Fetch-Site": "cross-site"}, True),
    ],
)
async def test_origin_is_a_second_wall(harness, headers, accepted):
    h = with_login(harness, {"JWT_TRUSTED_ORIGINS": ["https://spa.example/", "https://other.example:443"]})
    sent = values(await h.call("/login", method="POST"))
    call = {"method": "POST", "cookies": sent}
    csrf = {"X-CSRF-TOKEN": sent["csrf_access_token"]}
    answer = await h.call(**call, headers={**csrf, **headers})
    assert (answer.status == 200) is accepted
    if not accepted:
        assert answer.code == "csrf_failed"
    h.app.config["JWT_CSRF_CHECK_ORIGIN"] = False
    assert (await h.call(**call, headers={**csrf, **headers})).status == 200
    assert (await h.call(cookies=sent, headers=headers)).status == 200


@on_a_servers_loop  # WSGI joins a header that came twice
async def test_each_of_several_origins_must_be_trusted(harness):
    h = with_login(harness, {"JWT_TRUSTED_ORIGINS": ["https://spa.example"]})
    sent = values(await h.call("/login", method="POST"))
    for origins, status in ((["spa", "spa"], 200), (["spa", "evil"], 401), (["evil", "spa"], 401)):
        headers = [("Origin", f"https://{name}.example") for name in origins]
        headers.append(("X-CSRF-TOKEN", sent["csrf_access_token"]))
        assert (await h.call(method="POST", cookies=sent, headers=headers)).status == status, origins


async def test_csrf_methods(harness):
    h = with_login(harness, {"JWT_CSRF_METHODS": ["get"]})
    sent = values(await h.call("/login", method="POST"))
    assert (await h.call(cookies=sent)).code == "csrf_failed"
    assert (await h.call(cookies=sent, method="POST")).status == 200


async def test_tokens_elsewhere_need_no_csrf(harness):
    h = harness()
    assert (await h.call(method="POST", token=await h.mint())).status == 200


@pytest.mark.parametrize(
    ("headers", "config", "accepted"),
    [
        ({}, {}, True),  # no browser
        ({"Origin": "http://localhost"}, {}, True),
        ({"Sec-Fetch-Site": "same-origin"}, {}, True),
        ({"Origin": "https://evil.example"}, {}, False),
        ({"Origin": "null"}, {}, False),
        ({"Origin": "https://sub.localhost"}, {}, False),
        ({"Sec-Fetch-Site": "cross-site"}, {}, False),
        ({"Sec-Fetch-Site": "same-site"}, {}, False),
        ({"Origin": "https://idp.example"}, {"JWT_TRUSTED_ORIGINS": "https://idp.example"}, True),
        ({"Origin": "https://evil.example"}, {"JWT_CSRF_CHECK_ORIGIN": False}, True),
        ({"Origin": "https://evil.example"}, {"JWT_COOKIE_CSRF_PROTECT": False}, True),
        ({"Origin": "https://evil.example"}, {"JWT_CSRF_METHODS": ["PUT"]}, True),
        ({"Origin": "https://evil.example"}, {"JWT_COMPAT": "flask-jwt-extended"}, True),
    ],
)
async def test_another_site_signs_nobody_in(harness, headers, config, accepted):
    h = with_login(harness, config)
    answer = await h.call("/login", method="POST", headers=headers)
    if accepted:
        assert answer.status == 200
        assert "access_token_cookie" in answer.cookies
    else:
        assert (answer.status, answer.code, answer.cookies) == (401, "csrf_failed", {})


async def test_a_sign_in_that_comes_back_from_elsewhere_by_a_link(harness):
    h = harness(COOKIES)

    async def callback():
        response = h.framework.jsonify(ok=True)
        h.api.set_access_cookies(response, token)
        return response

    token = await h.mint()
    h.view("/callback", h.colour(callback))
    answer = await h.call("/callback", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"})
    assert "access_token_cookie" in answer.cookies


async def test_each_function_that_signs_in_looks(harness):
    h = harness(COOKIES)
    pair = await h.jwt.create_token_pair("alice")

    async def login(name):
        response = h.framework.jsonify(ok=True)
        given = pair if name == "set_token_cookies" else pair.access_token
        getattr(h.api, name)(response, given)
        return response

    h.view("/login/<name>", h.colour(login), methods=["POST"])
    for name in ("set_access_cookies", "set_refresh_cookies", "set_token_cookies"):
        answer = await h.call(f"/login/{name}", method="POST", headers={"Origin": "https://evil.example"})
        assert answer.code == "csrf_failed"


async def test_the_applications_loader_answers_it(harness):
    h = with_login(harness)

    @h.jwt.unauthorized_loader
    async def refused(message):
        return {"mine": message}, 403

    answer = await h.call("/login", method="POST", headers={"Origin": "https://evil.example"})
    assert (answer.status, answer.json) == (
        403,
        {"mine": "The request comes from an origin that is not trusted"},
    )


@pytest.mark.parametrize(
    ("headers", "message"),
    [({}, "Missing CSRF token"), ({"X-CSRF-TOKEN": "another"}, "CSRF double submit tokens do not match")],
)
async def test_the_originals_words_under_the_preset(harness, headers, message):
    h = harness({**COOKIES, "JWT_COMPAT": "flask-jwt-extended"})
    cookies = {"access_token_cookie": await h.mint()}
    answer = await h.call("/me", method="POST", cookies=cookies, headers=headers)
    assert (answer.status, answer.json) == (401, {"msg": message})


async def test_the_originals_reading_of_an_age_of_zero_under_the_preset(harness):
    h = harness({**COOKIES, "JWT_COMPAT": "flask-jwt-extended"})

    async def login():
        response = h.framework.jsonify(ok=True)
        h.api.set_access_cookies(response, token, max_age=0)
        return response

    token = await h.mint()
    h.view("/login", h.colour(login))
    line = (await h.call("/login")).cookies["access_token_cookie"]
    assert "Max-Age" not in line  # as if it were not given: the cookie ends with the browser session


SITE = {"JWT_TOKEN_LOCATION": ["cookies"], "JWT_COOKIE_SECURE": True}


async def posted(h, token, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    csrf = {"X-CSRF-TOKEN": (await h.jwt.decode_token(token))["csrf"]}
    answer = await h.call(method="POST", cookies={"access_token_cookie": token}, headers={**csrf, **headers})
    return answer.status


async def test_a_form_of_ones_own_under_no_referrer(harness):
    """Browsers say then that its origin is null, and that it is same-origin."""
    h = harness(SITE)
    token = await h.mint()
    assert await posted(h, token, Origin="null", Sec_Fetch_Site="same-origin") == 200
    for site in ("cross-site", "same-site", "none"):
        assert await posted(h, token, Origin="null", Sec_Fetch_Site=site) == 401
    assert await posted(h, token, Origin="null") == 401


@pytest.mark.parametrize(
    ("host", "origin", "secure", "status"),
    [
        ("app.example", "http://app.example", True, 401),
        ("app.example", "http://app.example", False, 200),
        ("localhost", "http://localhost", True, 200),
        ("localhost:5000", "http://localhost:5000", True, 200),
        ("me.localhost", "http://me.localhost", True, 200),
        ("127.0.0.1:5000", "http://127.0.0.1:5000", True, 200),
        ("localhost.evil.example", "http://localhost.evil.example", True, 401),
        ("127.0.0.1.evil.example", "http://127.0.0.1.evil.example", True, 401),
    ],
)
async def test_with_secure_cookies_an_http_origin_is_none(harness, host, origin, secure, status):
    """Who is on the way can send pages of it, and the browser then sends the cookies to https."""
    h = harness({**SITE, "JWT_COOKIE_SECURE": secure})
    assert await posted(h, await h.mint(), Host=host, Origin=origin) == status


async def test_csrf_values_are_compared_in_one_encoding(harness):
    h = harness(SITE)
    token = await h.mint(additional_claims={"csrf": "caf\u00e9"})
    in_utf8 = "caf\u00e9".encode().decode("latin-1")  # as servers hand on the bytes of a header
    if h.framework.__name__ == "quart":  # whose test client writes UTF-8 itself
        assert await posted(h, token, X_CSRF_TOKEN="caf\u00e9") == 200
    else:
        assert await posted(h, token, X_CSRF_TOKEN=in_utf8) == 200
        assert await posted(h, token, X_CSRF_TOKEN="caf\u00e9") == 401


def taken_away(answer):
    """The cookies that an answer takes from a browser."""
    return {name for name, line in answer.cookies.items() if "Expires=Thu, 01 Jan 1970" in line}


async def test_dead_cookies_are_taken_away(harness, clock):
    """A browser that keeps them sends them again, and is refused again."""
    h = harness({**SITE, "JWT_COOKIE_CSRF_PROTECT": False, "JWT_REFRESH_GRACE": 0}, clock=clock)
    h.jwt.user_lookup_loader(lambda _header, claims: None if claims["sub"] == "gone" else claims["sub"])

    @h.api.jwt_required(refresh=True)
    async def rotate():
        return {"token": (await h.api.rotate_refresh_token()).refresh_token}

    h.view("/rotate", rotate)
    revoked, gone = await h.mint(), await h.mint("gone")
    await h.jwt.revoke_token(revoked)
    clock.now += 61
    for token in ("garbage", revoked, gone, f"{revoked[:-4]}AAAA"):
        answer = await h.call(cookies={"access_token_cookie": token})
        assert (answer.status, taken_away(answer)) == (401, {"access_token_cookie"}), token
        assert answer.headers["Cache-Control"] == "no-store"
    answer = await h.call("/refresh", cookies={"refresh_token_cookie": "garbage"})
    assert taken_away(answer) == {"refresh_token_cookie"}
    pair = await h.jwt.create_token_pair("alice")
    jar = {"refresh_token_cookie": pair.refresh_token}
    assert (await h.call("/rotate", cookies=jar)).status == 200
    answer = await h.call("/rotate", cookies=jar)
    assert answer.code == "token_reused"
    assert taken_away(answer) == {"access_token_cookie", "refresh_token_cookie"}


async def test_cookies_that_others_of_the_domain_may_accept_stay(harness, clock):
    """Else a link to one service signs its visitor out of all."""
    config = {**SITE, "JWT_COOKIE_DOMAIN": "example.com", "JWT_DECODE_AUDIENCE": "admin"}
    h = harness({**config, "JWT_COOKIE_CSRF_PROTECT": False}, clock=clock)
    h.jwt.user_lookup_loader(lambda _header, claims: None if claims["sub"] == "gone" else claims["sub"])
    audience = {"additional_claims": {"aud": "admin"}}
    revoked = await h.mint(**audience)
    strange = await harness(
        {"JWT_SECRET_KEY": "of another service, " * 2, "JWT_ENCODE_AUDIENCE": "admin"}
    ).mint()
    found = {}
    gone, other = await h.mint("gone", **audience), await harness({"JWT_ENCODE_AUDIENCE": "shop"}).mint()
    await h.jwt.revoke_token(revoked)
    clock.now += 61
    for name, token in {
        "gone": gone,
        "other": other,
        "strange": strange,
        "revoked": revoked,
        "": "x",
    }.items():
        answer = await h.call(cookies={"access_token_cookie": token})
        assert answer.status == 401
        found[name] = bool(answer.cookies)
    assert found == {"gone": False, "other": False, "strange": False, "revoked": True, "": True}


async def test_the_cookie_of_a_user_who_is_not_everywhere_yet_stays(harness, clock):
    """As where a replica of the database is asked right after somebody signed up."""
    h = harness({**SITE, "JWT_COOKIE_CSRF_PROTECT": False}, clock=clock)
    h.jwt.user_lookup_loader(lambda _header, _claims: None)
    cookies = {"access_token_cookie": await h.mint()}
    assert (await h.call(cookies=cookies)).cookies == {}
    clock.now += 61
    assert taken_away(await h.call(cookies=cookies)) == {"access_token_cookie"}


async def test_what_a_view_itself_finds_out_takes_cookies_away_too(harness, clock):
    """As a refresh view does, whose session the store no longer knows."""
    store = MemoryStore(clock=clock)
    config = {**SITE, "JWT_COOKIE_CSRF_PROTECT": False, "JWT_REFRESH_LATE_LIMIT": 1}
    h = harness(config, store=store, clock=clock)
    seen = []

    @h.api.jwt_required(refresh=True)
    async def rotate():
        return {"token": (await h.api.rotate_refresh_token()).refresh_token}

    @h.app.after_request
    def after(response):
        with contextlib.suppress(RuntimeError):
            seen.append(h.api.get_jwt_identity())
        return response

    h.view("/rotate", rotate)
    unknown = (await h.jwt.create_token_pair("alice")).refresh_token
    pair = await h.jwt.create_token_pair("bob")
    jar = {"refresh_token_cookie": pair.refresh_token}
    assert (await h.call("/rotate", cookies=jar)).status == 200
    assert seen == ["bob"]
    clock.now += 5
    answer = await h.call("/rotate", cookies=jar)
    assert (answer.code, taken_away(answer)) == (
        "token_reused",
        {"access_token_cookie", "refresh_token_cookie"},
    )
    store._sessions.clear()
    answer = await h.call("/rotate", cookies={"refresh_token_cookie": unknown})
    assert (answer.code, taken_away(answer)) == ("session_unknown", {"refresh_token_cookie"})
    assert seen == ["bob"]


async def test_cookies_that_may_be_of_use_again_stay(harness, clock):
    """A refresh of another tab may have replaced an expired one before this answer arrives."""
    h = harness({**SITE, "JWT_TOKEN_LOCATION": ["cookies", "headers"]}, clock=clock)
    expired = await h.mint(expires_delta=timedelta(seconds=5))
    clock.now += 60
    token, refresh = await h.mint(), await h.mint_refresh()
    early = await h.mint(additional_claims={"nbf": 2_000_000_000})
    for call in (
        {"method": "POST", "cookies": {"access_token_cookie": token}},  # no CSRF value
        {"path": "/fresh", "cookies": {"access_token_cookie": token}},
        {"cookies": {"access_token_cookie": refresh}},  # of another type
        {"cookies": {"access_token_cookie": early}},
        {"cookies": {"access_token_cookie": expired}},
        {"token": "garbage"},  # in the header
        {},
    ):
        answer = await h.call(**call)
        assert answer.status in (401, 403)
        assert answer.cookies == {}


async def test_loaders_that_set_cookies_themselves_and_the_preset_are_left_alone(harness):
    h = harness(SITE)

    @h.jwt.invalid_token_loader
    def invalid(_message):
        response = h.framework.Response("mine", 401)
        response.set_cookie("access_token_cookie", "mine")
        return response

    answer = await h.call(cookies={"access_token_cookie": "garbage"})
    assert answer.cookies["access_token_cookie"].startswith("access_token_cookie=mine")
    h = harness({"JWT_COMPAT": "flask-jwt-extended", "JWT_TOKEN_LOCATION": ["cookies"]})
    assert (await h.call(cookies={"access_token_cookie": "garbage"})).cookies == {}


async def test_cookies_whose_key_may_be_known_a_moment_later_stay(harness):
    """Where a ring loads its keys, or a loader returned none."""
    strange = await harness({"JWT_SECRET_KEY": "of another deployment, " * 2}).mint()
    ring = KeyRing(load=lambda: [Key(SECRET, "HS256")], loaded_sign=True, loaded_secrets=True)
    answer = await harness(SITE, keys=ring).call(cookies={"access_token_cookie": strange})
    assert (answer.code, answer.cookies) == ("token_invalid", {})
    h = harness(SITE)
    answer = await h.call(cookies={"access_token_cookie": strange})
    assert taken_away(answer) == {"access_token_cookie", "csrf_access_token"}
    h.jwt.decode_key_loader(lambda _header, _claims: None)
    assert (await h.call(cookies={"access_token_cookie": strange})).cookies == {}


async def test_a_response_that_loaders_share_keeps_no_cookies(harness):
    h = harness({"JWT_TOKEN_LOCATION": ["cookies", "headers"], "JWT_COOKIE_CSRF_PROTECT": False})
    denied = h.framework.Response("denied", 401)
    h.jwt.invalid_token_loader(lambda _message: denied)
    h.jwt.unauthorized_loader(lambda _message: denied)
    assert taken_away(await h.call(cookies={"access_token_cookie": "garbage"})) == {"access_token_cookie"}
    assert (await h.call()).cookies == {}
