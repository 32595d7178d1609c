"""`on_outage`: what passes while the server does not answer."""

from __future__ import annotations

import pytest

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores.redis import RedisStore
from tests.contract.conftest import QuartHarness

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
    store = RedisStore(durable_server.url, on_outage="allow")
    app = QuartHarness(store=store)
    token = await app.mint()
    await app.jwt.revoke_user("alice")
    assert (await app.call(token=token)).status == 401
    await store.close()
