"""Reads and writes buckets; checks each reply for data loss."""

from __future__ import annotations

from asyncio import gather
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores.contract import TokenRef, bucket_of
from async_jwt.stores.redis.client import ServerClient, Values
from async_jwt.stores.redis.data_loss import LOSES, DataLossHandler
from async_jwt.stores.redis.errors import OutageError, fresh_copy
from async_jwt.stores.redis.health import Health
from async_jwt.stores.redis.lua import REVOKE_EVERYTHING, REVOKE_USER, Script
from async_jwt.stores.redis.monitor import Monitor
from async_jwt.stores.redis.schema import (
    BUCKET_NAMES,
    DECIDED,
    NOT_REVOKED,
    USED,
    Bucket,
    Layout,
    TokenStatus,
    User,
    evaluate,
)
from async_jwt.stores.redis.topology import PerLoop, Topology
from async_jwt.stores.redis.versions import LastSeen, Loss

if TYPE_CHECKING:
    from async_jwt.stores.redis.mirror import Mirror

__all__ = ["CONTENDERS", "BucketRead", "BucketStore"]

# Attempts per call when the server loses data in between.
_TRIES = 3


class BucketRead(NamedTuple):
    """What the server holds about a token.

    Attributes:
        bucket: the bucket of its identity.
        user: its user's generation.
        user_text: the generation as stored; "" if there is none.
        revoked: True if the token itself, or its session, was revoked.
        used: True if the token itself was, because it was used.
        ended: the value at its revoked-session key.
        more: the values of the extra keys.
    """

    bucket: Bucket
    user: User
    user_text: str
    revoked: bool
    used: bool
    ended: bytes | None
    more: Values

    @property
    def stamp(self) -> str:
        """The stamp for a new token of this user."""
        return f"{self.bucket.epoch}.{self.bucket.generation}.{self.user.latest}"


# Token statuses that reveal data loss, and the reason to report.
_SIGNS = {
    TokenStatus.UNKNOWN_EPOCH: "a token names an epoch that it does not know",
    TokenStatus.FUTURE_GENERATION: "a token names a later generation than its own",
}


class BucketStore:
    """Reads and writes the buckets of one store.

    Args:
        topologies: one topology per event loop.
        layout: the keys.
        last_seen: the bucket states this process saw last.
        monitor: detects what no reply shows.
        data_loss: handles losses.
        health: records state changes.
        denies_losses: False judges tokens from before a loss by their issue time.
        mirror: a copy of all revocations, fed by the event loops that use the store.
    """

    def __init__(
        self,
        topologies: PerLoop,
        layout: Layout,
        last_seen: LastSeen,
        monitor: Monitor,
        data_loss: DataLossHandler,
        health: Health,
        *,
        denies_losses: bool,
        mirror: Mirror | None,
    ) -> None:
        self.topologies: PerLoop = topologies
        self.layout: Layout = layout
        self.denies_losses: bool = denies_losses
        self._last_seen = last_seen
        self._monitor = monitor
        self._data_loss = data_loss
        self._health = health
        self._mirror = mirror

    async def judge(
        self, ref: TokenRef, more: Sequence[str] = (), *, reports: bool = True
    ) -> tuple[TokenStatus, BucketRead]:
        """Return a token's status, and what was read. Handles any data loss that the token reveals.

        Args:
            ref: the token.
            more: extra keys of its bucket to read.
            reports: False takes a token that reveals data loss as revoked, and handles nothing.

        Returns:
            A status of `DECIDED`, and what was read.

        Raises:
            StoreUnavailableError: the token's validity is unknown.
        """
        for _ in range(_TRIES):
            read = await self.read_token(ref, more)
            if read.revoked:
                return TokenStatus.USED if read.used else TokenStatus.REVOKED, read
            status = evaluate(ref, read.bucket, read.user)
            if status in DECIDED:
                return status, read
            epoch = str(ref.gen).partition(".")[0]
            if not self.denies_losses:
                if status in _SIGNS:
                    self._data_loss.log_once(_SIGNS[status], epoch)
                return evaluate(ref._replace(gen=None), read.bucket, read.user), read
            if status is TokenStatus.PREVIOUS_EPOCH or not reports:
                return TokenStatus.REVOKED, read
            await self._report_loss(bucket_of(ref.identity), read.bucket.epoch, epoch, _SIGNS[status])
        raise StoreUnavailableError("The revocation store changes faster than it can be read")

    async def revoke_user(self, identity: str, keep: TokenRef | None) -> None:
        """Raise a user's generation. Raises StoreUnavailableError.

        Args:
            identity: the user.
            keep: a token that stays valid, with its session, if it is valid now.
        """
        bucket, keys = bucket_of(identity), [self.layout.user(identity), *self.layout.lists(identity)]
        if keep is None:
            await self.revoke(bucket, REVOKE_USER, keys, ["*", "0", "0", "", identity])
            return
        keep = keep._replace(identity=identity)
        for _ in range(CONTENDERS):
            status, read = await self.judge(keep)
            # An invalid token is not kept.
            kept = (keep.sid or keep.jti or "") if status is TokenStatus.VALID else ""
            user = read.user
            goes_on = kept != "" and user.keep == kept
            least = user.kept_from if goes_on else user.generation
            since = user.kept_since if goes_on else user.raised_at
            arguments = [read.user_text, str(least), f"{since:.6f}", kept, identity]
            if await self.write(bucket, REVOKE_USER, keys, arguments) is not None:
                return
        raise StoreUnavailableError("Too many concurrent revocations of this user")

    async def revoke(self, name: str, script: Script, keys: Sequence[str], arguments: Sequence[str]) -> None:
        """Run a script that revokes. Takes the arguments of `write`; raises StoreUnavailableError."""
        if await self.write(name, script, keys, arguments) is None:
            raise StoreUnavailableError("The revocation store declined to revoke")

    async def read_token(self, ref: TokenRef, more: Sequence[str] = ()) -> BucketRead:
        """Read what a token's validity depends on, and extra keys, in at most one command.

        Raises:
            StoreUnavailableError: it could not be read.
        """
        name, keys, elsewhere = self.layout.of(ref)
        if elsewhere is None:
            bucket, (raw, *values) = await self.read(name, [*keys, *more])
        else:
            here = self.read(name, [*keys, *more])
            (bucket, (raw, *values)), (_, foreign) = await gather(here, self.read(*elsewhere))
            if self._last_seen.before(name) != bucket:  # the other read may have revealed a loss of both
                bucket, (raw, *values) = await self.read(name, [*keys, *more])
            values[len(keys) - 1 : len(keys) - 1] = foreign
        place = len(values) - len(more)
        entries = values[:place]
        text, user = self.read_user(raw)
        ended = entries[-1] if ref.sid is not None else None
        revoked = entries.count(None) != len(entries)
        used = revoked and ref.jti is not None and (entries[0] or b"").startswith(USED)
        return BucketRead(bucket, user, text, revoked, used, ended, values[place:])

    async def read(self, name: str, keys: Sequence[str]) -> tuple[Bucket, Values]:
        """Read a bucket and some of its keys, in at most one command.

        Raises:
            StoreUnavailableError: they could not be read.
        """
        topology = await self._topology(name)
        wanted = [self.layout.bucket(name), *keys]
        for _ in range(_TRIES):
            before = self._last_seen.before(name)
            raw, *values = await topology.at(name).read(wanted)
            seen = self._last_seen.compare(name, raw, before)
            if not isinstance(seen, Loss):
                return seen, values
            await self._data_loss.handle(topology, seen)
        raise StoreUnavailableError(LOSES)

    async def write(
        self,
        name: str,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[str],
        *,
        despite_loss: bool = True,
    ) -> list[Any] | None:
        """Run a script that changes a bucket.

        Args:
            name: the bucket.
            script: the script.
            keys: the keys it changes besides the bucket's own.
            arguments: the script's arguments.
            despite_loss: True takes a change as made even if the reply shows data loss, since it is stored.
                False takes it as declined: what the script found may lack what was lost.

        Returns:
            The rest of the script's reply; None if it declined.

        Raises:
            StoreUnavailableError: the change may not be stored.
        """
        topology = await self._topology(name)
        for _ in range(_TRIES):
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
                raise StoreUnavailableError(
                    "Unexpected reply from the revocation store; the write is unconfirmed"
                )
            seen = self._last_seen.compare(name, value or None, before, added=added)
            if isinstance(seen, Loss):
                await self._data_loss.handle(topology, seen)
            if not isinstance(seen, Loss) or seen.found:  # otherwise the outcome is unknown: try again
                return rest if despite_loss or not isinstance(seen, Loss) else None
        raise StoreUnavailableError(LOSES)

    async def query(
        self, name: str, script: Script, keys: Sequence[str], arguments: Sequence[str]
    ) -> list[Any]:
        """Run a read-only script whose reply starts with the bucket.

        Returns:
            The bucket, and the rest of the reply.

        Raises:
            StoreUnavailableError: the script could not be run.
        """
        topology = await self._topology(name)
        for _ in range(_TRIES):
            before = self._last_seen.before(name)
            client = topology.at(name)
            client.refuse_if_unavailable()
            reply = await client.run(script, [self.layout.bucket(name), *keys], arguments, writes=False)
            if not isinstance(reply, list) or not all(isinstance(value, bytes) for value in reply):
                raise StoreUnavailableError("Unexpected reply from the revocation store")
            seen = self._last_seen.compare(name, reply[0] or None, before)
            if not isinstance(seen, Loss):
                return [seen, *reply[1:]]
            await self._data_loss.handle(topology, seen)
        raise StoreUnavailableError(LOSES)

    async def tidy(self, name: str, script: Script, keys: Sequence[str], arguments: Sequence[str]) -> None:
        """Run a cleanup script that affects no check. Does nothing if the server is unavailable."""
        topology = await self._topology(name)
        with suppress(StoreUnavailableError):
            await topology.at(name).run(script, [self.layout.bucket(name), *keys], arguments, writes=False)

    async def revoke_everything(self) -> None:
        """Raise the generation of all users. Raises as `write` does."""
        topology = await self._topology()
        for _ in range(_TRIES):
            for name in BUCKET_NAMES:
                topology.at(name).refuse_if_unavailable()
            parts = topology.parts(BUCKET_NAMES)
            if all(await gather(*(self._revoke_all_on(topology, *part) for part in parts))):
                return
            await self._monitor.learn(topology)
        raise StoreUnavailableError(LOSES)

    async def start(self) -> None:
        """Connect and inspect all servers. Raises StoreUnavailableError."""
        for problem in (await self._monitor.inspect(await self._topology())).values():
            raise problem

    async def _report_loss(self, name: str, found: str, named: str, why: str) -> None:
        """Handle a loss that a token reveals. Raises StoreUnavailableError.

        Args:
            name: the bucket.
            found: its epoch.
            named: the epoch that the token names.
            why: what the token reveals.
        """
        loss = Loss(name, found, (named,), why, by_token=True)
        await self._data_loss.handle(await self.topologies.here(), loss)

    async def _topology(self, name: str | None = None) -> Topology:
        """The running loop's topology, once the bucket (None: every bucket) was seen.

        Keeps the monitor and the mirror running.
        """
        topology, monitor = await self.topologies.here(), self._monitor
        if not topology.idle_timer.running:
            topology.idle_timer.start(topology.interval)
        if not topology.is_ready:  # one call less in most checks
            await topology.ready()
        unseen = name is None or self._last_seen.before(name) is None
        if unseen or monitor.troubles or monotonic() > monitor.due_at:
            await self._get_to_know(topology, name)
        if self._mirror is not None:
            self._mirror.ensure_fed(topology)
        return topology

    async def _get_to_know(self, topology: Topology, name: str | None) -> None:
        clients = topology.clients() if name is None else [topology.at(name)]
        for client in clients:
            client.refuse_if_unavailable()
        names = BUCKET_NAMES if name is None else (name,)
        if not self._last_seen.covers(names):
            troubles = await self._monitor.learn(topology)
        elif monotonic() > self._monitor.due_at or any(
            client.name in self._monitor.troubles for client in clients
        ):
            troubles = await self._monitor.inspect(topology)
        else:
            return
        for client in clients:
            if client.name in troubles:
                raise fresh_copy(troubles[client.name])
        if not self._last_seen.covers(names):
            raise OutageError("Some of the revocation store's servers do not answer")

    async def _revoke_all_on(self, topology: Topology, client: ServerClient, names: list[str]) -> bool:
        """Raise all users' generation on one server. Return True if all its buckets existed."""
        groups = topology.groups(names)
        calls = [(self.layout.with_feeds(group), list[str]()) for group in groups]
        for group, reply in zip(groups, await client.run_each(REVOKE_EVERYTHING, calls), strict=True):
            if not isinstance(reply, list) or len(reply) != len(group):
                return False
            for name, raw in zip(group, reply, strict=True):
                self._last_seen.compare(name, raw, None)  # so that no check uses the old state
        return True

    def read_user(self, raw: bytes | None) -> tuple[str, User]:
        """A user's generation, as stored and as parsed. Raises StoreUnavailableError."""
        if raw is None:
            return "", NOT_REVOKED
        try:
            text = raw.decode("utf-8")
            return text, User.read(text)
        except ValueError:
            self._health.corrupt()
            raise StoreUnavailableError("The revocation store has an invalid value at a user's key") from None


CONTENDERS = 32
"""Attempts to change one user: each concurrent change forces another one to retry."""
