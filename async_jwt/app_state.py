"""One manager at one application: its live settings, its store and its authentication."""

from __future__ import annotations

import copy
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol

import anyio

from async_jwt.clock import Clock
from async_jwt.core.authenticate import Authentication, CheckResult, RequestState
from async_jwt.core.engine import Engine
from async_jwt.core.hooks import Hooks
from async_jwt.core.observer import Observer
from async_jwt.core.policy import Policy
from async_jwt.core.settings import LiveSettings
from async_jwt.core.spelling import Unknown
from async_jwt.errors import ConfigurationError, JWTExtendedException, StoreUnavailableError
from async_jwt.keys.ring import KeyRing
from async_jwt.stores.contract import Store, TokenRef
from async_jwt.stores.memory import MemoryStore
from async_jwt.stores.wrapped import wrapped

__all__ = ["AppState", "Surroundings"]

log: logging.Logger = logging.getLogger("async_jwt")


class Surroundings(Protocol):
    """Where a call comes from, as the framework's context tells."""

    def serves(self, app: Any) -> bool:
        """Whether something is an application of this framework."""
        ...

    def current_app(self) -> Any | None:
        """The application whose context is active."""
        ...

    def current_request(self) -> Any | None:
        """The request being served: the object itself, not a proxy."""
        ...

    def json_default(self, app: Any) -> Callable[[Any], Any]:
        """What an application's JSON makes of values that JSON does not know."""
        ...

    def reach(self, store: Store) -> Store:
        """A store as this framework's requests reach it, on whichever event loop it lives."""
        ...


class AppState:
    """What a manager keeps for one application.

    Args:
        app: the application.
        surroundings: its framework's context.
        slot: the manager's name for the attribute of request objects that holds a `RequestState`.
        hooks: the manager's hooks.
        ring: the manager's keys; None takes those of the settings.
        store: the manager's store; None takes that of `JWT_STORE_URI`.
        clock: seconds since the epoch.

    Attributes:
        observer: who measures, if anybody does.
        demands: what the view of an endpoint demands for a method, and which view that was found out of.

    Raises:
        ConfigurationError: a setting is wrong.
    """

    def __init__(
        self,
        app: Any,
        surroundings: Surroundings,
        slot: str,
        hooks: Hooks,
        ring: KeyRing | None,
        store: Store | None,
        clock: Clock,
    ) -> None:
        self.app = app
        self._surroundings = surroundings
        # Of this application: another one's checks are none of its own, within one request too.
        self._slot = f"{slot}_{id(self)}"
        self._hooks = hooks
        self._ring = ring
        self._given_store = store
        self._clock = clock
        self._live = LiveSettings(app.config)
        self._store_uri = ""
        self._opened: Store
        self._stand_in: Store | None = None
        self.observer: Observer | None = None
        self._engine: Engine
        self._rebuild()
        self._warned: set[str] = set()
        self.demands: dict[tuple[str, str], tuple[Any, tuple[Policy, ...]]] = {}

    def engine(self) -> Engine:
        """The application's authentication under its settings as they stand now.

        Raises:
            ConfigurationError: a setting was changed to a wrong value.
        """
        if self._live.config is not self.app.config:  # as by an extension that loads settings
            self._live = LiveSettings(self.app.config)
        if self._live.current() is not self._engine.settings:
            self._rebuild()
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
        return self._answering()

    def request_state(self, request: Any) -> RequestState:
        """What was found out about a request so far."""
        request_state: RequestState | None = getattr(request, self._slot, None)
        if request_state is None:
            request_state = RequestState()
            setattr(request, self._slot, request_state)
        return request_state

    def current_request_state(self) -> RequestState | None:
        """What was found out about the current request; None where no check began."""
        request_state: RequestState | None = getattr(self._surroundings.current_request(), self._slot, None)
        return request_state

    def authentication(self) -> Authentication | None:
        """The authentication of the current request, if there is one."""
        request_state = self.current_request_state()
        return (
            None
            if request_state is None or request_state.result is None
            else request_state.result.authentication
        )

    def ref(self) -> TokenRef | None:
        """The token that the current request was let in with, as stores know it."""
        request_state = self.current_request_state()
        return None if request_state is None or request_state.result is None else request_state.result.ref

    def began_at(self) -> float:
        """When the current request began to be served, as far as its check tells."""
        request_state = self.current_request_state()
        return (
            self._clock()
            if request_state is None or request_state.result is None
            else request_state.result.found_at
        )

    def has_demanded(self, request: Any) -> bool:
        """Whether a check has passed in a request that demands a token."""
        request_state: RequestState | None = getattr(request, self._slot, None)
        return request_state is not None and request_state.demanded

    @property
    def in_request(self) -> bool:
        """Whether a request is being served."""
        return self._surroundings.current_request() is not None

    def held_type(self) -> str | None:
        """The type of that token."""
        request_state = self.current_request_state()
        return None if request_state is None or request_state.result is None else request_state.result.type

    def rests_on(self) -> CheckResult | None:
        """The success on which rests what the current request makes for itself, or revokes."""
        request_state = self.current_request_state()
        return None if request_state is None else request_state.rests_on

    def may_refresh(self) -> bool:
        """Whether the current request's revocation was checked, and it has revoked nothing since."""
        request_state = self.current_request_state()
        return (
            request_state is not None and request_state.rests_on is not None and not request_state.has_revoked
        )

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

    def note_refusal(self, error: JWTExtendedException) -> None:
        """Told why the current request's check failed."""
        request_state = self.current_request_state()
        if request_state is not None:
            request_state.refusal = error

    def note_revocation(self, *, ends_itself: bool) -> None:
        """Note that something was revoked.

        Args:
            ends_itself: whether it was the current request's own token, which counted until then: that
                does not stop the request from making new ones.
        """
        request_state = self.current_request_state()
        if request_state is not None:
            request_state.has_revoked = True
            request_state.known.clear()  # another check finds it out
            if ends_itself:
                request_state.rests_on = None
        self.note_memory()

    def is_news(self, what: str) -> bool:
        """Whether something is yet to be said: each is said once."""
        if what in self._warned:
            return False
        self._warned.add(what)
        return True

    def note_memory(self) -> None:
        """Says once, where nobody chose the store, that other processes do not know what it holds."""
        is_chosen = self._given_store is not None or not self._live.is_default("JWT_STORE_URI")
        if is_chosen or not self.is_news("memory"):
            return
        log.warning(
            "Revocations and sessions are kept in this process's memory: other processes do not know of "
            'them, and a restart forgets them. Set JWT_STORE_URI = "redis://..." (or "memory://" if '
            "that is meant)",
            extra={"event": "store_in_memory"},
        )

    def note_insecure(self) -> None:
        """Says once that browsers throw Secure cookies away that came over http."""
        if self.is_news("http"):
            log.warning(
                "Token cookies are Secure, and were set in an answer over http, where browsers throw them "
                "away: serve https; behind a proxy that ends TLS, have ProxyFix read its X-Forwarded "
                "headers; while you develop, set JWT_COOKIE_SECURE = False",
                extra={"event": "insecure_cookies"},
            )

    def observe(self, observer: Observer | None) -> None:
        """Have somebody measure from now on; None ends that."""
        self.observer = observer
        self._rebuild()

    @contextmanager
    def taking_time_from(self, clock: Clock) -> Iterator[None]:
        """Go by another clock for a while, as tests do."""
        store = self._opened if isinstance(self._opened, MemoryStore) else None
        before, of_store = self._clock, None if store is None else store.clock
        self._clock = clock
        if store is not None:
            store.clock = clock
        self._rebuild()
        try:
            yield
        finally:
            self._clock = before
            if store is not None and of_store is not None:
                store.clock = of_store
            self._rebuild()

    @contextmanager
    def standing_in(self, store: Store) -> Iterator[None]:
        """Have another store answer in the place of the application's for a while, as tests do."""
        before, self._stand_in = self._stand_in, store
        self._rebuild()
        try:
            yield
        finally:
            self._stand_in = before
            self._rebuild()

    def without_stand_in(self) -> AppState:
        """The same application, whose own store answers."""
        twin = copy.copy(self)
        twin.forget_stand_in()
        return twin

    def forget_stand_in(self) -> None:
        """Have the application's own store answer again."""
        self._stand_in = None
        self._rebuild()

    @asynccontextmanager
    async def in_context(self) -> AsyncIterator[None]:
        """Within the application's context, whichever kind its framework has."""
        context = self.app.app_context()
        if hasattr(context, "__aenter__"):
            async with context:
                yield
        else:
            with context:
                yield

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
        self._engine = Engine(
            settings,
            self._hooks,
            self._ring,
            self._surroundings.reach(_bounded(self._answering(), settings.hook_timeout)),
            self._clock,
            self._json_default,
            self.observer,
        )

    def _answering(self) -> Store:
        return self._opened if self._stand_in is None else self._stand_in

    def _json_default(self, value: Any) -> Any:
        return self._surroundings.json_default(self.app)(value)  # whose provider may be set later


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
