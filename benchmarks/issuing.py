"""Making a token: `create_access_token` of each library, within its application's context.

Ours takes a stamp from the store, here in memory, and looks at what it made as if it came from a client, so
that no token is handed out that would not be accepted. A session's pair is two tokens, and the end of the
user's oldest session. quart-jwt-extended's token has no CSRF value. PyJWT by hand makes up the claims of
Flask-JWT-Extended. No hooks.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import flask
import flask_jwt_extended

from async_jwt.adapters import flask_sync
from async_jwt.adapters import quart as ours
from benchmarks import flask_request, quart_request
from benchmarks.rows import Row
from benchmarks.timing import Timed, compare, measure
from benchmarks.tokens import token

__all__ = ["run"]


def _plain(name: str, make: Callable[[], Any], app: flask.Flask | None = None) -> Timed:
    async def run(times: int) -> None:
        if app is None:
            for _ in range(times):
                make()
            return
        with app.app_context():
            for _ in range(times):
                make()

    return Timed(name, run)


def _in_quart(name: str, make: Callable[[], Any]) -> Timed:
    app = quart_request.our_app(JWT_MAX_SESSIONS=10)

    async def run(times: int) -> None:
        async with app.app_context():
            for _ in range(times):
                await make()

    return Timed(name, run)


def _their_flask() -> flask.Flask:
    app = flask_request.bare_app()
    flask_jwt_extended.JWTManager(app)
    return app


def _their_quart() -> Timed:
    import quart_jwt_extended as theirs  # noqa: PLC0415  # a peer, for this alone

    app = quart_request.bare_app()
    theirs.JWTManager(app)

    async def run(times: int) -> None:
        async with app.app_context():
            for _ in range(times):
                theirs.create_access_token("alice")

    return Timed("quart-jwt-extended", run)


async def run() -> list[Row]:
    """Making an access token, and a login's pair."""
    peer = _plain(
        "Flask-JWT-Extended", lambda: flask_jwt_extended.create_access_token("alice"), _their_flask()
    )
    cases = [
        _in_quart("ours, Quart", lambda: ours.create_access_token("alice")),
        _plain("ours, Flask", lambda: flask_sync.create_access_token("alice"), flask_request.our_app()),
        _in_quart("ours, Quart, a session's pair", lambda: ours.create_token_pair("alice")),
        _plain("PyJWT by hand", lambda: token(csrf=str(uuid.uuid4()))),
        peer,
        _their_quart(),
    ]
    await measure(cases)
    return compare("HS256", cases, peer)
