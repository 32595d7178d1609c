"""Requests to an ASGI application in process, as a server makes them, without a client's own work."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.tokens import Headers

__all__ = ["requests"]


def requests(
    app: Callable[..., Awaitable[None]], path: str, headers: list[Headers], method: str = "GET"
) -> Callable[[int], Awaitable[None]]:
    """What sends so many requests, each with the next of some headers.

    Args:
        app: the ASGI application.
        path: the path.
        headers: what is added to the headers of each, in turn.
        method: the method.

    Raises:
        RuntimeError: one was not answered with 200.
    """
    turn = itertools.cycle(
        [[(name.lower().encode(), value.encode()) for name, value in more] for more in headers]
    )
    common = [(b"host", b"localhost"), (b"accept", b"application/json"), (b"user-agent", b"benchmark")]
    message = {"type": "http.request", "body": b"", "more_body": False}
    never = asyncio.Event()

    async def one() -> int:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "https",
            "headers": [*common, *next(turn)],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 443),
            "extensions": {},
            "state": {},
        }
        status = 0
        messages = [message]

        async def receive() -> dict[str, Any]:
            if not messages:
                await never.wait()  # the client stays connected until it has its answer
            return messages.pop()

        async def send(sent: dict[str, Any]) -> None:
            nonlocal status
            status = sent.get("status", status)

        await app(scope, receive, send)
        return status

    async def run(times: int) -> None:
        for _ in range(times):
            status = await one()
            if status != 200:
                raise RuntimeError(f"{method} {path} answered {status}")

    return run
