"""What was to be reached, beside what was measured last: `benchmarks/results/budgets.md`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from benchmarks.report import RESULTS

__all__ = ["keep_budgets"]


@dataclass(frozen=True, slots=True)
class Budget:
    """One ratio, and where it stands.

    Attributes:
        about: what it is, for readers.
        benchmark: the benchmark that measures it.
        group: the group of its row.
        case: its row's case, up to a semicolon.
        against: how what it is compared with begins.
        limit: the most that it may be; the least where `is_floor`.
        is_floor: whether more is better.
    """

    about: str
    benchmark: str
    group: str
    case: str
    against: str
    limit: float
    is_floor: bool = False


BUDGETS = (
    Budget("HS256, first-seen, of PyJWT's decode", "codec", "HS256", "ours, first-seen", "PyJWT", 0.20),
    Budget("RS256, first-seen, of PyJWT's decode", "codec", "RS256", "ours, first-seen", "PyJWT", 0.50),
    Budget("HS256, repeated, of PyJWT's decode", "codec", "HS256", "ours, repeated", "PyJWT", 0.02),
    Budget("Quart, new token, added, of PyJWT by hand", "request", "Quart", "ours, new token", "PyJWT", 0.30),
    Budget(
        "Quart, new token, added, of quart-jwt-extended", "request", "Quart", "ours, new token", "quart", 0.12
    ),
    Budget(
        "Quart, repeated, added, of PyJWT by hand", "request", "Quart", "ours, repeated token", "PyJWT", 0.18
    ),
    Budget(
        "Flask, plain view, new token, added, of Flask-JWT-Extended",
        "request",
        "Flask, plain views",
        "ours, new token",
        "Flask",
        0.20,
    ),
    Budget(
        "Flask, async view, JWT_SHARED_LOOP, whole request, of Flask-JWT-Extended",
        "request",
        "Flask, async views",
        "ours, JWT_SHARED_LOOP",
        "Flask",
        0.45,
    ),
    Budget(
        "Redis, coalesced, 32 at once, tokens remembered: of the open view's throughput",
        "revocation",
        "32 at once, Hypercorn",
        "ours, coalesced",
        "the open",
        0.85,
        is_floor=True,
    ),
    Budget(
        "Redis, coalesced, 32 at once, each token anew: of the open view's throughput",
        "revocation",
        "32 at once, Hypercorn",
        "ours, coalesced, each token verified anew",
        "the open",
        0.85,
        is_floor=True,
    ),
    Budget(
        "Redis, mirror, 32 at once, tokens remembered: of the open view's throughput",
        "revocation",
        "32 at once, Hypercorn",
        "ours, mirror",
        "the open",
        0.90,
        is_floor=True,
    ),
    Budget(
        "Redis, mirror, 32 at once, each token anew: of the open view's throughput",
        "revocation",
        "32 at once, Hypercorn",
        "ours, mirror, each token verified anew",
        "the open",
        0.90,
        is_floor=True,
    ),
    Budget(
        "A check that asks, beside 1,000,000 revocations, of one beside 100",
        "growth",
        "A check, asked",
        "ours, beside 1,000,000 revocations",
        "100",
        1.10,
    ),
    Budget(
        "A check of the mirror, the same",
        "growth",
        "A check, mirrored, one by one",
        "ours, beside 1,000,000 revocations",
        "100",
        1.10,
    ),
)


def keep_budgets() -> str:
    """Write the table from what each benchmark found last, and return it."""
    lines = ["| ratio | budget | measured | 10th to 90th percentile | |", "|---|---:|---:|---|---|"]
    for budget in BUDGETS:
        row = _row(budget)
        if row is None:
            continue
        ratio, limit = row["ratio"], budget.limit
        held = ratio >= limit if budget.is_floor else ratio <= limit
        word = "at least" if budget.is_floor else "at most"
        span = f"{row['low']:.3f} to {row['high']:.3f}"
        verdict = "" if held else "missed"
        lines.append(f"| {budget.about} | {word} {limit:.2f} | {ratio:.3f} | {span} | {verdict} |")
    table = "\n".join(lines) + "\n"
    (RESULTS / "budgets.md").write_text(table)
    return table


def _row(budget: Budget) -> dict[str, Any] | None:
    path = RESULTS / f"{budget.benchmark}.json"
    if not path.exists():
        return None
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"]
    for row in rows:
        is_case = row["group"] == budget.group and row["case"].partition(";")[0] == budget.case
        if is_case and row["against"].startswith(budget.against):
            return row
    return None
