"""What to do once a server has lost revocations: once, whoever notices it first."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores.redis.client import ServerClient, Values
from async_jwt.stores.redis.health import Health
from async_jwt.stores.redis.lua import INIT_BUCKETS, NEW_EPOCH
from async_jwt.stores.redis.options import Options
from async_jwt.stores.redis.schema import BUCKET_NAMES, MAX_PREVIOUS_EPOCHS, Bucket, Layout
from async_jwt.stores.redis.topology import Topology
from async_jwt.stores.redis.versions import LastSeen, Loss

__all__ = ["LOSES", "DataLossHandler", "new_epoch"]

LOSES = "The revocation store loses what it is told"

_SAID = 100


class DataLossHandler:
    """Deals with losses of data as `on_data_loss` says.

    What one server lost concerns the buckets that it holds. Each is raised if it is as it was seen,
    the one that shows the loss last: if whoever deals with it dies meanwhile, the next one goes on.

    Args:
        last_seen: what this process saw last.
        layout: where things stand.
        options: what to do.
        health: told of it.
    """

    def __init__(self, last_seen: LastSeen, layout: Layout, options: Options, health: Health) -> None:
        self._last_seen = last_seen
        self._layout = layout
        self._denies = options.on_data_loss == "deny"
        self._health = health
        self._said: set[str] = set()
        self._told: dict[str, str] = {}

    async def handle(self, topology: Topology, loss: Loss) -> None:
        """Deal with a loss. Raises StoreUnavailableError."""
        client = topology.at(loss.bucket)
        names = next(names for other, names in topology.parts(BUCKET_NAMES) if other is client)
        await topology.single_flight(
            f"lost {client.name}", lambda: self._handle(topology, client, names, loss)
        )

    def log_once(self, why: str, about: str) -> None:
        """Say that the server lost data where each token would say so again. Only of so many things."""
        if about not in self._said and len(self._said) < _SAID:
            self._said.add(about)
            self._health.lost(why, denied=False)

    async def _handle(self, topology: Topology, client: ServerClient, names: list[str], loss: Loss) -> None:
        epoch, before = new_epoch(), [self._last_seen.before(name) for name in names]
        keys = [self._layout.bucket(name) for name in names]
        if not self._denies:
            calls = [(self._layout.with_feeds(group), [epoch, "1"]) for group in topology.groups(names)]
            await client.run_each(INIT_BUCKETS, calls)
            self._take_as_it_is(names, await client.fetch(keys))
            self.log_once(loss.why, loss.evicted or f"{loss.found} {loss.epochs}")
            return
        was = dict(zip(names, before, strict=True))
        seen = dict(zip(names, await client.fetch(keys), strict=True))
        if loss.evicted or self._still_shows(loss, seen, was):
            await self._raise(topology, client, loss, epoch, seen, was)
        values = dict(zip(names, await client.fetch(keys), strict=True))
        now = _epoch_of(values[loss.bucket])
        if now == epoch:
            self._take_as_it_is(names, list(values.values()))
        elif any(isinstance(self._last_seen.compare(name, values[name], was[name]), Loss) for name in names):
            raise StoreUnavailableError(LOSES)
        elif now in loss.epochs:
            return  # a reply of which nothing was true
        if self._told.get(client.name) != now or loss.evicted:
            # Once for each loss, however many threads of this process saw it.
            self._told[client.name] = now
            self._health.lost(loss.why, denied=True, elsewhere=now != epoch)

    def _still_shows(
        self, loss: Loss, seen: Mapping[str, bytes | None], was: Mapping[str, Bucket | None]
    ) -> bool:
        """Whether a second look shows it too: a reply may have been wrong."""
        raw, before = seen[loss.bucket], was[loss.bucket]
        if loss.by_token:
            return _epoch_of(raw) == loss.found
        again = self._last_seen.compare(loss.bucket, raw, before)
        # What is neither a loss nor as it was known has gone on from an older state, perhaps.
        return isinstance(again, Loss) or again != before

    async def _raise(
        self,
        topology: Topology,
        client: ServerClient,
        loss: Loss,
        epoch: str,
        seen: Mapping[str, bytes | None],
        was: Mapping[str, Bucket | None],
    ) -> None:
        """Give the buckets a new epoch that nobody else has given one since."""
        now = {name: _epoch_of(raw) for name, raw in seen.items() if not _is_dealt_with(raw, was[name])}
        ordered = sorted(now, key=lambda name: name == loss.bucket)
        left = dict.fromkeys(
            [*loss.epochs, *(bucket.epoch for bucket in was.values() if bucket), *now.values()]
        )
        common = [epoch, ",".join(filter(None, left)), str(MAX_PREVIOUS_EPOCHS)]
        calls = [
            (self._layout.with_feeds(group), [*common, *(now[name] for name in group)])
            for group in topology.groups(ordered)
        ]
        if not all(isinstance(reply, int) for reply in await client.run_each(NEW_EPOCH, calls)):
            raise StoreUnavailableError("The revocation store did not say that it noticed its loss")

    def _take_as_it_is(self, names: list[str], values: Values) -> None:
        try:
            self._last_seen.replace(names, values)
        except ValueError:
            raise StoreUnavailableError(LOSES) from None


def new_epoch() -> str:
    """A name for the time from now on."""
    return secrets.token_urlsafe(6)


def _epoch_of(raw: bytes | None) -> str:
    try:
        return Bucket.read(raw or b"").epoch
    except ValueError:
        return ""


def _is_dealt_with(raw: bytes | None, before: Bucket | None) -> bool:
    """Whether somebody gave a bucket another epoch than it had, and remembers that one."""
    try:
        now = Bucket.read(raw or b"")
    except ValueError:
        return False
    return before is not None and now.epoch != before.epoch and before.epoch in now.previous_epochs
