"""What stands on the server, read and written, with an eye on whether it lost something."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple, cast

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores.contract import TokenRef
from async_jwt.stores.redis.known import Known, Loss
from async_jwt.stores.redis.layout import BUCKET_NAMES, FORMER, NOT_REVOKED, Bucket, Layout, User
from async_jwt.stores.redis.line import Line, Lines
from async_jwt.stores.redis.lua import FOUND, LOSE, REVOKE_EVERYTHING, Script
from async_jwt.stores.redis.options import Options
from async_jwt.stores.redis.outage import RefusedError
from async_jwt.stores.redis.pool import Pool
from async_jwt.stores.redis.reads import Values
from async_jwt.stores.redis.server import Server, read_server, save_points
from async_jwt.stores.redis.state import State

__all__ = ["TRIES", "Found", "Ledger"]

TRIES = 3
"""How often one call begins again because the store was found wanting in between."""

_SAID = 100


class Found(NamedTuple):
    """What stands on the server about a token.

    Attributes:
        bucket: its identity's bucket.
        user: its user's generation.
        user_text: the same as it is written; "" if it is not.
        revoked: whether the token, or its session, was revoked by itself.
        ended: what stands where it says that its session was revoked.
        more: what stands at the further keys that were asked for.
    """

    bucket: Bucket
    user: User
    user_text: str
    revoked: bool
    ended: bytes | None
    more: Values

    @property
    def stamp(self) -> str:
        """The stamp for a token of this user made now."""
        return f"{self.bucket.epoch}.{self.bucket.generation}.{self.user.generation}"


class Ledger:
    """The buckets of one store.

    Args:
        address: what redis-py's connections are made with.
        options: how the server is asked.
        state: told of what happens.
    """

    def __init__(self, address: dict[str, Any], options: Options, state: State) -> None:
        self._options = options
        self._denies = options.on_data_loss == "deny"
        self._state = state
        self._known = Known()
        self._lines = Lines(
            lambda: Line(
                Pool(address, options.max_connections),
                options,
                probe=self._learn,
                look=self._look_now_and_then,
                state=state,
            ),
            state.forget,
        )
        self.layout: Layout = Layout(options.prefix)
        self._server: Server | None = None
        self._may_ask = True
        self._looked_at = time.monotonic()
        self._epoch_of_loss = ""
        self._said: set[str] = set()

    async def look(self, ref: TokenRef, more: Sequence[str] = ()) -> Found:
        """Look at what a token's validity depends on, and at further keys, in one command at most.

        Raises:
            StoreUnavailableError: it could not be read.
        """
        names, keys = self.layout.of(ref)
        (bucket, *_), (raw, *values) = await self.read(names, [*keys, *more])
        place = len(values) - len(more)
        entries = values[:place]
        text, user = self.read_user(raw)
        ended = entries[-1] if ref.sid is not None else None
        return Found(bucket, user, text, any(entry is not None for entry in entries), ended, values[place:])

    async def read(self, names: Sequence[str], keys: list[str]) -> tuple[list[Bucket], Values]:
        """Read some buckets, which are the first of the keys, and what stands at the others.

        Raises:
            StoreUnavailableError: they could not be read.
        """
        line = await self._line()
        for _ in range(TRIES):
            before = self._known.before(names)
            values = await line.read(keys)
            seen = [self._known.look(*each) for each in zip(names, values, before)]  # noqa: B905  # the buckets alone
            loss = next((bucket for bucket in seen if isinstance(bucket, Loss)), None)
            if loss is None:
                return cast("list[Bucket]", seen), values[len(names) :]
            await self.lost(loss)
        raise StoreUnavailableError("The revocation store loses what it is told")

    async def write(
        self, name: str, script: Script, keys: Sequence[str], arguments: list[str]
    ) -> list[Any] | None:
        """Change something in a bucket.

        Args:
            name: the bucket.
            script: what does it.
            keys: what it changes besides the bucket's own value.
            arguments: the script's.

        Returns:
            What the script says besides; None if it declined.

        Raises:
            StoreUnavailableError: it is not certain that it is stored.
        """
        line = await self._line()
        for _ in range(TRIES):
            before = self._known.before([name])
            reply = await line.write(script, [self.layout.bucket(name), *keys], arguments)
            if reply == 0:
                return None
            value, added, *rest = reply if isinstance(reply, list) and len(reply) > 1 else (reply, 0)
            if not isinstance(value, bytes):
                raise StoreUnavailableError("The revocation store did not say that it revoked")
            seen = self._known.look(name, value or None, before[0], added=added)
            if isinstance(seen, Loss):
                await self.lost(seen)
            if value:
                return rest
        raise StoreUnavailableError("The revocation store loses what it is told")

    async def ask(self, name: str, script: Script, keys: Sequence[str], arguments: list[str]) -> list[Any]:
        """Run a script that changes nothing, and says what stands at the bucket first.

        Returns:
            The bucket, and what else the script says.

        Raises:
            StoreUnavailableError: it could not be run.
        """
        line = await self._line()
        for _ in range(TRIES):
            before = self._known.before([name])
            line.refuse_if_out()
            reply = await line.run(script, [self.layout.bucket(name), *keys], arguments, writes=False)
            if not isinstance(reply, list) or not all(isinstance(value, bytes) for value in reply):
                raise StoreUnavailableError("The revocation store answers something else")
            seen = self._known.look(name, reply[0] or None, before[0])
            if not isinstance(seen, Loss):
                return [seen, *reply[1:]]
            await self.lost(seen)
        raise StoreUnavailableError("The revocation store loses what it is told")

    async def tidy(self, name: str, script: Script, keys: Sequence[str], arguments: list[str]) -> None:
        """Run a script that changes nothing for anybody. If it cannot be run, so be it."""
        line = await self._line()
        with suppress(StoreUnavailableError):
            await line.run(script, [self.layout.bucket(name), *keys], arguments, writes=False)

    async def revoke_everything(self) -> None:
        """Raise everybody's generation. Raises as `write` does."""
        line = await self._line()
        for _ in range(TRIES):
            if await line.write(REVOKE_EVERYTHING, list(self.layout.buckets), []) == 1:
                return
            await self.learn(line)
        raise StoreUnavailableError("The revocation store loses what it is told")

    async def start(self) -> None:
        """Connect, and look at everything. Raises StoreUnavailableError."""
        line = await self._line()
        await self._look(line)

    async def close(self) -> None:
        """Close the running loop's connections. They are made again when needed."""
        await self._lines.close()

    async def learn(self, line: Line) -> None:
        """Look at all buckets; found the store where there is none. Raises StoreUnavailableError."""
        await line.together("learn", lambda: self._learn(line))

    async def lost(self, loss: Loss) -> None:
        """Deal with a loss, once, as `on_data_loss` says. Raises StoreUnavailableError."""
        line = await self._lines.here()
        await line.together("lost", lambda: self._lost(line, loss))

    def say_once(self, why: str, about: str) -> None:
        """Say that the server lost data where each token would say so again. Only of so many things."""
        if about not in self._said and len(self._said) < _SAID:
            self._said.add(about)
            self._state.lost(why, denied=False)

    async def _line(self) -> Line:
        line = await self._lines.here()
        line.watch.wind()
        if not self._known.is_complete:
            line.refuse_if_out()
            await self.learn(line)
        elif time.monotonic() - self._looked_at > 2 * self._options.poll:
            # Nobody asked for a while, or on loops that end too soon for their timers.
            line.refuse_if_out()
            await self._look(line)
        return line

    async def _learn(self, line: Line) -> None:
        keys = list(self.layout.buckets)
        before = self._known.before(BUCKET_NAMES)
        values = await line.fetch(keys)
        if None in values and not self._known.is_complete:
            await line.run(FOUND, keys, [_new_epoch(), ""])
            values = await line.fetch(keys)
        loss = self._loss_in(values, before)
        if loss is not None:
            await self.lost(loss)

    def _loss_in(self, values: Values, before: list[Bucket | None]) -> Loss | None:
        seen = [self._known.look(*each) for each in zip(BUCKET_NAMES, values, before, strict=True)]
        return next((bucket for bucket in seen if isinstance(bucket, Loss)), None)

    async def _lost(self, line: Line, loss: Loss) -> None:
        keys = list(self.layout.buckets)
        epoch, before = _new_epoch(), self._known.before(BUCKET_NAMES)
        if not self._denies:
            await line.run(FOUND, keys, [epoch, "1"])
            if loss.evicted:
                await self._mark_evictions(line, loss.evicted)
            await self._take_as_it_is(line, keys)
            self.say_once(loss.why, loss.evicted.partition(" ")[0] or f"{loss.found} {loss.epochs}")
            return
        place = str(BUCKET_NAMES.index(loss.bucket) + 1)
        arguments = [place, loss.found, epoch, loss.evicted, ",".join(loss.epochs), str(FORMER)]
        reply = await line.run(LOSE, [self.layout.evicted, *keys], arguments)
        if reply == 1:
            now = await self._take_as_it_is(line, keys)
            self._say_lost(loss, now, elsewhere=False)
            return
        if reply != 0:
            raise StoreUnavailableError("The revocation store did not say that it noticed its loss")
        # Somebody else was first, or this is the reply to our own command sent twice. Is all well now?
        values = await line.fetch(keys)
        if self._loss_in(values, before) is not None:
            raise StoreUnavailableError("The revocation store loses what it is told")
        now = cast("Bucket", self._known.before(BUCKET_NAMES[:1])[0]).epoch
        self._say_lost(loss, now, elsewhere=now != epoch)

    async def _take_as_it_is(self, line: Line, keys: list[str]) -> str:
        try:
            return self._known.replace(await line.fetch(keys))
        except ValueError:
            raise StoreUnavailableError("The revocation store loses what it is told") from None

    def _say_lost(self, loss: Loss, epoch: str, *, elsewhere: bool) -> None:
        """Once for each loss, however many threads of this process saw it."""
        if epoch != self._epoch_of_loss or loss.evicted:
            self._epoch_of_loss = epoch
            self._state.lost(loss.why, denied=True, elsewhere=elsewhere)

    async def _look_now_and_then(self, line: Line) -> None:
        if line.is_out:
            return  # the breaker's probes look
        with suppress(StoreUnavailableError):  # it was noted
            await self._look(line)

    async def _look(self, line: Line) -> None:
        """Look at the buckets and at the server."""
        await self.learn(line)
        await line.together("look", lambda: self._look_at_server(line))
        self._looked_at = time.monotonic()

    async def _look_at_server(self, line: Line) -> None:
        if not self._may_ask:
            return
        before = self._server
        try:
            server = read_server(await line.ask("INFO"))
        except RefusedError as problem:
            self._may_ask = problem.kind != "NoPermissionError"
            return
        if server is None:
            return
        if before is None or before.run != server.run:
            server = server._replace(persists=server.persists or await self._saves(line))
        else:
            server = server._replace(persists=server.persists or before.persists)
        if before is not None and server.read_only and not before.read_only:
            await line.reconnect()  # it was the primary; another one may be by now
        self._state.server(server)
        await self._look_at_evictions(line, server)
        self._server = server  # last: what could not be dealt with is looked at again

    async def _look_at_evictions(self, line: Line, server: Server) -> None:
        """The marker says how many evictions were dealt with, by whichever process."""
        found, known = f"{server.run} {server.evicted}", self._server
        if known is not None and (known.run, known.evicted) == (server.run, server.evicted):
            return
        if server.evicted == 0:
            await self._mark_evictions(line, found)  # it counts from nothing
            return
        marker = await line.ask("GET", self.layout.evicted)
        if marker is None and known is None:
            await self._mark_evictions(line, found)  # of before our time
        elif marker != found.encode():
            why = f"the server dropped keys to make room ({server.evicted} since it started)"
            await self.lost(Loss(BUCKET_NAMES[0], "", (), why, found))

    async def _mark_evictions(self, line: Line, found: str) -> None:
        with suppress(RefusedError):  # a replica, or a full server: no reason to refuse anybody
            await line.ask("SET", self.layout.evicted, found)

    @staticmethod
    async def _saves(line: Line) -> bool | None:
        try:
            saves = save_points(await line.ask("CONFIG", "GET", "save"))
        except RefusedError:
            return None  # as managed servers do
        return None if saves is None else saves != ""

    def read_user(self, raw: bytes | None) -> tuple[str, User]:
        """A user's generation, as it is written and as it is. Raises StoreUnavailableError."""
        if raw is None:
            return "", NOT_REVOKED
        try:
            text = raw.decode("utf-8")
            return text, User.read(text)
        except ValueError:
            self._state.junk()
            raise StoreUnavailableError("The revocation store holds no generation at a user's key") from None


def _new_epoch() -> str:
    return secrets.token_urlsafe(6)
