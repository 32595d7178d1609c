"""What stands on the server, read and written, with an eye on whether it lost something."""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple, cast

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores.contract import TokenRef
from async_jwt.stores.redis.known import Known, Loss
from async_jwt.stores.redis.layout import BUCKET_NAMES, NOT_REVOKED, Bucket, Layout, User
from async_jwt.stores.redis.line import Line, Lines, RefusedError
from async_jwt.stores.redis.lua import FOUND, LOSE, REVOKE_EVERYTHING, Script
from async_jwt.stores.redis.options import Options
from async_jwt.stores.redis.pool import Pool
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
    """

    bucket: Bucket
    user: User
    user_text: str
    revoked: bool


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
            )
        )
        self.layout: Layout = Layout(options.prefix)
        self._server: Server | None = None
        self._saves: str | None = None
        self._may_ask = True
        self._said: set[str] = set()

    async def look(self, ref: TokenRef) -> Found:
        """Look at what a token's validity depends on, in one command at most.

        Raises:
            StoreUnavailableError: it could not be read.
        """
        names, keys = self.layout.of(ref)
        line = await self._line()
        for _ in range(TRIES):
            before = self._known.before(names)
            values = await line.read(keys)
            seen = [self._known.look(*each) for each in zip(names, values, before)]  # noqa: B905  # the buckets alone
            loss = next((bucket for bucket in seen if isinstance(bucket, Loss)), None)
            if loss is None:
                raw, *entries = values[len(names) :]
                text, user = _read_user(raw)
                return Found(cast("Bucket", seen[0]), user, text, any(entry is not None for entry in entries))
            await self.lost(loss)
        raise StoreUnavailableError("The revocation store loses what it is told")

    async def write(self, name: str, script: Script, key: str, arguments: list[str]) -> bool:
        """Change something in a bucket.

        Args:
            name: the bucket.
            script: what does it.
            key: what it changes besides the bucket's own value.
            arguments: the script's.

        Returns:
            Whether it was done; the script may decline.

        Raises:
            StoreUnavailableError: it is not certain that it is stored.
        """
        line = await self._line()
        for _ in range(TRIES):
            before = self._known.before([name])
            reply = await line.write(script, [self.layout.bucket(name), key], arguments)
            if reply == 0:
                return False
            if not isinstance(reply, bytes):
                raise StoreUnavailableError("The revocation store did not say that it revoked")
            seen = self._known.look(name, reply or None, before[0])
            if isinstance(seen, Loss):
                await self.lost(seen)
            if reply:
                return True
        raise StoreUnavailableError("The revocation store loses what it is told")

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
        await self.learn(line)
        await self._look_at_server(line)

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
            line.refuse_if_open()
            await self.learn(line)
        return line

    async def _learn(self, line: Line) -> None:
        keys = list(self.layout.buckets)
        before = self._known.before(BUCKET_NAMES)
        values = await line.fetch(keys)
        if None in values and not self._known.is_complete:
            await line.run(FOUND, keys, [_new_epoch(), ""])
            values = await line.fetch(keys)
        for each in zip(BUCKET_NAMES, values, before, strict=True):
            seen = self._known.look(*each)
            if isinstance(seen, Loss):
                await self.lost(seen)
                return

    async def _lost(self, line: Line, loss: Loss) -> None:
        keys = list(self.layout.buckets)
        reply: Any = None
        if self._denies:
            place = str(BUCKET_NAMES.index(loss.bucket) + 1)
            arguments = [place, loss.found, _new_epoch(), loss.evicted, ",".join(loss.epochs)]
            reply = await line.run(LOSE, [self.layout.evicted, *keys], arguments)
            if reply not in (0, 1):
                raise StoreUnavailableError("The revocation store did not say that it noticed its loss")
        else:
            await line.run(FOUND, keys, [_new_epoch(), "1"])
        values = await line.fetch(keys)
        if None in values:
            raise StoreUnavailableError("The revocation store loses what it is told")
        self._known.replace(cast("list[bytes]", values))
        self._state.lost(loss.why, denied=self._denies, elsewhere=reply == 0)

    async def _look_now_and_then(self, line: Line) -> None:
        if line.is_out:
            return  # the breaker's probes look
        try:
            await self.learn(line)
            await self._look_at_server(line)
        except StoreUnavailableError:
            return  # it was noted

    async def _look_at_server(self, line: Line) -> None:
        if not self._may_ask:
            return
        if self._server is None:
            try:
                self._saves = save_points(await line.ask("CONFIG", "GET", "save"))
            except RefusedError:
                self._saves = None  # as managed servers do
        try:
            server = read_server(await line.ask("INFO"), self._saves)
        except RefusedError:
            server = None
        if server is None:
            self._may_ask = False
            return
        before, self._server = self._server, server
        self._state.server(server)
        if before is not None and before.run == server.run and before.evicted < server.evicted:
            why = f"the server dropped {server.evicted - before.evicted} keys to make room"
            if self._denies:
                await self.lost(Loss(BUCKET_NAMES[0], "", (), why, f"{server.run} {server.evicted}"))
            else:
                self.say_once(why, server.run)


def _read_user(raw: bytes | None) -> tuple[str, User]:
    if raw is None:
        return "", NOT_REVOKED
    try:
        text = raw.decode("utf-8")
        return text, User.read(text)
    except ValueError:
        raise StoreUnavailableError("The revocation store holds no generation at a user's key") from None


def _new_epoch() -> str:
    return secrets.token_urlsafe(6)
