"""The tokens that requests are benchmarked with, and the headers that carry them."""

from __future__ import annotations

import time
import uuid
from typing import Any

import jwt as pyjwt

__all__ = ["MANY", "SECRET", "Headers", "bearers", "cookies", "token"]

SECRET = "benchmark-" * 8
MANY = 4000
"""More than the memory of verified tokens holds, so that each is verified anew."""

Headers = list[tuple[str, str]]


def token(**more: Any) -> str:
    """A new access token, with the claims that all peers give theirs."""
    now = int(time.time())
    claims = {
        "fresh": False,
        "iat": now,
        "jti": str(uuid.uuid4()),
        "type": "access",
        "sub": "alice",
        "nbf": now,
        "exp": now + 3600,
    }
    return pyjwt.encode({**claims, **more}, SECRET, algorithm="HS256")


def bearers(tokens: list[str]) -> list[Headers]:
    """Each token in its header."""
    return [[("Authorization", f"Bearer {text}")] for text in tokens]


def cookies(name: str, count: int = MANY, **more: Any) -> list[Headers]:
    """New tokens in a cookie, with their CSRF values, as a browser's `fetch` sends them.

    Args:
        name: the cookie's.
        count: how many.
        more: further claims.
    """
    found: list[Headers] = []
    for _ in range(count):
        csrf = str(uuid.uuid4())
        text = token(csrf=csrf, **more)
        found.append(
            [
                ("Origin", "https://localhost"),
                ("Sec-Fetch-Site", "same-origin"),
                ("Cookie", f"{name}={text}"),
                ("X-CSRF-TOKEN", csrf),
            ]
        )
    return found
