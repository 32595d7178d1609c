"""A test assertion that every view is protected."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from async_jwt.adapters._route_audit import routes_of
from async_jwt.manager import app_state_of

__all__ = ["assert_protected"]


def assert_protected(app: Any, *, public: Collection[str] | None = None) -> None:
    """Assert that no view of an application was left open by mistake.

    The same check as `flask jwt routes --check`.

    Args:
        app: a Quart or Flask application with a `JWTManager`.
        public: exactly the endpoints that need no token: open, marked `public`, or optional. None
            instead requires every open view to be marked `public`.

    Raises:
        AssertionError: a view is open, or `public` does not match; the text names all such endpoints.
    """
    routes = [route for route in routes_of(app_state_of(app)) if route.state not in ("protected", "static")]
    if public is None:
        forgotten = sorted({route.endpoint for route in routes if route.state == "open"})
        assert not forgotten, f"Unprotected and not marked @public: {', '.join(forgotten)}"  # noqa: S101
        return
    found = {route.endpoint for route in routes}
    more, less = sorted(found - set(public)), sorted(set(public) - found)
    assert not more, f"Needs no token, but is missing from public: {', '.join(more)}"  # noqa: S101
    assert not less, f"Listed in public, but protected or missing: {', '.join(less)}"  # noqa: S101
