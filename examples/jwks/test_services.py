"""Both services in one process: the second asks the first one's application for its keys."""

import httpx
import pytest

from async_jwt import Key, KeyFolder
from examples.jwks import accounts, notes

pytestmark = pytest.mark.asyncio


async def sign_in(client):
    answer = await client.post("/login", json={"name": "ada", "password": "analytical"})
    return (await answer.get_json())["access_token"]


async def test_keys_are_fetched_and_rotated(tmp_path):
    folder = KeyFolder(tmp_path / "keys")
    folder.put(Key.generate("ES256", "first"))
    issuing = accounts.create_app(JWT_KEY_FOLDER=str(tmp_path / "keys"))
    believing = notes.create_app(httpx.ASGITransport(app=issuing))
    async with issuing.test_app(), believing.test_app():
        there, here = issuing.test_client(), believing.test_client()

        async def status(token):
            answer = await here.get("/notes", headers={"Authorization": f"Bearer {token}"})
            return answer.status_code

        token = await sign_in(there)
        assert await status(token) == 200
        published = await (await there.get("/.well-known/jwks.json")).get_json()
        assert [key["kid"] for key in published["keys"]] == ["first"]
        assert "d" not in published["keys"][0]
        stranger = accounts.create_app(
            JWT_KEY_FOLDER=None, JWT_SECRET_KEY="a secret that the other service does not know at all"
        )
        async with stranger.test_app():
            assert await status(await sign_in(stranger.test_client())) == 401
        elsewhere = accounts.create_app(
            JWT_KEY_FOLDER=str(tmp_path / "keys"), JWT_ENCODE_AUDIENCE="another service"
        )
        async with elsewhere.test_app():
            assert await status(await sign_in(elsewhere.test_client())) == 401
    # Another process signs with a new key: it is fetched at its first token.
    folder.put(Key.generate("ES256", "second"))
    renewed = accounts.create_app(JWT_KEY_FOLDER=str(tmp_path / "keys"))
    later = notes.create_app(httpx.ASGITransport(app=renewed))
    async with renewed.test_app(), later.test_app():
        answer = await later.test_client().get("/notes", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200  # of the first key, which is still published
