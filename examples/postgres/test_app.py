"""On a real PostgreSQL server: `DATABASE_URL`, or one that is started here."""

import uuid

import pytest
import pytest_asyncio

from async_jwt.testing import assert_protected
from examples.postgres.app import create_app

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def app(postgres_url):
    url = postgres_url.replace("postgresql://", "postgresql+asyncpg://")
    app = create_app(DATABASE_URL=url, JWT_SECRET_KEY="a secret for the tests of this example alone")
    async with app.test_app():
        yield app


async def test_notes_are_their_owners(app):
    assert_protected(app)
    client = app.test_client()
    names = [f"ada {uuid.uuid4()}", f"grace {uuid.uuid4()}"]
    tokens = []
    for name in names:
        sent = {"name": name, "password": "a password"}
        assert (await client.post("/users", json=sent)).status_code == 201
        assert (await client.post("/users", json=sent)).status_code == 409
        assert (await client.post("/login", json={**sent, "password": "wrong"})).status_code == 401
        signed_in = await (await client.post("/login", json=sent)).get_json()
        tokens.append({"Authorization": f"Bearer {signed_in['access_token']}"})
    assert (await client.get("/notes")).status_code == 401
    await client.post("/notes", json={"text": "Call Babbage"}, headers=tokens[0])
    found = [await (await client.get("/notes", headers=token)).get_json() for token in tokens]
    assert found == [{"of": names[0], "notes": ["Call Babbage"]}, {"of": names[1], "notes": []}]
    assert (await client.delete("/me", headers=tokens[0])).status_code == 200
    gone = await client.get("/notes", headers=tokens[0])
    assert (gone.status_code, (await gone.get_json())["code"]) == (401, "user_not_found")
