"""The keys of one issuer, fetched when they are due: by one flight at a time, for all who wait.

A request whose key is known never waits for more than a moment, whatever the issuer does. Processes share
nothing; a random part keeps them from fetching at the same moment.
"""

from __future__ import annotations

import logging
import math
import os
import random
import threading
import time
from functools import partial
from typing import cast

import anyio

from async_jwt.clock import Clock
from async_jwt.core.concurrency import Completion, holds_thread, hop, in_background
from async_jwt.errors import IssuerUnavailableError, SignatureError
from async_jwt.issuers.documents import (
    PublishedKey,
    freshness,
    jwks_uri_in,
    metadata_urls,
    published_keys,
    read_json,
)
from async_jwt.issuers.fetching import Fetch, Fetched, FetchError
from async_jwt.issuers.issuer import Issuer
from async_jwt.issuers.keyset import KeySet, fixed_keys
from async_jwt.keys.key import Key

__all__ = ["FETCH_LIMIT", "PAUSE", "STALE", "IssuerKeys", "Slots", "wait_in_turn"]

FETCH_LIMIT = 5.0
"""How long fetching an issuer's metadata and keys may take in all, in seconds."""
PAUSE = 30.0
"""How long after a fetch for an unknown key id, or after a failure, the next one may begin, in seconds."""
STALE = 86_400.0
"""How long keys are used beyond their freshness while no new ones can be fetched, in seconds."""

# The pause while no key is known at all: then every request waits for the issuer.
_EMPTY_PAUSE = 5.0
# From which part of its freshness a document is fetched again, and how much of it is random.
_EARLY, _JITTER = 0.8, 0.05
# How long a request waits for the flight that it began because its keys are no longer fresh.
_PATIENCE = 1.0
# How long metadata is used before it is fetched again.
_METADATA = 86_400.0
# How many threads of this process wait to the end, and how long further ones do: any client can send tokens
# that are waited for.
_WAITING_THREADS, _BRIEFLY = 4, 0.5
# How often a request begins anew after a flight that was interrupted.
_ATTEMPTS = 3
_MARGIN = 1.0
_LONGEST_HELD = 2 * FETCH_LIMIT

log: logging.Logger = logging.getLogger("async_jwt.issuers")


class Slots:
    """A number of places that flights, or waiting threads, may hold at once.

    A place that is not given back, as where an event loop ended, is free again after a while.
    """

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._count = count
        self._process = os.getpid()
        self._held: dict[object, float] = {}

    def take(self, holder: object) -> bool:
        """Take a place; False if there is none."""
        now = time.monotonic()
        with self._lock:
            is_child = self._process != os.getpid()  # nobody of a parent's gives it back
            self._process = os.getpid()
            held = {} if is_child else self._held
            self._held = {each: since for each, since in held.items() if now - since < _LONGEST_HELD}
            if len(self._held) >= self._count:
                return False
            self._held[holder] = now
            return True

    def give_back(self, holder: object) -> None:
        """Free a place, if it is held."""
        with self._lock:
            self._held.pop(holder, None)


_threads = Slots(_WAITING_THREADS)


async def wait_in_turn(ended: Completion, seconds: float) -> bool:
    """Wait for something. Of requests that hold a thread, few wait long.

    Returns:
        True if it has ended, or if the caller may wait again.
    """
    if not holds_thread():
        await ended.wait(seconds)
        return True
    holder = object()
    if not _threads.take(holder):
        await ended.wait(min(seconds, _BRIEFLY))
        return ended.is_over
    try:
        await ended.wait(seconds)
    finally:
        _threads.give_back(holder)
    return True


class _Flight:
    """One fetch of an issuer's documents."""

    def __init__(self, now: float) -> None:
        self.ended = Completion()
        self.begun = now
        self.process = os.getpid()
        self.was_interrupted = False

    def is_lost(self, now: float) -> bool:
        """True if it will not end: its event loop has, or its process is a parent that forked."""
        hangs = not self.begun <= now <= self.begun + FETCH_LIMIT + _MARGIN
        return hangs or self.process != os.getpid() or self.ended.is_over


class IssuerKeys:
    """An issuer, and the keys that are known of it.

    Args:
        issuer: the issuer.
        fetch: fetches its documents; None for an issuer whose keys the application gave.
        slots: bounds how many flights there are with those of others; None does not.

    Attributes:
        issuer: as given.
        keys: its keys; replaced when an answer has others.
        left_out: how many keys of the last answer cannot verify tokens.
        problem: why the last fetch failed; None if it did not.

    Raises:
        ConfigurationError: the keys that the application gave are none.
    """

    def __init__(self, issuer: Issuer, fetch: Fetch | None, slots: Slots | None = None) -> None:
        self.issuer: Issuer = issuer
        self._fetch = fetch
        self._slots = slots
        self.keys: KeySet = KeySet(issuer) if issuer.is_fetched else fixed_keys(issuer)
        self.left_out: int = 0
        self.problem: str | None = None
        self._began_at = -math.inf
        self._lock = threading.Lock()
        self._flight: _Flight | None = None
        self._landed_at = -math.inf
        self._fresh_until = self._refresh_at = self.keys.until
        self._pause_until = -math.inf
        self._checked_by = math.inf
        self._is_ended = False
        self._jwks_uri = issuer.jwks_uri
        self._metadata_until = math.inf if issuer.jwks_uri is not None else -math.inf

    def check_by(self, moment: float) -> None:
        """Look at tokens again at that moment, in seconds since the epoch, even if they are remembered."""
        with self._lock:
            self._checked_by = moment
            self._set_due()

    @property
    def rests_until(self) -> float:
        """When the next fetch may begin, in seconds since the epoch."""
        return max(self._pause_until, self._began_at + PAUSE)

    def rest_until(self, moment: float) -> None:
        """Begin no fetch before that moment, in seconds since the epoch."""
        self._pause_until = moment

    def end(self) -> None:
        """Accept no token of this issuer any longer."""
        with self._lock:
            self._is_ended, self._checked_by = True, -math.inf
            self.keys.end()

    async def warm(self, clock: Clock) -> None:
        """Begin to fetch the keys if none are known, and wait for nothing."""
        if clock() >= self.keys.until:
            await self._begin(clock(), clock)

    async def fetch_now(self, clock: Clock) -> None:
        """Fetch the keys, whether that is due or not; `problem` says how that went."""
        flight = await self._begin(clock(), clock)
        if flight is not None:
            await flight.ended.wait(FETCH_LIMIT + _MARGIN)

    async def tend(self, clock: Clock) -> None:
        """Begin to fetch the keys anew if that is due. Waits a moment at most, if they are not fresh."""
        now = clock()
        if self._landed_at <= now < self._refresh_at:
            with self._lock:
                self._set_due()
            return
        flight = await self._begin(now, clock)
        if flight is not None and now >= self._fresh_until and self.problem is None:
            await wait_in_turn(flight.ended, _PATIENCE)

    async def select(
        self, algorithm: str, kid: str | None, clock: Clock, *, may_fetch: bool
    ) -> tuple[KeySet, tuple[Key, ...]]:
        """The keys that may verify a token with this header, fetched if there are none.

        Args:
            algorithm: the token's algorithm.
            kid: its key id, if it names one.
            clock: seconds since the epoch.
            may_fetch: whether the token is worth a fetch if its key id is unknown.

        Raises:
            SignatureError: the issuer has no such key.
            IssuerUnavailableError: no key is known, because the issuer cannot be reached.
        """
        has_waited = False
        for _ in range(_ATTEMPTS):
            keys, now = self.keys, clock()
            is_known = now < keys.until
            found = keys.candidates(algorithm, kid, now) if is_known else ()
            is_settled = is_known and (not may_fetch or keys.has_named(kid))
            if found or is_settled or has_waited or self._is_ended:
                break
            has_waited = await self._fetched(now, clock, unknown=is_known)
        if found:
            await self.tend(clock)
            return (keys, found) if keys is self.keys else (self.keys, self._still(algorithm, kid, clock))
        if is_known or self._is_ended:
            raise SignatureError("No key is known for this token")
        retry = math.ceil(min(max(self._pause_until - now, 1.0), PAUSE))
        raise IssuerUnavailableError(f"No key of {self.issuer.url!r} could be fetched", retry)

    async def look_again(
        self, algorithm: str, kid: str | None, clock: Clock
    ) -> tuple[KeySet, tuple[Key, ...]]:
        """The keys after a fetch, for a token that none of the known ones made. Raises SignatureError."""
        await self._fetched(clock(), clock, unknown=True)
        return self.keys, self._still(algorithm, kid, clock)

    def _still(self, algorithm: str, kid: str | None, clock: Clock) -> tuple[Key, ...]:
        now = clock()
        found = self.keys.candidates(algorithm, kid, now) if now < self.keys.until else ()
        if not found:
            raise SignatureError("No key is known for this token")
        return found

    async def _fetched(self, now: float, clock: Clock, *, unknown: bool) -> bool:
        """Wait for a fetch, if one is due. Returns False if it was interrupted: another one may be begun."""
        flight = await self._begin(now, clock, unknown=unknown)
        if flight is not None:
            await wait_in_turn(flight.ended, FETCH_LIMIT + _MARGIN)
        return flight is None or not flight.was_interrupted

    async def _begin(self, now: float, clock: Clock, *, unknown: bool = False) -> _Flight | None:
        """The flight to wait for, begun if none is under way; None during a pause."""
        with self._lock:
            flight = self._flight
            if flight is not None and not flight.is_lost(now):
                return flight
            if now < self._pause_until <= now + PAUSE or self._fetch is None or self._is_ended:
                return None
            flight = _Flight(now)
            if self._slots is not None and not self._slots.take(flight):
                return None
            self._flight = flight
            self._began_at = now
            if unknown:
                self._pause_until = now + PAUSE
            self._refresh_at = now + PAUSE
            self._set_due()
        try:
            await in_background(partial(self._fly, flight, clock))
        except RuntimeError as problem:  # no thread can be started now
            self._failed(clock(), str(problem))
            self._arrived(flight)
        return flight

    async def _fly(self, flight: _Flight, clock: Clock) -> None:
        problem: str | None = None
        try:
            found = await hop(self._fetch_in_time)
        except FetchError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001  # an application's own `fetch` may raise anything
            problem = type(error).__name__  # its text may hold what a log must not
        except BaseException:
            # Its event loop ends, or its caller on trio: whoever waits begins another one.
            flight.was_interrupted = True
            self._arrived(flight)
            raise
        # Another one may have taken the place of a flight that was lost.
        if flight is self._flight and problem is None:
            self._landed(clock(), *found)
        elif flight is self._flight and problem is not None:
            self._failed(clock(), problem)
        self._arrived(flight)

    def _arrived(self, flight: _Flight) -> None:
        if self._slots is not None:
            self._slots.give_back(flight)
        flight.ended.end()

    async def _fetch_in_time(self) -> tuple[tuple[PublishedKey, ...], int, float]:
        with anyio.move_on_after(FETCH_LIMIT):
            return await self._documents()
        raise FetchError(f"there was no answer within {FETCH_LIMIT:g} seconds")

    async def _documents(self) -> tuple[tuple[PublishedKey, ...], int, float]:
        fetched = await self._read(await self._address())
        published, left_out = published_keys(read_json(fetched.body), self.issuer.url, self.issuer.algorithms)
        return published, left_out, freshness(fetched.cache_control, fetched.age)

    async def _address(self) -> str:
        """Where the keys are. Metadata that cannot be used leaves the last good address in use."""
        now, known = time.monotonic(), self._jwks_uri
        if known is not None and now < self._metadata_until:
            return known
        problem = "there was no answer in time"
        # Metadata that hangs must leave time for the keys, if their address is known.
        with anyio.move_on_after(FETCH_LIMIT if known is None else FETCH_LIMIT / 2):
            try:
                self._jwks_uri = found = await self._discover()
            except FetchError as error:
                problem = str(error)
            except Exception as error:  # noqa: BLE001  # as in `_fly`
                problem = type(error).__name__
            else:
                self._metadata_until = now + _METADATA
                return found
        if known is None:
            raise FetchError(problem)
        self._log_failure(f"{problem}; its last good metadata stays in use", "issuer_metadata_refused")
        return known

    async def _discover(self) -> str:
        base = self.issuer.fetch_from or self.issuer.url
        openid, oauth = metadata_urls(base)
        try:
            fetched = await self._read(openid)
        except FetchError as problem:
            if problem.status not in _ABSENT:
                raise
            fetched = await self._read(oauth)
        return jwks_uri_in(read_json(fetched.body), self.issuer.url, base)

    async def _read(self, address: str) -> Fetched:
        return await cast("Fetch", self._fetch)(address)  # `_begin` has looked

    def _landed(self, now: float, published: tuple[PublishedKey, ...], left_out: int, fresh: float) -> None:
        with self._lock:
            if self._is_ended:
                return
            if not self.keys.has_the_keys_of(published) or self.keys.until < now:
                self.keys.end()  # its tokens are verified anew
                self.keys = KeySet(self.issuer, published)
            self.keys.since, self.keys.until = now, now + fresh + STALE
            self._landed_at, self._fresh_until = now, now + fresh
            early = _EARLY + random.random() * _JITTER  # noqa: S311  # spreads fetches, guards nothing
            self._refresh_at = now + early * fresh
            had_problem, self.problem, self.left_out = self.problem, None, left_out
            self._set_due()
        if had_problem is not None:
            log.info("The keys of %r are fetched again", self.issuer.url, extra={"event": "issuer_recovered"})
        if not published:
            log.error(
                "The issuer %r publishes no key that can verify its tokens: all of them are refused",
                self.issuer.url,
                extra={"event": "issuer_without_keys"},
            )

    def _failed(self, now: float, problem: str) -> None:
        with self._lock:
            is_known = now < self.keys.until
            self._pause_until = now + (PAUSE if is_known else _EMPTY_PAUSE)
            self._refresh_at = self._pause_until
            self._landed_at = min(self._landed_at, now)  # if the clock was set back, the pause counts
            self.problem = problem
            if self.issuer.jwks_uri is None:
                self._metadata_until = -math.inf  # perhaps the keys have moved
            self._set_due()
        after = "the known keys stay in use" if is_known else "its tokens get 503"
        self._log_failure(f"{problem}; {after}", "issuer_unavailable")

    def _log_failure(self, text: str, event: str) -> None:
        log.error("Cannot fetch the keys of %r: %s", self.issuer.url, text, extra={"event": event})

    def _set_due(self) -> None:
        self.keys.due = min(self.keys.until, self.keys.changes_at, self._refresh_at, self._checked_by)


# A server that does not know OpenID Connect Discovery answers so.
_ABSENT = frozenset({400, 403, 404, 405, 410})
