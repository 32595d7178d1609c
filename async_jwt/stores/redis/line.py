"""One event loop's line to the server: a deadline, a breaker, and reads that share commands."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from redis.exceptions import ResponseError

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores.redis.breaker import Breaker
from async_jwt.stores.redis.lua import Script
from async_jwt.stores.redis.options import Options
from async_jwt.stores.redis.outage import OutageError, RefusedError, one_of_ones_own
from async_jwt.stores.redis.pool import Pool
from async_jwt.stores.redis.reads import Reads, Values
from async_jwt.stores.redis.state import State
from async_jwt.stores.redis.watch import Watch

__all__ = ["Line", "Lines"]

T = TypeVar("T")


# Seconds that a reply which is there already may still take, on a loop that was kept from reading it.
_GRACE = 0.02


class Line:
    """What one event loop asks the server through.

    Args:
        pool: its connections.
        options: the deadline, and how often to look at the server.
        probe: looks at what the store knows, while the breaker is open.
        look: looks at the server now and then.
        state: told of what happens.
    """

    def __init__(
        self,
        pool: Pool,
        options: Options,
        *,
        probe: Callable[[Line], Awaitable[None]],
        look: Callable[[Line], Coroutine[Any, Any, None]],
        state: State,
    ) -> None:
        self._pool = pool
        self._deadline = options.deadline
        self._state = state
        self.watch: Watch = Watch(options.poll, lambda: look(self))
        self._breaker = Breaker(lambda: probe(self), lambda why: state.outage(self, why))
        self._reads = Reads(self.fetch)
        self._shared: dict[str, asyncio.Task[Any]] = {}

    @property
    def is_out(self) -> bool:
        """Whether the server does not answer, and nobody is to ask it."""
        return self._breaker.is_open

    def refuse_if_out(self) -> None:
        """Raise OutageError while the server does not answer."""
        self._breaker.refuse_if_open()

    async def reconnect(self) -> None:
        """Close the connections that are not in use: it may be another server that has the name now."""
        await self._pool.drop_idle()

    async def read(self, keys: list[str]) -> Values:
        """Read some keys, together with whoever reads in the same tick.

        Raises:
            OutageError: they could not be read in time, or the breaker is open.
        """
        self._breaker.refuse_if_open()
        return await self._reads.get(keys)

    async def fetch(self, keys: list[str]) -> Values:
        """Read some keys now, whatever the breaker says. Raises as `read` does."""
        began = asyncio.get_running_loop().time()
        try:
            reply = await self.ask("MGET", *keys)
        except RefusedError as problem:
            self._breaker.trip(problem.detail, began)  # whoever cannot read cannot check
            raise OutageError(problem.detail) from problem
        if not _are_values(reply, len(keys)):
            self._breaker.trip(_ELSE, began)
            raise OutageError(_ELSE)
        if self._state.is_out and not self._breaker.is_open:
            self._state.answered(self)  # what another loop saw, which has ended since
        values: Values = reply
        return values

    async def write(self, script: Script, keys: list[str], arguments: list[str]) -> Any:
        """Run a script that changes something.

        Raises:
            OutageError: it is not certain that it was run, or the breaker is open; RefusedError if
                it was not run.
        """
        self._breaker.refuse_if_open()
        return await self.run(script, keys, arguments)

    async def run(self, script: Script, keys: list[str], arguments: list[str], *, writes: bool = True) -> Any:
        """Run a script now, whatever the breaker says. Raises as `write` does.

        Args:
            script: the script.
            keys: its keys.
            arguments: its arguments.
            writes: whether its success says that the server revokes what it is told to.
        """
        if not writes:
            return await self._bounded(self._pool.run(script, keys, arguments))
        try:
            reply = await self._bounded(self._pool.run(script, keys, arguments))
        except RefusedError as problem:
            self._state.writing(problem.detail)
            if problem.kind == "ReadOnlyError":
                await self._pool.drop_idle()  # it was the primary; another one may be by now
            raise
        self._state.writing(None)
        return reply

    async def ask(self, *command: Any) -> Any:
        """Send a command.

        Raises:
            OutageError: there was no answer in time; RefusedError for an error.
        """
        return await self._bounded(self._pool.execute(*command))

    async def together(self, name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do something once for all who ask for it at the same time. A cancelled one stops nobody."""
        task = self._shared.get(name)
        if task is None:
            task = self._shared[name] = asyncio.get_running_loop().create_task(work())
            task.add_done_callback(lambda done: self._done(name, done))
        try:
            result: T = await asyncio.shield(task)
        except StoreUnavailableError as problem:
            raise one_of_ones_own(problem) from None
        except asyncio.CancelledError:
            asker = asyncio.current_task()
            if not task.cancelled() or (asker is not None and asker.cancelling()):
                raise  # whoever asked was cancelled
            raise one_of_ones_own(None) from None
        return result

    async def close(self) -> None:
        """End what is under way for nobody in particular, and close the connections."""
        tasks = {*self.watch.stop(), *self._breaker.stop(), *self._shared.values(), *self._reads.flights}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._state.forget(self)
        await self._pool.close()

    def _done(self, name: str, task: asyncio.Task[Any]) -> None:
        self._shared.pop(name)
        if not task.cancelled():
            task.exception()  # those who wait were told; perhaps nobody does any more

    async def _bounded(self, work: Coroutine[Any, Any, T]) -> T:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(None) as limit:
                timer = loop.call_at(began + self._deadline, _ring, loop, limit, began + self._deadline)
                try:
                    return await work
                finally:
                    timer.cancel()
        except ResponseError as problem:
            kind = _name_of(problem)
            raise RefusedError(f"The revocation store refused: {kind}", kind) from problem
        except Exception as problem:  # a garbled reply may raise anything
            self._breaker.trip(f"The revocation store does not answer: {_name_of(problem)}", began)
            raise OutageError("The revocation store did not answer") from problem


def _ring(loop: asyncio.AbstractEventLoop, limit: asyncio.Timeout, due: float) -> None:
    # Late: the loop was kept from its work. Whatever has arrived meanwhile is yet to be read.
    late = loop.time() - due > _GRACE
    limit.reschedule(loop.time() + (_GRACE if late else 0.0))


class Lines:
    """The lines of a store: one for each event loop of this process.

    A loop's connections are closed when it shuts its async generators down. A forked child
    makes its own: its parent's sockets are not its to use, nor to close.

    Args:
        make: makes a line.
        forked: told that this is another process now.
    """

    def __init__(self, make: Callable[[], Line], forked: Callable[[], None]) -> None:
        self._make = make
        self._forked = forked
        self._process = os.getpid()
        # The last one asked for: mostly there is but one.
        self._recent: tuple[weakref.ref[asyncio.AbstractEventLoop] | None, Line | None] = (None, None)
        self._open: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[Line, AsyncGenerator[Line, None]]
        ] = weakref.WeakKeyDictionary()

    async def here(self) -> Line:
        """The running loop's line."""
        loop = asyncio.get_running_loop()
        its_loop, line = self._recent
        if line is not None and its_loop is not None and its_loop() is loop and self._process == os.getpid():
            return line
        if self._process != os.getpid():
            self._process = os.getpid()
            self._open = weakref.WeakKeyDictionary()
            self._forked()
        entry = self._open.get(loop)
        if entry is None:
            for ended in [other for other in self._open if other.is_closed()]:
                del self._open[ended]  # nobody told it to close what it had
            lifespan = self._lifespan()
            # Nothing is awaited in there, so no other task can come in between.
            entry = self._open[loop] = (await anext(lifespan), lifespan)
        self._recent = (weakref.ref(loop), entry[0])
        return entry[0]

    async def close(self) -> None:
        """Close the running loop's line. A later call makes another one."""
        self._recent = (None, None)
        entry = self._open.pop(asyncio.get_running_loop(), None)
        if entry is not None:
            await entry[1].aclose()

    async def _lifespan(self) -> AsyncGenerator[Line, None]:
        line, loop = self._make(), asyncio.get_running_loop()
        try:
            yield line
        finally:
            self._open.pop(loop, None)  # else this generator, which the loop holds on to, would keep both
            await line.close()


_ELSE = "The revocation store answers something else than what it is asked"


def _are_values(reply: Any, count: int) -> bool:
    return (
        isinstance(reply, list)
        and len(reply) == count
        and all(value is None or isinstance(value, bytes) for value in reply)
    )


def _name_of(problem: Exception) -> str:
    """What went wrong, without what it was about: a reply may quote keys, and so identities."""
    kind = type(problem)
    if kind is not ResponseError:
        return kind.__name__
    code = str(problem).partition(" ")[0]
    return code if code.isascii() and code.isalpha() and code.isupper() else kind.__name__
