"""Beside the real Flask-JWT-Extended: the same application, the same requests, the same answers."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import flask_jwt_extended
import jwt as pyjwt
import pytest
from dateutil.relativedelta import relativedelta

from async_jwt.adapters import flask_sync
from async_jwt.errors import ConfigurationError
from tests.harness import SECRET
from tests.harness.keys import PRIVATE_PEMS, PUBLIC_PEMS
from tests.integration.fje_twins import DEMANDS, recipes, tokens, twins

pytestmark = pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")

CONFIGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everywhere": {"JWT_TOKEN_LOCATION": ["headers", "cookies", "query_string", "json"]},
    "cookies": {"JWT_TOKEN_LOCATION": ["cookies"], "JWT_CSRF_CHECK_FORM": True},
    "no CSRF": {"JWT_TOKEN_LOCATION": ["cookies"], "JWT_COOKIE_CSRF_PROTECT": False},
    "query": {
        "JWT_TOKEN_LOCATION": ["query_string"],
        "JWT_QUERY_STRING_VALUE_PREFIX": "T ",
        "JWT_QUERY_STRING_NAME": "t",
    },
    "bare header": {"JWT_HEADER_TYPE": "", "JWT_HEADER_NAME": "X-Token"},
    "other names": {
        "JWT_ERROR_MESSAGE_KEY": "m",
        "JWT_IDENTITY_CLAIM": "jti",
        "JWT_TOKEN_LOCATION": ["json", "cookies"],
        "JWT_JSON_KEY": "a",
        "JWT_ACCESS_COOKIE_NAME": "ac",
    },
    "any sub": {"JWT_VERIFY_SUB": False},
    "audience and issuer": {"JWT_DECODE_AUDIENCE": ["here", "x"], "JWT_DECODE_ISSUER": ["us", "uk"]},
    "leeway": {"JWT_DECODE_LEEWAY": 90},
    "algorithms": {"JWT_DECODE_ALGORITHMS": ["HS256", "HS384"]},
}
# Both refuse these with the same status, and name another one of their faults or another wording.
OTHER_WORDS = {"header no JSON", "dots", "four parts"}
FAULTS = {"not yet", "issued in the future", "sub number", "sub object", "jti number", "exp text", "nbf text"}
FAULTS |= {"iat text", "without sub"}


def seen(app: Any, path: str, **request: Any) -> tuple[int, list[tuple[str, str]], Any]:
    response = app.test_client(use_cookies=False).open(path, **request)
    headers = sorted(
        # Werkzeug says beside Max-Age what time that is; a second may pass between two answers.
        (name, re.sub(r"Expires=[^;]*; (Max-Age)", r"\1", value))
        for name, value in response.headers
        if name != "Content-Length"
    )
    return (
        response.status_code,
        headers,
        (response.is_json and response.get_json(silent=True)) or response.get_data(as_text=True),
    )


def request_with(token: str, where: str, config: dict[str, Any], *, refresh: bool) -> dict[str, Any]:
    if where == "headers":
        name, scheme = config.get("JWT_HEADER_NAME", "Authorization"), config.get("JWT_HEADER_TYPE", "Bearer")
        return {"headers": {name: f"{scheme} {token}".strip()}}
    if where == "cookies":
        name = (
            "refresh_token_cookie" if refresh else config.get("JWT_ACCESS_COOKIE_NAME", "access_token_cookie")
        )
        return {"headers": {"Cookie": f"{name}={token}", "X-CSRF-TOKEN": "c1"}}
    if where == "query_string":
        prefix = config.get("JWT_QUERY_STRING_VALUE_PREFIX", "")
        return {"query_string": {config.get("JWT_QUERY_STRING_NAME", "jwt"): prefix + token}}
    return {"json": {config.get("JWT_JSON_KEY", "access_token"): token, "refresh_token": token}}


@pytest.mark.parametrize("loaders", [False, True], ids=["our answers", "loaders"])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_token_gets_the_same_answer(name, loaders, is_long):
    config = CONFIGS[name]
    theirs, ours = twins(config, loaders=loaders)
    views = DEMANDS if name in ("defaults", "everywhere") else ("me", "optional", "refresh")
    places = config.get("JWT_TOKEN_LOCATION", ["headers"])
    asked = 0
    asks = itertools.product(tokens().items(), views, places)
    # All of them take minutes. Each kind of token meets each view and each place anyway, here or there.
    step = 1 if is_long or len(views) * len(places) < 6 else 7
    for (what, token), view, where in itertools.islice(asks, int(loaders), None, step):
        if what == "aud number":
            continue  # see below
        request = request_with(token, where, config, refresh=view == "refresh")
        for method in ("GET", "POST") if where == "cookies" else ("GET",):
            expected = seen(theirs, f"/{view}", method=method, **request)
            found = seen(ours, f"/{view}", method=method, **request)
            asked += 1
            if what in OTHER_WORDS or (name == "audience and issuer" and what in FAULTS):
                assert found[:2] == expected[:2], (what, view, where, method)
            else:
                assert found == expected, (what, view, where, method)
    assert asked >= 40


HEADERS = ["", "Bearer", "Bearer ", "Bearer  {}", "bearer {}", "Basic {}", "{}", "Bearer {} {}", "Bearer {},"]
HEADERS += ["Basic x, Bearer {}", "Bearer {}, Basic x", "Bearer {}, Bearer {}", ", Bearer {}", "Bearer,{}"]
HEADERS += ["Bearer\t{}", "BearerX {}", "Bearer {} ,", "Basic x,Bearer {}"]


@pytest.mark.parametrize("view", ["me", "optional", "everywhere"])
def test_header_forms(view):
    theirs, ours = twins({})
    good = tokens()["access"]
    for form in HEADERS:
        headers = {"Authorization": form.replace("{}", good)}
        assert seen(ours, f"/{view}", headers=headers) == seen(theirs, f"/{view}", headers=headers), form


BODIES = [
    {},
    {"data": b""},
    {"data": b"", "content_type": "application/json"},
    {"data": b"{", "content_type": "application/json"},
    {"data": b"null", "content_type": "application/json"},
    {"data": b"{}", "content_type": "application/json"},
    {"data": b'{"access_token": ""}', "content_type": "application/json"},
    {"data": b'{"access_token": null}', "content_type": "application/json"},
    {"data": b'{"access_token": "TOKEN"}', "content_type": "application/json"},
    {"data": b'{"access_token": "TOKEN"}', "content_type": "application/x+json"},
    {"data": b'{"access_token": "TOKEN"}', "content_type": "text/plain"},
    {"data": b'{"access_token": "TOKEN"}', "content_type": "application/json; charset=utf-8"},
    {"data": b"access_token=TOKEN", "content_type": "application/x-www-form-urlencoded"},
    {"query_string": "jwt="},
    {"query_string": "jwt=TOKEN&jwt=other"},
    {"query_string": "jwt=other&jwt=TOKEN"},
    {"query_string": "jwt=&jwt=TOKEN"},
    {"headers": {"Cookie": "access_token_cookie="}},
    {"headers": {"Cookie": "access_token_cookie=TOKEN", "Authorization": "Bearer other"}},
    {"headers": {"Cookie": "access_token_cookie=other", "Authorization": "Bearer TOKEN"}},
    {"headers": {"Cookie": "access_token_cookie=TOKEN"}},
    {"headers": {"Cookie": "access_token_cookie=other"}},
    {"headers": {"Cookie": "access_token_cookie=TOKEN", "X-CSRF-TOKEN": ""}},
    {"headers": {"Cookie": "access_token_cookie=TOKEN", "X-CSRF-TOKEN": "c2"}},
    {"headers": {"Cookie": "access_token_cookie=TOKEN; csrf_access_token=c1"}},
    {"headers": {"Cookie": "access_token_cookie=TOKEN"}, "data": {"csrf_token": "c1"}},
    {"headers": {"Cookie": "access_token_cookie=TOKEN"}, "data": {"csrf_token": "c2"}},
    {
        "headers": {
            "Cookie": "access_token_cookie=TOKEN",
            "Origin": "https://evil.example",
            "X-CSRF-TOKEN": "c1",
        }
    },
]


@pytest.mark.parametrize("form", [False, True], ids=["CSRF in headers", "or a form"])
def test_bodies_cookies_and_csrf_values(form):
    theirs, ours = twins({**CONFIGS["everywhere"], "JWT_CSRF_CHECK_FORM": form})
    made = tokens()
    for name, body, view in itertools.product(
        ("access", "expired", "refresh", "without csrf"),
        BODIES,
        ("me", "optional", "everywhere", "body_first"),
    ):
        request = _filled(body, made[name])
        for method in ("GET", "POST", "OPTIONS", "HEAD"):
            expected, found = (seen(app, f"/{view}", method=method, **request) for app in (theirs, ours))
            if name == "expired" and "c2" in str(body):
                # Theirs goes on to the CSRF value of an expired token, ours says that it has expired.
                assert found[:2] == expected[:2]
            else:
                assert found == expected, (name, body, view, method)


def _filled(value: Any, token: str) -> Any:
    if isinstance(value, dict):
        return {name: _filled(item, token) for name, item in value.items()}
    return value.replace(
        b"TOKEN" if isinstance(value, bytes) else "TOKEN",
        token.encode() if isinstance(value, bytes) else token,
    )


COOKIES = {
    "defaults": {},
    "strict": {"JWT_COOKIE_SECURE": True, "JWT_COOKIE_SAMESITE": "Strict", "JWT_SESSION_COOKIE": False},
    "domain": {"JWT_COOKIE_DOMAIN": ".example.com", "JWT_COOKIE_SAMESITE": "None", "JWT_COOKIE_SECURE": True},
    "paths": {
        "JWT_ACCESS_COOKIE_PATH": "/a",
        "JWT_REFRESH_COOKIE_PATH": "/r",
        "JWT_ACCESS_CSRF_COOKIE_PATH": "/ac",
        "JWT_REFRESH_CSRF_COOKIE_PATH": "/rc",
        "JWT_ACCESS_CSRF_COOKIE_NAME": "x",
        "JWT_REFRESH_COOKIE_NAME": "y",
    },
    "no CSRF": {"JWT_COOKIE_CSRF_PROTECT": False},
    "CSRF elsewhere": {"JWT_CSRF_IN_COOKIES": False},
}


@pytest.mark.parametrize("name", COOKIES)
def test_cookies_attribute_by_attribute(name):
    theirs, ours = twins(COOKIES[name])
    made = tokens()
    for options in ({}, {"max_age": 60}, {"max_age": 0}, {"domain": "other.example"}):
        request = {"access": made["access"], "refresh": made["refresh"], "options": options}
        expected, found = (seen(app, "/cookies", method="POST", json=request) for app in (theirs, ours))
        assert found == expected
        assert [name for name, _ in found[1]].count("Set-Cookie") >= 2
    for which in ("unset_jwt_cookies", "unset_access_cookies", "unset_refresh_cookies"):
        for options in ({}, {"domain": "other.example"}):
            request = {"which": which, "options": options}
            expected, found = (seen(app, "/cookies", method="DELETE", json=request) for app in (theirs, ours))
            assert found == expected
            assert "Set-Cookie" in dict(found[1])


ORDERS: list[dict[str, Any]] = [
    {},
    {"fresh": True},
    {"hours": 5},
    {"hours": 0},
    {"hours": False},
    {"hours": -1},
    {"refresh": True},
    {"refresh": True, "hours": 5},
    {"additional_claims": {"a": {"b": [1]}, "roles": []}},
    {
        "additional_claims": {
            "type": "reset",
            "jti": "mine",
            "sub": "bob",
            "fresh": True,
            "csrf": "c",
            "exp": 9**9,
        }
    },
    {"additional_headers": {"kid": "k", "h": "over"}},
]


@pytest.mark.parametrize("loaders", [False, True])
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"JWT_ENCODE_AUDIENCE": ["a", "b"], "JWT_ENCODE_ISSUER": "us", "JWT_ENCODE_NBF": False},
        {"JWT_ACCESS_TOKEN_EXPIRES": 0, "JWT_REFRESH_TOKEN_EXPIRES": 60, "JWT_COOKIE_CSRF_PROTECT": False},
        {"JWT_ACCESS_TOKEN_EXPIRES": False, "JWT_IDENTITY_CLAIM": "who", "JWT_ALGORITHM": "HS512"},
    ],
)
def test_new_tokens_say_the_same(config, loaders):
    theirs, ours = twins(config, loaders=loaders)
    for order in ORDERS:
        both = []
        for app in (theirs, ours):
            status, _, body = seen(app, "/tokens", method="POST", json={"identity": "alice", **order})
            assert status == 200, order
            both.append(_described(body["token"]))
        assert both[0] == both[1], order


def _described(token: str) -> Any:
    claims = pyjwt.decode(token, options={"verify_signature": False})
    header = pyjwt.get_unverified_header(token)
    claims.pop("gen", None)  # the one that only ours carry; FJE ignores it
    start = claims.pop("iat")
    for name in ("nbf", "exp"):
        if name in claims and claims[name] is not None and claims[name] != 9**9:
            claims[name] -= start
    for name in ("jti", "csrf"):
        if name in claims and len(claims[name]) == 36:
            claims[name] = "a UUID"
    return header, claims


KEYS = {
    "HS256": {},
    "RS256": {
        "JWT_ALGORITHM": "RS256",
        "JWT_PRIVATE_KEY": PRIVATE_PEMS["RS256"],
        "JWT_PUBLIC_KEY": PUBLIC_PEMS["RS256"],
    },
}


@pytest.mark.parametrize("algorithm", KEYS)
def test_tokens_and_cookies_of_either_are_accepted_by_the_other(algorithm):
    apps = twins({**KEYS[algorithm], **CONFIGS["everywhere"]}, loaders=True)
    for issuer, verifier in itertools.permutations(apps):
        made = {}
        for kind in ("access", "refresh"):
            order = (
                {"identity": "alice", "fresh": True}
                if kind == "access"
                else {"identity": "alice", "refresh": True}
            )
            made[kind] = seen(issuer, "/tokens", method="POST", json=order)[2]["token"]
        for view, kind in (
            ("me", "access"),
            ("fresh", "access"),
            ("refresh", "refresh"),
            ("either", "refresh"),
        ):
            bearer = {"Authorization": f"Bearer {made[kind]}"}
            status, _, body = seen(verifier, f"/{view}", headers=bearer)
            assert (status, body["identity"], body["user"]) == (200, "alice", True)
        client = verifier.test_client(use_cookies=False)
        set_cookies = seen(issuer, "/cookies", method="POST", json={**made, "options": {}})[1]
        jar = dict(
            value.partition(";")[0].split("=", 1) for name, value in set_cookies if name == "Set-Cookie"
        )
        assert len(jar) == 4
        cookies = {"Cookie": "; ".join(f"{name}={value}" for name, value in jar.items())}
        for view, csrf in (("cookie", "csrf_access_token"), ("refresh", "csrf_refresh_token")):
            assert client.post(f"/{view}", headers={**cookies, "X-CSRF-TOKEN": jar[csrf]}).status_code == 200
            refused = client.post(f"/{view}", headers={**cookies, "X-CSRF-TOKEN": "no"})
            assert refused.json["loader"] == "unauthorized"
        blocked = verifier.test_client().post("/block", headers={"Authorization": f"Bearer {made['access']}"})
        assert blocked.status_code == 200
        status, _, body = seen(verifier, "/me", headers={"Authorization": f"Bearer {made['access']}"})
        assert (status, body["loader"]) == (460, "revoked_token")


def test_tokens_decoded_by_hand():
    theirs, ours = twins({})
    for what, token in tokens().items():
        for options in ({}, {"allow_expired": True}, {"csrf_value": "c1"}, {"csrf_value": "c2"}):
            request = {"encoded_token": token, **options}
            expected, found = (seen(app, "/decode", method="POST", json=request) for app in (theirs, ours))
            if what in OTHER_WORDS:
                assert found[0] == expected[0] == 418
            elif what.startswith("expired") and options.get("csrf_value") == "c2":
                assert found[0] == expected[0] == 401
            elif (
                what in ("without sub", "without csrf") and found[0] != expected[0]
            ):  # not one of PyJWT's there, and nobody has caught it
                assert (found[0], expected[0]) == (418, 422)
            elif what == "aud number":
                assert (found[0], found[2]) == (418, {"caught": "Invalid claim format in token"})
            else:
                assert found == expected, (what, options)


def test_an_audience_that_is_none_is_refused():
    """RFC 7519 §4.1.3: text, or a list of texts. The original looks only where it was told to."""
    theirs, ours = twins({})
    bearer = {"Authorization": f"Bearer {tokens()['aud number']}"}
    assert (seen(theirs, "/me", headers=bearer)[0], seen(ours, "/me", headers=bearer)[0]) == (200, 422)


def test_templates_know_the_user():
    theirs, ours = twins({}, loaders=True)
    bearer = {"Authorization": f"Bearer {tokens()['access']}"}
    assert seen(ours, "/page", headers=bearer) == seen(theirs, "/page", headers=bearer)
    assert seen(ours, "/page", headers=bearer)[2] == "Alice"


def hostile() -> dict[str, dict[str, Any]]:
    """What the original answers with a 500."""
    made = tokens()
    cookie = {"Cookie": f"access_token_cookie={made['access']}"}
    claims = pyjwt.decode(made["access"], SECRET, ["HS256"])
    fresh_text = pyjwt.encode({**claims, "fresh": "yes"}, SECRET, "HS256")
    no_csrf = pyjwt.encode({**claims, "csrf": None}, SECRET, "HS256")
    other_csrf = pyjwt.encode({**claims, "csrf": 7}, SECRET, "HS256")
    return {
        "a CSRF value that is not ASCII": {"method": "POST", "headers": {**cookie, "X-CSRF-TOKEN": "\xe9"}},
        "a JSON array": {"json": ["access_token"]},
        "a JSON text": {"json": "access_token"},
        "a csrf claim that is null": {
            "method": "POST",
            "headers": {"Cookie": f"access_token_cookie={no_csrf}", "X-CSRF-TOKEN": "c1"},
        },
        "a csrf claim that is a number": {
            "method": "POST",
            "headers": {"Cookie": f"access_token_cookie={other_csrf}", "X-CSRF-TOKEN": "c1"},
        },
        "a fresh claim that is text": {
            "path": "/fresh",
            "headers": {"Authorization": f"Bearer {fresh_text}"},
        },
    }


@pytest.mark.parametrize("what", hostile())
def test_where_the_original_fails_we_refuse(what):
    theirs, ours = twins(CONFIGS["everywhere"])
    request = hostile()[what]
    path = request.pop("path", "/everywhere")
    assert seen(theirs, path, **request)[0] == 500
    status, _, body = seen(ours, path, **request)
    assert status in (401, 422)
    assert set(body) == {"msg"}


def test_settings_can_be_read_from_the_configuration():
    theirs, ours = twins({})
    for name, value in theirs.config.items():
        if name.startswith("JWT_") and value is not None:
            there = list(value) if isinstance(value, (list, tuple)) else value
            here = ours.config[name]
            assert (list(here) if isinstance(here, (list, tuple)) else here) == there, name
    json.dumps({name: str(value) for name, value in ours.config.items()})


def test_documented_recipes():
    """A custom decorator, implicit renewal, optional users, several checks, errors of one's own."""
    theirs = recipes(flask_jwt_extended, {})
    ours = recipes(flask_sync, {"JWT_COMPAT": "flask-jwt-extended"})
    made = tokens()
    claims = pyjwt.decode(made["access"], SECRET, ["HS256"])
    made["admin"] = pyjwt.encode({**claims, "admin": True}, SECRET, "HS256")
    made["near its end"] = pyjwt.encode({**claims, "exp": claims["iat"] + 300}, SECRET, "HS256")
    renewed = 0
    for what, path in itertools.product(made, ("/whoami", "/admin", "/tries")):
        if what in OTHER_WORDS | {"aud number"}:
            continue
        headers = {"Authorization": f"Bearer {made[what]}"}
        expected, found = (seen(app, path, headers=headers) for app in (theirs, ours))
        renewed += "X-Renewed" in dict(found[1])
        assert _without_tokens(found) == _without_tokens(expected), (what, path)
    assert renewed == 3
    for name in (
        "NoAuthorizationError",
        "CSRFError",
        "InvalidHeaderError",
        "WrongTokenError",
        "JWTDecodeError",
    ):
        assert seen(ours, f"/raise/{name}") == seen(theirs, f"/raise/{name}"), name


def _without_tokens(found: Any) -> Any:
    status, headers, body = found
    return (
        status,
        sorted(re.sub(r"(Set-Cookie.*?)=[^;]*", r"\1", f"{name}: {value}") for name, value in headers),
        body,
    )


def test_unset_settings_count_as_false():
    """As `os.environ.get()` leaves them; and a lifetime of zero is none."""
    unset = {"JWT_COOKIE_SECURE": None, "JWT_COOKIE_CSRF_PROTECT": 0, "JWT_SESSION_COOKIE": 1}
    theirs, ours = twins({**unset, "JWT_ACCESS_TOKEN_EXPIRES": relativedelta()})
    request = {"access": tokens()["access"], "refresh": tokens()["refresh"], "options": {}}
    expected, found = (seen(app, "/cookies", method="POST", json=request) for app in (theirs, ours))
    assert found == expected
    token = seen(ours, "/tokens", method="POST", json={"identity": "alice"})[2]["token"]
    assert "exp" not in _described(token)[1]
    with pytest.raises(ConfigurationError, match="JWT_COOKIE_SECURE must be True or False"):
        twins({"JWT_COOKIE_SECURE": "false"})
    with pytest.raises(ConfigurationError, match="JWT_ACCESS_TOKEN_EXPIRES"):
        twins({"JWT_ACCESS_TOKEN_EXPIRES": ""})
