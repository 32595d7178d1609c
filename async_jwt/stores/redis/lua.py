"""The Lua scripts, shipped beside this module. The server keeps them by their digest."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import NamedTuple

__all__ = [
    "CLOCK",
    "DROP_SESSIONS",
    "FOUND",
    "LIST_SESSIONS",
    "LOSE",
    "OPEN_FEEDS",
    "PUT_SESSION",
    "REVOKED",
    "REVOKE_EVERYTHING",
    "REVOKE_ONE",
    "REVOKE_SESSION",
    "REVOKE_USER",
    "Script",
]


class Script(NamedTuple):
    """A script and the digest that the server knows it by."""

    text: bytes
    digest: str


def _load(name: str) -> Script:
    folder = files(__package__) / "scripts"
    text = (folder / "head.lua").read_bytes() + (folder / f"{name}.lua").read_bytes()
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest())


CLOCK = _load("clock")
DROP_SESSIONS = _load("drop_sessions")
FOUND = _load("found")
LIST_SESSIONS = _load("list_sessions")
LOSE = _load("lose")
OPEN_FEEDS = _load("open_feeds")
PUT_SESSION = _load("put_session")
REVOKED = _load("revoked")
REVOKE_ONE = _load("revoke_one")
REVOKE_SESSION = _load("revoke_session")
REVOKE_USER = _load("revoke_user")
REVOKE_EVERYTHING = _load("revoke_everything")
