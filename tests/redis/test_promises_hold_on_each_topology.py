"""Promises about single use, access tokens and sessions, on a mirror, a Cluster and behind a sentinel."""

from __future__ import annotations

import asyncio
import contextlib
import uuid

import pytest

from async_jwt.stores.redis import RedisStore
from async_jwt.testing.access import access_contract
from async_jwt.testing.sessions import session_contract
from async_jwt.testing.single_use import single_use_contract
from tests.harness.crowd import comes
from tests.harness.wire import Wire
from tests.redis.conftest import named_by_sentinel

pytestmark = pytest.mark.asyncio

PROMISES = [*single_use_contract, *access_contract, *session_contract]


@contextlib.asynccontextmanager
async def urls_of(where, request):
    """The URL of servers of one kind."""
    if where == "cluster":
        cluster = request.getfixturevalue("cluster")
        yield f"redis+cluster://127.0.0.1:{cluster.masters[0].port}?"
        return
    server = request.getfixturevalue("shared_server")
    server.does("FLUSHALL")
    if where == "mirror":
        yield f"{server.url}?mirror=true&mirror_lag=5&"
        return
    server.wants_sentinel = True
    try:
        async with Wire(server.port).open() as wire:
            with named_by_sentinel(server, wire) as sentinel:
                yield f"redis+sentinel://127.0.0.1:{sentinel.port}/shop?"
    finally:
        server.wants_sentinel = False


@pytest.mark.parametrize("where", ["mirror", "cluster", "sentinel"])
async def test_promises(where, request):
    async with urls_of(where, request) as url:

        async def keep(promise):
            store = RedisStore(f"{url}prefix=test-{uuid.uuid4().hex}:&deadline=5")
            await store.stamp("somebody")
            if where == "mirror":
                await comes(lambda: store.status().staleness is not None, "the mirror does not begin")
            await promise(store)
            assert store.status().data_losses == 0
            await store.close()

        for start in range(0, len(PROMISES), 4):
            await asyncio.gather(*map(keep, PROMISES[start : start + 4]))
