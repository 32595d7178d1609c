"""That nobody forgot to protect a view, as a test."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from async_jwt.adapters._route_audit import routes_of
from async_jwt.manager import app_state_of

__all__ = ["assert_protected"]


def assert_protected(app: Any, *, public: Collection[str] | None = None) -> None:
    """Assert that no view of an application is open because somebody forgot to protect it.

    As `flask jwt routes --check` does.

    Args:
        app: a Quart or Flask application with a `JWTManager`.
        public: the endpoints that may be entered without a token: all of those that are open, marked
            `public` or optional, and no others. None asks for a mark instead.

    Raises:
        AssertionError: a view is open; the text names all of them.
    """
    routes = [route for route in routes_of(app_state_of(app)) if route.state not in ("protected", "static")]
    if public is None:
        forgotten = sorted({route.endpoint for route in routes if route.state == "open"})
        assert not forgotten, f"Open to everybody, and not marked @public: {', '.join(forgotten)}"  # noqa: S101
        return
    found = {route.endpoint for route in routes}
    more, less = sorted(found - set(public)), sorted(set(public) - found)
    assert not more, f"Entered without a token, and not in the test's list: {', '.join(more)}"  # noqa: S101
    assert not less, f"In the test's list, and not entered without a token: {', '.join(less)}"  # noqa: S101
