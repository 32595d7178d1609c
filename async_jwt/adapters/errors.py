"""Responses to errors: which loader or handler builds one, and which cookies it deletes."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

from async_jwt.adapters.framework import Framework
from async_jwt.app_state import EXTENSION, AppState
from async_jwt.core.authenticate import RequestState
from async_jwt.core.concurrency import notify
from async_jwt.core.cookies import cookies_to_unset
from async_jwt.core.engine import Engine
from async_jwt.core.error_responses import error_response, loader_for
from async_jwt.core.navigation import is_local, is_navigation
from async_jwt.core.policy import Policy
from async_jwt.core.request import RequestView
from async_jwt.core.settings import Settings
from async_jwt.errors import (
    ExpiredTokenError,
    HookError,
    ImmatureTokenError,
    JWTDecodeError,
    JWTExtendedException,
    MalformedTokenError,
    NoAuthorizationError,
    RevokedTokenError,
    SignatureError,
    StaleTokenError,
    TokenReusedError,
    UserLookupError,
)
from async_jwt.signals import token_refused

__all__ = ["Responder", "dead_cookies", "explain", "response_of"]

log: logging.Logger = logging.getLogger("async_jwt")

# Seconds until a new user is visible everywhere, such as in a database's replicas.
_REPLICATION = 60


def response_of(error: JWTExtendedException) -> Any | None:
    """Return the response that an error carries; None if it carries none."""
    # An application's own subclass may have an attribute of this name too.
    return getattr(error, "answer", None) if getattr(error, "carries_response", False) else None


class Responder:
    """Builds the responses to errors.

    Args:
        framework: the framework that renders them.
    """

    def __init__(self, framework: Framework) -> None:
        self._framework = framework

    async def response_to(self, app: Any, error: JWTExtendedException) -> Any:
        """Return the response to an error: the one it carries, or else a new one."""
        carried = response_of(error)
        return response_of(await self.with_response(app, error)) if carried is None else carried

    async def with_response(self, app: Any, error: JWTExtendedException) -> JWTExtendedException:
        """Return an error that a view raised, in a form that carries its response.

        Extensions with their own error handling render no other form. If the request's own token was
        revoked meanwhile, the request is no longer authenticated. Of several managers of an application,
        the one that was initialized last answers.
        """
        app_state: AppState = self._framework.extensions(app)[EXTENSION]
        request = app_state.current_request()
        if app_state.realms:
            app_state = app_state.acting(request)
        request_state = app_state.state_of(request)
        held, dead = request_state.authentication, tuple[bool, ...]()
        is_own = held is not None and getattr(error, "jwt_data", {}).get("jti") == held.claims.get("jti")
        if held is not None and is_own and isinstance(error, RevokedTokenError):
            if held.location == "cookies":
                dead = dead_cookies(error, held.policy, app_state.engine())
            request_state.reset()
        return await self.refuse(app_state, request_state, error, dead)

    async def refuse(
        self,
        app_state: AppState,
        request_state: RequestState,
        error: JWTExtendedException,
        dead: Collection[bool] = (),
    ) -> JWTExtendedException:
        """Return an error in a form that carries its response, which deletes dead cookies.

        Args:
            app_state: the application's state.
            request_state: the state of the refused request.
            error: the reason.
            dead: the token cookies to delete: False for the access token's, True for the refresh token's.
        """
        request_state.refusal = error
        app, settings, response = app_state.app, app_state.engine().settings, None
        _log(error)
        if not self._framework.has_handler(app, error, is_compat=settings.is_compat):
            try:
                response = await self._loaded_response(app_state, error)
            except JWTExtendedException as broken:
                error = broken
        if response is None:
            response = self._login(app, error, settings)
        if response is None:
            answer = error_response(error, settings)
            response = self._framework.json_response(app, answer.body, answer.status, answer.headers)
        response = self._without(response, dead, settings)
        held: Mapping[str, Any] = getattr(error, "jwt_data", {})
        await notify(
            token_refused,
            app,
            code=error.error_code,
            detail=error.detail,
            identity=app_state.engine().identity_in(held),
            jti=held.get("jti"),
            **app_state.labels,
        )
        return self._framework.as_http_exception(app, error, response, is_compat=settings.is_compat)

    def _login(self, app: Any, error: JWTExtendedException, settings: Settings) -> Any | None:
        """Return a redirect to the login page, if there is one and a browser loads a page for its user."""
        request = self._framework.current()[1]
        if settings.login_view is None or request is None or error.status != 401:
            return None
        view = self._framework.view(request)
        if not is_navigation(view):
            return None
        return self._framework.redirect_to(
            app, settings.login_view, view.path if is_local(view.path) else None
        )

    async def _loaded_response(self, app_state: AppState, error: JWTExtendedException) -> Any | None:
        engine = app_state.engine()
        chosen = loader_for(error, engine.settings, engine.hooks)
        if chosen is None:
            return None
        name, arguments = chosen
        try:
            answer = await engine.call_hook(name, *arguments)
        except RuntimeError as failed:
            explain(failed, self._framework.view(self._framework.current()[1]))
            raise
        try:
            return await self._framework.make_response(app_state.app, answer)
        except TypeError:
            problem = f"{name}_loader returned {type(answer).__name__}; it must return a response"
            log.error("%s", problem, extra={"event": "hook_error", "hook": name})
            raise HookError(problem) from None

    def _without(self, response: Any, dead: Collection[bool], settings: Settings) -> Any:
        """Return the response, made to delete dead cookies unless it sets them itself."""
        cookies = [cookie for refresh in dead for cookie in cookies_to_unset(settings, refresh=refresh)]
        names = [cookie.name for cookie in cookies]
        if not cookies or settings.is_compat or self._framework.sets_cookie(response, names):
            return response
        response = self._framework.copy_response(response)  # a loader may return the same object each time
        self._framework.set_cookies(response, cookies, uncached=True)
        return response


def _log(error: JWTExtendedException) -> None:
    held: Mapping[str, Any] = getattr(error, "jwt_data", {})
    # A request without a token is routine.
    level = logging.DEBUG if isinstance(error, NoAuthorizationError) else logging.INFO
    event = {"event": "token_refused", "code": error.error_code, "jti": held.get("jti")}
    log.log(level, "Request refused: %s (%r)", error.error_code, str(error), extra=event)


def explain(problem: BaseException, view: RequestView) -> None:
    """Add a note to the error of a hook that reads the request during a WebSocket, which has none."""
    if view.is_websocket and isinstance(problem, RuntimeError) and "request context" in str(problem):
        problem.add_note(
            "A WebSocket has no request: let the loader use its arguments, or read `websocket` if "
            "has_websocket_context() is true."
        )


def dead_cookies(error: JWTExtendedException, policy: Policy, engine: Engine) -> tuple[bool, ...]:
    """Return the token cookies that a refusal makes useless: keeping them, a browser is refused forever."""
    if isinstance(error, TokenReusedError):
        return False, True  # its session is over
    return (policy.refresh,) if _is_dead(error, engine) else ()


def _is_dead(error: JWTExtendedException, engine: Engine) -> bool:
    if isinstance(error, StaleTokenError):
        return False  # as an expired one
    if isinstance(error, RevokedTokenError | MalformedTokenError):
        return True
    if engine.settings.cookie_domain is not None:
        return False  # other applications on the domain may accept it
    if isinstance(error, UserLookupError):
        issued = error.jwt_data.get("iat")
        return isinstance(issued, int | float) and engine.clock() - issued > _REPLICATION
    if isinstance(error, SignatureError):  # its key may be known a moment later
        return not (engine.loads_keys or "decode_key" in engine.hooks)
    # Another tab may already have replaced an expired token, and the browser drops it by its Max-Age.
    return isinstance(error, JWTDecodeError) and not isinstance(error, ImmatureTokenError | ExpiredTokenError)
