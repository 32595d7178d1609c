"""Sessions: rotation, grace, replay, devices, sign-out. On each store alike."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
import uuid
from dataclasses import replace

import jwt
import pytest

from async_jwt.errors import (
    ConfigurationError,
    HookTimeoutError,
    InvalidPageError,
    SessionUnknownError,
    StoreUnavailableError,
    TokenReusedError,
)
from async_jwt.signals import token_issued, token_reused, token_revoked
from async_jwt.stores import MemoryStore, TokenRef
from async_jwt.stores.contract import bucket_of, new_sid
from tests.harness import SECRET
from tests.harness.applications import on_each_loop
from tests.harness.rotation import rotate, rotating

pytestmark = [pytest.mark.asyncio, on_each_loop]


async def claims(app, token):
    return await app.jwt.decode_token(token)


async def status(app, token, path="/me"):
    return (await app.call(path, token=token)).status


@pytest.fixture
def app(make_app):
    return rotating(make_app())


# -- rotation ----------------------------------------------------------------------------


async def test_each_refresh_token_leads_to_the_next(app):
    pair = await app.jwt.create_token_pair("alice", fresh=True)
    assert (await claims(app, pair.access_token))["fresh"] is True
    token, seen = pair.refresh_token, {pair.refresh_token}
    for _ in range(3):
        answer = await rotate(app, token)
        token = answer["refresh"]
        assert token not in seen
        seen.add(token)
        access = await claims(app, answer["access"])
        assert (access["sub"], access["sid"], access["fresh"]) == ("alice", pair.sid, False)
        assert (await claims(app, token))["sid"] == answer["sid"] == pair.sid
        assert await status(app, answer["access"]) == 200
    assert await status(app, pair.access_token) == 200


async def test_within_the_grace_all_get_the_same_successor(app):
    pair = await app.jwt.create_token_pair("alice")
    answers = [await rotate(app, pair.refresh_token) for _ in range(3)]
    assert len({answer["refresh"] for answer in answers}) == 1
    assert len({(await claims(app, answer["access"]))["jti"] for answer in answers}) == 3
    for answer in answers:
        assert await status(app, answer["access"]) == 200
    assert (await rotate(app, answers[2]["refresh"]))["sid"] == pair.sid


async def test_many_at_once_get_the_same_successor(app):
    pair = await app.jwt.create_token_pair("alice")
    answers = await asyncio.gather(*(rotate(app, pair.refresh_token) for _ in range(10)))
    assert len({answer["refresh"] for answer in answers}) == 1
    await rotate(app, answers[0]["refresh"])


async def test_without_grace_one_of_many_wins_and_the_session_ends(make_app):
    app = rotating(make_app({"JWT_REFRESH_GRACE": 0}))
    pair = await app.jwt.create_token_pair("alice")
    answers = await asyncio.gather(
        *(app.call("/rotate", method="POST", token=pair.refresh_token) for _ in range(10))
    )
    assert sorted(answer.status for answer in answers) == [200] + [401] * 9
    winner = next(answer.json for answer in answers if answer.status == 200)
    assert await status(app, winner["access"]) == 401
    await rotate(app, winner["refresh"], 401)


@pytest.mark.parametrize("grace", [dt.timedelta(seconds=0.2), 0.2])
async def test_a_replay_after_the_grace_ends_the_session(make_app, grace):
    app = rotating(make_app({"JWT_REFRESH_GRACE": grace}))
    reused, revoked = [], []
    token_reused.connect(lambda _, **sent: reused.append(sent), app.app, weak=False)
    token_revoked.connect(lambda _, **sent: revoked.append(sent), app.app, weak=False)
    pair = await app.jwt.create_token_pair("alice")
    new = await rotate(app, pair.refresh_token)
    assert (await rotate(app, pair.refresh_token))["refresh"] == new["refresh"]
    await asyncio.sleep(0.35)
    answer = await app.call("/rotate", method="POST", token=pair.refresh_token)
    assert (answer.status, answer.code, answer.json["msg"]) == (
        401,
        "token_reused",
        "Token has been used before",
    )
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    jti = (await claims(app, pair.refresh_token))["jti"]
    assert reused == [{"kind": "predecessor", "identity": "alice", "jti": jti, "sid": pair.sid}]
    assert revoked == [{"scope": "session", "identity": "alice", "jti": None, "sid": pair.sid}]
    for token, path in (
        (pair.access_token, "/me"),
        (new["access"], "/me"),
        (pair.refresh_token, "/refresh"),
        (new["refresh"], "/refresh"),
    ):
        assert await status(app, token, path) == 401


async def test_until_used(make_app):
    app = rotating(make_app({"JWT_REFRESH_GRACE": "until_used"}))
    pair = await app.jwt.create_token_pair("alice")
    new = await rotate(app, pair.refresh_token)
    for _ in range(2):
        assert (await rotate(app, pair.refresh_token))["refresh"] == new["refresh"]
    newer = await rotate(app, new["refresh"])
    assert (await rotate(app, new["refresh"]))["refresh"] == newer["refresh"]
    assert (await rotate(app, pair.refresh_token, 401))["code"] == "token_reused"
    await rotate(app, newer["refresh"], 401)


@pytest.mark.parametrize("path", ["/rotate", "/refresh"])
async def test_what_a_replay_was_is_told(app, path):
    """At any view that takes refresh tokens, whether it rotates them or not."""
    told = []
    token_reused.connect(lambda _, **sent: told.append(sent["kind"]), app.app, weak=False)
    pair = await app.jwt.create_token_pair("alice")
    second = (await rotate(app, pair.refresh_token))["refresh"]
    third = (await rotate(app, second))["refresh"]
    method = "POST" if path == "/rotate" else "GET"
    for token, code, kinds in (
        (pair.refresh_token, "token_reused", ["older"]),
        (pair.refresh_token, "token_reused", ["older", "revoked_session"]),
        (second, "token_revoked", ["older", "revoked_session"]),
        (third, "token_revoked", ["older", "revoked_session"]),
    ):
        answer = await app.call(path, method=method, token=token)
        assert (answer.status, answer.code, told) == (401, code, kinds)


async def test_a_replay_logs_no_token(app, caplog):
    pair = await app.jwt.create_token_pair("alice")
    for token in (pair.refresh_token, (await rotate(app, pair.refresh_token))["refresh"]):
        await rotate(app, token)
    caplog.set_level("DEBUG")
    await rotate(app, pair.refresh_token, 401)
    assert "used again (older)" in caplog.text
    assert pair.refresh_token.split(".")[1] not in caplog.text


@pytest.mark.parametrize("names", [["token_reuse"], ["revoked_token"], ["token_reuse", "revoked_token"]])
async def test_loaders_answer_a_replay(app, names):
    for name in names:

        async def answer(header, data, name=name):
            return {"by": name, "sub": data["sub"], "alg": header["alg"]}, 499

        getattr(app.jwt, f"{name}_loader")(answer)
    pair = await app.jwt.create_token_pair("alice")
    await rotate(app, (await rotate(app, pair.refresh_token))["refresh"])
    assert await rotate(app, pair.refresh_token, 499) == {"by": names[0], "sub": "alice", "alg": "HS256"}


async def test_a_session_that_the_store_does_not_know_is_refused(app):
    token = await app.mint_refresh(additional_claims={"sid": new_sid("alice")})
    assert await status(app, token, "/refresh") == 200
    expected = {"code": "session_unknown", "msg": "The session has ended"}
    assert await rotate(app, token, 401) == expected


async def test_views_may_catch_what_rotation_raises(app):
    @app.api.jwt_required(refresh=True, skip_revocation_check=True)
    async def careful():
        try:
            await app.api.rotate_refresh_token()
        except TokenReusedError as error:
            return {"kind": error.kind, "sub": error.jwt_data["sub"]}
        except SessionUnknownError:
            return {"kind": "unknown"}
        return {"kind": "none"}

    app.view("/careful", careful)
    pair = await app.jwt.create_token_pair("alice")
    new = await rotate(app, pair.refresh_token)
    await rotate(app, new["refresh"])
    told = []
    token_reused.connect(lambda _, **sent: told.append(sent["kind"]), app.app, weak=False)
    assert (await app.call("/careful", token=pair.refresh_token)).json == {"kind": "older", "sub": "alice"}
    assert told == ["older"]
    unknown = await app.mint_refresh(additional_claims={"sid": "of nobody"})
    assert (await app.call("/careful", token=unknown)).json == {"kind": "unknown"}


async def test_grace_revives_nothing_that_was_signed_out(app):
    pair = await app.jwt.create_token_pair("alice")
    new = await rotate(app, pair.refresh_token)
    await app.jwt.revoke_token(new["refresh"])
    assert (await rotate(app, pair.refresh_token, 401))["code"] == "token_revoked"
    for revoke in (
        lambda pair: app.jwt.revoke_session(pair.sid),
        lambda pair: app.jwt.revoke_user("alice"),
        lambda pair: app.jwt.revoke_everything(),
        lambda pair: app.jwt.revoke_token(pair.refresh_token),
    ):
        pair = await app.jwt.create_token_pair("alice")
        new = await rotate(app, pair.refresh_token)
        await revoke(pair)
        await rotate(app, pair.refresh_token, 401)


async def test_the_store_holds_no_token(app):
    pair = await app.jwt.create_token_pair("alice", device="phone")
    new = await rotate(app, pair.refresh_token)
    session = await app.jwt.store.get_session(pair.sid)
    ref = TokenRef("alice", session.refresh_jti, pair.sid, session.stamp, 0.0, None)
    seen = await app.jwt.store.load_session(ref)
    held = f"{session}{session.extras}{seen}{seen.successor}{seen.version}"
    for token in (pair.access_token, pair.refresh_token, new["access"], new["refresh"]):
        for part in token.split(".")[1:]:
            assert part not in held
    csrf = (await claims(app, new["refresh"]))["csrf"]
    assert csrf in seen.successor
    assert csrf not in f"{session!r} {seen!r} {pair!r}"


# -- tokens that were made without a session ---------------------------------------------


async def test_a_token_of_no_session_becomes_the_first_of_one(app):
    access, token = await app.mint(), await app.mint_refresh()
    told = []
    token_reused.connect(lambda _, **sent: told.append(sent), app.app, weak=False)
    new = await rotate(app, token)
    assert (await rotate(app, token))["refresh"] == new["refresh"]
    (session,) = (await app.jwt.list_sessions("alice")).sessions
    assert session.sid == new["sid"] == (await claims(app, new["access"]))["sid"]
    newer = await rotate(app, new["refresh"])
    assert (await rotate(app, token, 401))["code"] == "token_reused"
    assert (told[0]["kind"], told[0]["sid"]) == ("older", new["sid"])
    for dead in (new["access"], newer["access"]):
        assert await status(app, dead) == 401
    assert await status(app, newer["refresh"], "/refresh") == 401
    assert await status(app, access) == 200  # it belongs to no session


async def test_signing_its_session_out_takes_the_first_token_too(app):
    token = await app.mint_refresh()
    new = await rotate(app, token)
    assert await status(app, token, "/refresh") == 200
    assert await app.jwt.revoke_session(new["sid"]) is True
    assert await status(app, token, "/refresh") == 401
    await rotate(app, token, 401)


async def test_a_token_without_a_jti_is_of_no_session(app):
    token = await app.mint_refresh()
    held = {name: value for name, value in (await claims(app, token)).items() if name != "jti"}
    bare = jwt.encode(held, SECRET, "HS256")
    assert await status(app, bare, "/refresh") == 401
    app.app.config["JWT_REQUIRE_JTI"] = False
    assert await status(app, bare, "/refresh") == 200
    assert (await rotate(app, bare, 401))["code"] == "session_unknown"
    held["sid"] = (await app.jwt.create_token_pair("alice")).sid
    bare = jwt.encode(held, SECRET, "HS256")
    assert (await rotate(app, bare, 401))["code"] == "session_unknown"


# -- what tokens carry -------------------------------------------------------------------


async def test_claims_of_the_login_go_on(app):
    app.app.config["JWT_DECODE_AUDIENCE"] = "shop"
    asked = []

    @app.jwt.additional_claims_loader
    async def more(identity):
        asked.append(identity)
        return {"role": f"role {len(asked)}", "plan": "free"}

    @app.jwt.additional_headers_loader
    async def headers(identity):
        return {"x": "loader"}

    given = {"plan": "paid", "tenant": uuid.UUID(int=7), "exp": time.time() + 50, "nbf": None, "aud": "shop"}
    pair = await app.jwt.create_token_pair(
        "alice", additional_claims=given, additional_headers={"y": "given"}
    )
    new = await rotate(app, (await rotate(app, pair.refresh_token))["refresh"])
    for kind in ("access", "refresh"):
        found = await claims(app, new[kind])
        assert (found["plan"], found["tenant"], found["aud"]) == ("paid", str(uuid.UUID(int=7)), "shop")
        assert found["exp"] > time.time() + 60
        assert found["role"] in ("role 5", "role 6")
        header = app.api.get_unverified_jwt_headers
        async with app.context():
            assert (header(new[kind])["x"], header(new[kind])["y"]) == ("loader", "given")


async def test_a_loaders_claim_that_is_no_more_does_not_go_on(app):
    roles = {"admin": True}

    @app.jwt.additional_claims_loader
    async def more(identity):
        return dict(roles)

    pair = await app.jwt.create_token_pair("alice")
    assert (await claims(app, pair.access_token))["admin"] is True
    roles.clear()
    new = await rotate(app, pair.refresh_token)
    for kind in ("access", "refresh"):
        assert "admin" not in await claims(app, new[kind])


async def test_claims_given_to_a_rotation_go_on_from_there(make_app):
    app = rotating(make_app())

    @app.api.jwt_required(refresh=True)
    async def switch():
        pair = await app.api.rotate_refresh_token(
            additional_claims={"tenant": "b"}, additional_headers={"t": 1}, device="new"
        )
        return {"refresh": pair.refresh_token}

    app.view("/switch", switch, methods=["POST"])
    pair = await app.jwt.create_token_pair("alice", device="old", additional_claims={"tenant": "a", "n": 1})
    new = (await app.call("/switch", method="POST", token=pair.refresh_token)).json
    (session,) = (await app.jwt.list_sessions("alice")).sessions
    assert session.device == "new"
    new = await rotate(app, new["refresh"])
    for kind in ("access", "refresh"):
        found = await claims(app, new[kind])
        assert (found["tenant"], found["n"]) == ("b", 1)
    (session,) = (await app.jwt.list_sessions("alice")).sessions
    assert session.device == "new"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"additional_claims": {"jti": "always the same"}}, ValueError),
        ({"additional_claims": {"x": object()}}, TypeError),
        ({"additional_claims": {"x": float("nan")}}, ValueError),
        ({"identity": "bob"}, ValueError),
    ],
)
async def test_what_cannot_be_made_uses_nothing_up(make_app, options, error):
    app = rotating(make_app())
    raised = []

    @app.api.jwt_required(refresh=True)
    async def wrong():
        try:
            await app.api.rotate_refresh_token(**options)
        except error as problem:
            raised.append(problem)
            return {}
        return {"access": "made"}

    app.view("/wrong", wrong, methods=["POST"])
    pair = await app.jwt.create_token_pair("alice", additional_claims=None)
    if "jti" in options.get("additional_claims", {}):
        pair = await app.jwt.create_token_pair("alice", **options)
    assert (await app.call("/wrong", method="POST", token=pair.refresh_token)).json == {}
    assert len(raised) == 1
    new = await rotate(app, pair.refresh_token)
    assert (await claims(app, new["refresh"]))["jti"] != "always the same"


async def test_users_are_looked_up_again(app):
    users = {"alice"}

    @app.jwt.user_lookup_loader
    async def load(header, data):
        return data["sub"] if data["sub"] in users else None

    pair = await app.jwt.create_token_pair("alice")
    new = await rotate(app, pair.refresh_token)
    users.clear()
    assert (await rotate(app, new["refresh"], 401))["code"] == "user_not_found"


class User:
    def __init__(self, name, plan):
        self.name, self.plan = name, plan


async def test_loaders_get_the_user_where_they_take_one(app):
    @app.jwt.user_identity_loader
    async def identity(user):
        return user.name

    @app.jwt.user_lookup_loader
    async def load(header, data):
        return User(data["sub"], "now paid")

    @app.jwt.additional_claims_loader
    async def more(user):
        return {"plan": user.plan}

    pair = await app.jwt.create_token_pair(User("alice", "free"))
    new = await rotate(app, pair.refresh_token)
    found = await claims(app, new["access"])
    assert (found["sub"], found["plan"]) == ("alice", "now paid")


@pytest.mark.parametrize("kind", ["text", "fails", "no user"])
async def test_loaders_get_the_identity_where_they_take_no_user(app, kind):
    asked = []

    @app.jwt.user_identity_loader
    async def identity(number):
        return {"text": str, "fails": lambda value: f"{value:d}", "no user": str}[kind](number)

    if kind != "no user":

        @app.jwt.user_lookup_loader
        async def load(header, data):
            return User(data["sub"], "")

    @app.jwt.additional_claims_loader
    async def more(number):
        asked.append(number)
        return {}

    pair = await app.jwt.create_token_pair(7)
    new = await rotate(app, pair.refresh_token)
    assert (await claims(app, new["access"]))["sub"] == "7"
    assert asked == [7, 7, "7", "7"]


async def test_loaders_get_the_identity_that_is_given(make_app):
    app = rotating(make_app(), identity=7)
    asked = []

    @app.jwt.user_identity_loader
    async def identity(number):
        return str(number)

    @app.jwt.additional_claims_loader
    async def more(number):
        asked.append(number)
        return {}

    pair = await app.jwt.create_token_pair(7)
    assert (await claims(app, (await rotate(app, pair.refresh_token))["access"]))["sub"] == "7"
    assert asked == [7, 7, 7, 7]


async def test_tokens_are_told(app):
    told = []
    token_issued.connect(lambda _, **sent: told.append((sent["type"], sent["sid"])), app.app, weak=False)
    pair = await app.jwt.create_token_pair("alice")
    await rotate(app, pair.refresh_token)
    await rotate(app, pair.refresh_token)
    kinds = ["access", "refresh", "access", "refresh", "access"]
    assert told == [(kind, pair.sid) for kind in kinds]


async def test_only_a_checked_refresh_token_is_rotated(app):
    @app.api.jwt_required(verify_type=False)
    async def either():
        with pytest.raises(RuntimeError, match="refresh=True"):
            await app.api.rotate_refresh_token()
        return {}

    app.view("/rotates", either)
    assert await status(app, await app.mint(), "/rotates") == 200
    with pytest.raises(RuntimeError, match="refresh=True"):
        await app.jwt.rotate_refresh_token()


# -- lifetimes ---------------------------------------------------------------------------


async def test_a_session_slides_and_ends(harness, clock):
    app = rotating(
        harness(
            {
                "JWT_ACCESS_TOKEN_EXPIRES": 100,
                "JWT_REFRESH_TOKEN_EXPIRES": 1000,
                "JWT_SESSION_MAX_AGE": dt.timedelta(seconds=2500),
            },
            store=MemoryStore(clock=clock),
            clock=clock,
        )
    )
    pair = await app.jwt.create_token_pair("alice")
    begun, token = clock.now, pair.refresh_token
    for expected in (1900, 2500, 2500):
        clock.now += 900 if expected == 1900 else 790
        answer = await rotate(app, token)
        token = answer["refresh"]
        assert (await claims(app, token))["exp"] == begun + expected
        (session,) = (await app.jwt.list_sessions("alice")).sessions
        # To the minute: what is shown tells nobody when to come with a copied refresh token.
        assert session.expires_at.timestamp() == -(-(begun + expected) // 60) * 60
        assert session.created_at.timestamp() == begun
        assert session.last_used_at.timestamp() == clock.now // 60 * 60
    assert (await claims(app, answer["access"]))["exp"] == begun + 2500
    clock.now = begun + 2500
    assert (await app.jwt.list_sessions("alice")).sessions == ()
    assert (await rotate(app, token, 401))["code"] == "token_expired"


async def test_an_age_that_is_set_later_ends_sessions_too(harness, clock):
    app = rotating(harness(store=MemoryStore(clock=clock), clock=clock))
    pair = await app.jwt.create_token_pair("alice")
    alone = await app.mint_refresh()
    clock.now += 1000
    app.app.config["JWT_SESSION_MAX_AGE"] = 1000
    assert (await rotate(app, pair.refresh_token, 401))["code"] == "token_expired"
    assert (await rotate(app, alone, 401))["code"] == "token_expired"
    app.app.config["JWT_SESSION_MAX_AGE"] = 1100
    for token in (pair.refresh_token, alone):
        answer = await rotate(app, token)
        for kind in ("access", "refresh"):
            assert (await claims(app, answer[kind]))["exp"] == clock.now + 100


async def test_tokens_of_a_session_do_not_outlive_it(harness, clock):
    app = rotating(harness(store=MemoryStore(clock=clock), clock=clock))
    made = []

    @app.api.jwt_required()
    async def more():
        made[:] = [
            await app.api.create_access_token("alice", fresh=True, expires_delta=lives)
            for lives in (False, dt.timedelta(days=400), None)
        ]
        return {}

    app.view("/more", more)
    pair = await app.jwt.create_token_pair("alice")
    assert await status(app, pair.access_token, "/more") == 200
    lives = [(await claims(app, token))["exp"] - clock.now for token in made]
    assert lives == [30 * 86400, 30 * 86400, 900]
    for token in made:
        held = await claims(app, token)
        assert (held["sid"], held["fresh"]) == (pair.sid, True)
        assert await status(app, token, "/fresh") == 200
    app.app.config["JWT_SESSION_MAX_AGE"] = 300
    assert await status(app, pair.access_token, "/more") == 200
    assert [(await claims(app, token))["exp"] - clock.now for token in made] == [300] * 3
    await app.jwt.revoke_session(pair.sid)
    for token in made:
        assert await status(app, token, "/fresh") == 401


async def test_a_token_that_is_handed_out_again_does_not_outlive_its_session(harness, clock):
    app = harness(store=MemoryStore(clock=clock), clock=clock)

    @app.api.jwt_required(refresh=True)
    async def view():
        pair = await app.api.rotate_refresh_token(access_expires_delta=lives)
        return {"access": pair.access_token, "refresh": pair.refresh_token}

    app.view("/rotate", view, methods=["POST"])
    lives = None
    pair = await app.jwt.create_token_pair("alice")
    await rotate(app, pair.refresh_token)
    lives = False
    answer = await rotate(app, pair.refresh_token)
    assert (await claims(app, answer["access"]))["exp"] == clock.now + 30 * 86400


async def test_sessions_may_last_for_ever(app):
    app.app.config.update(JWT_ACCESS_TOKEN_EXPIRES=False, JWT_REFRESH_TOKEN_EXPIRES=False)
    pair = await app.jwt.create_token_pair("alice")
    answer = await rotate(app, pair.refresh_token)
    again = await rotate(app, pair.refresh_token)
    (session,) = (await app.jwt.list_sessions("alice")).sessions
    assert session.expires_at is None
    assert "exp" not in await claims(app, again["access"])
    await app.jwt.revoke_session(pair.sid)
    for token in (answer["access"], again["access"]):
        assert await status(app, token) == 401


async def test_a_session_that_ends_with_the_world_is_listed(app):
    far = {"exp": 10**14}
    pair = await app.jwt.create_token_pair("alice", additional_claims=far)
    (session,) = (await app.jwt.list_sessions("alice")).sessions
    assert (session.sid, session.expires_at) == (pair.sid, None)


# -- devices -----------------------------------------------------------------------------


def devices(app):
    """An application with a page of devices."""
    api = app.api

    @api.jwt_required()
    async def list_():
        page = await api.list_sessions()
        return {"devices": [[each.device, each.sid, each.current] for each in page.sessions]}

    @api.jwt_required()
    async def sign_out(sid=None):
        return {"done": await api.revoke_session(sid)}

    @api.jwt_required()
    async def everywhere():
        await api.revoke_user(keep_current=True)
        return {}

    app.view("/devices", list_)
    app.view("/out/<sid>", sign_out, methods=["POST"])
    app.view("/out", sign_out, methods=["POST"])
    app.view("/elsewhere", everywhere, methods=["POST"])
    return app


async def test_devices_are_listed_the_last_used_first(app):
    devices(app)
    pairs = {
        name: await app.jwt.create_token_pair("alice", device=name) for name in ("phone", "laptop", "tv")
    }
    await app.jwt.create_token_pair("bob", device="bob's")
    await rotate(app, pairs["laptop"].refresh_token)
    answer = await app.call("/devices", token=pairs["phone"].access_token)
    assert answer.json["devices"] == [
        ["laptop", pairs["laptop"].sid, False],
        ["tv", pairs["tv"].sid, False],
        ["phone", pairs["phone"].sid, True],
    ]
    page = await app.jwt.list_sessions("alice", limit=2)
    assert [each.device for each in page.sessions] == ["laptop", "tv"]
    last = await app.jwt.list_sessions("alice", limit=2, cursor=page.cursor)
    assert [each.device for each in last.sessions] == ["phone"]
    assert last.cursor is None
    first = page.sessions[0]
    now = dt.datetime.now(dt.UTC)
    assert now - dt.timedelta(seconds=30) < first.created_at <= first.last_used_at <= now < first.expires_at
    assert not first.current
    assert not (await app.jwt.list_sessions("nobody")).sessions


async def test_a_listing_holds_nothing_that_is_a_token(app):
    pair = await app.jwt.create_token_pair("alice", device="phone", additional_claims={"secret": "sauce"})
    new = await rotate(app, pair.refresh_token)
    text = repr(await app.jwt.list_sessions("alice"))
    for token in (pair.access_token, pair.refresh_token, new["access"], new["refresh"]):
        held = await claims(app, token)
        for hidden in (token, held["jti"], held["csrf"], "sauce"):
            assert hidden not in text


async def test_one_device_is_signed_out(app):
    devices(app)
    mine, other = [await app.jwt.create_token_pair("alice") for _ in range(2)]
    new = await rotate(app, other.refresh_token)
    answer = await app.call(f"/out/{other.sid}", method="POST", token=mine.access_token)
    assert answer.json == {"done": True}
    for token in (other.access_token, new["access"]):
        assert await status(app, token) == 401
    await rotate(app, new["refresh"], 401)
    await rotate(app, other.refresh_token, 401)
    answer = await app.call(f"/out/{other.sid}", method="POST", token=mine.access_token)
    assert answer.json == {"done": False}
    answer = await app.call("/out", method="POST", token=mine.access_token)
    assert answer.json == {"done": True}
    assert await status(app, mine.access_token) == 401
    assert (await app.jwt.list_sessions("alice")).sessions == ()


async def test_nobody_signs_somebody_else_out(app):
    devices(app)
    mine = await app.jwt.create_token_pair("mallory")
    yours = await app.jwt.create_token_pair("alice")
    for sid in (yours.sid, "unknown", yours.sid[:-1], "00%ff", "%00"):
        answer = await app.call(f"/out/{sid}", method="POST", token=mine.access_token)
        assert answer.json == {"done": False}
    assert await status(app, yours.access_token) == 200
    await rotate(app, yours.refresh_token)


async def test_ids_that_clients_send_may_be_anything(app):
    @app.api.jwt_required()
    async def out():
        odd = ["", 7, [], {}, True, "\ud800", "ab\ud800", b"ab", "\0"]
        return {"done": [await app.api.revoke_session(sid) for sid in odd]}

    app.view("/odd", out)
    pair = await app.jwt.create_token_pair("alice")
    answer = await app.call("/odd", token=pair.access_token)
    assert (answer.status, set(answer.json["done"])) == (200, {False})
    assert await status(app, pair.access_token) == 200
    assert await app.jwt.revoke_session("ab\ud800") is False


async def test_outside_of_a_request_only_a_manager_reaches_anybodys_session(app):
    pair = await app.jwt.create_token_pair("alice")
    async with app.app.extensions["async_jwt"].context():
        with pytest.raises(RuntimeError, match="authenticated request"):
            await app.api.revoke_session(pair.sid)
        assert await app.api.revoke_session(pair.sid, identity="bob") is False
        assert await app.api.revoke_session(pair.sid, identity="alice") is True
        assert await app.jwt.revoke_session((await app.jwt.create_token_pair("bob")).sid) is True


async def test_managers_sign_anybody_out(app):
    told = []
    token_revoked.connect(lambda _, **sent: told.append(sent), app.app, weak=False)
    one, two = [await app.jwt.create_token_pair("alice") for _ in range(2)]
    assert await app.jwt.revoke_session(one.sid, identity="bob") is False
    assert await status(app, one.access_token) == 200
    assert await app.jwt.revoke_session(one.sid, identity="alice") is True
    assert await app.jwt.revoke_session(two.sid) is True
    assert await app.jwt.revoke_session(two.sid) is False
    assert [(each["scope"], each["identity"], each["sid"]) for each in told] == [
        ("session", "alice", one.sid),
        ("session", "alice", two.sid),
        ("session", None, two.sid),
    ]
    for pair in (one, two):
        assert await status(app, pair.access_token) == 401
    with pytest.raises(RuntimeError, match="authenticated request"):
        await app.jwt.revoke_session()
    with pytest.raises(RuntimeError, match="authenticated request"):
        await app.jwt.list_sessions()


async def test_an_admin_names_whose_session_it_is(app):
    @app.api.jwt_required()
    async def admin():
        sid = (await app.jwt.list_sessions("alice")).sessions[0].sid
        done = [
            await app.jwt.revoke_session(sid),
            await app.jwt.revoke_session(sid, identity="bob"),
            await app.jwt.revoke_session(sid, identity="alice"),
        ]
        return {"done": done}

    app.view("/admin", admin)
    pair = await app.jwt.create_token_pair("alice")
    root = await app.jwt.create_token_pair("root")
    assert (await app.call("/admin", token=root.access_token)).json == {"done": [False, False, True]}
    assert await status(app, pair.access_token) == 401


async def test_a_session_that_is_not_known_is_signed_out_all_the_same(make_app):
    """As of another store before, or of a token that somebody else issued."""
    app = devices(make_app())
    foreign = await app.mint(additional_claims={"sid": "of somebody else"})
    sibling = await app.mint(additional_claims={"sid": "of somebody else"})
    assert (await app.call("/out", method="POST", token=foreign)).json == {"done": True}
    assert await status(app, sibling) == 401


async def test_a_token_of_no_session_signs_itself_out(app):
    devices(app)
    mine, other = await app.mint(), await app.mint()
    assert (await app.call("/out", method="POST", token=mine)).json == {"done": True}
    assert await status(app, mine) == 401
    assert await status(app, other) == 200


async def test_everywhere_else(app):
    devices(app)
    mine, *others = [await app.jwt.create_token_pair("alice") for _ in range(3)]
    assert (await app.call("/elsewhere", method="POST", token=mine.access_token)).status == 200
    assert [each[1] for each in (await app.call("/devices", token=mine.access_token)).json["devices"]] == [
        mine.sid
    ]
    for other in others:
        await rotate(app, other.refresh_token, 401)
    new = await rotate(app, mine.refresh_token)
    assert await status(app, new["access"]) == 200
    await app.jwt.revoke_user("alice")
    assert await status(app, new["access"]) == 401


async def test_a_user_has_so_many_sessions(make_app):
    app = rotating(make_app({"JWT_MAX_SESSIONS": 2}))
    told = []
    token_revoked.connect(lambda _, **sent: told.append(sent["sid"]), app.app, weak=False)
    one, two = [await app.jwt.create_token_pair("alice") for _ in range(2)]
    bob = await app.jwt.create_token_pair("bob")
    await rotate(app, one.refresh_token)
    three = await app.jwt.create_token_pair("alice")
    assert told == [two.sid]
    assert await status(app, two.access_token) == 401
    for pair in (one, three, bob):
        assert await status(app, pair.access_token) == 200
    adopted = await rotate(app, await app.mint_refresh())
    assert told == [two.sid, one.sid]
    assert {each.sid for each in (await app.jwt.list_sessions("alice")).sessions} == {
        three.sid,
        adopted["sid"],
    }


async def test_pages_that_clients_ask_for(app):
    @app.api.jwt_required()
    async def page():
        request = app.framework.request
        page = await app.api.list_sessions(limit=1, cursor=request.args.get("cursor"))
        return {"cursor": page.cursor}

    app.view("/page", page)
    one, _ = [await app.jwt.create_token_pair("alice") for _ in range(2)]
    cursor = (await app.call("/page", token=one.access_token)).json["cursor"]
    assert (await app.call(f"/page?cursor={cursor.replace('+', '%2B')}", token=one.access_token)).json == {
        "cursor": None
    }
    for wrong in ("", "x", "nan%20x", "%00", "1%20%c3%a9", "inf", "%f0%9f%98%80"):
        answer = await app.call(f"/page?cursor={wrong}", token=one.access_token)
        assert (answer.status, answer.json.get("code")) == (400, "page_invalid"), wrong
    for limit in (0, -1, 1001, True, 2.0, None, "3"):
        with pytest.raises(InvalidPageError, match="1 to 1000"):
            await app.jwt.list_sessions("alice", limit=limit)


async def test_labels_of_devices(app):
    labels = [(None, None), ("x" * 5000, "x" * 200), ("a\ud800b", "a?b"), ("\u00e9\n", "\u00e9\n"), (7, "7")]
    for label, kept in labels:
        pair = await app.jwt.create_token_pair("alice", device=label)
        assert (await app.jwt.list_sessions("alice")).sessions[0].device == kept
        await app.jwt.revoke_session(pair.sid)


# -- stores ------------------------------------------------------------------------------


class Revocations:
    """A store that keeps no sessions."""

    awaits_nothing = True

    def __init__(self):
        inner = MemoryStore()
        revoking = [f"revoke_{what}" for what in ("token", "session", "user", "everything")]
        for name in ("stamp", "check", "start", "close", *revoking):
            setattr(self, name, getattr(inner, name))


async def test_a_store_without_sessions_is_enough_for_the_rest(harness):
    app = devices(harness(store=Revocations()))

    @app.api.jwt_required(refresh=True)
    async def view():
        with pytest.raises(ConfigurationError, match="Revocations keeps no sessions"):
            await app.api.rotate_refresh_token()
        return {}

    @app.api.jwt_required()
    async def more():
        return {"token": await app.api.create_access_token("alice", expires_delta=False)}

    app.view("/no", view)
    app.view("/more", more)
    pair = await app.jwt.create_token_pair("alice", device="phone")
    made = (await app.call("/more", token=pair.access_token)).json["token"]
    assert (await claims(app, made))["sid"] == pair.sid
    assert await status(app, pair.refresh_token, "/no") == 200
    answer = await app.call(f"/out/{pair.sid}x", method="POST", token=pair.access_token)
    assert answer.json == {"done": False}
    with pytest.raises(ConfigurationError, match="Revocations keeps no sessions"):
        await app.jwt.list_sessions("alice")
    assert (await app.call("/out", method="POST", token=pair.access_token)).json == {"done": True}
    assert await status(app, pair.access_token) == 401


class Odd(MemoryStore):
    async def load_session(self, ref):
        return replace(await super().load_session(ref), valid="it does")


async def test_a_store_that_answers_something_else_opens_no_door(harness):
    app = rotating(harness(store=Odd()))
    pair = await app.jwt.create_token_pair("alice")
    await rotate(app, pair.refresh_token, 401)


async def test_sessions_in_memory_are_named_in_the_log(harness, caplog):
    app = rotating(harness())
    pair = await app.jwt.create_token_pair("alice")
    assert "JWT_STORE_URI" not in caplog.text
    await rotate(app, (await rotate(app, pair.refresh_token))["refresh"])
    assert caplog.text.count("JWT_STORE_URI") == 1


# -- somebody else was first -------------------------------------------------------------


class Signing(MemoryStore):
    """Somebody signs the user out between a look and the step, as often as it says."""

    times = 1

    async def load_session(self, ref):
        seen = await super().load_session(ref)
        if ref.jti is None and self.times:
            self.times -= 1
            await self.revoke_user(ref.identity)
        return seen


class Lost(MemoryStore):
    """Does the step, and its reply is lost: the command is sent again, and declined."""

    async def replace_session(self, session, seen, **more):
        assert await super().replace_session(session, seen, **more) is not None
        return await super().replace_session(session, seen, **more)


class Busy(MemoryStore):
    async def replace_session(self, session, seen, **more):
        return None


async def test_a_login_during_a_sign_out_comes_after_it(harness):
    app = rotating(harness(store=Signing()))
    pair = await app.jwt.create_token_pair("alice")
    assert await status(app, pair.access_token) == 200
    await rotate(app, pair.refresh_token)
    app.jwt.store.times = 1000
    with pytest.raises(StoreUnavailableError, match="faster"):
        await app.jwt.create_token_pair("alice")


async def test_a_step_that_was_sent_twice_is_no_replay(harness):
    app = rotating(harness({"JWT_REFRESH_GRACE": 0}, store=Lost()))
    pair = await app.jwt.create_token_pair("alice")
    assert await status(app, pair.access_token) == 200
    new = await rotate(app, pair.refresh_token)
    await rotate(app, new["refresh"])
    assert len((await app.jwt.list_sessions("alice")).sessions) == 1


async def test_a_session_that_never_holds_still_is_a_503(harness):
    app = rotating(harness(store=Busy()))
    token = await app.mint_refresh()
    answer = await app.call("/rotate", method="POST", token=token)
    assert (answer.status, answer.code) == (503, "store_unavailable")
    assert await status(app, token, "/refresh") == 200


async def test_what_a_hook_cannot_answer_uses_nothing_up(harness):
    app = rotating(harness({"JWT_HOOK_TIMEOUT": 5}))
    broken = False

    @app.jwt.user_lookup_loader
    async def load(header, data):
        return User(data["sub"], "")

    @app.jwt.user_identity_loader
    async def identity(user):
        if broken:
            raise HookTimeoutError
        return user if isinstance(user, str) else user.name

    pair = await app.jwt.create_token_pair("alice")
    broken = True
    assert (await rotate(app, pair.refresh_token, 503))["code"] == "hook_timeout"
    broken = False
    await rotate(app, pair.refresh_token)


async def test_a_token_of_a_session_that_is_not_known_lives_as_it_says(make_app):
    app = make_app()
    made = []

    @app.api.jwt_required()
    async def more():
        made.append(await app.api.create_access_token("alice", expires_delta=False))
        return {}

    app.view("/more", more)
    foreign = await app.mint(additional_claims={"sid": "of somebody else"})
    assert await status(app, foreign, "/more") == 200
    assert "exp" not in await claims(app, made[-1])


async def test_a_token_of_a_session_without_end_ends_as_the_age_says(harness, clock):
    app = harness({"JWT_REFRESH_TOKEN_EXPIRES": False}, store=MemoryStore(clock=clock), clock=clock)
    made = []

    @app.api.jwt_required()
    async def more():
        made.append(await app.api.create_access_token("alice", expires_delta=False))
        return {}

    app.view("/more", more)
    pair = await app.jwt.create_token_pair("alice")
    app.app.config["JWT_SESSION_MAX_AGE"] = 7 * 86400
    assert await status(app, pair.access_token, "/more") == 200
    assert (await claims(app, made[0]))["exp"] == clock.now + 7 * 86400


async def test_a_sign_out_outlives_tokens_made_before_the_last_rotation(harness, clock):
    app = rotating(harness(store=MemoryStore(clock=clock), clock=clock))
    pair = await app.jwt.create_token_pair("alice", access_expires_delta=dt.timedelta(days=100))
    await rotate(app, pair.refresh_token)
    await app.jwt.revoke_session(pair.sid)
    clock.now += 99 * 86400
    await app.jwt.revoke_token(await app.mint())  # a chance to forget what is over
    assert await status(app, pair.access_token) == 401


# -- what a hostile reader found ---------------------------------------------------------


@pytest.mark.parametrize("lives", [dt.timedelta(days=90), False])
async def test_signing_out_with_a_token_made_of_a_long_lived_one_ends_that_for_good(harness, clock, lives):
    """As "remember me" does with tokens of no session: who signs out with the access token alone."""
    h = harness(store=MemoryStore(clock=clock), clock=clock)

    @h.api.jwt_required(refresh=True)
    async def refresh():
        return {"access": await h.api.create_access_token(h.api.get_jwt_identity())}

    @h.api.jwt_required()
    async def logout():
        return {"done": await h.api.revoke_session()}

    h.view("/again", refresh)
    h.view("/logout", logout)
    token = await h.mint_refresh(expires_delta=lives)
    for _ in range(2):
        access = (await h.call("/again", token=token)).json["access"]
        assert (await h.call(token=access)).status == 200
    assert (await h.call("/logout", token=access)).json == {"done": True}
    for days in (0, 29, 3, 50):
        clock.now += days * 86400
        assert (await h.call("/again", token=token)).status == 401


async def test_a_long_lived_access_token_begins_no_session(harness, clock):
    h = harness(store=MemoryStore(clock=clock), clock=clock)

    @h.api.jwt_required()
    async def another():
        return {"access": await h.api.create_access_token("alice")}

    h.view("/another", another)
    pair = await h.jwt.create_token_pair("alice", access_expires_delta=False)
    access = (await h.call("/another", token=pair.access_token)).json["access"]
    assert (await claims(h, access))["sid"] == pair.sid
    assert len((await h.jwt.list_sessions("alice")).sessions) == 1


@pytest.mark.parametrize("refresh_lives", [dt.timedelta(minutes=5), False])
async def test_a_sign_out_outlives_all_tokens_made_within_the_session(harness, clock, refresh_lives):
    """Also where an access token lives longer than its session's refresh token."""
    config = {"JWT_REFRESH_TOKEN_EXPIRES": refresh_lives}
    app = harness(config, store=MemoryStore(clock=clock), clock=clock)
    made = []

    @app.api.jwt_required()
    async def more():
        made.append(await app.api.create_access_token("alice"))
        made.append(await app.api.create_access_token("alice", expires_delta=dt.timedelta(days=365)))
        return {}

    app.view("/more", more)
    pair = await app.jwt.create_token_pair("alice", refresh_expires_delta=dt.timedelta(minutes=5))
    clock.now += 14 * 60
    assert await status(app, pair.access_token, "/more") == 200
    await app.jwt.revoke_session(pair.sid)
    for later in (3 * 60, 86400):
        clock.now += later
        await app.jwt.revoke_token(await app.mint("bob"))  # a chance to forget what is over
        for token in made:
            assert await status(app, token) == 401


@pytest.mark.parametrize("grace", [60, "until_used", 0])
@pytest.mark.parametrize("is_adopted", [True, False])
async def test_signing_out_with_a_refresh_token_takes_its_successor_along(make_app, grace, is_adopted):
    """RFC 7009 §2.1: whoever rotated a stolen copy does not outlive the logout."""
    app = rotating(make_app({"JWT_REFRESH_GRACE": grace}))

    @app.api.jwt_required(refresh=True, skip_revocation_check=True)
    async def logout():
        await app.api.revoke_token()
        return {}

    app.view("/logout", logout, methods=["POST"])
    for way in ("own", "text", "claims"):
        first = await app.mint_refresh()
        if not is_adopted:
            first = (await app.jwt.create_token_pair("alice")).refresh_token
        stolen = await rotate(app, first)
        if way == "own":
            assert (await app.call("/logout", method="POST", token=first)).status == 200
        else:
            await app.jwt.revoke_token(first if way == "text" else await claims(app, first))
        assert await status(app, stolen["access"]) == 401
        assert await status(app, first, "/refresh") == 401
        await rotate(app, stolen["refresh"], 401)


async def test_sessions_of_two_users_are_two_whatever_their_tokens_are_called(app):
    alice = "alice"
    other = next(name for name in map(str, range(10_000)) if bucket_of(name) == bucket_of(alice))
    tokens = [await app.mint_refresh(name, additional_claims={"jti": "1"}) for name in (alice, other)]
    pairs = [await rotate(app, token) for token in tokens]
    assert pairs[0]["sid"] != pairs[1]["sid"]
    assert await app.jwt.revoke_session(pairs[0]["sid"]) is True
    await rotate(app, pairs[1]["refresh"])


class Overtaken(MemoryStore):
    """Its reply is lost, and before it is asked again another tab has gone on with the successor."""

    first = None

    async def replace_session(self, session, seen, **more):
        done = await super().replace_session(session, seen, **more)
        if done == () and self.first and session.previous_jti == self.first:
            ref = TokenRef(session.identity, session.refresh_jti, session.sid, session.stamp, 0.0, None)
            step = replace(session, refresh_jti="the next", previous_jti=session.refresh_jti)
            await super().replace_session(step, await self.load_session(ref), successor=more["successor"])
            return None
        return done


async def test_a_step_that_was_overtaken_before_its_reply_is_no_replay(harness):
    app = rotating(harness(store=Overtaken()))
    pair = await app.jwt.create_token_pair("alice")
    app.jwt.store.first = await app.jwt.get_jti(pair.refresh_token)
    new = await rotate(app, pair.refresh_token)
    assert await status(app, new["access"]) == 200
    session = await app.jwt.store.get_session(pair.sid)
    assert (session.refresh_jti, session.previous_jti) == ("the next", await app.jwt.get_jti(new["refresh"]))


async def test_tokens_of_a_session_are_what_they_are_whatever_claims_say(app):
    odd = {"gen": f"m.{'9' * 19}.{'9' * 19}", "type": "refresh", "sid": "of nobody"}
    for name, value in odd.items():
        with pytest.raises(ValueError, match=f"additional_claims cannot hold {name}"):
            await app.jwt.create_token_pair("alice", additional_claims={name: value})
    app.jwt.additional_claims_loader(lambda _identity: odd)
    pair = await app.jwt.create_token_pair("alice")
    new = await rotate(app, pair.refresh_token)
    for access, refresh in ((pair.access_token, pair.refresh_token), (new["access"], new["refresh"])):
        assert (await claims(app, access))["type"] == "access"
        assert (await claims(app, refresh))["type"] == "refresh"
        assert {(await claims(app, token))["sid"] for token in (access, refresh)} == {pair.sid}
    await app.jwt.revoke_user("alice")
    for token in (pair.access_token, new["access"]):
        assert await status(app, token) == 401


async def test_who_is_not_signed_in_signs_nobody_out(app):
    """An administrator's view names whose session it is, whatever protects it."""
    pair = await app.jwt.create_token_pair("alice")

    @app.api.jwt_required(optional=True)
    async def anonymous():
        for manager in (app.api, app.jwt):
            with pytest.raises(RuntimeError, match="authenticated request"):
                await manager.revoke_session(pair.sid)
        done = [await app.jwt.revoke_session(pair.sid, identity=name) for name in ("bob", "alice")]
        return {"done": done}

    app.view("/anonymous", anonymous)
    assert (await app.call("/anonymous")).json == {"done": [False, True]}
    assert await status(app, pair.access_token) == 401


async def test_ids_that_are_too_long_are_none(app):
    @app.api.jwt_required()
    async def out():
        return {"done": [await app.api.revoke_session("0" * size) for size in (257, 10**7)]}

    app.view("/long", out)
    assert (await app.call("/long", token=await app.mint())).json == {"done": [False, False]}


async def test_signing_oneself_out_for_somebody_else_is_a_mistake(app):
    @app.api.jwt_required()
    async def admin():
        with pytest.raises(ValueError, match="sid"):
            await app.api.revoke_session(identity="bob")
        return {}

    app.view("/admin", admin)
    root = await app.mint("root")
    for _ in range(2):
        assert await status(app, root, "/admin") == 200


async def test_tokens_made_with_a_token_of_no_session_yet_end_with_its_session(app):
    made = []

    @app.api.jwt_required(refresh=True)
    async def as_before():
        made.append(await app.api.create_access_token("alice"))
        return {}

    app.view("/as-before", as_before)
    token = await app.mint_refresh()
    assert await status(app, token, "/as-before") == 200
    new = await rotate(app, token)
    await rotate(app, new["refresh"])
    await rotate(app, token, 401)
    assert await status(app, made[0]) == 401


async def test_a_login_that_is_refused_signs_no_device_out(make_app):
    app = make_app({"JWT_MAX_SESSIONS": 1})
    own = None

    @app.jwt.additional_claims_loader
    async def more(identity):
        if own is not None:  # another device signs this one out while it logs in again
            await app.jwt.store.revoke_token(own)
        return {}

    @app.api.jwt_required()
    async def again():
        pair = await app.api.create_token_pair("alice")
        return {"access": pair.access_token}

    app.view("/again", again)
    device = await app.jwt.create_token_pair("alice")
    token = await app.mint()
    held = await claims(app, token)
    own = TokenRef("alice", held["jti"], None, held["gen"], 0.0, held["exp"])
    assert await status(app, token, "/again") == 401
    assert await status(app, device.access_token) == 200
    assert [each.sid for each in (await app.jwt.list_sessions("alice")).sessions] == [device.sid]


async def test_a_token_called_none_is_nobodys(app):
    await app.jwt.revoke_token(await app.mint(additional_claims={"jti": "None"}))
    pair = await app.jwt.create_token_pair("alice")
    assert await status(app, pair.access_token) == 200


async def test_sessions_of_other_issuers_may_be_called_anything(harness):
    """Under the compat preset, where `sid` was anybody's."""
    app = harness({"JWT_COMPAT": "flask-jwt-extended", "JWT_SESSION_MAX_AGE": 1000})

    @app.api.jwt_required()
    async def more():
        return {"token": await app.api.create_access_token("alice")}

    app.view("/more", more)
    for sid in (5, [1], {}, None, True):
        token = await app.mint(additional_claims={"sid": sid})
        assert await status(app, token, "/more") == 200


async def test_what_a_view_does_to_its_claims_changes_no_session(app):
    @app.api.jwt_required(refresh=True)
    async def spoil():
        app.api.get_jwt().clear()
        access = await app.api.create_access_token("alice")
        pair = await app.api.rotate_refresh_token()
        return {"sid": pair.sid, "access": access}

    app.view("/spoil", spoil)
    for token, sid in ((await app.mint_refresh(), None), await _pair_and_sid(app)):
        answer = (await app.call("/spoil", token=token)).json
        assert sid in (None, answer["sid"])
        assert (await claims(app, answer["access"]))["sid"] == answer["sid"]


async def _pair_and_sid(app):
    pair = await app.jwt.create_token_pair("alice")
    return pair.refresh_token, pair.sid


async def test_a_replay_is_told_of_the_right_session_whatever_the_view_did(app):
    told = []
    token_reused.connect(lambda _, **sent: told.append(sent["sid"]), app.app, weak=False)

    @app.api.jwt_required(refresh=True, skip_revocation_check=True)
    async def spoil():
        app.api.get_jwt().clear()
        with pytest.raises(TokenReusedError):
            await app.api.rotate_refresh_token()
        return {}

    app.view("/spoil", spoil)
    for first in ((await app.jwt.create_token_pair("alice")).refresh_token, await app.mint_refresh()):
        new = await rotate(app, first)
        await rotate(app, new["refresh"])
        assert await status(app, first, "/spoil") == 200
        assert told.pop() == new["sid"]
