"""The doctor's checks: each function yields the problems it finds, with a fix for each."""

from __future__ import annotations

import datetime as dt
import math
import os
import re
import stat
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from async_jwt.adapters._route_audit import (
    refuse_login_view,
    refuse_once_in_vain,
    refuse_unreached_cookies,
    routes_of,
)
from async_jwt.app_state import AppState
from async_jwt.cli.application import Failure
from async_jwt.cli.explain import presented
from async_jwt.core.engine import Engine
from async_jwt.core.policy import ACCESS
from async_jwt.core.settings import Settings
from async_jwt.errors import ConfigurationError, JWTExtendedException, StoreUnavailableError
from async_jwt.keys.folder import KeyFolder
from async_jwt.keys.key import Key
from async_jwt.operations import Operations

__all__ = [
    "Finding",
    "of_hook_timeout",
    "of_hooks",
    "of_keys",
    "of_names",
    "of_paths",
    "of_scopes",
    "of_settings",
    "of_store",
    "of_views",
]

Level = Literal["error", "warning"]

_DAY = 86400.0
# Browsers cap the lifetime of cookies at 400 days (RFC 6265bis).
_LONGEST_REFRESH = 400 * _DAY
_UNSAFE: Final = ("DELETE", "PATCH", "POST", "PUT")
# Words from tutorials, as whole words: random letters spell them now and then, but not between dashes.
_TUTORIALS: Final = re.compile(
    rb"(?<![a-z0-9])(change-?_?me|default|development|example|password|please|production|secret|super|testing|your)(?![a-z0-9])"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem.

    Attributes:
        level: "error" if it is unsafe or broken, "warning" if it may be intended.
        about: the setting or part in question.
        what: what is wrong.
        fix: what to do.
    """

    level: Level
    about: str
    what: str
    fix: str


def of_settings(settings: Settings) -> Iterator[Finding]:
    """Check the settings."""
    yield from _of_tokens(settings)
    yield from _of_locations(settings)
    if "cookies" in settings.token_location:
        yield from _of_cookies(settings)
        yield from _of_csrf(settings)


def of_names(bound: AppState) -> Iterator[Finding]:
    """Find settings that nothing reads."""
    for unknown in bound.unknown_settings:
        what, _, fix = unknown.text.partition(". ")
        yield Finding("warning", unknown.key, re.sub("^Nothing", "nothing", what), fix or "remove it")


def of_paths(bound: AppState) -> Iterator[Finding]:
    """Find cookie paths with no view under them that reads the cookie: it never reaches one."""
    settings, routes = bound.engine().settings, routes_of(bound)
    if "cookies" not in settings.token_location or bound.app.config.get("APPLICATION_ROOT", "/") != "/":
        return
    for kind, path in (("access", settings.access_cookie_path), ("refresh", settings.refresh_cookie_path)):
        rules = [
            route.rule
            for route in routes
            for policy in route.policies
            if policy.refresh == (kind == "refresh")
            and (policy.realm or "") == bound.realm
            and "cookies" in (policy.locations or settings.token_location)
        ]
        if path != "/" and not any(_lies_under(rule, path) for rule in rules):
            yield Finding(
                "warning",
                f"JWT_{kind.upper()}_COOKIE_PATH",
                f"no view under {path} takes {kind} tokens: the cookie never reaches a view that does",
                "set it to the path of such a view, or to a prefix of all of them",
            )


def _lies_under(rule: str, path: str) -> bool:
    """Return True if a browser sends, or may send, a cookie of this path to a rule (RFC 6265 §5.1.4)."""
    fixed, variable, _ = rule.partition("<")
    if variable and path.startswith(fixed):
        return True
    return rule == path or rule.startswith(path if path.endswith("/") else f"{path}/")


def _of_tokens(settings: Settings) -> Iterator[Finding]:
    access, refresh = _seconds(settings.access_expires), _seconds(settings.refresh_expires)
    if access == math.inf:
        yield Finding(
            "error",
            "JWT_ACCESS_TOKEN_EXPIRES",
            "access tokens never expire",
            "use minutes, such as timedelta(minutes=15)",
        )
    elif access > _DAY:
        yield Finding(
            "warning",
            "JWT_ACCESS_TOKEN_EXPIRES",
            "access tokens live longer than a day",
            "use a lifetime of minutes, and refresh them",
        )
    if refresh == math.inf:
        yield Finding(
            "warning",
            "JWT_REFRESH_TOKEN_EXPIRES",
            "refresh tokens never expire",
            "use days, such as timedelta(days=30)",
        )
    elif refresh > _LONGEST_REFRESH:
        yield Finding(
            "warning",
            "JWT_REFRESH_TOKEN_EXPIRES",
            f"refresh tokens live for {refresh / _DAY:.0f} days",
            "set how many days a device may stay unused: each use restarts the count",
        )
    elif refresh <= access:
        yield Finding(
            "error",
            "JWT_REFRESH_TOKEN_EXPIRES",
            "refresh tokens do not outlive the access tokens they renew",
            "make it longer than JWT_ACCESS_TOKEN_EXPIRES",
        )
    if max(settings.expiry_leeway, settings.start_leeway) > 300:
        yield Finding(
            "warning",
            "JWT_DECODE_LEEWAY",
            "expired tokens are accepted for minutes",
            "allow a few seconds, for clock skew",
        )
    grace = settings.refresh_grace
    if isinstance(grace, float | int) and 0 < grace <= settings.refresh_late_after:
        yield Finding(
            "warning",
            "JWT_REFRESH_LATE_AFTER",
            "it is not shorter than JWT_REFRESH_GRACE: no repeat of a copied refresh token counts as late",
            "make it shorter than JWT_REFRESH_GRACE",
        )
    if isinstance(grace, float | int) and grace > 120:
        yield Finding(
            "warning",
            "JWT_REFRESH_GRACE",
            "a copied refresh token still works for minutes after it was replaced",
            "use seconds: the default is 10",
        )
    if not settings.require_type and not settings.is_compat:
        yield Finding(
            "warning",
            "JWT_REQUIRE_TYPE",
            "a token without `type` counts as an access token",
            "set it to True, unless the tokens come from another issuer",
        )


def _of_locations(settings: Settings) -> Iterator[Finding]:
    if "query_string" in settings.token_location:
        yield Finding(
            "warning",
            "JWT_TOKEN_LOCATION",
            "tokens in query strings end up in logs, browser histories and Referer headers",
            "remove query_string, and allow it with jwt_required(locations=...) where needed",
        )


def _of_cookies(settings: Settings) -> Iterator[Finding]:
    if not settings.cookie_secure and not settings.debug:
        yield Finding(
            "error",
            "JWT_COOKIE_SECURE",
            "cookies are sent over http, where anyone on the network can read them",
            "set it to True; False is for local development",
        )
    if settings.cookie_samesite in (None, "None") and not settings.is_compat:
        yield Finding(
            "warning",
            "JWT_COOKIE_SAMESITE",
            "browsers send the cookies with requests from other sites",
            'set "Lax" or "Strict", unless your pages are on another site',
        )
    if settings.cookie_domain is not None:
        yield Finding(
            "warning",
            "JWT_COOKIE_DOMAIN",
            "every host in the domain receives the tokens and can set these cookies",
            'remove it, and set JWT_COOKIE_PREFIX = "__Host-"',
        )
    names = Counter(
        (
            settings.access_cookie_name,
            settings.refresh_cookie_name,
            settings.access_csrf_cookie_name,
            settings.refresh_csrf_cookie_name,
        )
    )
    for name, count in names.items():
        if count > 1:
            yield Finding(
                "error",
                "JWT_..._COOKIE_NAME",
                f"{count} cookies are named {name}",
                "give each its own name",
            )


def _of_csrf(settings: Settings) -> Iterator[Finding]:
    if not settings.cookie_csrf_protect:
        yield Finding(
            "error",
            "JWT_COOKIE_CSRF_PROTECT",
            "other sites can send requests with your users' cookies",
            "set it to True, and send the CSRF value in the X-CSRF-TOKEN header",
        )
    elif missing := [method for method in _UNSAFE if method not in settings.csrf_methods]:
        yield Finding(
            "error",
            "JWT_CSRF_METHODS",
            f"{' and '.join(missing)} requests need no CSRF value",
            f"add {', '.join(missing)}",
        )
    if not settings.csrf_check_origin and not settings.is_compat:
        yield Finding(
            "warning", "JWT_CSRF_CHECK_ORIGIN", "the Origin header is not checked", "set it to True"
        )
    for origin in sorted(settings.trusted_origins or ()):
        if settings.cookie_secure and urlsplit(origin).scheme == "http":
            yield Finding(
                "warning",
                "JWT_TRUSTED_ORIGINS",
                f"{origin} is trusted, but anyone on the network can alter its pages",
                "trust https origins only",
            )


def of_keys(engine: Engine) -> Iterator[Finding]:
    """Check the keys, which must be loaded already."""
    settings, ring, now = engine.settings, engine.ring, engine.clock()
    own = [key for key in ring.keys if key.can_sign]
    if own or "encode_key" in engine.hooks:
        yield from _of_own_tokens(settings)
    for key in ring.keys:
        if key.algorithm.startswith("HS"):
            yield from _of_secret(key, settings)
    shares = settings.secret_key is None and settings.app_secret_key is not None
    if engine.has_keys_of_settings and shares and settings.algorithm.startswith("HS"):
        yield Finding(
            "warning",
            "JWT_SECRET_KEY",
            "SECRET_KEY signs both tokens and the framework's sessions: one leak compromises both",
            "set a separate secret for tokens",
        )
    if own and not any(now < key.accepted_until for key in own):
        yield Finding(
            "error",
            "keys",
            "all keys have expired: no token can be created",
            "create one: `keys rotate`",
        )
    last = max(own, key=lambda key: key.accepted_until, default=None)
    if last is not None and now < last.accepted_until < now + 7 * _DAY:
        yield Finding(
            "warning",
            "keys",
            f"the key {last.kid} expires in less than a week and has no successor",
            "add the next one: `keys rotate`",
        )
    if settings.key_folder is not None and os.name != "nt":
        yield from _of_files(KeyFolder(settings.key_folder))


def _of_own_tokens(settings: Settings) -> Iterator[Finding]:
    for name, made, accepted in (
        ("AUDIENCE", settings.encode_audience, settings.decode_audience),
        ("ISSUER", settings.encode_issuer, settings.decode_issuer),
    ):
        own = {made} if isinstance(made, str) else set(made or ())
        if accepted is not None and not own & set(accepted):
            yield Finding(
                "error",
                f"JWT_DECODE_{name}",
                "it rejects all of this application's own tokens",
                f"set JWT_ENCODE_{name} to one that it lists",
            )


def _of_files(folder: KeyFolder) -> Iterator[Finding]:
    if folder.path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield Finding(
            "error",
            "JWT_KEY_FOLDER",
            f"users other than its owner can put keys into {folder.path}",
            f"chmod go-w {folder.path}",
        )
    for file in folder.files():
        mode = file.stat().st_mode
        if mode & stat.S_IRWXO or mode & stat.S_IWGRP:
            yield Finding("error", "JWT_KEY_FOLDER", f"others can read or change {file}", f"chmod 600 {file}")
        elif mode & stat.S_IRGRP:
            yield Finding(
                "warning",
                "JWT_KEY_FOLDER",
                f"its group can read {file}",
                f"chmod 600 {file}, unless intended",
            )


def _of_secret(key: Key, settings: Settings) -> Iterator[Finding]:
    data = urlsafe_b64decode(key.private_jwk()["k"] + "==")
    about = _name_of(data, settings) or f"the key {key.kid}"
    fix = f"generate {about} with secrets.token_hex(64)"
    least = int(key.algorithm[2:]) // 8
    if len(data) < least:
        yield Finding("error", about, f"it is shorter than {least} bytes, so tokens can be forged", fix)
    elif len(set(data)) < 10:
        yield Finding("error", about, "it has few distinct characters, so it can be guessed", fix)
    elif _TUTORIALS.search(data.lower()):
        yield Finding("error", about, "it looks like one from a tutorial, so it can be guessed", fix)


def _name_of(secret: bytes, settings: Settings) -> str | None:
    """Return the setting that holds a secret; None if none does."""
    named = {
        "JWT_SECRET_KEY": settings.secret_key,
        "SECRET_KEY": settings.app_secret_key,
        **{f"JWT_SECRET_KEY_FALLBACKS[{n}]": old for n, old in enumerate(settings.secret_fallbacks or ())},
        **{f"SECRET_KEY_FALLBACKS[{n}]": old for n, old in enumerate(settings.app_secret_fallbacks or ())},
    }
    texts = {name: text.encode() if isinstance(text, str) else text for name, text in named.items()}
    return next((name for name, text in texts.items() if text == secret), None)


async def of_store(bound: AppState) -> list[Finding]:
    """Check the store, as a starting process finds it."""
    store, settings = bound.store, bound.engine().settings
    if getattr(store, "awaits_nothing", False):
        if settings.debug:
            return []
        used = any(policy.once for route in routes_of(bound) for policy in route.policies)
        return [
            Finding(
                "warning",
                "JWT_STORE_URI",
                "revocations and sessions are kept in one process's memory: other processes do not see them, "
                "and a restart loses them"
                + (", so that a token that was used once can be used again" if used else ""),
                'set JWT_STORE_URI = "redis://..."',
            )
        ]
    try:
        await store.start()
    except StoreUnavailableError as problem:
        return [
            Finding(
                "error",
                "JWT_STORE_URI",
                f"the store cannot be reached ({problem}): protected requests get 503",
                "start it, or correct the address",
            )
        ]
    return [*_of_uri(settings.store_uri), *_of_status(store, settings)]


def _of_uri(uri: str) -> Iterator[Finding]:
    parts = urlsplit(uri)
    is_open = parts.scheme.partition("+")[0] in ("redis", "valkey")
    hosts = {re.sub(r":\d+$", "", part) for part in parts.netloc.rpartition("@")[2].split(",")}
    if is_open and not hosts <= {"localhost", "127.0.0.1", "[::1]", ""}:
        yield Finding(
            "warning", "JWT_STORE_URI", "the connection to the store is not encrypted", "use rediss://"
        )
        if not parts.netloc.rpartition("@")[0]:
            yield Finding(
                "warning",
                "JWT_STORE_URI",
                "the URI has no password: anyone who reaches the server can undo revocations",
                "require one, and put it in the URI",
            )
    if "on_outage=allow" in parts.query:
        yield Finding(
            "warning",
            "JWT_STORE_URI",
            "in an outage, revoked access tokens are accepted (on_outage=allow)",
            "remove it",
        )
    if "on_data_loss=accept" in parts.query:
        yield Finding(
            "warning",
            "JWT_STORE_URI",
            "after data loss, revoked tokens are accepted (on_data_loss=accept)",
            "remove it",
        )


def _of_status(store: Any, settings: Settings) -> Iterator[Finding]:
    status = store.status() if hasattr(store, "status") else None
    if status is None:
        return
    if status.may_evict:
        yield Finding(
            "error",
            "store",
            "the server may evict revocations to free memory",
            "set its maxmemory-policy to noeviction",
        )
    if status.persists is False:
        yield Finding(
            "warning",
            "store",
            "the server does not persist to disk: a restart signs everyone out",
            "set its appendonly to yes",
        )
    if status.read_only:
        yield Finding(
            "error",
            "store",
            "the server is a replica, which cannot store revocations",
            "use its primary, or the Sentinels",
        )
    ahead = status.clock_ahead
    if ahead is not None and abs(ahead) > 2:
        how = "ahead of" if ahead > 0 else "behind"
        yield Finding(
            "error" if abs(ahead) > settings.start_leeway else "warning",
            "clock",
            f"the store's clock is {abs(ahead):.0f} seconds {how} this machine's",
            "synchronize both clocks with NTP",
        )


def of_views(bound: AppState) -> Iterator[Finding]:
    """Find views that are neither protected nor marked public, and those that keep it from starting."""
    names = sorted({route.endpoint for route in routes_of(bound) if route.state == "open"})
    if names:
        yield Finding(
            "warning",
            "views",
            f"unprotected and not marked @public: {', '.join(names)}",
            "protect them, mark them with @public, or set JWT_DEFAULT_DENY = True",
        )
    for refuse in (refuse_once_in_vain, refuse_unreached_cookies, refuse_login_view):
        try:
            refuse(bound)
        except ConfigurationError as problem:
            yield Finding("error", "views", str(problem), "correct it: the application does not start")


def of_scopes(bound: AppState) -> Iterator[Finding]:
    """Find demands of scopes that no token meets, and words of `scopes_imply` that no view needs."""
    demanded = {
        name: route.endpoint
        for route in routes_of(bound)
        for policy in route.policies
        for choice in policy.scopes
        for name in choice
    }
    for name, endpoint in sorted(demanded.items()):
        if "*" in name:
            yield Finding(
                "warning",
                "views",
                f"{endpoint} demands the scope {name!r}: a wildcard means nothing, only that text matches",
                "name the scope, and say with scopes_imply() which wider ones imply it",
            )
    implied = bound.base_engine().hooks.implied_scopes
    for name in sorted(
        {word for words in implied.values() for word in words} - demanded.keys() - implied.keys()
    ):
        yield Finding(
            "warning",
            "scopes_imply",
            f"no decorator demands the scope {name!r}, which another one implies",
            "correct its spelling, unless verify_jwt_in_request() demands it",
        )


def of_hook_timeout(bound: AppState) -> Iterator[Finding]:
    """Find hooks that `JWT_HOOK_TIMEOUT` cannot interrupt: sync ones, in an application with sync views."""
    engine = bound.engine()
    plain = [hook.label for hook in engine.hooks.values() if not hook.is_async]
    if engine.settings.hook_timeout is not None and plain and hasattr(bound.app, "wsgi_app"):
        yield Finding(
            "warning",
            "JWT_HOOK_TIMEOUT",
            f"it cannot interrupt sync hooks in sync views: {', '.join(plain)}",
            "set a timeout in their drivers, or make the hooks async",
        )


async def of_hooks(
    operations: Operations, engine: Engine, login: Callable[[], Awaitable[Any]]
) -> list[Finding]:
    """Run all hooks of a login and a request for a user, without side effects."""
    try:
        token = await operations.create_access_token(await login(), expires_delta=dt.timedelta(seconds=60))
        await presented(engine, token, ACCESS)
    except Failure as problem:
        return [Finding("error", "hooks", problem.message, "pass an existing user")]
    except ConfigurationError:
        raise
    except JWTExtendedException as problem:
        return [
            Finding(
                "error",
                "hooks",
                f"this user's token is refused with {problem.status} {problem.error_code}: {problem}",
                "correct the return value of the hook it names",
            )
        ]
    except Exception as problem:  # noqa: BLE001  # the application's own: its text may contain anything
        return [Finding("error", "hooks", f"a hook raised {type(problem).__name__}", "correct the hook")]
    return []


def _seconds(life: Any) -> float:
    if life is None:
        return math.inf
    if isinstance(life, dt.timedelta):
        return life.total_seconds()
    now = dt.datetime.now(dt.UTC)
    moved: dt.datetime = now + life
    return (moved - now).total_seconds()
