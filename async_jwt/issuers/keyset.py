"""The keys of one issuer at one time, which select the keys for a token."""

from __future__ import annotations

import math
from collections.abc import Iterable

from async_jwt.errors import ConfigurationError
from async_jwt.issuers.documents import PublishedKey, published_keys
from async_jwt.issuers.fetching import FetchError
from async_jwt.issuers.issuer import Issuer
from async_jwt.keys.key import Key

__all__ = ["KeySet", "fixed_keys"]

# How many keys are tried for one token: with any more, a token would cost the server too much.
_MOST_TRIED = 8


class KeySet:
    """The keys of an issuer. Once ended, it is dead: no token that it verified is accepted any longer.

    Args:
        issuer: the issuer.
        published: its keys as it publishes them; parsed at first use, each by itself.
        given: its keys as the application gave them.
        until: when it ends, in seconds since the epoch.

    Attributes:
        issuer: as given.
        since: when it was fetched, in seconds since the epoch; before that, the clock was set back.
        until: as given; minus infinity once it has ended. A later answer with the same keys extends it.
        due: from when on its issuer must be looked at again, even for a token that is remembered.
        changes_at: when the first of its keys ends.
    """

    __slots__ = (
        "_given",
        "_kids",
        "_parsed",
        "_published",
        "_table",
        "changes_at",
        "due",
        "issuer",
        "since",
        "until",
    )

    def __init__(
        self,
        issuer: Issuer,
        published: Iterable[PublishedKey] = (),
        given: Iterable[Key] = (),
        until: float = -math.inf,
    ) -> None:
        self.issuer: Issuer = issuer
        self.since: float = -math.inf
        self._published = tuple(published)
        self._given = tuple(given)
        self.changes_at: float = min((key.accepted_until for key in self._given), default=math.inf)
        self.until: float = until
        self.due: float = min(until, self.changes_at)
        self._parsed: dict[tuple[PublishedKey, str], Key | None] = {}
        everything: tuple[PublishedKey | Key, ...] = (*self._published, *self._given)
        self._kids = frozenset(each.kid for each in everything)
        # By algorithm and key id, "" for those without one, and by algorithm alone.
        self._table: dict[tuple[str, str | None], list[PublishedKey | Key]] = {}
        for each in self._published:
            for algorithm in each.algorithms:
                self._enter(algorithm, each.kid or "", each)
        for key in self._given:
            self._enter(key.algorithm, key.kid if key.kid is not None and key.is_named else "", key)

    def _enter(self, algorithm: str, kid: str, key: PublishedKey | Key) -> None:
        for place in ((algorithm, kid), (algorithm, None)):
            self._table.setdefault(place, []).append(key)

    def __len__(self) -> int:
        return len(self._published) + len(self._given)

    def end(self) -> None:
        """Accept no token of these keys any longer."""
        self.until = self.due = -math.inf

    def has_the_keys_of(self, published: tuple[PublishedKey, ...]) -> bool:
        """True if these are its keys."""
        return frozenset(published) == frozenset(self._published)

    def has_named(self, kid: str | None) -> bool:
        """True if a key has this id, whatever its algorithm."""
        return kid is not None and kid in self._kids

    def candidates(self, algorithm: str, kid: str | None, now: float) -> tuple[Key, ...]:
        """The keys that may verify a token with this header now; none if it is unknown.

        A key id selects the keys that have it, or else those that have none. Without one, every key of the
        algorithm may be tried, if there are few.
        """
        found = self._table.get((algorithm, kid)) or self._table.get((algorithm, "" if kid else None), [])
        if len(found) > _MOST_TRIED:
            return ()
        keys = (each if isinstance(each, Key) else self._parse(each, algorithm) for each in found)
        return tuple(key for key in keys if key is not None and now < key.accepted_until)

    def _parse(self, published: PublishedKey, algorithm: str) -> Key | None:
        place = (published, algorithm)
        if place not in self._parsed:
            try:
                self._parsed[place] = Key.from_jwk({**dict(published.members), "alg": algorithm})
            except ConfigurationError:  # broken, or too weak
                self._parsed[place] = None
        return self._parsed[place]

    def __repr__(self) -> str:
        return f"<KeySet of {self.issuer.url!r} keys={len(self)}>"


def fixed_keys(issuer: Issuer) -> KeySet:
    """The keys that an application gave for an issuer: they are never fetched.

    Raises:
        ConfigurationError: they are no JWKS document with a key to use.
    """
    if isinstance(issuer.keys, tuple):
        return KeySet(issuer, given=issuer.keys, until=math.inf)
    published: tuple[PublishedKey, ...] = ()
    try:
        published, _ = published_keys(dict(issuer.keys or {}), issuer.url, issuer.algorithms)
    except FetchError as problem:
        raise ConfigurationError(f"Issuer({issuer.url!r}): keys= is no JWKS document: {problem}") from None
    if not published:
        raise ConfigurationError(f"Issuer({issuer.url!r}): no key of keys= can verify tokens")
    return KeySet(issuer, published, until=math.inf)
