"""On SQLite, in a file of its own."""

import pytest

from examples.tortoise.app import create_app

pytestmark = pytest.mark.asyncio


async def test_a_reader_has_a_shelf(tmp_path):
    secret = "a secret for the tests of this example alone"
    app = create_app(DATABASE=f"sqlite://{tmp_path}/books.db", JWT_SECRET_KEY=secret)
    async with app.test_app():
        client = app.test_client()
        headers = []
        for name in ("ada", "grace"):
            answer = await (await client.post("/login", json={"name": name})).get_json()
            headers.append({"Authorization": f"Bearer {answer['access_token']}"})
        assert (await client.post("/books", json={"title": "Sketch"}, headers=headers[0])).status_code == 201
        shelves = [await (await client.get("/books", headers=each)).get_json() for each in headers]
        assert shelves == [{"reader": "ada", "books": ["Sketch"]}, {"reader": "grace", "books": []}]
        assert (await client.get("/books")).status_code == 401
