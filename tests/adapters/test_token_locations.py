"""Where a token may sit."""

from __future__ import annotations

import asyncio
import inspect
import json

import pytest
from werkzeug.datastructures import Headers

from tests.harness.applications import NEEDS_QUART, QuartHarness

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
@pytest.mark.parametrize("where", ["headers", "header", "query", "header and cookie", "query and header"])
async def test_two_tokens_are_refused_unless_equal(harness, where, same):
    h = harness()
    one = await h.mint()
    two = one if same else await h.mint()
    call = {
        "headers": {"headers": [("Authorization", f"Bearer {one}"), ("Authorization", f"Bearer {two}")]},
        "header": {"headers": {"Authorization": f"Bearer {one}, Bearer {two}"}},
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


async def test_two_places_are_named_with_the_fix(harness):
    h = harness({"JWT_TOKEN_LOCATION": ["headers", "cookies"]})
    access, refresh = await h.mint(), await h.mint_refresh()
    answer = await h.call("/refresh", token=access, cookies={"refresh_token_cookie": refresh})
    assert answer.json["msg"] == (
        "The request carries different tokens in headers and in cookies: send one, or have the view look in "
        'one place, as jwt_required(refresh=True, locations="cookies") does'
    )
    answer = await h.call(headers={"Authorization": f"Bearer {access}, Bearer {refresh}"})
    assert answer.json["msg"] == "The request carries two different tokens in headers: send one"


@pytest.mark.parametrize("text", ["null", "undefined"])
@pytest.mark.parametrize("beside", [True, False])
async def test_what_a_script_without_a_token_sends(harness, text, beside):
    h = harness({"JWT_TOKEN_LOCATION": ["headers", "cookies"]})
    cookies = {"access_token_cookie": await h.mint()} if beside else {}
    for scheme in ("Bearer", "bearer"):
        answer = await h.call(headers={"Authorization": f"{scheme} {text}"}, cookies=cookies)
        assert (answer.status, answer.code) == (401, "header_invalid")
        assert answer.json["msg"] == (
            f"The Authorization header holds 'Bearer {text}', which is not a token: leave the header out"
        )


@pytest.mark.parametrize(
    "value",
    [
        "Bearer {good},{other}",
        "Bearer {good}, {other}",
        "Basic x, Bearer {good},{other}",
        "Bearer {good} ,{other}",
    ],
)
async def test_a_second_token_behind_a_comma_is_a_second_token(harness, value):
    h = harness()
    good, other = await h.mint(), await h.mint()
    answer = await h.call(headers={"Authorization": value.format(good=good, other=other)})
    assert (answer.status, answer.code) == (400, "multiple_tokens")
    answer = await h.call(headers={"Authorization": value.format(good=good, other=good)})
    assert answer.status == 200


@pytest.mark.parametrize(
    "value", ['Digest realm="a, Bearer {}"', 'Digest realm="a\\", Bearer {}, b="', 'Digest a="Bearer {}"']
)
async def test_quoted_texts_of_another_scheme_hold_no_token(harness, value):
    h = harness()
    answer = await h.call(headers={"Authorization": value.format(await h.mint())})
    assert answer.code == "authorization_required"
    found = await h.call(headers={"Authorization": f'Digest realm="a, b", Bearer {await h.mint()}'})
    assert found.status == 200


@pytest.mark.parametrize("blank", ["\x0b", "\x0c", "\x1c", "\xa0", "\x85"])
@pytest.mark.parametrize("shape", ["Bearer{blank}{token}", "Bearer {token}{blank}", "Bearer {blank}{token}"])
async def test_only_spaces_and_tabs_part_a_header(harness, blank, shape):
    h = harness()
    value = shape.format(blank=blank, token=await h.mint())
    answer = await h.call(headers={"Authorization": value})
    assert answer.status == 401


async def test_tabs_part_a_header_too(harness):
    h = harness()
    assert (await h.call(headers={"Authorization": f"Bearer\t{await h.mint()}"})).status == 200


LIMIT = 4096


def body_of(token, size):
    text = json.dumps({"access_token": token, "n": "x" * size}).encode()
    return text, {"Content-Type": "application/json"}


async def test_json_bodies_are_searched_up_to_a_limit(harness, caplog):
    h = harness({"JWT_TOKEN_LOCATION": ["headers", "json"], "JWT_MAX_JSON_BYTES": LIMIT})

    @h.api.jwt_required(optional=True)
    async def view():
        body = h.framework.request.get_data()
        body = await body if inspect.isawaitable(body) else body
        return {"length": len(body), "who": h.api.get_jwt_identity()}

    h.view("/echo", view, methods=["POST"])
    token = await h.mint()
    for size, who in ((10, "alice"), (LIMIT, None), (LIMIT, None)):
        body, headers = body_of(token, size)
        answer = await h.call("/echo", method="POST", data=body, headers=headers)
        assert answer.json == {"length": len(body), "who": who}
    body, headers = body_of(token, LIMIT)
    answer = await h.call(method="POST", data=body, headers=headers)
    assert (answer.status, answer.code) == (401, "authorization_required")
    said = [record.getMessage() for record in caplog.records if "JWT_MAX_JSON_BYTES" in record.getMessage()]
    assert len(said) <= 1, "once"


@NEEDS_QUART
@pytest.mark.parametrize("size", [10, 3 * LIMIT])
async def test_chunked_json_is_read_up_to_the_limit_and_stays_readable(size):
    h = QuartHarness({"JWT_TOKEN_LOCATION": ["json"], "JWT_MAX_JSON_BYTES": LIMIT})
    read = []

    @h.api.jwt_required(optional=True)
    async def view():
        read.append(arrived[0])
        return {"length": len(await h.framework.request.get_data()), "who": h.api.get_jwt_identity()}

    h.view("/echo", view, methods=["POST"])
    body, _ = body_of(await h.mint(), size)
    parts, arrived = [body[start : start + 1024] for start in range(0, len(body), 1024)], [0]

    async with h.app.test_client().request(
        "/echo", method="POST", headers=Headers({"Content-Type": "application/json"})
    ) as connection:
        for part in parts:
            arrived[0] += len(part)
            await connection.send(part)
            await asyncio.sleep(0)
        await connection.send_complete()
    answer = await connection.as_response()
    found = await answer.get_json()
    assert found == {"length": len(body), "who": "alice" if size == 10 else None}


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


@NEEDS_QUART
@pytest.mark.parametrize(("size", "who"), [(10, "alice"), (3 * LIMIT, None)])
async def test_a_body_whose_length_is_known_to_be_too_long_is_not_waited_for(size, who):
    h = QuartHarness({"JWT_TOKEN_LOCATION": ["json"], "JWT_MAX_JSON_BYTES": LIMIT})

    @h.api.jwt_required(optional=True)
    async def view():
        return {"length": len(await h.framework.request.get_data()), "who": h.api.get_jwt_identity()}

    h.view("/echo", view, methods=["POST"])
    body, headers = body_of(await h.mint(), size)
    headers["Content-Length"] = str(len(body))
    answer = await h.call("/echo", method="POST", data=body, headers=headers)
    assert answer.json == {"length": len(body), "who": who}


@NEEDS_QUART
async def test_a_body_that_never_ends_is_a_408():
    h = QuartHarness({"JWT_TOKEN_LOCATION": ["json"]})
    h.app.config["BODY_TIMEOUT"] = 0.05
    async with h.app.test_client().request(
        "/me", method="POST", headers=Headers({"Content-Type": "application/json"})
    ) as connection:
        await connection.send(b'{"access_token": ')
        await asyncio.sleep(0.2)
    assert (await connection.as_response()).status_code == 408


async def test_empty_elements_of_a_header_are_none(harness):
    h = harness()
    token = await h.mint()
    assert (await h.call(headers={"Authorization": f"Bearer {token}, , "})).status == 200
    assert (await h.call(headers={"Authorization": f" , Bearer {token}"})).status == 200
