"""Mirror of all revocations in this process's memory, so that a check sends no command.

Each revocation is published on a channel, which is fast, and added to its bucket's stream, which
keeps all recent ones. A bucket's count shows how far it has come. The mirror polls it a few times
per `mirror_lag`: once it has received everything up to the polled count, it is as current as the
start of that poll. Checks query the server, as without a mirror, for a bucket that was not polled
in time or has a later known state, such as after this process's own revocations.

Feed messages can only add revocations, never prove data loss: only a server's replies to this
process go into `LastSeen` and count as evidence.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores.contract import TokenRef, bucket_of, bucket_of_sid
from async_jwt.stores.redis.client import ServerClient
from async_jwt.stores.redis.data_loss import DataLossHandler
from async_jwt.stores.redis.errors import OutageError, gather_settled
from async_jwt.stores.redis.health import Health
from async_jwt.stores.redis.lua import OPEN_FEEDS, SCAN_REVOKED
from async_jwt.stores.redis.mirror.snapshot import Entry, Snapshot
from async_jwt.stores.redis.options import Options
from async_jwt.stores.redis.pool import DedicatedConnection
from async_jwt.stores.redis.schema import BUCKET_NAMES, Bucket, Layout, TokenStatus
from async_jwt.stores.redis.topology import Part, Topology
from async_jwt.stores.redis.versions import LastSeen, Loss

__all__ = ["Mirror"]

log: logging.Logger = logging.getLogger("async_jwt.store")

_FAILED = "The revocation mirror failed: %s"

# Polls per `mirror_lag`.
_LOOKS = 4
# Seconds to wait after a gap, so that one command fetches all that is missing.
_PAUSE = 0.005
# Seconds that feeds live without a mirror, and between renewals by a mirror.
_FEEDS_LIVE, _RENEWAL = 3600, 600
# Seconds until a failed renewal is retried.
_ANEW = 10
# Keys, and entries of a feed, per command.
_KEYS, _ENTRIES = 1000, 1000


class Mirror:
    """This process's copy of all revocations. Fed on one event loop, used by all.

    Args:
        last_seen: the bucket states this process saw last.
        layout: the keys.
        data_loss: handles losses.
        options: how far behind it may be, and how much it may hold.
        health: records state changes.
    """

    def __init__(
        self,
        last_seen: LastSeen,
        layout: Layout,
        data_loss: DataLossHandler,
        options: Options,
        health: Health,
    ) -> None:
        self._last_seen = last_seen
        self._layout = layout
        self._data_loss = data_loss
        self._lag = options.mirror_lag
        self._limit = options.mirror_max
        self._health = health
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Start over, as in a new process."""
        self._snapshot: Snapshot | None = None
        self._fresh_until: dict[str, float] = dict.fromkeys(BUCKET_NAMES, float("-inf"))
        self._renews_at: dict[str, float] = {}
        self._rebuild_after = self._sweeps_at = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._feeder: object = None
        self._wake: asyncio.Event | None = None
        self._connection: DedicatedConnection | None = None
        self._listens_after = float("-inf")
        self._said = ""

    def status(self, ref: TokenRef) -> TokenStatus | None:
        """A token's status at most `mirror_lag` seconds ago; None if the server must be asked."""
        snapshot = self._snapshot
        if snapshot is None:
            return None
        name = bucket_of(ref.identity)
        bucket = self._current(snapshot, name)
        if bucket is None:
            return None
        if ref.sid is not None and not ref.sid.startswith(name):
            other = bucket_of_sid(ref.sid)
            if other != name and self._current(snapshot, other) is None:
                return None
        return snapshot.status(ref, name, bucket)

    def ensure_fed(self, topology: Topology) -> None:
        """Start feeding on the event loop of a topology, unless a loop already does."""
        if self._is_fed():
            return
        with self._lock:
            if not self._is_fed():
                feeder, wake = object(), asyncio.Event()
                self._feeder, self._wake = feeder, wake
                weak = weakref.ref(self), weakref.ref(topology)
                self._task = topology.start_once(
                    "mirror", lambda: _feed(*weak, feeder, wake, self._lag / _LOOKS)
                )

    @property
    def staleness(self) -> float | None:
        """Seconds that answers may be behind; None while the mirror does not answer."""
        now = time.monotonic()
        fresh = [until for until in self._fresh_until.values() if until > now]
        return max(0.0, self._lag - (min(fresh) - now)) if fresh and self._snapshot is not None else None

    def __len__(self) -> int:
        """Number of revocations held."""
        return 0 if self._snapshot is None else len(self._snapshot)

    def is_fed_by(self, feeder: object) -> bool:
        """True if `feeder` is the current feeder."""
        return self._feeder is feeder

    async def turn(self, topology: Topology, feeder: object) -> None:
        """Poll the buckets and fetch what is missing. Raises nothing."""
        try:
            await self._turn(topology, feeder)
        except StoreUnavailableError:
            pass  # checks query the server for what was not polled
        except Exception as problem:  # noqa: BLE001  # otherwise it goes unseen
            log.error(_FAILED, type(problem).__name__, extra={"event": "mirror_failed"})
        self._say_how_it_is()

    def on_message(self, raw: bytes) -> None:
        """Handle a message from the channel."""
        snapshot = self._snapshot
        if snapshot is None:
            return
        with suppress(ValueError):  # another program's message
            entry = Entry.read(raw)
            if not snapshot.apply_unverified(entry, time.monotonic()):
                heard = snapshot.heard.get(entry.bucket)
                if heard is not None and heard.epoch == entry.state.epoch and self._wake is not None:
                    self._wake.set()  # an entry is missing

    def _is_fed(self) -> bool:
        task = self._task
        return task is not None and not task.done() and task.get_loop().is_running()

    def _say_how_it_is(self) -> None:
        now = time.monotonic()
        self._health.mirror(live=self._snapshot is not None and min(self._fresh_until.values()) > now)

    def _current(self, snapshot: Snapshot, name: str) -> Bucket | None:
        """The state of a bucket, if everything known of it was received."""
        heard, last_seen = snapshot.heard.get(name), self._last_seen.before(name)
        if heard is None or last_seen is None or time.monotonic() >= self._fresh_until[name]:
            return None
        if (
            heard.epoch != last_seen.epoch
            or snapshot.revision_at(name, last_seen.revocations) != last_seen.revision
        ):
            return None  # the known state was not received, or is from another history
        return heard if heard.generation >= last_seen.generation else last_seen

    async def _turn(self, topology: Topology, feeder: object) -> None:
        if not topology.idle_timer.running:  # checks that the mirror answers do not start it
            topology.idle_timer.start(topology.interval)
        await topology.ready()
        await self._keep_listening(topology, feeder)
        parts = [part for part in topology.parts(BUCKET_NAMES) if self._can_look_at(part)]
        await gather_settled(self._poll(topology, part) for part in parts)
        await gather_settled(self._renew(topology, part) for part in parts)
        now, snapshot = time.monotonic(), self._snapshot
        if snapshot is not None and now > self._sweeps_at:
            self._sweeps_at = now + 1.0
            snapshot.sweep(now)
        if now > self._rebuild_after and (
            snapshot is None
            or snapshot.is_overfull
            or any(name not in snapshot.heard for _, names in parts for name in names)
        ):
            topology.start_once("rebuild", lambda: self._rebuild(topology, feeder))

    def _can_look_at(self, part: Part) -> bool:
        """True if a server answers, and the monitor has seen its buckets."""
        client, names = part
        return not client.unavailable and self._last_seen.covers(names)

    async def _poll(self, topology: Topology, part: Part) -> None:
        client, names = part
        began, snapshot = time.monotonic(), self._snapshot
        heard = {} if snapshot is None else dict(snapshot.heard)
        before = [self._last_seen.before(name) for name in names]
        values = await client.fetch_each([self._layout.bucket(name) for name in names])
        seen: dict[str, Bucket] = {}
        for name, raw, last_seen in zip(names, values, before, strict=True):
            if isinstance(raw, StoreUnavailableError):
                continue  # no node holds it
            found = self._last_seen.compare(name, raw, last_seen)
            if isinstance(found, Loss):
                await self._data_loss.handle(topology, found)
                return
            seen[name] = found
        if snapshot is not None:
            await self._catch_up(client, snapshot, seen, heard)
            for name in seen:
                snapshot.confirm(name, began)
        for name, bucket in seen.items():
            now = self._last_seen.before(name)
            if now is not None and now.epoch == bucket.epoch:  # else a later reply showed another epoch
                self._fresh_until[name] = began + self._lag

    async def _catch_up(
        self,
        client: ServerClient,
        snapshot: Snapshot,
        seen: Mapping[str, Bucket],
        before: Mapping[str, Bucket],
    ) -> None:
        """Fetch revocations in some buckets up to their seen states. Drop buckets that stay incomplete.

        Args:
            client: the server that holds them.
            snapshot: the snapshot to update.
            seen: their states on the server.
            before: what had been received before they were seen.
        """
        behind: list[str] = []
        for name, bucket in seen.items():
            heard = snapshot.heard.get(name)
            if heard is None:
                continue
            went_back = name in before and before[name].revocations > bucket.revocations
            revision = snapshot.revision_at(name, bucket.revocations)
            if heard.epoch != bucket.epoch or went_back or revision not in (None, bucket.revision):
                snapshot.lacks(name)
            elif heard.revocations < bucket.revocations:
                behind.append(name)
        replies = await client.execute_all(
            [
                (
                    "XRANGE",
                    self._layout.feed(name),
                    f"{snapshot.heard[name].revocations + 1}-0",
                    "+",
                    "COUNT",
                    _ENTRIES,
                )
                for name in behind
            ],
            lenient=True,
        )
        for name, entries in zip(behind, replies, strict=True):
            with suppress(ValueError, TypeError, IndexError):  # as if it were empty
                for _, fields in entries:
                    snapshot.apply(Entry.read(fields[1]), time.monotonic())
            heard = snapshot.heard.get(name)
            if heard is not None and heard.revocations < seen[name].revocations:
                snapshot.lacks(name)

    # -- rebuilding

    async def _rebuild(self, topology: Topology, feeder: object) -> None:
        """Read all revocations. Raises nothing."""
        began = time.monotonic()
        try:
            snapshot = await self._read_snapshot(topology)
            if self._feeder is feeder:
                self._snapshot = snapshot
            self._said = ""
        except StoreUnavailableError as problem:
            if problem.detail != self._said:
                self._said = str(problem.detail)
                event = {"event": "mirror_late"}
                log.warning(
                    "Cannot build the revocation mirror; checks query the servers: %s",
                    self._said,
                    extra=event,
                )
        except Exception as problem:  # noqa: BLE001  # otherwise it goes unseen
            log.error(_FAILED, type(problem).__name__, extra={"event": "mirror_failed"})
        # Rebuilding loads the servers: spend at most a fifth of the time on it.
        now = time.monotonic()
        self._rebuild_after = now + max(self._lag, 4 * (now - began))
        self._say_how_it_is()

    async def _read_snapshot(self, topology: Topology) -> Snapshot:
        before = await topology.placement()
        snapshot = Snapshot(self._limit, len(self))
        parts = [part for part in topology.parts(BUCKET_NAMES) if self._can_look_at(part)]
        for client, names in parts:
            opened = await self._open_feeds(topology, client, names)
            for name, bucket in opened.items():
                snapshot.begin(name, bucket)
            await self._read_all(client, snapshot)
            values = await client.fetch([self._layout.bucket(name) for name in names])
            seen = _states(names, values)
            for name in opened.keys() - seen.keys():
                snapshot.lacks(name)
            await self._catch_up(client, snapshot, {name: seen[name] for name in seen}, opened)
        if await topology.placement() != before:
            raise OutageError("Keys moved from one node to another while they were read")
        snapshot.mark_complete()
        return snapshot

    async def _read_all(self, client: ServerClient, snapshot: Snapshot) -> None:
        layout, cursor = self._layout, b"0"
        async with await client.dedicated() as connection:  # only this server knows its SCAN cursor
            while True:
                cursor, text = await connection.execute(
                    *("EVAL", SCAN_REVOKED.text, 0, cursor, layout.pattern, _KEYS, layout.prefix)
                )
                # Invalid UTF-8 is never an id.
                found, now = json.loads(text.decode("utf-8", "surrogateescape")), time.monotonic()
                for place in range(0, len(found), 2):
                    snapshot.add(found[place], found[place + 1], now)
                if cursor == b"0":
                    return

    async def _renew(self, topology: Topology, part: Part) -> None:
        """Keep feeds alive."""
        client, names = part
        now = time.monotonic()
        if self._snapshot is not None and now > self._renews_at.get(client.name, float("-inf")):
            self._renews_at[client.name] = now + _ANEW
            await self._open_feeds(topology, client, names)

    async def _open_feeds(
        self, topology: Topology, client: ServerClient, names: Sequence[str]
    ) -> dict[str, Bucket]:
        """Open the feeds of some buckets. Returns the states that their entries follow."""
        groups = topology.groups(names)
        calls = [(self._layout.with_feeds(group), [str(_FEEDS_LIVE * 1000)]) for group in groups]
        replies = await client.run_each(OPEN_FEEDS, calls, writes=False)
        self._renews_at[client.name] = time.monotonic() + _RENEWAL
        return {
            name: bucket
            for group, values in zip(groups, replies, strict=True)
            for name, bucket in _states(group, values).items()
        }

    # -- the channel

    async def _keep_listening(self, topology: Topology, feeder: object) -> None:
        connection, now = self._connection, time.monotonic()
        if connection is not None and connection.is_left:
            await connection.close()
        elif connection is not None:
            with suppress(StoreUnavailableError):
                await connection.send("PING")
        elif now > self._listens_after:
            self._listens_after = now + self._lag / _LOOKS
            weak = weakref.ref(self), weakref.ref(topology)
            topology.start_once("listen", lambda: _listen(*weak, feeder, self._layout.channel, self._lag))

    def listens(
        self, connection: DedicatedConnection | None, ended: DedicatedConnection | None = None
    ) -> None:
        """Record the channel's connection; with `ended`, only if that is the current one."""
        if ended is None or self._connection is ended:
            self._connection = connection


async def _feed(
    mirror: weakref.ref[Mirror],
    topology: weakref.ref[Topology],
    feeder: object,
    wake: asyncio.Event,
    pause: float,
) -> None:
    """Feed a mirror while it is held and no other feeder has taken over."""
    while True:
        its, way = mirror(), topology()
        if its is None or way is None or not its.is_fed_by(feeder):
            return
        await its.turn(way, feeder)
        del its, way
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await wake.wait()
                await asyncio.sleep(_PAUSE)
        wake.clear()


async def _listen(
    mirror: weakref.ref[Mirror],
    topology: weakref.ref[Topology],
    feeder: object,
    channel: str,
    patience: float,
) -> None:
    """Receive channel messages while the mirror is held, has this feeder, and sends PINGs."""
    connection = await _dedicated_connection(topology())
    if connection is None:
        return
    async with connection:
        await connection.send("SUBSCRIBE", channel)
        if (its := mirror()) is not None:
            its.listens(connection)
        del its
        try:
            while True:
                async with asyncio.timeout(patience):  # PINGs are sent more often than that
                    told = await connection.receive()
                its = mirror()
                if its is None or not its.is_fed_by(feeder):
                    return
                if isinstance(told, list) and told[0] == b"message":
                    its.on_message(told[2])
                del its
        except TimeoutError:
            return
        finally:
            if (its := mirror()) is not None:
                its.listens(None, ended=connection)


async def _dedicated_connection(topology: Topology | None) -> DedicatedConnection | None:
    """Open a connection to any server that answers; None if there is none."""
    clients = [] if topology is None else [client for client in topology.clients() if not client.unavailable]
    return await clients[0].dedicated() if clients else None


def _states(names: Sequence[str], values: Sequence[bytes | None]) -> dict[str, Bucket]:
    """Parse the states of buckets; skip unreadable ones."""
    found: dict[str, Bucket] = {}
    for name, raw in zip(names, values, strict=True):
        with suppress(ValueError):
            found[name] = Bucket.read(raw or b"")
    return found
