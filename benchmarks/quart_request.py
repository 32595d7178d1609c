"""Quart requests: ours beside PyJWT called by hand in the view, and quart-jwt-extended."""

from __future__ import annotations

from typing import Any

import jwt as pyjwt
from quart import Quart, request

from async_jwt import Key
from async_jwt.adapters import quart as ours
from async_jwt.issuers import Issuer
from benchmarks import least
from benchmarks.asgi import requests
from benchmarks.rows import Row
from benchmarks.timing import Timed, compare_added, measure
from benchmarks.tokens import MANY, SECRET, bearers, cookies, token

__all__ = ["ISSUER", "by_hand_app", "our_app", "run"]

GROUP = "Quart"
COOKIES = {"JWT_TOKEN_LOCATION": ["cookies"]}


@ours.public
async def view() -> str:
    return "ok"


def bare_app(**config: Any) -> Quart:
    """A view that anybody may read, and no extension."""
    app = Quart("benchmark")
    app.config.update(JWT_SECRET_KEY=SECRET, **config)
    app.add_url_rule("/bare", "bare", view, methods=["GET", "POST"])
    return app


ISSUER = "https://issuer.example"


def our_app(*, user: bool = False, others: bool = False, **config: Any) -> Quart:
    """The same view beside it, protected by us; `others` accepts the tokens of another issuer, too."""
    app = bare_app(**config)
    issuers = [Issuer(ISSUER, audience="api", keys=[Key(SECRET)], algorithms=["HS256"])] if others else []
    manager = ours.JWTManager(app, issuers=issuers)
    if user:

        @manager.user_lookup_loader
        async def load(_header: dict[str, Any], claims: dict[str, Any]) -> str:
            return claims["sub"]

    app.add_url_rule("/me", "me", ours.jwt_required()(view), methods=["GET", "POST"])
    return app


def by_hand_app() -> Quart:
    """The same view, which calls PyJWT itself and looks at nothing but what that looks at."""
    app = bare_app()

    @app.get("/me")
    async def me() -> Any:
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            return {"msg": "missing"}, 401
        try:
            pyjwt.decode(text, SECRET, algorithms=["HS256"])
        except pyjwt.InvalidTokenError:
            return {"msg": "invalid"}, 401
        return "ok"

    return app


def _least_app() -> Quart:
    app = bare_app()

    @app.get("/me")
    async def me() -> str:
        least.verify(request.headers["Authorization"].removeprefix("Bearer "))
        return "ok"

    return app


def _their_app(*, user: bool = False, **config: Any) -> Quart:
    import quart_jwt_extended as theirs  # noqa: PLC0415  # a peer, for this alone

    app = bare_app(**config)
    manager = theirs.JWTManager(app)
    if user:
        manager.user_loader_callback_loader(lambda identity: identity)  # it awaits none

    app.add_url_rule("/me", "me", theirs.jwt_required(view), methods=["GET", "POST"])
    return app


async def run() -> list[Row]:
    """What protection adds to a Quart request."""
    new = bearers([token() for _ in range(MANY)])
    # Claims that the peer demands: others need not read them.
    theirs = bearers([token(identity="alice", user_claims={}) for _ in range(MANY)])
    in_cookies = cookies("access_token_cookie")
    their_cookies = cookies("access_token_cookie", identity="alice", user_claims={})
    app = our_app()
    bare = Timed("bare view", requests(bare_app(), "/bare", new))
    post = Timed("bare view, POST with cookies", requests(bare_app(), "/bare", in_cookies, "POST"))
    beside = Timed("ours, a view that is not protected", requests(app, "/bare", new))
    first = Timed("ours, new token", requests(app, "/me", new))
    hand = Timed("PyJWT by hand", requests(by_hand_app(), "/me", new))
    peer = Timed("quart-jwt-extended", requests(_their_app(), "/me", theirs))
    cases = [
        (beside, bare),
        (first, bare),
        (Timed("ours, repeated token", requests(app, "/me", new[:1])), bare),
        (Timed("ours, new token, async user lookup", requests(our_app(user=True), "/me", new)), bare),
        (
            Timed("ours, new token, cookie + CSRF", requests(our_app(**COOKIES), "/me", in_cookies, "POST")),
            post,
        ),
        (hand, bare),
        (Timed("the least, by hand", requests(_least_app(), "/me", new)), bare),
        (peer, bare),
        (
            Timed("quart-jwt-extended, user lookup", requests(_their_app(user=True), "/me", theirs)),
            bare,
        ),
        (
            Timed(
                "quart-jwt-extended, cookie + CSRF",
                requests(_their_app(**COOKIES), "/me", their_cookies, "POST"),
            ),
            post,
        ),
    ]
    await measure([bare, post, *(case for case, _ in cases)], rounds=150)
    return [
        *(Row(GROUP, case.name, case.median) for case in (bare, post)),
        *compare_added(GROUP, cases, (hand, bare)),
        *compare_added(GROUP, [(first, bare)], (peer, bare)),
    ]
