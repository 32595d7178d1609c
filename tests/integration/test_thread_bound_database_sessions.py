"""Plain views and plain hooks share a thread, whatever else is set: sessions that belong to a thread work."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import scoped_session, sessionmaker

from tests.harness.applications import NEEDS_QUART, quart, quart_adapter, served_by_asgi
from tests.integration.thread_bound import (
    KINDS,
    SECRET,
    SETTINGS,
    Base,
    User,
    client_of,
    exercise,
    look_after,
    make,
    visit,
)

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_writes_are_kept_and_nothing_is_left_over(kind, setting, tmp_path, redis_url):
    made = make(kind, setting, tmp_path, redis_url)
    exercise(made, client_of(made[0]))


@pytest.mark.parametrize(
    ("kind", "mode"), [("scoped_session", "fork"), ("scoped_session", "gevent"), ("peewee", "gevent")]
)
def test_in_a_forked_worker_and_under_gevent(kind, mode, tmp_path, redis_url):
    command = [sys.executable, "-m", "tests.integration.thread_bound"]
    done = subprocess.run(
        [*command, kind, "all at once", mode, str(tmp_path), redis_url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", KINDS)
async def test_under_an_asgi_server(kind, tmp_path, redis_url):
    app, kept, jwt = make(kind, "all at once", tmp_path, redis_url)
    asgi, loop = served_by_asgi(app), asyncio.get_running_loop()

    async def ask(method, path, token):
        transport = httpx.ASGITransport(app=asgi)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answer = await client.request(method, path, headers={"Authorization": f"Bearer {token}"})
        return answer.status_code, answer.json()

    def send(method, path, token):
        return asyncio.run_coroutine_threadsafe(ask(method, path, token), loop).result(60)

    def mint(key):
        with app.app_context():
            return jwt.create_access_token(str(key))

    tokens = [await asyncio.to_thread(mint, key) for key in range(16)]
    failures = []
    await asyncio.gather(
        *(asyncio.to_thread(visit, key, token, send, failures) for key, token in enumerate(tokens))
    )
    assert failures == []
    await asyncio.to_thread(look_after, kept, tokens[0], send)
    await asyncio.to_thread(jwt.close)  # where the tokens were made
    await app.extensions["async_jwt"].close()  # and where the requests were served


@NEEDS_QUART
@pytest.mark.asyncio
async def test_in_quart_a_session_of_the_request_serves_plain_hooks_and_plain_views(tmp_path):
    """The way that the guide on users shows."""
    engine = create_engine(f"sqlite:///{tmp_path / 'users.db'}", connect_args={"check_same_thread": False})
    db = scoped_session(sessionmaker(engine), scopefunc=lambda: id(quart.g._get_current_object()))
    app = quart.Quart("tests")
    app.config["JWT_SECRET_KEY"] = SECRET
    jwt = quart_adapter.JWTManager(app)
    app.teardown_request(lambda _: db.remove())

    @jwt.user_lookup_loader
    def load(_header, claims):
        user = db.get(User, int(claims["sub"]))
        return user if user.active else None

    @app.post("/rename/<name>")
    @quart_adapter.jwt_required()
    def rename(name):
        quart_adapter.current_user.name = name
        db.commit()
        return {"name": quart_adapter.current_user.name}

    def seed():
        Base.metadata.create_all(engine)
        with sessionmaker(engine)() as session:
            session.add_all(User(id=key, name="nobody", active=True) for key in range(8))
            session.commit()

    def look():
        with sessionmaker(engine)() as session:
            names = [name for (name,) in session.query(User.name).order_by(User.id)]
            session.query(User).filter_by(id=0).update({"active": False})
            session.commit()
        return names

    await asyncio.to_thread(seed)

    async def visit(key):
        token = await jwt.create_access_token(str(key))
        for number in range(5):
            answer = await app.test_client().post(
                f"/rename/user{key}-{number}", headers={"Authorization": f"Bearer {token}"}
            )
            assert await answer.get_json() == {"name": f"user{key}-{number}"}
        return token

    tokens = await asyncio.gather(*map(visit, range(8)))
    assert await asyncio.to_thread(look) == [f"user{key}-4" for key in range(8)]
    answer = await app.test_client().post("/rename/x", headers={"Authorization": f"Bearer {tokens[0]}"})
    assert answer.status_code == 401
    assert engine.pool.checkedout() == 0
    engine.dispose()
