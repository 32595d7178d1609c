"""Two people talk, and one signs out."""

import contextlib

import pytest
from quart.testing import connections

from examples.chat.app import create_app

pytestmark = pytest.mark.asyncio

# How the test client tells that a socket was closed. From Quart 0.23 on it does not.
ENDED = getattr(connections, "WebsocketDisconnectError", ())


async def sign_in(client, name, password):
    answer = await (await client.post("/login", json={"name": name, "password": password})).get_json()
    return answer["access_token"]


async def test_two_people_talk_until_one_signs_out():
    app = create_app(JWT_SECRET_KEY="a secret for the tests of this example alone")
    async with app.test_app():
        client = app.test_client()
        ada = await sign_in(client, "ada", "analytical")
        grace = await sign_in(client, "grace", "hopper")
        header = {"Authorization": f"Bearer {grace}"}
        offered = {"Sec-WebSocket-Protocol": f"bearer, {ada}"}  # what a browser sends of ["bearer", ada]
        async with client.websocket("/chat", headers=offered) as one:
            with contextlib.suppress(ENDED):
                async with client.websocket("/chat", headers=header) as two:
                    await one.send("Hello")
                    heard = {"from": "ada", "text": "Hello"}
                    assert await one.receive_json() == await two.receive_json() == heard
                    await two.send("Hello to you")
                    assert (await one.receive_json())["from"] == "grace"
                    assert (await client.post("/logout", headers=header)).status_code == 200
                    await two.send("Still here")
            await one.send("Anybody?")
            assert (await one.receive_json())["text"] == "Anybody?"


async def test_nobody_enters_without_a_token():
    app = create_app(JWT_SECRET_KEY="a secret for the tests of this example alone")
    async with app.test_app():
        with pytest.raises(Exception) as refused:  # noqa: PT011  # the test client's own, which carries the answer
            async with app.test_client().websocket("/chat") as socket:
                await socket.receive()
        assert refused.value.response.status_code == 401
