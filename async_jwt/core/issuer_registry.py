"""The issuers of one application: those that it configured, and those that its `issuer_loader` names."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from async_jwt.clock import Clock
from async_jwt.core.concurrency import Completion, in_background
from async_jwt.core.issuer_keys import IssuerKeys
from async_jwt.errors import ConfigurationError, HookError, IssuerUnavailableError
from async_jwt.issuers.fetching import HttpFetch
from async_jwt.issuers.issuer import Issuer

__all__ = ["Ask", "IssuerRegistry"]

Ask = Callable[[str], Awaitable[Any]]
"""Calls the application's `issuer_loader`."""

# How long an issuer that a loader named, or did not know, is remembered, in seconds.
_KNOWN, _MISSED = 60.0, 30.0
# How long a loader that fails leaves an issuer in use that it named before, in seconds.
_KEPT = 86_400.0
_MOST_NAMED, _MOST_MISSED = 100, 1000
# How many issuers a loader is asked about at once, and how long others wait for a place, in seconds.
_MOST_ASKED, _PATIENCE = 8, 5.0
_LONGEST_URL = 2048

log: logging.Logger = logging.getLogger("async_jwt.issuers")


class _Named:
    """An issuer that a loader named."""

    def __init__(self, source: IssuerKeys, now: float) -> None:
        self.source = source
        self.confirm(now)

    def confirm(self, now: float) -> None:
        """Record that the loader has just named it."""
        self.ask_at, self.drop_at = now + _KNOWN, now + _KEPT
        self.source.check_by(self.ask_at)


class IssuerRegistry:
    """Finds the keys of an issuer by its name, which any client can make up.

    It outlives changes of settings: keys that were fetched stay known.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fetch: HttpFetch | None = None
        self._public_fetch: HttpFetch | None = None
        self._configured: dict[str, IssuerKeys] = {}
        self._named: OrderedDict[str, _Named] = OrderedDict()
        self._missed: OrderedDict[str, float] = OrderedDict()
        self._asked: dict[str, Completion] = {}

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

    def warn(self) -> None:
        """Log each configured issuer whose tokens are accepted whomever they are for."""
        for source in self._configured.values():
            if source.issuer.accepts_anybody:
                log.warning(
                    "The issuer %r has audience=None: tokens that it made for any other service are accepted",
                    source.issuer.url,
                    extra={"event": "issuer_without_audience"},
                )

    def known(self, url: str) -> IssuerKeys | None:
        """An issuer that is known now, without asking the loader."""
        named = self._named.get(url)
        return self._configured.get(url) or (None if named is None else named.source)

    async def find(self, url: str, ask: Ask | None, clock: Clock) -> IssuerKeys | None:
        """The keys of an issuer; None if the application does not know it.

        Args:
            url: the issuer, as a token has it.
            ask: calls the loader; None if there is none.
            clock: seconds since the epoch.

        Raises:
            IssuerUnavailableError: the loader is being asked about too many others.
            HookError: the loader returned another issuer.
            Exception: whatever the loader raised.
        """
        source = self._configured.get(url)
        if source is not None or ask is None or len(url) > _LONGEST_URL:
            return source
        now, named = clock(), self._named.get(url)
        if named is None:
            return (
                None
                if now < self._missed.get(url, -math.inf) <= now + _MISSED
                else await self._ask(url, ask, clock)
            )
        if now >= named.drop_at:
            self._drop(url)
            return await self._ask(url, ask, clock)
        if not now < named.ask_at <= now + _KNOWN:
            named.ask_at = now + _KNOWN
            named.source.check_by(named.ask_at)
            await in_background(partial(self._ask_again, url, named, ask, clock))
        with self._lock:
            if url in self._named:
                self._named.move_to_end(url)
        return named.source

    async def _ask(self, url: str, ask: Ask, clock: Clock) -> IssuerKeys | None:
        """Ask the loader about an issuer that is unknown. Requests about the same one wait for the answer."""
        end = time.monotonic() + _PATIENCE
        while True:
            with self._lock:
                others = self._asked.get(url)
                if others is None and len(self._asked) < _MOST_ASKED:
                    mine = self._asked[url] = Completion()
                    break
                others = others or next(iter(self._asked.values()))
            left = end - time.monotonic()
            if left <= 0:
                raise IssuerUnavailableError("The issuer loader is busy")
            await others.wait(left)
            known = self._named.get(url)
            if known is not None:
                return known.source
            if clock() < self._missed.get(url, -math.inf):
                return None
        try:
            return self._take(url, await ask(url), clock())
        finally:
            with self._lock:
                del self._asked[url]
            mine.end()

    async def _ask_again(self, url: str, named: _Named, ask: Ask, clock: Clock) -> None:
        """Ask the loader about an issuer that it named before."""
        try:
            answer = await ask(url)
            if answer == named.source.issuer:
                named.confirm(clock())
            else:
                self._drop(url)
                self._take(url, answer, clock())
        except Exception as problem:  # noqa: BLE001  # a loader may raise anything, and nobody waits for it
            log.error(
                "issuer_loader failed for %.200r (%s): the issuer stays in use",
                url,
                type(problem).__name__,
                extra={"event": "issuer_loader_failed"},
            )

    def _take(self, url: str, answer: Any, now: float) -> IssuerKeys | None:
        """Remember what a loader answered."""
        if answer is None:
            with self._lock:
                self._missed[url] = now + _MISSED
                while len(self._missed) > _MOST_MISSED:
                    self._missed.popitem(last=False)
            return None
        if answer.url != url:
            raise HookError(
                f"issuer_loader returned the issuer {answer.url!r} when it was asked about another"
            )
        source = self._source(answer, is_named=True)
        with self._lock:
            self._named[url] = _Named(source, now)
            while len(self._named) > _MOST_NAMED:
                self._named.popitem(last=False)[1].source.end()
        return source

    def _drop(self, url: str) -> None:
        with self._lock:
            named = self._named.pop(url, None)
        if named is not None:
            named.source.end()

    def _source(self, issuer: Issuer, *, is_named: bool = False) -> IssuerKeys:
        if not issuer.is_fetched or issuer.fetch is not None:
            return IssuerKeys(issuer, issuer.fetch)
        if is_named and not issuer.allow_private:
            self._public_fetch = self._public_fetch or HttpFetch(public_only=True)
            return IssuerKeys(issuer, self._public_fetch)
        self._fetch = self._fetch or HttpFetch()
        return IssuerKeys(issuer, self._fetch)
