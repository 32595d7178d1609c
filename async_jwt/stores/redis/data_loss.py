"""Handles revocations lost by a server, once per loss, whichever process detects it first."""

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

LOSES = "The revocation store is losing writes"

_SAID = 100


class DataLossHandler:
    """Handles data loss as `on_data_loss` says.

    A loss on one server concerns the buckets that it holds. Each gets a new epoch unless it changed
    since it was seen, the one that shows the loss last: if this process dies, another one continues.

    Args:
        last_seen: the bucket states this process saw last.
        layout: the keys.
        options: `on_data_loss`.
        health: records the loss.
    """

    def __init__(self, last_seen: LastSeen, layout: Layout, options: Options, health: Health) -> None:
        self._last_seen = last_seen
        self._layout = layout
        self._denies = options.on_data_loss == "deny"
        self._health = health
        self._said: set[str] = set()
        self._told: dict[str, str] = {}

    async def handle(self, topology: Topology, loss: Loss) -> None:
        """Handle a loss. Raises StoreUnavailableError."""
        client = topology.at(loss.bucket)
        names = next(names for other, names in topology.parts(BUCKET_NAMES) if other is client)
        await topology.single_flight(
            f"lost {client.name}", lambda: self._handle(topology, client, names, loss)
        )

    def log_once(self, why: str, about: str) -> None:
        """Log a loss that every token would report again: once per `about`, for a limited number of them."""
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
            return  # the reply was wrong: there was no loss
        if self._told.get(client.name) != now or loss.evicted:
            # Once per loss, however many threads of this process saw it.
            self._told[client.name] = now
            self._health.lost(loss.why, denied=True, elsewhere=now != epoch)

    def _still_shows(
        self, loss: Loss, seen: Mapping[str, bytes | None], was: Mapping[str, Bucket | None]
    ) -> bool:
        """True if a second read confirms the loss: one reply may have been wrong."""
        raw, before = seen[loss.bucket], was[loss.bucket]
        if loss.by_token:
            return _epoch_of(raw) == loss.found
        again = self._last_seen.compare(loss.bucket, raw, before)
        # No loss, but changed: the bucket may have advanced from an older state.
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
        """Give a new epoch to the buckets that have not received one since."""
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
            raise StoreUnavailableError(
                "Unexpected reply from the revocation store; its new epoch is unconfirmed"
            )

    def _take_as_it_is(self, names: list[str], values: Values) -> None:
        try:
            self._last_seen.replace(names, values)
        except ValueError:
            raise StoreUnavailableError(LOSES) from None


def new_epoch() -> str:
    """A random name for a new epoch."""
    return secrets.token_urlsafe(6)


def _epoch_of(raw: bytes | None) -> str:
    try:
        return Bucket.read(raw or b"").epoch
    except ValueError:
        return ""


def _is_dealt_with(raw: bytes | None, before: Bucket | None) -> bool:
    """True if a bucket has a new epoch and lists the one it had as a previous epoch."""
    try:
        now = Bucket.read(raw or b"")
    except ValueError:
        return False
    return before is not None and now.epoch != before.epoch and before.epoch in now.previous_epochs
