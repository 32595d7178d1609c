"""The devices page: where a user is signed in, signing one or all others out, and stolen tokens."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict, deque
from typing import Any, cast

from quart import Blueprint, Quart, current_app, render_template_string, request
from quart.typing import ResponseReturnValue

from async_jwt.adapters.quart import (
    get_jwt_identity,
    jwt_required,
    list_sessions,
    revoke_session,
    revoke_user,
)
from async_jwt.signals import token_reused
from examples.demo.pages import DEVICES_PAGE

REMEMBERED = 5

# Its answers to a refused token are those of the pages, which registers it.
devices = Blueprint("devices", __name__, url_prefix="/devices")

_BROWSERS = ("Edg", "OPR", "Firefox", "Chrome", "Safari", "curl", "python-httpx")
_SYSTEMS = ("Android", "iPhone", "iPad", "Windows", "Mac OS", "Linux")


class Incidents:
    """What happened to the users' sessions, for them to see. The last few of each, in this process."""

    def __init__(self, app: Quart) -> None:
        self._of: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=REMEMBERED))
        token_reused.connect(self._note, sender=app)

    def of(self, identity: str) -> list[str]:
        """The last ones first."""
        return list(self._of[identity])[::-1]

    def _note(self, _: Quart, *, kind: str, identity: str, **_more: Any) -> None:
        if kind != "revoked_session":  # that was told already
            now = dt.datetime.now(dt.UTC)
            self._of[identity].append(
                f"At {now:%H:%M:%S} UTC somebody used a copy of a token. That session was signed out."
            )


def device_name() -> str:
    """What to call the client of this request, as far as it says itself."""
    agent = request.headers.get("User-Agent", "")
    browser = next((name for name in _BROWSERS if name in agent), "A program")
    system = next((name for name in _SYSTEMS if name in agent), None)
    return browser if system is None else f"{browser} on {system}"


@devices.get("/")
@jwt_required(locations="cookies")
async def show() -> ResponseReturnValue:
    page = await list_sessions(limit=20, cursor=request.args.get("after"))
    incidents = cast("Incidents", current_app.extensions["incidents"]).of(get_jwt_identity())
    body = await render_template_string(DEVICES_PAGE, page=page, incidents=incidents)
    return body, 200, {"Cache-Control": "no-store"}


@devices.post("/<sid>/sign-out")
@jwt_required(locations="cookies")
async def sign_out(sid: str) -> ResponseReturnValue:
    # Inside a request only one's own sessions can be signed out: nothing else to check.
    found = await revoke_session(sid)
    return ({"msg": "Signed out"}, 200) if found else ({"msg": "No such device of yours"}, 404)


@devices.post("/sign-out-others")
@jwt_required(locations="cookies")
async def sign_out_others() -> ResponseReturnValue:
    await revoke_user(keep_current=True)
    return {"msg": "Signed out on all other devices"}
