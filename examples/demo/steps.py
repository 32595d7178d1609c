"""What the tour is made of: steps, who takes them, and what they show of an answer."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

ACCESS_COOKIE = "__Host-access_token_cookie"
SOCKET = "/live/socket"
PATIENCE = 20  # seconds

Show = Callable[[httpx.Response], str]
Claims = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One request of the tour.

    Attributes:
        name: what it shows.
        asked: the request's method and path.
        expected: the answer's status, error code and, in some steps, more of it.
        answered: the same of the answer that came.
    """

    name: str
    asked: str
    expected: str
    answered: str

    @property
    def passed(self) -> bool:
        return self.answered == self.expected


class Tour:
    """Asks, compares and remembers.

    Args:
        url: where the application is served.
        trust: knows the server's certificate authority.
    """

    def __init__(self, url: str, trust: ssl.SSLContext) -> None:
        self.steps: list[Step] = []
        self._socket_url = url.replace("http", "ws", 1) + SOCKET
        self._trust = trust

    async def ask(
        self,
        client: httpx.AsyncClient,
        name: str,
        request: str,
        expected: str,
        *,
        bearer: str | None = None,
        show: Show | None = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> httpx.Response:
        """Send one request and note the step.

        Args:
            client: who asks.
            name: what the step shows.
            request: method and path.
            expected: the status, then the error code and what `show` shows, if any.
            bearer: a token for the Authorization header.
            show: what else of the answer counts.
            headers: further headers.
            more: further arguments of `httpx.AsyncClient.request`.
        """
        method, _, path = request.partition(" ")
        sent = dict(headers or {})
        if bearer is not None:
            sent["Authorization"] = f"Bearer {bearer}"
        response = await client.request(method, path, headers=sent, **more)
        self.steps.append(Step(name, request, expected, _summary(response, show)))
        return response

    @contextlib.asynccontextmanager
    async def socket(
        self,
        name: str,
        expected: str,
        *,
        protocols: tuple[str, ...] = (),
        origin: str | None = None,
        headers: Mapping[str, str] | None = None,
        show: Show | None = None,
    ) -> AsyncIterator[ClientConnection]:
        """Open a WebSocket, note the step, and close it after the block.

        Args:
            name: what the step shows.
            expected: the status, then the protocol chosen, or the error code and what `show`
                shows of a refusal.
            protocols: the protocols to offer.
            origin: the Origin header, which browsers always send.
            headers: further headers.
            show: what else of a refusal counts.

        Raises:
            InvalidStatus: it is refused.
        """
        handshake = connect(
            self._socket_url,
            ssl=self._trust,
            proxy=None,
            subprotocols=[Subprotocol(protocol) for protocol in protocols] or None,
            origin=None if origin is None else Origin(origin),
            additional_headers=headers,
        )
        try:
            connection = await handshake
        except InvalidStatus as refused:
            answer = refused.response
            response = httpx.Response(
                answer.status_code, headers=list(answer.headers.raw_items()), content=bytes(answer.body)
            )
            self.steps.append(Step(name, f"WS {SOCKET}", expected, _summary(response, show)))
            raise
        answered = " ".join(["101", *filter(None, [connection.subprotocol])])
        self.steps.append(Step(name, f"WS {SOCKET}", expected, answered))
        async with connection:
            yield connection

    async def handshake(self, name: str, expected: str, **how: Any) -> None:
        """Open a WebSocket that may be refused, and close it at once. See `socket`."""
        with contextlib.suppress(InvalidStatus):
            async with self.socket(name, expected, **how):
                pass

    async def say(self, connection: ClientConnection, name: str, message: str, expected: str) -> None:
        """Send a message over a WebSocket, and note what is heard then. See `hear`."""
        await connection.send(message)
        await self.hear(connection, name, expected, asked=f"send {message[:20]}")

    async def hear(
        self, connection: ClientConnection, name: str, expected: str, asked: str = "listen"
    ) -> None:
        """Note the next message of a WebSocket, or the code and the reason of its end."""
        try:
            async with asyncio.timeout(PATIENCE):
                answered = str(await connection.recv())
        except ConnectionClosed:
            answered = f"closed {connection.close_code} {connection.close_reason}".rstrip()
        self.steps.append(Step(name, asked, expected, answered))


# -- what to show of an answer ------------------------------------------------------------


def _summary(response: httpx.Response, show: Show | None) -> str:
    parts = [str(response.status_code), error_code(response), show(response) if show else ""]
    return " ".join(part for part in parts if part)


def json_object(response: httpx.Response) -> Claims:
    if not response.headers.get("Content-Type", "").startswith("application/json"):
        return {}
    body = response.json()
    return body if isinstance(body, dict) else {}


def error_code(response: httpx.Response) -> str:
    return str(json_object(response).get("code", ""))


def show_keys(response: httpx.Response) -> str:
    return " ".join(sorted(key for key in json_object(response) if key.endswith("_token")))


def show_body(key: str) -> Show:
    return lambda response: str(json_object(response).get(key, ""))


def show_challenge(response: httpx.Response) -> str:
    """The WWW-Authenticate header up to its description for people."""
    return str(response.headers.get("WWW-Authenticate", "")).partition(", error_description=")[0]


def show_text(wanted: str) -> Show:
    return lambda response: wanted if wanted in response.text else ""


def show_flags(response: httpx.Response) -> str:
    for line in response.headers.get_list("Set-Cookie"):
        if line.startswith(f"{ACCESS_COOKIE}="):
            found = {part.strip() for part in line.split(";")}
            return " ".join(flag for flag in ("Secure", "HttpOnly", "SameSite=Lax") if flag in found)
    return ""


# -- the report ---------------------------------------------------------------------------


def table(steps: list[Step]) -> str:
    """The steps as aligned columns, and how many went as expected."""
    rows = [("", "step", "asked", "expected", "answered")]
    rows += [
        ("ok" if step.passed else "WRONG", step.name, step.asked, step.expected, step.answered)
        for step in steps
    ]
    # Long answers come last in a row: they need no padding, and must not widen the others.
    widths = [min(max(len(row[column]) for row in rows), 48) for column in range(4)]
    lines = [
        "  ".join(
            [*(cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)), row[4]]
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "-" * max(len(line) for line in lines))
    passed = sum(step.passed for step in steps)
    return "\n".join([*lines, "", f"{passed} of {len(steps)} answers were the expected ones"])
