"""The key ring that an application's settings describe."""

from __future__ import annotations

from typing import Any

from async_jwt.core.settings import Settings
from async_jwt.errors import ConfigurationError
from async_jwt.keys import Key, KeyRing

__all__ = ["ring_of"]


def ring_of(settings: Settings) -> KeyRing:
    """The keys that the settings name: one signs, and each accepted algorithm has one that verifies.

    Raises:
        ConfigurationError: a key is missing, weak or unfit; the text names the setting.
    """
    signing: Key | None = None
    verification: list[Key] = []
    for algorithm in settings.accepted_algorithms:
        private, public = _materials(settings, algorithm)
        strength = settings.min_secret_bytes
        try:
            if private is not None and algorithm == settings.algorithm:
                signing = Key(private, algorithm, min_secret_bytes=strength)
            verification += [Key(material, algorithm, min_secret_bytes=strength) for material in public]
        except ConfigurationError as problem:
            raise ConfigurationError(f"{problem} ({_setting_names(algorithm)})") from None
        if private is None and not public:
            raise ConfigurationError(f"There is no key for {algorithm}: set {_setting_names(algorithm)}")
    return KeyRing(signing, verification)


def _materials(settings: Settings, algorithm: str) -> tuple[Any, tuple[Any, ...]]:
    """What may sign with an algorithm, and what besides may verify."""
    if not algorithm.startswith("HS"):
        public = settings.public_key
        if public is None and algorithm != settings.algorithm:
            public = settings.private_key  # its public half verifies
        return settings.private_key, () if public is None else (public,)
    secret, fallbacks = settings.secret_key, None
    if secret is None:
        secret, fallbacks = settings.app_secret_key, settings.app_secret_fallbacks
    verifying = fallbacks or ()
    if secret is not None and algorithm != settings.algorithm:
        verifying = (secret, *verifying)
    return secret, verifying


def _setting_names(algorithm: str) -> str:
    if algorithm.startswith("HS"):
        return "JWT_SECRET_KEY or SECRET_KEY"
    return "JWT_PRIVATE_KEY to sign, JWT_PUBLIC_KEY to verify"
