"""Settings that nothing reads: misspelled ones are refused, others are named in the log.

A misspelled setting fails open: with `JWT_DEFAULT_DENNY = True` every view is public.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["Unknown", "unknown_settings"]

_ERRORS = 2
"""Typing errors that a misspelled name has at most: a letter inserted, dropped or changed, or two swapped."""

_CLAIMS = "additional claims stand at the top level of a token: read them with get_jwt()"
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
"""Settings that Flask-JWT-Extended had once, and what replaced each."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A setting that nothing reads.

    Attributes:
        key: its name.
        text: what to say of it.
        is_refused: whether it is an error.
    """

    key: str
    text: str
    is_refused: bool = False


def unknown_settings(
    keys: Iterable[str], known: Mapping[str, bool], ignored: Collection[str], *, is_compat: bool
) -> Iterator[Unknown]:
    """What is to be said of an application's settings.

    Args:
        keys: the names in its configuration.
        known: the names of our settings, and whether Flask-JWT-Extended lacks each.
        ignored: names that the application says are its own.
        is_compat: whether misspelled settings of Flask-JWT-Extended are only named: it ignores them.
    """
    for key in keys:
        # Names that begin otherwise are other people's, or typing errors such as JTW_SECRET_KEY.
        if key[:1] == "J" and key not in known and key not in ignored:
            found = _judged(key, known, is_compat=is_compat)
            if found is not None:
                yield found


def _judged(key: str, known: Mapping[str, bool], *, is_compat: bool) -> Unknown | None:
    own = f'If it is your own, set JWT_IGNORED_SETTINGS = ["{key}"]'
    if key in _FORMER:
        return Unknown(key, f"Nothing reads {key} any more: {_FORMER[key]}")
    near = None if _is_derived(key, known) else _nearest(key, known)
    if near is not None:
        return Unknown(
            key, f"{key} is not a setting. Did you mean {near}? {own}", known[near] or not is_compat
        )
    return Unknown(key, f"Nothing reads {key}. {own}") if key.startswith("JWT_") else None


def _is_derived(key: str, known: Collection[str]) -> bool:
    """Whether it is a known name and more, as applications name theirs: JWT_ALGORITHMS, JWT_SECRET_KEY2."""
    if (key.endswith("S") and key[:-1] in known) or key.rstrip("0123456789") in known:
        return True
    return any(key.startswith(f"{name}_") and key[len(name) + 1 :].strip("_") for name in known)


def _nearest(key: str, known: Collection[str]) -> str | None:
    near = [name for name in known if abs(len(name) - len(key)) <= _ERRORS]
    distances = ((_distance(key, name), name) for name in near if not _has_another_word(key, name))
    distance, name = min(distances, default=(_ERRORS + 1, ""))
    return name if distance <= _ERRORS else None


def _has_another_word(key: str, name: str) -> bool:
    """Whether a whole word differs (KID and KEY, MIN and MAX): people choose it, they do not mistype it."""
    words = list(zip(key.split("_"), name.split("_"), strict=False))
    if key.count("_") != name.count("_"):
        return False  # one between two words was typed or left out
    return any(2 * _distance(one, other) >= max(len(one), len(other), 1) for one, other in words)


def _distance(one: str, other: str) -> int:
    """How many typing errors apart two names are (Damerau and Levenshtein; no letter is touched twice)."""
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
