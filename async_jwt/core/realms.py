"""The settings of realms: what each inherits, and what keeps them apart."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any, Final

from async_jwt.core.locations import cookie_name, csrf_names
from async_jwt.core.settings import KEYS, Settings
from async_jwt.errors import ConfigurationError
from async_jwt.issuers.issuer import Issuer

__all__ = ["realm_settings", "refuse_shared_cookies", "refuse_shared_issuers", "warn_of_shared_secrets"]

log: logging.Logger = logging.getLogger("async_jwt")

# A realm has keys and issuers of its own, or none.
_NOT_INHERITED: Final = frozenset(
    (
        "JWT_ISSUERS",
        "JWT_KEY_FOLDER",
        "JWT_PRIVATE_KEY",
        "JWT_PUBLIC_KEY",
        "JWT_REALMS",
        "JWT_SECRET_KEY",
        "JWT_SECRET_KEY_FALLBACKS",
        "SECRET_KEY",
        "SECRET_KEY_FALLBACKS",
    )
)

_OF_THE_APPLICATION: Final = frozenset(
    (
        "JWT_COMPAT",
        "JWT_DEFAULT_DENY",
        "JWT_IGNORED_SETTINGS",
        "JWT_REALMS",
        "JWT_SHARED_LOOP",
        "JWT_STORE_URI",
    )
)

_COOKIES: Final = (
    "JWT_ACCESS_COOKIE_NAME",
    "JWT_REFRESH_COOKIE_NAME",
    "JWT_ACCESS_CSRF_COOKIE_NAME",
    "JWT_REFRESH_CSRF_COOKIE_NAME",
)


def realm_settings(config: Mapping[str, Any], name: str, given: Mapping[str, Any]) -> Settings:
    """The settings of a realm: its own, and for the rest those of the application.

    The names of its cookies begin with its name, unless it names them.

    Args:
        config: the application's configuration, with its defaults.
        name: the realm.
        given: what `JWT_REALMS` says of it.

    Raises:
        ConfigurationError: a value is wrong, or a key is none of a realm's; the text names realm and key.
    """
    for key in given:
        if key in _OF_THE_APPLICATION or not str(key).startswith("JWT_") or key not in KEYS:
            what = "one for the whole application" if key in KEYS else "no setting"
            raise ConfigurationError(f"JWT_REALMS[{name!r}] has {key!r}, which is {what}")
    inherited = {key: config[key] for key in KEYS if key not in _NOT_INHERITED and key in config}
    own_cookies = {key: f"{name}_{config[key]}" for key in _COOKIES}
    try:
        settings = Settings.from_config({**inherited, **own_cookies, **given})
    except ConfigurationError as problem:
        raise ConfigurationError(f"JWT_REALMS[{name!r}]: {problem}") from None
    return replace(settings, realm=name)


def refuse_shared_cookies(every: Collection[Settings]) -> None:
    """Refuse realms whose cookies have the same names: a browser keeps one of them.

    Raises:
        ConfigurationError: there are such realms.
    """
    held: dict[str, str] = {}
    for settings in every:
        for name in _cookie_names(settings):
            if held.setdefault(name, settings.realm) != settings.realm:
                raise ConfigurationError(
                    f"JWT_REALMS[{settings.realm!r}]: the cookie {name!r} is one of "
                    f"{_named(held[name])}, too: give each realm cookie names of its own"
                )


def _cookie_names(settings: Settings) -> Iterable[str]:
    for refresh in (False, True):
        yield cookie_name(refresh, settings)
        yield csrf_names(settings, refresh=refresh)[1]


def refuse_shared_issuers(every: Mapping[str, Iterable[Issuer]]) -> None:
    """Refuse an issuer of whose tokens two realms would accept the same.

    Args:
        every: by realm, its issuers.

    Raises:
        ConfigurationError: there is one.
    """
    for (one, its), (other, others) in combinations(every.items(), 2):
        for issuer in its:
            for same in others:
                if issuer.url == same.url and _overlap(issuer.audience, same.audience):
                    raise ConfigurationError(
                        f"{_named(one)} and {_named(other)} both accept tokens of {issuer.url!r} for one "
                        "audience: give each realm an audience of its own"
                    )


def _overlap(one: frozenset[str] | None, other: frozenset[str] | None) -> bool:
    return one is None or other is None or not one.isdisjoint(other)


def warn_of_shared_secrets(every: Collection[Settings]) -> None:
    """Log realms that share a secret: they refuse each other's tokens, but other programs may not."""
    for one, other in combinations(every, 2):
        shared = _secrets(one) & _secrets(other)
        if shared:
            log.warning(
                "%s and %s have the same key: each refuses the other's tokens, but whatever else verifies "
                "with that key, such as an earlier version or another library, does not. Give each its own",
                _named(one.realm),
                _named(other.realm),
                extra={"event": "realms_share_key"},
            )


def _secrets(settings: Settings) -> set[bytes]:
    first = settings.secret_key if settings.secret_key is not None else settings.app_secret_key
    given = (first, settings.private_key, *(settings.secret_fallbacks or ()))
    return {key.encode() if isinstance(key, str) else key for key in given if isinstance(key, str | bytes)}


def _named(realm: str) -> str:
    return f"The realm {realm!r}" if realm else "The unnamed realm"
