"""What a request's route demands, beside what its view's decorators check: for the code that calls the view.

A view's own mark decides on the token: its type, and whether there must be one. What blueprints demand
beyond that adds up, from the innermost one out, until one is public. Without a mark, they and the application
(`JWT_DEFAULT_DENY`) decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from async_jwt.adapters.protect import (
    DEFAULT,
    PROTECTED,
    PUBLIC,
    Marks,
    is_of_framework,
    marks_of,
    noted_of_view,
    said_of,
)
from async_jwt.app_state import EXTENSION, AppState
from async_jwt.core.policy import Policy
from async_jwt.errors import ConfigurationError

__all__ = [
    "Around",
    "answers_options",
    "around_view",
    "blueprints_of",
    "demanded_around",
    "hooked",
    "is_accepted",
    "is_static",
    "is_unchecked",
    "said_around",
    "unchecked",
]

# A view may accept any method, and clients can invent methods.
_MOST_REMEMBERED = 10_000


class Around(NamedTuple):
    """What blueprints and the application demand of a view's requests.

    Attributes:
        policies: the policies that a request must meet before the view runs.
        by_default: whether the view itself says nothing.
        leaves_mark: whether the view's own decorators leave marks, which must be there when it has answered.
        by: what demands them: "blueprint" or "application"; "" if nothing does.
        realm: the realm that the blueprints name; None if they name none.
    """

    policies: tuple[Policy, ...] = ()
    by_default: bool = False
    leaves_mark: bool = False
    by: str = ""
    realm: str | None = None


_NOTHING = Around()


def demanded_around(app_state: AppState, request: Any) -> Around:
    """Return what blueprints and the application demand of a request or WebSocket."""
    app, rule = app_state.app, request.url_rule
    if rule is None or request.routing_exception is not None:
        return _NOTHING  # 404, 405 or a redirect: there is no view
    if app.extensions[EXTENSION] is not app_state:
        return _NOTHING  # only the manager initialized last decides
    endpoint, method = rule.endpoint, request.method
    view, denies = app.view_functions.get(endpoint), app_state.base_engine().settings.default_deny
    known = app_state.around.get((endpoint, method))
    if known is None or known[0] is not view or known[1] is not denies:
        found = around_view(app, endpoint, view, noted_of_view(view, method), default_deny=denies)
        known = view, denies, found
        if len(app_state.around) < _MOST_REMEMBERED:
            app_state.around[endpoint, method] = known
    around: Around = known[2]
    return around


def around_view(app: Any, endpoint: str, view: Any, noted: Marks | None, *, default_deny: bool) -> Around:
    """Return what blueprints and the application demand of a view.

    Args:
        app: the application.
        endpoint: the view's endpoint.
        view: the view.
        noted: its own marks.
        default_deny: whether the application demands a token (`JWT_DEFAULT_DENY`).
    """
    own = () if noted is None else noted.policies
    if (noted is not None and not own) or (noted is None and is_static(app, endpoint, view)):
        return _NOTHING  # marked public, or a file of the framework's
    said, demanded, by = said_around(app, endpoint, default_deny=default_deny)
    if noted is None:
        if said != PROTECTED:
            return _NOTHING
        return Around((demanded,), by_default=True, by=by, realm=demanded.realm)
    leaves_mark = any(policy.leaves_mark for policy in own)
    if not demanded.is_restricted:
        return Around(leaves_mark=leaves_mark)
    return Around(_inside(own, demanded), leaves_mark=leaves_mark, by=by, realm=demanded.realm)


def _inside(own: Sequence[Policy], demanded: Policy) -> tuple[Policy, ...]:
    """Return what a view's policies and its blueprints' come to: one policy for each token."""
    tokens: list[Policy] = []
    for policy in own:
        if not any(policy.is_of_same_token(other) for other in tokens):
            tokens.append(policy)
    return tuple(token.plus_below(own).inside(demanded) for token in tokens)


def said_around(app: Any, endpoint: str, *, default_deny: bool) -> tuple[str | None, Policy, str]:
    """Return what is said around an endpoint: "public", "protected" or None; what it demands; who says so."""
    said, by, demanded = None, "", DEFAULT
    for name in blueprints_of(endpoint):
        blueprint = app.blueprints.get(name)
        word = said_of(blueprint)
        if word == PUBLIC:
            return said or word, demanded, "blueprint"
        if word is not None:
            said, by, demanded = word, "blueprint", demanded.plus(*marks_of(blueprint))
    if said is not None:
        return said, demanded, by
    return (PROTECTED, DEFAULT, "application") if default_deny else (None, DEFAULT, "")


def blueprints_of(endpoint: str) -> Iterator[str]:
    """Yield the names of an endpoint's blueprints, innermost first."""
    name = endpoint.rpartition(".")[0]
    while name:
        yield name
        name = name.rpartition(".")[0]


def hooked(app: Any, endpoint: str, *, websocket: bool) -> Iterator[Policy]:
    """Yield what functions that run before a view demand, unless they let anonymous requests through."""
    hooks = app.before_websocket_funcs if websocket else app.before_request_funcs
    for name in (None, *blueprints_of(endpoint)):
        for hook in hooks.get(name, ()):
            yield from (policy for policy in marks_of(hook) if not policy.optional)


def is_static(app: Any, endpoint: str, view: Any) -> bool:
    """True if it is the framework's own view for the files in a static folder."""
    owner, _, name = endpoint.rpartition(".")
    holder = app.blueprints.get(owner) if owner else app
    if name != "static" or not getattr(holder, "has_static_folder", False):
        return False
    return is_of_framework(view)


def answers_options(request: Any) -> bool:
    """True if an OPTIONS request would reach a view, although no token is checked for it."""
    return request.method == "OPTIONS" and not request.url_rule.provide_automatic_options


def is_unchecked(app_state: AppState, request: Any) -> bool:
    """True if a request's view demands a token, but no check of the request demanded one, or none as much.

    For example, a cache above the guard responds, or a class never calls the guarded method. Use it
    for responses that are not refusals. A view that lets anonymous requests through is only logged, once.

    Args:
        app_state: the application's state.
        request: its request or WebSocket.
    """
    request_state, rule = getattr(request, app_state.slot, None), request.url_rule
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
    if request_state is not None and request_state.demanded:
        return any(
            policy.leaves_mark
            and not policy.optional
            and not any(policy.is_met_by(met) for met in request_state.met)
            for policy in policies
        )
    if app_state.app.extensions.get(EXTENSION) is not app_state:
        return False  # only the manager initialized last decides
    if all(policy.optional for policy in policies):
        if not app_state.acting(request).state_of(request).passed:
            app_state.warn_once("unchecked_view", "%s", _text(endpoint), about=endpoint)
        return False
    return True


def is_accepted(status: int) -> bool:
    """True if a response with this status delivers content. Redirects and refusals do not."""
    return 200 <= status <= 299 or status == 304


def unchecked(request: Any) -> ConfigurationError:
    """Return the error to raise instead of sending a response that no check guarded."""
    return ConfigurationError(_text(request.url_rule.endpoint))


def _text(endpoint: str) -> str:
    return (
        f"The view {endpoint!r} answered, but its jwt_required never ran: something above it, such as a "
        "cache or a class's dispatch_request, answers without calling it. Put @jwt_required() above that, "
        "but below the route"
    )
