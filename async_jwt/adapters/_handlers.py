"""Who answers an error: a handler of the application's, or we. What Quart and Flask share.

Both ask the handlers of the request's blueprints first, each for the classes of the error in their order,
and then the application's, where ours are. So ours give way to those of the application that stand
before a loader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from async_jwt import errors
from async_jwt.core.error_responses import before_loaders
from async_jwt.errors import JWTExtendedException

__all__ = ["handler_before_ours", "register"]

_CLASSES: tuple[type[JWTExtendedException], ...] = tuple(
    kind for name in errors.__all__ if issubclass(kind := getattr(errors, name), JWTExtendedException)
)


def register(app: Any, answer: Callable[[Any], Any]) -> None:
    """Let a function answer our errors where the application has no handler for their class.

    Args:
        app: a Quart or Flask application.
        answer: an error handler.
    """
    answer.is_of_async_jwt = True  # type: ignore[attr-defined]
    theirs = app.error_handler_spec[None][None]
    for kind in _CLASSES:
        if kind not in theirs:
            app.register_error_handler(kind, answer)


def handler_before_ours(
    app: Any, blueprints: Iterable[str], error: JWTExtendedException, *, is_compat: bool
) -> Callable[[Any], Any] | None:
    """The handler of the application that answers an error in our stead; None if there is none.

    Args:
        app: a Quart or Flask application.
        blueprints: the names of the request's blueprints, the innermost first.
        error: the error.
        is_compat: whether the compat preset is on.
    """
    kind = type(error)
    for name in blueprints:
        handler = _found(app, name, kind.__mro__)
        if handler is not None:
            return handler
    kinds = before_loaders(kind, is_compat=is_compat)  # type: ignore[arg-type]  # classes are hashable
    return _found(app, None, kinds)


def _found(app: Any, blueprint: str | None, kinds: Sequence[type]) -> Callable[[Any], Any] | None:
    handlers = app.error_handler_spec[blueprint][None]
    found = (handlers[kind] for kind in kinds if kind in handlers)
    return next((handler for handler in found if not getattr(handler, "is_of_async_jwt", False)), None)
