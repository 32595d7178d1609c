"""Pytest fixtures for testing applications. Loaded only on request.

In `conftest.py`, beside a fixture `app` that returns the application::

    pytest_plugins = ["async_jwt.pytest_plugin"]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import pytest

from async_jwt import testing

__all__ = ["jwt_client", "jwt_clock", "jwt_outage"]


@pytest.fixture
def jwt_client(app: Any) -> Callable[..., Any]:
    """`jwt_client("alice", fresh=True)`: a signed-in test client. See `async_jwt.testing.jwt_client`."""
    return partial(testing.jwt_client, app)


@pytest.fixture
def jwt_clock(app: Any) -> Iterator[testing.FrozenClock]:
    """The application's clock, frozen: `jwt_clock.tick(60)`."""
    with testing.frozen_clock(app) as clock:
        yield clock


@pytest.fixture
def jwt_outage(app: Any) -> Callable[[], AbstractContextManager[None]]:
    """Simulate an outage of the revocation store in a `with` block. See `async_jwt.testing.outage`."""
    return partial(testing.outage, app)
