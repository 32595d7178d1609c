"""What a benchmark found."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Row"]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    Attributes:
        group: what it is compared within.
        case: what was measured.
        value: the median.
        unit: its unit.
        against: what the ratio is to.
        ratio: the median of the ratios within each round; None for a figure by itself.
        low: their 10th percentile.
        high: their 90th.
    """

    group: str
    case: str
    value: float
    unit: str = "us"
    against: str = ""
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
