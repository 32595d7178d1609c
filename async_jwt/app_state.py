"""One manager's state for one application: live settings, store and engine."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import anyio

from async_jwt.clock import Clock
from async_jwt.core.authenticate import RealmRequestState, RequestState
from async_jwt.core.cookie_scope import NONE, CookieScope, problem_with, scoped
from async_jwt.core.engine import Engine
from async_jwt.core.hooks import Hooks, checked
from async_jwt.core.issuer_registry import IssuerRegistry
from async_jwt.core.live_settings import LiveSettings
from async_jwt.core.observer import Observer
from async_jwt.core.policy import Policy
from async_jwt.core.realms import (
    realm_settings,
    refuse_shared_cookies,
    refuse_shared_issuers,
    warn_of_shared_secrets,
)
from async_jwt.core.settings import Settings
from async_jwt.core.spelling import Unknown
from async_jwt.errors import ConfigurationError, HookError, StoreUnavailableError
from async_jwt.issuers.identity import everybody_of, realm_name
from async_jwt.issuers.issuer import Issuer
from async_jwt.keys.ring import KeyRing
from async_jwt.stores.contract import Store
from async_jwt.stores.memory import MemoryStore
from async_jwt.stores.realm import realm_store
from async_jwt.stores.wrapped import wrapped

__all__ = ["EXTENSION", "AppState", "Current", "FrameworkContext", "Given", "RealmState"]

EXTENSION = "async_jwt"
"""The key in `app.extensions` that holds an application's `AppState`."""

log: logging.Logger = logging.getLogger("async_jwt")

# Clients may make up tenants, and each has an engine of its own.
_MOST_SCOPES = 1000


class Current(Protocol):
    """Returns the state and the request that a call is about; no request outside of one."""

    def __call__(self, realm: str | None = None) -> tuple[AppState, Any | None]:
        """Return them.

        Args:
            realm: the realm; "" for the unnamed one, None for the one that the caller means by default.

        Raises:
            RuntimeError: it is not clear which application is meant.
            ConfigurationError: there is no such realm.
        """
        ...


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


@dataclass(frozen=True, slots=True)
class Given:
    """What a manager, or a realm of one, was given in code.

    Attributes:
        hooks: its hooks.
        clock: returns seconds since the epoch.
        keys: its keys; None builds them from the settings.
        store: its store; None opens the one at `JWT_STORE_URI`. Realms share that of their manager.
        issuers: its issuers, besides those of `JWT_ISSUERS`.
    """

    hooks: Hooks
    clock: Clock
    keys: KeyRing | None = None
    store: Store | None = None
    issuers: tuple[Issuer, ...] = ()


class AppState:
    """One manager's state for one application: that of its unnamed realm.

    Args:
        app: the application.
        framework: its framework.
        slot: the manager's prefix for the request attribute that holds a `RequestState`.
        given: what the manager was given.
        given_realms: by name, what its realms were given; may grow.

    Attributes:
        app: as given.
        root: the state of the unnamed realm: this one, unless it is a `RealmState`.
        realm: the realm's name; "" for the unnamed one.
        realms: the states of named realms by name; empty if there are none.
        labels: what signals say of the realm: nothing of the unnamed one.
        registry: the issuers whose tokens are accepted.
        slot: the request attribute that holds a `RequestState`. It is unique to this state, so that another
            application's checks of the same request stay separate.
        acting_slot: the request attribute that holds the state of the realm of its last check.
        default_slot: the one that holds the name of the realm of its view's blueprint.
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
        given: Given,
        given_realms: Mapping[str, Given],
    ) -> None:
        self._begin(app, framework, f"{slot}_{id(self)}", given)
        self.root: AppState = self
        self.realm: str = ""
        self.labels: dict[str, str] = {}
        self.realms: dict[str, RealmState] = {}
        self._given_realms = given_realms
        self._clock = given.clock
        self._live = LiveSettings(framework.config(app))
        self._store_uri = ""
        self._opened: Store
        self._overridden: Store | None = None
        self.observer: Observer | None = None
        self.demands: dict[tuple[str, str], tuple[Any, tuple[Policy, ...]]] = {}
        self.around: dict[tuple[str, str], tuple[Any, bool, Any]] = {}
        self._rebuild()

    def _begin(self, app: Any, framework: FrameworkContext, slot: str, given: Given) -> None:
        """Set what each realm has of its own."""
        self.app = app
        self._framework = framework
        self._given = given
        self._hooks = given.hooks
        self.registry: IssuerRegistry = IssuerRegistry()
        self.slot: str = slot
        self._engine_slot = f"{slot}_engine"
        self.acting_slot: str = f"{slot}_acting"
        self.default_slot: str = f"{slot}_default"
        self._engine: Engine
        self._warned: set[str] = set()
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
        return self.current_store

    @property
    def current_store(self) -> Store:
        """The store as it was last opened, whatever the settings are now."""
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
        await self._start_realm(engine)
        for realm in self.realms.values():
            await realm.start()
        try:
            await engine.store.start()
        except StoreUnavailableError:
            log.error(
                "Cannot reach the revocation store; requests are refused with 503 until it answers",
                extra={"event": "store_unavailable"},
            )

    async def _start_realm(self, engine: Engine) -> None:
        if "decode_key" not in self._hooks:
            await engine.active_keys()
        engine.refuse_untold_lookup()
        for source in self.registry.configured:
            await source.warm(engine.clock)

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
            self.root.rebuild()

    def rebuild(self) -> None:
        """Build the engines anew. Raises ConfigurationError."""
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
        if self._given.store is None and self._live.is_default("JWT_STORE_URI"):
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
        other.root, other.realms = other, {}
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
        if self._given.store is not None:
            self._opened = self._given.store
        elif settings.store_uri != self._store_uri:
            self._opened = open_store(settings.store_uri, self._clock)
            self._store_uri = settings.store_uri
        self._engine = self._engine_of(settings, self.current_store)
        if settings.realms or self._given_realms:
            self._rebuild_realms(settings, live.config)
        else:
            self.realms = {}
        self._live = live

    def _rebuild_realms(self, settings: Settings, config: Mapping[str, Any]) -> None:
        """Build the engines of all named realms anew."""
        names = sorted(settings.realms.keys() | self._given_realms.keys())
        every = [settings, *(realm_settings(config, name, settings.realms.get(name, {})) for name in names)]
        refuse_shared_cookies(every)
        realms: dict[str, RealmState] = {}  # a new one: other threads go through the old one
        for own in every[1:]:
            given = self._given_realms.get(own.realm) or Given(Hooks(), self._clock)
            state = self.realms.get(own.realm) or RealmState(self, self._framework, own.realm, given)
            state.adopt(given, own, realms)
            realms[own.realm] = state
        states = (self, *realms.values())
        refuse_shared_issuers(
            {state.realm: [source.issuer for source in state.registry.configured] for state in states}
        )
        # Whether a call needs a long-lived event loop is asked before it is known which realm it is about.
        self._engine.waits = any(state.unscoped.waits for state in states)
        self.realms = realms
        known = {repr(sorted(names))}
        if known - self._warned:
            self._warned |= known
            warn_of_shared_secrets(every)

    def _engine_of(self, settings: Settings, store: Store) -> Engine:
        """An engine with these settings. Raises ConfigurationError."""
        given, root = self._given, self.root
        if settings.hook_timeout is not None:
            given.hooks.refuse_untimed()
        if settings.key_folder is not None and given.keys is not None:
            raise ConfigurationError(
                "Set JWT_KEY_FOLDER or pass JWTManager(keys=...), not both: only one can hold the keys"
            )
        issuers = (*given.issuers, *settings.issuers)
        if any(issuer.url == settings.encode_issuer for issuer in issuers):
            raise ConfigurationError(
                f"JWT_ENCODE_ISSUER = {settings.encode_issuer!r} is also configured as another issuer: give "
                "this application an `iss` of its own"
            )
        self.registry.configure(issuers)
        return Engine(
            settings,
            given.hooks,
            given.keys,
            self._framework.reach(_bounded(store, settings.hook_timeout)),
            self.clock,
            self._json_default,
            root.observer,
            self.registry if issuers or "issuer" in given.hooks else None,
        )

    @property
    def unscoped(self) -> Engine:
        """The engine as it was last built, whatever the settings are now."""
        return self._engine

    @property
    def clock(self) -> Clock:
        """Returns seconds since the epoch."""
        return self._clock

    # -- realms ---------------------------------------------------------------------------

    def of_realm(self, name: str) -> AppState:
        """Return the state of a realm; "" is the unnamed one.

        Raises:
            ConfigurationError: there is no such realm.
        """
        root = self.root
        found = root.realms.get(name) if name else root
        if found is None:
            raise ConfigurationError(
                f"There is no realm {name!r}: add it to JWT_REALMS, or call jwt.realm({name!r}, keys=...)"
            )
        return found

    def enter(self, request: Any, name: str | None) -> AppState:
        """Return the state of the realm that a check of a request is about, which then acts for the request.

        Args:
            request: the request.
            name: the realm; None is the one of the view's blueprint, or the unnamed one.

        Raises:
            ConfigurationError: there is no such realm.
        """
        root = self.root
        state = root.of_realm(getattr(request, root.default_slot, "") if name is None else name)
        setattr(request, root.acting_slot, state)
        return state

    def acting(self, request: Any | None) -> AppState:
        """Return the state of the realm that a request's last check was about; else the unnamed one."""
        root = self.root
        state: AppState = getattr(request, root.acting_slot, root)
        return state

    def others_of_request(self) -> list[AppState]:
        """Return the states of all other realms."""
        every = (self.root, *self.realms.values())
        return [state for state in every if state is not self]

    def set_default_realm(self, request: Any, name: str) -> None:
        """Make checks of a request that name no realm be about this one."""
        setattr(request, self.root.default_slot, name)

    def refuse_realms_without_keys(self) -> None:
        """Refuse realms that have neither keys nor issuers of their own.

        Raises:
            ConfigurationError: there is one.
        """
        for realm in self.realms.values():
            realm.refuse_without_keys()

    def _json_default(self, value: Any) -> Any:
        return self._framework.json_default(self.app)(value)  # at call time: the provider may be set later


class RealmState(AppState):
    """The state of a named realm of an application. Its store, clock and observer are those of the root.

    Args:
        root: the state of the unnamed realm.
        framework: the framework.
        name: the realm.
        given: what it was given in code.
    """

    def __init__(self, root: AppState, framework: FrameworkContext, name: str, given: Given) -> None:
        self._begin(root.app, framework, f"{root.slot}_{name}", given)
        self.root: AppState = root
        self.realm: str = name
        self.labels: dict[str, str] = {"realm": name}
        self.demands: dict[tuple[str, str], tuple[Any, tuple[Policy, ...]]] = root.demands
        self.around: dict[tuple[str, str], tuple[Any, bool, Any]] = root.around

    def adopt(self, given: Given, settings: Settings, realms: dict[str, RealmState]) -> None:
        """Take over what the realm was given, its settings, and the dict of all named realms.

        Raises:
            ConfigurationError: they do not go together.
        """
        self._given, self._hooks = given, given.hooks
        self.realms: dict[str, RealmState] = realms
        store = realm_store(self.root.current_store, everybody_of(self.realm), realm_name(self.realm, ""))
        try:
            self._engine = self._engine_of(settings, store)
        except ConfigurationError as problem:
            raise ConfigurationError(f"The realm {self.realm!r}: {problem}") from None

    def refuse_without_keys(self) -> None:
        """Refuse a realm without keys: it must not use those of another one. Raises ConfigurationError."""
        hooks, settings = self._hooks, self._engine.settings
        has_own = (
            self._given.keys is not None
            or settings.key_folder is not None
            or any(
                key is not None for key in (settings.secret_key, settings.private_key, settings.public_key)
            )
            or {"encode_key", "decode_key", "issuer"} & hooks.keys()
            or self.registry.configured
        )
        if not has_own:
            raise ConfigurationError(
                f"The realm {self.realm!r} has no keys of its own: set JWT_SECRET_KEY in "
                f"JWT_REALMS[{self.realm!r}], or call jwt.realm({self.realm!r}, keys=...)"
            )

    def request_state(self, request: Any) -> RequestState:
        """Return the request's check state in this realm, which begins now if no check has begun."""
        state: RequestState | None = getattr(request, self.slot, None)
        if state is None:
            state = RealmRequestState(self.root.request_state(request))
            setattr(request, self.slot, state)
        return state

    def engine(self) -> Engine:
        """Return the realm's engine, rebuilt if the settings have changed. Raises ConfigurationError."""
        engine = self.base_engine()
        return self._scoped_engine() if "cookie_scope" in self._hooks else engine

    def base_engine(self) -> Engine:
        """Return the realm's engine, whatever the cookie scope of the request. Raises ConfigurationError."""
        self.root.base_engine()
        return self._engine

    @property
    def unknown_settings(self) -> tuple[Unknown, ...]:
        """Settings of the application that look like ours but that nothing reads."""
        return self.root.unknown_settings

    @property
    def store(self) -> Store:
        """The store of all realms."""
        return self.root.store

    @property
    def clock(self) -> Clock:
        """Returns seconds since the epoch."""
        return self.root.clock

    async def start(self) -> None:
        """Run the startup checks of the realm. Raises ConfigurationError."""
        self.refuse_without_keys()
        await self._start_realm(self.base_engine())

    async def close(self) -> None:
        """Release the connections of the store, which is that of all realms."""
        await self.root.close()

    def warn_of_memory(self) -> None:
        """Warn as the root does."""
        self.root.warn_of_memory()

    def with_own_store(self) -> AppState:
        """Return a copy of this state that uses the application's own store, without any override."""
        return self.root.with_own_store().of_realm(self.realm)


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
