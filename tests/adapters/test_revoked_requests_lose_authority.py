"""A request that was let in once has no say after its token was revoked, however slow it is."""

from __future__ import annotations

import asyncio
import threading
import uuid

import pytest

from async_jwt import MemoryStore
from async_jwt.errors import JWTExtendedException
from async_jwt.stores.redis import RedisStore
from tests.harness import SECRET
from tests.harness.applications import on_each_loop

pytestmark = pytest.mark.asyncio


class Shared:
    """A store that an application and an operator elsewhere have in common."""

    def __init__(self, url):
        self._url = url
        self.store = MemoryStore() if url is None else RedisStore(url, deadline=5)

    async def ban(self, way, pair):
        """Do it as another process does: in another thread, on an event loop of its own."""

        async def work():
            store = self.store if self._url is None else RedisStore(self._url, deadline=5)
            await BANS[way](store, pair)
            await store.close()

        def run():
            asyncio.run(work())

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
        else:
            await asyncio.to_thread(run)


@pytest.fixture(params=["memory", "redis"])
def shared(request, redis_url):
    return Shared(None if request.param == "memory" else f"{redis_url}?prefix={uuid.uuid4()}:&deadline=5")


BANS = {
    "user": lambda store, pair: store.revoke_user("mallory"),
    "session": lambda store, pair: store.revoke_session(pair.sid, None),
    "everything": lambda store, pair: store.revoke_everything(),
}
OWN = {
    "nothing": lambda api, other: None,
    "all devices": lambda api, other: api.revoke_user(),
    "all other devices": lambda api, other: api.revoke_user(keep_current=True),
    "another device": lambda api, other: api.revoke_session(other.sid),
    "another token": lambda api, other: api.revoke_token(other.access_token),
    "its own session": lambda api, other: api.revoke_session(),
    "its own token": lambda api, other: api.revoke_token(),
}


async def does(api, own, other):
    work = OWN[own](api, other)
    if work is not None:
        await work


@on_each_loop
@pytest.mark.parametrize("ban", [None, *BANS])
@pytest.mark.parametrize("own", OWN)
async def test_a_ban_outlasts_a_slow_request(harness, shared, own, ban):
    """The request passed its check, then its user was banned; it revokes something, and wants new tokens."""
    h = harness(store=shared.store)
    pair, other = await h.jwt.create_token_pair("mallory"), await h.jwt.create_token_pair("mallory")
    made = []

    @h.api.jwt_required()
    async def view():
        if ban is not None:
            await shared.ban(ban, pair)
        await does(h.api, own, other)
        made.append((await h.api.create_token_pair("mallory")).access_token)
        return {}

    h.view("/slow", view)
    answer = await h.call("/slow", token=pair.access_token)
    if ban is None:
        assert answer.status == 200
        assert (await h.call(token=made[0])).status == 200
    else:
        assert (answer.status, answer.json["code"]) == (401, "token_revoked")
        assert made == []
    await h.jwt.close()


@on_each_loop
@pytest.mark.parametrize("way", ["user", "token", "everything"])
async def test_a_banned_request_revokes_nobody_else(harness, way):
    """It passed its check, and was banned before it signs somebody else out."""
    store = MemoryStore()
    h = harness(store=store)
    mallory, bob = await h.mint("mallory"), await h.mint("bob")

    @h.api.jwt_required()
    async def view():
        await store.revoke_user("mallory")
        if way == "user":
            await h.api.revoke_user("bob")
        elif way == "token":
            await h.api.revoke_token(bob)
        else:
            await h.jwt.revoke_everything()
        return {}

    h.view("/slow", view)
    answer = await h.call("/slow", token=mallory)
    assert (answer.status, answer.json["code"]) == (401, "token_revoked")
    assert (await h.call(token=bob)).status == 200


@on_each_loop
@pytest.mark.parametrize("own", ["another device", "another token", "all other devices"])
async def test_only_the_end_of_its_own_token_lets_a_request_go_on_without_a_look(harness, own):
    """After it signed another device out, a request still rests on its own token."""
    store = MemoryStore()
    h = harness(store=store)
    pair, other = await h.jwt.create_token_pair("mallory"), await h.jwt.create_token_pair("mallory")

    @h.api.jwt_required()
    async def view():
        await does(h.api, own, other)
        await store.revoke_user("mallory")  # the ban, between its own revocation and the new token
        return {"token": await h.api.create_access_token("mallory")}

    h.view("/slow", view)
    assert (await h.call("/slow", token=pair.access_token)).code == "token_revoked"


@on_each_loop
async def test_a_new_password_signs_out_everywhere_and_in_again(harness):
    h = harness()
    pair = await h.jwt.create_token_pair("alice")

    @h.api.jwt_required()
    async def password():
        await h.api.revoke_user()
        return {"token": (await h.api.create_token_pair("alice", fresh=True)).access_token}

    h.view("/password", password)
    answer = await h.call("/password", token=pair.access_token)
    assert (await h.call("/fresh", token=answer.json["token"])).status == 200
    assert (await h.call(token=pair.access_token)).status == 401


@on_each_loop
async def test_two_sign_outs_at_once_both_succeed(harness):
    """The second one finds its own token dead already, which is what it asks for."""
    store = MemoryStore()
    h = harness(store=store)
    pair = await h.jwt.create_token_pair("alice")

    @h.api.jwt_required()
    async def logout():
        await store.revoke_session(pair.sid, None)
        await h.api.revoke_session()
        return {"out": True}

    h.view("/logout", logout)
    assert (await h.call("/logout", token=pair.access_token)).json == {"out": True}


@on_each_loop
async def test_a_refused_check_does_not_end_the_look_before_new_tokens(harness):
    store = MemoryStore()
    h = harness(store=store)
    token = await h.mint()

    @h.api.jwt_required()
    async def view():
        who = h.api.get_jwt_identity()
        with pytest.raises(JWTExtendedException):
            await h.api.verify_jwt_in_request(fresh=True)
        await store.revoke_user("alice")
        return {"token": await h.api.create_access_token(who)}

    h.view("/again", view)
    assert (await h.call("/again", token=token)).code == "token_revoked"


async def test_after_a_refusal_handlers_see_nobody(harness):
    h = harness()
    h.jwt.user_lookup_loader(lambda _header, claims: {"name": claims["sub"]})
    seen = []

    @h.app.before_request
    @h.api.jwt_required(optional=True, skip_revocation_check=True)
    async def who():
        seen.append(h.api.get_jwt_identity())

    @h.app.after_request
    async def after(response):
        for accessor in (h.api.get_jwt, h.api.get_jwt_identity, h.api.get_current_user, h.api.current_auth):
            try:
                seen.append(accessor())
            except RuntimeError:
                seen.append("nobody")
        return response

    token = await h.mint()
    assert (await h.call("/fresh", token=token)).code == "fresh_token_required"
    assert seen == ["alice", *["nobody"] * 4]
    seen.clear()
    await h.jwt.revoke_token(token)
    assert (await h.call(token=token)).code == "token_revoked"
    assert seen == ["alice", *["nobody"] * 4]


@on_each_loop
async def test_nobodys_identity_is_refused_and_not_revoked_in_silence(harness):
    h = harness({"PROPAGATE_EXCEPTIONS": True})
    h.jwt.user_identity_loader(lambda user: getattr(user, "id", user if isinstance(user, float) else None))

    class User:
        id = "7"

    pair = await h.jwt.create_token_pair(User())
    for odd in ("7", {"id": "7"}, 1.5, object()):
        for call in (
            lambda odd=odd: h.jwt.revoke_user(odd),
            lambda odd=odd: h.jwt.list_sessions(odd),
            lambda odd=odd: h.jwt.revoke_session(pair.sid, identity=odd),
        ):
            with pytest.raises(ValueError, match="No token has an identity of type"):
                await call()
    assert (await h.call(token=pair.access_token)).status == 200
    await h.jwt.revoke_user(User())
    assert (await h.call(token=pair.access_token)).status == 401


async def test_identities_that_need_be_no_text(harness):
    h = harness({"JWT_VERIFY_SUB": False})
    token = await h.mint(7)
    await h.jwt.revoke_user(7)
    assert (await h.call(token=token)).code == "token_revoked"
    with pytest.raises(ValueError, match="of type float"):
        await h.jwt.revoke_user(7.0)


class Plain:
    """A store that keeps no sessions."""

    awaits_nothing = True

    def __init__(self, clock):
        own = MemoryStore(clock=clock)
        for name in (
            *("stamp", "check", "start", "close"),
            *("revoke_token", "revoke_session", "revoke_user", "revoke_everything"),
        ):
            setattr(self, name, getattr(own, name))


@on_each_loop
@pytest.mark.parametrize("by", ["access", "refresh"])
async def test_a_sign_out_outlives_every_token_of_its_session(harness, clock, by):
    h = harness({"JWT_SECRET_KEY": SECRET}, store=Plain(clock), clock=clock)
    pair = await h.jwt.create_token_pair("alice")

    @h.api.jwt_required()
    async def long():
        return {"token": await h.api.create_access_token("alice", expires_delta=365 * 86400)}

    @h.api.jwt_required(verify_type=False)
    async def logout():
        await (h.api.revoke_session() if by == "access" else h.api.revoke_token(pair.refresh_token))
        return {}

    h.view("/long", long)
    h.view("/logout", logout)
    token = (await h.call("/long", token=pair.access_token)).json["token"]
    assert (await h.call("/logout", token=pair.access_token)).status == 200
    clock.now += 200 * 86400
    await h.jwt.revoke_token(await h.mint("somebody"))  # memory is swept at a write
    assert (await h.call(token=token)).code == "token_revoked"


@on_each_loop
async def test_of_two_managers_the_last_answers_what_a_view_raises(harness):
    """Its loader answers, and nobody is authenticated any more."""
    store, seen = MemoryStore(), []
    h = harness({"JWT_COMPAT": "flask-jwt-extended"}, store=store)
    last = h.api.JWTManager(h.app, store=store)

    @last.revoked_token_loader
    def revoked(header, claims):
        return {"by": "the last"}, 401

    @h.api.jwt_required()
    async def view():
        await store.revoke_user("mallory")
        return {"token": await h.api.create_access_token("mallory")}

    h.view("/slow", view)

    def after(response):
        try:
            seen.append(h.api.get_jwt_identity())
        except RuntimeError:
            seen.append(None)
        return response

    h.app.after_request(after)
    answer = await h.call("/slow", token=await h.mint("mallory"))
    assert (answer.status, answer.json) == (401, {"by": "the last"})
    assert seen == [None]
