"""Flask on an async ORM, for real: SQLAlchemy on asyncpg and PostgreSQL, revocations in Redis."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import jwt as pyjwt
import pytest

from tests.harness import SECRET
from tests.harness.servers import free_port
from tests.integration.conftest import ROOT

SERVERS = {
    "gunicorn": ("-m gunicorn -k gthread -w 1 --threads 16 -b 127.0.0.1:{port} {module}:app", "true"),
    "gunicorn, preloaded": (
        "-m gunicorn -k gthread -w 2 --threads 8 --preload -b 127.0.0.1:{port} {module}:app",
        "true",
    ),
    "Hypercorn": ("-m hypercorn --bind 127.0.0.1:{port} {module}:asgi", "false"),
    "Uvicorn": ("-m uvicorn --lifespan off --host 127.0.0.1 --port {port} {module}:asgi", "false"),
}


@contextmanager
def serving(command: str, environment: dict[str, str], log: Path, module: str) -> Iterator[str]:
    port = free_port()
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, *command.format(port=port, module=module).split()],
            cwd=ROOT,
            env={**os.environ, "PYTHONWARNINGS": "ignore", **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            for _ in range(200):
                try:
                    httpx.get(f"http://127.0.0.1:{port}/nothing")
                    break
                except httpx.TransportError:
                    time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                server.kill()
                raise


def bearer(number: int, **more: Any) -> dict[str, str]:
    token = pyjwt.encode(
        {"sub": str(number), "jti": "1", "type": "access", "exp": time.time() + 600, **more}, SECRET
    )
    return {"Authorization": f"Bearer {token}"}


def sessions_of(url: str) -> int:
    """How many sessions the database has ever seen, but for those of this function."""

    async def ask() -> int:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute("SELECT pg_stat_force_next_flush()")
            return await connection.fetchval(
                "SELECT sessions FROM pg_stat_database WHERE datname = current_database()"
            )
        finally:
            await connection.close()

    return asyncio.run(ask())


@pytest.mark.parametrize("server", SERVERS)
def test_hooks_and_views_share_one_pool(server, postgres_url, redis_url, tmp_path, is_long):
    requests = 500 if is_long else 200
    command, shared = SERVERS[server]
    environment = {
        "DATABASE_URL": postgres_url.replace("postgresql://", "postgresql+asyncpg://"),
        "FLASK_JWT_SECRET_KEY": SECRET,
        "FLASK_JWT_SHARED_LOOP": shared,
        "FLASK_JWT_STORE_URI": f"{redis_url}?deadline=5&prefix=orm-{time.time_ns()}:",
    }
    filled = [sys.executable, "-c", "import asyncio, tests.integration.orm_app as o; asyncio.run(o.fill())"]
    subprocess.run(filled, cwd=ROOT, env={**os.environ, **environment}, check=True, timeout=60)
    log = tmp_path / "log"
    with serving(command, environment, log, "tests.integration.orm_app") as address:
        before = sessions_of(postgres_url)
        answers: list[tuple[int, str, httpx.Response]] = []
        paths = cycle(("/hook", "/plain", "/both"))
        with httpx.Client(base_url=address, timeout=30, limits=httpx.Limits(max_connections=16)) as client:

            def ask(number: int, path: str) -> None:
                user = number % 20 + 1
                answers.append((user, path, client.get(path, headers=bearer(user))))

            with ThreadPoolExecutor(16) as pool:
                list(pool.map(ask, range(requests), (next(paths) for _ in range(requests))))
            gone = bearer(7, jti="gone")
            assert client.post("/logout", headers=gone).status_code == 200
            assert client.get("/both", headers=gone).json()["code"] == "token_revoked"
            assert client.get("/both", headers=bearer(99)).json()["code"] == "user_not_found"
        assert len(answers) == requests
        for user, path, answer in answers:
            assert answer.status_code == 200, (path, answer.text, log.read_text())
            assert answer.json()["name"] == f"user{user}"
        processes = {answer.json()["process"] for _, _, answer in answers}
        backends = {answer.json()["backend"] for _, path, answer in answers if path == "/both"}
        assert len(backends) <= 5 * len(processes)
        # No new connection per request: the pools' own, and the two that ask here.
        assert sessions_of(postgres_url) - before <= 5 * len(processes) + 2
        # 16 threads serve, 5 the rest: none is left over of 500 requests.
        assert max(answer.json()["threads"] for _, _, answer in answers[-50:]) <= 16 + 8
    assert "Traceback" not in log.read_text()


def test_without_the_shared_loop_the_same_engine_fails(postgres_url, tmp_path):
    """Why there is one. The same pool, asked by an async view of Flask alone."""
    code = """
import asyncio, os, sys
from flask import Flask
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
app = Flask("plain")
engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=5)
@app.get("/")
async def view():
    async with engine.connect() as connection:
        return {"one": await connection.scalar(text("select 1"))}
client = app.test_client()
app.config["PROPAGATE_EXCEPTIONS"] = True
print(client.get("/").json)
try:
    client.get("/")
except BaseException as error:
    while error is not None:
        print(error)
        error = error.__cause__ or error.__context__
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "DATABASE_URL": postgres_url.replace("postgresql://", "postgresql+asyncpg://")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "{'one': 1}" in done.stdout
    assert "Event loop is closed" in done.stdout or "attached to a different loop" in done.stdout


TORTOISE = """
import asyncio, os, threading
from flask import Flask
from tortoise import Tortoise, fields
from tortoise.models import Model
from async_jwt.adapters.flask import JWTManager, create_access_token, current_user, jwt_required

class Person(Model):
    id = fields.IntField(primary_key=True)
    name = fields.CharField(max_length=50)

app = Flask("tortoise")
app.config.update(JWT_SECRET_KEY="x" * 64, JWT_SHARED_LOOP=True, PROPAGATE_EXCEPTIONS=True)
jwt = JWTManager(app)
ready = None

async def connected():
    global ready
    if ready is None:
        ready = asyncio.ensure_future(start())
    await asyncio.shield(ready)

async def start():
    await Tortoise.init(
        db_url=os.environ["DATABASE_URL"].replace("postgresql://", "asyncpg://"),
        modules={"models": ["__main__"]}, _enable_global_fallback=True,
    )
    await Tortoise.generate_schemas()
    await Person.update_or_create(id=1, defaults={"name": "ada"})

@jwt.user_lookup_loader
async def load(_header, claims):
    await connected()
    return await Person.get_or_none(id=int(claims["sub"]))

@app.get("/me")
@jwt_required()
async def me():
    return {"name": current_user.name, "people": await Person.all().count()}

@app.get("/token")
async def token():
    return {"token": await create_access_token("1")}

@app.get("/close")
async def close():
    await Tortoise.close_connections()
    return {}

client = app.test_client()
bearer = {"Authorization": "Bearer " + client.get("/token").json["token"]}
found = []
def ask():
    for _ in range(10):
        found.append(app.test_client().get("/me", headers=bearer).json)
threads = [threading.Thread(target=ask) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
client.get("/close")
assert found == [{"name": "ada", "people": 1}] * 80, found
"""


def test_tortoise_works_as_well(postgres_url, tmp_path):
    script = tmp_path / "app.py"
    script.write_text(TORTOISE)
    subprocess.run(
        [sys.executable, "-W", "ignore", str(script)],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": postgres_url, "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=60,
    )
