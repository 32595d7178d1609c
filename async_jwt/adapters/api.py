"""The public functions, written once over a small `Framework`; adapters publish them bound."""

from __future__ import annotations

import datetime as dt
import inspect
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar, cast, overload

from async_jwt.adapters import _werkzeug
from async_jwt.adapters._route_audit import mark_wrapped
from async_jwt.adapters.protect import DEFAULT, mark
from async_jwt.app_state import AppState, Surroundings
from async_jwt.core.authenticate import Authentication, CheckResult, RequestState, authenticate
from async_jwt.core.checks import check_origin, is_insecure
from async_jwt.core.claims import Fresh
from async_jwt.core.codec import read_unverified
from async_jwt.core.compact import object_in, split
from async_jwt.core.concurrency import notify, refuse_coroutine
from async_jwt.core.cookies import cookies_to_set, cookies_to_unset
from async_jwt.core.engine import Engine
from async_jwt.core.error_responses import ErrorResponse, error_response, loader_for
from async_jwt.core.issue import TokenPair
from async_jwt.core.observer import Observer, kind_of
from async_jwt.core.policy import ACCESS, Location, Policy
from async_jwt.core.proxies import unproxied
from async_jwt.core.request import RequestView
from async_jwt.core.rotation import PairSpec, rotate
from async_jwt.core.settings import Settings
from async_jwt.errors import (
    ConfigurationError,
    ExpiredTokenError,
    HookError,
    ImmatureTokenError,
    JWTDecodeError,
    JWTExtendedException,
    MalformedTokenError,
    NoAuthorizationError,
    RevokedTokenError,
    SignatureError,
    TokenReusedError,
    UserLookupError,
)
from async_jwt.manager import EXTENSION
from async_jwt.operations import Operations
from async_jwt.signals import token_refused, user_loaded
from async_jwt.stores.contract import TokenRef

__all__ = ["Framework", "PublicAPI"]

F = TypeVar("F", bound=Callable[..., Any])
U = TypeVar("U")
Check = Callable[..., Coroutine[Any, Any, Any]]
"""Checks the current request. May be given its application's `AppState` and `Engine`."""

log: logging.Logger = logging.getLogger("async_jwt")

_REFRESH_COOKIE = Policy.of(refresh=True, locations="cookies")


class Framework(Surroundings, Protocol):
    """What an adapter knows of its framework."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def adapters(self) -> Sequence[str]:
        """The modules that its applications may import from."""
        ...

    def view(self, request: Any) -> RequestView:
        """A request as the core sees it."""
        ...

    def guard(self, function: Callable[..., Any], check: Check) -> Callable[..., Any]:
        """A view that runs after `check`, in the way the framework runs such views."""
        ...

    async def make_response(self, app: Any, value: Any) -> Any:
        """A response from whatever views may return.

        Raises:
            TypeError: it is nothing that a view may return.
        """
        ...

    def respond(self, app: Any, answer: ErrorResponse) -> Any:
        """A response from an answer of ours."""
        ...

    def has_handler(self, app: Any, error: JWTExtendedException, *, is_compat: bool) -> bool:
        """Whether a handler of the application or an extension answers an error in a loader's stead."""
        ...

    def twin(
        self, app: Any, error: JWTExtendedException, response: Any, *, is_compat: bool
    ) -> JWTExtendedException:
        """The same error as one that carries its response, in the form that its handlers take."""
        ...


class PublicAPI(Operations):
    """Everything an application calls, as methods of one object.

    Args:
        framework: the framework.
    """

    _may_name_anybody = False

    def __init__(self, framework: Framework) -> None:
        self._framework = framework
        _frameworks[framework.name] = framework

    # -- protecting views -----------------------------------------------------------------

    async def verify_jwt_in_request(
        self,
        optional: bool = False,
        fresh: bool = False,
        refresh: bool = False,
        locations: Location | Iterable[Location] | None = None,
        verify_type: bool = True,
        skip_revocation_check: bool = False,
        *,
        type: str | Collection[str] | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Check the current request's token. See `jwt_required` for the arguments.

        On an open WebSocket everything is asked anew, in a stream what was found out more
        than a second ago.

        Returns:
            The token's header and claims; None for OPTIONS, and for a request without a
            token where `optional` lets it through.

        Raises:
            JWTExtendedException: the request is refused, or cannot be decided. The
                exception carries the answer and may simply be let through.
            ConfigurationError: an argument or a setting is wrong.
            RuntimeError: there is no request.
        """
        policy = Policy.of(optional, fresh, refresh, locations, verify_type, skip_revocation_check, type=type)
        result = await self._verify(policy)
        return None if result is None else (result.authentication.header, result.authentication.claims)

    @overload
    def jwt_required(self, view: F, /) -> F: ...

    @overload
    def jwt_required(
        self,
        optional: bool = False,
        fresh: bool = False,
        refresh: bool = False,
        locations: Location | Iterable[Location] | None = None,
        verify_type: bool = True,
        skip_revocation_check: bool = False,
        *,
        type: str | Collection[str] | None = None,
    ) -> Callable[[F], F]: ...

    def jwt_required(
        self,
        optional: Any = False,
        fresh: bool = False,
        refresh: bool = False,
        locations: Location | Iterable[Location] | None = None,
        verify_type: bool = True,
        skip_revocation_check: bool = False,
        *,
        type: str | Collection[str] | None = None,
    ) -> Any:
        """Protect a view: it runs only for a request with a token that it accepts.

        With and without parentheses, on `async def` and `def` views, on methods of
        class-based views and in their `decorators`, on `before_request` functions and on
        generators that stream; in Quart on WebSockets and `before_websocket` functions too.
        OPTIONS requests are let through unauthenticated.

        Args:
            optional: whether a request without a token is let through as anonymous. A token
                that is not accepted is refused all the same.
            fresh: whether the token must come from a recent login.
            refresh: whether a refresh token is asked for, in its own cookie and JSON key.
            locations: where to look, instead of `JWT_TOKEN_LOCATION`: one of "headers",
                "cookies", "query_string", "json" and "websocket_protocol", or several.
            verify_type: False accepts access and refresh tokens alike.
            skip_revocation_check: whether a revoked token is accepted.
            type: the type, or types, of purpose tokens to accept instead of access tokens.

        Raises:
            ConfigurationError: an argument is wrong, or this cannot be protected.
        """
        if callable(optional):
            return self._guarded(optional, Policy.of())
        policy = Policy.of(optional, fresh, refresh, locations, verify_type, skip_revocation_check, type=type)

        def decorate(view: Any) -> Any:
            return self._guarded(view, policy)

        mark(decorate, policy)
        return decorate

    def _guarded(self, view: Any, policy: Policy) -> Any:
        if inspect.isclass(view):
            raise ConfigurationError(
                f"jwt_required cannot decorate the class {view.__name__}: put it into its "
                "`decorators`, or on its methods"
            )
        if not callable(view):
            raise ConfigurationError(f"jwt_required decorates functions, not {type(view).__name__}")
        guarded = self._framework.guard(view, partial(self._verify, policy))
        mark(guarded, policy)
        mark_wrapped(view)
        return guarded

    async def verify_by_default(self, app_state: AppState, engine: Engine) -> None:
        """Check a request whose view is protected by default alone. For adapters.

        A check that passed before the view, in a `before_request` function, is its application's
        decision, unless it lets anonymous requests through as well.

        Raises:
            JWTExtendedException: the request is refused.
        """
        held = app_state.authentication()
        if held is None or held.policy.optional:
            await self._verify(DEFAULT, app_state, engine)

    async def _verify(
        self, policy: Policy, app_state: AppState | None = None, engine: Engine | None = None
    ) -> CheckResult | None:
        """Check the current request; None for OPTIONS and for an anonymous one."""
        request = self._framework.current_request()
        if request is None:
            raise self._nowhere("There is no request to verify: call this while one is served")
        app_state = app_state or self._app_state()
        request_state = app_state.request_state(request)
        view = self._framework.view(request)
        if view.method == "OPTIONS":
            # A CORS preflight carries no credentials (Fetch §3.2.2).
            request_state.passed = True
            return None
        try:
            engine = engine or app_state.engine()
            check = authenticate if engine.observer is None else _observed
            loads = await check(engine, view, policy, request_state)
        except JWTExtendedException as error:
            if isinstance(error, TokenReusedError):
                await self._send_reused(error)
            request_state.reset()  # error handlers, sockets and streams go on
            may_take = request_state.location == "cookies" and not view.is_websocket
            dead = _dead_cookies(error, policy, engine) if may_take and engine is not None else ()
            raise await self._refusal(app_state, error, dead) from error
        except BaseException as problem:  # a hook that failed, or a time limit around the check
            request_state.reset()
            _explain(problem, view)
            raise
        result = request_state.result
        if loads and result is not None:
            found = result.authentication
            await notify(user_loaded, app_state.app, user=found.user, identity=found.identity)
        return result

    async def jwks_view(self) -> Any:
        """A view that answers the JWKS document (RFC 7517 §5), for those who verify our tokens.

        Register it where they look: ``app.add_url_rule("/.well-known/jwks.json",
        view_func=jwks_view)``. `JWT_JWKS_MAX_AGE` says how long they may keep it.

        Raises:
            ConfigurationError: a setting that names a key is missing or wrong.
        """
        app_state = self._app_state()
        engine = app_state.engine()
        keys = await engine.active_keys()
        headers = {
            "Content-Type": "application/jwk-set+json",  # RFC 7517 §8.5.2
            "Cache-Control": f"public, max-age={engine.settings.jwks_max_age}",
        }
        return self._framework.respond(app_state.app, ErrorResponse(200, headers=headers, body=keys.jwks()))

    # -- answering errors -----------------------------------------------------------------

    async def answer(self, app: Any, error: JWTExtendedException) -> Any:
        """The response to an error: what it carries, or what the loaders say. For adapters."""
        carried = _werkzeug.response_of(error)
        return _werkzeug.response_of(await self.with_response(app, error)) if carried is None else carried

    async def with_response(self, app: Any, error: JWTExtendedException) -> JWTExtendedException:
        """An error that a view raises as one that carries its response. For adapters.

        Extensions with an error handling of their own know no other.
        """
        app_state: AppState = app.extensions[EXTENSION]
        request_state = app_state.current_request_state()
        own = None if request_state is None else request_state.result
        dead: tuple[bool, ...] = ()
        if request_state is not None and own is not None and isinstance(error, RevokedTokenError):
            held = own.authentication
            if error.jwt_data.get("jti") == held.claims.get("jti"):  # nobody is authenticated any more
                dead = (
                    _dead_cookies(error, held.policy, app_state.engine())
                    if held.location == "cookies"
                    else ()
                )
                request_state.reset()
        return await self._refusal(app_state, error, dead)

    async def _refusal(
        self, app_state: AppState, error: JWTExtendedException, dead: Collection[bool] = ()
    ) -> JWTExtendedException:
        """The error as one that carries its response, which takes dead cookies away.

        Args:
            app_state: the application.
            error: why the request is refused.
            dead: the cookies that can no longer be of use: False for the access token's, True for the other.
        """
        app_state.note_refusal(error)
        held: Mapping[str, Any] = getattr(error, "jwt_data", {})
        # Whoever has no token yet is no news.
        level = logging.DEBUG if isinstance(error, NoAuthorizationError) else logging.INFO
        event = {"event": "token_refused", "code": error.error_code, "jti": held.get("jti")}
        log.log(level, "A request is refused: %s (%r)", error.error_code, str(error), extra=event)
        settings, response = app_state.engine().settings, None
        if not self._framework.has_handler(app_state.app, error, is_compat=settings.is_compat):
            try:
                response = await self._loaded_response(app_state, error)
            except JWTExtendedException as broken:
                error = broken
        if response is None:
            response = self._framework.respond(app_state.app, error_response(error, settings))
        response = self._without(response, dead, settings)
        held = getattr(error, "jwt_data", {})
        identity = held.get(settings.identity_claim)
        await notify(
            token_refused,
            app_state.app,
            code=error.error_code,
            detail=error.detail,
            identity=identity,
            jti=held.get("jti"),
        )
        return self._framework.twin(app_state.app, error, response, is_compat=settings.is_compat)

    async def _loaded_response(self, app_state: AppState, error: JWTExtendedException) -> Any | None:
        engine = app_state.engine()
        chosen = loader_for(error, engine.settings, engine.hooks)
        if chosen is None:
            return None
        name, arguments = chosen
        try:
            answer = await engine.call_hook(name, *arguments)
        except RuntimeError as failed:
            _explain(failed, self._framework.view(self._framework.current_request()))
            raise
        try:
            return await self._framework.make_response(app_state.app, answer)
        except TypeError:
            problem = f"{name}_loader returned {type(answer).__name__}; it must return a response"
            log.error("%s", problem, extra={"event": "hook_error", "hook": name})
            raise HookError(problem) from None

    # -- the current request --------------------------------------------------------------

    def current_auth(self) -> Authentication | None:
        """The frozen `Authentication` of this request; None for an anonymous one.

        Raises:
            RuntimeError: no check has passed in this request.
        """
        result = self._request_state().result
        return None if result is None else result.authentication

    def get_jwt(self) -> dict[str, Any]:
        """The claims of this request's token; {} for an anonymous request.

        Raises:
            RuntimeError: no check has passed in this request.
        """
        found = self.current_auth()
        return {} if found is None else found.claims

    def get_jwt_header(self) -> dict[str, Any]:
        """The header of this request's token; {} for an anonymous request.

        Raises:
            RuntimeError: no check has passed in this request.
        """
        found = self.current_auth()
        return {} if found is None else found.header

    def get_jwt_identity(self) -> Any:
        """The identity of this request's token; None for an anonymous request.

        Raises:
            RuntimeError: no check has passed in this request.
        """
        found = self.current_auth()
        return None if found is None else found.identity

    def get_jwt_request_location(self) -> str | None:
        """Where this request's token was, such as "headers", by its name in `JWT_TOKEN_LOCATION`.

        None for an anonymous request, and where no check has passed.
        """
        found = self._app_state().authentication()
        return None if found is None else found.location

    def get_current_user(self) -> Any:
        """The user of this request, as `user_lookup_loader` returned it; None if anonymous.

        Raises:
            RuntimeError: no check has passed in this request, or no loader is registered.
        """
        found = self.current_auth()
        if found is None:
            return None
        if "user_lookup" not in self._app_state().engine().hooks:
            raise RuntimeError("There is no current user: register a loader with @jwt.user_lookup_loader")
        return found.user

    def current_user_as(self, kind: type[U]) -> U:  # noqa: ARG002  # it is there for type checkers
        """The user of this request, to a type checker of the class that is named. Nothing is converted.

        Args:
            kind: the class that `user_lookup_loader` returns objects of.

        Raises:
            RuntimeError: the request is anonymous, no check has passed in it, or no loader is registered.
        """
        user: U | None = self.get_current_user()
        if user is None:
            raise RuntimeError("There is no current user: the request is anonymous")
        return user

    def get_unverified_jwt_headers(self, encoded_token: str) -> dict[str, Any]:
        """The header of a token that nobody has verified. Believe nothing in it.

        Raises:
            MalformedTokenError: it is no token.
        """
        limit = self._app_state().engine().settings.max_token_bytes
        header, _ = object_in(split(encoded_token, limit).header, "header")
        return header

    def _request_state(self) -> RequestState:
        request = self._framework.current_request()
        if request is None:
            raise self._nowhere(
                "No request is served here, so nobody is authenticated: hand what you need of one to "
                "background tasks, jobs and threads"
            )
        request_state = self._app_state().request_state(request)
        if not request_state.passed:
            raise RuntimeError(
                "Nothing was checked in this request: put @jwt_required() on its view, below the route, or "
                "call verify_jwt_in_request() first"
            )
        return request_state

    # -- cookies --------------------------------------------------------------------------

    def set_access_cookies(
        self,
        response: Any,
        encoded_access_token: str,
        max_age: int | None = None,
        domain: str | None = None,
    ) -> None:
        """Set an access token's cookie and, with CSRF protection on, its readable twin.

        Args:
            response: a response object.
            encoded_access_token: a token that this application just made.
            max_age: seconds to keep the cookies; None keeps them as long as the token
                lives, or the browser session with `JWT_SESSION_COOKIE`.
            domain: the cookies' domain; None is `JWT_COOKIE_DOMAIN`.

        Raises:
            MalformedTokenError: it is no token.
            CSRFError: another site sent the browser here to have it signed in, as the Origin of a POST
                says (`JWT_CSRF_CHECK_ORIGIN`, `JWT_TRUSTED_ORIGINS`).
            TypeError: the token was never awaited.
            ValueError: the cookie would be larger than browsers keep, or the token was made
                without a CSRF value.
        """
        self._set(response, encoded_access_token, False, max_age, domain)

    def set_refresh_cookies(
        self,
        response: Any,
        encoded_refresh_token: str,
        max_age: int | None = None,
        domain: str | None = None,
    ) -> None:
        """Set a refresh token's cookies. See `set_access_cookies`."""
        self._set(response, encoded_refresh_token, True, max_age, domain)

    def set_token_cookies(self, response: Any, pair: TokenPair) -> None:
        """Set both tokens' cookies and their readable twins. See `set_access_cookies`.

        Args:
            response: a response object.
            pair: what `create_token_pair` returned.
        """
        refuse_coroutine(pair, "write `await create_token_pair(...)`")
        self._set(response, pair.access_token, False, None, None)
        self._set(response, pair.refresh_token, True, None, None)

    async def refresh_expiring_cookies(
        self, response: Any, *, within: dt.timedelta | float | None = None, identity: Any = None
    ) -> Any:
        """Rotate the tokens of a request whose access cookie expires soon. For `after_request`.

        The refresh token has to come along in its cookie (`JWT_REFRESH_COOKIE_PATH`), belong to the
        same session, and pass all checks; the user is looked up again. The new access token is fresh
        for as long as the old one would have been. Nothing happens where the view itself set or took
        away a token cookie, where the request revoked anything, or where the refresh token is
        refused. A faster request of the same browser may replace the refresh token while this one is
        served: that is no replay. Requests of several tabs at once need a grace.

        Args:
            response: the response.
            within: how long before its end an access token is replaced: a timedelta or seconds;
                None is half of its lifetime.
            identity: as for `rotate_refresh_token`.

        Returns:
            The response, with both tokens' cookies where they were rotated.

        Raises:
            ConfigurationError: `JWT_REFRESH_GRACE` is 0, so that the second of two requests of one
                browser would look like theft; or the store keeps no sessions.
        """
        app_state = self._app_state()
        engine = app_state.engine()
        if engine.settings.refresh_grace == 0:
            raise ConfigurationError("refresh_expiring_cookies() needs a JWT_REFRESH_GRACE other than 0")
        held, ref = app_state.authentication(), app_state.ref()
        if held is None or ref is None or not self._is_due(engine, held, within):
            return response
        names = {
            cookie.name
            for refresh in (False, True)
            for cookie in cookies_to_unset(engine.settings, refresh=refresh)
        }
        if not app_state.may_refresh() or _werkzeug.has_cookies(response, names):
            return response
        request_state, view = RequestState(), self._framework.view(self._framework.current_request())
        began_at = app_state.began_at()
        try:
            await authenticate(engine, view, _REFRESH_COOKIE, request_state, came_along_at=began_at)
            result = request_state.result
            if result is None or not _are_one_session(ref, result.ref):
                return response
            renewing = result.authentication
            known_as = await self._known_as(engine, renewing, identity)
            spec = PairSpec(identity=known_as, fresh=_as_fresh_as(held.claims))
            pair = await rotate(engine, renewing, result.ref, spec, began_at=began_at, came_along=True)
        except JWTExtendedException as error:
            if isinstance(error, TokenReusedError) and error.kind != "overtaken":
                await self._send_reused(error)
            event = {"event": "cookies_not_refreshed", "code": error.error_code}
            log.debug("The cookies are not refreshed: %s (%r)", error.error_code, str(error), extra=event)
            return response
        except ValueError as problem:
            event = {"event": "cookies_not_refreshed"}
            log.error("The cookies are not refreshed: %r", str(problem), extra=event)  # the text says it all
            return response
        await self._send_repeated(renewing, result.ref, pair.late_streak)
        self.set_token_cookies(response, await self._handed_out(pair))
        return response

    @staticmethod
    def _is_due(engine: Engine, held: Authentication, within: dt.timedelta | float | None) -> bool:
        claims = held.claims
        end, now = claims.get("exp"), engine.clock()
        if held.location != "cookies" or claims["type"] != ACCESS or not isinstance(end, int | float):
            return False
        if within is None:
            start = claims.get("iat")
            within = (end - start) / 2 if isinstance(start, int | float) else 0
        elif isinstance(within, dt.timedelta):
            within = within.total_seconds()
        return end - now <= within

    def unset_jwt_cookies(self, response: Any, domain: str | None = None) -> None:
        """Take all of a client's token cookies away.

        Args:
            response: a response object.
            domain: the domain they were set with; None is `JWT_COOKIE_DOMAIN`.
        """
        self.unset_access_cookies(response, domain)
        self.unset_refresh_cookies(response, domain)

    def unset_access_cookies(self, response: Any, domain: str | None = None) -> None:
        """Take the access token's cookies away. See `unset_jwt_cookies`."""
        self._unset(response, False, domain)

    def unset_refresh_cookies(self, response: Any, domain: str | None = None) -> None:
        """Take the refresh token's cookies away. See `unset_jwt_cookies`."""
        self._unset(response, True, domain)

    def _set(self, response: Any, token: str, refresh: bool, max_age: int | None, domain: str | None) -> None:
        engine, response = self._app_state().engine(), unproxied(response)
        claims: Mapping[str, Any]
        _, claims = read_unverified(token, engine.settings.max_token_bytes)
        self._check_login(engine.settings)
        cookies = cookies_to_set(
            token, claims, engine.settings, engine.clock(), refresh=refresh, max_age=max_age, domain=domain
        )
        _werkzeug.put_cookies(response, cookies, uncached=not engine.settings.is_compat)

    @staticmethod
    def _without(response: Any, dead: Collection[bool], settings: Settings) -> Any:
        """A response that takes dead cookies away, unless it sets them itself."""
        cookies = [cookie for refresh in dead for cookie in cookies_to_unset(settings, refresh=refresh)]
        names = [cookie.name for cookie in cookies]
        if not cookies or settings.is_compat or _werkzeug.has_cookies(response, names):
            return response
        response = _werkzeug.copy_response(response)  # a loader may answer with one object each time
        _werkzeug.put_cookies(response, cookies, uncached=True)
        return response

    def _check_login(self, settings: Settings) -> None:
        """Refuse to sign a browser in because another site sent it here, as somebody whom that site chose.

        Raises:
            CSRFError: the request comes from an origin that is not trusted.
        """
        request = self._framework.current_request()
        if request is None:
            return
        view = self._framework.view(request)
        # To themselves browsers take Secure cookies over http.
        if settings.cookie_secure and is_insecure(view.origin):
            self._app_state().note_insecure()
        checks_csrf = settings.cookie_csrf_protect and settings.csrf_check_origin
        if checks_csrf and view.method in settings.csrf_methods:
            check_origin(view, settings)

    def _nowhere(self, text: str) -> RuntimeError:
        """What to say where this framework serves nothing: perhaps another one does."""
        for name, other in _frameworks.items():
            if name != self._framework.name and other.current_app() is not None:
                return RuntimeError(
                    f"This is a function for {self._framework.name}, called in a {name} application: import "
                    f"it from {' or '.join(other.adapters)}"
                )
        return RuntimeError(text)

    def _unset(self, response: Any, refresh: bool, domain: str | None) -> None:
        settings = self._app_state().engine().settings
        cookies = cookies_to_unset(settings, refresh=refresh, domain=domain)
        _werkzeug.put_cookies(unproxied(response), cookies, uncached=not settings.is_compat)

    def _app_state(self) -> AppState:
        app = self._framework.current_app()
        if app is None:
            raise self._nowhere(
                "There is no application: push an app context, or use the JWTManager's methods"
            )
        try:
            app_state: AppState = app.extensions[EXTENSION]
        except KeyError:
            raise RuntimeError(
                "This application has no JWTManager: call JWTManager(app) or init_app(app)"
            ) from None
        return app_state


_frameworks: dict[str, Framework] = {}


async def _observed(engine: Engine, view: RequestView, policy: Policy, request_state: RequestState) -> bool:
    """A check, and what somebody who measures is told of it."""
    observer = cast("Observer", engine.observer)
    with observer.measure("check", "check") as measurement:
        loads = await authenticate(engine, view, policy, request_state)
        found = request_state.result
        measurement.outcome = "anonymous" if found is None else "accepted"
        if found is not None:
            measurement.details = {"location": found.location, "type": kind_of(found.type)}
        return loads


def _explain(problem: BaseException, view: RequestView) -> None:
    """Say why a hook failed that reads the request where there is none."""
    if view.is_websocket and isinstance(problem, RuntimeError) and "request context" in str(problem):
        problem.add_note(
            "A WebSocket has no request: let the loader read what it is given, or `websocket` where "
            "has_websocket_context() says that there is one."
        )


# Seconds that a new user may take to be found everywhere, such as in replicas of a database.
_SETTLES = 60


def _dead_cookies(error: JWTExtendedException, policy: Policy, engine: Engine) -> tuple[bool, ...]:
    """Which token cookies a refusal makes useless. A browser that kept them would be refused for ever."""
    if isinstance(error, TokenReusedError):
        return False, True  # its session is over
    return (policy.refresh,) if _is_dead(error, engine) else ()


def _is_dead(error: JWTExtendedException, engine: Engine) -> bool:
    if isinstance(error, RevokedTokenError | MalformedTokenError):
        return True
    if engine.settings.cookie_domain is not None:
        return False  # others of the domain may accept what is none of ours
    if isinstance(error, UserLookupError):
        issued = error.jwt_data.get("iat")
        return isinstance(issued, int | float) and engine.clock() - issued > _SETTLES
    if isinstance(error, SignatureError):  # its key may be known a moment later
        return not (engine.loads_keys or "decode_key" in engine.hooks)
    # An expired one may have been replaced by another tab meanwhile, and leaves the browser by its Max-Age.
    return isinstance(error, JWTDecodeError) and not isinstance(error, ImmatureTokenError | ExpiredTokenError)


def _are_one_session(access: TokenRef, refresh: TokenRef) -> bool:
    return access.identity == refresh.identity and access.sid in (None, refresh.sid)


def _as_fresh_as(claims: Mapping[str, Any]) -> Fresh:
    """Until when a token is fresh, for the one that takes its place: no longer."""
    fresh = claims["fresh"]
    until: Fresh = claims["exp"] if fresh is True else fresh
    return until if isinstance(until, int | float) else False
