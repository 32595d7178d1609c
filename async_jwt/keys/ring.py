"""The keys of an application, and how they rotate without signing users out.

A key is announced (accepted and published), then signs, then is retired: its tokens are
accepted for a while and then no more. Each step depends only on the time, so processes that
hold the same keys switch together without talking to each other.
"""

from __future__ import annotations

import datetime as dt
import inspect
import math
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, ClassVar

from async_jwt.errors import ConfigurationError
from async_jwt.keys.key import Key, moment

__all__ = ["ActiveKeys", "KeyRing", "Loader"]

Loader = Callable[[], Iterable[Key] | Awaitable[Iterable[Key]]]
"""A function that returns the keys of a ring."""
Seconds = float | dt.timedelta

_NEVER = math.inf
# How soon, in seconds, a loader is called again after it failed, or for an unknown key id: any
# client can send one. Sooner if there are no keys at all.
_COOL_DOWN = 5.0
_EMPTY_COOL_DOWN = 1.0
# How many threads wait for one call of a loader while earlier keys are usable: any client can send
# tokens whose key id is unknown.
_WAITING_THREADS = 4
# Seconds past its own limit after which a load counts as hung, and how many hung loads there may be.
_MARGIN, _MOST_LOADS = 1.0, 4


class ActiveKeys:
    """The keys of a ring at one time: which one signs, and which are accepted.

    Args:
        signing: the key that signs; None if none does.
        accepted: the keys whose tokens are accepted, the preferred first.
        since: the first moment for which this holds, in seconds since the epoch.
        until: the first moment at which something changes, likewise.
        loaded: the keys that a loader returned and that do not sign here: their tokens may be another
            issuer's.
        has_own: whether other keys than the loaded ones sign here. Then tokens of loaded keys carry no stamp
            of our store.
    """

    __slots__ = ("_any", "_by_kid", "_signing", "_unnamed", "accepted", "has_own", "loaded", "since", "until")

    def __init__(
        self,
        signing: Key | None,
        accepted: tuple[Key, ...],
        since: float,
        until: float,
        loaded: frozenset[Key] = frozenset(),
        has_own: bool = False,
    ) -> None:
        self.loaded: frozenset[Key] = loaded
        self.has_own: bool = has_own
        self._signing = signing
        self.accepted: tuple[Key, ...] = accepted
        self.since: float = since
        self.until: float = until
        self._by_kid = {(key.kid, key.algorithm): key for key in accepted if key.kid is not None}
        self._any = _by_algorithm(accepted)
        self._unnamed = _by_algorithm(key for key in accepted if not key.is_named)

    @property
    def signing(self) -> Key:
        """The key that signs new tokens.

        Raises:
            ConfigurationError: there is none now.
        """
        if self._signing is None:
            raise ConfigurationError(
                "There is no key to sign with now: set JWT_SECRET_KEY or JWT_PRIVATE_KEY, or give the "
                "KeyRing a private key that is still accepted; loaded keys sign only with loaded_sign=True"
            )
        return self._signing

    def signs_with(self, key: Key) -> bool:
        """True if this key signs."""
        return key is self._signing

    def candidates(self, algorithm: str, kid: str | None) -> tuple[Key, ...]:
        """The keys that may verify a token with this header.

        A known key id selects its key alone. For an unknown one, keys that were given no id
        are tried; for a token without one, all keys of its algorithm.
        """
        if kid is None:
            return self._any.get(algorithm, ())
        named = self._by_kid.get((kid, algorithm))
        return (named,) if named is not None else self._unnamed.get(algorithm, ())

    def knows(self, algorithm: str, kid: str | None) -> bool:
        """True if a key of that id is among them, or if there is no id to look for."""
        return kid is None or (kid, algorithm) in self._by_kid

    def jwks(self) -> dict[str, Any]:
        """The JWKS document: the public halves of the published keys (RFC 7517 §5).

        It includes announced and retained keys, but never secrets.
        """
        return {"keys": [key.public_jwk() for key in self.accepted if key.is_published]}

    def __repr__(self) -> str:
        return f"<ActiveKeys signing={self._signing!r} accepted={len(self.accepted)}>"


class Load:
    """One call of a ring's loader, which may hang."""

    def __init__(self, loader: Loader) -> None:
        self.loader: Loader = loader


class KeyRing:
    """The keys of an application: one signs, all may verify.

    Args:
        signing: the key that signs new tokens, and verifies them as well. Of several, the one
            whose `signs_from` passed last signs; of equal ones the first, and before all of
            them the earliest.
        verification: further keys whose tokens are accepted. They never sign.
        retention: how much longer the tokens of a key are accepted once another one signs,
            in seconds or as a timedelta; at least the longest lifetime of a token. None
            accepts them until the key is retired.
        load: a function, `async` or plain, that returns further keys, such as those of a folder,
            of a secret manager, or another service's JWKS. It is called at start-up, every
            `refresh` seconds, and for a token whose key id is unknown. Only one call runs at a
            time; it is given up after `JWT_HOOK_TIMEOUT`, or 5 seconds. Its keys verify, and
            sign only with `loaded_sign`.
        loaded_sign: whether loaded keys that hold a private half, or a secret, sign like `signing` keys.
            It cannot be combined with `signing` keys of your own, which no loaded key replaces.
        loaded_secrets: whether loaded keys may be HMAC secrets. The JWKS of others must hold none: anyone
            who could add one there could make tokens.
        refresh: how long the loaded keys are used before the next load, in seconds or as a timedelta.
        clock: seconds since the epoch; for tests.

    Attributes:
        is_loaded: whether the keys come from a loader.
        active: the keys as `at` last returned them; they hold from `active.since` until `active.until`.

    Raises:
        ConfigurationError: a signing key cannot sign, two keys share id and algorithm, or
            there is no key at all.
    """

    may_be_empty: ClassVar[bool] = False
    """Whether a ring of this class may have no key."""

    def __init__(
        self,
        signing: Key | Iterable[Key] | None = None,
        verification: Iterable[Key] = (),
        *,
        retention: Seconds | None = None,
        load: Loader | None = None,
        loaded_sign: bool = False,
        loaded_secrets: bool = False,
        refresh: Seconds = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if load is not None and (not callable(load) or inspect.isgeneratorfunction(load)):
            raise ConfigurationError("load must be a function that returns keys")
        if loaded_sign and signing is not None:
            raise ConfigurationError("loaded_sign=True cannot be combined with signing keys of your own")
        self._lock = threading.RLock()
        self._clock = clock
        self._retention = None if retention is None else _seconds("retention", retention)
        self._load = load
        self.is_loaded: bool = load is not None
        self._loaded_sign, self._loaded_secrets = loaded_sign, loaded_secrets
        self._refresh = _seconds("refresh", refresh)
        self._due = self._asked = -_NEVER
        self._is_loading = False
        self._loads: list[Load] = []
        self._latest: Load | None = None
        self._load_ended = threading.Event()
        self._waiting = 0
        # The latest manual change: a clock that is set back must not undo it.
        self._acted = -_NEVER
        self._starts: dict[Key, float] = {}
        self._ends: dict[Key, float] = {}
        self._keys: tuple[Key, ...] = ()
        self._fixed = _checked(verification)
        self.active: ActiveKeys = _NONE
        own = _checked((signing,) if isinstance(signing, Key) else signing or ())
        for key in own:
            _refuse_public(key)
        self._own = {key: key.signs_from for key in own}
        self._take(self._own, self._fixed)
        if not self._keys and load is None and not self.may_be_empty:
            raise ConfigurationError("A KeyRing needs at least one key")

    @property
    def has_loader(self) -> bool:
        """True if `load` was given, so that the keys may change by themselves."""
        return self._load is not None

    @property
    def is_loading(self) -> bool:
        """True while a call of the loader runs."""
        return self._is_loading

    def awaited_load(self, *, holds_thread: bool) -> threading.Event | None:
        """The event that is set once the load ends; None if enough threads wait for it already."""
        with self._lock:
            self._waiting += holds_thread
            has_room = self._waiting <= _WAITING_THREADS or not self._keys
            return self._load_ended if has_room or not holds_thread else None

    @property
    def keys(self) -> tuple[Key, ...]:
        """All keys, accepted now or not."""
        return self._keys

    @property
    def signing(self) -> Key:
        """The key that signs new tokens now.

        Raises:
            ConfigurationError: this application only accepts tokens.
        """
        return self.at(self._clock()).signing

    def at(self, now: float) -> ActiveKeys:
        """The keys at a given time; the same object until something changes.

        Args:
            now: seconds since the epoch.
        """
        now = max(now, self._acted)
        active = self.active
        if active.since <= now < active.until:
            return active
        with self._lock:
            self.active = self._settled(now)
            return self.active

    def jwks(self) -> dict[str, Any]:
        """The current JWKS document. See `ActiveKeys.jwks`."""
        return self.at(self._clock()).jwks()

    def announce(self, key: Key) -> None:
        """Accept and publish a key from now on; it signs from its `signs_from`, or from `sign_with`, on.

        Verifiers elsewhere must have fetched it before it signs, so wait longer than they cache
        the JWKS document.

        Raises:
            ConfigurationError: it cannot sign, or its id is taken.
        """
        self._refuse_acts("announce")
        _refuse_public(key)
        start = key.signs_from if key.signs_from > -_NEVER else _NEVER
        with self._lock:
            self._take({key: start, **self._starts}, self._others())

    def sign_with(self, kid: str) -> None:
        """Make an announced key sign from now on. The former one is retained.

        Raises:
            ConfigurationError: no key of that id can sign, or it is no longer accepted.
        """
        self._refuse_acts("sign_with")
        with self._lock:
            now = self._act()
            key = next((key for key in self._named(kid) if key in self._starts), None)
            if key is None:
                raise ConfigurationError(f"The key {kid!r} is not one of the signing keys")
            if key not in self.at(now).accepted:
                raise ConfigurationError(f"The key {kid!r} is no longer accepted")
            others = {other: start for other, start in self._starts.items() if other is not key}
            self._take({key: now, **others}, self._others())

    def retire(self, kid: str, *, after: Seconds | None = None) -> None:
        """Stop accepting a key's tokens, after a while or at once. It signs no more.

        Args:
            kid: the key's id.
            after: how much longer they are accepted, in seconds or as a timedelta; None is the
                ring's retention, and 0 is at once, for a stolen key.

        Raises:
            ConfigurationError: no key has that id; it is the one that signs now; or neither
                `after` nor a retention was given.
        """
        self._refuse_acts("retire")
        left = self._retention if after is None else _seconds("after", after)
        if left is None:
            raise ConfigurationError("This ring has no retention: call retire(kid, after=...)")
        with self._lock:
            now = self._act()
            retired = self._named(kid)
            if any(self.at(now).signs_with(key) for key in retired):
                raise ConfigurationError(
                    f"The key {kid!r} signs now: make another one sign first, with sign_with()"
                )
            for key in retired:
                self._ends[key] = min(now + left, self._ends.get(key, _NEVER))
                if self._starts.get(key, -_NEVER) > now:
                    self._starts[key] = _NEVER  # it never signed, so it replaces no other key
            self.active = _NONE

    def claim_load(self, now: float, limit: float, *, unknown: bool = False) -> Load | None:
        """The load that the caller must run now, if one is due; no other caller gets one meanwhile.

        The caller passes the result to `replace`, and then calls `end_load`. A load that takes longer
        than its limit is given up, and its late result is discarded.

        Args:
            now: seconds since the epoch.
            limit: how long the loader may take, in seconds.
            unknown: whether a token named an unknown key.
        """
        with self._lock:
            # Threads read the clock before they get here, so `now` may lag a little; a clock that
            # was really set back must not keep old keys for ever.
            due = now >= self._due or now < self._asked - _COOL_DOWN
            soon = now >= self._asked + (_COOL_DOWN if self._keys else _EMPTY_COOL_DOWN)
            hangs = self._is_loading and not self._asked <= now <= self._asked + limit + _MARGIN
            if self._load is None or (self._is_loading and (not hangs or len(self._loads) >= _MOST_LOADS)):
                return None
            if not (due or (soon and (unknown or not self._keys))):
                return None
            self._load_ended.set()
            self._is_loading, self._waiting = True, 0
            self._load_ended = threading.Event()
            self._asked, self._due = now, now + min(self._refresh, _COOL_DOWN)
            load = Load(self._load)
            self._loads.append(load)
            self._latest = load
            return load

    def replace(self, keys: Iterable[Key], now: float, load: Load) -> None:
        """Replace the keys of an earlier load with what a load returned.

        Raises:
            ConfigurationError: these keys cannot make a ring.
        """
        loaded = _checked(keys)
        if not loaded:
            raise ConfigurationError("The KeyRing loader returned no keys")
        if not self._loaded_secrets and any(key.is_secret for key in loaded):
            raise ConfigurationError(
                "The KeyRing loader returned an HMAC secret: to accept it, set KeyRing(loaded_secrets=True)"
            )
        with self._lock:
            if load is not self._latest:
                return  # it was given up, and another load has begun
            known = {_identity(key): key for key in self._keys}
            # The same object for the same key: tokens that it verified stay cached.
            loaded = tuple(known.get(_identity(key), key) for key in loaded)
            signing = {key: key.signs_from for key in loaded if key.can_sign and self._loaded_sign}
            self._take(
                {**self._own, **signing}, (*(key for key in loaded if key not in signing), *self._fixed)
            )
            self._due = now + self._refresh

    def end_load(self, load: Load) -> None:
        """Record that a load has ended, whatever its outcome."""
        with self._lock:
            self._loads.remove(load)
            if load is self._latest:
                self._is_loading = False
                self._load_ended.set()

    def _refuse_acts(self, what: str) -> None:
        if self.is_loaded:
            raise ConfigurationError(f"{what}() needs a ring without a loader: change what it loads instead")

    def _act(self) -> float:
        self._acted = max(self._clock(), self._acted)
        return self._acted

    def _others(self) -> tuple[Key, ...]:
        return tuple(key for key in self._keys if key not in self._starts)

    def _named(self, kid: str) -> list[Key]:
        found = [key for key in self._keys if kid is not None and key.kid == kid]
        if not found:
            raise ConfigurationError(f"No key in the ring has the id {kid!r}")
        return found

    def _take(self, starts: dict[Key, float], others: tuple[Key, ...]) -> None:
        """Set the ring's keys: those that may sign, with their start times, and the others."""
        by_kid: dict[tuple[str, str], Key] = {}
        by_material: dict[tuple[bytes, str], Key] = {}
        kept: list[Key] = []
        for key in dict.fromkeys((*starts, *others)):
            same = by_material.setdefault((key.fingerprint, key.algorithm), key)
            if same is not key and not key.is_named:
                continue  # a half of a pair that is already there, under any id
            twin = key if key.kid is None else by_kid.setdefault((key.kid, key.algorithm), key)
            if twin is not key:
                raise ConfigurationError(f"Two keys in the ring have the id {key.kid!r} for {key.algorithm}")
            kept.append(key)
        kept_starts = {key: start for key, start in starts.items() if key in kept}
        with self._lock:
            if (tuple(kept), kept_starts) != (self._keys, self._starts):
                self._keys, self._starts, self.active = tuple(kept), kept_starts, _NONE

    def _settled(self, now: float) -> ActiveKeys:
        ends = {key: self._end_of(key) for key in self._keys}
        accepted = tuple(key for key in self._keys if now < ends[key])
        may_sign = [key for key in accepted if key in self._starts]
        begun = [key for key in may_sign if self._starts[key] <= now]
        signing = max(begun, key=self._starts.__getitem__, default=None)
        if signing is None:
            # Before all start times, the earliest key signs.
            planned = [key for key in may_sign if self._starts[key] < _NEVER]
            signing = min(planned, key=self._starts.__getitem__, default=None)
        changes = [*self._starts.values(), *ends.values()]
        since = max((change for change in changes if change <= now), default=-_NEVER)
        until = min((c for c in changes if c > now), default=_NEVER)
        loaded = frozenset(accepted) - self._starts.keys() - {*self._fixed} if self.is_loaded else frozenset()
        return ActiveKeys(signing, accepted, since, until, loaded, has_own=bool(self._own))

    def _own_end(self, key: Key) -> float:
        return min(key.accepted_until, self._ends.get(key, _NEVER))

    def _end_of(self, key: Key) -> float:
        end = self._own_end(key)
        if key in self._starts and self._retention is not None:
            mine = self._starts[key]
            # A key that ended before it began replaces no other key.
            later = (k for k, start in self._starts.items() if mine < start < self._own_end(k))
            end = min(end, min((self._starts[k] for k in later), default=_NEVER) + self._retention)
        return end

    def __repr__(self) -> str:
        return f"<KeyRing keys={len(self._keys)} loaded={self.is_loaded}>"


def _identity(key: Key) -> tuple[object, ...]:
    """Everything that distinguishes one key from another."""
    return (
        key.fingerprint,
        key.algorithm,
        key.kid,
        key.is_named,
        key.can_sign,
        key.signs_from,
        key.accepted_until,
        key.is_published,
        key.issuer,
    )


def _refuse_public(key: Key) -> None:
    if not key.can_sign:
        raise ConfigurationError(f"{key!r} holds no private key, so it cannot sign")


def _checked(keys: Iterable[Key]) -> tuple[Key, ...]:
    found = tuple(keys)
    for key in found:
        if not isinstance(key, Key):
            raise ConfigurationError(f"A KeyRing holds Key objects, not {type(key).__name__}")
    return found


def _seconds(name: str, given: Seconds) -> float:
    seconds = given.total_seconds() if isinstance(given, dt.timedelta) else moment(name, given)
    if seconds < 0:
        raise ConfigurationError(f"{name} must not be negative")
    return seconds


def _by_algorithm(keys: Iterable[Key]) -> dict[str, tuple[Key, ...]]:
    table: dict[str, tuple[Key, ...]] = {}
    for key in keys:
        table[key.algorithm] = (*table.get(key.algorithm, ()), key)
    return table


_NONE = ActiveKeys(None, (), _NEVER, _NEVER)
