"""What stands on the server, read and written, with an eye on whether it lost something."""

from __future__ import annotations

from asyncio import gather
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from async_jwt.errors import ConfigurationError, StoreUnavailableError
from async_jwt.stores.contract import TokenRef
from async_jwt.stores.redis.client import ServerClient
from async_jwt.stores.redis.cluster import Cluster
from async_jwt.stores.redis.data_loss import LOSES, DataLossHandler
from async_jwt.stores.redis.errors import OutageError, fresh_copy
from async_jwt.stores.redis.health import Health
from async_jwt.stores.redis.lua import REVOKE_EVERYTHING, Script
from async_jwt.stores.redis.monitor import Monitor
from async_jwt.stores.redis.options import Options, Place
from async_jwt.stores.redis.reads import Values
from async_jwt.stores.redis.schema import BUCKET_NAMES, NOT_REVOKED, Bucket, Layout, User
from async_jwt.stores.redis.topology import PerLoop, Standalone, Topology
from async_jwt.stores.redis.versions import LastSeen, Loss

if TYPE_CHECKING:
    from async_jwt.stores.redis.mirror.feed import Mirror

__all__ = ["TRIES", "BucketRead", "BucketStore"]

TRIES = 3
"""How often one call begins again because the store was found wanting in between."""


class BucketRead(NamedTuple):
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


class BucketStore:
    """The buckets of one store.

    Args:
        place: where the servers are.
        options: how they are asked.
        health: told of what happens.
    """

    def __init__(self, place: Place, options: Options, health: Health) -> None:
        self._place = place
        self._options = options
        self._health = health
        self._last_seen = LastSeen()
        self.layout: Layout = Layout(options.prefix)
        self.data_loss: DataLossHandler = DataLossHandler(self._last_seen, self.layout, options, health)
        self._monitor = Monitor(self._last_seen, self.layout, self.data_loss, options, health)
        self._mirror = _mirror(self._last_seen, self.layout, self.data_loss, options, health)
        self._per_loop = PerLoop(self._make, self._after_fork)

    def mirrored(self, ref: TokenRef) -> bool | None:
        """Whether a token counts, as far as is known without asking; None if it is not."""
        return None if self._mirror is None else self._mirror.answer(ref)

    def mirror_status(self) -> dict[str, Any]:
        """What a store's status says of the mirror."""
        mirror = self._mirror
        return {} if mirror is None else {"staleness": mirror.staleness, "mirrored": len(mirror)}

    async def read_token(self, ref: TokenRef, more: Sequence[str] = ()) -> BucketRead:
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
            if self._last_seen.before(name) != bucket:  # the other one may have shown a loss of both
                bucket, (raw, *values) = await self.read(name, [*keys, *more])
            values[len(keys) - 1 : len(keys) - 1] = foreign
        place = len(values) - len(more)
        entries = values[:place]
        text, user = self.read_user(raw)
        ended = entries[-1] if ref.sid is not None else None
        return BucketRead(
            bucket, user, text, any(entry is not None for entry in entries), ended, values[place:]
        )

    async def read(self, name: str, keys: Sequence[str]) -> tuple[Bucket, Values]:
        """Read a bucket, and what stands at some of its keys, in one command at most.

        Raises:
            StoreUnavailableError: they could not be read.
        """
        topology = await self._topology(name)
        wanted = [self.layout.bucket(name), *keys]
        for _ in range(TRIES):
            before = self._last_seen.before(name)
            raw, *values = await topology.at(name).read(wanted)
            seen = self._last_seen.compare(name, raw, before)
            if not isinstance(seen, Loss):
                return seen, values
            await self.data_loss.handle(topology, seen)
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
        topology = await self._topology(name)
        for _ in range(TRIES):
            before = self._last_seen.before(name)
            client = topology.at(name)
            client.refuse_if_unavailable()
            reply = await client.run(
                script, [self.layout.bucket(name), *keys, self.layout.feed(name)], arguments
            )
            if reply == 0:
                return None
            value, added, *rest = reply if isinstance(reply, list) and len(reply) > 1 else (reply, 0)
            if not isinstance(value, bytes):
                raise StoreUnavailableError("The revocation store did not say that it revoked")
            seen = self._last_seen.compare(name, value or None, before, added=added)
            if isinstance(seen, Loss):
                await self.data_loss.handle(topology, seen)
            if not isinstance(seen, Loss) or seen.found:  # else it is not certain what was done
                return rest
        raise StoreUnavailableError(LOSES)

    async def query(
        self, name: str, script: Script, keys: Sequence[str], arguments: Sequence[str]
    ) -> list[Any]:
        """Run a script that changes nothing, and says what stands at the bucket first.

        Returns:
            The bucket, and what else the script says.

        Raises:
            StoreUnavailableError: it could not be run.
        """
        topology = await self._topology(name)
        for _ in range(TRIES):
            before = self._last_seen.before(name)
            client = topology.at(name)
            client.refuse_if_unavailable()
            reply = await client.run(script, [self.layout.bucket(name), *keys], arguments, writes=False)
            if not isinstance(reply, list) or not all(isinstance(value, bytes) for value in reply):
                raise StoreUnavailableError("The revocation store answers something else")
            seen = self._last_seen.compare(name, reply[0] or None, before)
            if not isinstance(seen, Loss):
                return [seen, *reply[1:]]
            await self.data_loss.handle(topology, seen)
        raise StoreUnavailableError(LOSES)

    async def tidy(self, name: str, script: Script, keys: Sequence[str], arguments: Sequence[str]) -> None:
        """Run a script that changes nothing for anybody. If it cannot be run, so be it."""
        topology = await self._topology(name)
        with suppress(StoreUnavailableError):
            await topology.at(name).run(script, [self.layout.bucket(name), *keys], arguments, writes=False)

    async def revoke_everything(self) -> None:
        """Raise everybody's generation. Raises as `write` does."""
        topology = await self._topology()
        for _ in range(TRIES):
            for name in BUCKET_NAMES:
                topology.at(name).refuse_if_unavailable()
            parts = topology.parts(BUCKET_NAMES)
            if all(await gather(*(self._revoke_all_on(topology, *part) for part in parts))):
                return
            await self._monitor.learn(topology)
        raise StoreUnavailableError(LOSES)

    async def start(self) -> None:
        """Connect, and look at everything. Raises StoreUnavailableError."""
        for problem in (await self._monitor.inspect(await self._topology())).values():
            raise problem

    async def close(self) -> None:
        """Close the running loop's connections. They are made again when needed."""
        await self._per_loop.close()

    async def report_loss(self, name: str, found: str, named: str, why: str) -> None:
        """A token shows that a bucket's server lost something. Raises StoreUnavailableError.

        Args:
            name: the bucket.
            found: its epoch.
            named: the epoch that the token names.
            why: what the token shows.
        """
        await self.data_loss.handle(
            await self._per_loop.here(), Loss(name, found, (named,), why, by_token=True)
        )

    def _after_fork(self) -> None:
        """This is another process now."""
        self._health.after_fork()
        if self._mirror is not None:
            self._mirror.reset()

    def _make(self) -> Topology:
        if self._place.kind == "cluster":
            return Cluster(self._place, self._options, self.layout, self._health, self._monitor)
        return Standalone(self._place, self._options, self._health, self._monitor)

    async def _topology(self, name: str | None = None) -> Topology:
        """The running loop's route, once it is known what stands in a bucket, or in all."""
        topology = await self._per_loop.here()
        topology.idle_timer.restart()
        await topology.ready()
        if self._monitor.is_due or self._monitor.troubles or not self._knows(name):
            await self._get_to_know(topology, name)
        if self._mirror is not None:
            self._mirror.ensure_fed(topology)
        return topology

    async def _get_to_know(self, topology: Topology, name: str | None) -> None:
        clients = topology.clients() if name is None else [topology.at(name)]
        for client in clients:
            client.refuse_if_unavailable()
        if not self._knows(name):
            troubles = await self._monitor.learn(topology)
        elif self._monitor.is_due or any(client.name in self._monitor.troubles for client in clients):
            troubles = await self._monitor.inspect(topology)
        else:
            return
        for client in clients:
            if client.name in troubles:
                raise fresh_copy(troubles[client.name])
        if not self._knows(name):
            raise OutageError("Some of the revocation store's servers do not answer")

    def _knows(self, name: str | None) -> bool:
        return (
            self._last_seen.covers(name)
            if name is not None
            else all(map(self._last_seen.covers, BUCKET_NAMES))
        )

    async def _revoke_all_on(self, topology: Topology, client: ServerClient, names: list[str]) -> bool:
        """Raise everybody's generation on one server. Returns whether all buckets were there."""
        groups = topology.groups(names)
        calls = [(self.layout.with_feeds(group), list[str]()) for group in groups]
        for group, reply in zip(groups, await client.run_each(REVOKE_EVERYTHING, calls), strict=True):
            if not isinstance(reply, list) or len(reply) != len(group):
                return False
            for name, raw in zip(group, reply, strict=True):
                self._last_seen.compare(name, raw, None)  # so that nobody answers with what was before
        return True

    def read_user(self, raw: bytes | None) -> tuple[str, User]:
        """A user's generation, as it is written and as it is. Raises StoreUnavailableError."""
        if raw is None:
            return "", NOT_REVOKED
        try:
            text = raw.decode("utf-8")
            return text, User.read(text)
        except ValueError:
            self._health.corrupt()
            raise StoreUnavailableError("The revocation store holds no generation at a user's key") from None


def _mirror(
    last_seen: LastSeen, layout: Layout, data_loss: DataLossHandler, options: Options, health: Health
) -> Mirror | None:
    if not options.mirror:
        return None
    try:
        from async_jwt.stores.redis.mirror.feed import Mirror  # noqa: PLC0415  # an extra of its own
    except ImportError:
        raise ConfigurationError(
            "JWT_STORE_URI: mirror=true needs a further package: pip install async-jwt[mirror]"
        ) from None
    return Mirror(last_seen, layout, data_loss, options, health)
