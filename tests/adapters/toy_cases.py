"""The core cases of this suite for the toy framework: `python -m tests.adapters.toy_cases`.

Run so, it prints which of the frameworks' packages the process has imported: none.
"""

from __future__ import annotations

import asyncio
import sys

from tests.adapters import toy
from tests.adapters.toy import App, JWTManager, Request, Response, api
from tests.harness import SECRET


def made(**config):
    app = App(JWT_SECRET_KEY=SECRET, **config)
    return app, JWTManager(app)


async def a_token_in_the_header(view):
    app, jwt = made()
    app.views["/me"] = api.jwt_required()(view)
    sent = {"Authorization": f"Bearer {await jwt.create_access_token('alice')}"}
    answer = await app.handle(Request("/me", sent=sent))
    assert (answer.status, answer.body) == (200, "alice")


async def header_async():
    async def view():
        return api.get_jwt_identity()

    await a_token_in_the_header(view)


async def header_plain():
    await a_token_in_the_header(api.get_jwt_identity)


async def refusals():
    app, _ = made()
    app.views["/me"] = api.jwt_required()(lambda: "never")
    missing = await app.handle(Request("/me"))
    assert (missing.status, missing.body["code"]) == (401, "authorization_required")
    assert ("WWW-Authenticate", "Bearer") in missing.headers
    forged = await app.handle(Request("/me", sent={"Authorization": "Bearer a.b.c"}))
    assert forged.body["code"] == "token_invalid"


async def cookies_and_csrf():
    app, jwt = made(JWT_TOKEN_LOCATION=["cookies"])

    async def login():
        response = Response("in")
        api.cookies.set_token_cookies(response, await api.operations.create_token_pair("alice"))
        return response

    app.views["/login"] = login
    app.views["/me"] = api.jwt_required()(api.get_jwt_identity)
    origin = {"Origin": "https://toy.example"}
    signed_in = await app.handle(Request("/login", "POST", sent=origin))
    held = dict(value.split("=", 1) for key, value in signed_in.headers if key == "Set-Cookie")
    csrf = next(value for name, value in held.items() if "csrf_access" in name)
    assert (await app.handle(Request("/me", cookies=held))).body == "alice"
    without = await app.handle(Request("/me", "POST", sent=origin, cookies=held))
    assert (without.status, without.body["code"]) == (401, "csrf_failed")
    within = await app.handle(Request("/me", "POST", sent={**origin, "X-CSRF-TOKEN": csrf}, cookies=held))
    assert within.body == "alice"
    await jwt.revoke_user("alice")
    over = await app.handle(Request("/me", cookies=held))
    assert over.body["code"] == "token_revoked"
    assert ("Set-Cookie", "access_token_cookie=") in over.headers, "a dead cookie is deleted"


async def revocation():
    app, _ = made()

    async def sign_out():
        await api.operations.revoke_token()
        return "out"

    app.views["/out"] = api.jwt_required()(sign_out)
    app.views["/me"] = api.jwt_required()(lambda: "in")
    async with toy.Toy().context(app):
        token = await api.operations.create_access_token("alice")
    sent = {"Authorization": f"Bearer {token}"}
    assert [(await app.handle(Request(path, sent=sent))).status for path in ("/me", "/out", "/me")] == [
        200,
        200,
        401,
    ]


CASES = [header_async, header_plain, refusals, cookies_and_csrf, revocation]


if __name__ == "__main__":
    for case in CASES:
        asyncio.run(case())
    packages = {name.partition(".")[0] for name in sys.modules}
    print(len(CASES), sorted(packages & {"werkzeug", "flask", "quart", "asgiref", "redis"}))  # noqa: T201
