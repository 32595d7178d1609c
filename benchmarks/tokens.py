"""The tokens that requests are benchmarked with, and what is said of what they add."""

from __future__ import annotations

import time
import uuid
from typing import Any

import jwt as pyjwt

from benchmarks.timing import Timed, added, measure, ratios

SECRET = "benchmark-" * 8


def token(**more: Any) -> str:
    """A new access token."""
    now = int(time.time())
    claims = {
        "fresh": False,
        "iat": now,
        "jti": str(uuid.uuid4()),
        "type": "access",
        "sub": "alice",
        "nbf": now,
        "exp": now + 3600,
    }
    return pyjwt.encode({**claims, **more}, SECRET, algorithm="HS256")


async def compare(framework: str, bare: Timed, cases: list[Timed], against: Timed) -> list[dict[str, Any]]:
    """Time all cases; say what each adds to the bare view, and its ratio to what one of them adds."""
    await measure([bare, *cases])
    rows: list[dict[str, Any]] = [{"case": f"{framework}: bare view", "us": round(bare.median, 1)}]
    reference = added(against, bare)
    for case in cases:
        middle, low, high = ratios(added(case, bare), reference)
        extra = sorted(added(case, bare))[len(bare.figures) // 2]
        rows.append(
            {
                "case": f"{framework}: {case.name}",
                "us": round(extra, 1),
                "against": f"{against.name}, added",
                "ratio": round(middle, 3),
                "p10": round(low, 3),
                "p90": round(high, 3),
            }
        )
    return rows


async def compare_whole(framework: str, cases: list[Timed], against: Timed) -> list[dict[str, Any]]:
    """Time all cases; say what each takes, and its ratio to one of them."""
    await measure(cases)
    rows: list[dict[str, Any]] = []
    for case in cases:
        middle, low, high = ratios(case.figures, against.figures)
        rows.append(
            {
                "case": f"{framework}: {case.name}",
                "us": round(case.median, 1),
                "against": f"{against.name}, the whole request",
                "ratio": round(middle, 3),
                "p10": round(low, 3),
                "p90": round(high, 3),
            }
        )
    return rows
