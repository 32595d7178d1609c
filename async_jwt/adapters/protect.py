"""Marks on views and blueprints: what each demands, as set by `jwt_required`, `public` and `protect`.

`_route_demands` says what they mean for a request; `_route_audit` lists what they mean for all routes.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from async_jwt.app_state import EXTENSION
from async_jwt.core.permissions import Names
from async_jwt.core.policy import Allow, Policy
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

# The attribute that holds marks. `functools.wraps` copies a function's marks to its wrapper.
MARKS: Final = "__async_jwt__"


@dataclass(frozen=True, slots=True)
class Marks:
    """The marks of a view or a blueprint. Its own class, because some objects have any attribute.

    Attributes:
        said: "public", or "protected" for a blueprint; "" for a view with policies.
        policies: what a view, or the views of a blueprint, demand.
    """

    said: str = ""
    policies: tuple[Policy, ...] = ()


# Set on the function that a guard wraps. Only our object counts: some objects have any attribute.
_WRAPPED: Final = "__async_jwt_wrapped__"
_IS_WRAPPED: Final = object()

T = TypeVar("T")

DEFAULT: Final = Policy.of()
"""The policy of a protected view without one of its own: an access token."""

PUBLIC: Final = "public"
PROTECTED: Final = "protected"
PROTECTING: Final = "async_jwt_protecting"
"""The key in `app.extensions` that records that one of its blueprints is protected."""
_FRAMEWORKS: Final = frozenset(("flask", "quart"))


def public(view: T) -> T:
    """Open a view to everyone, where views are protected by default.

    The request's token is ignored: use `jwt_required(optional=True)` for a view that needs to know
    the user if there is one.

    Args:
        view: a view function, above or below its route; a class-based view, or one of its methods; or
            a blueprint, whose views are then open unless marked otherwise.

    Returns:
        The given object.

    Raises:
        ConfigurationError: the object is already protected, or cannot be marked.
    """
    view = unproxied(view)
    if marks_of(view) or (_is_blueprint(view) and said_of(view) is not None):
        raise ConfigurationError(f"{_name(view)} cannot be public: it already demands a token")
    if _is_application(view):
        raise ConfigurationError("public() opens views and blueprints, not an application")
    try:
        setattr(view, MARKS, Marks(PUBLIC))
    except AttributeError:
        raise ConfigurationError(f"public() cannot mark {_name(view)}: mark its function") from None
    return view


def protect(
    blueprint: T,
    *,
    scopes: Names = None,
    roles: Names = None,
    claims: Mapping[str, Any] | None = None,
    allow: Allow | None = None,
    realm: str | None = None,
) -> T:
    """Protect a blueprint and those registered on it: their views demand an access token.

    A view with its own `jwt_required(...)` decides on the token: its type, where it is, and whether there
    must be one. Scopes, roles, claims and `allow` add up: those of the blueprint, of the blueprints it is
    registered on, and of the view. A view marked `public` is open. Call this before the blueprint is
    registered.

    Args:
        blueprint: a blueprint. For a whole application, set `JWT_DEFAULT_DENY = True`.
        scopes: the scopes that a token must have; see `jwt_required`. With these or one of the next four,
            every view of the blueprint needs a token, even one with `jwt_required(optional=True)`.
        roles: the roles that it must have.
        claims: claims that it must have, with their values.
        allow: takes the `Authentication` and returns True or False.
        realm: the realm that the token must belong to. Views with a `jwt_required(...)` that names none mean
            this one.

    Returns:
        The blueprint.

    Raises:
        ConfigurationError: the object is not a blueprint, or is already public or registered; or an
            argument is invalid.
    """
    policy = Policy.of(scopes=scopes, roles=roles, claims=claims, allow=allow, realm=realm)
    blueprint = unproxied(blueprint)
    if _is_application(blueprint):
        raise ConfigurationError(
            "protect() is for blueprints: set JWT_DEFAULT_DENY = True for an application"
        )
    if not _is_blueprint(blueprint):
        raise ConfigurationError(f"protect() is for blueprints, not {_name(blueprint)}")
    given: Any = blueprint
    if said_of(given) == PUBLIC:
        raise ConfigurationError(f"{_name(given)} cannot be protected: it is already public")
    if said_of(given) is None or policy.is_restricted:
        if given._got_registered_once:  # noqa: SLF001  # Flask before 2.3 warns at most
            raise ConfigurationError(f"Call protect({_name(given)}) before it is registered")
        if said_of(given) is None:
            given.record(_demand_manager)
        setattr(given, MARKS, Marks(PROTECTED, (*marks_of(given), policy)))
    return blueprint


def mark(view: Any, policy: Policy) -> None:
    """Record what a view demands. A public mark on the function that it wraps does not carry over."""
    setattr(view, MARKS, Marks(policies=(*marks_of(view), policy)))


def marks_of(view: Any) -> tuple[Policy, ...]:
    """Return what a view is marked to demand."""
    marks = _noted(view)
    return () if marks is None else marks.policies


def noted_of_view(view: Any, method: str) -> Marks | None:
    """Return the marks of a view, or of what it calls for a method; None if it has none."""
    while isinstance(view, functools.partial) and _noted(view) is None:
        view = view.func
    return _both(_noted(view), _noted_of_class(getattr(view, "view_class", None), method))


def _noted(given: Any) -> Marks | None:
    marks = getattr(given, MARKS, None)
    return marks if isinstance(marks, Marks) else None


def is_wrapped(function: Any) -> bool:
    """True for a function that a guard wraps and that is not itself guarded."""
    held = getattr(getattr(function, "__func__", function), "__dict__", {})
    return held.get(_WRAPPED) is _IS_WRAPPED and not isinstance(held.get(MARKS), Marks)


def mark_wrapped(function: Any) -> None:
    """Record that a guard wraps a function. Skips objects without settable attributes, such as methods."""
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
    # As in Flask-RESTful and similar extensions: for all methods, or by method.
    wrappers = getattr(kind, "method_decorators", ())
    wrappers = wrappers.get(name, ()) if isinstance(wrappers, Mapping) else wrappers
    policies = tuple(policy for wrapper in wrappers for policy in marks_of(wrapper))
    # This class only: a subclass of a public class has its own methods.
    own = kind.__dict__.get(MARKS)
    inner = _noted(handler) or _noted(getattr(kind, "dispatch_request", None))
    around = Marks(policies=policies) if policies else None
    return _both(around, inner or (own if isinstance(own, Marks) else None))


def _both(outer: Marks | None, inner: Marks | None) -> Marks | None:
    """The marks of something and of what it calls: their policies add up, and close what is public."""
    if outer is None or inner is None:
        return outer or inner
    policies = tuple(dict.fromkeys((*outer.policies, *inner.policies)))
    return Marks(policies=policies) if policies else outer


def said_of(blueprint: Any) -> str | None:
    """Return how a blueprint is marked: "public" or "protected"; None if it is not."""
    marks = _noted(blueprint)
    return None if marks is None else marks.said


def is_of_framework(given: Any) -> bool:
    """True if a framework itself defines the object."""
    module: str = getattr(given, "__module__", None) or ""
    return module.partition(".")[0] in _FRAMEWORKS


def _demand_manager(state: Any) -> None:
    """Make a protected blueprint refuse to serve in an application without a JWTManager."""
    app = state.app

    def refuse() -> None:
        if EXTENSION not in app.extensions:
            raise RuntimeError(
                f"The blueprint {state.blueprint.name!r} is protected, but its application has no "
                "JWTManager: call JWTManager(app) or init_app(app)"
            )

    async def refuse_async() -> None:
        refuse()

    app.extensions[PROTECTING] = True
    own = getattr(state, "name", state.blueprint.name)  # missing in Flask 2.0.0
    name = f"{state.name_prefix}.{own}".lstrip(".")
    sockets = getattr(app, "before_websocket_funcs", None)
    # Quart would run a plain function in a thread.
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
