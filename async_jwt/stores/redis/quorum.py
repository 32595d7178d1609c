"""Asks several servers the same question at once; some of them may be down or wrong."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Hashable, Sequence
from typing import Any, TypeVar

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores.redis.deadline import Deadline
from async_jwt.stores.redis.errors import refuses_for_good

__all__ = ["quorum"]

A = TypeVar("A", bound=Hashable)


async def quorum(questions: Sequence[Coroutine[Any, Any, A]], patience: float) -> list[A]:
    """Ask all servers and wait until more than half of them agree.

    Args:
        questions: one query per server. A failed query counts as no answer.
        patience: maximum seconds to wait for agreement; after the first answer, a quarter of that.

    Returns:
        The agreed answer alone; without agreement, all answers received, possibly none.

    Raises:
        StoreUnavailableError: this process was too busy to read them.
        RedisError: no server answered, and one refused for good, such as for a wrong password.
    """
    loop, deadline = asyncio.get_running_loop(), Deadline(patience)
    waiting: set[asyncio.Task[A]] = {loop.create_task(question) for question in questions}
    answers: Counter[A] = Counter()
    failures: list[BaseException | None] = []
    try:
        while waiting:
            done = await deadline.first_of(waiting)
            if not done and deadline.is_missed_by_us:
                raise StoreUnavailableError("This process was too busy to read the answers")
            if not done:
                break
            waiting -= done
            said = [task.result() for task in done if task.exception() is None]
            failures += [task.exception() for task in done]
            if said and not answers:
                deadline.shorten(patience / 4)
            answers.update(said)
            if answers and answers.most_common(1)[0][1] * 2 > len(questions):
                return [answers.most_common(1)[0][0]]
    finally:
        for task in waiting:
            task.cancel()
        if waiting:
            await asyncio.wait(waiting)
    refusal = next((problem for problem in failures if refuses_for_good(problem)), None)
    if refusal is not None and not answers:
        raise refusal
    return list(answers)
