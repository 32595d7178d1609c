"""One event loop's client of one server: a deadline, a breaker, and reads that share commands."""

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

# What each command changes: its keys and its arguments.
_Call = tuple[Sequence[str], Sequence[str]]

# The part of the deadline that a server must have had, to be taken for one that does not answer.
_FAIR = 0.5


BATCH = 128
"""How many reads share a command; more of the same tick go in further ones, at the same time."""

_PATIENCE = 6
"""How many ticks the first read waits for others, as long as each brings some or a command is under way."""

Values = list[bytes | None]
_Waiting = tuple[list[str], "asyncio.Future[Values]"]


class ServerClient:
    """What one event loop asks one server through.

    Args:
        pool: its connections.
        options: the deadline.
        probe: asks whether the server is back, while the breaker is open.
        health: told of what happens.
        name: tells it from others of its store.
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
        """Whether the server does not answer, and nobody is to ask it."""
        return self._breaker.is_open

    def refuse_if_unavailable(self) -> None:
        """Raise OutageError while the server does not answer."""
        self._breaker.refuse_if_open()

    async def reconnect(self) -> None:
        """Use no connection again that was made until now: another server may have the name."""
        await self._pool.drop()

    async def read(self, keys: list[str]) -> Values:
        """Read some keys, together with whoever reads in the same tick.

        Raises:
            OutageError: they could not be read in time, or the breaker is open.
        """
        self._breaker.refuse_if_open()
        return await self._batches.get(keys)

    async def fetch(self, keys: list[str]) -> Values:
        """Read some keys now, whatever the breaker says. Raises as `read` does."""
        values = await self.fetch_each(keys)
        for value in values:
            if isinstance(value, StoreUnavailableError):
                raise fresh_copy(value)
        return cast("Values", values)

    async def fetch_each(self, keys: list[str]) -> list[bytes | StoreUnavailableError | None]:
        """Read some keys now. Raises as `read` does.

        In the place of one that no node of a Cluster holds, or one that does not answer, stands an error.
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
                raise self._misconfigured("MGET", "another type of reply")
        if self._health.refuses_reads:
            self._health.misconfigured(self.name, None)
        if self._health.unavailable and not self._breaker.is_open:
            self._health.answered(self)  # what another loop saw, which has ended since
        return list(map(found.get, keys))

    async def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[str], *, writes: bool = True
    ) -> Any:
        """Run a script now, whatever the breaker says.

        Args:
            script: the script.
            keys: its keys.
            arguments: its arguments.
            writes: whether its success says that the server revokes what it is told to.

        Raises:
            OutageError: it is not certain that it was run; RefusedError if it was not run.
        """
        return (await self.run_each(script, [(keys, arguments)], writes=writes))[0]

    async def run_each(self, script: Script, calls: Sequence[_Call], *, writes: bool = True) -> list[Any]:
        """Run a script several times, on the same way there. Raises as `run` does."""
        deadline = Deadline(self._deadline)
        tails = [(len(keys), *keys, *arguments) for keys, arguments in calls]
        replies = await self.send([("EVALSHA", script.digest, *tail) for tail in tails], deadline)
        unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            # They are run in their order, so the first one teaches the server.
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
                await self._pool.drop()  # it was the primary; another one may be by now
            raise
        if writes:
            self._health.writing(self.name, None)
        return replies

    async def execute(self, *command: Any) -> Any:
        """Send a command.

        Raises:
            OutageError: there was no answer in time; RefusedError for an error.
        """
        return (await self.execute_all([command]))[0]

    async def execute_all(
        self, commands: Sequence[Command], deadline: Deadline | None = None, *, lenient: bool = False
    ) -> list[Any]:
        """Send commands in one go, and read all replies. Raises as `execute` does.

        Args:
            commands: the commands.
            deadline: when to give up; None begins one.
            lenient: whether what went wrong for one of them stands in the place of its reply instead.
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
        """A connection of one's own. Raises OutageError, which says nothing about others."""
        try:
            async with Deadline(self._deadline):
                return await self._pool.dedicated(self._deadline)
        except Exception as problem:
            raise OutageError("The revocation store did not answer") from problem

    async def send(self, commands: Sequence[Command], deadline: Deadline | None = None) -> list[Any]:
        """Send commands in one go; an error in a reply stands in its place.

        Args:
            commands: the commands.
            deadline: when to give up; None begins one.

        Raises:
            OutageError: the server did not answer in time; RefusedError if it refused the connection.
            ValueError: a command cannot be written.
            StoreUnavailableError: this process was too busy to hear an answer.
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
            raise ValueError("The revocation store takes text that UTF-8 can hold") from problem
        except StoreUnavailableError:  # ours: sentinels that could not be heard
            raise
        except Exception as problem:  # a garbled reply may raise anything
            if isinstance(problem, TimeoutError) and given < self._deadline * _FAIR:
                raise OutageError("There was too little time for the revocation store to answer") from problem
            if isinstance(problem, TimeoutError) and deadline.is_missed_by_us:
                raise StoreUnavailableError(
                    "This process was too busy to hear the revocation store's answer"
                ) from problem
            self._breaker.trip(f"The revocation store does not answer: {name_of(problem)}", began)
            raise OutageError("The revocation store did not answer") from problem

    async def close(self) -> None:
        """End what is under way for nobody in particular, and close the connections."""
        tasks = {*self._breaker.stop(), *self._batches.flights}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._health.client_closed(self)
        await self._pool.close()

    def _groups(self, keys: list[str]) -> list[list[str]]:
        """Which keys a command may share."""
        return [keys]

    async def _elsewhere(  # a node of a Cluster finds it
        self,
        problem: ResponseError,
        command: Command,  # noqa: ARG002
        deadline: Deadline,  # noqa: ARG002
    ) -> Any:
        """The reply to a command that was refused, from where it is not. Raises RefusedError, OutageError.

        Args:
            problem: why it was refused.
            command: the command, in a form that every server understands.
            deadline: when to give up.
        """
        raise refusal(problem) from problem

    def _refuse_reading(self, problem: RefusedError, began: float) -> NoReturn:
        """Raise what becomes of checks that a server refuses: an outage, or a misconfiguration."""
        if not is_not_now(problem.kind):
            raise self._misconfigured(problem.command or "MGET", problem.kind) from problem
        self._breaker.trip(problem.detail, began)  # a server that cannot be read cannot be checked
        raise OutageError(problem.detail) from problem

    def _misconfigured(self, command: Any, kind: str) -> RefusedError:
        """A refusal that is not an outage: the server answers, and refuses until its set-up is corrected."""
        problem = misconfiguration(command, kind)
        self._health.misconfigured(self.name, problem)
        return RefusedError(problem, kind)

    async def _probe(self, probe: Callable[[ServerClient], Awaitable[None]]) -> None:
        await self._pool.drop()  # a server that does not answer may have left them all open
        await probe(self)


def _is_of_a_slot(problem: RefusedError) -> bool:
    """Whether a node refused for a slot that nobody holds, and serves the others."""
    return "slot not served" in str(problem.__cause__)


# What may stand in a reply to MGET.
_VALUES = frozenset((bytes, type(None)))


def _are_values(reply: Any, count: int) -> bool:
    return isinstance(reply, list) and len(reply) == count and _VALUES.issuperset(map(type, reply))


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
        wanted: dict[str, None] = {}
        for keys, future in waiting:
            if not future.done():
                wanted.update(dict.fromkeys(keys))
        if not wanted:
            return
        values = await self._fetch(list(wanted))
        found = dict(zip(wanted, values, strict=True))
        has_failed = not _VALUES.issuperset(map(type, values))  # mostly nothing has
        for keys, future in waiting:
            if not future.done():
                its = list(map(found.get, keys))
                problem = _first_problem(its) if has_failed else None
                if problem is None:
                    future.set_result(cast("Values", its))
                else:
                    future.set_exception(fresh_copy(problem))

    def _landed(self, waiting: list[_Waiting], flight: asyncio.Task[None]) -> None:
        """Whatever became of a command, perhaps before it began: nobody waits for ever."""
        self.flights.discard(flight)
        problem = None if flight.cancelled() else flight.exception()
        for _, future in waiting:
            if not future.done():
                future.set_exception(fresh_copy(problem))


def _first_problem(values: Sequence[object]) -> StoreUnavailableError | None:
    return next((value for value in values if isinstance(value, StoreUnavailableError)), None)
