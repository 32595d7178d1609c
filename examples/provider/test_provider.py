"""The provider under Hypercorn, which rotates its keys while the API is in use."""

import asyncio

import httpx
import hypercorn.asyncio
import hypercorn.config
import jwt
import pytest
import pytest_asyncio

from async_jwt import Key, KeyRing
from examples.conftest import free_port
from examples.provider import api, provider

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def issuing():
    """A provider that is served, and the ring of its keys."""
    ring = KeyRing(Key.generate("ES256", "first"), retention=3600)
    url = f"http://localhost:{free_port()}"
    app = provider.create_app(ring, JWT_ENCODE_ISSUER=url)
    config = hypercorn.config.Config.from_mapping(bind=[url.removeprefix("http://")], errorlog=None)
    stop, started = asyncio.Event(), asyncio.Event()
    app.before_serving(started.set)
    serving = asyncio.create_task(hypercorn.asyncio.serve(app, config, shutdown_trigger=stop.wait))
    await asyncio.wait_for(started.wait(), 20)
    yield url, ring
    stop.set()
    await serving


async def test_the_keys_are_rotated_while_the_api_is_in_use(issuing):
    issuer, ring = issuing
    orders, transport = api.create_app(issuer), httpx.AsyncHTTPTransport(retries=5)
    async with orders.test_app(), httpx.AsyncClient(base_url=issuer, transport=transport) as client:

        async def sign_in():
            answer = await client.post("/token", json={"name": "ada", "password": "analytical"})
            return answer.json()["access_token"]

        async def ask(token):
            answer = await orders.test_client().get("/orders", headers={"Authorization": f"Bearer {token}"})
            return answer.status_code, await answer.get_json()

        first = await sign_in()
        assert await ask(first) == (200, {"orders_of": "ada", "says": issuer})
        assert jwt.get_unverified_header(first)["typ"] == "at+jwt"

        in_use = asyncio.Event()
        seen = []

        async def use():
            while not in_use.is_set():
                token = await sign_in()
                seen.append((jwt.get_unverified_header(token)["kid"], (await ask(token))[0]))

        users = [asyncio.create_task(use()) for _ in range(4)]
        await asyncio.sleep(0.2)
        ring.announce(Key.generate("ES256", "second"))
        ring.sign_with("second")
        await asyncio.sleep(0.3)
        in_use.set()
        await asyncio.gather(*users)
        assert {*seen} == {("first", 200), ("second", 200)}
        assert (await ask(first))[0] == 200

        # A key that is retired is published no longer; who has it makes no token that counts.
        stranger = provider.create_app(JWT_ENCODE_ISSUER=issuer)
        async with stranger.test_app():
            answer = await stranger.test_client().post(
                "/token", json={"name": "ada", "password": "analytical"}
            )
            assert (await ask((await answer.get_json())["access_token"]))[0] == 401
