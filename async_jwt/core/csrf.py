"""Masks a session's CSRF value for a page, and compares what a client sends with it."""

from __future__ import annotations

import base64
import hmac
import secrets

__all__ = ["is_same", "masked"]


def masked(value: str) -> str:
    """A CSRF value in a form that differs at each call.

    A page that is compressed and shows a secret next to a visitor's own text lets others guess the secret
    from the length (BREACH). A value that never repeats gives nothing to guess.
    """
    held = value.encode()
    mask = secrets.token_bytes(len(held))
    return base64.urlsafe_b64encode(mask + _xor(mask, held)).decode("ascii")


def is_same(expected: str, sent: str) -> bool:
    """True if a client sent this value, masked or not. Compares in constant time."""
    # As bytes: compare_digest rejects non-ASCII strings.
    held, given = expected.encode(), sent.encode("utf-8", "surrogatepass")
    if hmac.compare_digest(held, given):
        return True
    try:
        parts = base64.b64decode(given, altchars=b"-_", validate=True)
    except ValueError:
        return False
    half = len(held)
    return len(parts) == 2 * half and hmac.compare_digest(held, _xor(parts[:half], parts[half:]))


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(left ^ right for left, right in zip(one, other, strict=True))
