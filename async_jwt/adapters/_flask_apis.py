"""Flask-RESTX and Flask-RESTful, which handle their resources' errors before the application does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from functools import partial
from typing import Any

from flask import Flask, request

__all__ = ["Say", "say_of"]


class Say(Enum):
    """How the `Api` that owns the request's endpoint handles an error."""

    NOTHING = "nothing"
    """Like any HTTP error."""
    NAMED = "named"
    """Its map contains the class name (Flask-RESTful's `errors`)."""
    HANDLED = "handled"
    """It has a handler (Flask-RESTX's `errorhandler`)."""


def say_of(app: Flask, kind: type[Exception], name: str) -> Say | None:
    """Return how such an extension handles an error; None if none owns the request's endpoint.

    Args:
        app: the application of the current request.
        kind: the error's class.
        name: the name to look up for the class.
    """
    rule = request.url_rule
    for api in _apis(app):
        if rule is None or not api.owns_endpoint(rule.endpoint):
            continue
        named = getattr(api, "errors", None)
        if isinstance(named, Mapping) and name in named:
            return Say.NAMED
        namespaces = getattr(api, "namespaces", ())
        handled = [known for each in (api, *namespaces) for known in getattr(each, "error_handlers", ())]
        if issubclass(kind, tuple(handled)) or getattr(api, "_default_error_handler", None) is not None:
            return Say.HANDLED
        return Say.NOTHING
    return None


def _apis(app: Flask) -> Iterator[Any]:
    """Yield the `Api` objects that extensions put in front of the application's own error handling."""
    handle: Any = app.handle_user_exception
    while isinstance(handle, partial):
        api = getattr(handle.func, "__self__", None)
        if hasattr(api, "owns_endpoint"):
            yield api
        handle = handle.args[-1] if handle.args else None
