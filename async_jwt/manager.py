"""`Manager`, the base of each adapter's `JWTManager`: loaders and applications."""

from __future__ import annotations

import itertools
import weakref
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Generic, Protocol, TypeVar, cast, overload

from async_jwt.app_state import AppState, Surroundings
from async_jwt.clock import Clock, system_clock
from async_jwt.core.hooks import Hooks
from async_jwt.core.proxies import unproxied
from async_jwt.errors import ConfigurationError, StoreUnavailableError
from async_jwt.keys.ring import KeyRing
from async_jwt.operations import Operations
from async_jwt.stores.contract import Store

__all__ = [
    "EXTENSION",
    "AsyncManager",
    "Loader",
    "Manager",
    "ManagerOperations",
    "OperationsOf",
    "app_state_of",
]

EXTENSION = "async_jwt"
"""The key of `app.extensions` that holds an application's binding."""

F = TypeVar("F", bound=Callable[..., Any])

_numbers = itertools.count(1)


def app_state_of(app: Any) -> AppState:
    """What an application keeps of the manager that was initialised last.

    Raises:
        RuntimeError: it has none.
    """
    app = unproxied(app)
    app_state: AppState | None = app.extensions.get(EXTENSION)
    if app_state is None:
        raise RuntimeError(
            f"The application {app.name!r} has no JWTManager: call JWTManager(app) or init_app(app)"
        )
    return app_state


class Loader:
    """Registers one hook: `@jwt.user_lookup_loader`, or with `(inline=True)`.

    A hook may be `async def`, `def`, a partial or any other callable. `inline=True` promises
    that a plain hook never blocks: it is then called on the event loop instead of in a
    worker thread.
    """

    def __init__(self, manager: Manager, name: str) -> None:
        self._manager = manager
        self._name = name

    @overload
    def __call__(self, callback: F, /) -> F: ...

    @overload
    def __call__(self, /, *, inline: bool = False) -> Callable[[F], F]: ...

    def __call__(self, callback: F | None = None, /, *, inline: bool = False) -> F | Callable[[F], F]:
        """Register a hook and return it unchanged.

        Raises:
            ConfigurationError: it cannot be a hook, or not within `JWT_HOOK_TIMEOUT`.
        """

        def register(function: F) -> F:
            self._manager.register_hook(self._name, function, inline=inline)
            return function

        return register if callback is None else register(callback)


_Claims = dict[str, Any]
_IdentityHook = TypeVar("_IdentityHook", bound=Callable[[Any], Any])
_TokenHook = TypeVar("_TokenHook", bound=Callable[[_Claims, _Claims], Any])
_AnswerHook = TypeVar(
    "_AnswerHook", bound=Callable[[_Claims, _Claims], Any] | Callable[[_Claims, _Claims, Any], Any]
)
_MessageHook = TypeVar("_MessageHook", bound=Callable[[str], Any] | Callable[[str, Any], Any])


class _IdentityLoader(Protocol):
    """Registers a hook that gets an identity."""

    @overload
    def __call__(self, callback: _IdentityHook, /) -> _IdentityHook: ...

    @overload
    def __call__(self, /, *, inline: bool = False) -> Callable[[_IdentityHook], _IdentityHook]: ...


class _TokenLoader(Protocol):
    """Registers a hook that gets a token's header and claims."""

    @overload
    def __call__(self, callback: _TokenHook, /) -> _TokenHook: ...

    @overload
    def __call__(self, /, *, inline: bool = False) -> Callable[[_TokenHook], _TokenHook]: ...


class _AnswerLoader(Protocol):
    """Registers a hook that answers an error, and gets header, claims and perhaps the error."""

    @overload
    def __call__(self, callback: _AnswerHook, /) -> _AnswerHook: ...

    @overload
    def __call__(self, /, *, inline: bool = False) -> Callable[[_AnswerHook], _AnswerHook]: ...


class _MessageLoader(Protocol):
    """Registers a hook that answers an error, and gets a message and perhaps the error."""

    @overload
    def __call__(self, callback: _MessageHook, /) -> _MessageHook: ...

    @overload
    def __call__(self, /, *, inline: bool = False) -> Callable[[_MessageHook], _MessageHook]: ...


L = TypeVar("L", _IdentityLoader, _TokenLoader, _AnswerLoader, _MessageLoader)


class _LoaderOf(Generic[L]):
    """Makes a manager's `Loader` for the attribute that it is assigned to."""

    def __init__(self, about: str) -> None:
        self.__doc__ = about

    def __set_name__(self, owner: type[Manager], name: str) -> None:
        self._name = name.removesuffix("_loader")

    def __get__(self, manager: Manager | None, owner: type[Manager]) -> L:
        loader: Any = self if manager is None else Loader(manager, self._name)
        return cast("L", loader)  # without a manager, for documentation tools alone


class Manager:
    """Holds the loaders of any number of applications, and their keys and store.

    Args:
        app: an application to set up at once; otherwise call `init_app`.
        add_context_processor: whether templates get `current_user`.
        keys: the keys; None takes those that the settings describe.
        store: the revocation store; None opens that of `JWT_STORE_URI`.
        clock: seconds since the epoch; for tests.

    Raises:
        ConfigurationError: a setting is wrong.
    """

    surroundings: ClassVar[Surroundings]

    additional_claims_loader: _LoaderOf[_IdentityLoader] = _LoaderOf(
        "`(identity) -> dict`: further claims of a new token."
    )
    additional_headers_loader: _LoaderOf[_IdentityLoader] = _LoaderOf(
        "`(identity) -> dict`: further header parameters of a new token."
    )
    decode_key_loader: _LoaderOf[_TokenLoader] = _LoaderOf(
        "`(unverified_header, unverified_claims) -> key`: the key that verifies a token."
    )
    encode_key_loader: _LoaderOf[_IdentityLoader] = _LoaderOf(
        "`(identity) -> key`: the key that signs a new token."
    )
    expired_token_loader: _LoaderOf[_AnswerLoader] = _LoaderOf(
        "`(jwt_header, jwt_data) -> response` to an expired token."
    )
    invalid_token_loader: _LoaderOf[_MessageLoader] = _LoaderOf(
        "`(message) -> response` to a token that is not accepted."
    )
    needs_fresh_token_loader: _LoaderOf[_AnswerLoader] = _LoaderOf(
        "`(jwt_header, jwt_data) -> response` to a token that is not fresh."
    )
    revoked_token_loader: _LoaderOf[_AnswerLoader] = _LoaderOf(
        "`(jwt_header, jwt_data) -> response` to a revoked token."
    )
    token_in_blocklist_loader: _LoaderOf[_TokenLoader] = _LoaderOf(
        "`(jwt_header, jwt_data) -> bool`: whether a token is revoked."
    )
    token_reuse_loader: _LoaderOf[_AnswerLoader] = _LoaderOf(
        "`(jwt_header, jwt_data) -> response` to a refresh token that was replaced and came again."
    )
    token_verification_loader: _LoaderOf[_TokenLoader] = _LoaderOf(
        "`(jwt_header, jwt_data) -> bool`: whether the claims are accepted."
    )
    token_verification_failed_loader: _LoaderOf[_AnswerLoader] = _LoaderOf(
        "`(jwt_header, jwt_data) -> response` to claims not accepted."
    )
    unauthorized_loader: _LoaderOf[_MessageLoader] = _LoaderOf(
        "`(message) -> response` to a request without a token."
    )
    user_identity_loader: _LoaderOf[_IdentityLoader] = _LoaderOf(
        "`(identity) -> str`: what a token holds for an identity, such as its id."
    )
    user_lookup_loader: _LoaderOf[_TokenLoader] = _LoaderOf(
        "`(jwt_header, jwt_data) -> user`: the user of a token; None refuses it."
    )
    user_lookup_error_loader: _LoaderOf[_AnswerLoader] = _LoaderOf(
        "`(jwt_header, jwt_data) -> response` when there is no such user."
    )

    def __init__(
        self,
        app: Any | None = None,
        add_context_processor: bool = False,
        *,
        keys: KeyRing | None = None,
        store: Store | None = None,
        clock: Clock = system_clock,
    ) -> None:
        self._hooks = Hooks()
        self._given_keys = keys
        self._given_store = store
        self._clock = clock
        self._slot = f"_async_jwt_{next(_numbers)}"
        # The applications keep their bindings; nothing here keeps an application alive.
        self._apps: weakref.WeakSet[Any] = weakref.WeakSet()
        if app is not None:
            self.init_app(app, add_context_processor)

    def init_app(self, app: Any, add_context_processor: bool = False) -> None:
        """Set an application up: settings, error answers, start and close with the server.

        Args:
            app: the application, or a proxy of it such as `current_app`. One manager may serve many.
            add_context_processor: whether its templates get `current_user`; None in views
                that check no token.

        Raises:
            ConfigurationError: a setting is wrong, or it is an application of another framework.
        """
        app = unproxied(app)
        if not self.surroundings.serves(app):
            kind = type(app)
            raise ConfigurationError(
                f"{type(self).__module__}.JWTManager does not serve a {kind.__module__}.{kind.__qualname__}: "
                "import it from async_jwt.adapters.quart for Quart, from async_jwt.adapters.flask or "
                "async_jwt.adapters.flask_sync for Flask"
            )
        app_state: AppState | None = app.extensions.get(self._slot)
        if app_state is None:
            app_state = AppState(
                app,
                self.surroundings,
                self._slot,
                self._hooks,
                self._given_keys,
                self._given_store,
                self._clock,
            )
            self._install(app, app_state)  # first: what cannot be installed leaves nothing behind
            app.extensions[self._slot] = app_state
            self._apps.add(app)
        app.extensions[EXTENSION] = app_state  # functions mean the manager that was initialised last
        if add_context_processor:
            app.context_processor(lambda: {"current_user": _user_of(app_state)})

    @abstractmethod
    def _install(self, app: Any, app_state: AppState) -> None:
        """Register with the framework what it must call."""

    @property
    def store(self) -> Store:
        """The revocation store of the current application."""
        return self._app_state().store

    @property
    def keys(self) -> KeyRing:
        """The keys of the current application.

        Raises:
            ConfigurationError: a setting that names a key is missing or wrong.
        """
        return self._app_state().engine().ring

    def _app_state(self) -> AppState:
        app = self.surroundings.current_app()
        if app is None and len(self._apps) == 1:
            app = next(iter(self._apps))
        app_state: AppState | None = None if app is None else app.extensions.get(self._slot)
        if app_state is not None:
            return app_state
        if app is not None:
            raise RuntimeError(
                f"This JWTManager does not serve the application {app.name!r}: call init_app(app)"
            )
        if self._apps:
            raise RuntimeError("This JWTManager serves several applications: push the context of one")
        raise RuntimeError("This JWTManager serves no application yet: call init_app(app)")

    def register_hook(self, name: str, function: Any, *, inline: bool) -> None:
        """Register a hook by its name; the loaders do it.

        Raises:
            ConfigurationError: it cannot be a hook, or not within `JWT_HOOK_TIMEOUT`.
        """
        self._hooks.register(name, function, inline=inline)
        for app in self._apps:
            app.extensions[self._slot].refuse_untimed_hooks()


class ManagerOperations(Operations):
    """What a manager can do, as coroutines, for use outside of a request too."""

    async def start(self) -> None:
        """Check keys and hooks and connect the store. Servers do it as they start.

        Raises:
            ConfigurationError: a key is missing or a hook is wrong.
        """
        await self._app_state().start()

    async def ping(self) -> bool:
        """Ask the revocation store whether it answers now, whatever `on_outage` and a mirror let pass.

        For health checks. It takes one command, and no longer than the store's deadline.

        Raises:
            ConfigurationError: a setting was changed to a wrong value.
        """
        try:
            await self._app_state().engine().store.stamp("ping")
        except StoreUnavailableError:
            return False
        return True

    async def close(self) -> None:
        """Release the store's connections of the running event loop. Servers do it as they stop."""
        await self._app_state().close()


class AsyncManager(Manager, ManagerOperations):
    """A manager whose operations are awaited."""


class OperationsOf(ManagerOperations):
    """The operations of a manager that does not show them as coroutines."""

    def __init__(self, manager: Manager) -> None:
        self._manager = manager

    def _app_state(self) -> AppState:
        return self._manager._app_state()  # noqa: SLF001  # its other half


def _user_of(app_state: AppState) -> Any:
    authentication = app_state.authentication()
    return None if authentication is None else authentication.user
