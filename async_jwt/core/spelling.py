"""Finds settings that nothing reads: misspelled ones are refused, others are logged.

A misspelled setting fails open: with `JWT_DEFAULT_DENNY = True` every view is public.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["Unknown", "unknown_settings"]

_ERRORS = 2
"""The most typing errors in a misspelled name: a letter inserted, dropped or changed, or two swapped."""

_CLAIMS = "additional claims are at the top level of a token: read them with get_jwt()"
_REVOCATION = "revocation is always checked: set JWT_STORE_URI, or register token_in_blocklist_loader"
_FORMER: Final = {
    "JWT_BLACKLIST_ENABLED": _REVOCATION,
    "JWT_BLACKLIST_TOKEN_CHECKS": _REVOCATION,
    "JWT_BLACKLIST_STORE": "set JWT_STORE_URI",
    "JWT_CLAIMS_IN_REFRESH_TOKEN": "refresh tokens always carry additional claims",
    "JWT_CSRF_HEADER_NAME": "set JWT_ACCESS_CSRF_HEADER_NAME and JWT_REFRESH_CSRF_HEADER_NAME",
    "JWT_USER_CLAIMS": _CLAIMS,
    "JWT_VERIFY_AUDIENCE": "the audience is checked where JWT_DECODE_AUDIENCE is set",
}
"""Former settings of Flask-JWT-Extended, and what replaced each."""

_USUAL: Final = frozenset({"JWT_ISSUER"})
"""Names that many applications give settings of their own, although they resemble ours."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A setting that nothing reads.

    Attributes:
        key: its name.
        text: the message about it.
        is_refused: whether it is an error.
    """

    key: str
    text: str
    is_refused: bool = False


def unknown_settings(
    keys: Iterable[str], known: Mapping[str, bool], ignored: Collection[str], *, is_compat: bool
) -> Iterator[Unknown]:
    """The settings in an application's configuration that nothing reads.

    Args:
        keys: the names in its configuration.
        known: the names of our settings, and whether Flask-JWT-Extended lacks each.
        ignored: names that the application declares as its own.
        is_compat: whether to only log misspelled settings of Flask-JWT-Extended, which ignores them.
    """
    for key in keys:
        # Not only "JWT_": typing errors such as JTW_SECRET_KEY begin with "J" too.
        if key[:1] == "J" and key not in known and key not in ignored:
            found = _judged(key, known, is_compat=is_compat)
            if found is not None:
                yield found


def _judged(key: str, known: Mapping[str, bool], *, is_compat: bool) -> Unknown | None:
    own = f'If it is your own, set JWT_IGNORED_SETTINGS = ["{key}"]'
    if key in _FORMER:
        return Unknown(key, f"Nothing reads {key} any more: {_FORMER[key]}")
    near = None if key in _USUAL or _is_derived(key, known) else _nearest(key, known)
    if near is not None:
        return Unknown(
            key, f"{key} is not a setting. Did you mean {near}? {own}", known[near] or not is_compat
        )
    return Unknown(key, f"Nothing reads {key}. {own}") if key.startswith("JWT_") else None


def _is_derived(key: str, known: Collection[str]) -> bool:
    """True for a known name plus a suffix, as applications name theirs: JWT_ALGORITHMS, JWT_SECRET_KEY2."""
    if (key.endswith("S") and key[:-1] in known) or key.rstrip("0123456789") in known:
        return True
    return any(key.startswith(f"{name}_") and key[len(name) + 1 :].strip("_") for name in known)


def _nearest(key: str, known: Collection[str]) -> str | None:
    near = [name for name in known if abs(len(name) - len(key)) <= _ERRORS]
    distances = ((_distance(key, name), name) for name in near if not _has_another_word(key, name))
    distance, name = min(distances, default=(_ERRORS + 1, ""))
    return name if distance <= _ERRORS else None


def _has_another_word(key: str, name: str) -> bool:
    """True if a whole word differs (KID and KEY, MIN and MAX): that is a choice, not a typing error."""
    words = list(zip(key.split("_"), name.split("_"), strict=False))
    if key.count("_") != name.count("_"):
        return False  # an underscore was typed or left out
    return any(2 * _distance(one, other) >= max(len(one), len(other), 1) for one, other in words)


def _distance(one: str, other: str) -> int:
    """The number of typing errors between two names (Damerau-Levenshtein; no letter changes twice)."""
    before: list[int] = []
    row: list[int] = [*range(len(other) + 1)]
    for i, letter in enumerate(one, 1):
        before, last, row = row, before, [i]
        for j, wanted in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and (letter, one[i - 2]) == (other[j - 2], wanted):
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]
