"""A WebSocket client that speaks ASGI to an application, and notes what a server would be told."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Self

from quart import Quart
from werkzeug.datastructures import Headers


class Connection:
    """One WebSocket, opened with `async with`.

    Attributes:
        accepted: the accept message, once there was one.
        status: the HTTP status of a refused handshake.
        closed: the close message that the application sent.
    """

    def __init__(
        self,
        app: Quart,
        path: str,
        *,
        headers: dict[str, str] | list[tuple[str, str]] | None = None,
        subprotocols: list[str] | None = None,
        query: str = "",
        secure: bool = False,
        can_refuse: bool = True,
    ) -> None:
        self.accepted: dict[str, Any] | None = None
        self.closed: dict[str, Any] | None = None
        self.status: int | None = None
        self.headers = Headers()
        self.body = b""
        self._app = app
        self._in: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._out: asyncio.Queue[str | None] = asyncio.Queue()
        sent = Headers(headers or {})
        sent.setdefault("Host", "localhost")
        if subprotocols:
            sent.add("Sec-WebSocket-Protocol", ", ".join(subprotocols))
        self._scope = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "scheme": "wss" if secure else "ws",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode("latin1")) for name, value in sent],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "subprotocols": subprotocols or [],
            "extensions": {"websocket.http.response": {}} if can_refuse else {},
        }

    async def __aenter__(self) -> Self:
        await self._in.put({"type": "websocket.connect"})
        self._task = asyncio.ensure_future(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._in.put({"type": "websocket.disconnect", "code": 1000})
        await self._task

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self._in.get, self._take)
        finally:
            self._out.put_nowait(None)

    async def _take(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "websocket.accept":
            self.accepted = message
        elif kind == "websocket.send":
            self._out.put_nowait(message["text"])
        elif kind == "websocket.close":
            self.closed = message
            await self._in.put({"type": "websocket.disconnect", "code": message.get("code", 1000)})
        elif kind == "websocket.http.response.start":
            self.status = message["status"]
            self.headers = Headers([(name.decode(), value.decode()) for name, value in message["headers"]])
        else:
            self.body += message["body"]
            if not message.get("more_body", False):
                await self._in.put({"type": "websocket.disconnect", "code": 1006})

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    async def ask(self, text: str = "hello") -> Any:
        """Send a text; the JSON that comes back, or None if the connection ended instead."""
        await self._in.put({"type": "websocket.receive", "text": text})
        answer = await asyncio.wait_for(self._out.get(), 10)
        return None if answer is None else json.loads(answer)

    async def over(self) -> Self:
        """Wait until the application is through with it."""
        await asyncio.wait_for(asyncio.shield(self._task), 10)
        return self
