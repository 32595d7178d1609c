"""One room, in one process. `quart --app examples.chat.app run`."""

from __future__ import annotations

import asyncio
from typing import Any

from quart import Quart, request, websocket

from async_jwt.adapters.quart import (
    JWTManager,
    create_token_pair,
    get_jwt_identity,
    jwt_required,
    revoke_session,
    verify_jwt_in_request,
)

PASSWORDS = {"ada": "analytical", "grace": "hopper"}
LONGEST = 500


class Room:
    """Hands what is said to everybody who is here. Who reads too slowly misses it."""

    def __init__(self) -> None:
        self.members: dict[asyncio.Queue[dict[str, str]], str] = {}

    def enter(self, name: str) -> asyncio.Queue[dict[str, str]]:
        messages: asyncio.Queue[dict[str, str]] = asyncio.Queue(100)
        self.members[messages] = name
        return messages

    def leave(self, messages: asyncio.Queue[dict[str, str]]) -> None:
        del self.members[messages]

    def say(self, name: str, text: str) -> None:
        for messages in self.members:
            if not messages.full():
                messages.put_nowait({"from": name, "text": text})


def create_app(**config: Any) -> Quart:
    app = Quart(__name__)
    # A browser's script offers the token as a protocol: new WebSocket(url, ["bearer", token]).
    app.config["JWT_TOKEN_LOCATION"] = ["headers", "websocket_protocol"]
    app.config.from_prefixed_env()
    app.config.update(config)
    JWTManager(app)
    room = Room()

    @app.post("/login")
    async def login() -> Any:
        sent = await request.get_json()
        if PASSWORDS.get(sent["name"]) != sent["password"]:
            return {"msg": "Wrong name or password"}, 401
        pair = await create_token_pair(sent["name"])
        return {"access_token": pair.access_token, "refresh_token": pair.refresh_token}

    @app.post("/logout")
    @jwt_required()
    async def logout() -> Any:
        await revoke_session()
        return {"msg": "Signed out"}

    @app.websocket("/chat")
    @jwt_required()
    async def chat() -> None:
        name = get_jwt_identity()
        messages = room.enter(name)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(hear(messages))
                tasks.create_task(speak(name))
        finally:
            room.leave(messages)

    async def hear(messages: asyncio.Queue[dict[str, str]]) -> None:
        while True:
            await websocket.send_json(await messages.get())

    async def speak(name: str) -> None:
        while True:
            text = await websocket.receive()
            # Signed out meanwhile, or expired: this raises, and the socket is closed with 1008.
            await verify_jwt_in_request()
            room.say(name, str(text)[:LONGEST])

    return app
