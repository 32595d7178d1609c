"""Fixtures for all tests: a Redis-protocol server, a clock that stands still, and the scan for secrets.

What they are made of is in `tests/harness`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import async_jwt.stores.redis  # noqa: F401  # so that its loggers are there
from async_jwt.core import key_loading
from async_jwt.testing import FrozenClock
from tests.harness import report
from tests.harness.scan import SCAN, install
from tests.harness.servers import RedisServer

install()

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


@pytest.fixture
def clock() -> FrozenClock:
    """A clock that moves only when a test moves it."""
    return FrozenClock(1_800_000_000)


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
