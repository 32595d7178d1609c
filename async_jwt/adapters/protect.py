"""Marks on views and blueprints: what each demands, as `jwt_required`, `public` and `protect` say it.

A view says itself what it demands. For one that does not, its blueprints decide, the inner one first,
then the application (`JWT_DEFAULT_DENY`). `_route_audit` applies that to a request or a list of routes.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from async_jwt.app_state import EXTENSION
from async_jwt.core.policy import Policy
from async_jwt.core.proxies import unproxied
from async_jwt.errors import ConfigurationError

__all__ = [
    "DEFAULT",
    "MARKS",
    "PROTECTED",
    "PROTECTING",
    "PUBLIC",
    "Marks",
    "is_of_framework",
    "is_wrapped",
    "mark",
    "mark_wrapped",
    "marks_of",
    "noted_of_view",
    "protect",
    "public",
    "said_of",
]

# Where marks stand. `functools.wraps` takes a function's marks along to what wraps it.
MARKS: Final = "__async_jwt__"


@dataclass(frozen=True, slots=True)
class Marks:
    """What was noted of a view or a blueprint. A class of ours: some objects have any attribute.

    Attributes:
        said: "public", or "protected" of a blueprint; "" where there are policies.
        policies: what a view demands.
    """

    said: str = ""
    policies: tuple[Policy, ...] = ()


# Left on the function that a guard wraps. Only ours counts: some objects have any attribute.
_WRAPPED: Final = "__async_jwt_wrapped__"
_IS_WRAPPED: Final = object()

T = TypeVar("T")

DEFAULT: Final = Policy.of()
"""What is demanded where a view is protected and does not say how: an access token."""

PUBLIC: Final = "public"
PROTECTED: Final = "protected"
PROTECTING: Final = "async_jwt_protecting"
"""In an application's extensions: a blueprint of it was protected."""
_FRAMEWORKS: Final = frozenset(("flask", "quart"))


def public(view: T) -> T:
    """Open a view to everybody, where views are protected by default.

    Nothing of a request's token is looked at: use `jwt_required(optional=True)` for a view that
    knows its user where there is one.

    Args:
        view: a view function, above or below its route; a class-based view, or one of its methods; a
            blueprint, whose views are open then unless they say otherwise.

    Returns:
        What was given.

    Raises:
        ConfigurationError: it is protected already, or nothing that can be marked.
    """
    view = unproxied(view)
    if marks_of(view) or (_is_blueprint(view) and said_of(view) is not None):
        raise ConfigurationError(f"{_name(view)} cannot be public: it demands a token already")
    if _is_application(view):
        raise ConfigurationError("public() opens views and blueprints, not an application")
    try:
        setattr(view, MARKS, Marks(PUBLIC))
    except AttributeError:
        raise ConfigurationError(f"public() cannot mark {_name(view)}: mark its function") from None
    return view


def protect(blueprint: T) -> T:
    """Protect a blueprint, and those registered on it: their views demand an access token.

    A view with its own `jwt_required(...)` keeps that, and one that is `public` is open. Call it
    before the blueprint is registered.

    Args:
        blueprint: a blueprint. For a whole application, set `JWT_DEFAULT_DENY = True`.

    Returns:
        The blueprint.

    Raises:
        ConfigurationError: it is no blueprint, or public or registered already.
    """
    blueprint = unproxied(blueprint)
    if _is_application(blueprint):
        raise ConfigurationError(
            "protect() is for blueprints: set JWT_DEFAULT_DENY = True for an application"
        )
    if not _is_blueprint(blueprint):
        raise ConfigurationError(f"protect() is for blueprints, not {_name(blueprint)}")
    given: Any = blueprint
    if said_of(given) == PUBLIC:
        raise ConfigurationError(f"{_name(given)} cannot be protected: it is public already")
    if said_of(given) is None:
        if given._got_registered_once:  # noqa: SLF001  # of which Flask before 2.3 warns at most
            raise ConfigurationError(f"Call protect({_name(given)}) before it is registered")
        given.record(_demand_manager)
        setattr(given, MARKS, Marks(PROTECTED))
    return blueprint


def mark(view: Any, policy: Policy) -> None:
    """Note what a view demands. That what it wraps is public elsewhere does not count for it."""
    setattr(view, MARKS, Marks(policies=(*marks_of(view), policy)))


def marks_of(view: Any) -> tuple[Policy, ...]:
    """What a view was noted to demand."""
    marks = _noted(view)
    return () if marks is None else marks.policies


def noted_of_view(view: Any, method: str) -> Marks | None:
    """What was noted of a view, or of what it calls for a method; None for nothing."""
    while isinstance(view, functools.partial) and _noted(view) is None:
        view = view.func
    return _noted(view) or _noted_of_class(getattr(view, "view_class", None), method)


def _noted(given: Any) -> Marks | None:
    marks = getattr(given, MARKS, None)
    return marks if isinstance(marks, Marks) else None


def is_wrapped(function: Any) -> bool:
    """True for a function that a guard wraps, and that is not guarded itself."""
    held = getattr(getattr(function, "__func__", function), "__dict__", {})
    return held.get(_WRAPPED) is _IS_WRAPPED and not isinstance(held.get(MARKS), Marks)


def mark_wrapped(function: Any) -> None:
    """Note that a guard wraps a function; not on what takes no attributes, such as a method."""
    try:
        setattr(function, _WRAPPED, _IS_WRAPPED)
    except AttributeError:
        return


def _noted_of_class(kind: Any, method: str) -> Marks | None:
    if not inspect.isclass(kind):
        return None
    name = method.lower()
    handler = None
    if any(each.__name__ == "MethodView" and is_of_framework(each) for each in kind.__mro__):
        handler = getattr(kind, name, None)
        if handler is None and name == "head":
            handler = getattr(kind, "get", None)
    # As Flask-RESTful and its kin have them: of all methods, or by method.
    wrappers = getattr(kind, "method_decorators", ())
    wrappers = wrappers.get(name, ()) if isinstance(wrappers, Mapping) else wrappers
    policies = tuple(policy for wrapper in wrappers for policy in marks_of(wrapper))
    if policies:
        return Marks(policies=policies)
    # Of this class alone: what derives of one that is public has methods of its own.
    own = kind.__dict__.get(MARKS)
    inner = _noted(handler) or _noted(getattr(kind, "dispatch_request", None))
    return inner or (own if isinstance(own, Marks) else None)


def said_of(blueprint: Any) -> str | None:
    """What a blueprint was marked: "public" or "protected"."""
    marks = _noted(blueprint)
    return None if marks is None else marks.said


def is_of_framework(given: Any) -> bool:
    """True for what a framework itself defines."""
    module: str = getattr(given, "__module__", None) or ""
    return module.partition(".")[0] in _FRAMEWORKS


def _demand_manager(state: Any) -> None:
    """Have a protected blueprint refuse to serve in an application that nobody would check tokens for."""
    app = state.app

    def refuse() -> None:
        if EXTENSION not in app.extensions:
            raise RuntimeError(
                f"The blueprint {state.blueprint.name!r} is protected and its application has no "
                "JWTManager: call JWTManager(app) or init_app(app)"
            )

    async def refuse_async() -> None:
        refuse()

    app.extensions[PROTECTING] = True
    own = getattr(state, "name", state.blueprint.name)  # Flask 2.0.0 does not say it
    name = f"{state.name_prefix}.{own}".lstrip(".")
    sockets = getattr(app, "before_websocket_funcs", None)
    # Quart would run a plain one in a thread.
    hook = refuse if sockets is None else refuse_async
    for hooks in (app.before_request_funcs, sockets):
        if hooks is not None:
            hooks.setdefault(name, []).insert(0, hook)


def _is_application(given: Any) -> bool:
    return hasattr(given, "url_map") and hasattr(given, "view_functions")


def _is_blueprint(given: Any) -> bool:
    return hasattr(given, "record_once") and hasattr(given, "before_request")


def _name(given: Any) -> str:
    return getattr(given, "__qualname__", None) or f"a {type(given).__name__}"
