"""The other service is played by a transport that notes which loop it was asked on."""

import asyncio

import httpx

from examples.flask_async.app import create_app


def test_views_and_hooks_share_a_loop_and_a_client():
    loops = set()

    async def answer(request):
        loops.add(asyncio.get_running_loop())
        if request.url.path == "/users/ada":
            return httpx.Response(200, json={"name": "ada", "town": "London"})
        if request.url.path == "/weather/London":
            return httpx.Response(200, json={"sky": "rain"})
        return httpx.Response(404)

    app = create_app(
        httpx.MockTransport(answer), JWT_SECRET_KEY="a secret for the tests of this example alone"
    )
    client = app.test_client()

    def weather(name):
        token = client.post("/login", json={"name": name}).get_json()["access_token"]
        return client.get("/weather", headers={"Authorization": f"Bearer {token}"})

    for _ in range(2):
        assert weather("ada").get_json() == {"for": "ada", "sky": "rain"}
    assert weather("nobody").get_json()["code"] == "user_not_found"
    assert client.get("/weather").status_code == 401
    assert len(loops) == 1
