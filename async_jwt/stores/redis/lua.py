"""The Lua scripts, shipped next to this module. The server caches them by digest."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import NamedTuple

__all__ = [
    "CLOCK",
    "CONSUME_TOKEN",
    "DROP_SESSIONS",
    "EXPIRE_ACCESS",
    "INIT_BUCKETS",
    "LIST_SESSIONS",
    "NEW_EPOCH",
    "OPEN_FEEDS",
    "REPLACE_SESSION",
    "REVOKE_EVERYTHING",
    "REVOKE_ONE",
    "REVOKE_SESSION",
    "REVOKE_USER",
    "SCAN_REVOKED",
    "Script",
]


class Script(NamedTuple):
    """A script and the digest that the server knows it by."""

    text: bytes
    digest: str


def _load(name: str) -> Script:
    folder = files(__package__) / "scripts"
    text = (folder / "_common.lua").read_bytes() + (folder / f"{name}.lua").read_bytes()
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest())


CLOCK = _load("clock")
CONSUME_TOKEN = _load("consume_token")
DROP_SESSIONS = _load("drop_sessions")
EXPIRE_ACCESS = _load("expire_access")
INIT_BUCKETS = _load("init_buckets")
LIST_SESSIONS = _load("list_sessions")
NEW_EPOCH = _load("new_epoch")
OPEN_FEEDS = _load("open_feeds")
REPLACE_SESSION = _load("replace_session")
SCAN_REVOKED = _load("scan_revoked")
REVOKE_ONE = _load("revoke_one")
REVOKE_SESSION = _load("revoke_session")
REVOKE_USER = _load("revoke_user")
REVOKE_EVERYTHING = _load("revoke_everything")
