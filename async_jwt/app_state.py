"""One manager's state for one application: live settings, store and engine."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from dataclasses import fields
from operator import is_
from typing import Any, Protocol

import anyio

from async_jwt.clock import Clock
from async_jwt.core.authenticate import RequestState
from async_jwt.core.cookie_scope import NONE, CookieScope, problem_with, scoped
from async_jwt.core.engine import Engine
from async_jwt.core.hooks import Hooks, checked
from async_jwt.core.issuer_registry import IssuerRegistry
from async_jwt.core.observer import Observer
from async_jwt.core.policy import Policy
from async_jwt.core.settings import KEYS, Settings, preset_of
from async_jwt.core.spelling import Unknown, unknown_settings
from async_jwt.errors import ConfigurationError, HookError, StoreUnavailableError
from async_jwt.issuers.issuer import Issuer
from async_jwt.keys.ring import KeyRing
from async_jwt.stores.contract import Store
from async_jwt.stores.memory import MemoryStore
from async_jwt.stores.wrapped import wrapped

__all__ = ["EXTENSION", "AppState", "Current", "FrameworkContext", "LiveSettings"]

EXTENSION = "async_jwt"
"""The key in `app.extensions` that holds an application's `AppState`."""

log: logging.Logger = logging.getLogger("async_jwt")

# Clients may make up tenants, and each has an engine of its own.
_MOST_SCOPES = 1000

Current = Callable[[], "tuple[AppState, Any | None]"]
"""Returns the application's state and the request that a call is about; None outside of a request."""


class FrameworkContext(Protocol):
    """What a framework knows about its applications, and which request it is serving."""

    @property
    def name(self) -> str:
        """The framework's name."""
        ...

    def serves(self, app: Any) -> bool:
        """True for an application of this framework."""
        ...

    def current(self) -> tuple[Any | None, Any | None]:
        """The application whose context is active and the request it is serving, both unproxied."""
        ...

    def config(self, app: Any, /) -> MutableMapping[str, Any]:
        """An application's configuration."""
        ...

    def extensions(self, app: Any, /) -> MutableMapping[str, Any]:
        """Where an application's extensions keep their state (the Flask convention `app.extensions`)."""
        ...

    def label(self, app: Any, /) -> str:
        """An application's name, for messages."""
        ...

    def context(self, app: Any, /) -> AbstractAsyncContextManager[None]:
        """A context in which an application is current."""
        ...

    def json_default(self, app: Any, /) -> Callable[[Any], Any]:
        """The `default` function of an application's JSON: converts values that JSON cannot represent."""
        ...

    def reach(self, store: Store, /) -> Store:
        """Wrap a store so that this framework's requests reach it on the event loop where it lives."""
        ...

    def expose(self, function: Callable[..., Coroutine[Any, Any, Any]], current: Current, /) -> Any:
        """Adapt a coroutine function for applications: unchanged, run on the store loop, or blocking.

        Args:
            function: the coroutine function.
            current: returns the application that a call is about.
        """
        ...


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
        self._defaults = {
            spec.metadata["key"]: copy.copy(spec.metadata[self._preset]) for spec in fields(Settings)
        }
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


class AppState:
    """One manager's state for one application.

    Args:
        app: the application.
        framework: its framework.
        slot: the manager's prefix for the request attribute that holds a `RequestState`.
        hooks: the manager's hooks.
        ring: the manager's keys; None builds them from the settings.
        store: the manager's store; None opens the one at `JWT_STORE_URI`.
        issuers: the manager's issuers, besides those of `JWT_ISSUERS`.
        clock: returns seconds since the epoch.

    Attributes:
        app: as given.
        registry: the issuers whose tokens are accepted.
        slot: the request attribute that holds a `RequestState`. It is unique to this state, so that another
            application's checks of the same request stay separate.
        observer: measures checks, hooks and store calls; None measures nothing.
        demands: by endpoint and method, the view it was read from and what that view demands.
        around: likewise, with `JWT_DEFAULT_DENY`, what blueprints and the application demand of it.
        finishes: True once responses pass through the function that sets what checks left for them.

    Raises:
        ConfigurationError: a setting is invalid.
    """

    def __init__(
        self,
        app: Any,
        framework: FrameworkContext,
        slot: str,
        hooks: Hooks,
        ring: KeyRing | None,
        store: Store | None,
        issuers: tuple[Issuer, ...],
        clock: Clock,
    ) -> None:
        self.app = app
        self.registry: IssuerRegistry = IssuerRegistry()
        self._given_issuers = issuers
        self.slot: str = f"{slot}_{id(self)}"
        self._engine_slot = f"{self.slot}_engine"
        self._framework = framework
        self._hooks = hooks
        self._ring = ring
        self._given_store = store
        self._clock = clock
        self._live = LiveSettings(framework.config(app))
        self._store_uri = ""
        self._opened: Store
        self._overridden: Store | None = None
        self.observer: Observer | None = None
        self._engine: Engine
        self._rebuild()
        self._warned: set[str] = set()
        self.demands: dict[tuple[str, str], tuple[Any, tuple[Policy, ...]]] = {}
        self.around: dict[tuple[str, str], tuple[Any, bool, Any]] = {}
        self.finishes: bool = False

    def engine(self) -> Engine:
        """Return the application's engine, rebuilt if its settings have changed.

        Raises:
            ConfigurationError: a setting was changed to an invalid value.
        """
        config = self._framework.config(self.app)
        if self._live.has_changed(config):
            self._reload(config)
        return self._scoped_engine() if "cookie_scope" in self._hooks else self._engine

    def base_engine(self) -> Engine:
        """Return the engine of the application as a whole, whatever the cookie scope of the request.

        Raises:
            ConfigurationError: a setting was changed to an invalid value.
        """
        config = self._framework.config(self.app)
        if self._live.has_changed(config):
            self._reload(config)
        return self._engine

    def _scoped_engine(self) -> Engine:
        """Return the engine for the cookie scope of the request being served.

        Raises:
            HookError: `cookie_scope_loader` returned something that it may not. The request then accepts no
                token.
        """
        request, base = self.current_request(), self._engine
        if request is None:
            return base
        known: Engine | None = getattr(request, self._engine_slot, None)
        if known is None:
            # Until the loader has answered, and if it fails.
            setattr(request, self._engine_slot, base.in_scope(NONE, base.settings))
            hook = self._hooks["cookie_scope"]
            known = _engine_for(base, checked(hook, hook.function(request), truth_counts=False))
            setattr(request, self._engine_slot, known)
        return known

    @property
    def unknown_settings(self) -> tuple[Unknown, ...]:
        """Settings that look like ours but that nothing reads."""
        self.base_engine()
        return self._live.unknown

    @property
    def store(self) -> Store:
        """The revocation store in use: as given or opened, unless `override` replaced it."""
        self.base_engine()
        return self._opened if self._overridden is None else self._overridden

    def request_state(self, request: Any) -> RequestState:
        """Return the request's check state, which begins now if no check has begun.

        Args:
            request: the request being served.
        """
        state: RequestState | None = getattr(request, self.slot, None)
        if state is None:
            state = RequestState()
            setattr(request, self.slot, state)
        return state

    def state_of(self, request: Any | None) -> RequestState:
        """Return the request's check state; an empty one, kept nowhere, if no check has begun.

        Args:
            request: the request being served; None outside of one.
        """
        state: RequestState | None = getattr(request, self.slot, None)
        if state is None:
            state = RequestState()
            state.in_request = request is not None
        return state

    def current_request(self) -> Any | None:
        """Return the request being served; None outside of one."""
        return self._framework.current()[1]

    def context(self) -> AbstractAsyncContextManager[None]:
        """A context in which the application is current."""
        return self._framework.context(self.app)

    async def start(self) -> None:
        """Run the startup checks, and connect the store.

        Raises:
            ConfigurationError: a key is missing, or `JWT_HOOK_TIMEOUT` cannot be enforced on a hook.
        """
        engine = self.base_engine()
        if "decode_key" not in self._hooks:
            await engine.active_keys()
        engine.refuse_untold_lookup()
        for source in self.registry.configured:
            await source.warm(self._clock)
        try:
            await engine.store.start()
        except StoreUnavailableError:
            log.error(
                "Cannot reach the revocation store; requests are refused with 503 until it answers",
                extra={"event": "store_unavailable"},
            )

    async def close(self) -> None:
        """Release the store's connections."""
        await self.base_engine().store.close()

    def take_hook(self, name: str) -> None:
        """Take note of a hook that was registered after this application.

        Raises:
            ConfigurationError: `JWT_HOOK_TIMEOUT` cannot be enforced on it.
        """
        if self.base_engine().settings.hook_timeout is not None:
            self._hooks.refuse_untimed()
        if name == "issuer":
            self._rebuild()

    def warn_once(self, event: str, text: str, *args: Any, about: str = "") -> None:
        """Log a warning once per event and endpoint.

        Args:
            event: the `event` of the log record.
            text: the message, in `logging`'s format.
            args: its arguments.
            about: the endpoint that the warning is about; "" if it is about none.
        """
        if f"{event} {about}" not in self._warned:
            self._warned.add(f"{event} {about}")
            log.warning(text, *args, extra={"event": event, **({"endpoint": about} if about else {})})

    def warn_of_memory(self) -> None:
        """Warn that other processes cannot see the memory store, unless it was chosen explicitly."""
        if self._given_store is None and self._live.is_default("JWT_STORE_URI"):
            self.warn_once(
                "store_in_memory",
                "Revocations and sessions are kept in this process's memory: other processes cannot see "
                'them, and a restart loses them. Set JWT_STORE_URI = "redis://..." (or "memory://" if this '
                "is intended)",
            )

    def observe(self, observer: Observer | None) -> None:
        """Measure checks, hooks and store calls from now on; None stops measuring."""
        self.observer = observer
        self._rebuild()

    @contextmanager
    def override(self, *, clock: Clock | None = None, store: Store | None = None) -> Iterator[None]:
        """Temporarily use another clock or another store, as tests do.

        Args:
            clock: returns seconds since the epoch; the memory store uses it too.
            store: replaces the application's own store.
        """
        before = self._clock, self._overridden
        with ExitStack() as stack:
            if clock is not None:
                self._clock = clock
                if isinstance(self._opened, MemoryStore):
                    stack.callback(setattr, self._opened, "clock", self._opened.clock)
                    self._opened.clock = clock
            if store is not None:
                self._overridden = store
            self._rebuild()
            try:
                yield
            finally:
                self._clock, self._overridden = before
                self._rebuild()

    def with_own_store(self) -> AppState:
        """Return a copy of this state that uses the application's own store, without any override."""
        other = copy.copy(self)
        other.end_override()
        return other

    def end_override(self) -> None:
        """Use the application's own store again."""
        self._overridden = None
        self._rebuild()

    def _reload(self, config: MutableMapping[str, Any]) -> None:
        # An extension may have replaced the configuration.
        live = copy.copy(self._live) if self._live.config is config else LiveSettings(config)
        if live.current() is not self._engine.settings:
            self._rebuild(live)
        self._live = live

    def _rebuild(self, live: LiveSettings | None = None) -> None:
        """Build the engine anew. If that fails, the settings count as changed until it succeeds."""
        live = live or copy.copy(self._live)
        settings = live.current()
        if settings.hook_timeout is not None:
            self._hooks.refuse_untimed()
        if settings.key_folder is not None and self._ring is not None:
            raise ConfigurationError(
                "Set JWT_KEY_FOLDER or pass JWTManager(keys=...), not both: only one can hold the keys"
            )
        if self._given_store is not None:
            self._opened = self._given_store
        elif settings.store_uri != self._store_uri:
            self._opened = open_store(settings.store_uri, self._clock)
            self._store_uri = settings.store_uri
        store = self._opened if self._overridden is None else self._overridden
        issuers = (*self._given_issuers, *settings.issuers)
        if any(issuer.url == settings.encode_issuer for issuer in issuers):
            raise ConfigurationError(
                f"JWT_ENCODE_ISSUER = {settings.encode_issuer!r} is also configured as another issuer: give "
                "this application an `iss` of its own"
            )
        self.registry.configure(issuers)
        self._engine = Engine(
            settings,
            self._hooks,
            self._ring,
            self._framework.reach(_bounded(store, settings.hook_timeout)),
            self._clock,
            self._json_default,
            self.observer,
            self.registry if issuers or "issuer" in self._hooks else None,
        )
        self._live = live

    def _json_default(self, value: Any) -> Any:
        return self._framework.json_default(self.app)(value)  # at call time: the provider may be set later


def _engine_for(base: Engine, scope: CookieScope | None) -> Engine:
    """Return an engine for one cookie scope.

    Raises:
        HookError: the scope is none.
    """
    known = base.scoped.get(scope)
    if known is None:
        settings = base.settings
        if scope is not None:
            problem = problem_with(scope, settings)
            if problem is not None:
                text = f"cookie_scope_loader returned {scope!r}: {problem}"
                log.error("%s", text, extra={"event": "hook_error", "hook": "cookie_scope"})
                raise HookError(text)
            settings = scoped(settings, scope)
        if len(base.scoped) >= _MOST_SCOPES:
            base.scoped.clear()
        known = base.scoped[scope] = base.in_scope(None if scope is None else scope.name, settings)
    return known


def _bounded(store: Store, limit: float | None) -> Store:
    """Limit a store's calls to `JWT_HOOK_TIMEOUT`. A store that never waits is returned unchanged."""
    if limit is None or getattr(store, "awaits_nothing", False):
        return store

    def bound(name: str, call: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        async def bounded(*args: Any, **kwargs: Any) -> Any:
            with anyio.move_on_after(limit):
                return await call(*args, **kwargs)
            raise StoreUnavailableError(f"{type(store).__name__}.{name}() took longer than JWT_HOOK_TIMEOUT")

        return bounded

    bounded_store: Store = wrapped(store, bound)
    return bounded_store


def open_store(uri: str, clock: Clock) -> Store:
    """Open the store that a URI names.

    Raises:
        ConfigurationError: the URI is invalid, or its extra is not installed.
    """
    if uri == "memory://":
        return MemoryStore(clock=clock)
    if uri.startswith("memory:"):
        raise ConfigurationError('JWT_STORE_URI = "memory://" takes no host and no options')
    try:
        from async_jwt.stores.redis import RedisStore  # noqa: PLC0415  # an extra, imported on demand
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != "redis":
            raise
        raise ConfigurationError(
            'JWT_STORE_URI needs the redis extra: pip install "async-jwt[redis]"'
        ) from None
    return RedisStore(uri)
