"""The commands of the deployment page, each run as it stands there but for its port, on the quickstart."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.harness import SECRET
from tests.harness.servers import free_port
from tests.integration.conftest import wait_for

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "guide" / "deployment.md").read_text("utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = [command for block in BLOCKS for command in block.splitlines()]


def test_there_are_commands():
    assert {command.split()[0] for command in COMMANDS} == {"hypercorn", "uvicorn", "gunicorn"}


@pytest.mark.parametrize("command", COMMANDS)
def test_it_serves(command, tmp_path, redis_url):
    framework = "Flask" if "gthread" in command else "Quart"
    page = (DOCS / "quickstart.md").read_text("utf-8")
    block = re.search(rf":::{{tab-item}} {framework}\n.*?```python\n(.*?)```", page, re.DOTALL)
    assert block is not None
    (tmp_path / "app.py").write_text(block[1])
    port = free_port()
    arguments = command.replace("8000", str(port)).split()
    if "8000" not in command:
        arguments += ["-b", f"127.0.0.1:{port}"]
    prefix = framework.upper()
    given = {f"{prefix}_JWT_SECRET_KEY": SECRET, f"{prefix}_JWT_STORE_URI": redis_url}
    process = subprocess.Popen([sys.executable, "-m", *arguments], cwd=tmp_path, env={**os.environ, **given})
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{url}/me")
        signed_in = httpx.post(f"{url}/login", json={"username": "ada", "password": "analytical"}).json()
        bearer = {"Authorization": f"Bearer {signed_in['access_token']}"}

        def statuses() -> set[int]:
            # A connection stays with its worker, so each request makes its own.
            return {httpx.get(f"{url}/me", headers=bearer).status_code for _ in range(12)}

        assert statuses() == {200}
        assert httpx.post(f"{url}/logout", headers=bearer).status_code == 200
        assert statuses() == {401}
    finally:
        process.terminate()
        process.wait(20)
