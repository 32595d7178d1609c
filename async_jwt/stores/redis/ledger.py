"""What stands on the server, read and written, with an eye on whether it lost something."""

from __future__ import annotations

from asyncio import gather
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from async_jwt.errors import ConfigurationError, StoreUnavailableError
from async_jwt.stores.contract import TokenRef
from async_jwt.stores.redis.cluster import Cluster
from async_jwt.stores.redis.inspector import Inspector
from async_jwt.stores.redis.known import Known, Loss
from async_jwt.stores.redis.layout import BUCKET_NAMES, NOT_REVOKED, Bucket, Layout, User
from async_jwt.stores.redis.line import Line
from async_jwt.stores.redis.losses import LOSES, Losses
from async_jwt.stores.redis.lua import REVOKE_EVERYTHING, Script
from async_jwt.stores.redis.options import Options, Place
from async_jwt.stores.redis.outage import OutageError, one_of_ones_own
from async_jwt.stores.redis.reads import Values
from async_jwt.stores.redis.route import OneServer, Route, Routes
from async_jwt.stores.redis.state import State

if TYPE_CHECKING:
    from async_jwt.stores.redis.mirror import Mirror

__all__ = ["TRIES", "Found", "Ledger"]

TRIES = 3
"""How often one call begins again because the store was found wanting in between."""


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
        place: where the servers are.
        options: how they are asked.
        state: told of what happens.
    """

    def __init__(self, place: Place, options: Options, state: State) -> None:
        self._place = place
        self._options = options
        self._state = state
        self._known = Known()
        self.layout: Layout = Layout(options.prefix)
        self.losses: Losses = Losses(self._known, self.layout, options, state)
        self._inspector = Inspector(self._known, self.layout, self.losses, options, state)
        self._mirror = _mirror(self._known, self.layout, self.losses, options, state)
        self._routes = Routes(self._make, self._forget)

    def mirrored(self, ref: TokenRef) -> bool | None:
        """Whether a token counts, as far as is known without asking; None if it is not."""
        return None if self._mirror is None else self._mirror.says(ref)

    def mirror_status(self) -> dict[str, Any]:
        """What a store's status says of the mirror."""
        mirror = self._mirror
        return {} if mirror is None else {"staleness": mirror.staleness, "mirrored": len(mirror)}

    async def look(self, ref: TokenRef, more: Sequence[str] = ()) -> Found:
        """Look at what a token's validity depends on, and at further keys, in one command at most.

        Raises:
            StoreUnavailableError: it could not be read.
        """
        name, keys, elsewhere = self.layout.of(ref)
        if elsewhere is None:
            bucket, (raw, *values) = await self.read(name, [*keys, *more])
        else:
            here = self.read(name, [*keys, *more])
            (bucket, (raw, *values)), (_, foreign) = await gather(here, self.read(*elsewhere))
            if self._known.before(name) != bucket:  # the other one may have shown a loss of both
                bucket, (raw, *values) = await self.read(name, [*keys, *more])
            values[len(keys) - 1 : len(keys) - 1] = foreign
        place = len(values) - len(more)
        entries = values[:place]
        text, user = self.read_user(raw)
        ended = entries[-1] if ref.sid is not None else None
        return Found(bucket, user, text, any(entry is not None for entry in entries), ended, values[place:])

    async def read(self, name: str, keys: Sequence[str]) -> tuple[Bucket, Values]:
        """Read a bucket, and what stands at some of its keys, in one command at most.

        Raises:
            StoreUnavailableError: they could not be read.
        """
        route = await self._route(name)
        wanted = [self.layout.bucket(name), *keys]
        for _ in range(TRIES):
            before = self._known.before(name)
            raw, *values = await route.at(name).read(wanted)
            seen = self._known.look(name, raw, before)
            if not isinstance(seen, Loss):
                return seen, values
            await self.losses.deal(route, seen)
        raise StoreUnavailableError(LOSES)

    async def write(
        self, name: str, script: Script, keys: Sequence[str], arguments: Sequence[str]
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
        route = await self._route(name)
        for _ in range(TRIES):
            before = self._known.before(name)
            line = route.at(name)
            line.refuse_if_out()
            reply = await line.run(
                script, [self.layout.bucket(name), *keys, self.layout.feed(name)], arguments
            )
            if reply == 0:
                return None
            value, added, *rest = reply if isinstance(reply, list) and len(reply) > 1 else (reply, 0)
            if not isinstance(value, bytes):
                raise StoreUnavailableError("The revocation store did not say that it revoked")
            seen = self._known.look(name, value or None, before, added=added)
            if isinstance(seen, Loss):
                await self.losses.deal(route, seen)
            if not isinstance(seen, Loss) or seen.found:  # else it is not certain what was done
                return rest
        raise StoreUnavailableError(LOSES)

    async def ask(
        self, name: str, script: Script, keys: Sequence[str], arguments: Sequence[str]
    ) -> list[Any]:
        """Run a script that changes nothing, and says what stands at the bucket first.

        Returns:
            The bucket, and what else the script says.

        Raises:
            StoreUnavailableError: it could not be run.
        """
        route = await self._route(name)
        for _ in range(TRIES):
            before = self._known.before(name)
            line = route.at(name)
            line.refuse_if_out()
            reply = await line.run(script, [self.layout.bucket(name), *keys], arguments, writes=False)
            if not isinstance(reply, list) or not all(isinstance(value, bytes) for value in reply):
                raise StoreUnavailableError("The revocation store answers something else")
            seen = self._known.look(name, reply[0] or None, before)
            if not isinstance(seen, Loss):
                return [seen, *reply[1:]]
            await self.losses.deal(route, seen)
        raise StoreUnavailableError(LOSES)

    async def tidy(self, name: str, script: Script, keys: Sequence[str], arguments: Sequence[str]) -> None:
        """Run a script that changes nothing for anybody. If it cannot be run, so be it."""
        route = await self._route(name)
        with suppress(StoreUnavailableError):
            await route.at(name).run(script, [self.layout.bucket(name), *keys], arguments, writes=False)

    async def revoke_everything(self) -> None:
        """Raise everybody's generation. Raises as `write` does."""
        route = await self._route()
        for _ in range(TRIES):
            for name in BUCKET_NAMES:
                route.at(name).refuse_if_out()
            parts = route.parts(BUCKET_NAMES)
            if all(await gather(*(self._revoke_all_on(route, *part) for part in parts))):
                return
            await self._inspector.learn(route)
        raise StoreUnavailableError(LOSES)

    async def start(self) -> None:
        """Connect, and look at everything. Raises StoreUnavailableError."""
        for problem in (await self._inspector.look(await self._route())).values():
            raise problem

    async def close(self) -> None:
        """Close the running loop's connections. They are made again when needed."""
        await self._routes.close()

    async def lost(self, name: str, found: str, named: str, why: str) -> None:
        """A token shows that a bucket's server lost something. Raises StoreUnavailableError.

        Args:
            name: the bucket.
            found: its epoch.
            named: the epoch that the token names.
            why: what the token shows.
        """
        await self.losses.deal(await self._routes.here(), Loss(name, found, (named,), why, by_token=True))

    def _forget(self) -> None:
        """This is another process now."""
        self._state.forget()
        if self._mirror is not None:
            self._mirror.forget()

    def _make(self) -> Route:
        if self._place.kind == "cluster":
            return Cluster(self._place, self._options, self.layout, self._state, self._inspector)
        return OneServer(self._place, self._options, self._state, self._inspector)

    async def _route(self, name: str | None = None) -> Route:
        """The running loop's route, once it is known what stands in a bucket, or in all."""
        route = await self._routes.here()
        route.watch.wind()
        await route.ready()
        if self._inspector.is_due or self._inspector.troubles or not self._knows(name):
            await self._get_to_know(route, name)
        if self._mirror is not None:
            self._mirror.wind(route)
        return route

    async def _get_to_know(self, route: Route, name: str | None) -> None:
        lines = route.lines() if name is None else [route.at(name)]
        for line in lines:
            line.refuse_if_out()
        if not self._knows(name):
            troubles = await self._inspector.learn(route)
        elif self._inspector.is_due or any(line.name in self._inspector.troubles for line in lines):
            troubles = await self._inspector.look(route)
        else:
            return
        for line in lines:
            if line.name in troubles:
                raise one_of_ones_own(troubles[line.name])
        if not self._knows(name):
            raise OutageError("Some of the revocation store's servers do not answer")

    def _knows(self, name: str | None) -> bool:
        return self._known.covers(name) if name is not None else all(map(self._known.covers, BUCKET_NAMES))

    async def _revoke_all_on(self, route: Route, line: Line, names: list[str]) -> bool:
        """Raise everybody's generation on one server. Returns whether all buckets were there."""
        groups = route.groups(names)
        calls = [(self.layout.with_feeds(group), list[str]()) for group in groups]
        for group, reply in zip(groups, await line.run_each(REVOKE_EVERYTHING, calls), strict=True):
            if not isinstance(reply, list) or len(reply) != len(group):
                return False
            for name, raw in zip(group, reply, strict=True):
                self._known.look(name, raw, None)  # so that nobody answers with what was before
        return True

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


def _mirror(known: Known, layout: Layout, losses: Losses, options: Options, state: State) -> Mirror | None:
    if not options.mirror:
        return None
    try:
        from async_jwt.stores.redis.mirror import Mirror  # noqa: PLC0415  # an extra of its own
    except ImportError:
        raise ConfigurationError(
            "JWT_STORE_URI: mirror=true needs a further package: pip install async-jwt[mirror]"
        ) from None
    return Mirror(known, layout, losses, options, state)
