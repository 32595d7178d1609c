"""What is left over in a process of Flask after a day's work: nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT

APPLICATION = """
import asyncio, gc, logging, os, sys, threading, time
import flask
from async_jwt.adapters import flask as api
from async_jwt.adapters._background_loop import background_loop

logging.disable()
app = flask.Flask("left over")
app.config.update(
    JWT_SECRET_KEY="x" * 64, JWT_STORE_URI=os.environ["STORE"], JWT_SHARED_LOOP=SHARED, JWT_HOOK_TIMEOUT=0.25
)
jwt = api.JWTManager(app)

@jwt.user_lookup_loader
async def load(_header, claims):
    if claims["sub"] == "slow":
        await asyncio.sleep(30)
    if claims["sub"] == "exit":
        sys.exit(4)
    return claims["sub"]

@jwt.token_verification_loader
def verify(_header, _claims):
    return True

@app.get("/me")
@api.jwt_required()
async def me():
    return {"name": str(api.current_user)}

@app.get("/plain")
@api.jwt_required()
def plain():
    return {"name": str(api.current_user)}

@app.get("/exit")
@api.jwt_required()
async def leave():
    sys.exit(3)

@app.get("/raise")
@api.jwt_required()
async def fail():
    raise LookupError

@app.get("/fork")
@api.jwt_required()
def fork():
    child = os.fork()
    if child == 0:  # in the middle of a request: the child serves on, with a loop of its own
        answer = app.test_client().get("/plain", headers=bearer["alice"])
        os._exit(0 if answer.json == {"name": "alice"} else 1)
    return {"child": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}

def token(name):
    return {"Authorization": "Bearer " + background_loop().run(jwt.create_access_token(name))}

with app.app_context():
    bearer = {name: token(name) for name in ("alice", "slow", "exit")}
client = app.test_client()

def ask(path, name="alice"):
    return client.get(path, headers=bearer[name])

def leaves(path, name="alice"):
    try:
        ask(path, name)
    except SystemExit as end:
        return end.code

def counted():
    gc.collect()  # asgiref's threads end when their executors are collected
    time.sleep(0.2)
    loop = background_loop()._loop
    async def tasks():
        return len(asyncio.all_tasks())
    return {
        "threads": sorted(thread.name.rstrip("0123456789_-") for thread in threading.enumerate()),
        "tasks": background_loop().run(tasks()),
        "loops": sum(isinstance(thing, asyncio.BaseEventLoop) for thing in gc.get_objects()),
        "files": len(os.listdir("/proc/self/fd")),
        "loop": id(loop),
    }
"""

KILLED = """
assert ask("/me").json == {"name": "alice"}
assert ask("/plain").json == {"name": "alice"}
before = counted()
for _ in range(3):
    assert leaves("/exit") == 3
    assert leaves("/me", "exit") == leaves("/plain", "exit") == 4
    assert ask("/raise").status_code == 500
    assert ask("/me", "slow").status_code == ask("/plain", "slow").status_code == 503
    assert ask("/fork").json == {"child": 0}
    assert ask("/me").json == {"name": "alice"}
after = counted()
assert after == before, (before, after)
"""

MANY = """
for _ in range(100):
    assert ask("/me").json == ask("/plain").json == {"name": "alice"}
before = counted()
for _ in range(PAIRS):
    assert ask("/me").status_code == ask("/plain").status_code == 200
after = counted()
assert after == before, (before, after)
"""


def run(folder: Path, code: str, store: str, *, shared: bool) -> None:
    script = folder / "app.py"
    script.write_text(APPLICATION.replace("=SHARED", f"={shared}") + code)
    subprocess.run(
        [sys.executable, "-W", "ignore", str(script)],
        cwd=ROOT,
        env={**os.environ, "STORE": store, "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=120,
    )


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="files are counted there")
@pytest.mark.parametrize("shared", [False, True])
def test_what_kills_a_request_leaves_nothing_behind(shared, redis_url, tmp_path):
    run(tmp_path, KILLED, f"{redis_url}?deadline=5&prefix=left-over:", shared=shared)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="files are counted there")
def test_thousands_of_requests_leave_nothing_behind(redis_url, tmp_path, is_long):
    many = MANY.replace("PAIRS", "5000" if is_long else "700")
    run(tmp_path, many, f"{redis_url}?deadline=5&prefix=left-over:&poll=3600", shared=True)
