"""`jwt routes`: what each route requires."""

from __future__ import annotations

import json
from typing import Any

import click

from async_jwt.adapters._route_audit import Route, routes_of
from async_jwt.cli.application import NO, Failure, app_state
from async_jwt.cli.output import as_json, bad, good, show_json, table
from async_jwt.core.hooks import Hook
from async_jwt.core.policy import Policy

__all__ = ["routes"]


@click.command()
@as_json
@click.option("--check", is_flag=True, help="Exit with 1 if a view is open and not marked @public.")
def routes(as_json: bool, check: bool) -> None:
    """List all routes and what each requires.

    "OPEN" marks a view that is neither protected nor public: protect it with @jwt_required(), mark it
    with @public, or set JWT_DEFAULT_DENY = True. Use --check as a test in CI.
    """
    found = routes_of(app_state())
    if as_json:
        show_json([_as_json(route) for route in found])
    else:
        rows = [
            (
                route.rule,
                "WebSocket" if route.websocket else " ".join(route.methods),
                _demand(route),
                route.by,
                route.endpoint,
            )
            for route in found
        ]
        click.echo(table(("Rule", "Methods", "Requires", "Set by", "Endpoint"), rows))
    names = sorted({route.endpoint for route in found if route.state == "open"})
    if check and names:
        raise Failure(
            f"Unprotected and not marked @public: {', '.join(names)}. Add @jwt_required() or @public",
            NO,
        )


def _demand(route: Route) -> str:
    if route.policies:
        return good(" and ".join(dict.fromkeys(_words(policy) for policy in route.policies)))
    return {"open": bad("OPEN"), "public": "public", "static": "static files"}[route.state]


def _words(policy: Policy) -> str:
    kinds = ("access", "refresh") if policy.types is None else sorted(policy.types)
    words = [*(["fresh"] if policy.fresh else []), " or ".join(kinds), "token"]
    if policy.locations is not None:
        words += ["in", " or ".join(policy.locations)]
    for what, demand in (("scope", policy.scopes), ("role", policy.roles)):
        if demand:
            words.append(f"with {what} {' and '.join(map(_choice, demand))}")
    words += [f"with {name} = {value}" for name, value in policy.claims]
    words += [f"if {name_of(hook)}" for hook in policy.allow]
    if policy.realm is not None:
        words.append(f"of realm {policy.realm}")
    if policy.once:
        words.append("once" if policy.once is True else "once, at GET too")
    if policy.skip_revocation_check:
        words.append("(even revoked)")
    return " ".join([*words, *(["(optional)"] if policy.optional else [])])


def _choice(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"({' or '.join(names)})"


def name_of(hook: Hook) -> str:
    """The name of an `allow` function."""
    return str(getattr(hook.function, "__qualname__", type(hook.function).__name__))


def _as_json(route: Route) -> dict[str, Any]:
    return {
        "rule": route.rule,
        "methods": list(route.methods),
        "websocket": route.websocket,
        "endpoint": route.endpoint,
        "state": route.state,
        "said_by": route.by or None,
        "demands": [
            {
                "types": None if policy.types is None else sorted(policy.types),
                "optional": policy.optional,
                "fresh": policy.fresh,
                "locations": None if policy.locations is None else list(policy.locations),
                "realm": policy.realm,
                "scopes": policy.scopes,
                "roles": policy.roles,
                "claims": {name: json.loads(value) for name, value in policy.claims},
                "allow": [name_of(hook) for hook in policy.allow],
                "once": policy.once,
                "skips_revocation_check": policy.skip_revocation_check,
            }
            for policy in route.policies
        ],
    }
