"""Requests to a WSGI application in process, as a server makes them, without a client's own work."""

from __future__ import annotations

import asyncio
import io
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.tokens import Headers

__all__ = ["requests", "sender"]


def requests(
    app: Callable[..., Any],
    path: str,
    headers: list[Headers],
    method: str = "GET",
    *,
    thread: bool = False,
) -> Callable[[int], Awaitable[None]]:
    """What sends so many requests, each with the next of some headers. See `benchmarks.asgi.requests`.

    Args:
        app: the WSGI application.
        path: the path.
        headers: what is added to the headers of each, in turn.
        method: the method.
        thread: whether to send them in a thread without an event loop around it, which Flask's async
            views need.
    """
    send = sender(app, path, headers, method)

    async def run(times: int) -> None:
        if thread:
            await asyncio.to_thread(send, times)
        else:
            send(times)

    return run


def sender(
    app: Callable[..., Any], path: str, headers: list[Headers], method: str = "GET"
) -> Callable[[int], None]:
    """The same, in the caller's thread."""
    turn = itertools.cycle(
        [{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in more} for more in headers]
    )
    status = ""

    def start_response(answered: str, _headers: Any, _error: Any = None) -> Any:
        nonlocal status
        status = answered

    def send(times: int) -> None:
        for _ in range(times):
            environ = {
                "REQUEST_METHOD": method,
                "SCRIPT_NAME": "",
                "PATH_INFO": path,
                "QUERY_STRING": "",
                "SERVER_NAME": "localhost",
                "SERVER_PORT": "443",
                "SERVER_PROTOCOL": "HTTP/1.1",
                "HTTP_HOST": "localhost",
                "HTTP_ACCEPT": "application/json",
                "HTTP_USER_AGENT": "benchmark",
                **next(turn),
                "wsgi.version": (1, 0),
                "wsgi.url_scheme": "https",
                "wsgi.input": io.BytesIO(),
                "wsgi.errors": io.StringIO(),
                "wsgi.multithread": True,
                "wsgi.multiprocess": False,
                "wsgi.run_once": False,
            }
            body = app(environ, start_response)
            b"".join(body)
            body.close()  # ends the request's context
            if status != "200 OK":
                raise RuntimeError(f"{method} {path} answered {status}")

    return send
