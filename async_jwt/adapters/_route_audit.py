"""Views whose guard is not where requests pass: those that were registered without it, and answers past it.

A decorator wraps a function, and a framework calls what was registered. Where these are two, a view
looks protected and is open.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from typing import Any, Final

from async_jwt.adapters.protect import MARKS, Marks, noted_of_view
from async_jwt.app_state import AppState
from async_jwt.errors import ConfigurationError
from async_jwt.manager import EXTENSION

__all__ = ["is_accepted", "is_unchecked", "mark_wrapped", "refuse_misplaced", "unchecked"]

log: logging.Logger = logging.getLogger("async_jwt")

# What a guard leaves on what it wraps, and where. Only ours counts: some objects have any attribute.
_WRAPPED: Final = "__async_jwt_wrapped__"
_IS_WRAPPED: Final = object()

# A view may take any method, and clients make them up.
_MOST_REMEMBERED = 10_000


def mark_wrapped(function: Any) -> None:
    """Note that a guard wraps a function; not on what takes no attributes, such as a method."""
    try:
        setattr(function, _WRAPPED, _IS_WRAPPED)
    except AttributeError:
        return


def refuse_misplaced(app_state: AppState) -> None:
    """Refuse an application with a view that was registered without the guard that wraps it.

    Raises:
        ConfigurationError: there are such views. It names them, and the fix.
    """
    names = sorted(_misplaced(app_state.app.view_functions))
    if names:
        raise ConfigurationError(
            f"jwt_required wraps these views, but they were registered without it: {', '.join(names)}. Put "
            "@jwt_required() below the route; or mark a view with @public that is meant to be open there"
        )


def is_unchecked(app_state: AppState, request: Any) -> bool:
    """Whether the view of a request demands a token that no check of the request has asked for.

    As where a cache above the guard answers, or a class never calls the method that is guarded. For
    answers that were not refused; a view that lets anonymous requests through is named in the log, once.

    Args:
        app_state: the application.
        request: its request or WebSocket.
    """
    if app_state.has_demanded(request):
        return False
    rule = request.url_rule
    if rule is None:
        return False
    endpoint, method = rule.endpoint, request.method
    view = app_state.app.view_functions.get(endpoint)
    known = app_state.demands.get((endpoint, method))
    if known is None or known[0] is not view:
        noted = noted_of_view(view, method)
        known = view, () if noted is None else noted.policies
        if len(app_state.demands) < _MOST_REMEMBERED:
            app_state.demands[endpoint, method] = known
    policies = known[1]
    if not policies or method == "OPTIONS":
        return False
    if app_state.app.extensions[EXTENSION] is not app_state:
        return False  # only the manager that was initialised last decides
    if all(policy.optional for policy in policies):
        if not app_state.request_state(request).passed and app_state.is_news(f"unchecked {endpoint}"):
            log.warning("%s", _text(endpoint), extra={"event": "unchecked_view", "endpoint": endpoint})
        return False
    return True


def is_accepted(status: int) -> bool:
    """Whether an answer hands something out. Redirections and refusals do not."""
    return 200 <= status <= 299 or status == 304


def unchecked(request: Any) -> ConfigurationError:
    """The error to raise instead of sending an answer that was made without a check."""
    return ConfigurationError(_text(request.url_rule.endpoint))


def _text(endpoint: str) -> str:
    return (
        f"The view {endpoint!r} answered and its jwt_required never ran: something above it, such as a cache "
        "or a class's dispatch_request, answers without calling it. Put @jwt_required() above that, and "
        "below the route"
    )


def _misplaced(views: Any) -> Iterator[str]:
    for endpoint, registered in views.items():
        view = registered
        while isinstance(view, functools.partial):
            view = view.func
        held = getattr(getattr(view, "__func__", view), "__dict__", {})
        if held.get(_WRAPPED) is _IS_WRAPPED and not isinstance(held.get(MARKS), Marks):
            yield endpoint
