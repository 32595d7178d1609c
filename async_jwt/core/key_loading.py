"""Builds the key ring that the settings describe, and calls the loader of a ring that has one."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, ClassVar

from async_jwt.clock import Clock
from async_jwt.core.concurrency import holds_thread, in_background, run_hook, wait_for
from async_jwt.core.hooks import Hook
from async_jwt.core.settings import Settings
from async_jwt.errors import ConfigurationError, HookError
from async_jwt.keys.folder import KeyFolder
from async_jwt.keys.key import Key
from async_jwt.keys.ring import KeyRing, Load

__all__ = ["refresh", "ring_of"]

# How long a loader may take without a JWT_HOOK_TIMEOUT, in seconds.
_LIMIT = 5.0
# How long a request waits for a loader while earlier keys are usable, in seconds.
_PATIENCE = 0.5

log: logging.Logger = logging.getLogger("async_jwt.keys")


def ring_of(settings: Settings, *, all_verify: bool = True, may_be_empty: bool = False) -> KeyRing:
    """The keys in the settings: one signs, and each accepted algorithm has one that verifies.

    Args:
        settings: the settings.
        all_verify: whether each algorithm must have a key; False if a loader may supply the others.
        may_be_empty: whether there may be no key at all, as in an application that only accepts tokens of
            others.

    Raises:
        ConfigurationError: a key is missing, weak or unfit; the text names the setting.
    """
    if settings.key_folder is not None:
        return KeyRing(load=KeyFolder(settings.key_folder), loaded_sign=True, loaded_secrets=True)
    if may_be_empty and not _names_keys(settings):
        try:
            return _ring_of(settings, all_verify=all_verify)
        except ConfigurationError:  # SECRET_KEY is none, or fit for the framework's own purposes alone
            return _NoKeys()
    return _ring_of(settings, all_verify=all_verify)


def _ring_of(settings: Settings, *, all_verify: bool) -> KeyRing:
    signing: Key | None = None
    verification: list[Key] = []
    for algorithm in settings.accepted_algorithms:
        private, public = _materials(settings, algorithm)
        strength = settings.min_secret_bytes
        named = _setting_names(algorithm)
        try:
            if private is not None and algorithm == settings.algorithm:
                signing = Key(private, algorithm, min_secret_bytes=strength)
            for material in public:
                named = _setting_of(settings, material) or named
                verification.append(Key(material, algorithm, min_secret_bytes=strength, published=False))
        except ConfigurationError as problem:
            raise ConfigurationError(f"{problem} ({named})") from None
        signs = algorithm == settings.algorithm
        lacks = private is None and (not public or (signs and algorithm.startswith("HS")))
        if lacks and (all_verify or signs):
            raise ConfigurationError(f"There is no key for {algorithm}: set {_setting_names(algorithm)}")
    return _SettingsRing(signing, verification)


class _SettingsRing(KeyRing):
    """Rebuilt when a setting changes, so manual changes to it would not last."""

    def _refuse_acts(self, what: str) -> None:
        raise ConfigurationError(
            f"{what}() needs a ring of your own: JWTManager(app, keys=KeyRing(...)). This ring is built "
            "from the settings: change those instead, also at run time"
        )


class _NoKeys(_SettingsRing):
    """The ring of an application that makes no tokens."""

    may_be_empty: ClassVar[bool] = True


def _names_keys(settings: Settings) -> bool:
    given = (settings.secret_key, settings.private_key, settings.public_key)
    return any(material is not None for material in given)


def _materials(settings: Settings, algorithm: str) -> tuple[Any, tuple[Any, ...]]:
    """The key material that may sign with an algorithm, and the material that may also verify."""
    if not algorithm.startswith("HS"):
        public = settings.public_key
        if public is None and algorithm != settings.algorithm:
            public = settings.private_key  # its public half verifies
        return settings.private_key, () if public is None else (public,)
    secret, verifying = settings.secret_key, settings.secret_fallbacks or ()
    if secret is None:
        secret, verifying = settings.app_secret_key, (*verifying, *(settings.app_secret_fallbacks or ()))
    if secret is not None and algorithm != settings.algorithm:
        verifying = (secret, *verifying)
    return secret, verifying


def _setting_of(settings: Settings, material: Any) -> str | None:
    """The setting that lists a former secret, if one does."""
    if material in (settings.secret_fallbacks or ()):
        return "JWT_SECRET_KEY_FALLBACKS"
    return "SECRET_KEY_FALLBACKS" if material in (settings.app_secret_fallbacks or ()) else None


def _setting_names(algorithm: str) -> str:
    if algorithm.startswith("HS"):
        return "JWT_SECRET_KEY or SECRET_KEY"
    return "JWT_PRIVATE_KEY to sign, JWT_PUBLIC_KEY to verify"


async def load_keys(ring: KeyRing, load: Load, clock: Clock, limit: float) -> None:
    """Call a ring's loader. If it fails, the earlier keys stay in use.

    Args:
        ring: the ring.
        load: the load that the caller claimed.
        clock: seconds since the epoch.
        limit: how long the loader may take, in seconds.

    Raises:
        HookError: it failed, and there are no earlier keys to use.
    """
    failure = None
    try:
        keys = await run_hook(Hook.of("keys", load.loader), limit=limit)
        ring.replace(keys, clock(), load)
    except ConfigurationError as problem:
        failure = str(problem)  # ours: it names the file, and quotes no key
    except Exception as problem:  # noqa: BLE001  # whatever it is
        # Its type alone, and not even as a cause: its text may quote a key.
        failure = type(problem).__name__
    finally:
        ring.end_load(load)
    if failure is None:
        return
    if not ring.keys:
        raise HookError(f"The keys could not be loaded: {failure}")
    _log_not_loaded(failure)


def _log_not_loaded(failure: str) -> None:
    event = {"event": "keys_not_loaded"}
    log.error("The keys could not be reloaded (%s): the keys loaded before stay in use", failure, extra=event)


async def refresh(ring: KeyRing, clock: Clock, limit: float | None, *, unknown: bool = False) -> None:
    """Call the loader if that is due, and wait for it: only briefly while earlier keys are usable.

    A loader that hangs briefly delays the request that called it, and a few whose keys are unknown.

    Args:
        ring: the ring.
        clock: seconds since the epoch.
        limit: how long the loader may take, in seconds; None is 5.
        unknown: whether a token names an unknown key.

    Raises:
        HookError: it failed, and there are no earlier keys to use.
    """
    has_keys, limit = bool(ring.keys), _LIMIT if limit is None else limit
    load = ring.claim_load(clock(), limit, unknown=unknown)
    if load is not None and not has_keys:
        await load_keys(ring, load, clock, limit)
        return
    if load is not None:
        try:
            await in_background(partial(load_keys, ring, load, clock, limit))
        except RuntimeError as problem:  # no thread can be started now: a later request tries again
            ring.end_load(load)
            _log_not_loaded(str(problem))
    elif has_keys and not (unknown and ring.is_loading):
        return
    ended = ring.awaited_load(holds_thread=holds_thread())
    if ended is not None:
        await wait_for(ended, _PATIENCE if has_keys else limit)
