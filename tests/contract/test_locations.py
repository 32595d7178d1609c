"""Where a token may sit."""

from __future__ import annotations

import inspect

import pytest

pytestmark = pytest.mark.asyncio


async def test_every_location(harness):
    h = harness({"JWT_COOKIE_CSRF_PROTECT": False})
    token = await h.mint()
    calls = {
        "headers": {"token": token},
        "cookies": {"cookies": {"access_token_cookie": token}},
        "query_string": {"path": f"/everywhere?jwt={token}"},
        "json": {"method": "POST", "json": {"access_token": token}},
    }
    for location, call in calls.items():
        answer = await h.call(**{"path": "/everywhere", **call})
        assert answer.json["location"] == location
    assert (await h.call(cookies={"access_token_cookie": token})).status == 401


async def test_refresh_tokens_have_their_own_cookie_and_key(harness):
    h = harness({"JWT_TOKEN_LOCATION": ["cookies", "json"], "JWT_COOKIE_CSRF_PROTECT": False})
    token = await h.mint_refresh()
    assert (await h.call("/refresh", cookies={"refresh_token_cookie": token})).status == 200
    assert (await h.call("/refresh", method="POST", json={"refresh_token": token})).status == 200
    assert (await h.call("/refresh", cookies={"access_token_cookie": token})).status == 401
    assert (await h.call("/refresh", method="POST", json={"access_token": token})).status == 401


@pytest.mark.parametrize(
    "value", ["bearer {}", "BEARER {}", "Bearer   {}", "Bearer {},", "Basic x, Bearer {}"]
)
async def test_schemes_as_rfc_9110_has_them(harness, value):
    h = harness()
    assert (await h.call(headers={"Authorization": value.format(await h.mint())})).status == 200


async def test_strict_scheme_case(harness):
    h = harness({"JWT_STRICT_SCHEME_CASE": True})
    token = await h.mint()
    assert (await h.call(headers={"Authorization": f"bearer {token}"})).code == "authorization_required"
    assert (await h.call(token=token)).status == 200


@pytest.mark.parametrize("value", ["Bearer", "Bearer ", "Bearer a b", "Bearer a\tb"])
async def test_malformed_credentials(harness, value):
    answer = await harness().call("/optional", headers={"Authorization": value})
    assert (answer.status, answer.code) == (401, "header_invalid")
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


async def test_own_header_without_a_scheme(harness):
    h = harness({"JWT_HEADER_NAME": "X-Token", "JWT_HEADER_TYPE": ""})
    token = await h.mint()
    assert (await h.call(headers={"X-Token": token})).status == 200
    assert (await h.call(headers={"X-Token": f"Bearer {token}"})).code == "header_invalid"
    assert (await h.call(headers={"X-Token": " , "})).json["msg"] == "Missing X-Token Header"
    assert (await h.call()).status == 401


async def test_query_prefix(harness):
    h = harness({"JWT_QUERY_STRING_VALUE_PREFIX": "jwt:"})
    token = await h.mint()
    assert (await h.call(f"/query?jwt=jwt:{token}")).status == 200
    assert (await h.call(f"/query?jwt={token}")).code == "query_invalid"
    assert (await h.call("/query")).json["msg"] == "Missing 'jwt' query parameter"


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize(
    "where", ["headers", "header", "cookies", "query", "header and cookie", "query and header"]
)
async def test_two_tokens_are_refused_unless_equal(harness, where, same):
    h = harness()
    one = await h.mint()
    two = one if same else await h.mint()
    call = {
        "headers": {"headers": [("Authorization", f"Bearer {one}"), ("Authorization", f"Bearer {two}")]},
        "header": {"headers": {"Authorization": f"Bearer {one}, Bearer {two}"}},
        "cookies": {"headers": {"Cookie": f"access_token_cookie={one}; access_token_cookie={two}"}},
        "query": {"path": f"/everywhere?jwt={one}&jwt={two}"},
        "header and cookie": {"token": one, "cookies": {"access_token_cookie": two}},
        "query and header": {"path": f"/everywhere?jwt={one}", "token": two},
    }[where]
    answer = await h.call(**{"path": "/everywhere", **call})
    if same:
        assert answer.status == 200
    else:
        assert (answer.status, answer.code) == (400, "multiple_tokens")
        assert 'error="invalid_request"' in answer.headers["WWW-Authenticate"]


async def test_without_strict_locations_the_first_counts(harness):
    h = harness(
        {
            "JWT_STRICT_LOCATIONS": False,
            "JWT_TOKEN_LOCATION": ["json", "cookies", "headers"],
            "JWT_COOKIE_CSRF_PROTECT": False,
        }
    )
    good, other = await h.mint("good"), await h.mint("other")
    answer = await h.call(method="POST", json={"access_token": good}, token=other)
    assert answer.json["location"] == "json"
    answer = await h.call(cookies={"access_token_cookie": good}, token=other)
    assert (answer.json["identity"], answer.json["location"]) == ("good", "cookies")
    assert (await h.call(token=good)).json["location"] == "headers"
    # No falling through to the next location when the first one's token is bad.
    assert (await h.call(cookies={"access_token_cookie": "bad"}, token=good)).status == 401
    # As Flask-JWT-Extended: two credentials of the scheme are none.
    two = {"Authorization": f"Bearer {good}, Bearer {other}"}
    assert (await h.call(headers=two)).code == "authorization_required"


async def test_json_is_read_last_and_stays_readable(harness):
    h = harness({"JWT_TOKEN_LOCATION": ["json", "headers"]})

    @h.api.jwt_required()
    async def view():
        request = h.framework.request

        body = request.get_json()
        body = await body if inspect.isawaitable(body) else body
        return {"body": body, "location": h.api.get_jwt_request_location()}

    h.view("/echo", view, methods=["POST"])
    token = await h.mint()
    answer = await h.call("/echo", method="POST", json={"access_token": token, "n": 1})
    assert answer.json["body"]["n"] == 1
    answer = await h.call("/echo", method="POST", json={"access_token": "ignored"}, token=token)
    assert answer.json["location"] == "headers"


async def test_missing_tokens_name_every_place(harness):
    answer = await harness().call("/everywhere")
    assert answer.json["msg"] == (
        "Missing JWT in headers, cookies, query_string or json (Missing Authorization Header; "
        "Missing cookie \"access_token_cookie\"; Missing 'jwt' query parameter; "
        "Invalid content-type. Must be application/json.)"
    )
    answer = await harness({"JWT_TOKEN_LOCATION": "json"}).call(method="POST", json={})
    assert answer.json["msg"] == 'Missing "access_token" key in json data.'
    answer = await harness().call(headers={"Authorization": "Basic abc"})
    assert answer.json["msg"].startswith("Missing 'Bearer' type")
