"""The fleet's revocations in this process's memory, so that a check asks nobody.

Each revocation is told on a channel, which is fast, and by a stream of its bucket, which forgets
nothing of late. How far a bucket has come says its count, which all mirrors look at a few times
in `mirror_lag` seconds: what was heard up to the count that stood there when the look was
begun was in force at that moment. A bucket of which a later state is known, as of one's own
revocations, or that nobody looked at in time, is asked for as without a mirror.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores.contract import TokenRef, bucket_of, bucket_of_sid
from async_jwt.stores.redis.known import Known, Loss
from async_jwt.stores.redis.layout import BUCKET_NAMES, Bucket, Layout
from async_jwt.stores.redis.line import Line
from async_jwt.stores.redis.losses import Losses
from async_jwt.stores.redis.lua import OPEN_FEEDS, REVOKED
from async_jwt.stores.redis.options import Options
from async_jwt.stores.redis.outage import OutageError, RefusedError
from async_jwt.stores.redis.picture import Entry, Picture
from async_jwt.stores.redis.pool import Talk
from async_jwt.stores.redis.route import Part, Route
from async_jwt.stores.redis.state import State

__all__ = ["Mirror"]

log: logging.Logger = logging.getLogger("async_jwt.store")

# How many looks there are in the time that the mirror may be behind.
_LOOKS = 4
# Seconds in which what is missing is waited for, so that one command asks for it all.
_PAUSE = 0.005
# For how many seconds feeds go on without a mirror, and how often a mirror renews that.
_FEEDS_LIVE, _RENEWAL = 3600, 600
# How many keys, and how many entries of a feed, are looked at in one command.
_KEYS, _ENTRIES = 1000, 1000


class Mirror:
    """What is revoked, as this process heard it. Fed on one event loop, and asked by all.

    Args:
        known: what this process saw last.
        layout: where things stand.
        losses: who deals with losses.
        options: how far behind it may be, and how much it may hold.
        state: told of what happens.
    """

    def __init__(self, known: Known, layout: Layout, losses: Losses, options: Options, state: State) -> None:
        self._known = known
        self._layout = layout
        self._losses = losses
        self._lag = options.mirror_lag
        self._limit = options.mirror_max
        self._state = state
        self.forget()

    def forget(self) -> None:
        """Begin anew, as in another process."""
        self._picture: Picture | None = None
        self._fresh_until: dict[str, float] = dict.fromkeys(BUCKET_NAMES, float("-inf"))
        self._has_gap = False
        self._attendant: object = None
        self._wake: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._draws_after = self._renews_at = float("-inf")
        self._heard_at = float("inf")
        self._talk: Talk | None = None

    def says(self, ref: TokenRef) -> bool | None:
        """Whether a token counts, as it was at most `mirror_lag` seconds ago; None where one has to ask."""
        picture = self._picture
        if picture is None:
            return None
        name = bucket_of(ref.identity)
        bucket = self._current(picture, name)
        if bucket is None:
            return None
        if ref.sid is not None and not ref.sid.startswith(name):
            other = bucket_of_sid(ref.sid)
            if other != name and self._current(picture, other) is None:
                return None
        return picture.says(ref, bucket)

    def wind(self, route: Route) -> None:
        """Have a route's event loop feed it, where no loop does."""
        task = self._task
        if task is None or task.done() or not task.get_loop().is_running():
            self._attendant, self._wake = object(), asyncio.Event()
            parts = route, self._attendant, self._wake
            self._task = route.soon("mirror", lambda: self._attend(*parts))

    @property
    def staleness(self) -> float | None:
        """How many seconds answers may be behind; None where nothing is answered from here."""
        now = time.monotonic()
        fresh = [until for until in self._fresh_until.values() if until > now]
        return max(0.0, self._lag - (min(fresh) - now)) if fresh and self._picture is not None else None

    def __len__(self) -> int:
        """How many revocations it holds."""
        return 0 if self._picture is None else len(self._picture)

    async def _attend(self, route: Route, attendant: object, wake: asyncio.Event) -> None:
        """Feed it, until somebody else does."""
        while self._attendant is attendant:
            await self._turn(route)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._lag / _LOOKS):
                    await wake.wait()
                    await asyncio.sleep(_PAUSE)
            wake.clear()

    async def _turn(self, route: Route) -> None:
        """Look how far the buckets have come, and hear what is missing. Raises nothing."""
        try:
            await self._hear_and_look(route)
        except StoreUnavailableError:
            pass  # it was noted; what nobody looked at is asked for
        except Exception as problem:  # noqa: BLE001  # nobody else would see it
            log.error("The mirror of revocations failed: %s", type(problem).__name__)
        self._say_how_it_is()

    def _say_how_it_is(self) -> None:
        now = time.monotonic()
        self._state.mirror(live=self._picture is not None and min(self._fresh_until.values()) > now)

    def _current(self, picture: Picture, name: str) -> Bucket | None:
        """The state of a bucket, if everything was heard that is known of it."""
        bucket = picture.applied.get(name)
        if bucket is None or bucket is not self._known.before(name):
            return None
        return bucket if time.monotonic() < self._fresh_until[name] else None

    async def _hear_and_look(self, route: Route) -> None:
        await route.ready()
        parts = [part for part in route.parts(BUCKET_NAMES) if self._can_look_at(part)]
        await self._keep_listening(route)
        done = await asyncio.gather(*(self._look(route, part) for part in parts), return_exceptions=True)
        for problem in done:
            if isinstance(problem, BaseException) and not isinstance(problem, StoreUnavailableError):
                raise problem
        now, picture = time.monotonic(), self._picture
        if picture is not None:
            picture.sweep(now)
        if now > self._renews_at:
            self._renews_at = now + _RENEWAL
            await self._open_feeds(route)
        if (picture is None or self._has_gap or picture.is_full) and now > self._draws_after:
            route.soon("draw", lambda: self._draw(route))

    def _can_look_at(self, part: Part) -> bool:
        """Whether a server is there, and a store on it, as whoever asked has learned."""
        line, names = part
        return not line.is_out and all(map(self._known.covers, names))

    async def _look(self, route: Route, part: Part) -> None:
        line, names = part
        began, before = time.monotonic(), [self._known.before(name) for name in names]
        values = await line.fetch([self._layout.bucket(name) for name in names])
        seen = [self._known.look(*each) for each in zip(names, values, before, strict=True)]
        loss = next((bucket for bucket in seen if isinstance(bucket, Loss)), None)
        if loss is not None:
            await self._losses.deal(route, loss)
            return
        if self._picture is not None:
            await self._catch_up(line, self._picture, names)
        for name, bucket in zip(names, seen, strict=True):
            now = self._known.before(name)
            if isinstance(bucket, Bucket) and now is not None and now.epoch == bucket.epoch:
                self._fresh_until[name] = began + self._lag

    async def _catch_up(self, line: Line, picture: Picture, names: Sequence[str]) -> None:
        """Hear what was revoked in some buckets since it was last heard."""
        behind = [name for name in names if picture.applied.get(name) is not self._known.before(name)]
        commands = [
            ("XRANGE", self._layout.feed(name), f"{_count_of(picture, name) + 1}-0", "+", "COUNT", _ENTRIES)
            for name in behind
        ]
        for name, entries in zip(behind, await line.ask_each(commands), strict=True):
            with suppress(ValueError, TypeError, IndexError):  # as if nothing stood there
                for _, fields in entries:
                    self._apply(picture, fields[1])
            now, wanted = picture.applied.get(name), self._known.before(name)
            if now is None or wanted is None:
                has_all = False
            elif now == wanted:
                has_all, picture.applied[name] = True, wanted
            else:
                has_all = now.epoch == wanted.epoch and now.revocations > wanted.revocations
            if not has_all and picture is self._picture:
                self._has_gap = True

    def _apply(self, picture: Picture, raw: bytes) -> bool:
        """Add one entry of a feed. Raises ValueError if it is none."""
        entry = Entry.read(raw)
        seen = self._known.look(entry.bucket, entry.value, None)
        return isinstance(seen, Bucket) and picture.apply(entry, seen, time.monotonic())

    # -- drawing it anew

    async def _draw(self, route: Route) -> None:
        """Read all that is revoked."""
        began = time.monotonic()
        try:
            self._picture = await self._drawn(route)
            self._has_gap = False
        except StoreUnavailableError:
            pass  # it was noted, or will be
        except Exception as problem:  # noqa: BLE001  # nobody else would see it
            log.error("The mirror of revocations failed: %s", type(problem).__name__)
        # Reading is work for the servers: it takes a fifth of the time at most.
        now = time.monotonic()
        self._draws_after = now + max(self._lag, 4 * (now - began))
        self._say_how_it_is()

    async def _drawn(self, route: Route) -> Picture:
        settled = await route.settled()
        parts = route.parts(BUCKET_NAMES)
        sizes = [await _size_of(line) for line, _ in parts]
        picture = Picture(self._limit, max(len(self), sum(sizes)))
        opened = await self._open_feeds(route)
        for name, raw in opened.items():
            seen = self._known.look(name, raw, None)
            if isinstance(seen, Bucket):  # else the next look finds it
                picture.applied[name] = seen
        for line, _ in parts:
            await self._read_all(line, picture)
        if await route.settled() != settled:
            raise OutageError("Keys moved while they were read")
        for line, names in route.parts(BUCKET_NAMES):
            await self._catch_up(line, picture, names)
        return picture

    async def _read_all(self, line: Line, picture: Picture) -> None:
        layout, cursor = self._layout, b"0"
        async with await line.talk() as talk:  # one connection: where it goes on, that server alone knows
            while True:
                cursor, text = await talk.ask(
                    *("EVAL", REVOKED.text, 0, cursor, layout.pattern, _KEYS, layout.prefix)
                )
                found, now = json.loads(text), time.monotonic()
                for place in range(0, len(found), 2):
                    picture.add(found[place], found[place + 1], now)
                if cursor == b"0":
                    return

    async def _open_feeds(self, route: Route) -> dict[str, bytes | None]:
        """Have all buckets tell what is revoked. Returns their values, upon which that follows."""
        values: dict[str, bytes | None] = {}
        for line, names in route.parts(BUCKET_NAMES):
            groups = route.groups(names)
            calls = [(self._layout.with_feeds(group), [str(_FEEDS_LIVE * 1000)]) for group in groups]
            for group, found in zip(groups, await line.run_each(OPEN_FEEDS, calls), strict=True):
                values.update(zip(group, [raw or None for raw in found], strict=True))
        return values

    # -- what is told

    async def _keep_listening(self, route: Route) -> None:
        talk = self._talk
        if talk is not None and time.monotonic() - self._heard_at > self._lag:
            await talk.end()
        elif talk is not None:
            with suppress(StoreUnavailableError):
                await talk.say("PING")
        route.soon("listen", lambda: self._listen(route))

    async def _listen(self, route: Route) -> None:
        line = next((line for line in route.lines() if not line.is_out), None)
        if line is None:
            return
        async with await line.talk() as talk:
            await talk.say("SUBSCRIBE", self._layout.channel)
            self._talk, self._heard_at = talk, time.monotonic()
            try:
                while True:
                    told = await talk.hear()
                    self._heard_at = time.monotonic()
                    if isinstance(told, list) and told[0] == b"message":
                        self._hear(told[2])
            finally:
                self._talk = None

    def _hear(self, raw: Any) -> None:
        picture = self._picture
        if picture is None:
            return
        with suppress(ValueError):  # somebody else speaks there
            if not self._apply(picture, raw) and self._wake is not None:
                self._wake.set()


def _count_of(picture: Picture, name: str) -> int:
    bucket = picture.applied.get(name)
    return 0 if bucket is None else bucket.revocations


async def _size_of(line: Line) -> int:
    try:
        size = await line.ask("DBSIZE")
    except RefusedError:
        return 0
    return size if isinstance(size, int) else 0
