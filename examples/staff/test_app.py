"""Customers and staff, who meet nowhere."""

import pytest

from async_jwt.testing import assert_protected, frozen_clock, jwt_client
from examples.staff.app import STAFF, create_app

pytestmark = pytest.mark.asyncio


@pytest.fixture
def app(monkeypatch):
    monkeypatch.setitem(STAFF, "mary", ("notes", ["clerk", "manager"]))
    app = create_app()
    app.config["JWT_REALMS"]["staff"]["JWT_COOKIE_SECURE"] = False
    return app


async def staff(app, name, password):
    client = app.test_client()
    answer = await client.post("/staff/login", form={"name": name, "password": password})
    return client, answer


def csrf(client):
    return {cookie.name: cookie.value for cookie in client.cookie_jar}["staff_csrf_access_token"]


async def post(client, path, **form):
    return await client.post(path, form={"csrf_token": csrf(client), **form})


async def test_each_kind_signs_in_by_itself(app):
    client, answer = await staff(app, "ada", "engine")
    assert answer.status_code == 302
    assert "ada: clerk" in (await (await client.get("/staff/")).get_data()).decode()
    assert (await client.get("/orders")).status_code == 401  # the customer ada is someone else
    answer = await app.test_client().post("/login", json={"name": "ada", "password": "analytical"})
    bearer = {"Authorization": f"Bearer {(await answer.get_json())['access_token']}"}
    assert (await app.test_client().get("/orders", headers=bearer)).status_code == 200
    assert (await app.test_client().get("/staff/", headers=bearer)).status_code == 401
    assert (await staff(app, "ada", "analytical"))[1].status_code == 401


async def test_staff_confirm_what_cannot_be_taken_back(app):
    with frozen_clock(app) as clock:
        client, _ = await staff(app, "ada", "engine")
        assert (await post(client, "/staff/refunds/7")).status_code == 200
        clock.tick(121)
        answer = await post(client, "/staff/refunds/7")
        assert (await answer.get_json())["code"] == "fresh_token_required"
        assert (await post(client, "/staff/confirm", password="guess")).status_code == 403
        assert (await post(client, "/staff/confirm", password="engine")).status_code == 302
        assert (await post(client, "/staff/refunds/7")).status_code == 200
        clock.tick(9 * 3600)
        answer = await client.get("/staff/")
        assert answer.status_code == 401


async def test_a_manager_signs_a_customer_out_and_nobody_else(app):
    customer, other = (
        jwt_client(app, "ada"),
        jwt_client(app, "ada", realm="staff", location="cookies", roles="clerk"),
    )
    assert (await customer.get("/orders")).status_code == 200
    clerk, _ = await staff(app, "ada", "engine")
    assert (await post(clerk, "/staff/customers/ada/sign-out")).status_code == 403
    manager, _ = await staff(app, "mary", "notes")
    assert (await post(manager, "/staff/customers/ada/sign-out")).status_code == 200
    assert (await customer.get("/orders")).status_code == 401
    assert (await other.get("/staff/")).status_code == 200


async def test_a_role_that_was_taken_away_is_gone_with_the_next_token(app, monkeypatch):
    with frozen_clock(app) as clock:
        client, _ = await staff(app, "mary", "notes")
        monkeypatch.setitem(STAFF, "mary", ("notes", ["clerk"]))
        clock.tick(301)
        page = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "same-origin"}
        assert (await client.get("/staff/", headers=page)).status_code == 200  # renewed by the refresh cookie
        assert (await post(client, "/staff/customers/ada/sign-out")).status_code == 403


async def test_signing_out_and_the_rest(app):
    client, _ = await staff(app, "mary", "notes")
    assert (await client.post("/staff/logout")).status_code == 302
    assert (await client.get("/staff/")).status_code == 401
    customer = jwt_client(app, "ada", type="refresh")
    assert (await customer.post("/refresh")).status_code == 200
    assert (await app.test_client().post("/login", json={"name": "ada", "password": "x"})).status_code == 401
    assert await (await app.test_client().get("/staff/login")).get_data()
    assert_protected(app, public=["customer_login", "staff.login", "staff.logout"])
