"""Sessions over HTTP: two processes, one Redis."""

from __future__ import annotations

import asyncio
import itertools
import random
import uuid

import httpx
import pytest
import pytest_asyncio

pytestmark = pytest.mark.asyncio

STEPS = ["check", "look", "hooks", "put", "stored", "answer"]
"""Of a rotation, in their order: what `tests.integration.rotating_sessions` is told to die before."""


async def ask(clients, token, count):
    """One token, so many times at once, to all processes in turn."""
    calls = (
        client.post("/rotate", headers={"Authorization": f"Bearer {token}"})
        for client in itertools.islice(itertools.cycle(clients), count)
    )
    return await asyncio.gather(*calls)


@pytest_asyncio.fixture
async def clients(serve, redis_url):
    async def start(**settings):
        uri = f"{redis_url}?prefix=test-{uuid.uuid4().hex}:&deadline=5"
        urls = [serve(module="rotating_sessions", JWT_STORE_URI=uri, **settings) for _ in range(2)]
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=0)
        opened.extend(httpx.AsyncClient(base_url=url, limits=limits, timeout=30) for url in urls)
        return opened

    opened: list[httpx.AsyncClient] = []
    yield start
    for client in opened:
        await client.aclose()


@pytest.mark.parametrize("grace", ["0", "10", '"until_used"'])
async def test_two_hundred_at_once(clients, grace, is_long):
    both = await clients(JWT_REFRESH_GRACE=grace)
    token = (await both[0].post("/login")).json()["refresh"]
    for _ in range(100 if is_long else 3):
        answers = await ask(both, token, 200)
        statuses = sorted(answer.status_code for answer in answers)
        won = [answer.json() for answer in answers if answer.status_code == 200]
        if grace == "0":
            assert statuses == [200] + [401] * 199
            dead = await both[1].get("/me", headers={"Authorization": f"Bearer {won[0]['access']}"})
            assert dead.status_code == 401
            token = (await both[0].post("/login")).json()["refresh"]
            continue
        assert statuses == [200] * 200
        assert len({answer["jti"] for answer in won}) == 1
        for answer in random.sample(won, 5):
            alive = await both[1].get("/me", headers={"Authorization": f"Bearer {answer['access']}"})
            assert alive.status_code == 200
        token = random.choice(won)["refresh"]  # as each tab might be the first to come again


async def test_a_process_that_is_killed_leaves_a_session_that_goes_on(serve, redis_url):
    uri = f"{redis_url}?prefix=test-{uuid.uuid4().hex}:&deadline=5"
    settings = {"module": "rotating_sessions", "JWT_STORE_URI": uri, "JWT_REFRESH_GRACE": "60"}
    survivor = serve(**settings)
    doomed = [serve(**settings) for _ in STEPS]
    async with httpx.AsyncClient(timeout=10) as client:

        async def rotate(url, token, **headers):
            headers["Authorization"] = f"Bearer {token}"
            return await client.post(f"{url}/rotate", headers=headers)

        for url, step in zip(doomed, STEPS, strict=True):
            first = (await client.post(f"{survivor}/login")).json()["refresh"]
            with pytest.raises(httpx.TransportError):
                await rotate(url, first, Die=step)
            with pytest.raises(httpx.TransportError):
                await client.get(f"{url}/open")  # it is gone
            old = await rotate(survivor, first)
            assert old.status_code == 200, step
            new = await rotate(survivor, old.json()["refresh"])
            assert new.status_code == 200, step
            assert len({first, old.json()["refresh"], new.json()["refresh"]}) == 3
