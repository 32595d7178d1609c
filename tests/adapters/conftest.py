"""Runs the suite over each adapter, on each store; and fails whatever blocks an event loop."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from blockbuster import BlockBuster

from async_jwt.core import checks, locations
from tests.harness.applications import HARNESSES, quart

collect_ignore = [] if quart else ["test_identity_follows_streams_and_tasks.py", "test_websockets.py"]


@pytest.fixture(params=list(HARNESSES))
def harness(request: pytest.FixtureRequest) -> Any:
    """Makes applications of one adapter."""
    if request.param == "quart" and quart is None:
        pytest.skip("Quart is not installed")
    return HARNESSES[request.param]


@pytest.fixture(params=["memory", "redis"])
def make_app(request: pytest.FixtureRequest, harness: Any) -> Iterator[Callable[..., Any]]:
    """Makes applications of one adapter on one of the stores."""
    made = []

    def make(config: dict[str, Any] | None = None, **manager: Any) -> Any:
        uri = "memory://"
        if request.param == "redis":
            uri = f"{request.getfixturevalue('redis_url')}?prefix=test-{uuid.uuid4().hex}:&deadline=5"
        app = harness({"JWT_STORE_URI": uri, **(config or {})}, **manager)
        made.append(app)
        return app

    yield make
    for app in made:
        app.end()


@pytest.fixture(autouse=True)
def nothing_was_said() -> None:
    """What is said once in a process is said once in each test."""
    checks._warned.clear()
    locations._warn_too_long.cache_clear()


# Made once: it looks up some thirty functions.
_watch = BlockBuster("async_jwt")


@pytest.fixture(autouse=True)
def nothing_blocks() -> Iterator[BlockBuster]:
    """Fails a test in which we, or a hook that we call, block the event loop."""
    _watch.activate()
    yield _watch
    _watch.deactivate()
