"""Signing out: one token, one user, everybody. On each store alike."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from async_jwt.signals import token_revoked
from async_jwt.stores import MemoryStore
from async_jwt.stores.redis import RedisStore
from tests.harness.applications import Gate, however_it_runs

pytestmark = [pytest.mark.asyncio, however_it_runs]


@pytest.fixture(params=["memory", "redis"])
def app(request, harness):
    """An application on one of the stores."""
    uri = "memory://"
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
        uri = f"{url}?prefix=test-{uuid.uuid4().hex}:&deadline=5"
    app = harness({"JWT_STORE_URI": uri})
    yield app
    app.end()


async def test_a_revoked_token_is_refused_and_others_are_not(app):
    one, two = await app.mint(), await app.mint()
    await app.jwt.revoke_token(one)
    answer = await app.call(token=one)
    assert (answer.status, answer.code, answer.json["msg"]) == (
        401,
        "token_revoked",
        "Token has been revoked",
    )
    assert (await app.call(token=two)).status == 200
    assert (await app.call("/unchecked", token=one)).status == 200


async def test_a_request_revokes_its_own_token(app):
    @app.api.jwt_required()
    async def logout():
        await app.api.revoke_token()
        return {}

    app.view("/logout", logout, methods=["POST"])
    token = await app.mint()
    assert (await app.call("/logout", method="POST", token=token)).status == 200
    assert (await app.call("/logout", method="POST", token=token)).status == 401


async def test_revoking_a_decoded_claim_set(app):
    token = await app.mint()
    await app.jwt.revoke_token(await app.jwt.decode_token(token))
    assert (await app.call(token=token)).status == 401


async def test_a_revoked_session_takes_both_tokens(app):
    pair = await app.jwt.create_token_pair("alice")
    other = await app.jwt.create_token_pair("alice")
    await app.jwt.store.revoke_session(pair.sid, None)
    assert (await app.call(token=pair.access_token)).status == 401
    assert (await app.call("/refresh", token=pair.refresh_token)).status == 401
    assert (await app.call(token=other.access_token)).status == 200


async def test_signing_out_everywhere_and_in_again_within_the_same_second(app):
    for _ in range(3):
        old, refresh = await app.mint(), await app.mint_refresh()
        bystander = await app.mint("bob")
        await app.jwt.revoke_user("alice")
        new = await app.mint()
        assert (await app.call(token=old)).status == 401
        assert (await app.call("/refresh", token=refresh)).status == 401
        assert (await app.call(token=new)).status == 200
        assert (await app.call(token=bystander)).status == 200


@pytest.mark.parametrize("with_session", [True, False])
async def test_keep_current_spares_this_session_alone(app, with_session):
    @app.api.jwt_required()
    async def elsewhere():
        await app.api.revoke_user(keep_current=True)
        return {}

    app.view("/elsewhere", elsewhere, methods=["POST"])
    other = await app.mint()
    pair = await app.jwt.create_token_pair("alice")
    mine = pair.access_token if with_session else await app.mint()
    assert (await app.call("/elsewhere", method="POST", token=mine)).status == 200
    assert (await app.call(token=mine)).status == 200
    assert (await app.call(token=other)).status == 401
    assert (await app.call("/refresh", token=pair.refresh_token)).status == (200 if with_session else 401)
    await app.jwt.revoke_user("alice")
    assert (await app.call(token=mine)).status == 401


async def test_keep_current_revives_nobody(app):
    @app.api.jwt_required(skip_revocation_check=True)
    async def elsewhere():
        await app.api.revoke_user(keep_current=True)
        return {}

    app.view("/elsewhere", elsewhere, methods=["POST"])
    pair = await app.jwt.create_token_pair("alice")
    await app.jwt.revoke_user("alice")
    assert (await app.call("/elsewhere", method="POST", token=pair.access_token)).status == 200
    assert (await app.call(token=pair.access_token)).status == 401


async def test_a_check_that_asked_nobody_spares_no_other_one_the_question(app):
    @app.api.jwt_required(skip_revocation_check=True)
    async def first():
        await app.api.verify_jwt_in_request()
        return {}

    app.view("/both", first)
    token = await app.mint()
    assert (await app.call("/both", token=token)).status == 200
    await app.jwt.revoke_token(token)
    assert (await app.call("/both", token=token)).code == "token_revoked"


@pytest.mark.parametrize("kind", ["create_access_token", "create_refresh_token", "create_token_pair"])
@pytest.mark.parametrize("signed_out", [False, True])
async def test_a_slow_request_does_not_outlive_a_sign_out(app, kind, signed_out):
    checked, go_on = Gate(), Gate()

    @app.api.jwt_required(refresh=True)
    async def slow():
        checked.set()
        await go_on.wait()  # such as a body that is slow to come
        await getattr(app.api, kind)("alice")
        return {}

    app.view("/slow", slow, methods=["POST"])
    request = asyncio.ensure_future(app.call("/slow", method="POST", token=await app.mint_refresh()))
    await checked.wait()
    if signed_out:
        await app.jwt.revoke_user("alice")
    go_on.set()
    answer = await request
    assert answer.status == (401 if signed_out else 200)
    if signed_out:
        assert answer.code == "token_revoked"


async def test_a_view_may_sign_out_everywhere_and_go_on(app):
    @app.api.jwt_required()
    async def change_password():
        await app.api.revoke_user()
        return {"token": await app.api.create_access_token("alice")}

    app.view("/password", change_password, methods=["POST"])
    token = await app.mint()
    answer = await app.call("/password", method="POST", token=token)
    assert (await app.call(token=answer.json["token"])).status == 200
    assert (await app.call(token=token)).status == 401


async def test_tokens_without_jti_are_not_each_other(app):
    app.app.config["JWT_REQUIRE_TYPE"] = app.app.config["JWT_REQUIRE_JTI"] = False
    import jwt as pyjwt

    from tests.harness import SECRET

    foreign = pyjwt.encode({"sub": "alice"}, SECRET, algorithm="HS256")
    named = await app.mint(additional_claims={"jti": "None", "sid": "None"})
    await app.jwt.revoke_token(named)
    assert (await app.call(token=named)).status == 401
    assert (await app.call(token=foreign)).status == 200


async def test_revoking_everything(app):
    tokens = [await app.mint(name) for name in ("alice", "bob", "carol")]
    await app.jwt.revoke_everything()
    for token in tokens:
        assert (await app.call(token=token)).status == 401
    assert (await app.call(token=await app.mint())).status == 200


async def test_keep_current_does_not_outlive_revoking_everything(app):
    @app.api.jwt_required()
    async def elsewhere():
        await app.api.revoke_user(keep_current=True)
        return {}

    app.view("/elsewhere", elsewhere, methods=["POST"])
    mine = await app.mint()
    await app.call("/elsewhere", method="POST", token=mine)
    await app.jwt.revoke_everything()
    assert (await app.call(token=mine)).status == 401


async def test_tokens_without_a_stamp_go_by_their_time(app):
    import time

    await app.jwt.revoke_user("alice")
    now = int(time.time())
    for issued, status in ((now - 60, 401), (now + 1, 401), (now + 15, 401)):
        token = await app.mint(additional_claims={"iat": issued, "nbf": None, "gen": ""})
        assert (await app.call(token=token)).status == status
    strange = await app.mint(additional_claims={"gen": "no stamp"})
    assert (await app.call(token=strange)).status == 401


async def test_a_stamp_of_another_store_is_refused_once_it_matters(app):
    await app.jwt.revoke_user("alice")
    token = await app.mint(additional_claims={"gen": "q.0.0"})
    assert (await app.call(token=token)).status == 401


async def test_blocklist_loader_is_asked_besides_the_store(app):
    asked = []

    @app.jwt.token_in_blocklist_loader
    async def blocked(header, claims):
        asked.append(claims["jti"])
        return claims["sub"] == "mallory"

    assert (await app.call(token=await app.mint("mallory"))).code == "token_revoked"
    token = await app.mint()
    assert (await app.call(token=token)).status == 200
    await app.jwt.revoke_token(token)
    asked.clear()
    assert (await app.call(token=token)).code == "token_revoked"
    assert asked == []


async def test_expired_tokens_may_be_revoked(app):
    await app.jwt.revoke_token(await app.mint(expires_delta=-5))


async def test_functions_outside_a_request_need_to_know_whose(app):
    for call in (app.jwt.revoke_token(), app.jwt.revoke_user(), app.jwt.revoke_user("a", keep_current=True)):
        with pytest.raises(RuntimeError, match="authenticated request"):
            await call
    async with app.context():
        token = await app.api.create_access_token("alice")
        await app.api.revoke_user("alice")
    assert (await app.call(token=token)).status == 401


async def test_keep_current_of_somebody_else_is_refused(harness):
    h = harness({"JWT_REQUIRE_TYPE": False})

    @h.api.jwt_required()
    async def view():
        with pytest.raises(ValueError, match="same user"):
            await h.api.revoke_user("bob", keep_current=True)
        return {}

    h.view("/elsewhere", view)
    assert (await h.call("/elsewhere", token=await h.mint())).status == 200


async def test_revocations_are_told(app):
    told = []

    @token_revoked.connect_via(app.app)
    async def listen(sender, **arguments):
        told.append(arguments)

    pair = await app.jwt.create_token_pair("alice")
    await app.jwt.revoke_token(pair.access_token)
    await app.jwt.revoke_user("alice")
    await app.jwt.revoke_everything()
    assert [entry["scope"] for entry in told] == ["token", "user", "everything"]
    assert told[0]["sid"] == pair.sid
    assert pair.access_token not in repr(told)


async def test_a_store_that_nobody_asked_for_warns_once(harness, caplog):
    h = harness()
    await h.jwt.revoke_user("alice")
    await h.jwt.revoke_user("alice")
    assert caplog.text.count("JWT_STORE_URI") == 1
    caplog.clear()
    for quiet in (harness({"JWT_STORE_URI": "memory://"}), harness(store=MemoryStore())):
        await quiet.jwt.revoke_user("alice")
    assert "JWT_STORE_URI" not in caplog.text


async def test_given_store_is_used(harness):
    store = MemoryStore()
    h = harness(store=store)
    assert h.jwt.store is store
    await h.jwt.revoke_token(await h.mint())
    assert len(store) == 1


async def test_store_follows_the_setting(harness, redis_url):
    h = harness()
    assert isinstance(h.jwt.store, MemoryStore)
    h.app.config["JWT_STORE_URI"] = redis_url
    assert isinstance(h.jwt.store, RedisStore)


async def test_user_identity_loader_names_the_user_to_revoke(app):
    @app.jwt.user_identity_loader
    async def identity(user):
        return str(user["id"])

    token = await app.mint({"id": 7})
    await app.jwt.revoke_user({"id": 7})
    assert (await app.call(token=token)).status == 401
