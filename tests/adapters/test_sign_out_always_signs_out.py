"""`sign_out`: whichever token came, in whichever state, its session ends and its cookies go."""

from __future__ import annotations

import jwt as pyjwt
import pytest

from async_jwt.errors import StoreUnavailableError
from async_jwt.keys import Key, KeyRing
from async_jwt.signals import token_revoked
from async_jwt.stores import MemoryStore
from async_jwt.testing import outage
from tests.harness.applications import however_it_runs, in_memory

pytestmark = [pytest.mark.asyncio, however_it_runs]

COOKIES = {"JWT_TOKEN_LOCATION": ["cookies", "headers"]}
NAMES = {"access_token_cookie", "refresh_token_cookie", "csrf_access_token", "csrf_refresh_token"}
FORM = "application/x-www-form-urlencoded"
OWN = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}


def signing_out(app):
    """Views that sign out: here, everywhere, and without a response."""
    api = app.api

    async def out(everywhere=False):
        response = app.app.response_class("{}", content_type="application/json")
        response.headers["X-Ended"] = str(await api.sign_out(response, everywhere=everywhere))
        return response

    async def all_out():
        return await out(everywhere=True)

    async def quietly():
        return {"ended": await api.sign_out()}

    for path, view in {"/out": out, "/out/everywhere": all_out, "/quietly": quietly}.items():
        app.view(path, app.colour(view), methods=["GET", "POST", "PUT"])

    @api.jwt_required(refresh=True)
    async def rotate():
        pair = await api.rotate_refresh_token()
        return {"access": pair.access_token, "refresh": pair.refresh_token}

    app.view("/rotate", rotate, methods=["POST"])
    return app


@pytest.fixture
def app(make_app):
    config = {**COOKIES, "JWT_COOKIE_SECURE": False, "JWT_REFRESH_GRACE": 10}
    return signing_out(make_app(config))


async def pair_of(app, identity="alice", **options):
    return await app.jwt.create_token_pair(identity, **options)


def cookies_of(pair, *kinds):
    both = {"access_token_cookie": pair.access_token, "refresh_token_cookie": pair.refresh_token}
    return {name: both[name] for name in (f"{kind}_token_cookie" for kind in kinds or ("access", "refresh"))}


async def lives(app, pair):
    """Whether a session can still be used, by either of its tokens."""
    return [
        (await app.call(token=pair.access_token)).status == 200,
        (await app.call("/refresh", token=pair.refresh_token)).status == 200,
    ]


async def out(app, path="/out", method="POST", **sent):
    headers = {**OWN, **sent.pop("headers", {})}
    answer = await app.call(path, method=method, headers=headers, **sent)
    return answer, answer.headers.get("X-Ended")


SENT = {
    "access cookie": lambda pair: {"cookies": cookies_of(pair, "access")},
    "refresh cookie": lambda pair: {"cookies": cookies_of(pair, "refresh")},
    "both cookies": lambda pair: {"cookies": cookies_of(pair)},
    "access header": lambda pair: {"token": pair.access_token},
    "refresh header": lambda pair: {"token": pair.refresh_token},
    "JSON": lambda pair: {"json": {"access_token": pair.access_token}},
    "refresh in JSON": lambda pair: {"json": {"refresh_token": pair.refresh_token}},
    "form": lambda pair: {"form": {"access_token": pair.access_token}},
    "refresh in a form": lambda pair: {"form": {"refresh_token": pair.refresh_token}},
}


@pytest.mark.parametrize("sent", SENT)
async def test_wherever_the_token_came(app, sent):
    told = []
    token_revoked.connect(lambda _, **more: told.append((more["scope"], more["sid"])), app.app, weak=False)
    pair, other = await pair_of(app), await pair_of(app)
    answer, ended = await out(app, **SENT[sent](pair))
    assert (answer.status, ended, set(answer.cookies)) == (200, "True", NAMES)
    assert all("Expires=Thu, 01 Jan 1970" in line for line in answer.cookies.values())
    assert told == [("session", pair.sid)]
    assert await lives(app, pair) == [False, False]
    assert await lives(app, other) == [True, True]
    answer, ended = await out(app, **SENT[sent](pair))
    assert (answer.status, ended, set(answer.cookies)) == (200, "False", NAMES)
    assert len(told) == 1


async def test_without_a_token_the_cookies_go(app):
    for cookies in ({}, {"access_token_cookie": "junk"}, {"access_token_cookie": f"{'x' * 20_000}"}):
        answer, ended = await out(app, cookies=cookies)
        assert (answer.status, ended, set(answer.cookies)) == (200, "False", NAMES)


@pytest.mark.parametrize("kind", ["access", "refresh"])
async def test_an_expired_token_still_names_its_session(make_app, clock, kind):
    """As of a browser that comes back next week: the access token is long over."""
    app = signing_out(make_app(COOKIES, clock=clock))
    pair = await pair_of(app, access_expires_delta=1, refresh_expires_delta=1 if kind == "refresh" else None)
    clock.now += 2
    assert (await app.call(token=pair.access_token)).code == "token_expired"
    _, ended = await out(app, cookies=cookies_of(pair, kind))
    assert ended == str(kind == "access")  # the other session is over
    assert await lives(app, pair) == [False, False]


async def test_an_access_token_that_ended_alone_still_names_its_session(app):
    revoked, stale = await pair_of(app), await pair_of(app, "bob")
    await app.jwt.revoke_token(revoked.access_token)
    await app.jwt.expire_access_tokens("bob")
    for pair in (revoked, stale):
        for path in ("/out", "/out/everywhere"):
            assert (await out(app, path, token=pair.access_token))[1] == str(path == "/out")
        assert await lives(app, pair) == [False, False]


async def test_tokens_without_a_session(app):
    access, refresh = await app.mint(), await app.mint_refresh()
    assert (await out(app, token=access))[1] == "True"
    assert (await app.call(token=access)).status == 401
    joined = (await app.call("/rotate", method="POST", token=refresh)).json
    assert (await out(app, token=refresh))[1] == "True"
    for token, path in ((joined["access"], "/me"), (joined["refresh"], "/refresh"), (refresh, "/refresh")):
        assert (await app.call(path, token=token)).status == 401


async def test_a_replaced_refresh_token_ends_the_session_and_is_no_replay(app):
    pair = await pair_of(app)
    new = (await app.call("/rotate", method="POST", token=pair.refresh_token)).json
    newest = (await app.call("/rotate", method="POST", token=new["refresh"])).json
    assert (await out(app, cookies=cookies_of(pair, "refresh")))[1] == "True"
    assert (await app.call("/refresh", token=newest["refresh"])).status == 401
    assert (await app.call(token=newest["access"])).status == 401


async def test_two_sessions_in_one_request_both_end(app):
    one, two, three = [await pair_of(app, name) for name in ("alice", "alice", "bob")]
    cookies = {"access_token_cookie": one.access_token, "refresh_token_cookie": two.refresh_token}
    _, ended = await out(app, cookies=cookies, token=three.access_token)
    assert ended == "True"
    for pair in (one, two, three):
        assert await lives(app, pair) == [False, False]


async def test_everywhere_needs_a_token_that_counts(app):
    mine, elsewhere, bobs = await pair_of(app), await pair_of(app), await pair_of(app, "bob")
    _, ended = await out(app, "/out/everywhere", cookies=cookies_of(mine))
    assert ended == "True"
    for pair in (mine, elsewhere):
        assert await lives(app, pair) == [False, False]
    assert await lives(app, bobs) == [True, True]


@pytest.mark.parametrize("access", ["expired", "stale", "missing"])
async def test_everywhere_by_a_refresh_token_beside_a_dead_access_token(make_app, clock, access):
    app = signing_out(make_app(COOKIES, clock=clock))
    mine, elsewhere = await pair_of(app), await pair_of(app)
    if access == "expired":
        clock.now += 1000
    elif access == "stale":
        await app.jwt.expire_access_tokens("alice")
    sent = cookies_of(mine, *(("refresh",) if access == "missing" else ()))
    assert (await out(app, "/out/everywhere", cookies=sent))[1] == "True"
    for pair in (mine, elsewhere):
        assert await lives(app, pair) == [False, False]


@pytest.mark.parametrize("problem", [OSError, ValueError])
async def test_everywhere_where_a_hook_fails_ends_this_session_and_says_so(app, problem):
    fails = True

    @app.jwt.user_lookup_loader
    async def load(header, data):
        if fails:
            raise problem("no database")
        return data["sub"]

    mine, elsewhere = await pair_of(app), await pair_of(app)
    answer, _ = await out(app, "/out/everywhere", cookies=cookies_of(mine))
    assert (answer.status, set(answer.cookies)) == (500, NAMES)
    fails = False
    assert await lives(app, mine) == [False, False]
    assert await lives(app, elsewhere) == [True, True]


async def test_cookies_that_one_view_alone_reads_count_too(make_app):
    app = signing_out(make_app({"JWT_COOKIE_SECURE": False}))
    pair = await pair_of(app)
    answer = await app.call(
        "/out", method="POST", cookies=cookies_of(pair), headers={"Origin": "https://evil.example"}
    )
    assert (answer.status, answer.cookies) == (401, {})
    assert (await out(app, cookies=cookies_of(pair)))[1] == "True"
    assert await lives(app, pair) == [False, False]


async def test_a_token_of_another_issuer_whose_user_was_revoked_before(make_app, clock):
    """It goes by its `iat`; a claim of its own that is named like our stamp says nothing."""
    secrets = {kid: kid * 20 for kid in ("own", "idp")}
    keys = KeyRing(
        [
            Key(secrets["own"] * 2, "HS256", kid="own"),
            Key(secrets["idp"] * 2, "HS256", kid="idp", issuer="https://idp"),
        ]
    )
    app = signing_out(make_app(COOKIES, keys=keys, clock=clock))
    await app.jwt.revoke_user("alice")
    clock.now += 60
    now = int(clock.now)
    claims = {"iss": "https://idp", "sub": "alice", "type": "access", "iat": now, "exp": now + 900}
    token = pyjwt.encode(
        {**claims, "jti": "one", "gen": "theirs"}, secrets["idp"] * 2, "HS256", headers={"kid": "idp"}
    )
    assert (await app.call(token=token)).status == 200
    assert (await out(app, token=token))[1] == "True"
    assert (await app.call(token=token)).code == "token_revoked"


async def test_everywhere_with_less_ends_this_session_alone(app):
    """A copied token that is out of date must not sign its owner out of all devices."""
    rejected = set()

    @app.jwt.token_verification_loader
    async def verify(header, data):
        return data["jti"] not in rejected

    elsewhere = await pair_of(app)
    replaced = await pair_of(app)
    replaced_by = (await app.call("/rotate", method="POST", token=replaced.refresh_token)).json
    newest = (await app.call("/rotate", method="POST", token=replaced_by["refresh"])).json
    _, ended = await out(app, "/out/everywhere", cookies=cookies_of(replaced, "refresh"))
    assert ended == "True"
    assert (await app.call(token=newest["access"])).status == 401
    odd = await pair_of(app)
    rejected.add((await app.jwt.decode_token(odd.access_token))["jti"])
    _, ended = await out(app, "/out/everywhere", token=odd.access_token)
    assert ended == "True"
    assert (await app.call("/refresh", token=odd.refresh_token)).status == 401
    assert await lives(app, elsewhere) == [True, True]


async def test_a_purpose_token_ends_nothing(app):
    reset = await app.jwt.create_token("alice", type="reset")
    assert (await out(app, token=reset))[1] == "False"
    assert (await app.call("/reset", token=reset)).status == 200


FOREIGN = [
    ("POST", {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}),
    ("POST", {"Origin": "null", "Sec-Fetch-Site": "cross-site"}),
    ("PUT", {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-site"}),
    ("GET", {"Origin": "", "Sec-Fetch-Site": "cross-site"}),
    ("GET", {"Origin": "", "Sec-Fetch-Site": "none"}),
    ("GET", {"Origin": "", "Sec-Fetch-Site": ""}),
    ("GET", {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"}),
]


@in_memory
@pytest.mark.parametrize(("method", "headers"), FOREIGN)
async def test_another_site_signs_nobody_out(app, method, headers):
    pair = await pair_of(app)
    given = {name: value for name, value in headers.items() if value}
    for cookies in (cookies_of(pair), {}):  # SameSite may have kept them back; a deletion would count
        answer = await app.call("/out", method=method, cookies=cookies, headers=given)
        assert (answer.status, answer.code, answer.cookies) == (401, "csrf_failed", {})
    assert await lives(app, pair) == [True, True]


@in_memory
@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {"Sec-Fetch-Site": "same-origin"}),
        ("GET", {"Origin": "http://localhost"}),
        ("POST", {"Origin": "http://localhost"}),
        ("POST", {}),  # no browser
    ],
)
async def test_the_own_site_does(app, method, headers):
    pair = await pair_of(app)
    answer = await app.call("/out", method=method, cookies=cookies_of(pair), headers=headers)
    assert (answer.status, answer.headers["X-Ended"]) == (200, "True")


async def test_a_token_in_a_header_is_no_cookie(app):
    """An application for phones sends no Origin, and a link of another site no header."""
    pair = await pair_of(app)
    answer = await app.call("/out", token=pair.access_token)
    assert (answer.status, answer.headers["X-Ended"]) == (200, "True")


async def test_a_body_counts_in_a_post_alone(app):
    pair = await pair_of(app)
    for method in ("GET", "PUT"):
        answer = await app.call("/out", method=method, headers=OWN, json={"access_token": pair.access_token})
        assert answer.headers["X-Ended"] == "False"


@in_memory
@pytest.mark.parametrize(
    "sent",
    [
        {"data": b"{", "headers": {"Content-Type": "application/json"}},
        {"json": {"access_token": 7}},
        {"json": {"access_token": {"a": 1}}},
        {"json": ["access_token"]},
        {"data": b"\xff\xfe", "headers": {"Content-Type": FORM}},
        {"headers": {"Authorization": "Bearer a b"}},
        {"headers": {"Authorization": "Bearer null"}},
        {
            "data": b"access_token=" + b"x" * 70_000,
            "headers": {"Content-Type": FORM},
        },
    ],
)
async def test_what_is_no_token_ends_nothing_and_breaks_nothing(app, sent):
    answer, ended = await out(app, **sent)
    assert (answer.status, ended, set(answer.cookies)) == (200, "False", NAMES)


async def test_no_more_tokens_are_verified_than_a_client_has(app):
    """A request with a hundred cookies costs no hundred signatures."""
    pair = await pair_of(app)
    many = "; ".join(f"access_token_cookie=x{number}" for number in range(100))
    many += f"; access_token_cookie={pair.access_token}"
    _, ended = await out(app, headers={"Cookie": many})
    assert ended == "False"


async def test_without_a_response(app):
    pair = await pair_of(app)
    answer = await app.call("/quietly", method="POST", token=pair.access_token)
    assert (answer.json, answer.cookies) == ({"ended": True}, {})


async def test_an_outage_takes_the_cookies_away_and_says_so(app):
    pair = await pair_of(app)
    for path in ("/out", "/out/everywhere"):
        with outage(app.app):
            answer, _ = await out(app, path, cookies=cookies_of(pair))
        assert (answer.status, answer.code, set(answer.cookies)) == (503, "store_unavailable", NAMES)
    assert await lives(app, pair) == [True, True]


class FailsHalfway(MemoryStore):
    """Ends one session, then meets an outage."""

    async def revoke_session(self, sid, ends_at=None):
        if self._revoked:
            raise StoreUnavailableError("gone")
        await super().revoke_session(sid, ends_at)


async def test_what_ended_before_an_outage_has_ended_for_this_request_too(make_app):
    app = make_app({**COOKIES, "JWT_COOKIE_CSRF_PROTECT": False}, store=FailsHalfway())

    @app.api.jwt_required()
    async def half():
        with pytest.raises(StoreUnavailableError):
            await app.api.sign_out()
        await app.api.verify_jwt_in_request()
        return {}

    app.view("/half", half, methods=["POST"])
    mine, other = await pair_of(app), await pair_of(app)
    cookies = {"access_token_cookie": mine.access_token, "refresh_token_cookie": other.refresh_token}
    assert (await app.call("/half", method="POST", cookies=cookies)).code == "token_revoked"
    assert await lives(app, mine) == [False, False]
    assert await lives(app, other) == [True, True]


async def test_a_request_that_was_checked_goes_on_as_after_revoke_session(make_app):
    """A banned user does not get new tokens by signing out; one who signs out and in again does."""
    store = MemoryStore()
    app = make_app(COOKIES, store=store)
    api = app.api

    @api.jwt_required()
    async def again():
        ended = await api.sign_out()
        return {"ended": ended, "token": (await api.create_token_pair("alice")).access_token}

    @api.jwt_required()
    async def banned():
        await store.revoke_user("alice")
        ended = await api.sign_out()
        return {"ended": ended, "token": (await api.create_token_pair("alice")).access_token}

    app.view("/again", again, methods=["POST"])
    app.view("/banned", banned, methods=["POST"])
    pair = await pair_of(app)
    answer = await app.call("/again", method="POST", token=pair.access_token)
    assert answer.json["ended"] is True
    assert (await app.call(token=answer.json["token"])).status == 200
    pair = await pair_of(app)
    assert (await app.call("/banned", method="POST", token=pair.access_token)).code == "token_revoked"


async def test_an_expired_token_whose_session_cannot_live_writes_nothing(make_app, clock):
    """Else anyone with a year's worth of old tokens could fill the store."""
    store = MemoryStore(clock=clock)
    app = signing_out(make_app(COOKIES, store=store, clock=clock))
    token, apart = await app.mint(), await app.mint_refresh()
    pair = await app.jwt.create_token_pair("alice")
    clock.now += 31 * 86400
    for text in (token, apart, pair.access_token, pair.refresh_token):
        assert (await out(app, token=text))[1] == "False"
    assert len(store._revoked) == 0


async def test_an_expired_access_token_of_a_refresh_token_that_was_never_rotated(make_app, clock):
    app = signing_out(make_app(COOKIES, store=MemoryStore(clock=clock), clock=clock))

    @app.api.jwt_required(refresh=True)
    async def access():
        return {"access": await app.api.create_access_token("alice")}

    app.view("/access", access, methods=["POST"])
    refresh = await app.mint_refresh()
    token = (await app.call("/access", method="POST", token=refresh)).json["access"]
    clock.now += 86400
    assert (await out(app, token=token))[1] == "True"
    assert (await app.call("/rotate", method="POST", token=refresh)).status == 401
    clock.now += 28 * 86400
    assert (await app.call("/rotate", method="POST", token=refresh)).status == 401


class KeepsNoSessions:
    def __init__(self, store):
        for name in ("stamp", "check", "revoke_token", "revoke_session", "revoke_user", "start", "close"):
            setattr(self, name, getattr(store, name))


async def test_a_store_that_keeps_no_sessions(make_app, clock):
    app = signing_out(make_app(COOKIES, store=KeepsNoSessions(MemoryStore(clock=clock)), clock=clock))
    pair = await app.jwt.create_token_pair("alice")
    kept = await app.jwt.create_token_pair("alice", refresh_expires_delta=400 * 86400)
    clock.now += 901
    assert (await out(app, token=pair.access_token))[1] == "True"
    assert (await app.call("/refresh", token=pair.refresh_token)).status == 401
    other, for_ever = [
        await app.jwt.create_token_pair("alice", refresh_expires_delta=delta) for delta in (None, False)
    ]
    clock.now += 31 * 86400
    for each, ended in ((other, "False"), (kept, "True"), (for_ever, "True")):
        assert (await out(app, token=each.access_token))[1] == ended


async def test_under_the_compat_preset_cookies_stay_in_an_outage_alone(make_app):
    app = signing_out(make_app({**COOKIES, "JWT_COMPAT": "flask-jwt-extended"}))
    pair = await pair_of(app)
    odd = await app.mint(additional_claims={"type": "device"})
    answer = await app.call("/out", token=odd)
    assert answer.headers["X-Ended"] == "True"
    answer = await app.call("/out", cookies=cookies_of(pair))
    assert (answer.headers["X-Ended"], set(answer.cookies)) == ("True", NAMES)
    assert await lives(app, pair) == [False, False]


async def test_a_hook_that_is_broken_is_the_servers_fault(app):
    @app.jwt.token_verification_loader
    async def verify(header, data):
        return "yes"

    pair = await pair_of(app)
    answer, _ = await out(app, "/out/everywhere", cookies=cookies_of(pair))
    assert (answer.status, set(answer.cookies)) == (500, NAMES)


async def test_outside_a_request(app):
    async with app.context():
        with pytest.raises(RuntimeError, match="inside a request"):
            await app.api.sign_out()
