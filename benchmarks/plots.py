"""Bars of ratios, one picture a benchmark."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.rows import Row

__all__ = ["plot"]

_OURS, _OTHERS = "#2b7a78", "#9aa5b1"


def plot(name: str, rows: list[Row], path: Path) -> None:
    """Draw the ratios of a benchmark; nothing where there are none.

    Args:
        name: the benchmark's.
        rows: what it found.
        path: the SVG file.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row.ratio is not None:
            groups.setdefault(f"{row.group}: against {row.against}", []).append(row)
    if not groups:
        return
    # The same figures give the same file, and text stays text.
    mpl.rcParams.update({"svg.hashsalt": name, "svg.fonttype": "none", "font.size": 9})
    heights = [len(group) + 1 for group in groups.values()]
    figure = Figure(figsize=(9, 0.28 * sum(heights) + 0.35 * len(groups)), layout="constrained")
    axes = figure.subplots(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (title, group) in zip(axes, groups.items(), strict=True):
        ratios = [row.ratio or 0.0 for row in group]
        spread = [
            [
                ratio - (ratio if row.low is None else row.low)
                for ratio, row in zip(ratios, group, strict=True)
            ],
            [
                (ratio if row.high is None else row.high) - ratio
                for ratio, row in zip(ratios, group, strict=True)
            ],
        ]
        spread = [[max(0.0, length) for length in side] for side in spread]
        colours = [_OURS if "ours" in row.case else _OTHERS for row in group]
        names = [row.case for row in group]
        axis.barh(names, ratios, xerr=spread, color=colours, error_kw={"elinewidth": 0.8})
        axis.axvline(1.0, color="#555", linewidth=0.8, linestyle=":")
        axis.invert_yaxis()
        axis.set_title(title, loc="left", fontsize=9, fontweight="bold")
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
