"""A Quart request beside PyJWT called by hand in the view, and quart-jwt-extended."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import jwt as pyjwt
from quart import Quart, request

from async_jwt.adapters import quart as ours
from benchmarks.timing import Timed
from benchmarks.tokens import SECRET, compare, token


def _app() -> Quart:
    app = Quart("benchmark")
    app.config.update(JWT_SECRET_KEY=SECRET)

    @app.get("/bare")
    async def bare() -> str:
        return "ok"

    return app


def _our_app(*, user: bool) -> Quart:
    app = _app()
    manager = ours.JWTManager(app)
    if user:

        @manager.user_lookup_loader
        async def load(_header: dict[str, Any], claims: dict[str, Any]) -> str:
            return claims["sub"]

    @app.get("/me")
    @ours.jwt_required()
    async def me() -> str:
        return "ok"

    return app


def _by_hand_app() -> Quart:
    app = _app()

    @app.get("/me")
    async def me() -> Any:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            return {"msg": "missing"}, 401
        try:
            pyjwt.decode(token, SECRET, algorithms=["HS256"])
        except pyjwt.InvalidTokenError:
            return {"msg": "invalid"}, 401
        return "ok"

    return app


def _peer_app() -> Quart | None:
    try:
        import quart_jwt_extended as peer  # noqa: PLC0415
    except ImportError:
        return None
    app = _app()
    peer.JWTManager(app)

    @app.get("/me")
    @peer.jwt_required
    async def me() -> str:
        return "ok"

    return app


def _requests(app: Quart, path: str, tokens: list[str]) -> Any:
    """Sends requests the way an ASGI server does, without a client's own work."""
    turn = itertools.cycle(tokens)
    body = {"type": "http.request", "body": b"", "more_body": False}
    never = asyncio.Event()

    async def one(token: str) -> int:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "headers": [
                (b"host", b"localhost"),
                (b"accept", b"application/json"),
                (b"user-agent", b"benchmark"),
                (b"authorization", b"Bearer " + token.encode()),
            ],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "extensions": {},
        }
        status = 0
        bodies = [body]

        async def receive() -> dict[str, Any]:
            if not bodies:
                await never.wait()  # the client stays connected until it has its answer
            return bodies.pop()

        async def send(message: dict[str, Any]) -> None:
            nonlocal status
            status = message.get("status", status)

        await app.asgi_app(scope, receive, send)
        return status

    async def run(times: int) -> None:
        for _ in range(times):
            status = await one(next(turn))
            if status != 200:
                raise RuntimeError(f"{path} answered {status}")

    return run


async def run(new: list[str]) -> list[dict[str, Any]]:
    """What protection adds to a Quart request."""
    same = new[:1]
    plain, with_user, by_hand, peer = _our_app(user=False), _our_app(user=True), _by_hand_app(), _peer_app()
    bare = Timed("bare view", _requests(plain, "/bare", same))
    hand = Timed("PyJWT by hand", _requests(by_hand, "/me", new))
    cases = [
        Timed("ours, new token", _requests(plain, "/me", new)),
        Timed("ours, repeated token", _requests(plain, "/me", same)),
        Timed("ours, new token, async user lookup", _requests(with_user, "/me", new)),
        hand,
    ]
    if peer is not None:
        # Its own claims: nested ones take longer, so nobody else is given them.
        its = [token(identity="alice", user_claims={}) for _ in new]
        cases.append(Timed("quart-jwt-extended", _requests(peer, "/me", its)))
    return await compare("Quart", bare, cases, hand)
