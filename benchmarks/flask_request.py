"""A Flask request with plain views, and with async ones.

Beside us: Flask-JWT-Extended and, in plain views, PyJWT called by hand.
"""

from __future__ import annotations

import asyncio
import io
import itertools
from typing import Any

import jwt as pyjwt
from flask import Flask, request

from async_jwt.adapters import flask as ours_async
from async_jwt.adapters import flask_sync as ours
from benchmarks.timing import Timed
from benchmarks.tokens import SECRET, compare, compare_whole


def _app() -> Flask:
    app = Flask("benchmark")
    app.config.update(JWT_SECRET_KEY=SECRET, JWT_TOKEN_CACHE_SIZE=8)
    app.add_url_rule("/bare", "bare", lambda: "ok")
    return app


def _protected(api: Any, *, user: bool = False) -> Flask:
    app = _app()
    manager = api.JWTManager(app)
    if user:
        manager.user_lookup_loader(lambda _header, claims: claims["sub"])
    app.add_url_rule("/me", "me", api.jwt_required()(lambda: "ok"))
    return app


def _by_hand() -> Flask:
    app = _app()

    @app.get("/me")
    def me() -> Any:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            return {"msg": "missing"}, 401
        try:
            pyjwt.decode(token, SECRET, algorithms=["HS256"])
        except pyjwt.InvalidTokenError:
            return {"msg": "invalid"}, 401
        return "ok"

    return app


def _requests(app: Flask, path: str, tokens: list[str]) -> Any:
    """Sends requests the way a WSGI server does."""
    turn = itertools.cycle(tokens)
    status = ""

    def start_response(answered: str, _headers: Any, _error: Any = None) -> Any:
        nonlocal status
        status = answered

    def send(times: int) -> None:
        for _ in range(times):
            environ = {
                "REQUEST_METHOD": "GET",
                "SCRIPT_NAME": "",
                "PATH_INFO": path,
                "QUERY_STRING": "",
                "SERVER_NAME": "localhost",
                "SERVER_PORT": "80",
                "SERVER_PROTOCOL": "HTTP/1.1",
                "HTTP_HOST": "localhost",
                "HTTP_ACCEPT": "application/json",
                "HTTP_USER_AGENT": "benchmark",
                "HTTP_AUTHORIZATION": f"Bearer {next(turn)}",
                "wsgi.version": (1, 0),
                "wsgi.url_scheme": "http",
                "wsgi.input": io.BytesIO(),
                "wsgi.errors": io.StringIO(),
                "wsgi.multithread": True,
                "wsgi.multiprocess": False,
                "wsgi.run_once": False,
            }
            body = app.wsgi_app(environ, start_response)
            b"".join(body)
            body.close()  # type: ignore[attr-defined]  # ends the request's context
            if status != "200 OK":
                raise RuntimeError(f"{path} answered {status}")

    async def run(times: int) -> None:
        # In a thread, as such servers do: Flask's async views want no event loop around them.
        await asyncio.to_thread(send, times)

    return run


def _async_views(api: Any, *, hook: bool = False, **config: Any) -> Flask:
    app = _app()
    app.config.update(config)
    manager = api.JWTManager(app)
    if hook:

        @manager.user_lookup_loader
        async def load(_header: dict[str, Any], claims: dict[str, Any]) -> str:
            return claims["sub"]

    @app.get("/me")
    @api.jwt_required()
    async def me() -> str:
        return "ok"

    return app


async def run_async_views(new: list[str]) -> list[dict[str, Any]]:
    """A whole request with an async view, the peer's beside ours."""
    import flask_jwt_extended  # noqa: PLC0415  # a peer, for this alone

    def case(name: str, app: Flask) -> Timed:
        return Timed(name, _requests(app, "/me", new))

    original = case("Flask-JWT-Extended", _async_views(flask_jwt_extended))
    cases = [
        case("ours", _async_views(ours_async)),
        case("ours, JWT_SHARED_LOOP", _async_views(ours_async, JWT_SHARED_LOOP=True)),
        case("ours, async user lookup", _async_views(ours_async, hook=True)),
        case(
            "ours, JWT_SHARED_LOOP, async user lookup",
            _async_views(ours_async, hook=True, JWT_SHARED_LOOP=True),
        ),
        original,
    ]
    return await compare_whole("Flask, async views", cases, original)


async def run(new: list[str]) -> list[dict[str, Any]]:
    """What protection adds to a Flask request."""
    import flask_jwt_extended  # noqa: PLC0415  # a peer, for this alone

    same = new[:1]
    plain, with_user = _protected(ours), _protected(ours, user=True)
    bare = Timed("bare view", _requests(plain, "/bare", same))
    original = Timed("Flask-JWT-Extended", _requests(_protected(flask_jwt_extended), "/me", new))
    cases = [
        Timed("ours, new token", _requests(plain, "/me", new)),
        Timed("ours, repeated token", _requests(plain, "/me", same)),
        Timed("ours, new token, user lookup", _requests(with_user, "/me", new)),
        Timed("PyJWT by hand", _requests(_by_hand(), "/me", new)),
        original,
    ]
    return await compare("Flask, plain views", bare, cases, original)
