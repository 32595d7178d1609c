"""Strict JWS compact serialisation (RFC 7515 §7.1): the text of a token, without any key.

The accepted input is narrow on purpose: ASCII, exactly three parts, canonical base64url
without padding, UTF-8 JSON objects without duplicate keys, non-finite numbers, lone
surrogates or deep nesting. Each token therefore has exactly one text.
"""

from __future__ import annotations

import json
from binascii import Error, a2b_base64, b2a_base64
from typing import Any, NamedTuple, NoReturn

from async_jwt.core.concurrency import refuse_coroutine
from async_jwt.core.tuples import fast_tuple
from async_jwt.errors import MalformedTokenError

__all__ = ["MAX_DEPTH", "Compact", "attach", "bytes_in", "object_in", "serialise", "split"]

MAX_DEPTH = 64
"""How deep arrays and objects in a header or claim set may nest."""

# "+", "/" and "=" belong to plain base64: map them to a character that no decoder accepts.
_TO_PLAIN = bytes.maketrans(b"-_+/=", b"+/!!!")
_TO_URL = bytes.maketrans(b"+/", b"-_")
# The characters that may end a segment whose length is not a multiple of 4, and its missing padding.
# Others carry stray bits, which decoders ignore: one token would then have several texts.
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_ENDS: dict[int, tuple[frozenset[int], bytes]] = {
    1: (frozenset(), b""),
    2: (frozenset(_ALPHABET[::16]), b"=="),
    3: (frozenset(_ALPHABET[::4]), b"="),
}


class Compact(NamedTuple):
    """A token's text, split into its parts. Nothing in it has been verified."""

    signing_input: bytes
    header: bytes
    payload: bytes
    signature: bytes

    def __repr__(self) -> str:
        return "<Compact>"  # anyone with these bytes has the token


def split(token: object, max_bytes: int) -> Compact:
    """Split a token into its parts.

    Args:
        token: the token's text.
        max_bytes: the longest text that is accepted, in bytes.

    Raises:
        MalformedTokenError: it is too long, or not a compact JWS.
        TypeError: it is an un-awaited coroutine.
    """
    if not isinstance(token, str):
        refuse_coroutine(token, "write `await create_access_token(...)`")
        raise MalformedTokenError("Invalid token type. Token must be a string")
    if len(token) > max_bytes:
        raise MalformedTokenError(f"Token is longer than {max_bytes} bytes")
    if not token.isascii():
        raise MalformedTokenError("Invalid token: must be ASCII")
    signing_input, _, signature = token.encode("ascii").rpartition(b".")
    header, dot, payload = signing_input.partition(b".")
    if not dot:
        raise MalformedTokenError("Not enough segments")
    return fast_tuple(Compact, (signing_input, header, payload, signature))


def bytes_in(segment: bytes, name: str) -> bytes:
    """Decode a segment.

    Args:
        segment: one of a token's parts.
        name: its name in errors.

    Raises:
        MalformedTokenError: it is not canonical base64url.
    """
    plain, remainder = segment.translate(_TO_PLAIN), len(segment) % 4
    if remainder:
        last, padding = _ENDS[remainder]
        # An invalid last character becomes "!", which the decoder below refuses.
        plain += padding if segment[-1] in last else b"!"
    try:
        return a2b_base64(plain, strict_mode=True)
    except Error:
        raise MalformedTokenError(f"Invalid {name} padding") from None


def _encode(raw: bytes) -> bytes:
    return b2a_base64(raw, newline=False).rstrip(b"=").translate(_TO_URL)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0.0:
        raise ValueError("number out of range")
    return number


_scan: Any = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite).scan_once  # type: ignore[attr-defined]  # typeshed lacks it
_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)


def object_in(segment: bytes, name: str) -> tuple[dict[str, Any], bool]:
    """The JSON object in a segment, and True if it may hold nested values.

    Args:
        segment: one of a token's parts.
        name: its name in errors.

    Raises:
        MalformedTokenError: it does not hold a strict JSON object.
    """
    raw = bytes_in(segment, name)
    try:
        text = raw.decode()
        found, end = _scan(text, 0) if text[:1] == "{" else (None, 0)
        # As many keys as colons means no duplicate key. Nesting, white space and colons in strings
        # go to the slower decoder, which checks the keys of every object.
        if type(found) is not dict or len(found) != text.count(":") or end != len(text):
            found = _decoder.decode(text)
    except (ValueError, RecursionError, StopIteration):
        raise MalformedTokenError(f"Invalid {name} string: not strict JSON") from None
    if not isinstance(found, dict):
        raise MalformedTokenError(f"Invalid {name} string: must be a json object")
    # Searching for a single character is fast, and most claim sets are flat.
    nested = "[" in text or text.find("{", 1) > 0
    if nested and _depth(found) > MAX_DEPTH:
        raise MalformedTokenError(f"Invalid {name} string: nested too deeply")
    if "\\" in text:
        _refuse_surrogates(found, name)
    return found, nested


def _depth(value: object) -> int:
    """The nesting depth of a parsed value, counted level by level to avoid recursion."""
    depth, level = 0, [value]
    while level:
        level = [
            child
            for item in level
            if isinstance(item, (dict, list))
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        depth += 1
    return depth - 1


def _refuse_surrogates(found: dict[str, Any], name: str) -> None:
    try:
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise MalformedTokenError(f"Invalid {name} string: not UTF-8") from None


def serialise(header: bytes, payload: bytes) -> bytes:
    """The signing input of a new token: both JSON texts in base64url, joined by a dot."""
    return _encode(header) + b"." + _encode(payload)


def attach(signing_input: bytes, signature: bytes) -> str:
    """A whole token from its signing input and signature."""
    return (signing_input + b"." + _encode(signature)).decode("ascii")
