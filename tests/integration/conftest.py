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

from tests.conftest import SECRET, free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Starts Hypercorn with the application of `served.py` and some settings."""
    running: list[subprocess.Popen] = []

    def start(*, workers: int = 1, **settings: str) -> str:
        port = free_port()
        given = {f"QUART_{name}": value for name, value in {"JWT_SECRET_KEY": SECRET, **settings}.items()}
        command = [sys.executable, "-m", "hypercorn", "tests.integration.served:app"]
        command += ["--bind", f"127.0.0.1:{port}", "--workers", str(workers)]
        running.append(
            subprocess.Popen(command, cwd=ROOT, env={**os.environ, **given}, stderr=subprocess.DEVNULL)
        )
        url = f"http://127.0.0.1:{port}"
        for _ in range(300):
            try:
                httpx.get(f"{url}/open", timeout=2)
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                return url
        raise RuntimeError("Hypercorn did not start")

    yield start
    for process in running:
        process.terminate()
    for process in running:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
