"""What each route of an application demands: at startup, and as a list.

A decorator wraps a function, but a framework calls the function that was registered. If the two
differ, a view looks protected but is open: such views are refused at startup, and their responses
are never sent.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from async_jwt.adapters._route_demands import around_view, hooked, is_static, said_around
from async_jwt.adapters.protect import PROTECTING, PUBLIC, is_wrapped, noted_of_view
from async_jwt.app_state import EXTENSION, AppState
from async_jwt.core.policy import Policy
from async_jwt.core.rotation import require_refresh_grace, session_store
from async_jwt.core.settings import Settings
from async_jwt.core.single_use import SAFE_METHODS
from async_jwt.errors import ConfigurationError

__all__ = [
    "Route",
    "refuse_login_view",
    "refuse_once_in_vain",
    "refuse_unreached_cookies",
    "refuse_views",
    "routes_of",
    "warn_open_views",
]

log: logging.Logger = logging.getLogger("async_jwt")

State = Literal["protected", "optional", "public", "static", "open"]


def refuse_views(app_state: AppState) -> None:
    """Refuse an application with views whose protection cannot do what it says.

    Raises:
        ConfigurationError: there are such views, or the store lacks what they need.
    """
    app_state.refuse_realms_without_keys()
    _refuse_misplaced(app_state)
    _refuse_unknown_realms(app_state)
    if any(policy.leaves_mark for route in routes_of(app_state) for policy in route.policies):
        app_state.app.extensions[PROTECTING] = True
    refuse_once_in_vain(app_state)
    refuse_unreached_cookies(app_state)
    refuse_login_view(app_state)


def _refuse_unknown_realms(app_state: AppState) -> None:
    """Refuse views that demand an unknown realm, or several. Raises ConfigurationError."""
    for route in routes_of(app_state):
        for policy in route.policies:
            if policy.realm is not None:
                app_state.of_realm(policy.realm)


def _refuse_misplaced(app_state: AppState) -> None:
    """Refuse an application with views that were registered without the guard that wraps them.

    Raises:
        ConfigurationError: there are such views. The text names them and the fix.
    """
    names = sorted(_misplaced(app_state.app.view_functions))
    if names:
        raise ConfigurationError(
            f"jwt_required wraps these views, but they were registered without it: {', '.join(names)}. Put "
            "@jwt_required() below the route, or mark views that are meant to be open there with @public"
        )


def refuse_once_in_vain(app_state: AppState) -> None:
    """Refuse views that never use their token up, although `once=True` says so: they serve GET alone.

    Which methods a view has is known only from its routes, not at decoration.

    Raises:
        ConfigurationError: there are such views, or the store cannot use tokens once.
    """
    if app_state.app.extensions.get(EXTENSION) is not app_state:
        return  # only the manager initialized last decides
    methods: dict[tuple[int, Policy], set[str]] = {}
    names: dict[tuple[int, Policy], str] = {}
    for rule, view, websocket in _rules(app_state.app):
        for policy in hooked(app_state.app, rule.endpoint, websocket=websocket):
            _refuse_store(app_state, policy)
        for method in _methods_of(rule, websocket=websocket):
            noted = noted_of_view(view, method)
            for policy in () if noted is None else noted.policies:
                _refuse_store(app_state, policy)
                if policy.once is True:
                    names[id(view), policy] = rule.endpoint
                    methods.setdefault((id(view), policy), set()).add("" if websocket else method)
    vain = sorted({names[key] for key, served in methods.items() if served <= SAFE_METHODS})
    if vain:
        raise ConfigurationError(
            f"jwt_required(once=True) never uses up the tokens of these views, which serve GET alone: "
            f'{", ".join(vain)}. Let a form or a script send POST, or write once="get"'
        )


def refuse_unreached_cookies(app_state: AppState) -> None:
    """Refuse views with `refresh_cookie=True` that no refresh cookie reaches, or that could not use it.

    Raises:
        ConfigurationError: there are such views.
    """
    for route in routes_of(app_state):
        if not any(policy.refresh_cookie for policy in route.policies):
            continue
        demanded = [policy for policy in route.policies if policy.refresh_cookie]
        engine = app_state.of_realm(demanded[0].realm or "").base_engine()
        require_refresh_grace(engine, "jwt_required(refresh_cookie=True)")
        session_store(engine)
        if not any(_reads_cookies(policy, engine.settings) for policy in demanded):
            raise ConfigurationError(
                f"The view {route.endpoint!r} with refresh_cookie=True reads no cookies: name them in "
                "JWT_TOKEN_LOCATION, or in its locations"
            )
        path = engine.settings.refresh_cookie_path
        root = str(app_state.app.config.get("APPLICATION_ROOT") or "/").rstrip("/")
        reaches = f"{root}{route.rule}/".startswith(f"{path.rstrip('/')}/")
        if not reaches and "cookie_scope" not in engine.hooks:  # which has paths of its own
            raise ConfigurationError(
                f"The view {route.endpoint!r} with refresh_cookie=True has the path {route.rule!r}, to which "
                f"browsers do not send the refresh cookie: set JWT_REFRESH_COOKIE_PATH, which is {path!r}"
            )


def _reads_cookies(policy: Policy, settings: Settings) -> bool:
    return "cookies" in (policy.locations or settings.token_location)


def refuse_login_view(app_state: AppState) -> None:
    """Refuse a `JWT_LOGIN_VIEW` that does not exist or demands a token.

    Raises:
        ConfigurationError: no endpoint has that name, or its view demands a token.
    """
    for state in (app_state, *app_state.realms.values()):
        target = state.base_engine().settings.login_view
        if target is not None:
            _refuse_login_view(app_state, target)


def _refuse_login_view(app_state: AppState, target: str) -> None:
    endpoint = _endpoint_of(app_state.app, target)
    routes = [route for route in routes_of(app_state) if route.endpoint == endpoint]
    if not routes and not target.startswith("/"):
        raise ConfigurationError(
            f"JWT_LOGIN_VIEW = {target!r} is no endpoint of this application: name one, or a path that "
            "begins with a slash"
        )
    if any(route.state == "protected" and "GET" in route.methods for route in routes):
        raise ConfigurationError(
            f"JWT_LOGIN_VIEW = {target!r} demands a token, and would redirect to itself: mark it @public"
        )


def _endpoint_of(app: Any, target: str) -> str | None:
    """Return the endpoint that a path leads to, None if to none; an endpoint as it is."""
    if not target.startswith("/"):
        return target
    try:
        found: str = app.url_map.bind("localhost").match(target.partition("?")[0], "GET")[0]
    except Exception:  # noqa: BLE001  # Werkzeug's own: there is no such path, or it redirects
        return None
    return found


def _refuse_store(app_state: AppState, policy: Policy) -> None:
    """Raise ConfigurationError if a view needs a store that uses tokens once, and this one does not."""
    if policy.once:
        _ = app_state.base_engine().single_use


@dataclass(frozen=True, slots=True)
class Route:
    """What one URL rule of an application demands for some methods.

    Attributes:
        rule: the path, as registered.
        methods: the methods; empty for a WebSocket. Leaves out OPTIONS if the framework answers it,
            and HEAD next to GET.
        endpoint: the endpoint's name.
        websocket: True for a WebSocket.
        state: "protected"; "optional", which lets anonymous requests through; "public", if marked so;
            "static", the framework's own files; "open", if nothing was decided.
        policies: all policies that apply.
        by: what demands them: "view", "before_request", "blueprint", "application"; "" if nothing does.
    """

    rule: str
    methods: tuple[str, ...]
    endpoint: str
    websocket: bool
    state: State
    policies: tuple[Policy, ...]
    by: str


def routes_of(app_state: AppState) -> list[Route]:
    """Return what all routes of an application demand, sorted by path."""
    app, default_deny = app_state.app, app_state.base_engine().settings.default_deny
    found: list[Route] = []
    for rule, view, websocket in _rules(app):
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
    """Log an application's open views, in debug mode."""
    if not app_state.base_engine().settings.debug:
        return
    names = {
        f"{route.endpoint} ({' '.join((*route.methods, route.rule))})"
        for route in routes_of(app_state)
        if route.state == "open"
    }
    if names:
        log.warning(
            "These views are open to everyone: %s. Protect them with @jwt_required(), mark those that are "
            "meant to be open with @public, or set JWT_DEFAULT_DENY = True",
            ", ".join(sorted(names)),
            extra={"event": "open_views"},
        )


def _demand(
    app: Any, endpoint: str, view: Any, method: str, websocket: bool, default_deny: bool
) -> tuple[State, tuple[Policy, ...], str]:
    noted = noted_of_view(view, method)
    own = () if noted is None else noted.policies
    before = tuple(hooked(app, endpoint, websocket=websocket))
    around = around_view(app, endpoint, view, noted, default_deny=default_deny)
    policies, by = (*before, *own), "view" if own else "before_request" if before else ""
    if not around.by_default:
        policies = (*before, *(around.policies or own))
    elif not before:
        return "protected", around.policies, around.by
    else:  # what passed before the view decides on the token, and the blueprints add to it
        last = before[-1]
        policies = (*before, *(last.inside(each) for each in around.policies if not last.covers(each)))
    if any(not policy.optional for policy in policies):
        return "protected", policies, by
    if policies:
        return "optional", policies, by
    if noted is None and is_static(app, endpoint, view):
        return "static", (), ""
    said = noted.said if noted is not None else said_around(app, endpoint, default_deny=default_deny)[0]
    return "public" if said == PUBLIC else "open", (), ""


def _methods_of(rule: Any, *, websocket: bool) -> Sequence[str]:
    if websocket:
        return ("GET",)
    methods = set(rule.methods or ())
    if getattr(rule, "provide_automatic_options", False):
        methods.discard("OPTIONS")
    if "GET" in methods:
        methods.discard("HEAD")
    return sorted(methods)


def _rules(app: Any) -> Iterator[tuple[Any, Any, bool]]:
    """Yield each rule of an application with its view, and whether it is a WebSocket's."""
    for rule in app.url_map.iter_rules():
        view = app.view_functions.get(rule.endpoint)
        if view is None or rule.build_only:
            continue  # it only builds or redirects
        yield rule, view, bool(getattr(rule, "websocket", False))


def _misplaced(views: Any) -> Iterator[str]:
    for endpoint, registered in views.items():
        view = registered
        while isinstance(view, functools.partial):
            view = view.func
        if is_wrapped(view):
            yield endpoint
