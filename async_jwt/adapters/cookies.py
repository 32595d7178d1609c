"""Sets, refreshes and deletes token cookies; signs out."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Mapping
from typing import Any

from async_jwt.adapters.current import CurrentContext
from async_jwt.adapters.errors import Responder
from async_jwt.adapters.framework import Framework
from async_jwt.adapters.page_loads import REFRESH_COOKIE, PageLoads
from async_jwt.app_state import AppState
from async_jwt.core.authenticate import Authentication, CheckResult, RequestState, authenticate
from async_jwt.core.checks import check_origin, check_origin_of_any_method, is_insecure
from async_jwt.core.claims import REALM, Fresh
from async_jwt.core.codec import read_unverified
from async_jwt.core.concurrency import refuse_coroutine
from async_jwt.core.cookies import Cookie, cookies_to_set, cookies_to_unset
from async_jwt.core.engine import Engine
from async_jwt.core.issue import TokenPair
from async_jwt.core.locations import find_all
from async_jwt.core.policy import ACCESS
from async_jwt.core.proxies import unproxied
from async_jwt.core.rotation import PairSpec, require_refresh_grace, rotate
from async_jwt.core.settings import Settings
from async_jwt.errors import JWTExtendedException
from async_jwt.operations import hand_out, known_as, send_repeated
from async_jwt.sign_out import end_sessions
from async_jwt.stores.contract import TokenRef

__all__ = ["TokenCookies"]

log: logging.Logger = logging.getLogger("async_jwt")


class TokenCookies:
    """The functions for token cookies, as methods of one object.

    Args:
        framework: the framework.
        context: finds the application and the request that a call is about.
        responder: builds the responses to errors.
        page_loads: sets cookies of responses that the application does not hand us.
    """

    def __init__(
        self, framework: Framework, context: CurrentContext, responder: Responder, page_loads: PageLoads
    ) -> None:
        self._framework = framework
        self._context = context
        self._responder = responder
        self._page_loads = page_loads

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
        """Rotate the tokens of a request whose access cookie expires soon, or just did. For `after_request`.

        The request must also carry the refresh token's cookie (`JWT_REFRESH_COOKIE_PATH`). That token
        must belong to the same session and pass all checks; the user is looked up again. The new
        access token stays fresh for as long as the old one would have. `expire_access_tokens()` counts
        as an expiry: the request that calls it for its own user gets new tokens.

        Nothing happens if the view itself set or deleted a token cookie, if the request revoked
        anything, or if the refresh token is refused. It never revokes: a faster request of the same
        browser may have replaced the refresh token, or a response with its successor was lost. The
        access token then stays valid until it expires. Concurrent requests from several tabs need a
        grace.

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
        app_state, request_state = self._context.states()
        engine, result = app_state.engine(), request_state.result
        require_refresh_grace(engine, "refresh_expiring_cookies()")
        if result is None or not self._is_due(engine, request_state, result.authentication, within):
            return response
        names = {cookie.name for cookie in _deletions(engine.settings)}
        if not request_state.may_refresh or self._framework.sets_cookie(response, names):
            return response
        try:
            pair = await self._renewed(app_state, request_state, result, identity)
        except JWTExtendedException as error:
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
            response = self._framework.copy_response(response)  # a view may return the same object each time
            self.set_token_cookies(response, pair)
        return response

    async def _renewed(
        self, app_state: AppState, request_state: RequestState, result: CheckResult, identity: Any
    ) -> TokenPair | None:
        """Return new tokens for a request with a refresh cookie; None if that is another session's."""
        engine, own = app_state.engine(), RequestState()
        view = self._framework.view(self._context.served()[1])
        await authenticate(engine, view, REFRESH_COOKIE, own, came_along=True)
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
    def _is_due(
        engine: Engine,
        request_state: RequestState,
        held: Authentication,
        within: dt.timedelta | float | None,
    ) -> bool:
        claims = held.claims
        end, now = claims.get("exp"), engine.clock()
        if held.location != "cookies" or claims["type"] != ACCESS or not isinstance(end, int | float):
            return False
        if request_state.is_stale:
            return True
        if within is None:
            start = claims.get("iat")
            within = (end - start) / 2 if isinstance(start, int | float) else 0
        elif isinstance(within, dt.timedelta):
            within = within.total_seconds()
        return end - now <= within

    async def sign_out(
        self, response: Any = None, *, everywhere: bool = False, realm: str | None = None
    ) -> bool:
        """Sign out: end the session of whichever token the request carries, and delete all token cookies.

        For a view of its own without `jwt_required`: it needs no valid token. Access and refresh
        tokens in headers and cookies count, expired ones too, and in the body of a POST: JSON or a form with
        `JWT_JSON_KEY` and `JWT_REFRESH_JSON_KEY`. An access and a refresh token of two sessions end
        both. A token that cannot be verified ends nothing.

        Another site cannot sign a visitor out (`JWT_CSRF_CHECK_ORIGIN`): a request of
        `JWT_CSRF_METHODS` may not come from a foreign origin, and any other, such as a GET, must come
        from this one, by its `Origin` or `Sec-Fetch-Site: same-origin`. That does not apply if the token
        comes in a header and none in a cookie.

        Args:
            response: the response from which to delete the cookies; None deletes none.
            everywhere: True also ends all other sessions of the user. This needs a token that passes
                every check; without one, only the session ends.
            realm: the realm whose tokens and cookies are meant: a name, or "" for the unnamed one; None is
                that of the request's last check, else the unnamed one. Those of other realms stay.

        Returns:
            True if a session or token that was valid has ended.

        Raises:
            CSRFError: the request comes from an origin that is not trusted. Nothing ends.
            StoreUnavailableError: the store did not answer. The response to this error deletes the
                cookies too.
            RuntimeError: there is no request.
        """
        app_state, request = self._context.served()
        if realm is not None or app_state.realms:
            app_state = app_state.acting(request) if realm is None else app_state.of_realm(realm)
        request_state, view = app_state.state_of(request), self._framework.view(request)
        settings = app_state.engine().settings
        found = await find_all(view, settings)
        places = {location for _, location in found}
        # Browsers accept a deletion of cookies even where they sent none.
        by_cookie = "cookies" in places or (response is not None and "headers" not in places)
        if by_cookie and settings.cookie_csrf_protect and settings.csrf_check_origin:
            check_origin_of_any_method(view, settings)
        try:
            ended = await end_sessions(app_state, request_state, found, everywhere=everywhere)
        except Exception as problem:
            if by_cookie and not view.is_websocket and not settings.is_compat:
                self._page_loads.leave(app_state, app_state.request_state(request), _deletions(settings))
            if isinstance(problem, JWTExtendedException):
                raise await self._responder.refuse(app_state, request_state, problem) from problem
            raise
        if response is not None:
            self.unset_jwt_cookies(response, realm=app_state.realm)
        return ended

    def unset_jwt_cookies(
        self, response: Any, domain: str | None = None, *, realm: str | None = None
    ) -> None:
        """Delete all of a client's token cookies of one realm.

        Args:
            response: a response object.
            domain: the domain they were set with; None uses `JWT_COOKIE_DOMAIN`.
            realm: the realm, as for `sign_out`.
        """
        self.unset_access_cookies(response, domain, realm=realm)
        self.unset_refresh_cookies(response, domain, realm=realm)

    def unset_access_cookies(
        self, response: Any, domain: str | None = None, *, realm: str | None = None
    ) -> None:
        """Delete the access token's cookies. See `unset_jwt_cookies`."""
        self._unset(response, False, domain, realm)

    def unset_refresh_cookies(
        self, response: Any, domain: str | None = None, *, realm: str | None = None
    ) -> None:
        """Delete the refresh token's cookies. See `unset_jwt_cookies`."""
        self._unset(response, True, domain, realm)

    def _set(self, response: Any, token: str, refresh: bool, max_age: int | None, domain: str | None) -> None:
        app_state, response = self._context.current("")[0], unproxied(response)
        claims: Mapping[str, Any]
        _, claims = read_unverified(token, app_state.base_engine().settings.max_token_bytes)
        if app_state.realms:  # the token says whose cookies are meant
            named = claims.get(REALM)
            app_state = app_state.of_realm(named if isinstance(named, str) else "")
        engine = app_state.engine()
        settings = engine.settings
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

    def _unset(self, response: Any, refresh: bool, domain: str | None, realm: str | None) -> None:
        settings = self._context.current(realm)[0].engine().settings
        cookies = cookies_to_unset(settings, refresh=refresh, domain=domain)
        self._framework.set_cookies(unproxied(response), cookies, uncached=not settings.is_compat)


def _deletions(settings: Settings) -> list[Cookie]:
    """The deletions of all token cookies."""
    return [cookie for refresh in (False, True) for cookie in cookies_to_unset(settings, refresh=refresh)]


def _are_one_session(access: TokenRef, refresh: TokenRef) -> bool:
    return access.identity == refresh.identity and access.sid in (None, refresh.sid)


def _as_fresh_as(claims: Mapping[str, Any]) -> Fresh:
    """Return until when a token is fresh; its replacement must not stay fresh longer."""
    fresh = claims["fresh"]
    until: Fresh = claims["exp"] if fresh is True else fresh
    return until if isinstance(until, int | float) else False
