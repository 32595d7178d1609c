"""Which event loop what runs on, in Flask: the process's own, a server's, or a view's."""

from __future__ import annotations

import asyncio
import importlib.metadata
import sys

import flask
import httpx
import jwt as pyjwt
import pytest
from asgiref.sync import sync_to_async

from async_jwt.adapters import flask as flask_adapter
from async_jwt.adapters import flask_sync
from async_jwt.adapters._background_loop import background_loop
from async_jwt.adapters._flask_loop import NOTE
from tests.harness import SECRET
from tests.harness.applications import served_by_asgi

ADAPTERS = pytest.mark.parametrize("api", [flask_sync, flask_adapter], ids=["flask_sync", "flask"])


class Client:
    """As an async driver: its connections belong to the event loop that opened them."""

    def __init__(self):
        self.loop = None
        self.opened = 0

    async def ask(self):
        running = asyncio.get_running_loop()
        if self.loop is None:
            self.loop, self.opened = running, self.opened + 1
        if self.loop is not running:
            message = "Event loop is closed" if self.loop.is_closed() else "attached to a different loop"
            raise RuntimeError(message)
        await asyncio.sleep(0)


def make(api=flask_adapter, **config):
    app = flask.Flask("tests")
    app.config.update({"JWT_SECRET_KEY": SECRET, "PROPAGATE_EXCEPTIONS": True, **config})
    jwt = api.JWTManager(app)
    client = Client()

    @jwt.user_lookup_loader
    async def load(_header, claims):
        await client.ask()
        return {"name": claims["sub"]}

    @app.get("/hook")
    @api.jwt_required()
    async def hook():
        return {"name": api.current_user["name"]}

    @app.get("/plain")
    @api.jwt_required()
    def plain():
        return {"name": api.current_user["name"]}

    @app.get("/both")
    @api.jwt_required()
    async def both():
        await client.ask()
        return {"name": api.current_user["name"]}

    return app, client


def bearer(app):
    claims = {"sub": "alice", "type": "access", "jti": "1"}
    return {"Authorization": f"Bearer {pyjwt.encode(claims, app.config['JWT_SECRET_KEY'])}"}


@ADAPTERS
def test_hooks_keep_their_client_from_request_to_request(api):
    app, client = make(api)
    asking = app.test_client()
    for path in ("/hook", "/plain", "/hook", "/plain"):
        assert asking.get(path, headers=bearer(app)).json == {"name": "alice"}
    assert client.opened == 1


def test_a_client_of_views_alone_fails_without_the_setting():
    """Why there is a setting: Flask ends the loop with the view."""
    app, _ = make()
    client = Client()

    @app.get("/own")
    async def own():
        await client.ask()
        return {}

    asking = app.test_client()
    assert asking.get("/own").status_code == 200
    with pytest.raises(RuntimeError, match="Event loop is closed") as caught:
        asking.get("/own")
    assert caught.value.__notes__ == [NOTE]
    assert "JWT_SHARED_LOOP" in NOTE


def test_a_client_shared_with_a_view_is_explained():
    app, _ = make()
    with pytest.raises(RuntimeError, match="attached to a different loop") as caught:
        app.test_client().get("/both", headers=bearer(app))
    assert caught.value.__notes__ == [NOTE]


def test_other_errors_get_no_note():
    app, _ = make()

    @app.get("/wrong")
    @flask_adapter.jwt_required()
    async def wrong():
        try:
            {}["first"]
        except KeyError as error:
            raise LookupError("mine") from error

    with pytest.raises(LookupError, match="mine") as caught:
        app.test_client().get("/wrong", headers=bearer(app))
    assert not hasattr(caught.value, "__notes__")


@ADAPTERS
def test_with_the_setting_views_share_the_hooks_loop(api):
    app, client = make(api, JWT_SHARED_LOOP=True)
    asking = app.test_client()
    for path in ("/both", "/hook", "/plain", "/both"):
        assert asking.get(path, headers=bearer(app)).json == {"name": "alice"}
    assert client.opened == 1


def test_the_setting_is_live_and_reaches_everything_async():
    app, _ = make(JWT_SHARED_LOOP=True)
    ran = []

    def note(name):
        ran.append((name, asyncio.get_running_loop() is background_loop()._loop, flask.request.path))

    @app.before_request
    async def before():
        note("before")
        flask.g.count = 1

    @app.after_request
    async def after(response):
        note("after")
        response.headers["X-Count"] = str(flask.g.count)
        return response

    @app.teardown_request
    async def teardown(_error):
        note("teardown")

    @app.errorhandler(LookupError)
    async def handle(_error):
        note("handler")
        return {"handled": True}, 418

    @app.get("/raise")
    @flask_adapter.jwt_required()
    async def fail():
        flask.g.count += 1
        raise LookupError

    @app.get("/copied")
    @flask_adapter.jwt_required()
    async def copied():
        found = []
        work = flask.copy_current_request_context(lambda: found.append(flask_adapter.get_jwt_identity()))
        await asyncio.to_thread(work)
        return {"found": found}

    asking = app.test_client()
    answer = asking.get("/raise", headers=bearer(app))
    assert (answer.status_code, answer.headers["X-Count"]) == (418, "2")
    assert [name for name, _, _ in ran] == ["before", "handler", "after", "teardown"]
    assert all(shared and path == "/raise" for _, shared, path in ran)
    assert asking.get("/copied", headers=bearer(app)).json == {"found": ["alice"]}
    app.config["JWT_SHARED_LOOP"] = False
    assert asking.get("/raise", headers=bearer(app)).status_code == 418
    assert not ran[-1][1]


@pytest.mark.skipif(
    tuple(map(int, importlib.metadata.version("flask").split("."))) < (3, 1, 2),
    reason="before 3.1.2 Flask's stream_with_context fails in every async view",
)
def test_a_shared_view_may_stream():
    app, _ = make(JWT_SHARED_LOOP=True)

    @app.get("/stream")
    @flask_adapter.jwt_required()
    async def stream():
        return flask.Response(flask.stream_with_context(flask_adapter.get_jwt_identity() for _ in range(2)))

    assert app.test_client().get("/stream", headers=bearer(app)).text == "alicealice"


def test_what_a_shared_view_raises_leaves_the_loop_alive():
    app, client = make(JWT_SHARED_LOOP=True)

    @app.get("/exit")
    @flask_adapter.jwt_required()
    async def leave():
        sys.exit(3)

    asking = app.test_client()
    assert asking.get("/both", headers=bearer(app)).status_code == 200
    with pytest.raises(SystemExit):
        asking.get("/exit", headers=bearer(app))
    assert asking.get("/both", headers=bearer(app)).status_code == 200
    assert client.opened == 1


async def ask(app, *paths):
    transport = httpx.ASGITransport(app=served_by_asgi(app))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answers = await asyncio.gather(*(client.get(path, headers=bearer(app)) for path in paths))
    return [answer.json() for answer in answers]


@pytest.mark.asyncio
@pytest.mark.parametrize("shared", [False, True])
@ADAPTERS
async def test_under_asgi_the_servers_loop_is_the_one_that_lasts(api, shared):
    app, client = make(api, JWT_SHARED_LOOP=shared)
    for _ in range(2):
        answers = await ask(app, "/both", "/plain", "/hook", "/both", "/plain")
        assert answers == [{"name": "alice"}] * 5
    assert client.loop is asyncio.get_running_loop()
    assert client.opened == 1


@pytest.mark.asyncio
async def test_under_asgi_plain_views_wait_without_an_event_loop_of_their_own():
    """What a hook hands to the request's own thread finds it while it waits."""
    app, _ = make(flask_sync)

    @app.extensions["flask-jwt-extended"].token_verification_loader
    async def verify(_header, _claims):
        return await sync_to_async(lambda: bool(flask.request.path))()

    assert await ask(app, "/plain", "/both") == [{"name": "alice"}] * 2


@pytest.mark.asyncio
async def test_under_asgi_a_blocking_call_in_an_async_view_is_refused():
    app, _ = make(flask_sync)

    @app.get("/wrong")
    async def wrong():
        try:
            flask_sync.verify_jwt_in_request()
        except RuntimeError as error:
            return {"said": str(error)}
        raise AssertionError("it blocked")

    [answer] = await ask(app, "/wrong")
    assert "await the function of the same name" in answer["said"]


@pytest.mark.asyncio
async def test_a_thread_of_a_view_with_its_own_loop_is_no_servers():
    """Where an async view under WSGI uses threads, its loop is still one that ends."""
    app, client = make()

    @app.get("/thread")
    async def thread():
        verify = sync_to_async(flask_sync.verify_jwt_in_request)
        await verify()
        return {"name": flask_sync.get_jwt_identity()}

    asking = app.test_client()
    for _ in range(2):
        assert (await asyncio.to_thread(asking.get, "/thread", headers=bearer(app))).json == {"name": "alice"}
    assert client.loop is background_loop()._loop
