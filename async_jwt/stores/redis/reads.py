"""Reads that wait in the same tick of an event loop become one command."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context

from async_jwt.errors import StoreUnavailableError

__all__ = ["BATCH", "Reads"]

BATCH = 128
"""How many reads share a command; more of the same tick go in further ones, at the same time."""

_PATIENCE = 6
"""How many ticks the first read waits for others, as long as each brings some or a command is under way."""

Values = list[bytes | None]
_Waiting = tuple[list[str], "asyncio.Future[Values]"]


class Reads:
    """Gathers what is read on one event loop.

    A read that is cancelled takes nothing from the others, and a command goes on as long as
    anybody waits for it.

    Args:
        fetch: reads some keys in one command. It bounds its own time.

    Attributes:
        flights: the commands under way.
    """

    def __init__(self, fetch: Callable[[list[str]], Awaitable[Values]]) -> None:
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
            flight = loop.create_task(self._fly(waiting[start : start + BATCH]))
            self.flights.add(flight)
            flight.add_done_callback(self.flights.discard)

    async def _fly(self, waiting: list[_Waiting]) -> None:
        places: dict[str, int] = {}
        for keys, future in waiting:
            if not future.done():
                for key in keys:
                    places.setdefault(key, len(places))
        if not places:
            return
        values, why = None, "The revocation store was closed"
        try:
            values = await self._fetch(list(places))
        except StoreUnavailableError as problem:
            why = problem.detail
        finally:  # whatever happens, nobody waits for ever
            for keys, future in waiting:
                if future.done():
                    continue
                if values is None:
                    future.set_exception(StoreUnavailableError(why))
                else:
                    future.set_result([values[places[key]] for key in keys])
