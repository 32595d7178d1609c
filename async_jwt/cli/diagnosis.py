"""What the doctor looks at: each function names mistakes, and the fix of each."""

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

from async_jwt.adapters._route_audit import routes_of
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
    "of_settings",
    "of_store",
    "of_views",
]

Level = Literal["error", "warning"]

_DAY = 86400.0
# Browsers keep no cookie for longer than 400 days (RFC 6265bis).
_LONGEST_REFRESH = 400 * _DAY
_UNSAFE: Final = ("DELETE", "PATCH", "POST", "PUT")
# Words of tutorials, by themselves: random letters spell them now and then, but not between dashes.
_TUTORIALS: Final = re.compile(
    rb"(?<![a-z0-9])(change-?_?me|default|development|example|password|please|production|secret|super|testing|your)(?![a-z0-9])"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not well.

    Attributes:
        level: "error" for what is unsafe or does not work, "warning" for what may be meant.
        about: the setting, or the part, in question.
        what: what is not well.
        fix: what to do.
    """

    level: Level
    about: str
    what: str
    fix: str


def of_settings(settings: Settings) -> Iterator[Finding]:
    """What the settings say."""
    yield from _of_tokens(settings)
    yield from _of_locations(settings)
    if "cookies" in settings.token_location:
        yield from _of_cookies(settings)
        yield from _of_csrf(settings)


def of_names(bound: AppState) -> Iterator[Finding]:
    """Settings that nothing reads."""
    for unknown in bound.unknown_settings:
        what, _, fix = unknown.text.partition(". ")
        yield Finding("warning", unknown.key, re.sub("^Nothing", "nothing", what), fix or "leave it out")


def of_paths(bound: AppState) -> Iterator[Finding]:
    """Cookie paths under which no view reads the cookie: browsers never send it there."""
    settings, routes = bound.engine().settings, routes_of(bound)
    if "cookies" not in settings.token_location or bound.app.config.get("APPLICATION_ROOT", "/") != "/":
        return
    for kind, path in (("access", settings.access_cookie_path), ("refresh", settings.refresh_cookie_path)):
        rules = [
            route.rule
            for route in routes
            for policy in route.policies
            if policy.refresh == (kind == "refresh")
            and "cookies" in (policy.locations or settings.token_location)
        ]
        if path != "/" and not any(_lies_under(rule, path) for rule in rules):
            yield Finding(
                "warning",
                f"JWT_{kind.upper()}_COOKIE_PATH",
                f"no view that takes {kind} tokens lies under {path}: browsers never send the cookie there",
                "set it to the path of such a view, or of all of them",
            )


def _lies_under(rule: str, path: str) -> bool:
    """Whether a browser sends a cookie of a path to a rule (RFC 6265 §5.1.4), or may do so."""
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
            "set minutes: timedelta(minutes=15)",
        )
    elif access > _DAY:
        yield Finding(
            "warning",
            "JWT_ACCESS_TOKEN_EXPIRES",
            "access tokens live longer than a day",
            "let them live for minutes, and refresh them",
        )
    if refresh == math.inf:
        yield Finding(
            "warning",
            "JWT_REFRESH_TOKEN_EXPIRES",
            "refresh tokens never expire",
            "set days: timedelta(days=30)",
        )
    elif refresh > _LONGEST_REFRESH:
        yield Finding(
            "warning",
            "JWT_REFRESH_TOKEN_EXPIRES",
            f"refresh tokens live for {refresh / _DAY:.0f} days",
            "set the days that a device may stay unused: each use begins them anew",
        )
    elif refresh <= access:
        yield Finding(
            "error",
            "JWT_REFRESH_TOKEN_EXPIRES",
            "refresh tokens do not outlive the access tokens that they are to replace",
            "make it longer than JWT_ACCESS_TOKEN_EXPIRES",
        )
    if max(settings.expiry_leeway, settings.start_leeway) > 300:
        yield Finding(
            "warning",
            "JWT_DECODE_LEEWAY",
            "expired tokens are accepted for minutes",
            "set the few seconds by which clocks differ",
        )
    grace = settings.refresh_grace
    if isinstance(grace, float | int) and 0 < grace <= settings.refresh_late_after:
        yield Finding(
            "warning",
            "JWT_REFRESH_LATE_AFTER",
            "it is as long as JWT_REFRESH_GRACE: whoever follows with a copied refresh token is never late",
            "make it shorter than JWT_REFRESH_GRACE",
        )
    if isinstance(grace, float | int) and grace > 120:
        yield Finding(
            "warning",
            "JWT_REFRESH_GRACE",
            "a refresh token that was copied can be used for minutes after it was replaced",
            "set seconds: the default is 10",
        )
    if not settings.require_type and not settings.is_compat:
        yield Finding(
            "warning",
            "JWT_REQUIRE_TYPE",
            "a token without `type` counts as an access token",
            "set it to True unless the tokens are of a foreign issuer",
        )


def _of_locations(settings: Settings) -> Iterator[Finding]:
    if "query_string" in settings.token_location:
        yield Finding(
            "warning",
            "JWT_TOKEN_LOCATION",
            "tokens in query strings end in logs, histories and Referer headers",
            "leave query_string out, and allow it with jwt_required(locations=...) where it must be",
        )


def _of_cookies(settings: Settings) -> Iterator[Finding]:
    if not settings.cookie_secure and not settings.debug:
        yield Finding(
            "error",
            "JWT_COOKIE_SECURE",
            "cookies are sent over http, where anybody reads them",
            "set it to True; False is for local development",
        )
    if settings.cookie_samesite in (None, "None") and not settings.is_compat:
        yield Finding(
            "warning",
            "JWT_COOKIE_SAMESITE",
            "cookies are sent along with requests from other sites",
            'set "Lax" or "Strict", unless your pages stand on another site',
        )
    if settings.cookie_domain is not None:
        yield Finding(
            "warning",
            "JWT_COOKIE_DOMAIN",
            "every host of the domain gets the tokens, and can set such cookies",
            'leave it out, and set JWT_COOKIE_PREFIX = "__Host-"',
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
                f"{count} cookies have the name {name}",
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
            "warning", "JWT_CSRF_CHECK_ORIGIN", "the Origin of requests is not looked at", "set it to True"
        )
    for origin in sorted(settings.trusted_origins or ()):
        if settings.cookie_secure and urlsplit(origin).scheme == "http":
            yield Finding(
                "warning",
                "JWT_TRUSTED_ORIGINS",
                f"{origin} is trusted, whose pages anybody on the way can change",
                "trust https origins only",
            )


def of_keys(engine: Engine) -> Iterator[Finding]:
    """What the keys are worth. They are loaded."""
    settings, ring, now = engine.settings, engine.ring, engine.clock()
    own = [key for key in ring.keys if key.can_sign]
    if own or "encode_key" in engine.hooks:
        yield from _of_own_tokens(settings)
    for key in ring.keys:
        if key.algorithm.startswith("HS"):
            yield from _of_secret(key, settings)
    if engine.has_keys_of_settings and settings.secret_key is None and settings.algorithm.startswith("HS"):
        yield Finding(
            "warning",
            "JWT_SECRET_KEY",
            "SECRET_KEY signs tokens as well as the framework's sessions: whoever learns it has both",
            "give tokens a secret of their own",
        )
    if own and not any(now < key.accepted_until for key in own):
        yield Finding(
            "error",
            "keys",
            "the time of all keys is over, and no token can be made",
            "make one: `keys rotate`",
        )
    last = max(own, key=lambda key: key.accepted_until, default=None)
    if last is not None and now < last.accepted_until < now + 7 * _DAY:
        yield Finding(
            "warning",
            "keys",
            f"the key {last.kid} is accepted for less than a week, and none follows it",
            "bring in the next one: `keys rotate`",
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
                "it accepts none of this application's own tokens",
                f"let JWT_ENCODE_{name} be one that it names",
            )


def _of_files(folder: KeyFolder) -> Iterator[Finding]:
    if folder.path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield Finding(
            "error",
            "JWT_KEY_FOLDER",
            f"others than its owner can put keys into {folder.path}",
            f"chmod go-w {folder.path}",
        )
    for file in folder.files():
        mode = file.stat().st_mode
        if mode & stat.S_IRWXO or mode & stat.S_IWGRP:
            yield Finding("error", "JWT_KEY_FOLDER", f"everybody can read {file}", f"chmod 600 {file}")
        elif mode & stat.S_IRGRP:
            yield Finding(
                "warning",
                "JWT_KEY_FOLDER",
                f"the group of {file} can read it",
                f"chmod 600 {file}, unless it is meant",
            )


def _of_secret(key: Key, settings: Settings) -> Iterator[Finding]:
    data = urlsafe_b64decode(key.private_jwk()["k"] + "==")
    about = _name_of(data, settings) or f"the key {key.kid}"
    fix = f"take one from secrets.token_hex(64) for {about}"
    least = int(key.algorithm[2:]) // 8
    if len(data) < least:
        yield Finding("error", about, f"it is shorter than {least} bytes, so that tokens can be forged", fix)
    elif len(set(data)) < 10:
        yield Finding("error", about, "it is made of few different letters, so that it can be guessed", fix)
    elif _TUTORIALS.search(data.lower()):
        yield Finding("error", about, "it looks like one from a tutorial, so that it can be guessed", fix)


def _name_of(secret: bytes, settings: Settings) -> str | None:
    """The setting that holds a secret."""
    named = {
        "JWT_SECRET_KEY": settings.secret_key,
        "SECRET_KEY": settings.app_secret_key,
        **{f"JWT_SECRET_KEY_FALLBACKS[{n}]": old for n, old in enumerate(settings.secret_fallbacks or ())},
        **{f"SECRET_KEY_FALLBACKS[{n}]": old for n, old in enumerate(settings.app_secret_fallbacks or ())},
    }
    texts = {name: text.encode() if isinstance(text, str) else text for name, text in named.items()}
    return next((name for name, text in texts.items() if text == secret), None)


async def of_store(bound: AppState) -> list[Finding]:
    """How the store fares, as a process that begins finds it."""
    store, settings = bound.store, bound.engine().settings
    if getattr(store, "awaits_nothing", False):
        if settings.debug:
            return []
        return [
            Finding(
                "warning",
                "JWT_STORE_URI",
                "revocations and sessions are kept in one process's memory: others do not know of them, and "
                "a restart forgets them",
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
                f"the store cannot be reached ({problem}): protected requests are answered 503",
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
            "warning", "JWT_STORE_URI", "what is said to the store can be read on the way", "use rediss://"
        )
        if not parts.netloc.rpartition("@")[0]:
            yield Finding(
                "warning",
                "JWT_STORE_URI",
                "no password is given: whoever reaches the server can undo revocations",
                "require one, and give it in the URI",
            )
    if "on_outage=allow" in parts.query:
        yield Finding(
            "warning",
            "JWT_STORE_URI",
            "in an outage revoked access tokens pass (on_outage=allow)",
            "leave it out",
        )
    if "on_data_loss=accept" in parts.query:
        yield Finding(
            "warning",
            "JWT_STORE_URI",
            "once the server lost its data, revoked tokens pass (on_data_loss=accept)",
            "leave it out",
        )


def _of_status(store: Any, settings: Settings) -> Iterator[Finding]:
    status = store.status() if hasattr(store, "status") else None
    if status is None:
        return
    if status.may_evict:
        yield Finding(
            "error",
            "store",
            "the server may drop revocations to make room",
            "set its maxmemory-policy to noeviction",
        )
    if status.persists is False:
        yield Finding(
            "warning",
            "store",
            "the server keeps nothing on disk: after its restart everybody signs in again",
            "set its appendonly to yes",
        )
    if status.read_only:
        yield Finding(
            "error",
            "store",
            "the server is a replica, which cannot revoke",
            "name its primary, or the Sentinels",
        )
    ahead = status.clock_ahead
    if ahead is not None and abs(ahead) > 2:
        how = "ahead of" if ahead > 0 else "behind"
        yield Finding(
            "error" if abs(ahead) > settings.start_leeway else "warning",
            "clock",
            f"the store's clock is {abs(ahead):.0f} seconds {how} this machine's",
            "let both follow the time with NTP",
        )


def of_views(bound: AppState) -> Iterator[Finding]:
    """Views that nobody decided about."""
    names = sorted({route.endpoint for route in routes_of(bound) if route.state == "open"})
    if names:
        yield Finding(
            "warning",
            "views",
            f"open to everybody, and not marked: {', '.join(names)}",
            "protect them, mark them with @public, or set JWT_DEFAULT_DENY = True",
        )


def of_hook_timeout(bound: AppState) -> Iterator[Finding]:
    """Hooks that `JWT_HOOK_TIMEOUT` cannot interrupt: plain ones, in an application of plain views."""
    engine = bound.engine()
    plain = [hook.label for hook in engine.hooks.values() if not hook.is_async]
    if engine.settings.hook_timeout is not None and plain and hasattr(bound.app, "wsgi_app"):
        yield Finding(
            "warning",
            "JWT_HOOK_TIMEOUT",
            f"it cannot interrupt plain hooks in plain views: {', '.join(plain)}",
            "give their drivers a timeout of their own, or make the hooks async",
        )


async def of_hooks(
    operations: Operations, engine: Engine, login: Callable[[], Awaitable[Any]]
) -> list[Finding]:
    """What the hooks say of a user: all that a login and a request ask, without consequences."""
    try:
        token = await operations.create_access_token(await login(), expires_delta=dt.timedelta(seconds=60))
        await presented(engine, token, ACCESS)
    except Failure as problem:
        return [Finding("error", "hooks", problem.message, "give a user that there is")]
    except ConfigurationError:
        raise
    except JWTExtendedException as problem:
        return [
            Finding(
                "error",
                "hooks",
                f"the token of this user is refused with {problem.status} {problem.error_code}: {problem}",
                "correct what the hook that it names returns",
            )
        ]
    except Exception as problem:  # noqa: BLE001  # the application's own, whose text may hold anything
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
