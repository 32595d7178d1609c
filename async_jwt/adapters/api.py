"""The public functions, written once over the small `Framework` protocol; adapters export them bound."""

from __future__ import annotations

import datetime as dt
import inspect
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any, Final, TypeVar, overload

from async_jwt.adapters.errors import Responder, dead_cookies, explain
from async_jwt.adapters.framework import Framework
from async_jwt.adapters.protect import DEFAULT, mark, mark_wrapped
from async_jwt.app_state import EXTENSION, AppState
from async_jwt.core.authenticate import (
    Authentication,
    CheckResult,
    RequestState,
    authenticate,
    authenticate_once,
)
from async_jwt.core.checks import check_origin, is_insecure
from async_jwt.core.claims import Fresh
from async_jwt.core.codec import read_unverified
from async_jwt.core.compact import object_in, split
from async_jwt.core.concurrency import notify, refuse_coroutine
from async_jwt.core.cookies import cookies_to_set, cookies_to_unset
from async_jwt.core.engine import Engine
from async_jwt.core.issue import TokenPair
from async_jwt.core.observer import kind_of
from async_jwt.core.policy import ACCESS, Location, Once, Policy
from async_jwt.core.proxies import unproxied
from async_jwt.core.request import RequestView
from async_jwt.core.rotation import PairSpec, rotate
from async_jwt.errors import ConfigurationError, JWTExtendedException, TokenReusedError
from async_jwt.operations import Operations, hand_out, known_as, send_repeated, send_reused, send_used
from async_jwt.signals import user_loaded
from async_jwt.stores.contract import TokenRef

__all__ = ["PUBLIC", "PublicAPI"]

PUBLIC: Final = (
    "Authentication",
    "SessionInfo",
    "SessionPage",
    "TokenPair",
    "consume_token",
    "create_access_token",
    "create_refresh_token",
    "create_token",
    "create_token_pair",
    "current_auth",
    "current_user",
    "current_user_as",
    "decode_token",
    "expire_access_tokens",
    "get_csrf_token",
    "get_current_user",
    "get_jti",
    "get_jwt",
    "get_jwt_header",
    "get_jwt_identity",
    "get_jwt_request_location",
    "get_unverified_jwt_headers",
    "jwks_view",
    "jwt_required",
    "list_sessions",
    "protect",
    "public",
    "refresh_expiring_cookies",
    "revoke_session",
    "revoke_token",
    "revoke_user",
    "rotate_refresh_token",
    "set_access_cookies",
    "set_refresh_cookies",
    "set_token_cookies",
    "unset_access_cookies",
    "unset_jwt_cookies",
    "unset_refresh_cookies",
    "verify_jwt_in_request",
)
"""The names that every adapter exports, besides its own `JWTManager`."""

F = TypeVar("F", bound=Callable[..., Any])
U = TypeVar("U")

log: logging.Logger = logging.getLogger("async_jwt")

_REFRESH_COOKIE = Policy.of(refresh=True, locations="cookies")


class PublicAPI:
    """All functions that an application calls, as methods of one object.

    Args:
        framework: the framework.

    Attributes:
        operations: creates, reads and revokes tokens.
        responder: builds the responses to errors.
    """

    def __init__(self, framework: Framework) -> None:
        self._framework = framework
        self.operations: Operations = Operations(self.current, any_session=False)
        self.responder: Responder = Responder(framework)
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
        once: Once = False,
    ) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Check the current request's token. See `jwt_required` for the arguments.

        On an open WebSocket, each call repeats every check. In a stream, a call repeats checks that
        are older than one second.

        Returns:
            The token's header and claims; None for OPTIONS, and for a request without a token that
            `optional` lets through.

        Raises:
            JWTExtendedException: the request is refused, or cannot be decided. The exception
                carries the response, so there is no need to catch it.
            ConfigurationError: an argument or a setting is invalid.
            RuntimeError: there is no request.
        """
        policy = Policy.of(
            optional, fresh, refresh, locations, verify_type, skip_revocation_check, type=type, once=once
        )
        result = await (self._verify_once if policy.once else self._verify)(policy)
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
        once: Once = False,
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
        once: Once = False,
    ) -> Any:
        """Protect a view: it runs only for requests with a valid token of the required kind.

        Works with and without parentheses, on:

        - `async def` and `def` views
        - class-based views: on their methods, or in their `decorators`
        - `before_request` functions
        - generators that stream
        - in Quart, WebSockets and `before_websocket` functions

        OPTIONS requests pass unauthenticated.

        Args:
            optional: True lets a request without a token through as anonymous. An invalid token is
                still refused.
            fresh: True requires a token from a recent login.
            refresh: True requires a refresh token, in its own cookie or JSON key.
            locations: where to look, instead of `JWT_TOKEN_LOCATION`: one or several of "headers",
                "cookies", "query_string", "json" and "websocket_protocol".
            verify_type: False accepts both access and refresh tokens.
            skip_revocation_check: True accepts revoked tokens.
            type: the type, or types, of purpose tokens to accept instead of access tokens.
            once: True uses the token up before the view runs, after everything else has passed, if the
                request changes something: not at GET and HEAD, which mail scanners send too, but at all other
                methods and at the handshake of a WebSocket. A token that was used is refused at each of
                them, with the code `token_used`. "get" uses it up at GET and HEAD as well.

        A view with `once=True` that serves GET alone would never use its token up: the application is
        refused as it starts, in Flask at its first request.

        Raises:
            ConfigurationError: an argument is invalid, or the decorated object cannot be protected.
        """
        if callable(optional):
            return self._guarded(optional, Policy.of())
        policy = Policy.of(
            optional, fresh, refresh, locations, verify_type, skip_revocation_check, type=type, once=once
        )

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
        verify = self._verify_once if policy.once else self._verify
        guarded = self._framework.guard(view, partial(verify, policy), self._served)
        mark(guarded, policy)
        mark_wrapped(view)
        return guarded

    async def verify_by_default(self, app_state: AppState, request: Any, engine: Engine) -> None:
        """Check a request whose view is protected only by default. For adapters.

        If a check already passed, in a `before_request` function, the application has decided,
        unless that check also lets anonymous requests through.

        Raises:
            JWTExtendedException: the request is refused.
        """
        held = app_state.state_of(request).authentication
        if held is None or held.policy.optional:
            await self._verify(DEFAULT, app_state, request, engine)

    async def _verify(
        self,
        policy: Policy,
        app_state: AppState | None = None,
        request: Any = None,
        engine: Engine | None = None,
    ) -> CheckResult | None:
        """Check the current request; return None for OPTIONS and for an anonymous request."""
        if app_state is None:
            app_state, request = self._served()
        request_state = app_state.request_state(request)
        view = self._framework.view(request)
        if view.method == "OPTIONS":
            # A CORS preflight carries no credentials (Fetch §3.2.2).
            request_state.passed = True
            return None
        try:
            engine = engine or app_state.engine()
            check = authenticate if engine.observer is None and not policy.once else _checked
            loads = await check(engine, view, policy, request_state)
        except JWTExtendedException as error:
            if isinstance(error, TokenReusedError):
                await send_reused(app_state, error)
            request_state.reset()  # error handlers, sockets and streams keep running
            may_delete = request_state.location == "cookies" and not view.is_websocket
            dead = dead_cookies(error, policy, engine) if may_delete and engine is not None else ()
            raise await self.responder.refuse(app_state, request_state, error, dead) from error
        except BaseException as problem:  # a hook that failed, or a time limit around the check
            request_state.reset()
            explain(problem, view)
            raise
        result = request_state.result
        if loads and result is not None:
            found = result.authentication
            await notify(user_loaded, app_state.app, user=found.user, identity=found.identity)
        return result

    async def _verify_once(
        self,
        policy: Policy,
        app_state: AppState | None = None,
        request: Any = None,
        engine: Engine | None = None,
    ) -> CheckResult | None:
        """Like `_verify`, for a policy with `once`; sends the signal of a token that was used."""
        if app_state is None:
            app_state, request = self._served()
        request_state = app_state.request_state(request)
        before = request_state.consumed
        result = await self._verify(policy, app_state, request, engine)
        if result is not None and request_state.consumed != before:
            await send_used(app_state, result.ref)
        return result

    async def jwks_view(self) -> Any:
        """View that serves the JWKS document (RFC 7517 §5) to services that verify our tokens.

        Register it where they look for it: ``app.add_url_rule("/.well-known/jwks.json",
        view_func=jwks_view)``. `JWT_JWKS_MAX_AGE` limits how long they may cache it.

        Raises:
            ConfigurationError: a setting that names a key is missing or invalid.
        """
        app_state, _ = self.current()
        engine = app_state.engine()
        keys = await engine.active_keys()
        headers = {
            "Content-Type": "application/jwk-set+json",  # RFC 7517 §8.5.2
            "Cache-Control": f"public, max-age={engine.settings.jwks_max_age}",
        }
        return self._framework.json_response(app_state.app, keys.jwks(), 200, headers)

    # -- the current request --------------------------------------------------------------

    def current_auth(self) -> Authentication | None:
        """Return the frozen `Authentication` of this request; None for an anonymous request.

        Raises:
            RuntimeError: no check has passed in this request.
        """
        return self._checked()[1].authentication

    def get_jwt(self) -> dict[str, Any]:
        """Return the claims of this request's token; {} for an anonymous request.

        Raises:
            RuntimeError: no check has passed in this request.
        """
        found = self.current_auth()
        return {} if found is None else found.claims

    def get_jwt_header(self) -> dict[str, Any]:
        """Return the header of this request's token; {} for an anonymous request.

        Raises:
            RuntimeError: no check has passed in this request.
        """
        found = self.current_auth()
        return {} if found is None else found.header

    def get_jwt_identity(self) -> Any:
        """Return the identity of this request's token; None for an anonymous request.

        Raises:
            RuntimeError: no check has passed in this request.
        """
        found = self.current_auth()
        return None if found is None else found.identity

    def get_jwt_request_location(self) -> str | None:
        """Return where this request's token was found: a name from `JWT_TOKEN_LOCATION`, such as "headers".

        None for an anonymous request, or if no check has passed.
        """
        found = self._here()[1].authentication
        return None if found is None else found.location

    def get_current_user(self) -> Any:
        """Return the user of this request, as `user_lookup_loader` returned it; None if anonymous.

        Raises:
            RuntimeError: no check has passed in this request, or no loader is registered.
        """
        app_state, request_state = self._checked()
        found = request_state.authentication
        if found is None:
            return None
        if "user_lookup" not in app_state.engine().hooks:
            raise RuntimeError("There is no current user: register a loader with @jwt.user_lookup_loader")
        return found.user

    def current_user_as(self, kind: type[U]) -> U:  # noqa: ARG002  # for type checkers only
        """Return the user of this request, typed as `kind` for type checkers. Nothing is converted.

        Args:
            kind: the class of the objects that `user_lookup_loader` returns.

        Raises:
            RuntimeError: the request is anonymous, no check has passed in it, or no loader is registered.
        """
        user: U | None = self.get_current_user()
        if user is None:
            raise RuntimeError("There is no current user: the request is anonymous")
        return user

    def get_unverified_jwt_headers(self, encoded_token: str) -> dict[str, Any]:
        """Return the header of a token without verifying it. Trust nothing in it.

        Raises:
            MalformedTokenError: `encoded_token` is not a token.
        """
        limit = self.current()[0].engine().settings.max_token_bytes
        header, _ = object_in(split(encoded_token, limit).header, "header")
        return header

    # -- cookies --------------------------------------------------------------------------

    def set_access_cookies(
        self,
        response: Any,
        encoded_access_token: str,
        max_age: int | None = None,
        domain: str | None = None,
    ) -> None:
        """Set an access token's cookie and, with CSRF protection on, the CSRF cookie that scripts can read.

        Args:
            response: a response object.
            encoded_access_token: a token that this application has just created.
            max_age: seconds to keep the cookies; None keeps them for the token's lifetime, or for
                the browser session with `JWT_SESSION_COOKIE`.
            domain: the cookies' domain; None uses `JWT_COOKIE_DOMAIN`.

        Raises:
            MalformedTokenError: `encoded_access_token` is not a token.
            CSRFError: another site sent the browser here to sign it in, according to the Origin of a
                POST (`JWT_CSRF_CHECK_ORIGIN`, `JWT_TRUSTED_ORIGINS`).
            TypeError: the token is a coroutine that was not awaited.
            ValueError: the cookie would be larger than browsers keep, or the token was created
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
        """Set both tokens' cookies and their CSRF cookies. See `set_access_cookies`.

        Args:
            response: a response object.
            pair: the tokens that `create_token_pair` or `rotate_refresh_token` returned.
        """
        refuse_coroutine(pair, "write `await create_token_pair(...)`")
        self._set(response, pair.access_token, False, None, None)
        self._set(response, pair.refresh_token, True, None, None)

    async def refresh_expiring_cookies(
        self, response: Any, *, within: dt.timedelta | float | None = None, identity: Any = None
    ) -> Any:
        """Rotate the tokens of a request whose access cookie expires soon. For `after_request`.

        The request must also carry the refresh token's cookie (`JWT_REFRESH_COOKIE_PATH`). That token
        must belong to the same session and pass all checks; the user is looked up again. The new
        access token stays fresh for as long as the old one would have.

        Nothing happens if the view itself set or deleted a token cookie, if the request revoked
        anything, or if the refresh token is refused. A faster request of the same browser may
        replace the refresh token while this one is being served: that is not a replay. Concurrent
        requests from several tabs need a grace.

        Args:
            response: the response.
            within: how long before it expires to replace an access token, as a timedelta or in
                seconds; None is half of its lifetime.
            identity: as for `rotate_refresh_token`.

        Returns:
            The response, with both tokens' cookies if they were rotated.

        Raises:
            ConfigurationError: `JWT_REFRESH_GRACE` is 0, so the second of two requests from one
                browser would look like theft; or the store does not support sessions.
        """
        app_state, request_state = self._here()
        engine, result = app_state.engine(), request_state.result
        if engine.settings.refresh_grace == 0:
            raise ConfigurationError("refresh_expiring_cookies() needs a JWT_REFRESH_GRACE other than 0")
        if result is None or not self._is_due(engine, result.authentication, within):
            return response
        names = {
            cookie.name
            for refresh in (False, True)
            for cookie in cookies_to_unset(engine.settings, refresh=refresh)
        }
        if not request_state.may_refresh or self._framework.sets_cookie(response, names):
            return response
        try:
            pair = await self._renewed(app_state, request_state, result, identity)
        except JWTExtendedException as error:
            if isinstance(error, TokenReusedError) and error.kind != "overtaken":
                await send_reused(app_state, error)
            event = {"event": "cookies_not_refreshed", "code": error.error_code}
            log.debug("Token cookies were not refreshed: %s (%r)", error.error_code, str(error), extra=event)
            return response
        except ValueError as problem:
            event = {"event": "cookies_not_refreshed"}
            log.error(
                "Token cookies were not refreshed: %r", str(problem), extra=event
            )  # no traceback needed
            return response
        if pair is not None:
            self.set_token_cookies(response, pair)
        return response

    async def _renewed(
        self, app_state: AppState, request_state: RequestState, result: CheckResult, identity: Any
    ) -> TokenPair | None:
        """Return new tokens for a request with a refresh cookie; None if that is another session's."""
        engine, own = app_state.engine(), RequestState()
        view = self._framework.view(self._served()[1])
        await authenticate(engine, view, _REFRESH_COOKIE, own, came_along_at=result.found_at)
        refresh = own.result
        if refresh is None or not _are_one_session(result.ref, refresh.ref):
            return None
        renewing = refresh.authentication
        spec = PairSpec(
            identity=await known_as(engine, renewing, identity),
            fresh=_as_fresh_as(result.authentication.claims),
        )
        pair = await rotate(engine, renewing, refresh.ref, spec, began_at=result.found_at, came_along=True)
        await send_repeated(app_state, renewing, refresh.ref, pair.late_streak)
        return await hand_out(app_state, request_state, pair)

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
        """Delete all of a client's token cookies.

        Args:
            response: a response object.
            domain: the domain they were set with; None uses `JWT_COOKIE_DOMAIN`.
        """
        self.unset_access_cookies(response, domain)
        self.unset_refresh_cookies(response, domain)

    def unset_access_cookies(self, response: Any, domain: str | None = None) -> None:
        """Delete the access token's cookies. See `unset_jwt_cookies`."""
        self._unset(response, False, domain)

    def unset_refresh_cookies(self, response: Any, domain: str | None = None) -> None:
        """Delete the refresh token's cookies. See `unset_jwt_cookies`."""
        self._unset(response, True, domain)

    def _set(self, response: Any, token: str, refresh: bool, max_age: int | None, domain: str | None) -> None:
        app_state, response = self.current()[0], unproxied(response)
        engine = app_state.engine()
        settings = engine.settings
        claims: Mapping[str, Any]
        _, claims = read_unverified(token, settings.max_token_bytes)
        self._check_login(app_state, engine)
        cookies = cookies_to_set(
            token, claims, settings, engine.clock(), refresh=refresh, max_age=max_age, domain=domain
        )
        self._framework.set_cookies(response, cookies, uncached=not settings.is_compat)

    def _check_login(self, app_state: AppState, engine: Engine) -> None:
        """Refuse to sign a browser in on a cross-site request (login CSRF).

        Raises:
            CSRFError: the request comes from an origin that is not trusted.
        """
        _, request = self._framework.current()
        if request is None:
            return
        view, settings = self._framework.view(request), engine.settings
        # Not for localhost, where browsers accept Secure cookies over http.
        if settings.cookie_secure and is_insecure(view.origin):
            app_state.warn_once(
                "insecure_cookies",
                "Secure token cookies were set in a response over http, and browsers drop them: serve https; "
                "behind a proxy that terminates TLS, have ProxyFix read its X-Forwarded headers; in "
                "development, set JWT_COOKIE_SECURE = False",
            )
        checks_csrf = settings.cookie_csrf_protect and settings.csrf_check_origin
        if checks_csrf and view.method in settings.csrf_methods:
            check_origin(view, settings)

    def _unset(self, response: Any, refresh: bool, domain: str | None) -> None:
        settings = self.current()[0].engine().settings
        cookies = cookies_to_unset(settings, refresh=refresh, domain=domain)
        self._framework.set_cookies(unproxied(response), cookies, uncached=not settings.is_compat)

    # -- which application, which request -----------------------------------------------------

    def current(self) -> tuple[AppState, Any | None]:
        """Return the current application's state and the request being served, or None. For adapters.

        Raises:
            RuntimeError: there is no current application, or it has no JWTManager.
        """
        app, request = self._framework.current()
        if app is None:
            raise self._nowhere(
                "There is no application: push an app context, or use the JWTManager's methods"
            )
        return self._state_of(app), request

    def _here(self) -> tuple[AppState, RequestState]:
        app_state, request = self.current()
        return app_state, app_state.state_of(request)

    def _served(self) -> tuple[AppState, Any]:
        """The application and the request being served."""
        app, request = self._framework.current()
        if request is None:
            raise self._nowhere("There is no request to verify: call this inside a request")
        try:
            return self._framework.extensions(app)[EXTENSION], request
        except KeyError:
            return self._state_of(app), request  # raises and says what is missing

    def _checked(self) -> tuple[AppState, RequestState]:
        """Like `current`, for a request in which a check has passed."""
        app, request = self._framework.current()
        if request is None:
            raise self._nowhere(
                "No request is being served, so there is no authenticated user: pass what you need from a "
                "request to background tasks, jobs and threads"
            )
        app_state = self._state_of(app)
        request_state = app_state.state_of(request)
        if not request_state.passed:
            raise RuntimeError(
                "No token check has passed in this request: put @jwt_required() on its view, below the "
                "route, or call verify_jwt_in_request() first"
            )
        return app_state, request_state

    def _state_of(self, app: Any) -> AppState:
        app_state: AppState | None = self._framework.extensions(app).get(EXTENSION)
        if app_state is None:
            raise RuntimeError("This application has no JWTManager: call JWTManager(app) or init_app(app)")
        return app_state

    def _nowhere(self, text: str) -> RuntimeError:
        """Return the error for a call where this framework is not active; names the framework that is."""
        for name, other in _frameworks.items():
            if name != self._framework.name and other.current()[0] is not None:
                return RuntimeError(
                    f"This is a function for {self._framework.name}, called in a {name} application: import "
                    f"it from {' or '.join(other.adapters)}"
                )
        return RuntimeError(text)


_frameworks: dict[str, Framework] = {}


async def _checked(engine: Engine, view: RequestView, policy: Policy, request_state: RequestState) -> bool:
    """Run a check that uses its token once, or is observed."""
    check = authenticate_once if policy.once else authenticate
    observer = engine.observer
    if observer is None:
        return await check(engine, view, policy, request_state)
    with observer.measure("check", "check") as measurement:
        loads = await check(engine, view, policy, request_state)
        found = request_state.result
        measurement.outcome = "anonymous" if found is None else "accepted"
        if found is not None:
            measurement.details = {"location": found.location, "type": kind_of(found.type)}
        return loads


def _are_one_session(access: TokenRef, refresh: TokenRef) -> bool:
    return access.identity == refresh.identity and access.sid in (None, refresh.sid)


def _as_fresh_as(claims: Mapping[str, Any]) -> Fresh:
    """Return until when a token is fresh; its replacement must not stay fresh longer."""
    fresh = claims["fresh"]
    until: Fresh = claims["exp"] if fresh is True else fresh
    return until if isinstance(until, int | float) else False
