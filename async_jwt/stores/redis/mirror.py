"""The fleet's revocations in this process's memory, so that a check asks nobody.

Each revocation is told on a channel, which is fast, and by a stream of its bucket, which forgets
nothing of late. How far a bucket has come says its count, which a mirror looks at a few times
in `mirror_lag` seconds: what was heard up to the count that stood there when the look was
begun was in force at that moment. A bucket of which a later state is known, as of one's own
revocations, or that nobody looked at in time, is asked for as without a mirror.

What is told is believed in so far as it revokes: only what a server replies to this process goes
into `Known`, and is taken for a sign of a loss.
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
from async_jwt.stores.redis.known import Known, Loss
from async_jwt.stores.redis.layout import BUCKET_NAMES, Bucket, Layout
from async_jwt.stores.redis.line import Line
from async_jwt.stores.redis.losses import Losses
from async_jwt.stores.redis.lua import OPEN_FEEDS, REVOKED
from async_jwt.stores.redis.options import Options
from async_jwt.stores.redis.outage import OutageError, settled
from async_jwt.stores.redis.picture import Entry, Picture
from async_jwt.stores.redis.pool import Talk
from async_jwt.stores.redis.route import Part, Route
from async_jwt.stores.redis.state import State

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
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Begin anew, as in another process."""
        self._picture: Picture | None = None
        self._fresh_until: dict[str, float] = dict.fromkeys(BUCKET_NAMES, float("-inf"))
        self._renews_at: dict[str, float] = {}
        self._draws_after = self._sweeps_at = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._attendant: object = None
        self._wake: asyncio.Event | None = None
        self._talk: Talk | None = None
        self._listens_after = float("-inf")
        self._said = ""

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
        return picture.says(ref, name, bucket)

    def wind(self, route: Route) -> None:
        """Have a route's event loop feed it, where no loop does."""
        if self._is_fed():
            return
        with self._lock:
            if not self._is_fed():
                attendant, wake = object(), asyncio.Event()
                self._attendant, self._wake = attendant, wake
                weak = weakref.ref(self), weakref.ref(route)
                self._task = route.soon("mirror", lambda: _attend(*weak, attendant, wake, self._lag / _LOOKS))

    @property
    def staleness(self) -> float | None:
        """How many seconds answers may be behind; None where nothing is answered from here."""
        now = time.monotonic()
        fresh = [until for until in self._fresh_until.values() if until > now]
        return max(0.0, self._lag - (min(fresh) - now)) if fresh and self._picture is not None else None

    def __len__(self) -> int:
        """How many revocations it holds."""
        return 0 if self._picture is None else len(self._picture)

    def is_attended_by(self, attendant: object) -> bool:
        """Whether that is who feeds it."""
        return self._attendant is attendant

    async def turn(self, route: Route, attendant: object) -> None:
        """Look how far the buckets have come, and hear what is missing. Raises nothing."""
        try:
            await self._turn(route, attendant)
        except StoreUnavailableError:
            pass  # what nobody could look at is asked for
        except Exception as problem:  # noqa: BLE001  # nobody else would see it
            log.error(_FAILED, type(problem).__name__, extra={"event": "mirror_failed"})
        self._say_how_it_is()

    def hear(self, raw: bytes) -> None:
        """What was told on the channel."""
        picture = self._picture
        if picture is None:
            return
        with suppress(ValueError):  # somebody else speaks there
            entry = Entry.read(raw)
            if not picture.hear(entry, time.monotonic()):
                heard = picture.heard.get(entry.bucket)
                if heard is not None and heard.epoch == entry.state.epoch and self._wake is not None:
                    self._wake.set()  # something was not heard

    def _is_fed(self) -> bool:
        task = self._task
        return task is not None and not task.done() and task.get_loop().is_running()

    def _say_how_it_is(self) -> None:
        now = time.monotonic()
        self._state.mirror(live=self._picture is not None and min(self._fresh_until.values()) > now)

    def _current(self, picture: Picture, name: str) -> Bucket | None:
        """The state of a bucket, if all was heard that is known of it."""
        heard, known = picture.heard.get(name), self._known.before(name)
        if heard is None or known is None or time.monotonic() >= self._fresh_until[name]:
            return None
        if heard.epoch != known.epoch or picture.mark_at(name, known.revocations) != known.mark:
            return None  # what is known was not heard, or is of another history
        return heard if heard.generation >= known.generation else known

    async def _turn(self, route: Route, attendant: object) -> None:
        route.watch.wind()  # no check does, as long as none asks
        await route.ready()
        await self._keep_listening(route, attendant)
        parts = [part for part in route.parts(BUCKET_NAMES) if self._can_look_at(part)]
        await settled(self._look(route, part) for part in parts)
        await settled(self._renew(route, part) for part in parts)
        now, picture = time.monotonic(), self._picture
        if picture is not None and now > self._sweeps_at:
            self._sweeps_at = now + 1.0
            picture.sweep(now)
        if now > self._draws_after and (
            picture is None
            or picture.is_worn
            or any(name not in picture.heard for _, names in parts for name in names)
        ):
            route.soon("draw", lambda: self._draw(route, attendant))

    def _can_look_at(self, part: Part) -> bool:
        """Whether a server is there, and a store on it, as whoever asked has learned."""
        line, names = part
        return not line.is_out and all(map(self._known.covers, names))

    async def _look(self, route: Route, part: Part) -> None:
        line, names = part
        began, picture = time.monotonic(), self._picture
        heard = {} if picture is None else dict(picture.heard)
        before = [self._known.before(name) for name in names]
        values = await line.fetch_each([self._layout.bucket(name) for name in names])
        seen: dict[str, Bucket] = {}
        for name, raw, known in zip(names, values, before, strict=True):
            if isinstance(raw, StoreUnavailableError):
                continue  # no node holds it
            found = self._known.look(name, raw, known)
            if isinstance(found, Loss):
                await self._losses.deal(route, found)
                return
            seen[name] = found
        if picture is not None:
            await self._catch_up(line, picture, seen, heard)
            for name in seen:
                picture.confirm(name, began)
        for name, bucket in seen.items():
            now = self._known.before(name)
            if now is not None and now.epoch == bucket.epoch:  # else a later reply said something else
                self._fresh_until[name] = began + self._lag

    async def _catch_up(
        self, line: Line, picture: Picture, seen: Mapping[str, Bucket], before: Mapping[str, Bucket]
    ) -> None:
        """Hear what was revoked in some buckets until they were seen. Forget those that lack something.

        Args:
            line: where they are.
            picture: what is to know of it.
            seen: their states on the server.
            before: what had been heard before they were seen.
        """
        behind: list[str] = []
        for name, bucket in seen.items():
            heard = picture.heard.get(name)
            if heard is None:
                continue
            went_back = name in before and before[name].revocations > bucket.revocations
            mark = picture.mark_at(name, bucket.revocations)
            if heard.epoch != bucket.epoch or went_back or mark not in (None, bucket.mark):
                picture.lacks(name)
            elif heard.revocations < bucket.revocations:
                behind.append(name)
        replies = await line.ask_each(
            [
                (
                    "XRANGE",
                    self._layout.feed(name),
                    f"{picture.heard[name].revocations + 1}-0",
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
                    picture.apply(Entry.read(fields[1]), time.monotonic())
            heard = picture.heard.get(name)
            if heard is not None and heard.revocations < seen[name].revocations:
                picture.lacks(name)

    # -- drawing it anew

    async def _draw(self, route: Route, attendant: object) -> None:
        """Read all that is revoked. Raises nothing."""
        began = time.monotonic()
        try:
            picture = await self._drawn(route)
            if self._attendant is attendant:
                self._picture = picture
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
        self._draws_after = now + max(self._lag, 4 * (now - began))
        self._say_how_it_is()

    async def _drawn(self, route: Route) -> Picture:
        before = await route.settled()
        picture = Picture(self._limit, len(self))
        parts = [part for part in route.parts(BUCKET_NAMES) if self._can_look_at(part)]
        for line, names in parts:
            opened = await self._open_feeds(route, line, names)
            for name, bucket in opened.items():
                picture.begin(name, bucket)
            await self._read_all(line, picture)
            values = await line.fetch([self._layout.bucket(name) for name in names])
            seen = _states(names, values)
            for name in opened.keys() - seen.keys():
                picture.lacks(name)
            await self._catch_up(line, picture, {name: seen[name] for name in seen}, opened)
        if await route.settled() != before:
            raise OutageError("Keys moved from one node to another while they were read")
        picture.is_drawn()
        return picture

    async def _read_all(self, line: Line, picture: Picture) -> None:
        layout, cursor = self._layout, b"0"
        async with await line.talk() as talk:  # one connection: where it goes on, that server alone knows
            while True:
                cursor, text = await talk.ask(
                    *("EVAL", REVOKED.text, 0, cursor, layout.pattern, _KEYS, layout.prefix)
                )
                # What is no text is nobody's id.
                found, now = json.loads(text.decode("utf-8", "surrogateescape")), time.monotonic()
                for place in range(0, len(found), 2):
                    picture.add(found[place], found[place + 1], now)
                if cursor == b"0":
                    return

    async def _renew(self, route: Route, part: Part) -> None:
        """Have feeds go on."""
        line, names = part
        now = time.monotonic()
        if self._picture is not None and now > self._renews_at.get(line.name, float("-inf")):
            self._renews_at[line.name] = now + _ANEW
            await self._open_feeds(route, line, names)

    async def _open_feeds(self, route: Route, line: Line, names: Sequence[str]) -> dict[str, Bucket]:
        """Have buckets tell what is revoked. Returns their states, upon which that follows."""
        groups = route.groups(names)
        calls = [(self._layout.with_feeds(group), [str(_FEEDS_LIVE * 1000)]) for group in groups]
        replies = await line.run_each(OPEN_FEEDS, calls, writes=False)
        self._renews_at[line.name] = time.monotonic() + _RENEWAL
        return {
            name: bucket
            for group, values in zip(groups, replies, strict=True)
            for name, bucket in _states(group, values).items()
        }

    # -- what is told

    async def _keep_listening(self, route: Route, attendant: object) -> None:
        talk, now = self._talk, time.monotonic()
        if talk is not None and talk.is_left:
            await talk.end()
        elif talk is not None:
            with suppress(StoreUnavailableError):
                await talk.say("PING")
        elif now > self._listens_after:
            self._listens_after = now + self._lag / _LOOKS
            weak = weakref.ref(self), weakref.ref(route)
            route.soon("listen", lambda: _listen(*weak, attendant, self._layout.channel, self._lag))

    def listens(self, talk: Talk | None, ended: Talk | None = None) -> None:
        """Where it is told something from now on; nowhere, if that is where it was."""
        if ended is None or self._talk is ended:
            self._talk = talk


async def _attend(
    mirror: weakref.ref[Mirror],
    route: weakref.ref[Route],
    attendant: object,
    wake: asyncio.Event,
    pause: float,
) -> None:
    """Feed a mirror as long as anybody holds it, and nobody else does."""
    while True:
        its, way = mirror(), route()
        if its is None or way is None or not its.is_attended_by(attendant):
            return
        await its.turn(way, attendant)
        del its, way
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await wake.wait()
                await asyncio.sleep(_PAUSE)
        wake.clear()


async def _listen(
    mirror: weakref.ref[Mirror],
    route: weakref.ref[Route],
    attendant: object,
    channel: str,
    patience: float,
) -> None:
    """Hear what is told, as long as a mirror is held, nobody else feeds it, and it sends a PING."""
    talk = await _talk_of(route())
    if talk is None:
        return
    async with talk:
        await talk.say("SUBSCRIBE", channel)
        if (its := mirror()) is not None:
            its.listens(talk)
        del its
        try:
            while True:
                async with asyncio.timeout(patience):  # it is sent a PING more often than that
                    told = await talk.hear()
                its = mirror()
                if its is None or not its.is_attended_by(attendant):
                    return
                if isinstance(told, list) and told[0] == b"message":
                    its.hear(told[2])
                del its
        except TimeoutError:
            return
        finally:
            if (its := mirror()) is not None:
                its.listens(None, ended=talk)


async def _talk_of(route: Route | None) -> Talk | None:
    """A connection to some server that answers."""
    lines = [] if route is None else [line for line in route.lines() if not line.is_out]
    return await lines[0].talk() if lines else None


def _states(names: Sequence[str], values: Sequence[bytes | None]) -> dict[str, Bucket]:
    """The states of buckets, but of those that nobody can read."""
    found: dict[str, Bucket] = {}
    for name, raw in zip(names, values, strict=True):
        with suppress(ValueError):
            found[name] = Bucket.read(raw or b"")
    return found
