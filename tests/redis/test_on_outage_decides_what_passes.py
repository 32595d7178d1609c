"""`on_outage`: what passes while the server does not answer."""

from __future__ import annotations

import pytest

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores import TokenRef
from async_jwt.stores.redis import RedisStore
from tests.harness.applications import QuartHarness
from tests.harness.crowd import comes
from tests.harness.insides import node_of
from tests.harness.wire import READS, Wire

pytestmark = pytest.mark.asyncio


async def test_allow_lets_plain_access_tokens_pass_and_nothing_else(durable_server, caplog):
    store = RedisStore(f"{durable_server.url}?on_outage=allow&deadline=0.2")
    app = QuartHarness(store=store)
    await app.jwt.start()

    @app.api.jwt_required()
    async def more():
        return {"token": await app.api.create_access_token("alice")}

    app.view("/more", more)
    plain = await app.mint()
    pair = await app.jwt.create_token_pair("alice")
    revoked = await app.mint()
    await app.jwt.revoke_token(revoked)
    fresh = await app.mint(fresh=True)
    purpose = await app.jwt.create_token("alice", type="reset")
    assert (await app.call(token=revoked)).status == 401

    durable_server.stop()
    caplog.clear()
    for _ in range(3):
        assert (await app.call(token=plain)).status == 200
        assert (await app.call("/optional", token=pair.access_token)).status == 200
        # That is what "allow" means: nobody can tell.
        assert (await app.call(token=revoked)).status == 200
    for path, token in [
        ("/me", fresh),
        ("/fresh", fresh),
        ("/refresh", pair.refresh_token),
        ("/either", pair.refresh_token),
        ("/reset", purpose),
        ("/more", plain),
    ]:
        answer = await app.call(path, token=token)
        assert (answer.status, answer.code) == (503, "store_unavailable"), path
    with pytest.raises(StoreUnavailableError):
        await app.jwt.revoke_user("alice")
    status = store.status()
    assert not status.available
    assert status.problem is not None
    assert status.let_through == 10
    assert status.refused >= 6
    assert caplog.text.count("pass unchecked") == 1
    assert len(caplog.records) == 1

    durable_server.start()
    while not store.status().available:
        assert (await app.call(token=plain)).status == 200
    assert (await app.call(token=revoked)).status == 401
    assert (await app.call(token=fresh)).status == 200
    await store.close()


async def test_allow_is_no_way_around_a_revocation_that_is_known(durable_server):
    store = RedisStore(durable_server.url, deadline=5, on_outage="allow")
    app = QuartHarness(store=store)
    token = await app.mint()
    await app.jwt.revoke_user("alice")
    assert (await app.call(token=token)).status == 401
    await store.close()


REFUSALS = {
    "NOPERM": (b"-NOPERM this user has no permissions\r\n", "grant its user the permissions"),
    "WRONGTYPE": (
        b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
        "another prefix",
    ),
    "NOAUTH": (b"-NOAUTH Authentication required.\r\n", "the user and the password"),
    "unknown command": (b"-ERR unknown command 'MGET'\r\n", "Redis 6.2 or newer"),
}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_what_a_server_refuses_is_no_outage_that_lets_pass(durable_server, caplog, refusal):
    reply, fix = REFUSALS[refusal]
    async with Wire(durable_server.port).open() as wire:
        store = RedisStore(f"{wire.url}?on_outage=allow&deadline=5")
        app = QuartHarness(store=store)
        token = await app.mint()
        assert (await app.call(token=token)).status == 200
        caplog.clear()
        wire.says = (READS, reply)
        for _ in range(3):
            answer = await app.call(token=token)
            assert (answer.status, answer.code) == (503, "store_unavailable")
        assert not store.status().available
        assert "MGET" in store.status().problem
        (record,) = caplog.records
        assert record.event == "store_misconfigured"
        assert fix in record.getMessage()
        wire.heal()
        assert (await app.call(token=token)).status == 200, "no breaker is to be waited for"
        assert store.status().available
        await store.close()


@pytest.mark.parametrize(
    ("place", "command", "fix"),
    [
        ("redis+cluster://{}", "CLUSTER SLOTS", "it is not a Cluster node: use redis://"),
        ("redis+cluster://u:wrong@{}", "CLUSTER SLOTS", "correct the user and the password"),
        ("redis+cluster://u:right@{}", "CLUSTER SLOTS", "grant its user the permissions"),
        ("redis+sentinel://{}/shop", "SENTINEL MASTER", "the sentinels' own ports"),
        (
            "redis+sentinel://{}/shop?sentinel_username=u&sentinel_password=wrong",
            "SENTINEL MASTER",
            "correct",
        ),
    ],
)
async def test_so_it_is_where_others_say_which_server_to_ask(shared_server, caplog, place, command, fix):
    shared_server.does("ACL", "SETUSER", "u", "reset", "on", ">right", "~*", "+@all", "-cluster")
    url = place.format(f"127.0.0.1:{shared_server.port}")
    store = RedisStore(url, on_outage="allow", deadline=5)
    app = QuartHarness(store=store)
    token = await QuartHarness().mint()
    for _ in range(3):
        assert (await app.call(token=token)).status == 503
    assert f"refuses {command}" in store.status().problem
    (record,) = caplog.records
    assert record.event == "store_misconfigured"
    assert fix in record.getMessage()
    await store.close()
    shared_server.does("ACL", "DELUSER", "u")


async def test_a_server_that_came_back_to_refuse_is_no_outage_either(durable_server):
    """While the breaker is open, its probe finds a server that answers."""
    async with Wire(durable_server.port).open() as wire:
        store = RedisStore(f"{wire.url}?on_outage=allow&deadline=0.2")
        app = QuartHarness(store=store)
        token = await app.mint()
        wire.swallows = True
        assert (await app.call(token=token)).status == 200, "an outage, and allowed"
        wire.heal()
        wire.says = (READS, REFUSALS["NOPERM"][0])
        wire.drop()
        await comes(
            lambda: (store.status().problem or "").startswith("The revocation store refuses"), "no probe"
        )
        assert (await app.call(token=token)).status == 503
        wire.heal()
        assert (await app.call(token=token)).status == 200
        await store.close()


async def test_one_clients_text_opens_no_breaker(durable_server):
    store = RedisStore(f"{durable_server.url}?on_outage=allow&deadline=5")
    app = QuartHarness({"PROPAGATE_EXCEPTIONS": True}, store=store)
    token, revoked = await app.mint(), await app.mint("eve")
    await app.jwt.revoke_user("eve")
    for claim, text in (("jti", "\ud800"), ("sid", "\ud800"), ("sub", "\ud800"), ("jti", "x" * 70_000)):
        claims = {"sub": "mallory", "type": "access", "jti": "1", claim: text}
        with pytest.raises(ValueError, match="must be text"):
            await app.jwt.revoke_token(claims)
        ref = TokenRef("mallory", "1", None, None, 0.0, None)
        ref = ref._replace(**{"identity" if claim == "sub" else claim: text})
        for call in (store.check, store.load_session, store.revoke_token):
            with pytest.raises(ValueError, match="must be text"):
                await call(ref)
    for call in (store.get_session, lambda sid: store.revoke_session(sid, None)):
        with pytest.raises(ValueError, match="must be text"):
            await call("\ud800")
    assert store.status().available
    assert (await app.call(token=token)).status == 200
    assert (await app.call(token=revoked)).status == 401
    node = node_of(store, "00")
    with pytest.raises(ValueError, match="UTF-8"):
        await node.execute("GET", "\ud800")
    assert not node.unavailable
    await store.close()
