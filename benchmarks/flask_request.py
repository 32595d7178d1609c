"""Flask requests with plain views, with async ones, and served by ASGI: ours beside the peers."""

from __future__ import annotations

from typing import Any

import flask_jwt_extended
import jwt as pyjwt
from asgiref.wsgi import WsgiToAsgi
from flask import Flask, request

from async_jwt.adapters import flask as ours_async
from async_jwt.adapters import flask_sync as ours
from async_jwt.adapters.protect import public
from benchmarks import asgi, least, wsgi
from benchmarks.rows import Row
from benchmarks.timing import Timed, compare, compare_added, measure
from benchmarks.tokens import MANY, SECRET, bearers, cookies, token

__all__ = ["our_app", "run"]

PLAIN, ASYNC, OVER_ASGI = "Flask, plain views", "Flask, async views", "Flask, over ASGI"
COOKIES = {"JWT_TOKEN_LOCATION": ["cookies"]}


@public
def view() -> str:
    return "ok"


@public
async def async_view() -> str:
    return "ok"


def bare_app(**config: Any) -> Flask:
    """A view that anybody may read, and no extension."""
    app = Flask("benchmark")
    app.config.update(JWT_SECRET_KEY=SECRET, **config)
    app.add_url_rule("/bare", "bare", view, methods=["GET", "POST"])
    app.add_url_rule("/bare-async", "bare_async", async_view)
    return app


def our_app(api: Any = ours, *, user: bool = False, **config: Any) -> Flask:
    """The same view beside it, protected by us, or by a peer of the same names."""
    app = bare_app(**config)
    manager = api.JWTManager(app)
    if user:
        manager.user_lookup_loader(lambda _header, claims: claims["sub"])
    app.add_url_rule("/me", "me", api.jwt_required()(view), methods=["GET", "POST"])
    return app


def _by_hand_app() -> Flask:
    app = bare_app()

    @app.get("/me")
    def me() -> Any:
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            return {"msg": "missing"}, 401
        try:
            pyjwt.decode(text, SECRET, algorithms=["HS256"])
        except pyjwt.InvalidTokenError:
            return {"msg": "invalid"}, 401
        return "ok"

    return app


def _least_app() -> Flask:
    app = bare_app()

    @app.get("/me")
    def me() -> str:
        least.verify(request.headers["Authorization"].removeprefix("Bearer "))
        return "ok"

    return app


def _async_app(api: Any, *, user: bool = False, **config: Any) -> Flask:
    app = bare_app(**config)
    manager = api.JWTManager(app)
    if user:

        @manager.user_lookup_loader
        async def load(_header: dict[str, Any], claims: dict[str, Any]) -> str:
            return claims["sub"]

    app.add_url_rule("/me", "me", api.jwt_required()(async_view))
    return app


async def run() -> list[Row]:
    """What protection adds to a plain view; the whole request of an async view, and over ASGI."""
    new = bearers([token() for _ in range(MANY)])
    return [*await _plain(new), *await _async(new), *await _over_asgi(new)]


async def _plain(new: list[Any]) -> list[Row]:
    in_cookies = cookies("access_token_cookie")
    app = our_app()
    bare = Timed("bare view", wsgi.requests(bare_app(), "/bare", new))
    post = Timed("bare view, POST with cookies", wsgi.requests(bare_app(), "/bare", in_cookies, "POST"))
    original = Timed("Flask-JWT-Extended", wsgi.requests(our_app(flask_jwt_extended), "/me", new))

    def case(name: str, app: Flask, headers: list[Any] = new, path: str = "/me") -> tuple[Timed, Timed]:
        return Timed(name, wsgi.requests(app, path, headers)), bare

    def with_cookies(name: str, api: Any) -> tuple[Timed, Timed]:
        return Timed(name, wsgi.requests(our_app(api, **COOKIES), "/me", in_cookies, "POST")), post

    cases = [
        case("ours, a view that is not protected", app, path="/bare"),
        case("ours, new token", app),
        case("ours, repeated token", app, new[:1]),
        case("ours, new token, user lookup", our_app(user=True)),
        with_cookies("ours, new token, cookie + CSRF", ours),
        case("PyJWT by hand", _by_hand_app()),
        case("the least, by hand", _least_app()),
        (original, bare),
        case("Flask-JWT-Extended, user lookup", our_app(flask_jwt_extended, user=True)),
        with_cookies("Flask-JWT-Extended, cookie + CSRF", flask_jwt_extended),
    ]
    await measure([bare, post, *(case for case, _ in cases)], rounds=150)
    return [
        *(Row(PLAIN, case.name, case.median) for case in (bare, post)),
        *compare_added(PLAIN, cases, (original, bare)),
    ]


async def _async(new: list[Any]) -> list[Row]:
    def case(name: str, app: Flask, path: str = "/me") -> Timed:
        return Timed(name, wsgi.requests(app, path, new, thread=True))

    original = case("Flask-JWT-Extended", _async_app(flask_jwt_extended))
    cases = [
        case("bare view", bare_app(), "/bare-async"),
        case("ours", _async_app(ours_async)),
        case("ours, async user lookup", _async_app(ours_async, user=True)),
        case("ours, JWT_SHARED_LOOP", _async_app(ours_async, JWT_SHARED_LOOP=True)),
        case(
            "ours, JWT_SHARED_LOOP, async user lookup",
            _async_app(ours_async, user=True, JWT_SHARED_LOOP=True),
        ),
        original,
    ]
    await measure(cases, rounds=150)
    return compare(ASYNC, cases, original, "the whole request")


async def _over_asgi(new: list[Any]) -> list[Row]:
    def case(name: str, app: Flask, path: str = "/me") -> Timed:
        return Timed(name, asgi.requests(WsgiToAsgi(app), path, new))

    original = case("Flask-JWT-Extended, plain view", our_app(flask_jwt_extended))
    cases = [
        case("bare view", bare_app(), "/bare"),
        case("ours, plain view", our_app()),
        case("ours, async view", _async_app(ours_async)),
        case("ours, async view, JWT_SHARED_LOOP", _async_app(ours_async, JWT_SHARED_LOOP=True)),
        original,
        case("Flask-JWT-Extended, async view", _async_app(flask_jwt_extended)),
    ]
    await measure(cases, rounds=150)
    return compare(OVER_ASGI, cases, original, "the whole request")
