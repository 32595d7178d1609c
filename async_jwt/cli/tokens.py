"""`jwt token`: creates and explains tokens."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from async_jwt.cli.application import NO, UNAVAILABLE, WRONG, Failure, app_state, in_realm, login_of, run
from async_jwt.cli.explain import TIMES, Explanation, Part, explain
from async_jwt.cli.output import as_json, bad, duration, good, plain, show_json, when
from async_jwt.core.policy import ACCESS, REFRESH
from async_jwt.errors import MalformedTokenError, StoreUnavailableError
from async_jwt.operations import operations_at

__all__ = ["given_token", "token"]


@click.group()
def token() -> None:
    """Create a token, or explain one."""


@token.command()
@click.argument("identity")
@click.option("--type", "kind", default=ACCESS, show_default=True, help="access, refresh, or a purpose.")
@click.option(
    "--pair", is_flag=True, help="Create the access and refresh token of a new session, as a login does."
)
@click.option("--fresh", is_flag=True, help="Fresh, as right after a login.")
@click.option("--expires", type=duration, help="Its lifetime. Default: from the settings.")
@click.option("--scope", "scopes", multiple=True, help="A scope of the token; several times for several.")
@click.option("--role", "roles", multiple=True, help="A role of the token; several times for several.")
@click.option(
    "--claim", "claims", multiple=True, metavar="NAME=VALUE", help="An additional claim: JSON, or text."
)
@as_json
@in_realm
def create(
    identity: str,
    kind: str,
    pair: bool,
    fresh: bool,
    expires: float | None,
    claims: tuple[str, ...],
    scopes: tuple[str, ...],
    roles: tuple[str, ...],
    as_json: bool,
) -> None:
    """Create a token for IDENTITY, the value of its `sub`, and print it.

    The application's loaders run as at a login. Anyone with the token is that user until it expires:
    give it a short lifetime with --expires.
    """
    bound = app_state()
    operations = operations_at(bound)
    further = dict(_claim(text) for text in claims)
    grants: dict[str, Any] = {"scopes": scopes or None, "roles": roles or None}
    # Token creation takes whole seconds.
    life: Any = None if expires is None else _lifetime(expires)

    async def make() -> dict[str, str]:
        whose = await login_of(bound.engine(), identity)
        if pair:
            made = await operations.create_token_pair(
                whose,
                fresh=fresh,
                additional_claims=further,
                access_expires_delta=life,
                refresh_expires_delta=life,
                **grants,
            )
            return {"access_token": made.access_token, "refresh_token": made.refresh_token, "sid": made.sid}
        if kind == ACCESS:
            text = await operations.create_access_token(whose, fresh, life, further, **grants)
        elif kind == REFRESH:
            text = await operations.create_refresh_token(whose, life, further, **grants)
        else:
            text = await operations.create_token(
                whose, type=kind, expires_delta=life, additional_claims=further, **grants
            )
        return {f"{kind}_token": text}

    if fresh and kind != ACCESS:
        raise Failure("Only access tokens can be fresh")
    if pair and kind != ACCESS:
        raise Failure("--pair creates an access and a refresh token: omit --type")
    made = run(bound, make, asks_hooks=True)
    if as_json:
        show_json(made)
    elif pair:
        for name, value in made.items():
            click.echo(f"{name}: {value}")
    else:
        click.echo(next(iter(made.values())))


@token.command()
@click.argument("token", default="-")
@as_json
@in_realm
def inspect(token: str, as_json: bool) -> None:
    """Explain a token, and check whether a view would accept it.

    Exits with 0 if accepted, 1 if refused, 2 or 3 if undecided. Without TOKEN, or with "-", reads it from
    standard input, which keeps it out of your shell's history. Runs the application's own checks:
    revocation, claims, user. The output contains nothing that grants access.
    """
    bound = app_state()
    text = given_token(token)
    try:
        found = run(bound, lambda: explain(bound, text), asks_hooks=True)
    except MalformedTokenError as problem:
        raise Failure(f"Not a token: {problem}", NO) from None
    now = bound.engine().clock()
    if as_json:
        show_json(_as_json(found))
    else:
        _show(found, now)
    if found.refusal is not None:
        undecided = UNAVAILABLE if isinstance(found.refusal, StoreUnavailableError) else WRONG
        click.get_current_context().exit(undecided if found.undecided else NO)


def given_token(token: str) -> str:
    """Return the token from the command line, or read it from standard input."""
    if token != "-":  # noqa: S105  # the convention for standard input
        return token
    is_typed = sys.stdin.isatty()
    text: str = click.prompt("Token", hide_input=True, err=True) if is_typed else sys.stdin.read()
    text = text.strip()
    if not text:
        raise Failure("No token on standard input")
    return text


def _claim(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise Failure(f"--claim {text}: write NAME=VALUE")
    try:
        return name, json.loads(value, parse_constant=_no_number)
    except ValueError:
        return name, value


def _no_number(name: str) -> Any:
    raise ValueError(name)  # JSON has no NaN (RFC 8259 §6)


def _lifetime(seconds: float) -> Any:
    if seconds < 1:
        raise Failure("--expires must be at least one second")
    return int(seconds)


def _show(found: Explanation, now: float) -> None:
    for title, parts in (("Header", found.header), ("Claims", found.claims)):
        click.echo(title)
        width = max((len(part.name) for part in parts), default=0)
        for part in parts:
            line = f"  {plain(part.name):<{width}}  {plain(_value(part, now))}".rstrip()
            click.echo(line if part.problem is None else f"{line}  {bad('REFUSED')} {plain(part.problem)}")
    for title, names in (("Scopes", found.scopes), ("Roles", found.roles)):
        if names:
            click.echo(f"{title}: {plain(', '.join(names))}")
    if not found.asks_store:
        click.echo("Revocation unknown: the application keeps it in process memory, out of reach here")
    if found.refusal is None:
        click.echo(good(f"Accepted where a token of type {plain(found.kind)} is required"))
        return
    how = "Undecided: a request would get" if found.undecided else "Refused with"
    click.echo(f"{bad(how)} {found.refusal.status} {found.refusal.error_code}: {plain(str(found.refusal))}")


def _value(part: Part, now: float) -> str:
    if part.value is None:
        return "" if part.problem else "(not shown)" if part.name == "csrf" else "null"
    if part.name in TIMES and isinstance(part.value, int | float) and not isinstance(part.value, bool):
        return when(part.value, now)
    return part.value if isinstance(part.value, str) else json.dumps(part.value, ensure_ascii=False)


def _as_json(found: Explanation) -> dict[str, Any]:
    refusal = found.refusal
    return {
        "accepted": None if found.undecided else refusal is None,
        "type": found.kind,
        "refusal": None
        if refusal is None
        else {"status": refusal.status, "code": refusal.error_code, "why": str(refusal)},
        "revocation_known": found.asks_store,
        "scopes": found.scopes,
        "roles": found.roles,
        "header": [_part(part) for part in found.header],
        "claims": [_part(part) for part in found.claims],
    }


def _part(part: Part) -> dict[str, Any]:
    return {"name": part.name, "value": part.value, "problem": part.problem}
