"""Reads that wait in the same tick of an event loop become one command."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from functools import partial
from typing import cast

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores.redis.errors import fresh_copy

__all__ = ["BATCH", "BatchLoader"]

BATCH = 128
"""How many reads share a command; more of the same tick go in further ones, at the same time."""

_PATIENCE = 6
"""How many ticks the first read waits for others, as long as each brings some or a command is under way."""

Values = list[bytes | None]
_Waiting = tuple[list[str], "asyncio.Future[Values]"]


class BatchLoader:
    """Gathers what is read on one event loop.

    A read that is cancelled takes nothing from the others, and a command goes on as long as
    anybody waits for it.

    Args:
        fetch: reads some keys in one command. It bounds its own time. In the place of what
            cannot be read may stand an error, for those alone who asked for it.

    Attributes:
        flights: the commands under way.
    """

    def __init__(
        self, fetch: Callable[[list[str]], Awaitable[Sequence[bytes | StoreUnavailableError | None]]]
    ) -> None:
        self._fetch = fetch
        self._waiting: list[_Waiting] = []
        self.flights: set[asyncio.Task[None]] = set()

    async def get(self, keys: list[str]) -> Values:
        """Read some keys, in their order.

        Raises:
            StoreUnavailableError: they could not be read.
        """
        loop = asyncio.get_running_loop()
        if not self._waiting:
            # A context of its own: what is read for many belongs to none of them.
            loop.call_soon(self._leave, loop, 0, _PATIENCE, context=Context())
        future: asyncio.Future[Values] = loop.create_future()
        self._waiting.append((keys, future))
        return await future

    def _leave(self, loop: asyncio.AbstractEventLoop, before: int, ticks: int) -> None:
        if ticks and (self.flights or len(self._waiting) > before):
            # More may be on their way: requests that came together are rarely served in one tick, and
            # two crowds, each waiting while the other's command is under way, would never be one again.
            loop.call_soon(self._leave, loop, len(self._waiting), ticks - 1)
            return
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), BATCH):
            batch = waiting[start : start + BATCH]
            flight = loop.create_task(self._fly(batch))
            self.flights.add(flight)
            flight.add_done_callback(partial(self._landed, batch))

    async def _fly(self, waiting: list[_Waiting]) -> None:
        places: dict[str, int] = {}
        for keys, future in waiting:
            if not future.done():
                for key in keys:
                    places.setdefault(key, len(places))
        if not places:
            return
        values = await self._fetch(list(places))
        # Mostly there is none.
        failed = any(isinstance(value, StoreUnavailableError) for value in values)
        for keys, future in waiting:
            if not future.done():
                found = [values[places[key]] for key in keys]
                problem = (
                    next((each for each in found if isinstance(each, StoreUnavailableError)), None)
                    if failed
                    else None
                )
                if problem is None:
                    future.set_result(cast("Values", found))
                else:
                    future.set_exception(fresh_copy(problem))

    def _landed(self, waiting: list[_Waiting], flight: asyncio.Task[None]) -> None:
        """Whatever became of a command, perhaps before it began: nobody waits for ever."""
        self.flights.discard(flight)
        problem = None if flight.cancelled() else flight.exception()
        for _, future in waiting:
            if not future.done():
                future.set_exception(fresh_copy(problem))
