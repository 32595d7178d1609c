"""One event loop's client for one server: a deadline, a breaker and batched reads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from functools import partial
from typing import Any, NoReturn, TypeVar, cast

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    DataError,
    NoScriptError,
    ResponseError,
)

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores.redis.breaker import Breaker
from async_jwt.stores.redis.deadline import Deadline
from async_jwt.stores.redis.errors import (
    OutageError,
    RefusedError,
    fresh_copy,
    is_not_now,
    misconfiguration,
    name_of,
    refusal,
)
from async_jwt.stores.redis.health import Health
from async_jwt.stores.redis.lua import Script
from async_jwt.stores.redis.options import Options
from async_jwt.stores.redis.pool import Command, DedicatedConnection, Pool

__all__ = ["BATCH", "BatchLoader", "ServerClient", "Values"]

T = TypeVar("T")

# The keys and arguments of one script call.
_Call = tuple[Sequence[str], Sequence[str]]

# The share of the deadline that a server must have had before a timeout counts as an outage.
_FAIR = 0.5


BATCH = 128
"""Maximum reads per command; further reads of the same tick go in parallel commands."""

_PATIENCE = 6
"""Maximum ticks the first read waits for others, while each tick adds some or a command is in flight."""

Values = list[bytes | None]
_Waiting = tuple[list[str], "asyncio.Future[Values]"]


class ServerClient:
    """One event loop's client for one server.

    Args:
        pool: its connections.
        options: the deadline.
        probe: checks whether the server is back, while the breaker is open.
        health: records state changes.
        name: distinguishes it from the store's other servers.
    """

    def __init__(
        self,
        pool: Pool,
        options: Options,
        *,
        probe: Callable[[ServerClient], Awaitable[None]],
        health: Health,
        name: str = "",
    ) -> None:
        self.name: str = name
        self._pool = pool
        self._deadline = options.deadline
        self._health = health
        self._breaker = Breaker(lambda: self._probe(probe), lambda why: health.outage(self, why))
        self._batches = BatchLoader(self.fetch_each)

    @property
    def unavailable(self) -> bool:
        """True while the server does not answer and must not be called."""
        return self._breaker.is_open

    def refuse_if_unavailable(self) -> None:
        """Raise OutageError while the server does not answer."""
        self._breaker.refuse_if_open()

    async def reconnect(self) -> None:
        """Stop using all connections made so far: another server may have the name now."""
        await self._pool.drop()

    async def read(self, keys: list[str]) -> Values:
        """Read some keys, batched with other reads of the same tick.

        Raises:
            OutageError: they could not be read in time, or the breaker is open.
        """
        self._breaker.refuse_if_open()
        return await self._batches.get(keys)

    async def fetch(self, keys: list[str]) -> Values:
        """Read some keys now, ignoring the breaker. Raises as `read` does."""
        values = await self.fetch_each(keys)
        for value in values:
            if isinstance(value, StoreUnavailableError):
                raise fresh_copy(value)
        return cast("Values", values)

    async def fetch_each(self, keys: list[str]) -> list[bytes | StoreUnavailableError | None]:
        """Read some keys now, ignoring the breaker. Raises as `read` does.

        A key that no Cluster node holds, or whose node does not answer, yields an error in its place.
        """
        began = asyncio.get_running_loop().time()
        groups = self._groups(keys)
        try:
            replies = await self.execute_all([("MGET", *group) for group in groups], lenient=True)
            for reply in replies:
                if isinstance(reply, RefusedError) and not _is_of_a_slot(reply):
                    raise reply
        except RefusedError as problem:
            self._refuse_reading(problem, began)
        found: dict[str, bytes | StoreUnavailableError | None] = {}
        for group, values in zip(groups, replies, strict=True):
            if isinstance(values, StoreUnavailableError):
                refused = isinstance(values, RefusedError)  # for its slot, which no node holds
                found.update(dict.fromkeys(group, OutageError(values.detail) if refused else values))
            elif _are_values(values, len(group)):
                found.update(zip(group, values, strict=True))
            else:
                raise self._misconfigured("MGET", "unexpected type of reply")
        if self._health.refuses_reads:
            self._health.misconfigured(self.name, None)
        if self._health.unavailable and not self._breaker.is_open:
            self._health.answered(self)  # another loop saw an outage, which has ended since
        return list(map(found.get, keys))

    async def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[str], *, writes: bool = True
    ) -> Any:
        """Run a script now, ignoring the breaker.

        Args:
            script: the script.
            keys: its keys.
            arguments: its arguments.
            writes: True if success shows that the server accepts writes.

        Raises:
            OutageError: it may or may not have run; RefusedError if it did not run.
        """
        return (await self.run_each(script, [(keys, arguments)], writes=writes))[0]

    async def run_each(self, script: Script, calls: Sequence[_Call], *, writes: bool = True) -> list[Any]:
        """Run a script several times in one pipeline. Raises as `run` does."""
        deadline = Deadline(self._deadline)
        tails = [(len(keys), *keys, *arguments) for keys, arguments in calls]
        replies = await self.send([("EVALSHA", script.digest, *tail) for tail in tails], deadline)
        unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            # Calls run in order: the first one, an EVAL, caches the script for the rest.
            again: list[Command] = [("EVALSHA", script.digest, *tails[place]) for place in unknown]
            again[0] = ("EVAL", script.text, *tails[unknown[0]])
            for place, reply in zip(unknown, await self.send(again, deadline), strict=True):
                replies[place] = reply
        try:
            for place, reply in enumerate(replies):
                if isinstance(reply, ResponseError):
                    again_text = ("EVAL", script.text, *tails[place])
                    replies[place] = await self._elsewhere(reply, again_text, deadline)
        except RefusedError as problem:
            if writes:
                self._health.writing(self.name, problem.detail)
            if problem.kind == "ReadOnlyError":
                await self._pool.drop()  # no longer the primary; another server may be
            raise
        if writes:
            self._health.writing(self.name, None)
        return replies

    async def execute(self, *command: Any) -> Any:
        """Send a command.

        Raises:
            OutageError: there was no answer in time; RefusedError for an error reply.
        """
        return (await self.execute_all([command]))[0]

    async def execute_all(
        self, commands: Sequence[Command], deadline: Deadline | None = None, *, lenient: bool = False
    ) -> list[Any]:
        """Send commands in one pipeline and read all replies. Raises as `execute` does.

        Args:
            commands: the commands.
            deadline: when to give up; None starts a new one.
            lenient: True returns a failed command's error in place of its reply instead of raising.
        """
        deadline = deadline or Deadline(self._deadline)
        replies = await self.send(commands, deadline) if commands else []
        for place, reply in enumerate(replies):
            if isinstance(reply, ResponseError):
                try:
                    replies[place] = await self._elsewhere(reply, commands[place], deadline)
                except StoreUnavailableError as problem:
                    if not lenient:
                        raise
                    replies[place] = problem
        return replies

    async def dedicated(self) -> DedicatedConnection:
        """Open a connection outside the pool. Raises OutageError, without opening the breaker."""
        try:
            async with Deadline(self._deadline):
                return await self._pool.dedicated(self._deadline)
        except Exception as problem:
            raise OutageError("The revocation store did not answer") from problem

    async def send(self, commands: Sequence[Command], deadline: Deadline | None = None) -> list[Any]:
        """Send commands in one pipeline; error replies are returned in place, not raised.

        Args:
            commands: the commands.
            deadline: when to give up; None starts a new one.

        Raises:
            OutageError: the server did not answer in time; RefusedError if it refused the connection.
            ValueError: a command cannot be encoded.
            StoreUnavailableError: this process was too busy to read an answer.
        """
        began = asyncio.get_running_loop().time()
        deadline = deadline or Deadline(self._deadline)
        given = deadline.left
        try:
            async with deadline:
                return await self._pool.send(commands)
        except ResponseError as problem:
            raise refusal(problem) from problem
        except (AuthenticationError, AuthorizationError) as problem:
            kind = name_of(problem)
            raise self._misconfigured(commands[0][0], kind) from problem
        except (UnicodeError, DataError) as problem:  # before a byte was sent: the caller's text
            raise ValueError("Text sent to the revocation store must be valid UTF-8") from problem
        except StoreUnavailableError:  # ours: raised while asking the sentinels
            raise
        except Exception as problem:  # a garbled reply may raise anything
            if isinstance(problem, TimeoutError) and given < self._deadline * _FAIR:
                raise OutageError("There was too little time for the revocation store to answer") from problem
            if isinstance(problem, TimeoutError) and deadline.is_missed_by_us:
                raise StoreUnavailableError(
                    "This process was too busy to read the revocation store's answer"
                ) from problem
            self._breaker.trip(f"The revocation store does not answer: {name_of(problem)}", began)
            raise OutageError("The revocation store did not answer") from problem

    async def close(self) -> None:
        """Cancel probes and batched reads, and close the connections."""
        tasks = {*self._breaker.stop(), *self._batches.flights}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._health.client_closed(self)
        await self._pool.close()

    def _groups(self, keys: list[str]) -> list[list[str]]:
        """Group keys that one command may read together."""
        return [keys]

    async def _elsewhere(  # Cluster nodes override it
        self,
        problem: ResponseError,
        command: Command,  # noqa: ARG002
        deadline: Deadline,  # noqa: ARG002
    ) -> Any:
        """Retry a refused command where it is accepted. Raises RefusedError, OutageError.

        Args:
            problem: why it was refused.
            command: the command, in a form that every server understands.
            deadline: when to give up.
        """
        raise refusal(problem) from problem

    def _refuse_reading(self, problem: RefusedError, began: float) -> NoReturn:
        """Raise the error for a refused check: an outage or a misconfiguration."""
        if not is_not_now(problem.kind):
            raise self._misconfigured(problem.command or "MGET", problem.kind) from problem
        self._breaker.trip(problem.detail, began)  # no checks without reads
        raise OutageError(problem.detail) from problem

    def _misconfigured(self, command: Any, kind: str) -> RefusedError:
        """Record and return a refusal that is no outage: the server refuses until its setup is corrected."""
        problem = misconfiguration(command, kind)
        self._health.misconfigured(self.name, problem)
        return RefusedError(problem, kind)

    async def _probe(self, probe: Callable[[ServerClient], Awaitable[None]]) -> None:
        await self._pool.drop()  # they may all be open, to a server that is gone
        await probe(self)


def _is_of_a_slot(problem: RefusedError) -> bool:
    """True if a node refused one slot, which no node holds, and serves the others."""
    return "slot not served" in str(problem.__cause__)


# Types that a reply to MGET may contain.
_VALUES = frozenset((bytes, type(None)))


def _are_values(reply: Any, count: int) -> bool:
    return isinstance(reply, list) and len(reply) == count and _VALUES.issuperset(map(type, reply))


class BatchLoader:
    """Batches the reads of one event loop into shared commands.

    Cancelling a read affects neither the others nor the command that serves them.

    Args:
        fetch: reads some keys in one command and bounds its own time. A key that cannot be read
            may yield an error in its place, raised only for the callers of that key.

    Attributes:
        flights: the commands in flight.
    """

    def __init__(
        self, fetch: Callable[[list[str]], Awaitable[Sequence[bytes | StoreUnavailableError | None]]]
    ) -> None:
        self._fetch = fetch
        self._waiting: list[_Waiting] = []
        self.flights: set[asyncio.Task[None]] = set()

    async def get(self, keys: list[str]) -> Values:
        """Read some keys, in order.

        Raises:
            StoreUnavailableError: they could not be read.
        """
        loop = asyncio.get_running_loop()
        if not self._waiting:
            # A fresh context: a shared read belongs to no single request.
            loop.call_soon(self._leave, loop, 0, _PATIENCE, context=Context())
        future: asyncio.Future[Values] = loop.create_future()
        self._waiting.append((keys, future))
        return await future

    def _leave(self, loop: asyncio.AbstractEventLoop, before: int, ticks: int) -> None:
        if ticks and (self.flights or len(self._waiting) > before):
            # More reads may follow: requests that arrive together rarely run in one tick. And two
            # groups, each waiting while the other's command is in flight, would never merge again.
            loop.call_soon(self._leave, loop, len(self._waiting), ticks - 1)
            return
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), BATCH):
            batch = waiting[start : start + BATCH]
            flight = loop.create_task(self._fly(batch))
            self.flights.add(flight)
            flight.add_done_callback(partial(self._landed, batch))

    async def _fly(self, waiting: list[_Waiting]) -> None:
        wanted: dict[str, None] = {}
        for keys, future in waiting:
            if not future.done():
                wanted.update(dict.fromkeys(keys))
        if not wanted:
            return
        values = await self._fetch(list(wanted))
        found = dict(zip(wanted, values, strict=True))
        has_failed = not _VALUES.issuperset(map(type, values))  # rarely true
        for keys, future in waiting:
            if not future.done():
                its = list(map(found.get, keys))
                problem = _first_problem(its) if has_failed else None
                if problem is None:
                    future.set_result(cast("Values", its))
                else:
                    future.set_exception(fresh_copy(problem))

    def _landed(self, waiting: list[_Waiting], flight: asyncio.Task[None]) -> None:
        """Release all waiters, even if the command failed or never began."""
        self.flights.discard(flight)
        problem = None if flight.cancelled() else flight.exception()
        for _, future in waiting:
            if not future.done():
                future.set_exception(fresh_copy(problem))


def _first_problem(values: Sequence[object]) -> StoreUnavailableError | None:
    return next((value for value in values if isinstance(value, StoreUnavailableError)), None)
