"""One manager at one application: its live settings, its store and its engine."""

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
from async_jwt.core.engine import Engine
from async_jwt.core.hooks import Hooks
from async_jwt.core.observer import Observer
from async_jwt.core.policy import Policy
from async_jwt.core.settings import KEYS, Settings, preset_of
from async_jwt.core.spelling import Unknown, unknown_settings
from async_jwt.errors import ConfigurationError, StoreUnavailableError
from async_jwt.keys.ring import KeyRing
from async_jwt.stores.contract import Store
from async_jwt.stores.memory import MemoryStore
from async_jwt.stores.wrapped import wrapped

__all__ = ["EXTENSION", "AppState", "Current", "FrameworkContext", "LiveSettings"]

EXTENSION = "async_jwt"
"""The key of an application's extensions that holds its `AppState`."""

log: logging.Logger = logging.getLogger("async_jwt")


Current = Callable[[], "tuple[AppState, RequestState]"]
"""Returns the application and the request that a call is about; outside of a request, an empty state."""


class FrameworkContext(Protocol):
    """What a framework says about its applications, and which request it is serving."""

    @property
    def name(self) -> str:
        """The framework's name."""
        ...

    def serves(self, app: Any) -> bool:
        """True for an application of this framework."""
        ...

    def current(self) -> tuple[Any | None, Any | None]:
        """The application whose context is active, and the request that it is serving; not proxies."""
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
        """Turns values that JSON does not know into ones that it does, as an application's JSON does."""
        ...

    def reach(self, store: Store, /) -> Store:
        """A store as this framework's requests reach it, on whichever event loop it lives."""
        ...

    def expose(self, function: Callable[..., Coroutine[Any, Any, Any]], current: Current, /) -> Any:
        """A coroutine function as applications call it: as it is, on the store's loop, or blocking.

        Args:
            function: the coroutine function.
            current: says which application a call is about.
        """
        ...


class LiveSettings:
    """An application's settings, read again whenever its configuration has changed.

    Writes the defaults into the configuration, so that they can be read there, and compares
    the keys' values at each `current()`: a few microseconds, and no stale setting.

    Args:
        config: the application's configuration; kept and read again.

    Attributes:
        config: as given.
        settings: the settings, as they were read last.
        unknown: settings that nothing reads. The log has named them.

    Raises:
        ConfigurationError: a value is wrong, or a name misspelled.
    """

    def __init__(self, config: MutableMapping[str, Any]) -> None:
        self.config = config
        self._preset = preset_of(config)
        # Copies: an application may add to a list that it finds in its configuration.
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
        """True if the configuration is not as it was read.

        Args:
            config: the application's configuration now; an extension may have replaced it.
        """
        values = config.values()
        # All values and not ours alone: walking them is faster than looking ours up. The same objects, for
        # equal ones may differ: False is not 0.
        if config is self.config and len(values) == len(self._seen) and all(map(is_, values, self._seen)):
            return any(config[key] != kept for key, kept in self._copies) if self._copies else False
        return True

    def current(self) -> Settings:
        """The settings as the configuration stands now.

        Raises:
            ConfigurationError: a value was changed to a wrong one.
        """
        if self.has_changed(self.config):
            self._reload()
        return self.settings

    def is_default(self, key: str) -> bool:
        """Whether a key holds what was written here, and not a value of the application."""
        return key not in self._given and self.config[key] is self._defaults[key]

    def _reload(self) -> None:
        config = self.config
        if preset_of(config) != self._preset:
            # Its defaults already stand in the configuration, where nobody could tell them
            # from values of the application any more.
            raise ConfigurationError("JWT_COMPAT must be set before JWTManager(app) or init_app(app)")
        for key, value in self._defaults.items():
            config.setdefault(key, value)
        settings = Settings.from_config(config)
        self._check_names(settings)
        self._check_fallbacks(settings)
        if settings != getattr(self, "settings", None):  # not when another value of the app changed
            self.settings = settings
        self._seen = [*config.values()]
        # A change inside one of these leaves it the same object.
        self._copies = tuple(
            (key, config[key].copy()) for key in KEYS if isinstance(config[key], (list, set, dict))
        )

    def _check_names(self, settings: Settings) -> None:
        """Refuse misspelled settings, and name those that nothing reads, once each."""
        given = (key for key in self.config if isinstance(key, str))
        found = tuple(unknown_settings(given, KEYS, settings.ignored_settings, is_compat=settings.is_compat))
        for unknown in found:
            if unknown.is_refused:
                raise ConfigurationError(unknown.text)
        for unknown in set(found) - set(self.unknown):
            log.warning("%s", unknown.text, extra={"event": "unknown_setting"})
        self.unknown = found

    def _check_fallbacks(self, settings: Settings) -> None:
        """Say once that fallbacks of one secret are not those of the other."""
        unused = settings.secret_key is not None and settings.app_secret_fallbacks is not None
        if not unused or settings.secret_fallbacks is not None or self._warned_of_fallbacks:
            return
        self._warned_of_fallbacks = True
        log.warning(
            "SECRET_KEY_FALLBACKS verify no token where JWT_SECRET_KEY is set: put its former values into "
            "JWT_SECRET_KEY_FALLBACKS, which may be empty ([])",
            extra={"event": "fallbacks_in_vain"},
        )


class AppState:
    """What a manager keeps for one application.

    Args:
        app: the application.
        framework: its framework.
        slot: the manager's name for the attribute of request objects that holds a `RequestState`.
        hooks: the manager's hooks.
        ring: the manager's keys; None takes those of the settings.
        store: the manager's store; None takes that of `JWT_STORE_URI`.
        clock: seconds since the epoch.

    Attributes:
        app: as given.
        slot: the attribute of request objects that holds their `RequestState`: another application's checks
            of the same request are kept apart.
        observer: what measures checks, hooks and store calls; None measures nothing.
        demands: what the view of an endpoint demands for a method, and which view that was found out of.

    Raises:
        ConfigurationError: a setting is wrong.
    """

    def __init__(
        self,
        app: Any,
        framework: FrameworkContext,
        slot: str,
        hooks: Hooks,
        ring: KeyRing | None,
        store: Store | None,
        clock: Clock,
    ) -> None:
        self.app = app
        self.slot: str = f"{slot}_{id(self)}"
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

    def engine(self) -> Engine:
        """The application's engine under its settings as they stand now.

        Raises:
            ConfigurationError: a setting was changed to a wrong value.
        """
        config = self._framework.config(self.app)
        if self._live.has_changed(config):
            self._reload(config)
        return self._engine

    @property
    def unknown_settings(self) -> tuple[Unknown, ...]:
        """Settings that look like ours, and that nothing reads."""
        self.engine()
        return self._live.unknown

    @property
    def store(self) -> Store:
        """The revocation store, as it was given or opened."""
        self.engine()
        return self._opened if self._overridden is None else self._overridden

    @property
    def label(self) -> str:
        """The application's name, for messages."""
        return self._framework.label(self.app)

    def request_state(self, request: Any | None) -> RequestState:
        """What was found out about a request so far.

        Args:
            request: the request; None gives an empty state that belongs to no request.
        """
        state: RequestState | None = getattr(request, self.slot, None)
        if state is None:
            state = RequestState()
            if request is None:
                state.in_request = False
            else:
                setattr(request, self.slot, state)
        return state

    def current_request_state(self) -> RequestState:
        """What was found out about the request being served; an empty state outside of one."""
        return self.request_state(self._framework.current()[1])

    def context(self) -> AbstractAsyncContextManager[None]:
        """A context in which the application is current."""
        return self._framework.context(self.app)

    async def start(self) -> None:
        """Check what can only be checked now, and connect the store.

        Raises:
            ConfigurationError: a key is missing, or a hook cannot be kept within
                `JWT_HOOK_TIMEOUT`.
        """
        engine = self.engine()
        if "decode_key" not in self._hooks:
            await engine.active_keys()
        try:
            await engine.store.start()
        except StoreUnavailableError:
            log.error(
                "The revocation store cannot be reached yet; requests are refused with 503 until it can",
                extra={"event": "store_unavailable"},
            )

    async def close(self) -> None:
        """Release the store's connections."""
        await self.engine().store.close()

    def refuse_untimed_hooks(self) -> None:
        """Refuse hooks that could not be stopped in time.

        Raises:
            ConfigurationError: there is one.
        """
        if self.engine().settings.hook_timeout is not None:
            self._hooks.refuse_untimed()

    def warn_once(self, event: str, text: str, *args: Any, about: str = "") -> None:
        """Log a warning, once for each thing that it is about.

        Args:
            event: the `event` of the log record.
            text: the text, as `logging` formats it.
            args: its arguments.
            about: what it is about.
        """
        if f"{event} {about}" not in self._warned:
            self._warned.add(f"{event} {about}")
            log.warning(text, *args, extra={"event": event, **({"endpoint": about} if about else {})})

    def warn_of_memory(self) -> None:
        """Warn that other processes do not see what the memory store holds, unless it was chosen."""
        if self._given_store is None and self._live.is_default("JWT_STORE_URI"):
            self.warn_once(
                "store_in_memory",
                "Revocations and sessions are kept in this process's memory: other processes do not know of "
                'them, and a restart forgets them. Set JWT_STORE_URI = "redis://..." (or "memory://" if '
                "that is meant)",
            )

    def observe(self, observer: Observer | None) -> None:
        """Measure checks, hooks and store calls from now on; None ends that."""
        self.observer = observer
        self._rebuild()

    @contextmanager
    def override(self, *, clock: Clock | None = None, store: Store | None = None) -> Iterator[None]:
        """Use another clock or another store for a while, as tests do.

        Args:
            clock: seconds since the epoch; the memory store goes by it too.
            store: answers in the place of the application's own.
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
        """The same application as if no other store answered in the place of its own."""
        other = copy.copy(self)
        other.end_override()
        return other

    def end_override(self) -> None:
        """Let the application's own store answer again."""
        self._overridden = None
        self._rebuild()

    def _reload(self, config: MutableMapping[str, Any]) -> None:
        if self._live.config is not config:  # as by an extension that loads settings
            self._live = LiveSettings(config)
        if self._live.current() is not self._engine.settings:
            self._rebuild()

    def _rebuild(self) -> None:
        settings = self._live.current()
        if settings.hook_timeout is not None:
            self._hooks.refuse_untimed()
        if settings.key_folder is not None and self._ring is not None:
            raise ConfigurationError(
                "JWT_KEY_FOLDER must not be set beside JWTManager(keys=...): one holds the keys"
            )
        if self._given_store is not None:
            self._opened = self._given_store
        elif settings.store_uri != self._store_uri:
            self._opened = open_store(settings.store_uri, self._clock)
            self._store_uri = settings.store_uri
        store = self._opened if self._overridden is None else self._overridden
        self._engine = Engine(
            settings,
            self._hooks,
            self._ring,
            self._framework.reach(_bounded(store, settings.hook_timeout)),
            self._clock,
            self._json_default,
            self.observer,
        )

    def _json_default(self, value: Any) -> Any:
        return self._framework.json_default(self.app)(value)  # whose provider may be set later


def _bounded(store: Store, limit: float | None) -> Store:
    """A store whose calls take no longer than `JWT_HOOK_TIMEOUT`; one that never waits as it is."""
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
    """The store that a URI names.

    Raises:
        ConfigurationError: the URI is wrong, or its extra is not installed.
    """
    if uri == "memory://":
        return MemoryStore(clock=clock)
    if uri.startswith("memory:"):
        raise ConfigurationError('JWT_STORE_URI = "memory://" takes no host and no options')
    try:
        from async_jwt.stores.redis import RedisStore  # noqa: PLC0415  # an extra, loaded when named
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != "redis":
            raise
        raise ConfigurationError(
            'JWT_STORE_URI needs the redis extra: pip install "async-jwt[redis]"'
        ) from None
    return RedisStore(uri)
