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

ROUNDS = 150
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
    cases: list[Timed], *, rounds: int = ROUNDS, clock: Callable[[], float] = time.process_time
) -> None:
    """Time all cases against each other.

    Args:
        cases: the cases.
        rounds: how often each is timed.
        clock: in seconds; another one than the processor's where a server has its part.
    """
    counts = {}
    for case in cases:
        await case.run(20)  # warm
        started = clock()
        await case.run(50)
        counts[case.name] = max(10, int(ROUND_SECONDS / ((clock() - started) / 50)))
    order = list(cases)
    for _ in range(rounds):
        random.shuffle(order)
        for case in order:
            gc.collect()
            gc.disable()
            started = clock()
            await case.run(counts[case.name])
            case.figures.append((clock() - started) / counts[case.name] * 1e6)
            gc.enable()


def ratios(top: list[float], bottom: list[float]) -> tuple[float, float, float]:
    """Median, 10th and 90th percentile of the ratios within each round."""
    found = sorted(a / b for a, b in zip(top, bottom, strict=True))
    deciles = statistics.quantiles(found, n=10)
    return statistics.median(found), deciles[0], deciles[-1]


def added(case: Timed, bare: Timed) -> list[float]:
    """What a case takes more than the bare one, round by round."""
    return [a - b for a, b in zip(case.figures, bare.figures, strict=True)]
