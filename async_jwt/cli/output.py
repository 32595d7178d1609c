"""How results look: tables, times, JSON, durations."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

__all__ = ["ago", "as_json", "bad", "duration", "good", "plain", "say", "show_json", "table", "when"]

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_NAMES = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


def as_json(command: F) -> F:
    """Give a command the option `--json`, as its argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def show_json(value: Any) -> None:
    """Print a value for programs."""
    click.echo(json.dumps(value, indent=2))


def plain(text: str) -> str:
    """A text without what terminals act on: clients may have chosen it."""
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)


def say(text: str) -> None:
    """Print a line of which others may have chosen a part."""
    click.echo(plain(text))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under their heads, each column as wide as it needs."""
    all_rows = [head, *rows]
    widths = [max(len(click.unstyle(row[column])) for row in all_rows) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell + " " * (width - len(click.unstyle(cell))) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in all_rows
    )


def when(moment: float | None, now: float) -> str:
    """A time, and how far away it is.

    Args:
        moment: seconds since the epoch; None or infinity is never.
        now: the same for the present.
    """
    if moment is None or math.isinf(moment):
        return "never" if moment is None or moment > 0 else "always"
    try:
        text = f"{dt.datetime.fromtimestamp(moment, dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, OSError, ValueError):
        return f"{moment:.0f}"
    return f"{text} ({ago(moment - now)})"


def ago(seconds: float) -> str:
    """How far away a time is, in the largest unit that it fills.

    Args:
        seconds: below 0 for what is over.
    """
    for name, size in _NAMES:
        count = round(abs(seconds)) // size
        if count:
            text = f"{count} {name}{'' if count == 1 else 's'}"
            return f"in {text}" if seconds > 0 else f"{text} ago"
    return "now"


def good(text: str) -> str:
    """As something that is well looks on a terminal."""
    return click.style(text, fg="green")


def bad(text: str) -> str:
    """As something that is not well looks on a terminal."""
    return click.style(text, fg="red", bold=True)


def duration(value: str) -> float:
    """A time span in seconds, as a command's argument says it.

    Args:
        value: a number of seconds, or one with s, m, h or d.

    Raises:
        click.BadParameter: it is none.
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smhd]?)", value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no duration, such as 90, 15m, 12h or 30d")
    return float(found[1]) * _UNITS[found[2] or "s"]
