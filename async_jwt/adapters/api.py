"""The public functions, written once over the small `Framework` protocol; adapters export them bound."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from functools import partial
from typing import Any, Final, TypeVar, overload

from async_jwt.adapters._route_demands import Around
from async_jwt.adapters.cookies import TokenCookies
from async_jwt.adapters.current import CurrentContext
from async_jwt.adapters.errors import Responder, dead_cookies, explain
from async_jwt.adapters.framework import Framework
from async_jwt.adapters.page_loads import PageLoads
from async_jwt.adapters.protect import DEFAULT, mark, mark_wrapped, marks_of
from async_jwt.app_state import AppState, Current
from async_jwt.core.authenticate import (
    Authentication,
    CheckResult,
    RequestState,
    authenticate,
    authenticate_once,
)
from async_jwt.core.compact import object_in, split
from async_jwt.core.concurrency import notify
from async_jwt.core.csrf import masked
from async_jwt.core.engine import Engine
from async_jwt.core.issue import csrf_of
from async_jwt.core.navigation import is_local
from async_jwt.core.observer import kind_of
from async_jwt.core.permissions import Names
from async_jwt.core.policy import Allow, Location, Once, Policy
from async_jwt.core.request import RequestView
from async_jwt.errors import ConfigurationError, JWTExtendedException, TokenReusedError
from async_jwt.operations import Operations, send_reused, send_used
from async_jwt.signals import user_loaded

__all__ = ["PUBLIC", "PublicAPI"]

PUBLIC: Final = (
    "Authentication",
    "CookieScope",
    "SessionInfo",
    "SessionPage",
    "TokenPair",
    "any_of",
    "authenticate_token",
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
    "jwt_csrf_token",
    "jwt_required",
    "list_sessions",
    "protect",
    "public",
    "refresh_expiring_cookies",
    "revoke_session",
    "revoke_token",
    "revoke_user",
    "rotate_refresh_token",
    "safe_next",
    "set_access_cookies",
    "set_refresh_cookies",
    "set_token_cookies",
    "sign_out",
    "unset_access_cookies",
    "unset_jwt_cookies",
    "unset_refresh_cookies",
    "verify_jwt_in_request",
)
"""The names that every adapter exports, besides its own `JWTManager`."""

F = TypeVar("F", bound=Callable[..., Any])
U = TypeVar("U")

log: logging.Logger = logging.getLogger("async_jwt")


class PublicAPI:
    """All functions that an application calls, as methods of one object.

    Args:
        framework: the framework.

    Attributes:
        current: returns the application's state and the request that a call is about.
        cookies: sets, refreshes and deletes token cookies.
        operations: creates, reads and revokes tokens.
        responder: builds the responses to errors.
    """

    def __init__(self, framework: Framework) -> None:
        self._framework = framework
        self._context = CurrentContext(framework)
        self._served = self._context.served
        self.current: Current = self._context.current
        self.operations: Operations = Operations(self.current, any_session=False)
        self.responder: Responder = Responder(framework)
        self._page_loads = PageLoads(framework, self._context)
        self.cookies: TokenCookies = TokenCookies(framework, self._context, self.responder, self._page_loads)

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
        lenient: bool = False,
        refresh_cookie: bool = False,
        scopes: Names = None,
        roles: Names = None,
        claims: Mapping[str, Any] | None = None,
        allow: Allow | None = None,
        realm: str | None = None,
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
            optional,
            fresh,
            refresh,
            locations,
            verify_type,
            skip_revocation_check,
            type=type,
            once=once,
            lenient=lenient,
            refresh_cookie=refresh_cookie,
            scopes=scopes,
            roles=roles,
            claims=claims,
            allow=allow,
            realm=realm,
        )
        result = await self._check_of(policy)(policy)
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
        lenient: bool = False,
        refresh_cookie: bool = False,
        scopes: Names = None,
        roles: Names = None,
        claims: Mapping[str, Any] | None = None,
        allow: Allow | None = None,
        realm: str | None = None,
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
        lenient: bool = False,
        refresh_cookie: bool = False,
        scopes: Names = None,
        roles: Names = None,
        claims: Mapping[str, Any] | None = None,
        allow: Allow | None = None,
        realm: str | None = None,
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

            lenient: True, with `optional`, takes a cookie whose token is unusable (expired, revoked, of
                another type, its user gone) for none at GET, HEAD and a WebSocket's handshake. The response
                deletes the cookie, unless a refresh token may still replace an expired one.
            refresh_cookie: True lets a page load go on whose access cookie is missing, expired or
                invalid, if its refresh cookie counts: the response sets new cookies. A page load is what a
                browser marks as one (`Sec-Fetch-Mode: navigate`, `Sec-Fetch-Dest: document`). If another
                site caused it, or it may be answered with 304, only a new access token is made.
            scopes: the scopes that the token must have: one, a list of all that are needed, or
                `any_of("orders:read", "orders:all")`; a list may hold `any_of` too. A token without them is
                refused with 403 `insufficient_scope`, whose challenge names them (RFC 6750 §3.1).
            roles: the roles that it must have, likewise; refused with 403 `permission_denied`.
            claims: claims that it must have, with their values and types: True is neither 1 nor "true".
                Refused likewise.
            allow: for what none of these can say: a function, `def` or `async def`, that takes the
                `Authentication` and returns True or False. False is refused likewise.
            realm: the realm that the token must belong to (`JWT_REALMS`), with its cookies and locations; a
                token of any other realm is 401. None is that of the blueprint, else the unnamed realm.

        Stacked decorators and the blueprint's `protect(...)` add up: the token must meet all of them. These
        demands are looked at last, once the token has passed every other check.

        A view with `once=True` that serves GET alone would never use its token up: the application is
        refused as it starts, in Flask at its first request.

        Raises:
            ConfigurationError: an argument is invalid, or the decorated object cannot be protected.
        """
        if callable(optional):
            return self._guarded(optional, DEFAULT)
        policy = Policy.of(
            optional,
            fresh,
            refresh,
            locations,
            verify_type,
            skip_revocation_check,
            type=type,
            once=once,
            lenient=lenient,
            refresh_cookie=refresh_cookie,
            scopes=scopes,
            roles=roles,
            claims=claims,
            allow=allow,
            realm=realm,
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
        # What the decorators below demand counts here, too: a refused client is told all scopes at once.
        whole = policy.plus_below(marks_of(view))
        check: Any = partial(self._check_of(policy), whole)
        check.needs_loop = any(hook.is_async for hook in whole.allow)
        served = self._served if policy.realm is None else partial(self._context.served_in, policy.realm)
        guarded = self._framework.guard(view, check, served)
        mark(guarded, policy)
        mark_wrapped(view)
        return guarded

    def _check_of(self, policy: Policy) -> Callable[..., Coroutine[Any, Any, CheckResult | None]]:
        """Return the function that checks requests against a policy."""
        if policy.realm is not None:
            return self._verify_in_realm
        return self._verify_once if policy.once else self._verify

    async def _verify_in_realm(
        self,
        policy: Policy,
        app_state: AppState | None = None,
        request: Any = None,
        engine: Engine | None = None,
    ) -> CheckResult | None:
        """Like `_verify`, for a policy that names a realm, which must exist."""
        if app_state is None:
            app_state, request = self._served()
        app_state = app_state.of_realm(str(policy.realm))
        return await (self._verify_once if policy.once else self._verify)(policy, app_state, request, engine)

    async def verify_around(self, app_state: AppState, request: Any, engine: Engine, around: Around) -> None:
        """Check what blueprints and application demand of a request, before its view runs. For adapters.

        If a view has no decorator and a check already passed, in a `before_request` function, the application
        has decided where the token comes from and which type it has, unless that check also lets anonymous
        requests through. The token must still meet what the blueprints demand.

        Args:
            app_state: the application's state.
            request: the request or WebSocket.
            engine: the application's engine.
            around: what `demanded_around` returned.

        Raises:
            JWTExtendedException: the request is refused.
        """
        if around.realm is not None:
            app_state.set_default_realm(request, around.realm)
        for demanded in around.policies:
            state = app_state if demanded.realm is None else app_state.of_realm(demanded.realm)
            policy, held = demanded, state.state_of(request).result
            if around.by_default and held is not None and not held.policy.optional:
                if held.policy.covers(policy):
                    continue
                policy = held.policy.inside(policy)
            await self._verify(policy, app_state, request, engine)

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
        if app_state.realms:
            app_state = app_state.enter(request, policy.realm)
            engine = app_state.engine()
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
            if (policy.lenient or policy.refresh_cookie) and await self._admits(
                app_state, request_state, view, policy, error
            ):
                return request_state.result
            raise await self._refusal(app_state, request_state, view, policy, error) from error
        except BaseException as problem:  # a hook that failed, or a time limit around the check
            request_state.reset()
            explain(problem, view)
            raise
        result = request_state.result
        if loads and result is not None and user_loaded.receivers:
            found = result.authentication
            await notify(
                user_loaded, app_state.app, user=found.user, identity=found.identity, **app_state.labels
            )
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
        if app_state.realms:
            app_state = app_state.enter(request, policy.realm)
            engine = app_state.engine()
        request_state = app_state.request_state(request)
        before = request_state.consumed
        result = await self._verify(policy, app_state, request, engine)
        if result is not None and request_state.consumed != before:
            await send_used(app_state, result.ref)
        return result

    async def _admits(
        self,
        app_state: AppState,
        request_state: RequestState,
        view: RequestView,
        policy: Policy,
        error: JWTExtendedException,
    ) -> bool:
        """True if a page load goes on despite its token. Raises what refuses it for another reason."""
        try:
            return await self._page_loads.admit(app_state, request_state, view, policy, error)
        except JWTExtendedException as other:
            raise await self._refusal(app_state, request_state, view, policy, other) from other

    async def _refusal(
        self,
        app_state: AppState,
        request_state: RequestState,
        view: RequestView,
        policy: Policy,
        error: JWTExtendedException,
    ) -> JWTExtendedException:
        """The error to raise for a refused request; it carries the response."""
        if isinstance(error, TokenReusedError):
            await send_reused(app_state, error)
        request_state.reset()  # error handlers, sockets and streams keep running
        may_delete = request_state.location == "cookies" and not view.is_websocket
        dead = dead_cookies(error, policy, app_state.engine()) if may_delete else ()
        return await self.responder.refuse(app_state, request_state, error, dead)

    async def jwks_view(self, realm: str | None = None) -> Any:
        """View that serves the JWKS document (RFC 7517 §5) to services that verify our tokens.

        Register it where they look for it: ``app.add_url_rule("/.well-known/jwks.json",
        view_func=jwks_view)``. `JWT_JWKS_MAX_AGE` limits how long they may cache it. For a realm, add
        ``defaults={"realm": "admin"}``.

        Args:
            realm: the realm whose keys to serve; None is the unnamed one.

        Raises:
            ConfigurationError: a setting that names a key is missing or invalid.
        """
        app_state, _ = self.current(realm or "")
        engine = app_state.engine()
        keys = await engine.active_keys()
        headers = {
            "Content-Type": "application/jwk-set+json",  # RFC 7517 §8.5.2
            "Cache-Control": f"public, max-age={engine.settings.jwks_max_age}",
        }
        return self._framework.json_response(app_state.app, keys.jwks(), 200, headers)

    # -- the current request --------------------------------------------------------------

    def current_auth(self, realm: str | None = None) -> Authentication | None:
        """Return the frozen `Authentication` of this request; None for an anonymous request.

        Args:
            realm: the realm, where a request was checked for several: a name, or "" for the unnamed one. None
                is that of the last check, which all other functions are about.

        Raises:
            RuntimeError: no check has passed in this request.
            ConfigurationError: there is no such realm.
        """
        return self._context.checked(realm)[1].authentication

    def get_jwt(self, realm: str | None = None) -> dict[str, Any]:
        """Return the claims of this request's token; {} for an anonymous request.

        Args:
            realm: the realm, as for `current_auth`.

        Raises:
            RuntimeError: no check has passed in this request.
        """
        found = self.current_auth(realm)
        return {} if found is None else found.claims

    def get_jwt_header(self) -> dict[str, Any]:
        """Return the header of this request's token; {} for an anonymous request.

        Raises:
            RuntimeError: no check has passed in this request.
        """
        found = self.current_auth()
        return {} if found is None else found.header

    def get_jwt_identity(self, realm: str | None = None) -> Any:
        """Return the identity of this request's token; None for an anonymous request.

        Args:
            realm: the realm, as for `current_auth`.

        Raises:
            RuntimeError: no check has passed in this request.
        """
        found = self.current_auth(realm)
        return None if found is None else found.identity

    def get_jwt_request_location(self) -> str | None:
        """Return where this request's token was found: a name from `JWT_TOKEN_LOCATION`, such as "headers".

        None for an anonymous request, or if no check has passed.
        """
        found = self._context.states()[1].authentication
        return None if found is None else found.location

    def jwt_csrf_token(self, realm: str | None = None) -> str:
        """Return the CSRF value of this request's token for a form field, masked anew at each call.

        All tokens of a session share one value, so a form that is open in another tab stays valid
        when the tokens are rotated. Templates have this function as `jwt_csrf_token()`.

        Args:
            realm: the realm, as for `current_auth`.

        Returns:
            The masked value; "" if no check has passed, for an anonymous request, and for a token
            without a CSRF value.
        """
        result = self._context.states(realm)[1].result
        value = None if result is None else csrf_of(result.verified.claims)
        return "" if value is None else masked(value)

    def get_current_user(self, realm: str | None = None) -> Any:
        """Return the user of this request, as `user_lookup_loader` returned it; None if anonymous.

        Args:
            realm: the realm, as for `current_auth`.

        Raises:
            RuntimeError: no check has passed in this request, or no loader is registered.
        """
        app_state, request_state = self._context.checked(realm)
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

    def safe_next(self, target: str | None = None, *, default: str = "/") -> str:
        """Return where to send a client after a login: a path of this site, never another site's address.

        Args:
            target: the path to check, such as a form field; None takes the query parameter `next`
                of this request, which `JWT_LOGIN_VIEW` sets.
            default: what to return without a target, or if the target is not a local path. A local path
                begins with exactly one slash, contains no backslash, control character or `//`, and has at
                most 2,000 bytes.

        Raises:
            RuntimeError: `target` is None and there is no request.
        """
        if target is None:
            view = self._framework.view(self._served()[1])
            target = next(iter(view.query("next")), None)
        return target if isinstance(target, str) and is_local(target) else default

    def get_unverified_jwt_headers(self, encoded_token: str) -> dict[str, Any]:
        """Return the header of a token without verifying it. Trust nothing in it.

        Raises:
            MalformedTokenError: `encoded_token` is not a token.
        """
        limit = self.current()[0].engine().settings.max_token_bytes
        header, _ = object_in(split(encoded_token, limit).header, "header")
        return header


async def _checked(engine: Engine, view: RequestView, policy: Policy, request_state: RequestState) -> bool:
    """Run a check that uses its token once, or is observed."""
    check = authenticate_once if policy.once else authenticate
    observer = engine.observer
    if observer is None:
        return await check(engine, view, policy, request_state)
    with observer.measure("check", "check") as measurement:
        if engine.settings.realm:
            measurement.details["realm"] = engine.settings.realm
        loads = await check(engine, view, policy, request_state)
        found = request_state.result
        measurement.outcome = "anonymous" if found is None else "accepted"
        if found is not None:
            measurement.details |= {"location": found.location, "type": kind_of(found.type)}
        return loads
