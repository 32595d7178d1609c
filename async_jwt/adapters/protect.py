"""Default deny, and the audit: what each view demands, decided for a request and listed for people.

A view says itself what it demands, by `jwt_required` or `public`. For one that does not, its
blueprints decide, the inner one first, then the application (`JWT_DEFAULT_DENY`).
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from async_jwt.app_state import AppState
from async_jwt.core.policy import Policy
from async_jwt.core.proxies import unproxied
from async_jwt.errors import ConfigurationError
from async_jwt.manager import EXTENSION

__all__ = [
    "DEFAULT",
    "MARKS",
    "Marks",
    "Route",
    "answers_options",
    "mark",
    "noted_of_view",
    "protect",
    "protected_by_default",
    "public",
    "routes_of",
    "warn_open_views",
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


T = TypeVar("T")
State = Literal["protected", "optional", "public", "static", "open"]

log: logging.Logger = logging.getLogger("async_jwt")

DEFAULT: Final = Policy.of()
"""What is demanded where a view is protected and does not say how: an access token."""

_PUBLIC: Final = "public"
_PROTECTED: Final = "protected"
# In an application's extensions: that a blueprint of it was protected.
_PROTECTING: Final = "async_jwt_protecting"
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
    if marks_of(view) or (_is_blueprint(view) and _said(view) is not None):
        raise ConfigurationError(f"{_name(view)} cannot be public: it demands a token already")
    if _is_application(view):
        raise ConfigurationError("public() opens views and blueprints, not an application")
    try:
        setattr(view, MARKS, Marks(_PUBLIC))
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
    if _said(given) == _PUBLIC:
        raise ConfigurationError(f"{_name(given)} cannot be protected: it is public already")
    if _said(given) is None:
        if given._got_registered_once:  # noqa: SLF001  # of which Flask before 2.3 warns at most
            raise ConfigurationError(f"Call protect({_name(given)}) before it is registered")
        given.record(_demand_manager)
        setattr(given, MARKS, Marks(_PROTECTED))
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


@dataclass(frozen=True, slots=True)
class Route:
    """What one rule of an application demands of some methods.

    Attributes:
        rule: the path, as it was registered.
        methods: the methods; none for a WebSocket. OPTIONS, where the framework answers it, and HEAD
            beside GET are left out.
        endpoint: the endpoint's name.
        websocket: whether it is a WebSocket.
        state: "protected"; "optional", which lets anonymous requests through; "public", which was
            marked so; "static", the framework's own files; "open", which nobody decided about.
        policies: what is demanded, all of it.
        by: who demands it: "view", "before_request", "blueprint", "application"; "" for nobody.
    """

    rule: str
    methods: tuple[str, ...]
    endpoint: str
    websocket: bool
    state: State
    policies: tuple[Policy, ...]
    by: str


def protected_by_default(app_state: AppState, request: Any) -> bool:
    """Whether the view of a request or WebSocket is protected by default alone."""
    app = app_state.app
    if app.config.get("JWT_DEFAULT_DENY", False) is False and _PROTECTING not in app.extensions:
        return False  # as in most applications: nothing is protected by default
    rule = request.url_rule
    if rule is None or request.routing_exception is not None:
        return False  # 404, 405 or a redirect: there is no view
    view = app.view_functions.get(rule.endpoint)
    if noted_of_view(view, request.method) is not None:
        return False
    if app.extensions[EXTENSION] is not app_state or _is_static(app, rule.endpoint, view):
        return False  # the manager that was initialised last is asked
    default_deny = app_state.engine().settings.default_deny
    return _said_around(app, rule.endpoint, default_deny=default_deny)[0] == _PROTECTED


def answers_options(request: Any) -> bool:
    """Whether an OPTIONS request would reach a view, which nobody checks a token for."""
    return request.method == "OPTIONS" and not request.url_rule.provide_automatic_options


def routes_of(app_state: AppState) -> list[Route]:
    """What all routes of an application demand, in the order of their paths."""
    app, default_deny = app_state.app, app_state.engine().settings.default_deny
    found: list[Route] = []
    for rule in app.url_map.iter_rules():
        view = app.view_functions.get(rule.endpoint)
        if view is None or rule.build_only:
            continue  # it only builds or redirects
        websocket = bool(getattr(rule, "websocket", False))
        grouped: dict[tuple[State, tuple[Policy, ...], str], list[str]] = {}
        for method in _methods_of(rule, websocket=websocket):
            demand = _demand(app, rule.endpoint, view, method, websocket, default_deny)
            grouped.setdefault(demand, []).append(method)
        found += [
            Route(rule.rule, () if websocket else tuple(methods), rule.endpoint, websocket, *demand)
            for demand, methods in grouped.items()
        ]
    return sorted(found, key=lambda route: (route.rule, route.methods, route.endpoint))


def warn_open_views(app_state: AppState) -> None:
    """Name an application's open views in the log of a developer."""
    if not app_state.engine().settings.debug:
        return
    names = {
        f"{route.endpoint} ({' '.join((*route.methods, route.rule))})"
        for route in routes_of(app_state)
        if route.state == "open"
    }
    if names:
        log.warning(
            "Views that are open to everybody: %s. Protect them with @jwt_required(), mark those that are "
            "meant to be with @public, or set JWT_DEFAULT_DENY = True",
            ", ".join(sorted(names)),
            extra={"event": "open_views"},
        )


def _demand(
    app: Any, endpoint: str, view: Any, method: str, websocket: bool, default_deny: bool
) -> tuple[State, tuple[Policy, ...], str]:
    noted = noted_of_view(view, method)
    own, said = ((), None) if noted is None else (noted.policies, noted.said)
    hooked = tuple(_hooked(app, endpoint, websocket=websocket))
    policies, by = (*hooked, *own), "view" if own else "before_request" if hooked else ""
    is_static = noted is None and _is_static(app, endpoint, view)
    if noted is None and not is_static and not hooked:
        around, who = _said_around(app, endpoint, default_deny=default_deny)
        if around == _PROTECTED:
            return "protected", (DEFAULT,), who
        said = around
    if any(not policy.optional for policy in policies):
        return "protected", policies, by
    if policies:
        return "optional", policies, by
    return "public" if said == _PUBLIC else "static" if is_static else "open", (), ""


def _noted_of_class(kind: Any, method: str) -> Marks | None:
    if not inspect.isclass(kind):
        return None
    name = method.lower()
    handler = None
    if any(each.__name__ == "MethodView" and _is_of_framework(each) for each in kind.__mro__):
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


def _said_around(app: Any, endpoint: str, *, default_deny: bool) -> tuple[str | None, str]:
    for name in _blueprints_of(endpoint):
        said = _said(app.blueprints.get(name))
        if said is not None:
            return said, "blueprint"
    return (_PROTECTED, "application") if default_deny else (None, "")


def _said(blueprint: Any) -> str | None:
    marks = _noted(blueprint)
    return None if marks is None else marks.said


def _blueprints_of(endpoint: str) -> Iterator[str]:
    """The names of an endpoint's blueprints, the innermost first."""
    name = endpoint.rpartition(".")[0]
    while name:
        yield name
        name = name.rpartition(".")[0]


def _hooked(app: Any, endpoint: str, *, websocket: bool) -> Iterator[Policy]:
    """What functions before a view demand; nothing, if they let anonymous requests through."""
    hooks = app.before_websocket_funcs if websocket else app.before_request_funcs
    for name in (None, *_blueprints_of(endpoint)):
        for hook in hooks.get(name, ()):
            yield from (policy for policy in marks_of(hook) if not policy.optional)


def _is_static(app: Any, endpoint: str, view: Any) -> bool:
    """Whether it is the framework's own view of the files in a static folder."""
    owner, _, name = endpoint.rpartition(".")
    holder = app.blueprints.get(owner) if owner else app
    if name != "static" or not getattr(holder, "has_static_folder", False):
        return False
    return _is_of_framework(view)


def _is_of_framework(given: Any) -> bool:
    module: str = getattr(given, "__module__", None) or ""
    return module.partition(".")[0] in _FRAMEWORKS


def _methods_of(rule: Any, *, websocket: bool) -> Sequence[str]:
    if websocket:
        return ("GET",)
    methods = set(rule.methods or ())
    if getattr(rule, "provide_automatic_options", False):
        methods.discard("OPTIONS")
    if "GET" in methods:
        methods.discard("HEAD")
    return sorted(methods)


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

    app.extensions[_PROTECTING] = True
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
