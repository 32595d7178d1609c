"""Access tokens that end while their sessions go on, as after a change of roles."""

from __future__ import annotations

import asyncio

import pytest

from async_jwt import MemoryStore
from async_jwt.errors import ConfigurationError, StaleTokenError, StoreUnavailableError
from async_jwt.signals import token_revoked
from async_jwt.testing import outage
from tests.adapters.test_tokens_are_used_once import Plain
from tests.harness import SECRET
from tests.harness.applications import Gate, however_it_runs, on_both_kinds, on_each_loop
from tests.harness.rotation import rotating

pytestmark = pytest.mark.asyncio


@pytest.fixture
def app(make_app):
    return rotating(make_app())


async def rotate(app, token):
    return await app.call("/rotate", method="POST", token=token)


@however_it_runs
async def test_a_client_fetches_a_token_with_its_new_role(app):
    roles = {"alice": "admin"}

    @app.jwt.additional_claims_loader
    def claims(identity):
        return {"role": roles[identity]}

    pair, other = [await app.jwt.create_token_pair("alice") for _ in range(2)]
    roles["bob"] = "guest"
    bob = await app.mint("bob")
    roles["alice"] = "guest"
    await app.jwt.expire_access_tokens("alice")
    for access in (pair.access_token, other.access_token):
        answer = await app.call(token=access)
        assert (answer.status, answer.code, answer.json["msg"]) == (
            401,
            "token_stale",
            "Token is out of date",
        )
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    assert (await app.call(token=bob)).status == 200
    for refresh in (pair.refresh_token, other.refresh_token):
        answer = await rotate(app, refresh)
        assert answer.status == 200
        me = await app.call(token=answer.json["access"])
        assert (me.status, me.json["claims"]["role"]) == (200, "guest")
    page = await app.jwt.list_sessions("alice")
    assert {session.sid for session in page.sessions} == {pair.sid, other.sid}


@however_it_runs
async def test_again_and_again_within_the_same_second(app):
    refresh = (await app.jwt.create_token_pair("alice")).refresh_token
    for _ in range(3):
        answer = await rotate(app, refresh)
        access, refresh = answer.json["access"], answer.json["refresh"]
        assert (await app.call(token=access)).status == 200
        await app.jwt.expire_access_tokens("alice")
        assert (await app.call(token=access)).code == "token_stale"


@on_each_loop
async def test_purpose_tokens_and_refresh_tokens_go_on(app):
    reset = await app.jwt.create_token("alice", type="reset")
    apart = await app.mint_refresh()
    fresh = await app.mint(fresh=True)
    await app.jwt.expire_access_tokens("alice")
    assert (await app.call("/reset", token=reset)).status == 200
    assert (await app.call("/refresh", token=apart)).status == 200
    assert (await app.call("/fresh", token=fresh)).code == "token_stale"
    assert (await app.call("/unchecked", token=fresh)).status == 200
    assert (await rotate(app, apart)).status == 200


@on_each_loop
@pytest.mark.parametrize("order", ["keep first", "keep last"])
async def test_keep_current_exempts_no_access_token(app, order):
    @app.api.jwt_required()
    async def elsewhere():
        await app.api.revoke_user(keep_current=True)
        return {}

    app.view("/elsewhere", elsewhere, methods=["POST"])
    pair, other = [await app.jwt.create_token_pair("alice") for _ in range(2)]
    access, refresh = pair.access_token, pair.refresh_token
    stale = [access]
    if order == "keep last":
        await app.jwt.expire_access_tokens("alice")
        assert (await app.call("/elsewhere", method="POST", token=access)).code == "token_stale"
        answer = await rotate(app, refresh)
        access, refresh = answer.json["access"], answer.json["refresh"]
    assert (await app.call("/elsewhere", method="POST", token=access)).status == 200
    assert (await app.call(token=access)).status == 200
    if order == "keep first":
        await app.jwt.expire_access_tokens("alice")
    for token in stale:
        assert (await app.call(token=token)).code == "token_stale"
    assert (await app.call("/refresh", token=other.refresh_token)).code == "token_revoked"
    answer = await rotate(app, refresh)
    assert (await app.call(token=answer.json["access"])).status == 200


@on_each_loop
async def test_a_signed_out_token_is_revoked_and_not_stale(app):
    for first, second in (("expire_access_tokens", "revoke_user"), ("revoke_user", "expire_access_tokens")):
        token = await app.mint()
        await getattr(app.jwt, first)("alice")
        await getattr(app.jwt, second)("alice")
        assert (await app.call(token=token)).code == "token_revoked"


@on_each_loop
async def test_tokens_without_a_stamp_go_by_their_time(app):
    import time

    import jwt as pyjwt

    now = int(time.time())
    await app.jwt.expire_access_tokens("alice")
    for issued, status in ((now - 60, 401), (now + 5, 401)):
        claims = {"sub": "alice", "jti": str(issued), "iat": issued, "exp": now + 600}
        access = pyjwt.encode({**claims, "type": "access"}, SECRET, algorithm="HS256")
        refresh = pyjwt.encode({**claims, "type": "refresh"}, SECRET, algorithm="HS256")
        assert (await app.call(token=access)).status == status
        assert (await app.call("/refresh", token=refresh)).status == 200


@on_both_kinds
async def test_under_the_preset_what_views_take_for_an_access_token_ends(harness):
    app = harness({"JWT_COMPAT": "flask-jwt-extended"})
    tokens = [await app.mint(), await app.mint(additional_claims={"type": "anything"})]
    reset = await app.jwt.create_token("alice", type="reset")
    odd = await app.jwt.create_token("alice", type="reset", additional_claims={"type": ["reset"]})
    assert await app.jwt.consume_token(odd) is True
    assert await app.jwt.consume_token(reset, others=True) is True
    reset = await app.jwt.create_token("alice", type="reset")
    await app.jwt.expire_access_tokens("alice")
    for token in tokens:
        assert (await app.call(token=token)).status == 401
    assert (await app.call("/reset", token=reset)).status == 200


@on_each_loop
async def test_a_request_that_ends_its_own_access_token_goes_on(app):
    @app.api.jwt_required()
    async def demote():
        await app.api.expire_access_tokens()
        return {"token": await app.api.create_access_token("alice")}

    app.view("/demote", demote, methods=["POST"])
    pair = await app.jwt.create_token_pair("alice")
    answer = await app.call("/demote", method="POST", token=pair.access_token)
    assert answer.status == 200
    me = await app.call(token=answer.json["token"])
    assert (me.status, me.json["claims"]["sid"]) == (200, pair.sid)
    assert (await app.call("/demote", method="POST", token=pair.access_token)).code == "token_stale"


@on_each_loop
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("ban", ["revoke_user", "expire_access_tokens", None])
async def test_a_slow_request_does_not_outlive_what_ended_it(harness, own, ban):
    """Whether or not it ended its own access tokens before."""
    store = MemoryStore()
    app = harness(store=store)

    @app.api.jwt_required()
    async def slow():
        if own:
            await app.api.expire_access_tokens()
        if ban is not None:
            await getattr(store, ban)("mallory")
        return {"token": await app.api.create_access_token("mallory")}

    app.view("/slow", slow, methods=["POST"])
    answer = await app.call("/slow", method="POST", token=await app.mint("mallory"))
    if ban is None or (own and ban == "expire_access_tokens"):
        assert answer.status == 200
    else:
        code = "token_revoked" if ban == "revoke_user" else "token_stale"
        assert (answer.status, answer.code) == (401, code)


@on_each_loop
@pytest.mark.parametrize("way", ["stale", "revoked"])
async def test_a_request_that_was_ended_ends_nobody_else(harness, way):
    store = MemoryStore()
    app = harness(store=store)
    bob = await app.mint("bob")

    @app.api.jwt_required()
    async def view():
        await (store.revoke_user if way == "revoked" else store.expire_access_tokens)("mallory")
        await app.api.expire_access_tokens("bob")
        return {}

    app.view("/demote", view, methods=["POST"])
    answer = await app.call("/demote", method="POST", token=await app.mint("mallory"))
    assert (answer.status, answer.code) == (401, f"token_{way}")
    assert (await app.call(token=bob)).status == 200


@on_each_loop
async def test_a_refresh_that_is_under_way_ends_in_a_token_that_counts_or_is_stale(app):
    """It was read before, and stored afterwards: the store declines, and the step is done anew."""
    checked, go_on = Gate(), Gate()

    @app.api.jwt_required(refresh=True)
    async def slow():
        checked.set()
        await go_on.wait()
        pair = await app.api.rotate_refresh_token()
        return {"access": pair.access_token}

    app.view("/slow", slow, methods=["POST"])
    pair = await app.jwt.create_token_pair("alice")
    request = asyncio.ensure_future(app.call("/slow", method="POST", token=pair.refresh_token))
    await checked.wait()
    await app.jwt.expire_access_tokens("alice")
    go_on.set()
    answer = await request
    assert answer.status == 200
    assert (await app.call(token=answer.json["access"])).status == 200


@on_both_kinds
async def test_it_is_told_and_answered_by_loaders(app):
    told = []
    token_revoked.connect(lambda _, **sent: told.append(sent), app.app, weak=False)
    token = await app.mint()
    await app.jwt.expire_access_tokens("alice")
    assert told == [{"scope": "access", "identity": "alice", "jti": None, "sid": None}]

    @app.jwt.revoked_token_loader
    def gone(header, claims, error):
        return {"stale": isinstance(error, StaleTokenError)}, 401

    assert (await app.call(token=token)).json == {"stale": True}


@on_both_kinds
async def test_the_cookie_of_a_stale_token_stays_as_that_of_an_expired_one_does(make_app):
    app = make_app({"JWT_TOKEN_LOCATION": ["cookies"]})
    pair = await app.jwt.create_token_pair("alice")
    await app.jwt.expire_access_tokens("alice")
    cookies = {"access_token_cookie": pair.access_token, "refresh_token_cookie": pair.refresh_token}
    answer = await app.call(cookies=cookies)
    assert answer.code == "token_stale"
    assert answer.cookies == {}
    assert (await app.call("/refresh", cookies=cookies)).status == 200


@on_both_kinds
async def test_whose_and_which_store(harness):
    app = harness()

    @app.jwt.user_identity_loader
    def identity(user):
        return str(user["id"])

    token = await app.mint({"id": 7})
    await app.jwt.expire_access_tokens({"id": 7})
    assert (await app.call(token=token)).code == "token_stale"
    with pytest.raises(RuntimeError, match="authenticated request"):
        await app.jwt.expire_access_tokens()
    other = harness()
    with pytest.raises(ValueError, match="identity"):
        await other.jwt.expire_access_tokens(7)
    with outage(app.app), pytest.raises(StoreUnavailableError):
        await app.jwt.expire_access_tokens({"id": 7})
    with pytest.raises(ConfigurationError, match=r"Plain has no expire_access_tokens\(\)"):
        await harness(store=Plain()).jwt.expire_access_tokens("alice")


@on_each_loop
@pytest.mark.parametrize("first", ["expire", "keep", "once", "meanwhile"])
async def test_a_kept_session_refreshes_whatever_ended_its_access_token(make_app, first):
    """In one request, and while another process ends the access tokens."""
    store = MemoryStore()
    app = rotating(make_app(store=store))
    revoke = store.revoke_user

    async def late(identity, keep=None):
        await store.expire_access_tokens(identity)
        await revoke(identity, keep)

    @app.api.jwt_required(fresh=True, once=first == "once")
    async def change():
        if first == "expire":
            await app.api.expire_access_tokens()
        elif first == "meanwhile":
            store.revoke_user = late
        await app.api.revoke_user(keep_current=True)
        if first == "keep":
            await app.api.expire_access_tokens()
        return {}

    app.view("/change", change, methods=["POST"])
    pair, other = [await app.jwt.create_token_pair("alice", fresh=True) for _ in range(2)]
    assert (await app.call("/change", method="POST", token=pair.access_token)).status == 200
    assert (await app.call("/refresh", token=other.refresh_token)).status == 401
    assert (await rotate(app, pair.refresh_token)).status == 200


@on_each_loop
async def test_a_request_that_used_its_own_access_token_ends_with_the_others(make_app):
    store = MemoryStore()
    app = make_app(store=store)

    @app.api.jwt_required(once=True)
    async def change():
        await store.expire_access_tokens("alice")  # as another process does
        return {"token": await app.api.create_access_token("alice")}

    app.view("/change", change, methods=["POST"])
    answer = await app.call("/change", method="POST", token=await app.mint())
    assert answer.status == 401


@on_each_loop
@pytest.mark.parametrize("answer", [OSError("no database"), ["used"], None])
async def test_a_store_that_cannot_say_why_has_revoked_it(make_app, caplog, answer):
    class Odd(MemoryStore):
        async def refusal_of(self, ref):
            if isinstance(answer, OSError):
                raise answer
            return answer

    app = make_app(store=Odd())
    token = await app.mint()
    await app.jwt.revoke_token(token)
    assert (await app.call(token=token)).code == "token_revoked"
    assert ("refusal_of() of the store failed" in caplog.text) is isinstance(answer, OSError)
