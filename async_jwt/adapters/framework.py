"""What the public functions need from a framework. A new framework is one class of this protocol."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Protocol

from async_jwt.app_state import AppState, FrameworkContext
from async_jwt.core.cookies import Cookie
from async_jwt.core.request import RequestView
from async_jwt.errors import JWTExtendedException

__all__ = ["Check", "Framework", "Served"]

Served = Callable[[], "tuple[AppState, Any]"]
"""Returns the application and the request being served. Raises RuntimeError outside a request."""


class Check(Protocol):
    """Checks the current request against a policy. Optionally takes the result of `Served` and the engine."""

    needs_loop: bool
    """True if the policy itself has an async function, which needs a long-lived event loop."""

    def __call__(self, *args: Any) -> Coroutine[Any, Any, Any]:
        """Check the request."""
        ...


class Framework(FrameworkContext, Protocol):
    """A framework, as the public functions see it."""

    @property
    def adapters(self) -> Sequence[str]:
        """The adapter modules that its applications may import from."""
        ...

    def view(self, request: Any, /) -> RequestView:
        """A request as the core sees it."""
        ...

    def guard(self, function: Callable[..., Any], check: Check, served: Served, /) -> Callable[..., Any]:
        """Return a view that runs `check` and then `function`, the way the framework runs such views."""
        ...

    async def make_response(self, app: Any, value: Any, /) -> Any:
        """Return a response made from anything that views may return.

        Raises:
            TypeError: views may not return this.
        """
        ...

    def json_response(
        self, app: Any, body: Mapping[str, Any], status: int, headers: Mapping[str, str]
    ) -> Any:
        """Return a JSON response."""
        ...

    def copy_response(self, response: Any, /) -> Any:
        """Return a copy of a response with its own headers."""
        ...

    def sets_cookie(self, response: Any, names: Collection[str], /) -> bool:
        """True if a response sets or deletes one of these cookies."""
        ...

    def set_cookies(self, response: Any, cookies: Iterable[Cookie], *, uncached: bool) -> None:
        """Set cookies on a response.

        Args:
            response: the response.
            cookies: the cookies.
            uncached: True keeps caches from storing the response for other users.
        """
        ...

    def status(self, response: Any, /) -> int:
        """Return a response's status."""
        ...

    def finish(self, app: Any, function: Callable[[Any], Any]) -> None:
        """Pass each response from now on through a function, after all of the application's own functions."""
        ...

    def redirect_to(self, app: Any, target: str, path: str | None) -> Any:
        """Return a redirect (302) to a view, which no cache may store; None if there can be none.

        There is none from the view to itself, and to a view whose path has parts that the request lacks.

        Args:
            app: the application.
            target: the view's endpoint, or its path within the application if it begins with a slash.
            path: where the view may send the client back, as its query parameter `next`; None for nowhere.
        """
        ...

    def has_handler(self, app: Any, error: JWTExtendedException, *, is_compat: bool) -> bool:
        """True if the application or an extension handles an error before loaders do."""
        ...

    def as_http_exception(
        self, app: Any, error: JWTExtendedException, response: Any, *, is_compat: bool
    ) -> JWTExtendedException:
        """Return the same error, carrying its response in the form that the framework renders."""
        ...
