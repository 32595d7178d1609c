"""Finds the application and the request that a call of a public function is about."""

from __future__ import annotations

from typing import Any

from async_jwt.adapters.framework import Framework
from async_jwt.app_state import EXTENSION, AppState
from async_jwt.core.authenticate import RequestState

__all__ = ["CurrentContext"]


class CurrentContext:
    """The current application and request of one framework.

    Args:
        framework: the framework.
    """

    def __init__(self, framework: Framework) -> None:
        self._framework = framework
        _frameworks[framework.name] = framework

    def current(self, realm: str | None = None) -> tuple[AppState, Any | None]:
        """Return the current application's state and the request being served, or None.

        Args:
            realm: the realm; "" for the unnamed one, None for that of the request's last check.

        Raises:
            RuntimeError: there is no current application, or it has no JWTManager.
            ConfigurationError: there is no such realm.
        """
        app, request = self._framework.current()
        if app is None:
            raise self._nowhere(
                "There is no application: push an app context, or use the JWTManager's methods"
            )
        app_state = self._state_of(app)
        if realm is not None or app_state.realms:
            app_state = app_state.acting(request) if realm is None else app_state.of_realm(realm)
        return app_state, request

    def states(self, realm: str | None = None) -> tuple[AppState, RequestState]:
        """Return the current application's state and that of its request. Raises as `current` does."""
        app_state, request = self.current(realm)
        return app_state, app_state.state_of(request)

    def served(self) -> tuple[AppState, Any]:
        """Return the state of the application's unnamed realm and the request being served.

        Raises:
            RuntimeError: there is no request, or the application has no JWTManager.
        """
        app, request = self._framework.current()
        if request is None:
            raise self._nowhere("There is no request to verify: call this inside a request")
        try:
            return self._framework.extensions(app)[EXTENSION], request
        except KeyError:
            return self._state_of(app), request  # raises and says what is missing

    def served_in(self, realm: str) -> tuple[AppState, Any]:
        """Return a realm's state and the request being served. Raises as `served` and `of_realm` do."""
        app_state, request = self.served()
        return app_state.of_realm(realm), request

    def checked(self, realm: str | None = None) -> tuple[AppState, RequestState]:
        """Return the application's state and that of a request in which a check has passed.

        Raises:
            RuntimeError: there is no such request.
        """
        app, request = self._framework.current()
        if request is None:
            raise self._nowhere(
                "No request is being served, so there is no authenticated user: pass what you need from a "
                "request to background tasks, jobs and threads"
            )
        app_state = self._state_of(app)
        if realm is not None or app_state.realms:
            app_state = app_state.acting(request) if realm is None else app_state.of_realm(realm)
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
