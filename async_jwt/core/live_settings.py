"""An application's settings, which follow its configuration."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, MutableMapping
from operator import is_
from typing import Any

from async_jwt.core.settings import KEYS, SPECS, Settings, preset_of
from async_jwt.core.spelling import Unknown, unknown_settings
from async_jwt.errors import ConfigurationError

__all__ = ["LiveSettings"]

log: logging.Logger = logging.getLogger("async_jwt")


class LiveSettings:
    """An application's settings, re-read whenever its configuration changes.

    Writes the defaults into the configuration, where applications can read them, and compares
    the values at each `current()`: this takes a few microseconds, and no setting is ever stale.

    Args:
        config: the application's configuration; kept and re-read.

    Attributes:
        config: as given.
        settings: the settings as last read.
        unknown: settings that nothing reads; already logged.

    Raises:
        ConfigurationError: a value is invalid, or a name is misspelled.
    """

    def __init__(self, config: MutableMapping[str, Any]) -> None:
        self.config = config
        self._preset = preset_of(config)
        # Copies: an application may append to a list in its configuration.
        self._defaults = {spec.metadata["key"]: copy.copy(spec.metadata[self._preset]) for spec in SPECS}
        self._given = KEYS.keys() & config.keys()
        self._seen: list[Any] = []
        self.unknown: tuple[Unknown, ...] = ()
        self._copies: tuple[tuple[str, Any], ...] = ()
        self._warned_of_fallbacks = False
        self.settings: Settings
        self._reload()

    def has_changed(self, config: Mapping[str, Any]) -> bool:
        """True if the configuration has changed since it was read.

        Args:
            config: the application's current configuration; an extension may have replaced it.
        """
        values = config.values()
        # Compares all values, not just ours: iterating is faster than looking ours up. Compares identity,
        # because equal values may differ in meaning: False == 0.
        if config is self.config and len(values) == len(self._seen) and all(map(is_, values, self._seen)):
            return any(config[key] != kept for key, kept in self._copies) if self._copies else False
        return True

    def current(self) -> Settings:
        """Return the settings, re-read if the configuration has changed.

        Raises:
            ConfigurationError: a value was changed to an invalid one.
        """
        if self.has_changed(self.config):
            self._reload()
        return self.settings

    def is_default(self, key: str) -> bool:
        """True if a key holds the default written here, not a value set by the application."""
        return key not in self._given and self.config[key] is self._defaults[key]

    def _reload(self) -> None:
        config = self.config
        if preset_of(config) != self._preset:
            # The old preset's defaults are already in the configuration, indistinguishable from
            # values set by the application.
            raise ConfigurationError("JWT_COMPAT must be set before JWTManager(app) or init_app(app)")
        for key, value in self._defaults.items():
            config.setdefault(key, value)
        settings = Settings.from_config(config)
        self._check_names(settings)
        self._check_fallbacks(settings)
        if settings != getattr(self, "settings", None):  # no new object if only unrelated values changed
            self.settings = settings
        self._seen = [*config.values()]
        # Changes inside these values keep their identity.
        self._copies = tuple(
            (key, _snapshot(config[key])) for key in KEYS if isinstance(config[key], (list, set, dict))
        )

    def _check_names(self, settings: Settings) -> None:
        """Refuse misspelled settings, and log each one that nothing reads, once."""
        given = (key for key in self.config if isinstance(key, str))
        found = tuple(unknown_settings(given, KEYS, settings.ignored_settings, is_compat=settings.is_compat))
        for unknown in found:
            if unknown.is_refused:
                raise ConfigurationError(unknown.text)
        for unknown in set(found) - set(self.unknown):
            log.warning("%s", unknown.text, extra={"event": "unknown_setting"})
        self.unknown = found

    def _check_fallbacks(self, settings: Settings) -> None:
        """Warn once that fallbacks of SECRET_KEY do not apply to JWT_SECRET_KEY."""
        unused = settings.secret_key is not None and settings.app_secret_fallbacks is not None
        if not unused or settings.secret_fallbacks is not None or self._warned_of_fallbacks:
            return
        self._warned_of_fallbacks = True
        log.warning(
            "SECRET_KEY_FALLBACKS does not verify tokens while JWT_SECRET_KEY is set: put the former values "
            "of JWT_SECRET_KEY into JWT_SECRET_KEY_FALLBACKS, or set it to [] if there are none",
            extra={"event": "fallbacks_in_vain"},
        )


def _snapshot(value: Any) -> Any:
    """A copy of nested collections, with the same objects in them."""
    if isinstance(value, dict):
        return {name: _snapshot(item) for name, item in value.items()}
    return type(value)(map(_snapshot, value)) if isinstance(value, (list, set)) else value
