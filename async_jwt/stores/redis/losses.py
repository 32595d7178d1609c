"""What to do once a server has lost revocations: once, whoever notices it first."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores.redis.known import Known, Loss
from async_jwt.stores.redis.layout import BUCKET_NAMES, FORMER, Bucket, Layout
from async_jwt.stores.redis.line import Line
from async_jwt.stores.redis.lua import FOUND, LOSE
from async_jwt.stores.redis.options import Options
from async_jwt.stores.redis.reads import Values
from async_jwt.stores.redis.route import Route
from async_jwt.stores.redis.state import State

__all__ = ["LOSES", "Losses", "new_epoch"]

LOSES = "The revocation store loses what it is told"

_SAID = 100


class Losses:
    """Deals with losses of data as `on_data_loss` says.

    What one server lost concerns the buckets that it holds. Each is raised if it is as it was seen,
    the one that shows the loss last: if whoever deals with it dies meanwhile, the next one goes on.

    Args:
        known: what this process saw last.
        layout: where things stand.
        options: what to do.
        state: told of it.
    """

    def __init__(self, known: Known, layout: Layout, options: Options, state: State) -> None:
        self._known = known
        self._layout = layout
        self._denies = options.on_data_loss == "deny"
        self._state = state
        self._said: set[str] = set()
        self._told: dict[str, str] = {}

    async def deal(self, route: Route, loss: Loss) -> None:
        """Deal with a loss. Raises StoreUnavailableError."""
        line = route.at(loss.bucket)
        names = next(names for other, names in route.parts(BUCKET_NAMES) if other is line)
        await route.together(f"lost {line.name}", lambda: self._deal(route, line, names, loss))

    def say_once(self, why: str, about: str) -> None:
        """Say that the server lost data where each token would say so again. Only of so many things."""
        if about not in self._said and len(self._said) < _SAID:
            self._said.add(about)
            self._state.lost(why, denied=False)

    async def _deal(self, route: Route, line: Line, names: list[str], loss: Loss) -> None:
        epoch, before = new_epoch(), [self._known.before(name) for name in names]
        keys = [self._layout.bucket(name) for name in names]
        if not self._denies:
            calls = [(self._layout.with_feeds(group), [epoch, "1"]) for group in route.groups(names)]
            await line.run_each(FOUND, calls)
            self._take_as_it_is(names, await line.fetch(keys))
            self.say_once(loss.why, loss.evicted or f"{loss.found} {loss.epochs}")
            return
        was = dict(zip(names, before, strict=True))
        seen = dict(zip(names, await line.fetch(keys), strict=True))
        if loss.evicted or self._still_shows(loss, seen, was):
            await self._raise(route, line, loss, epoch, seen, was)
        values = dict(zip(names, await line.fetch(keys), strict=True))
        now = _epoch_of(values[loss.bucket])
        if now == epoch:
            self._take_as_it_is(names, list(values.values()))
        elif any(isinstance(self._known.look(name, values[name], was[name]), Loss) for name in names):
            raise StoreUnavailableError(LOSES)
        elif now in loss.epochs:
            return  # a reply of which nothing was true
        if self._told.get(line.name) != now or loss.evicted:
            # Once for each loss, however many threads of this process saw it.
            self._told[line.name] = now
            self._state.lost(loss.why, denied=True, elsewhere=now != epoch)

    def _still_shows(
        self, loss: Loss, seen: Mapping[str, bytes | None], was: Mapping[str, Bucket | None]
    ) -> bool:
        """Whether a second look shows it too: a reply may have been wrong."""
        raw, before = seen[loss.bucket], was[loss.bucket]
        if loss.by_token:
            return _epoch_of(raw) == loss.found
        again = self._known.look(loss.bucket, raw, before)
        # What is neither a loss nor as it was known has gone on from an older state, perhaps.
        return isinstance(again, Loss) or again != before

    async def _raise(
        self,
        route: Route,
        line: Line,
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
        common = [epoch, ",".join(filter(None, left)), str(FORMER)]
        calls = [
            (self._layout.with_feeds(group), [*common, *(now[name] for name in group)])
            for group in route.groups(ordered)
        ]
        if not all(isinstance(reply, int) for reply in await line.run_each(LOSE, calls)):
            raise StoreUnavailableError("The revocation store did not say that it noticed its loss")

    def _take_as_it_is(self, names: list[str], values: Values) -> None:
        try:
            self._known.replace(names, values)
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
    return before is not None and now.epoch != before.epoch and before.epoch in now.former
