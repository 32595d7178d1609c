"""A provider for each test, and applications of each adapter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.adapters.conftest import harness, nothing_blocks  # noqa: F401  # fixtures
from tests.harness.providers import Provider


@pytest.fixture
def provider() -> Iterator[Provider]:
    """An OpenID provider that the test may break."""
    provider = Provider()
    yield provider
    provider.stop()
