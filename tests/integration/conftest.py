"""Servers on real sockets."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from examples.conftest import chromium, postgres_url  # noqa: F401  # the examples' fixtures, for these tests too
from tests.harness import SECRET
from tests.harness.servers import free_port

SERVERS = ["hypercorn", "uvicorn"]
ROOT = Path(__file__).parents[2]


def wait_for(url: str) -> None:
    """Until a server answers there, whatever it answers."""
    for _ in range(300):
        try:
            httpx.get(url, timeout=10)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"nothing answers at {url}")


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Starts a server with an application of this folder and some settings."""
    running: list[subprocess.Popen] = []

    def start(*, workers: int = 1, server: str = "hypercorn", module: str = "served", **settings: str) -> str:
        port = free_port()
        given = {f"QUART_{name}": value for name, value in {"JWT_SECRET_KEY": SECRET, **settings}.items()}
        command = [sys.executable, "-m", server, f"tests.integration.{module}:app", "--workers", str(workers)]
        command += {
            "hypercorn": ["--bind", f"127.0.0.1:{port}"],
            "uvicorn": ["--port", str(port)],
        }[server]
        running.append(
            subprocess.Popen(command, cwd=ROOT, env={**os.environ, **given}, stderr=subprocess.DEVNULL)
        )
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/open")
        return url

    yield start
    for process in running:
        process.terminate()
    for process in running:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
