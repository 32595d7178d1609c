"""The example of a store of one's own keeps what stores promise."""

from __future__ import annotations

import asyncio
import time
import uuid

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores import TokenRef
from async_jwt.testing import store_contract
from examples.own_store import sql_store
from examples.own_store.sql_store import SQLStore, metadata, revoked
from tests.harness.applications import QuartHarness
from tests.harness.servers import free_port

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """The example gives a database a second; a busy machine may need longer."""
    monkeypatch.setattr(sql_store, "DEADLINE", 60.0)


def database(kind, request, tmp_path):
    if kind == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'revocations.db'}"
    return request.getfixturevalue("postgres_url").replace("postgresql://", "postgresql+asyncpg://")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_it_keeps_every_promise(kind, request, tmp_path):
    for promise in store_contract:
        engine = create_async_engine(database(kind, request, tmp_path))
        async with engine.begin() as db:
            await db.run_sync(metadata.drop_all)
        store = SQLStore(engine)
        await store.start()
        await promise(store)
        await store.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("what", ["user", "access", "others"])
async def test_a_revocation_shows_as_a_whole_or_not_at_all(kind, what, request, tmp_path):
    """In the middle of it another process issues a token, while the old one is still valid."""
    url = database(kind, request, tmp_path)
    store, other = [SQLStore(create_async_engine(url)) for _ in range(2)]
    await store.start()
    name, put, made = uuid.uuid4().hex, store._put, []
    values = {"issued_at": time.time(), "expires_at": time.time() + 60, "sid": None}
    values["type"] = "access" if what == "access" else "reset"
    old, used = [TokenRef(name, jti + name, gen=await store.stamp(name), **values) for jti in "ab"]

    async def between(*args):
        stamp = await other.stamp(name)
        assert await other.check(old)
        made.append(old._replace(jti=uuid.uuid4().hex, gen=stamp))
        return await put(*args)

    store._put = between
    if what == "user":
        await store.revoke_user(name)
    elif what == "access":
        await store.expire_access_tokens(name)
    else:
        assert await store.consume_token(used, others=True)
    assert len(made) == 1
    for dead in (old, *made):
        assert not await other.check(dead)
    for each in (store, other):
        await each.close()


async def test_used_marks_go_with_their_tokens(tmp_path):
    store = SQLStore(create_async_engine(database("sqlite", None, tmp_path)))
    await store.start()
    for number in range(3):
        ref = TokenRef("alice", str(number), None, await store.stamp("alice"), 0.0, time.time() - 3600)
        assert await store.consume_token(ref)
    async with store._engine.connect() as db:
        assert len((await db.execute(sa.select(revoked))).all()) == 1
    await store.close()


async def test_many_processes_share_it(tmp_path):
    stores = [SQLStore(create_async_engine(database("sqlite", None, tmp_path))) for _ in range(2)]
    await stores[0].start()
    apps = [QuartHarness(store=store) for store in stores]
    tokens = [await app.mint() for app in apps]
    await asyncio.gather(*(apps[0].jwt.revoke_user("alice") for _ in range(5)))
    for app in apps:
        for token in tokens:
            assert (await app.call(token=token)).status == 401
        assert (await app.call(token=await apps[0].mint())).status == 200
    for store in stores:
        await store.close()


async def test_a_database_that_does_not_answer_is_a_503():
    store = SQLStore(create_async_engine(f"postgresql+asyncpg://nobody@127.0.0.1:{free_port()}/none"))
    with pytest.raises(StoreUnavailableError):
        await store.start()
    app = QuartHarness(store=store)
    with pytest.raises(StoreUnavailableError):
        await app.mint()
    await store.close()
