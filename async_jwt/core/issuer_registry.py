"""The issuers of one application: those that it configured, and those that its `issuer_loader` names."""

from __future__ import annotations

import logging
import math
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from async_jwt.clock import Clock
from async_jwt.core.concurrency import Completion, in_background
from async_jwt.core.issuer_keys import IssuerKeys, Slots, wait_in_turn
from async_jwt.errors import ConfigurationError, IssuerUnavailableError
from async_jwt.issuers.fetching import HttpFetch
from async_jwt.issuers.issuer import Issuer

__all__ = ["Ask", "IssuerRegistry"]

Ask = Callable[[str], Awaitable[Any]]
"""Calls the application's `issuer_loader`."""

# How long an issuer that a loader named, or did not know, is remembered, in seconds.
_KNOWN, _MISSED = 60.0, 30.0
# From which age on a request waits until the loader has named the issuer again, in seconds.
_OLD = 120.0
# How long a loader that fails leaves an issuer in use that it named before, in seconds.
_KEPT = 86_400.0
_MOST_NAMED, _MOST_MISSED = 100, 1000
# How many issuers a loader is asked about at once, and how long others wait for a place, in seconds.
_MOST_ASKED, _PATIENCE = 8, 5.0
# How many issuers that a loader named are fetched at once.
_MOST_FETCHED = 8
# Any client can make up an issuer: only what may be one is asked about.
_MAY_BE_ISSUER = re.compile(r"[!-~]{1,2048}")

log: logging.Logger = logging.getLogger("async_jwt.issuers")


class _Named:
    """An issuer that a loader named."""

    def __init__(self, source: IssuerKeys, now: float) -> None:
        self.source = source
        self.confirm(now)

    def confirm(self, now: float) -> None:
        """Record that the loader has just named it."""
        self.since, self.drop_at = now, now + _KEPT
        self.look_at(now + _KNOWN)

    def look_at(self, moment: float) -> None:
        """Ask the loader again from that moment on."""
        self.ask_at = moment
        self.source.check_by(moment)


class _Asked:
    """A call of the loader."""

    def __init__(self) -> None:
        self.ended = Completion()
        self.process = os.getpid()

    @property
    def is_lost(self) -> bool:
        """True in the child of a process that forked meanwhile."""
        return self.process != os.getpid()


class IssuerRegistry:
    """Finds the keys of an issuer by its name, which any client can make up.

    It outlives changes of settings: keys that were fetched stay known.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fetch: HttpFetch | None = None
        self._public_fetch: HttpFetch | None = None
        self._configured: dict[str, IssuerKeys] = {}
        # Those whose tokens nobody has verified yet come first: they are the first to go.
        self._named: OrderedDict[str, _Named] = OrderedDict()
        self._missed: OrderedDict[str, float] = OrderedDict()
        self._dropped: OrderedDict[str, float] = OrderedDict()
        self._asked: dict[str, _Asked] = {}
        self._slots = Slots(_MOST_FETCHED)

    @property
    def configured(self) -> tuple[IssuerKeys, ...]:
        """The issuers that the application configured."""
        return tuple(self._configured.values())

    def configure(self, issuers: Iterable[Issuer]) -> None:
        """Set the configured issuers. Those that were known before keep their keys.

        Raises:
            ConfigurationError: one is there twice, its keys are none, or httpx is missing.
        """
        found: dict[str, IssuerKeys] = {}
        for issuer in issuers:
            if issuer.url in found:
                raise ConfigurationError(f"The issuer {issuer.url!r} is configured twice: keep one")
            known = self._configured.get(issuer.url)
            is_same = known is not None and known.issuer == issuer
            found[issuer.url] = known if known is not None and is_same else self._source(issuer)
        for url, source in self._configured.items():
            if found.get(url) is not source:
                source.end()
        self._configured = found

    def known(self, url: str) -> IssuerKeys | None:
        """An issuer that is known now, without asking the loader."""
        named = self._named.get(url)
        return self._configured.get(url) or (None if named is None else named.source)

    def verified(self, source: IssuerKeys) -> None:
        """Record that a token of an issuer was verified: others are forgotten before it."""
        url = source.issuer.url
        with self._lock:
            named = self._named.get(url)
            if named is not None and named.source is source:
                self._named.move_to_end(url)

    async def find(self, url: str, ask: Ask | None, clock: Clock) -> IssuerKeys | None:
        """The keys of an issuer; None if the application does not know it.

        Args:
            url: the issuer, as a token has it.
            ask: calls the loader; None if there is none.
            clock: seconds since the epoch.

        Raises:
            IssuerUnavailableError: the loader is being asked about too many others.
            HookError: the loader returned what it may not.
            Exception: whatever the loader raised.
        """
        source = self._configured.get(url)
        if source is not None or ask is None or not _MAY_BE_ISSUER.fullmatch(url):
            return source
        now, named = clock(), self._named.get(url)
        if named is not None:
            return await self._again(url, named, ask, clock)
        if now < self._missed.get(url, -math.inf) <= now + _MISSED:
            return None
        return await self._ask(url, ask, clock)

    async def _again(self, url: str, named: _Named, ask: Ask, clock: Clock) -> IssuerKeys | None:
        """An issuer that the loader named before; asked about again if that is due."""
        now = clock()
        if named.since <= now < named.ask_at:
            return named.source
        if now >= named.drop_at:
            self._drop(named)
            return await self._ask(url, ask, clock)
        is_old = not named.since <= now < max(named.since + _OLD, named.ask_at)
        named.look_at(now + _KNOWN)
        if is_old:
            await self._confirm(url, named, ask, clock)
            return self.known(url)
        try:
            await in_background(partial(self._confirm, url, named, ask, clock))
        except RuntimeError as problem:  # no thread can be started now: a later request tries again
            _log_loader(url, str(problem))
        return named.source

    async def _ask(self, url: str, ask: Ask, clock: Clock) -> IssuerKeys | None:
        """Ask the loader about an issuer that is unknown. Requests about the same one wait for the answer."""
        end = time.monotonic() + _PATIENCE
        while True:
            with self._lock:
                self._asked = {each: call for each, call in self._asked.items() if not call.is_lost}
                others = self._asked.get(url)
                if others is None and len(self._asked) < _MOST_ASKED:
                    mine = self._asked[url] = _Asked()
                    break
                others = others or next(iter(self._asked.values()))
            left = end - time.monotonic()
            may_go_on = left > 0 and await wait_in_turn(others.ended, left)
            if not may_go_on:
                raise IssuerUnavailableError("The issuer loader is busy")
            known = self._named.get(url)
            if known is not None:
                return known.source
            if clock() < self._missed.get(url, -math.inf):
                return None
        try:
            return self._take(url, await ask(url), clock())
        finally:
            with self._lock:
                self._asked.pop(url, None)
            mine.ended.end()

    async def _confirm(self, url: str, named: _Named, ask: Ask, clock: Clock) -> None:
        """Ask the loader about an issuer that it named before; if it fails, the issuer stays in use."""
        try:
            answer = await ask(url)
        except Exception as problem:  # noqa: BLE001  # a loader may raise anything
            _log_loader(url, type(problem).__name__)
            return
        if answer == named.source.issuer:
            named.confirm(clock())
            return
        self._drop(named)
        self._take(url, answer, clock())

    def _take(self, url: str, answer: Any, now: float) -> IssuerKeys | None:
        """Remember what a loader answered."""
        problem = None if answer is None else _problem_with(answer, url)
        if problem is not None:
            log.error(
                "issuer_loader was asked about %.200r: %s. Its tokens are refused",
                url,
                problem,
                extra={"event": "issuer_loader_failed"},
            )
        if answer is None or problem is not None:
            with self._lock:
                _remember(self._missed, url, now + _MISSED)
            return None
        source = self._source(answer, is_named=True)
        with self._lock:
            source.rest_until(self._dropped.pop(url, -math.inf))
            while len(self._named) >= _MOST_NAMED:
                forgotten, former = self._named.popitem(last=False)
                former.source.end()
                _remember(self._dropped, forgotten, former.source.rests_until)
            self._named[url] = _Named(source, now)
            self._named.move_to_end(url, last=False)
        return source

    def _drop(self, named: _Named) -> None:
        with self._lock:
            self._named.pop(named.source.issuer.url, None)
        named.source.end()

    def _source(self, issuer: Issuer, *, is_named: bool = False) -> IssuerKeys:
        if issuer.accepts_anybody:
            log.warning(
                "The issuer %r has audience=None: tokens that it made for any other service are accepted",
                issuer.url,
                extra={"event": "issuer_without_audience"},
            )
        slots = self._slots if is_named else None
        if not issuer.is_fetched or issuer.fetch is not None:
            return IssuerKeys(issuer, issuer.fetch, slots)
        if is_named and not issuer.allow_private:
            self._public_fetch = self._public_fetch or HttpFetch(public_only=True)
            return IssuerKeys(issuer, self._public_fetch, slots)
        self._fetch = self._fetch or HttpFetch()
        return IssuerKeys(issuer, self._fetch, slots)


def _problem_with(issuer: Issuer, url: str) -> str | None:
    if issuer.url != url:
        return f"it returned {issuer.url!r:.200}"
    addresses = [issuer.url] if issuer.jwks_uri is None and issuer.fetch_from is None else []
    addresses += [each for each in (issuer.jwks_uri, issuer.fetch_from) if each is not None]
    is_plain = any(not each.startswith("https://") for each in addresses)
    if issuer.is_fetched and issuer.fetch is None and is_plain and not issuer.allow_private:
        return "its keys would be fetched without TLS; Issuer(allow_private=True) allows it"
    return None


def _remember(known: OrderedDict[str, float], url: str, moment: float) -> None:
    known[url] = moment
    while len(known) > _MOST_MISSED:
        known.popitem(last=False)


def _log_loader(url: str, problem: str) -> None:
    log.error(
        "issuer_loader failed for %.200r (%s): the issuer stays in use",
        url,
        problem,
        extra={"event": "issuer_loader_failed"},
    )
