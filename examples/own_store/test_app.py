"""Two processes' worth of applications share one database. What stores promise is tested beside it."""

import pytest

from examples.own_store.app import create_app

pytestmark = pytest.mark.asyncio


async def test_a_sign_out_counts_in_every_application_and_after_a_restart(tmp_path):
    config = {
        "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/revocations.db",
        "JWT_SECRET_KEY": "a secret for the tests of this example alone",
    }
    first, second = create_app(**config), create_app(**config)
    async with first.test_app(), second.test_app():
        here, there = first.test_client(), second.test_client()
        tokens = []
        for _ in range(3):
            answer = await here.post("/login", json={"name": "ada", "password": "analytical"})
            tokens.append({"Authorization": f"Bearer {(await answer.get_json())['access_token']}"})

        async def statuses(client):
            return [(await client.get("/me", headers=token)).status_code for token in tokens]

        assert await statuses(there) == [200, 200, 200]
        await here.post("/logout", headers=tokens[0])
        assert await statuses(there) == [401, 200, 200]
        await there.post("/logout-everywhere", headers=tokens[1])
        assert await statuses(here) == [401, 401, 401]
    third = create_app(**config)
    async with third.test_app():
        assert await statuses(third.test_client()) == [401, 401, 401]
