"""The notebook's tests, for its two authors: whichever framework it runs on, they read alike."""

import inspect

import pytest

from async_jwt.testing import assert_protected
from examples.three import flask_plain, quart_app

pytestmark = pytest.mark.asyncio


@pytest.fixture(params=[flask_plain, quart_app], ids=["flask", "quart"])
def app(request):
    return request.param.app


async def settled(answer):
    return await answer if inspect.isawaitable(answer) else answer


async def test_an_editor_writes(jwt_client):
    editor = jwt_client("ada")
    response = await settled(editor.post("/notes", json={"text": "Weave flowers and leaves"}))
    assert response.status_code == 201


async def test_a_reader_does_not(jwt_client):
    response = await settled(jwt_client("grace").post("/notes", json={"text": "A moth"}))
    assert response.status_code == 403


async def test_notes_are_cleared_after_a_login_just_now(jwt_client):
    assert (await settled(jwt_client("ada").delete("/notes"))).status_code == 401
    assert (await settled(jwt_client("ada", fresh=True).delete("/notes"))).status_code == 200


async def test_half_an_hour_is_enough(jwt_client, jwt_clock):
    reader = jwt_client("grace")
    assert (await settled(reader.get("/notes"))).status_code == 200
    jwt_clock.tick(30 * 60)
    response = await settled(reader.get("/notes"))
    assert await settled(response.get_json()) == {"msg": "Sign in again, grace"}


async def test_strangers_are_greeted_and_read_nothing(app):
    assert_protected(app, public=["hello", "login"])
