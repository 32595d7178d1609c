"""The demo's tests. Signed-in clients make logins, clocks and outages one line each."""

import pytest
import pytest_asyncio

from async_jwt.testing import assert_protected
from examples.demo.app import all_users, create_app

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def app(tmp_path):
    app = create_app(
        {
            "JWT_SECRET_KEY": "a secret for the demo's tests, and for nothing else",
            "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/users.db",
            "USERS": {"ada": "analytical engine"},
        }
    )
    async with app.test_app():
        yield app


@pytest_asyncio.fixture
async def ada(app):
    async with app.app_context():
        return await all_users().with_password("ada", "analytical engine")


async def test_who_one_is(jwt_client, ada):
    response = await jwt_client(ada).get("/api/me")
    assert await response.get_json() == {"id": ada.id, "name": "ada"}


async def test_an_account_is_deleted_after_a_login_just_now(jwt_client, ada):
    assert (await jwt_client(ada).delete("/api/me")).status_code == 401
    assert (await jwt_client(ada, fresh=True).delete("/api/me")).status_code == 200
    assert (await jwt_client(ada).get("/api/me")).status_code == 401


async def test_pages_know_their_cookies(jwt_client, ada):
    response = await jwt_client(ada, location="cookies").get("/account", scheme="https")
    assert "ada" in await response.get_data(as_text=True)
    assert (await jwt_client(ada, location="cookies", expired=True).get("/account")).status_code == 401


async def test_an_outage_signs_nobody_out(jwt_client, jwt_outage, ada):
    client = jwt_client(ada)
    assert (await client.get("/api/me")).status_code == 200
    with jwt_outage():
        response = await client.get("/api/me")
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert (await client.get("/api/me")).status_code == 200


async def test_the_notice_board(jwt_client, ada):
    async with jwt_client(ada).websocket("/live/socket") as socket:
        await socket.send("Hello")
        assert await socket.receive_json() == {"name": "ada", "text": "Hello"}
        await socket.close(1000)


async def test_nobody_forgot_to_protect_a_view(app):
    opened = ("index", "login_form", "login_with_form", "logout_with_cookies")
    assert_protected(app, public=["api.login", *(f"pages.{name}" for name in opened)])
