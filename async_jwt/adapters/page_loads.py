"""Lets page loads go on whose access token no longer counts: with new tokens, or as anonymous."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, cast

from async_jwt.adapters.current import CurrentContext
from async_jwt.adapters.errors import dead_cookies
from async_jwt.adapters.framework import Framework
from async_jwt.app_state import AppState
from async_jwt.core.authenticate import CheckResult, RequestState, authenticate, authenticate_text
from async_jwt.core.concurrency import notify
from async_jwt.core.cookies import Cookie, CookieTooLargeError, cookies_to_set, cookies_to_unset
from async_jwt.core.engine import Engine
from async_jwt.core.issue import Issued
from async_jwt.core.locations import cookie_name
from async_jwt.core.navigation import is_conditional, is_from_here, is_page_load
from async_jwt.core.policy import Policy
from async_jwt.core.request import RequestView
from async_jwt.core.rotation import PairSpec, renew_access, require_refresh_grace, rotate
from async_jwt.errors import (
    ExpiredTokenError,
    JWTDecodeError,
    JWTExtendedException,
    NoAuthorizationError,
    PermissionDeniedError,
    RevokedTokenError,
    StaleTokenError,
    UserLookupError,
    WrongTokenError,
)
from async_jwt.operations import hand_out, known_as, send_issued, send_repeated
from async_jwt.signals import user_loaded

__all__ = ["REFRESH_COOKIE", "PageLoads"]

log: logging.Logger = logging.getLogger("async_jwt")

REFRESH_COOKIE: Final = Policy.of(refresh=True, locations="cookies")
"""The policy of a refresh token that comes along in its cookie."""

# With these a refresh token may take over; the session of a revoked token is left to end.
_RENEWABLE = (NoAuthorizationError, JWTDecodeError, StaleTokenError)
_UNUSABLE = (JWTDecodeError, RevokedTokenError, WrongTokenError, UserLookupError)


class PageLoads:
    """What `jwt_required(refresh_cookie=True)` and `lenient=True` do with a refused token.

    Args:
        framework: the framework.
        context: finds the application and the request that a call is about.
    """

    def __init__(self, framework: Framework, context: CurrentContext) -> None:
        self._framework = framework
        self._context = context

    async def admit(
        self,
        app_state: AppState,
        request_state: RequestState,
        view: RequestView,
        policy: Policy,
        error: JWTExtendedException,
    ) -> bool:
        """Decide whether a refused request goes on: with new tokens, or as anonymous.

        Args:
            app_state: the application's state.
            request_state: the request's state; updated if it goes on.
            view: the request.
            policy: what the view demands.
            error: why the request was refused.

        Returns:
            True if the request goes on.

        Raises:
            PermissionDeniedError: the user of the refresh token may not.
            StoreUnavailableError: the store did not answer.
            HookError: a hook returned something that it may not.
            ConfigurationError: `JWT_REFRESH_GRACE` is 0, or the store does not support sessions.
        """
        request_state.reset()
        engine, location = app_state.engine(), request_state.location
        may_renew = policy.refresh_cookie and isinstance(error, _RENEWABLE) and location in (None, "cookies")
        if (
            may_renew
            and is_page_load(view)
            and await self._renew(app_state, request_state, view, policy, error)
        ):
            return True
        if policy.optional and isinstance(error, NoAuthorizationError):
            request_state.mark_anonymous()
            return True
        reads = view.method in ("GET", "HEAD")
        if not (policy.lenient and reads and location == "cookies" and isinstance(error, _UNUSABLE)):
            return False
        request_state.mark_anonymous()
        if not view.is_websocket and not engine.settings.is_compat:
            self.leave(app_state, request_state, _deletions(error, policy, engine, view))
        return True

    async def _renew(
        self,
        app_state: AppState,
        request_state: RequestState,
        view: RequestView,
        policy: Policy,
        error: JWTExtendedException,
    ) -> bool:
        """Authenticate a page load by its refresh cookie. False if that does not count either."""
        engine, own = app_state.engine(), RequestState()
        require_refresh_grace(engine, "jwt_required(refresh_cookie=True)")
        try:
            await authenticate(engine, view, REFRESH_COOKIE, own, came_along=True)
            refresh = cast("CheckResult", own.result)  # it is not optional
            if not _is_same_user(error, refresh, engine):
                return False
            token = await self._new_tokens(app_state, request_state, view, refresh)
            result, loads = await authenticate_text(engine, token, policy, location="cookies")
        except PermissionDeniedError:
            raise  # the user is who they are: another login would not help, and the new cookies are good
        except JWTExtendedException as refusal:
            if refusal.status >= 500:
                raise
            if not any(cookie.name == cookie_name(True, engine.settings) for cookie in request_state.pending):
                request_state.pending = ()  # a token that does not count; a successor has to arrive
            return False
        except CookieTooLargeError as problem:
            event = {"event": "cookies_not_refreshed"}
            log.error("Token cookies were not refreshed: %r", str(problem), extra=event)
            return False
        request_state.location, request_state.renewed = "cookies", token
        request_state.known[token] = result
        request_state.mark_passed(result)
        if loads:
            found = result.authentication
            await notify(
                user_loaded, app_state.app, user=found.user, identity=found.identity, **app_state.labels
            )
        return True

    async def _new_tokens(
        self, app_state: AppState, request_state: RequestState, view: RequestView, refresh: CheckResult
    ) -> str:
        """Return a new access token, whose cookies the response will set.

        The refresh token is replaced only where its successor is sure to arrive and the user meant it: not
        if another site caused the request, nor if the response may be a 304. Nothing here is a replay.
        """
        engine, held = app_state.engine(), refresh.authentication
        identity = await known_as(engine, held, None)
        spec = PairSpec(identity=identity)
        if is_from_here(view) and not is_conditional(view):
            pair = await rotate(engine, held, refresh.ref, spec, began_at=refresh.found_at, came_along=True)
            await send_repeated(app_state, held, refresh.ref, pair.late_streak)
            await hand_out(app_state, request_state, pair)
            made = {False: pair.access, True: pair.refresh}
        else:
            made = {False: await renew_access(engine, held, refresh.ref, spec)}
            await send_issued(app_state, engine, made[False])
        self.leave(app_state, request_state, _cookies_of(made, engine))
        return made[False].token

    def leave(self, app_state: AppState, request_state: RequestState, cookies: list[Cookie]) -> None:
        """Leave cookies for the response. What was left before, such as new tokens, comes first."""
        names = {cookie.name for cookie in request_state.pending}
        request_state.pending += tuple(cookie for cookie in cookies if cookie.name not in names)
        if cookies and not app_state.finishes:
            app_state.finishes = True
            self._framework.finish(app_state.app, partial(self._finish, app_state))

    def _finish(self, app_state: AppState, response: Any) -> Any:
        """Set what was left for a response, after all of the application's own functions.

        A cookie that the response sets or deletes itself is left alone. A request that ended its own session
        gets no new tokens. A 304 never carries cookies: caches would keep them.
        """
        request_state = app_state.state_of(app_state.current_request())
        left, request_state.pending = request_state.pending, ()
        cookies = [
            cookie
            for cookie in left
            if not (cookie.value and request_state.has_ended)
            and not self._framework.sets_cookie(response, (cookie.name,))
        ]
        if not cookies or self._framework.status(response) == 304:
            return response
        response = self._framework.copy_response(response)  # a view may return the same object each time
        self._framework.set_cookies(response, cookies, uncached=True)
        return response


def _is_same_user(error: JWTExtendedException, refresh: CheckResult, engine: Engine) -> bool:
    """True unless the refused access token is known to be another user's than the refresh token."""
    claim = engine.settings.identity_claim
    claims: Mapping[str, Any] = getattr(error, "jwt_data", {})
    if engine.issuer_of(claims) is not None:
        return False
    return claim not in claims or claims[claim] == refresh.verified.claims[claim]


def _cookies_of(made: dict[bool, Issued], engine: Engine) -> list[Cookie]:
    now, settings = engine.clock(), engine.settings
    return [
        cookie
        for refresh, issued in made.items()
        for cookie in cookies_to_set(issued.token, issued.claims, settings, now, refresh=refresh)
    ]


def _deletions(
    error: JWTExtendedException, policy: Policy, engine: Engine, view: RequestView
) -> list[Cookie]:
    """The deletions of cookies that a lenient view found unusable.

    That of an expired token stays if a refresh token may still replace it.
    """
    dead = dead_cookies(error, policy, engine)
    if isinstance(error, ExpiredTokenError | StaleTokenError):
        dead = () if any(view.cookies(cookie_name(True, engine.settings))) else (False,)
    elif isinstance(error, WrongTokenError) and engine.settings.cookie_domain is None:
        dead = (False,)
    return [cookie for refresh in dead for cookie in cookies_to_unset(engine.settings, refresh=refresh)]
