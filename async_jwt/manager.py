"""`Manager`, the base of each adapter's `JWTManager`: loaders and applications."""

from __future__ import annotations

import itertools
import logging
import weakref
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import wraps
from types import MethodType
from typing import (
    Any,
    ClassVar,
    Concatenate,
    Final,
    Generic,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    cast,
    overload,
)

from async_jwt.app_state import EXTENSION, AppState, FrameworkContext, Given
from async_jwt.clock import Clock, system_clock
from async_jwt.core.cookie_scope import CookieScope
from async_jwt.core.hooks import Hooks
from async_jwt.core.parsers import realm_name
from async_jwt.core.proxies import unproxied
from async_jwt.core.settings import preset_of
from async_jwt.errors import ConfigurationError
from async_jwt.issuers.issuer import Issuer
from async_jwt.keys.ring import KeyRing
from async_jwt.operations import Operations
from async_jwt.stores.contract import Store

__all__ = ["AsyncManager", "Loader", "Manager", "Operation", "app_state_of"]

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

log: logging.Logger = logging.getLogger("async_jwt")

_numbers = itertools.count(1)


def app_state_of(app: Any) -> AppState:
    """Return the `AppState` that the manager initialized last keeps for an application.

    Raises:
        RuntimeError: the application has no JWTManager.
    """
    app = unproxied(app)
    app_state: AppState | None = getattr(app, "extensions", {}).get(EXTENSION)
    if app_state is None:
        name = getattr(app, "name", type(app).__name__)
        raise RuntimeError(
            f"The application {name!r} has no JWTManager: call JWTManager(app) or init_app(app)"
        )
    return app_state


class Loader:
    """Decorator that registers one hook: `@jwt.user_lookup_loader`, with or without `(inline=True)`.

    A hook may be `async def`, `def`, a partial or any other callable. `inline=True` promises
    that a plain hook never blocks, so it runs on the event loop instead of in a worker thread.
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
            ConfigurationError: the callable cannot be this hook, or `JWT_HOOK_TIMEOUT` cannot be
                enforced on it.
        """

        def register(function: F) -> F:
            self._manager.register_hook(self._name, function, inline=inline)
            return function

        return register if callback is None else register(callback)


_Claims = dict[str, Any]
_IdentityHook = TypeVar("_IdentityHook", bound=Callable[[Any], Any])
_LookupHook = TypeVar(
    "_LookupHook",
    bound=Callable[[_Claims, _Claims], Any] | Callable[[_Claims, _Claims, str | None], Any],
)
_IssuerHook = TypeVar("_IssuerHook", bound=Callable[[str], Any])
_RequestHook = TypeVar("_RequestHook", bound=Callable[[Any], CookieScope | None])
_TokenHook = TypeVar("_TokenHook", bound=Callable[[_Claims, _Claims], Any])
_AnswerHook = TypeVar(
    "_AnswerHook", bound=Callable[[_Claims, _Claims], Any] | Callable[[_Claims, _Claims, Any], Any]
)
_MessageHook = TypeVar("_MessageHook", bound=Callable[[str], Any] | Callable[[str, Any], Any])


class _IssuerLoader(Protocol):
    """Registers a hook that receives the issuer of a token, which any client can make up."""

    @overload
    def __call__(self, callback: _IssuerHook, /) -> _IssuerHook: ...

    @overload
    def __call__(self, /, *, inline: bool = False) -> Callable[[_IssuerHook], _IssuerHook]: ...


class _IdentityLoader(Protocol):
    """Registers a hook that receives an identity."""

    @overload
    def __call__(self, callback: _IdentityHook, /) -> _IdentityHook: ...

    @overload
    def __call__(self, /, *, inline: bool = False) -> Callable[[_IdentityHook], _IdentityHook]: ...


class _TokenLoader(Protocol):
    """Registers a hook that receives a token's header and claims."""

    @overload
    def __call__(self, callback: _TokenHook, /) -> _TokenHook: ...

    @overload
    def __call__(self, /, *, inline: bool = False) -> Callable[[_TokenHook], _TokenHook]: ...


class _LookupLoader(Protocol):
    """Registers a hook that receives a token's header and claims, and optionally its issuer."""

    @overload
    def __call__(self, callback: _LookupHook, /) -> _LookupHook: ...

    @overload
    def __call__(self, /, *, inline: bool = False) -> Callable[[_LookupHook], _LookupHook]: ...


class _RequestLoader(Protocol):
    """Registers a hook that receives the request or WebSocket being served."""

    @overload
    def __call__(self, callback: _RequestHook, /) -> _RequestHook: ...

    @overload
    def __call__(self, /, *, inline: bool = False) -> Callable[[_RequestHook], _RequestHook]: ...


class _AnswerLoader(Protocol):
    """Registers a hook that answers an error, given header, claims and optionally the error."""

    @overload
    def __call__(self, callback: _AnswerHook, /) -> _AnswerHook: ...

    @overload
    def __call__(self, /, *, inline: bool = False) -> Callable[[_AnswerHook], _AnswerHook]: ...


class _MessageLoader(Protocol):
    """Registers a hook that answers an error, given a message and optionally the error."""

    @overload
    def __call__(self, callback: _MessageHook, /) -> _MessageHook: ...

    @overload
    def __call__(self, /, *, inline: bool = False) -> Callable[[_MessageHook], _MessageHook]: ...


L = TypeVar("L")


class _LoaderOf(Generic[L]):
    """Descriptor that creates a manager's `Loader` for the attribute it is assigned to."""

    def __init__(self, about: str) -> None:
        self.__doc__ = about

    def __set_name__(self, owner: type[Manager], name: str) -> None:
        self._name = name.removesuffix("_loader")

    def __get__(self, manager: Manager | None, owner: type[Manager]) -> L:
        loader: Any = self if manager is None else Loader(manager, self._name)
        return cast("L", loader)  # itself on the class: for documentation tools only


class Manager:
    """Sets up any number of applications, and holds their loaders, keys and store.

    Args:
        app: the application to set up now; None if you call `init_app` later.
        add_context_processor: True makes `current_user` available in templates.
        keys: the key ring; None builds it from the settings.
        store: the revocation store; None opens the one at `JWT_STORE_URI`.
        issuers: other issuers whose tokens are accepted, besides those of `JWT_ISSUERS`.
        clock: returns seconds since the epoch; replace it in tests.

    Raises:
        ConfigurationError: a setting is invalid.
    """

    framework: ClassVar[FrameworkContext]

    additional_claims_loader: _LoaderOf[_IdentityLoader] = _LoaderOf(
        "`(identity) -> dict`: additional claims for a new token."
    )
    additional_headers_loader: _LoaderOf[_IdentityLoader] = _LoaderOf(
        "`(identity) -> dict`: additional header parameters for a new token."
    )
    cookie_scope_loader: _LoaderOf[_RequestLoader] = _LoaderOf(
        "`(request) -> CookieScope | None`: the tenant whose cookies a request has. A plain function that "
        "never waits; it is called once in each request."
    )
    decode_key_loader: _LoaderOf[_TokenLoader] = _LoaderOf(
        "`(unverified_header, unverified_claims) -> key`: the key that verifies a token."
    )
    encode_key_loader: _LoaderOf[_IdentityLoader] = _LoaderOf(
        "`(identity) -> key`: the key that signs a new token."
    )
    expired_token_loader: _LoaderOf[_AnswerLoader] = _LoaderOf(
        "`(jwt_header, jwt_data) -> response`: the response to an expired token."
    )
    insufficient_scope_loader: _LoaderOf[_AnswerLoader] = _LoaderOf(
        "`(jwt_header, jwt_data) -> response`: the response (403) to a token that lacks a scope, a role or a "
        "claim, or that `allow` refused."
    )
    invalid_token_loader: _LoaderOf[_MessageLoader] = _LoaderOf(
        "`(message) -> response`: the response to an invalid token."
    )
    issuer_loader: _LoaderOf[_IssuerLoader] = _LoaderOf(
        "`(iss) -> Issuer | None`: an issuer that is not configured, such as a tenant's; None refuses."
    )
    needs_fresh_token_loader: _LoaderOf[_AnswerLoader] = _LoaderOf(
        "`(jwt_header, jwt_data) -> response`: the response to a token that is not fresh where it must be."
    )
    revoked_token_loader: _LoaderOf[_AnswerLoader] = _LoaderOf(
        "`(jwt_header, jwt_data) -> response`: the response to a revoked token."
    )
    token_in_blocklist_loader: _LoaderOf[_TokenLoader] = _LoaderOf(
        "`(jwt_header, jwt_data) -> bool`: True if the token is revoked."
    )
    token_reuse_loader: _LoaderOf[_AnswerLoader] = _LoaderOf(
        "`(jwt_header, jwt_data) -> response`: the response to the replay of a replaced refresh token."
    )
    token_verification_loader: _LoaderOf[_TokenLoader] = _LoaderOf(
        "`(jwt_header, jwt_data) -> bool`: True if the claims are acceptable."
    )
    token_verification_failed_loader: _LoaderOf[_AnswerLoader] = _LoaderOf(
        "`(jwt_header, jwt_data) -> response`: the response to claims that failed verification."
    )
    unauthorized_loader: _LoaderOf[_MessageLoader] = _LoaderOf(
        "`(message) -> response`: the response to a request without a token."
    )
    user_identity_loader: _LoaderOf[_IdentityLoader] = _LoaderOf(
        "`(identity) -> str`: the value that a token stores for an identity, such as a user id."
    )
    user_lookup_loader: _LoaderOf[_LookupLoader] = _LoaderOf(
        "`(jwt_header, jwt_data) -> user`: the user of a token; None refuses the token. With a third "
        "parameter, `issuer`, it is told which other issuer made the token, None for a token of this "
        "application. It must have one where tokens of several issuers are accepted."
    )
    user_lookup_error_loader: _LoaderOf[_AnswerLoader] = _LoaderOf(
        "`(jwt_header, jwt_data) -> response`: the response if `user_lookup_loader` finds no user."
    )

    def __init__(
        self,
        app: Any | None = None,
        add_context_processor: bool = False,
        *,
        keys: KeyRing | None = None,
        store: Store | None = None,
        issuers: Iterable[Issuer] = (),
        clock: Clock = system_clock,
    ) -> None:
        self._hooks = Hooks()
        self._given = Given(self._hooks, clock, keys, store, _issuers_of(issuers))
        self._slot = f"_async_jwt_{next(_numbers)}"
        self._operations = Operations(self._current, any_session=True)
        self._root: Manager = self
        self._name = ""
        self._realms: dict[str, Self] = {}
        self._given_realms: dict[str, Given] = {}
        # Applications own their state; a manager must not keep an application alive.
        self._apps: weakref.WeakSet[Any] = weakref.WeakSet()
        if app is not None:
            self.init_app(app, add_context_processor)

    def init_app(self, app: Any, add_context_processor: bool = False) -> None:
        """Set up an application: settings, error responses, startup and shutdown with the server.

        Args:
            app: the application, or a proxy of it such as `current_app`. One manager may serve many.
            add_context_processor: True makes `current_user` available in its templates; it is None
                in views that check no token.

        Raises:
            ConfigurationError: a setting is invalid, or the application belongs to another framework.
        """
        app = unproxied(app)
        if self._root is not self:
            raise ConfigurationError(
                f"The realm {self._name!r} serves the applications of its manager: call init_app on that"
            )
        if not self.framework.serves(app):
            kind = type(app)
            raise ConfigurationError(
                f"{type(self).__module__}.JWTManager does not serve a {kind.__module__}.{kind.__qualname__}: "
                "import it from async_jwt.adapters.quart for Quart, from async_jwt.adapters.flask or "
                "async_jwt.adapters.flask_sync for Flask"
            )
        extensions = self.framework.extensions(app)
        app_state: AppState | None = extensions.get(self._slot)
        if app_state is None:
            _refuse_second(self.framework, extensions.get(EXTENSION), app)
            app_state = AppState(app, self.framework, self._slot, self._given, self._given_realms)
            self._install(app, app_state)  # first, so that a failure leaves nothing behind
            extensions[self._slot] = app_state
            self._apps.add(app)
        extensions[EXTENSION] = app_state  # what module functions use
        if add_context_processor:
            app.context_processor(lambda: {"current_user": _user_of(app_state)})

    def realm(self, name: str, *, keys: KeyRing | None = None, issuers: Iterable[Issuer] = ()) -> Self:
        """Return a realm: another kind of users, with keys, cookies, loaders and operations of its own.

        `admin = jwt.realm("admin")` has all loaders and operations of a manager, such as
        `@admin.user_lookup_loader` and `await admin.create_token_pair("7")`. Views demand it with
        `jwt_required(realm="admin")`. Its settings are in `JWT_REALMS`; it inherits none of the manager's
        loaders.

        Args:
            name: the realm: 1 to 64 letters, digits, `-` or `_`.
            keys: its keys; None builds them from its settings.
            issuers: other issuers whose tokens it accepts, besides those of its settings.

        Returns:
            The realm: the same object at each call.

        Raises:
            ConfigurationError: the name is none, or the realm was created before with other keys.
        """
        root = self._root
        if root is not self:
            raise ConfigurationError(f"The realm {self._name!r} has no realms: call realm() on its manager")
        known = self._realms.get(name)
        if known is not None:
            if keys is not None or tuple(issuers):
                raise ConfigurationError(f"The realm {name!r} exists already: pass its keys the first time")
            return known
        try:
            realm_name(name)
        except ValueError as problem:
            raise ConfigurationError(f"jwt.realm() {problem}") from None
        made = type(self)(keys=keys, issuers=issuers, clock=self._given.clock)
        made.join(self, name)
        self._realms[name] = made
        for app in self._apps:
            self.framework.extensions(app)[self._slot].rebuild()
        return made

    def join(self, root: Manager, name: str) -> None:
        """Become a realm of another manager. `realm` calls this."""
        self._root, self._name = root, name
        self._slot, self._apps = root._slot, root._apps  # of this class
        root._hooks.beside.append(self._hooks)
        root._given_realms[name] = self._given

    def scopes_imply(self, implied: Mapping[str, str | Iterable[str]]) -> None:
        """Say which scopes imply others: `jwt.scopes_imply({"orders:all": ["orders:read", "orders:write"]})`.

        A token with `orders:all` then passes where `orders:read` is demanded. What a scope implies may imply
        others in turn. Several calls add up.

        Args:
            implied: by scope, the scope or scopes that it implies.

        Raises:
            ConfigurationError: a name is no name of a scope.
        """
        self._hooks.implied_scopes.add(implied)

    def exposed(self, function: Callable[Concatenate[Operations, P], Coroutine[Any, Any, T]]) -> Any:
        """Bind an operation for applications: awaitable, or blocking if the framework's views are plain."""
        return self.framework.expose(MethodType(function, self._operations), self._current)

    @abstractmethod
    def _install(self, app: Any, app_state: AppState) -> None:
        """Register the callbacks that the framework must call."""

    @property
    def store(self) -> Store:
        """The revocation store of the current application."""
        return self._current()[0].store

    @property
    def keys(self) -> KeyRing:
        """The key ring of the current application.

        Raises:
            ConfigurationError: a setting that names a key is missing or invalid.
        """
        return self._current()[0].engine().ring

    def _current(self, realm: str | None = None) -> tuple[AppState, Any | None]:
        """Return the state of the application (the current one, or the only one), and its request.

        Args:
            realm: the realm; None is this one.

        Raises:
            RuntimeError: it is not clear which application is meant.
            ConfigurationError: there is no such realm.
        """
        apps = self._apps
        app, request = self.framework.current()
        if app is None and len(apps) == 1:
            app = next(iter(apps))
        if app is None:
            fix = "serves several applications: push the context of one" if apps else _NO_APP
            raise RuntimeError(f"This JWTManager {fix}")
        app_state: AppState | None = self.framework.extensions(app).get(self._slot)
        if app_state is None:
            name = self.framework.label(app)
            raise RuntimeError(f"This JWTManager does not serve the application {name!r}: call init_app(app)")
        name = self._name if realm is None else realm
        return app_state.of_realm(name) if name else app_state, request

    def register_hook(self, name: str, function: Any, *, inline: bool) -> None:
        """Register a hook by name. Loaders call this.

        Raises:
            ConfigurationError: the callable cannot be this hook, or `JWT_HOOK_TIMEOUT` cannot be
                enforced on it.
        """
        self._hooks.register(name, function, inline=inline)
        for app in self._apps:
            app_state = self.framework.extensions(app)[self._slot]
            app_state.of_realm(self._name).take_hook(name)


class Operation(Generic[P, T]):
    """Descriptor for one of a manager's operations, run the way its framework runs our coroutines.

    Args:
        function: the method of `Operations`.
    """

    def __init__(self, function: Callable[Concatenate[Operations, P], Coroutine[Any, Any, T]]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    def __get__(self, manager: Manager | None, owner: type[Manager]) -> Callable[P, Coroutine[Any, Any, T]]:
        bound: Any = self._unbound() if manager is None else manager.exposed(self._function)
        return cast("Callable[P, Coroutine[Any, Any, T]]", bound)

    def _unbound(self) -> Callable[..., Any]:
        @wraps(self._function)
        def call(manager: Manager, /, *args: Any, **kwargs: Any) -> Any:
            return manager.exposed(self._function)(*args, **kwargs)

        return call


class AsyncManager(Manager):
    """A manager whose operations are coroutines."""

    authenticate_token: Final = Operation(Operations.authenticate_token)
    close: Final = Operation(Operations.close)
    consume_token: Final = Operation(Operations.consume_token)
    create_access_token: Final = Operation(Operations.create_access_token)
    create_refresh_token: Final = Operation(Operations.create_refresh_token)
    create_token: Final = Operation(Operations.create_token)
    create_token_pair: Final = Operation(Operations.create_token_pair)
    decode_token: Final = Operation(Operations.decode_token)
    expire_access_tokens: Final = Operation(Operations.expire_access_tokens)
    get_csrf_token: Final = Operation(Operations.get_csrf_token)
    get_jti: Final = Operation(Operations.get_jti)
    list_sessions: Final = Operation(Operations.list_sessions)
    ping: Final = Operation(Operations.ping)
    revoke_everything: Final = Operation(Operations.revoke_everything)
    revoke_session: Final = Operation(Operations.revoke_session)
    revoke_token: Final = Operation(Operations.revoke_token)
    revoke_user: Final = Operation(Operations.revoke_user)
    rotate_refresh_token: Final = Operation(Operations.rotate_refresh_token)
    start: Final = Operation(Operations.start)


def _issuers_of(given: Iterable[Issuer]) -> tuple[Issuer, ...]:
    issuers = tuple(given)
    for issuer in issuers:
        if not isinstance(issuer, Issuer):
            raise ConfigurationError(
                f"JWTManager(issuers=...) holds Issuer objects, not {type(issuer).__name__}"
            )
    return issuers


def _refuse_second(framework: FrameworkContext, before: AppState | None, app: Any) -> None:
    """Refuse a second manager of one application; under the compat preset, only log that the last one counts.

    Raises:
        ConfigurationError: the application has a manager.
    """
    if before is None:
        return
    text = (
        f"The application {framework.label(app)!r} already has a JWTManager: for another kind of users, call "
        "jwt.realm(name) on that one"
    )
    if preset_of(framework.config(app)) != "compat":
        raise ConfigurationError(text)
    log.warning("%s. The last one counts", text, extra={"event": "second_manager"})


_NO_APP = "serves no application yet: call init_app(app)"


def _user_of(app_state: AppState) -> Any:
    request = app_state.current_request()
    authentication = app_state.acting(request).state_of(request).authentication
    return None if authentication is None else authentication.user
