"""A whole request in process: a protected view against the same view bare, in each framework."""

from __future__ import annotations

from typing import Any

from benchmarks import flask_request, quart_request
from benchmarks.tokens import token

TOKENS = 4000


async def run() -> list[dict[str, Any]]:
    """What protection adds to a request."""
    new = [token() for _ in range(TOKENS)]
    return [
        *await quart_request.run(new),
        *await flask_request.run(new),
        *await flask_request.run_async_views(new),
    ]
