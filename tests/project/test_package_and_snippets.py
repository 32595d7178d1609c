"""The package as it is imported, and every snippet of its documentation."""

from __future__ import annotations

import asyncio
import datetime as dt
import inspect
import re
import subprocess
import sys
import types
from pathlib import Path

import flask
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

import async_jwt
from async_jwt.adapters import flask as flask_adapter
from async_jwt.adapters import flask_sync as flask_sync_adapter
from async_jwt.adapters import quart as quart_adapter
from async_jwt.issuers import FetchError, HttpFetch
from tests.harness import SECRET
from tests.harness.keys import PRIVATE, PRIVATE_PEMS, private_pem

ROOT = Path(__file__).parents[2]
SNIPPETS = [
    pytest.param(block, id=f"{page.relative_to(ROOT)}-{number}")
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for number, block in enumerate(
        re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    )
]


def test_importing_loads_no_framework_and_no_redis():
    code = "import sys, async_jwt; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"quart", "flask", "werkzeug", "redis"} & set(loaded)
    assert "async_jwt.core.issue" in loaded


@pytest.mark.parametrize(
    "module",
    [async_jwt, quart_adapter, flask_adapter, flask_sync_adapter],
    ids=["async_jwt", "quart", "flask", "flask_sync"],
)
def test_all_is_sorted_and_documented(module):
    names = module.__all__
    assert sorted(names) == sorted(set(names))
    for name in names:
        value = getattr(module, name)
        assert name.startswith("__") or name == "current_user" or inspect.getdoc(value)


def test_there_are_snippets():
    assert len(SNIPPETS) > 20


async def _nowhere(fetch, url):
    raise FetchError("tests leave other people's servers alone")


@pytest.mark.parametrize("block", SNIPPETS)
def test_snippets_run(block, monkeypatch, tmp_path):
    """Each block runs, and the application it makes or extends starts."""
    import quart

    monkeypatch.setenv("QUART_JWT_SECRET_KEY", SECRET)
    monkeypatch.setenv("FLASK_JWT_SECRET_KEY", SECRET)
    monkeypatch.setenv("SIGNING_KEY", "")
    monkeypatch.setattr(HttpFetch, "__call__", _nowhere)
    monkeypatch.chdir(tmp_path)
    async_jwt.KeyFolder("keys").put(async_jwt.Key.generate())
    app = quart.Quart("snippet")
    app.config["JWT_SECRET_KEY"] = SECRET
    if 'realm="staff"' in block and "JWT_REALMS" not in block:  # as the page's first block says
        app.config["JWT_REALMS"] = {"staff": {"JWT_SECRET_KEY": SECRET[::-1]}}
    module = types.ModuleType("snippet")
    monkeypatch.setitem(sys.modules, "snippet", module)
    namespace = vars(module)
    given = {
        "app": app,
        "jwt": quart_adapter.JWTManager(app),
        "asyncio": asyncio,
        "timedelta": dt.timedelta,
        "datetime": dt.datetime,
        "UTC": dt.UTC,
        "request": quart.request,
        "jsonify": quart.jsonify,
        "make_response": quart.make_response,
        "Key": async_jwt.Key,
        "KeyRing": async_jwt.KeyRing,
        "pem": PRIVATE_PEMS["ES256"],
        "private": PRIVATE["ES256"],
        "november": PRIVATE_PEMS["ES256"],
        "december": private_pem(ec.generate_private_key(ec.SECP256R1())),
        **{name: getattr(quart_adapter, name) for name in quart_adapter.__all__},
    }
    namespace.update(given)
    if "JWTManager(app" in block:  # the block sets up its own
        app.extensions.clear()
    exec(compile(block, "<snippet>", "exec"), namespace)

    async def start():
        async with namespace["app"].test_app():
            pass

    if isinstance(namespace["app"], flask.Flask):
        namespace["app"].test_client().get("/")
        assert namespace["jwt"].keys
    else:
        asyncio.run(start())


def test_the_guide_of_sessions_does_what_it_says():
    import quart

    app = quart.Quart("guide")
    app.config["JWT_SECRET_KEY"] = SECRET
    page = (ROOT / "docs" / "guide" / "sessions.md").read_text("utf-8")
    namespace = {
        "app": app,
        "jwt": quart_adapter.JWTManager(app),
        "request": quart.request,
        **{name: getattr(quart_adapter, name) for name in quart_adapter.__all__},
    }
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    for block in blocks:
        if "def login" in block or "def devices" in block or "token_reuse_loader" in block:
            exec(block, namespace)

    async def use():
        client = app.test_client()

        async def ask(method, path, token=""):
            answer = await client.open(path, method=method, headers={"Authorization": f"Bearer {token}"})
            return answer.status_code, await answer.get_json()

        _, one = await ask("POST", "/login")
        _, two = await ask("POST", "/refresh", one["refresh_token"])
        _, other = await ask("POST", "/login")
        _, page = await ask("GET", "/devices", two["access_token"])
        assert [each["this_one"] for each in page["devices"]] == [False, True]
        sid = page["devices"][0]["sid"]
        assert await ask("DELETE", f"/devices/{sid}", two["access_token"]) == (200, {"done": True})
        assert (await ask("GET", "/devices", other["access_token"]))[0] == 401
        await ask("POST", "/refresh", two["refresh_token"])
        replay = await ask("POST", "/refresh", one["refresh_token"])
        assert replay == (401, {"code": "token_reused", "msg": "Signed out, for your safety"})
        assert (await ask("POST", "/logout", two["access_token"]))[0] == 401

    asyncio.run(use())


def test_readme_names_two_commands_of_one_line_each():
    readme = (ROOT / "README.md").read_text("utf-8")
    for marker in ("demo", "test"):
        block = re.search(rf"<!-- {marker} -->\n+```sh\n(.*?)```", readme, re.DOTALL)
        assert block is not None
        assert block[1].count("\n") == 1
