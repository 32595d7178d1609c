"""Formats results: tables, times, JSON, durations."""

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
    """Add the option `--json` to a command, as its argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def show_json(value: Any) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(value, indent=2))


def plain(text: str) -> str:
    """Escape what terminals would act on: clients may have chosen the text."""
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)


def say(text: str) -> None:
    """Print a line that may contain text chosen by clients."""
    click.echo(plain(text))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows under their headings, each column as wide as it needs."""
    all_rows = [head, *rows]
    widths = [max(len(click.unstyle(row[column])) for row in all_rows) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell + " " * (width - len(click.unstyle(cell))) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in all_rows
    )


def when(moment: float | None, now: float) -> str:
    """Return a time, and how far away it is, as text.

    Args:
        moment: seconds since the epoch; None or infinity means never, minus infinity always.
        now: the present, in seconds since the epoch.
    """
    if moment is None or math.isinf(moment):
        return "never" if moment is None or moment > 0 else "always"
    try:
        text = f"{dt.datetime.fromtimestamp(moment, dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, OSError, ValueError):
        return f"{moment:.0f}"
    return f"{text} ({ago(moment - now)})"


def ago(seconds: float) -> str:
    """Return how far away a time is, in the largest unit that fits.

    Args:
        seconds: negative for the past.
    """
    for name, size in _NAMES:
        count = round(abs(seconds)) // size
        if count:
            text = f"{count} {name}{'' if count == 1 else 's'}"
            return f"in {text}" if seconds > 0 else f"{text} ago"
    return "now"


def good(text: str) -> str:
    """Style good news for a terminal."""
    return click.style(text, fg="green")


def bad(text: str) -> str:
    """Style bad news for a terminal."""
    return click.style(text, fg="red", bold=True)


def duration(value: str) -> float:
    """Parse a command-line duration into seconds.

    Args:
        value: a number with a unit (s, m, h or d), or a plain number of seconds.

    Raises:
        click.BadParameter: it is not a duration.
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smhd]?)", value)
    if found is None:
        raise click.BadParameter(f"{value!r} is not a duration such as 90, 15m, 12h or 30d")
    return float(found[1]) * _UNITS[found[2] or "s"]
