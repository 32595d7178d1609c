"""The fleet's revocations in this process's memory, so that a check asks nobody.

Each revocation is told on a channel, which is fast, and by a stream of its bucket, which forgets
nothing of late. How far a bucket has come says its count, which a mirror looks at a few times
in `mirror_lag` seconds: what was heard up to the count that stood there when the look was
begun was in force at that moment. A bucket of which a later state is known, as of one's own
revocations, or that nobody looked at in time, is asked for as without a mirror.

What is told is believed in so far as it revokes: only what a server replies to this process goes
into `LastSeen`, and is taken for a sign of a loss.
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
from async_jwt.stores.redis.schema import BUCKET_NAMES, Bucket, Layout
from async_jwt.stores.redis.topology import Part, Topology
from async_jwt.stores.redis.versions import LastSeen, Loss

__all__ = ["Mirror"]

log: logging.Logger = logging.getLogger("async_jwt.store")

_FAILED = "The mirror of revocations failed: %s"

# How many looks there are in the time that the mirror may be behind.
_LOOKS = 4
# Seconds in which what is missing is waited for, so that one command asks for it all.
_PAUSE = 0.005
# For how many seconds feeds go on without a mirror, and how often a mirror renews that.
_FEEDS_LIVE, _RENEWAL = 3600, 600
# Seconds until it is tried again where it could not be renewed.
_ANEW = 10
# How many keys, and how many entries of a feed, are looked at in one command.
_KEYS, _ENTRIES = 1000, 1000


class Mirror:
    """What is revoked, as this process heard it. Fed on one event loop, and asked by all.

    Args:
        last_seen: what this process saw last.
        layout: where things stand.
        data_loss: who deals with losses.
        options: how far behind it may be, and how much it may hold.
        health: told of what happens.
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
        """Begin anew, as in another process."""
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

    def answer(self, ref: TokenRef) -> bool | None:
        """Whether a token counts, as it was at most `mirror_lag` seconds ago; None where one has to ask."""
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
        return snapshot.answer(ref, name, bucket)

    def ensure_fed(self, topology: Topology) -> None:
        """Have a route's event loop feed it, where no loop does."""
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
        """How many seconds answers may be behind; None where nothing is answered from here."""
        now = time.monotonic()
        fresh = [until for until in self._fresh_until.values() if until > now]
        return max(0.0, self._lag - (min(fresh) - now)) if fresh and self._snapshot is not None else None

    def __len__(self) -> int:
        """How many revocations it holds."""
        return 0 if self._snapshot is None else len(self._snapshot)

    def is_fed_by(self, feeder: object) -> bool:
        """Whether that is who feeds it."""
        return self._feeder is feeder

    async def turn(self, topology: Topology, feeder: object) -> None:
        """Look how far the buckets have come, and hear what is missing. Raises nothing."""
        try:
            await self._turn(topology, feeder)
        except StoreUnavailableError:
            pass  # what nobody could look at is asked for
        except Exception as problem:  # noqa: BLE001  # nobody else would see it
            log.error(_FAILED, type(problem).__name__, extra={"event": "mirror_failed"})
        self._say_how_it_is()

    def on_message(self, raw: bytes) -> None:
        """What was told on the channel."""
        snapshot = self._snapshot
        if snapshot is None:
            return
        with suppress(ValueError):  # somebody else speaks there
            entry = Entry.read(raw)
            if not snapshot.apply_unverified(entry, time.monotonic()):
                heard = snapshot.heard.get(entry.bucket)
                if heard is not None and heard.epoch == entry.state.epoch and self._wake is not None:
                    self._wake.set()  # something was not heard

    def _is_fed(self) -> bool:
        task = self._task
        return task is not None and not task.done() and task.get_loop().is_running()

    def _say_how_it_is(self) -> None:
        now = time.monotonic()
        self._health.mirror(live=self._snapshot is not None and min(self._fresh_until.values()) > now)

    def _current(self, snapshot: Snapshot, name: str) -> Bucket | None:
        """The state of a bucket, if all was heard that is known of it."""
        heard, last_seen = snapshot.heard.get(name), self._last_seen.before(name)
        if heard is None or last_seen is None or time.monotonic() >= self._fresh_until[name]:
            return None
        if (
            heard.epoch != last_seen.epoch
            or snapshot.revision_at(name, last_seen.revocations) != last_seen.revision
        ):
            return None  # what is known was not heard, or is of another history
        return heard if heard.generation >= last_seen.generation else last_seen

    async def _turn(self, topology: Topology, feeder: object) -> None:
        if not topology.idle_timer.running:  # no check starts it, as long as none asks
            topology.idle_timer.start(topology.interval)
        if not topology.is_ready:
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
        """Whether a server is there, and a store on it, as whoever asked has learned."""
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
            if now is not None and now.epoch == bucket.epoch:  # else a later reply said something else
                self._fresh_until[name] = began + self._lag

    async def _catch_up(
        self,
        client: ServerClient,
        snapshot: Snapshot,
        seen: Mapping[str, Bucket],
        before: Mapping[str, Bucket],
    ) -> None:
        """Hear what was revoked in some buckets until they were seen. Forget those that lack something.

        Args:
            client: where they are.
            snapshot: what is to know of it.
            seen: their states on the server.
            before: what had been heard before they were seen.
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
            with suppress(ValueError, TypeError, IndexError):  # as if nothing stood there
                for _, fields in entries:
                    snapshot.apply(Entry.read(fields[1]), time.monotonic())
            heard = snapshot.heard.get(name)
            if heard is not None and heard.revocations < seen[name].revocations:
                snapshot.lacks(name)

    # -- drawing it anew

    async def _rebuild(self, topology: Topology, feeder: object) -> None:
        """Read all that is revoked. Raises nothing."""
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
                    "The mirror of revocations cannot be drawn, and checks ask: %s", self._said, extra=event
                )
        except Exception as problem:  # noqa: BLE001  # nobody else would see it
            log.error(_FAILED, type(problem).__name__, extra={"event": "mirror_failed"})
        # Reading is work for the servers: it takes a fifth of the time at most.
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
        async with (
            await client.dedicated() as connection
        ):  # one connection: where it goes on, that server alone knows
            while True:
                cursor, text = await connection.execute(
                    *("EVAL", SCAN_REVOKED.text, 0, cursor, layout.pattern, _KEYS, layout.prefix)
                )
                # What is no text is nobody's id.
                found, now = json.loads(text.decode("utf-8", "surrogateescape")), time.monotonic()
                for place in range(0, len(found), 2):
                    snapshot.add(found[place], found[place + 1], now)
                if cursor == b"0":
                    return

    async def _renew(self, topology: Topology, part: Part) -> None:
        """Have feeds go on."""
        client, names = part
        now = time.monotonic()
        if self._snapshot is not None and now > self._renews_at.get(client.name, float("-inf")):
            self._renews_at[client.name] = now + _ANEW
            await self._open_feeds(topology, client, names)

    async def _open_feeds(
        self, topology: Topology, client: ServerClient, names: Sequence[str]
    ) -> dict[str, Bucket]:
        """Have buckets tell what is revoked. Returns their states, upon which that follows."""
        groups = topology.groups(names)
        calls = [(self._layout.with_feeds(group), [str(_FEEDS_LIVE * 1000)]) for group in groups]
        replies = await client.run_each(OPEN_FEEDS, calls, writes=False)
        self._renews_at[client.name] = time.monotonic() + _RENEWAL
        return {
            name: bucket
            for group, values in zip(groups, replies, strict=True)
            for name, bucket in _states(group, values).items()
        }

    # -- what is told

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
        """Where it is told something from now on; nowhere, if that is where it was."""
        if ended is None or self._connection is ended:
            self._connection = connection


async def _feed(
    mirror: weakref.ref[Mirror],
    topology: weakref.ref[Topology],
    feeder: object,
    wake: asyncio.Event,
    pause: float,
) -> None:
    """Feed a mirror as long as anybody holds it, and nobody else does."""
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
    """Hear what is told, as long as a mirror is held, nobody else feeds it, and it sends a PING."""
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
                async with asyncio.timeout(patience):  # it is sent a PING more often than that
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
    """A connection to some server that answers."""
    clients = [] if topology is None else [client for client in topology.clients() if not client.unavailable]
    return await clients[0].dedicated() if clients else None


def _states(names: Sequence[str], values: Sequence[bytes | None]) -> dict[str, Bucket]:
    """The states of buckets, but of those that nobody can read."""
    found: dict[str, Bucket] = {}
    for name, raw in zip(names, values, strict=True):
        with suppress(ValueError):
            found[name] = Bucket.read(raw or b"")
    return found
