"""The notice board: what one signed-in user sends over a WebSocket, all connected ones see."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from typing import NoReturn, cast

from quart import Blueprint, current_app, websocket

from async_jwt.adapters.quart import current_user, jwt_required, verify_jwt_in_request

MAX_NOTICE_LENGTH = 500
MAX_WAITING_NOTICES = 100
RECHECK_SECONDS = 5
GOING_AWAY, UNSUPPORTED_DATA, MESSAGE_TOO_BIG = 1001, 1003, 1009  # RFC 6455 §7.4.1

# Not among the pages: their answer to a refused token is a form, a program's is JSON or a close code.
live = Blueprint("live", __name__, url_prefix="/live")


class Board:
    """Hands notices to everybody who listens in this process.

    Several processes would need one channel between them, such as Redis has.
    """

    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[str]] = set()

    @contextlib.contextmanager
    def listener(self) -> Iterator[asyncio.Queue[str]]:
        """The notices posted while the block runs."""
        notices: asyncio.Queue[str] = asyncio.Queue(MAX_WAITING_NOTICES)
        self._listeners.add(notices)
        try:
            yield notices
        finally:
            self._listeners.discard(notices)

    def post(self, notice: str) -> None:
        """Put a notice up. It waits for nobody: who reads too slowly misses it."""
        for notices in self._listeners:
            if not notices.full():
                notices.put_nowait(notice)


def board() -> Board:
    return cast("Board", current_app.extensions["board"])


@live.websocket("/socket")
@jwt_required
async def socket() -> None:
    # Listens before it accepts: who sees the socket open misses nothing from then on.
    with board().listener() as notices:
        await websocket.accept()
        tasks = [asyncio.create_task(task) for task in (take_in(), hand_out(notices), shut_down())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            # What one raised goes first: async_jwt closes the socket with 1008 for a refusal.
            codes = [task.result() for task in sorted(done, key=lambda task: task.exception() is None)]
            await websocket.close(codes[0])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def take_in() -> int:
    """Post what comes, until something must not be posted. Returns the close code for that."""
    while True:
        message = await message_within(RECHECK_SECONDS)
        # Asks everything anew: it raises for who has signed out, or is gone.
        await verify_jwt_in_request()
        if not message:
            continue
        if not isinstance(message, str):
            return UNSUPPORTED_DATA
        if len(message) > MAX_NOTICE_LENGTH:
            return MESSAGE_TOO_BIG
        board().post(json.dumps({"name": current_user.name, "text": message}))


async def hand_out(notices: asyncio.Queue[str]) -> NoReturn:
    while True:
        await websocket.send(await notices.get())


async def shut_down() -> int:
    await cast("asyncio.Event", current_app.shutdown_event).wait()
    return GOING_AWAY


async def message_within(seconds: float) -> str | bytes | None:
    """The next message; None after a while, so that those who only listen are checked as well."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            message: str | bytes = await websocket.receive()
            return message
    return None
