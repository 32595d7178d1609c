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
        answered = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await answered.wait()  # the client stays connected until it has its answer
            return {"type": "http.disconnect"}

        async def send(sent: dict[str, Any]) -> None:
            nonlocal status
            status = sent.get("status", status)
            if sent["type"] == "http.response.body" and not sent.get("more_body"):
                answered.set()

        await app(scope, receive, send)
        return status

    async def run(times: int) -> None:
        for _ in range(times):
            status = await one()
            if status != 200:
                raise RuntimeError(f"{method} {path} answered {status}")

    return run
