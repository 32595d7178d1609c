"""Several cookies of one name, as a former domain or path leaves behind."""

from __future__ import annotations

import pytest

from async_jwt.errors import ConfigurationError
from tests.harness.applications import however_it_runs

pytestmark = [pytest.mark.asyncio, however_it_runs]

COOKIES = {"JWT_TOKEN_LOCATION": ["cookies", "headers"], "JWT_COOKIE_CSRF_PROTECT": False}
NAME = "access_token_cookie"


@pytest.fixture
def app(make_app, clock):
    return make_app(COOKIES, clock=clock)


async def go(app, *texts, path="/me", name=NAME, **sent):
    return await app.call(path, headers={"Cookie": "; ".join(f"{name}={text}" for text in texts)}, **sent)


async def jti(app, token):
    return (await app.jwt.decode_token(token, allow_expired=True))["jti"]


async def bad_ones(app, clock):
    """Of each kind that does not count."""
    other = await app.jwt.create_token("alice", type="reset")
    short = await app.mint(expires_delta=1)
    early = await app.mint(additional_claims={"nbf": int(clock.now) + 10**6})
    clock.now += 2
    good = await app.mint()
    return {
        "malformed": "junk",
        "forged": good[:-4] + "AAAA",
        "expired": short,
        "too early": early,
        "of another type": other,
        "a refresh token": await app.mint_refresh(),
    }, good


async def test_the_valid_one_counts(app, clock):
    bad, good = await bad_ones(app, clock)
    for kind, text in bad.items():
        for texts in ((text, good), (good, text), (text, good, "junk", good)):
            answer = await go(app, *texts)
            assert (answer.status, answer.json["claims"]["jti"]) == (200, await jti(app, good)), kind


async def test_the_last_issued_of_one_user_counts(app, clock):
    old = await app.mint()
    clock.now += 5
    new, same_second = await app.mint(), await app.mint()
    for texts, chosen in (((old, new), new), ((new, old), new), ((same_second, old, new), same_second)):
        assert (await go(app, *texts)).json["claims"]["jti"] == await jti(app, chosen)
    await app.jwt.revoke_token(new)  # revocation is looked at for that one alone
    answer = await go(app, old, new)
    assert (answer.status, answer.code) == (401, "token_revoked")


async def test_without_iat_it_is_the_oldest(app):
    dateless, dated = await app.mint(additional_claims={"iat": None}), await app.mint()
    for texts in ((dateless, dated), (dated, dateless)):
        assert (await go(app, *texts)).json["claims"]["jti"] == await jti(app, dated)


async def test_of_two_users_none_counts_and_the_cause_is_named(app):
    answer = await go(app, await app.mint(), await app.mint("bob"))
    assert (answer.status, answer.code) == (400, "multiple_tokens")
    for word in (f'"{NAME}"', "JWT_COOKIE_DOMAIN", "JWT_COOKIE_FORMER_DOMAINS", "JWT_COOKIE_FORMER_PATHS"):
        assert word in answer.json["msg"]
    assert answer.cookies == {}


async def test_no_valid_one(app, clock):
    bad, _ = await bad_ones(app, clock)
    assert (await go(app, "junk", bad["forged"])).code == "token_invalid"
    assert (await go(app, bad["a refresh token"], "junk")).code == "token_type_wrong"
    assert (await go(app, "junk", bad["expired"], bad["forged"])).code == "token_expired"
    assert (await go(app, bad["expired"], "junk", path="/optional")).code == "token_expired"


async def test_no_more_than_four_are_verified(app):
    good = await app.mint()
    assert (await go(app, "a", "b", "c", good)).status == 200
    answer = await go(app, "a", "b", "c", good, "d")
    assert (answer.status, answer.code) == (400, "multiple_tokens")
    assert (await go(app, *["a"] * 50, good)).status == 200


async def test_beside_a_token_elsewhere_they_are_refused(app):
    one, two = await app.mint(), await app.mint()
    answer = await app.call(
        headers=[("Cookie", f"{NAME}={one}; {NAME}={two}"), ("Authorization", f"Bearer {one}")]
    )
    assert (answer.status, answer.code) == (400, "multiple_tokens")


async def test_refresh_tokens_too(app, clock):
    old, bobs = await app.mint_refresh(), await app.mint_refresh("bob")
    clock.now += 5
    new = await app.mint_refresh()
    name = "refresh_token_cookie"
    assert (await go(app, old, new, path="/refresh", name=name)).json["claims"]["jti"] == await jti(app, new)
    assert (await go(app, new, bobs, path="/refresh", name=name)).code == "multiple_tokens"


async def test_without_a_memory_of_tokens(make_app):
    app = make_app({**COOKIES, "JWT_TOKEN_CACHE_SIZE": 0})
    assert (await go(app, "junk", await app.mint())).status == 200


async def test_under_the_compat_preset_the_first_counts(make_app):
    app = make_app({**COOKIES, "JWT_COMPAT": "flask-jwt-extended"})
    one, two = await app.mint(), await app.mint("bob")
    assert (await go(app, one, two)).json["identity"] == "alice"


# -- what clears them --------------------------------------------------------------------


FORMER = {
    "JWT_COOKIE_DOMAIN": "shop.example",
    "JWT_COOKIE_FORMER_DOMAINS": [None, ".Shop.example", "old.example"],
    "JWT_COOKIE_FORMER_PATHS": ["/", "/app"],
}
EXPECTED = {
    (None, "/"),
    (None, "/app"),
    ("shop.example", "/app"),
    ("old.example", "/"),
    ("old.example", "/app"),
}


def deletions(answer, name=NAME):
    """Domain and path of each cookie of a name that a response deletes; and those that it sets."""
    gone, kept = set(), set()
    for line in answer.headers.getlist("Set-Cookie"):
        first, *parts = line.split("; ")
        held = dict(part.partition("=")[::2] for part in parts)
        if first.partition("=")[0] == name:
            place = (held.get("Domain"), held["Path"])
            (kept if first.partition("=")[2] else gone).add(place)
    return gone, kept


async def test_a_login_and_a_sign_out_clear_those_of_former_places(make_app):
    app = make_app({**COOKIES, **FORMER, "JWT_COOKIE_CSRF_PROTECT": True})
    api = app.api

    async def login():
        response = app.app.response_class("{}")
        api.set_token_cookies(response, await api.create_token_pair("alice"))
        return response

    async def out():
        response = app.app.response_class("{}")
        await api.sign_out(response)
        return response

    app.view("/login", app.colour(login), methods=["POST"])
    app.view("/out", app.colour(out), methods=["POST"])
    for name in (NAME, "refresh_token_cookie", "csrf_access_token", "csrf_refresh_token"):
        gone, kept = deletions(await app.call("/login", method="POST"), name)
        assert (gone, kept) == (EXPECTED, {("shop.example", "/")})
        gone, kept = deletions(await app.call("/out", method="POST"), name)
        assert (gone, kept) == (EXPECTED | {("shop.example", "/")}, set())


async def test_without_former_places_nothing_more_is_sent(make_app):
    app = make_app(COOKIES)

    async def login():
        response = app.app.response_class("{}")
        app.api.set_access_cookies(response, await app.api.create_access_token("alice"))
        return response

    app.view("/login", app.colour(login), methods=["POST"])
    assert len((await app.call("/login", method="POST")).headers.getlist("Set-Cookie")) == 1


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (
            {"JWT_COOKIE_FORMER_DOMAINS": ["https://shop.example"]},
            "JWT_COOKIE_FORMER_DOMAINS must be a host name",
        ),
        ({"JWT_COOKIE_FORMER_DOMAINS": 7}, "JWT_COOKIE_FORMER_DOMAINS must be a list"),
        ({"JWT_COOKIE_FORMER_DOMAINS": None}, "JWT_COOKIE_FORMER_DOMAINS must be a list"),
        ({"JWT_COOKIE_FORMER_PATHS": ["app"]}, "JWT_COOKIE_FORMER_PATHS must hold paths"),
        ({"JWT_COOKIE_FORMER_PATHS": ["/a; Domain=x"]}, "JWT_COOKIE_FORMER_PATHS must hold paths"),
        (
            {"JWT_COOKIE_PREFIX": "__Host-", "JWT_COOKIE_FORMER_PATHS": ["/app"]},
            "leave JWT_COOKIE_FORMER_DOMAINS and JWT_COOKIE_FORMER_PATHS empty",
        ),
    ],
)
async def test_wrong_settings(harness, config, says):
    with pytest.raises(ConfigurationError, match=says):
        harness(config)


async def test_a_single_one_may_be_a_string(harness):
    harness({"JWT_COOKIE_FORMER_DOMAINS": "shop.example", "JWT_COOKIE_FORMER_PATHS": "/app"})
