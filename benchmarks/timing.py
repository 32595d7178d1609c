"""How things are timed: cases in shuffled, interleaved rounds; ratios taken within a round.

Rounds are short, so that all cases of one see the same machine, and processor time is counted,
so that its other tenants are not.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from benchmarks.rows import Row

__all__ = ["Timed", "added", "compare", "compare_added", "deciles", "measure", "ratios"]

ROUNDS = 60
ROUND_SECONDS = 0.01


@dataclass
class Timed:
    """One case: its name and microseconds a call, one figure a round."""

    name: str
    run: Callable[[int], Awaitable[None]]
    figures: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.figures)


async def measure(
    cases: list[Timed],
    *,
    rounds: int = ROUNDS,
    seconds: float = ROUND_SECONDS,
    clock: Callable[[], float] = time.process_time,
) -> None:
    """Time all cases against each other.

    Args:
        cases: the cases.
        rounds: how often each is timed.
        seconds: for how long, about.
        clock: in seconds; another one than the processor's where a server has its part.
    """
    counts = {}
    for case in cases:
        await case.run(20)  # warm
        started = clock()
        await case.run(50)
        counts[case.name] = max(10, int(seconds / ((clock() - started) / 50)))
    gc.collect()
    gc.freeze()  # what stands by now is not looked at in each round
    order = list(cases)
    for _ in range(rounds):
        random.shuffle(order)
        for case in order:
            gc.collect()
            gc.disable()
            await case.run(3)  # after what the others left in the processor's caches
            started = clock()
            await case.run(counts[case.name])
            case.figures.append((clock() - started) / counts[case.name] * 1e6)
            gc.enable()
    gc.unfreeze()


def ratios(top: list[float], bottom: list[float]) -> tuple[float, float, float]:
    """Median, 10th and 90th percentile of the ratios within each round."""
    found = sorted(a / b for a, b in zip(top, bottom, strict=True))
    return statistics.median(found), *deciles(found)


def deciles(figures: list[float]) -> tuple[float, float]:
    """The 10th and the 90th percentile."""
    found = statistics.quantiles(figures, n=10, method="inclusive")
    return found[0], found[-1]


def added(case: Timed, bare: Timed) -> list[float]:
    """What a case takes more than the bare one, round by round."""
    return [a - b for a, b in zip(case.figures, bare.figures, strict=True)]


def compare(group: str, cases: list[Timed], against: Timed, what: str = "") -> list[Row]:
    """What each case takes, and its ratio to one of them.

    Args:
        group: what they have in common.
        cases: the cases, measured.
        against: the one.
        what: what is compared, such as "the whole request".
    """
    name = f"{against.name}, {what}" if what else against.name
    return [
        Row(group, case.name, case.median, "us", name, *ratios(case.figures, against.figures))
        for case in cases
    ]


def compare_added(group: str, cases: list[tuple[Timed, Timed]], against: tuple[Timed, Timed]) -> list[Row]:
    """What each case adds to its bare view, and its ratio to what one of them adds to its own.

    Args:
        group: what they have in common.
        cases: each with the bare view of its framework.
        against: the one, likewise.
    """
    reference = added(*against)
    return [
        Row(
            group,
            case.name,
            statistics.median(added(case, bare)),
            "us added",
            f"{against[0].name}, added",
            *ratios(added(case, bare), reference),
        )
        for case, bare in cases
    ]
