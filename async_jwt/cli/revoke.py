"""`jwt revoke` and `jwt sessions`: sign users and devices out from the command line."""

from __future__ import annotations

import datetime as dt
import json
import sys

import click

from async_jwt.app_state import AppState
from async_jwt.cli.application import (
    NO,
    Failure,
    app_state,
    in_realm,
    login_of,
    refuse_memory,
    run,
)
from async_jwt.cli.output import as_json, plain, say, show_json, table, when
from async_jwt.cli.tokens import given_token
from async_jwt.core.sessions import SessionInfo
from async_jwt.operations import operations_at

__all__ = ["revoke", "sessions"]

_PAGE = 500


@click.group()
def revoke() -> None:
    """Revoke a token, a session, a user's tokens, or everything.

    Takes effect at once in all processes that share the store. Returns once the revocation is stored.
    """


@revoke.command()
@click.argument("token", default="-")
@in_realm
def token(token: str) -> None:
    """Revoke one token; for a refresh token, also its session.

    Without TOKEN, or with "-", reads it from standard input.
    """
    bound = _shared()
    text = given_token(token)
    run(bound, lambda: operations_at(bound).revoke_token(text), asks_hooks=True)
    click.echo("The token is revoked")


@revoke.command()
@click.argument("sid")
@in_realm
def session(sid: str) -> None:
    """Revoke a session: one device of a user. `jwt sessions` lists them."""
    bound = _shared()
    if not run(bound, lambda: operations_at(bound).revoke_session(sid)):
        raise Failure(f"Session {sid} was not found; any tokens of it are refused from now on", NO)
    say(f"Session {sid} is revoked")


@revoke.command()
@click.argument("identity")
@in_realm
def user(identity: str) -> None:
    """Revoke all current tokens of a user: sign IDENTITY out everywhere."""
    bound = _shared()

    async def work() -> None:
        await operations_at(bound).revoke_user(await login_of(bound.engine(), identity))

    run(bound, work, asks_hooks=True)
    say(f"All tokens of {identity} are revoked")


@revoke.command()
@click.option("--yes", is_flag=True, help="Skip the confirmation.")
@in_realm
def everything(yes: bool) -> None:
    """Revoke all tokens of all users, or of one realm: they have to sign in again."""
    bound = _shared()
    whose = f"All users of the realm {bound.realm}" if bound.realm else "All users"
    if not yes:
        click.confirm(f"{whose} will have to sign in again. Revoke everything?", abort=True, err=True)
    run(bound, operations_at(bound).revoke_everything)
    click.echo(
        f"All tokens of the realm {bound.realm} are revoked" if bound.realm else "All tokens are revoked"
    )


@click.command()
@click.argument("identity")
@as_json
@in_realm
def sessions(identity: str, as_json: bool) -> None:
    """List the devices that IDENTITY is signed in on, most recently used first."""
    bound = _shared()
    found = run(bound, lambda: _all_sessions(bound, identity), asks_hooks=True)
    now = bound.engine().clock()
    if as_json:
        show_json(
            [
                {
                    "sid": session.sid,
                    "device": session.device,
                    "created_at": session.created_at.isoformat(),
                    "last_used_at": session.last_used_at.isoformat(),
                    "expires_at": None if session.expires_at is None else session.expires_at.isoformat(),
                    "actor": session.actor,
                }
                for session in found
            ]
        )
        return
    rows: list[tuple[str, ...]] = [
        (
            plain(session.sid),
            plain(session.device or ""),
            _when(session.created_at, now),
            _when(session.last_used_at, now),
            _when(session.expires_at, now),
        )
        for session in found
    ]
    head: tuple[str, ...] = ("Session", "Device", "Signed in", "Last used", "Expires")
    if any(session.actor is not None for session in found):
        head = (*head, "Actor")
        rows = [(*row, _actor(session)) for row, session in zip(rows, found, strict=True)]
    click.echo(table(head, rows))


async def _all_sessions(bound: AppState, identity: str) -> list[SessionInfo]:
    operations, whose = operations_at(bound), await login_of(bound.engine(), identity)
    page = await operations.list_sessions(whose, limit=_PAGE)
    found = list(page.sessions)
    shows = sys.stderr.isatty()
    while page.cursor is not None:
        if shows:
            click.echo(f"{len(found)} sessions so far\r", err=True, nl=False)
        page = await operations.list_sessions(whose, limit=_PAGE, cursor=page.cursor)
        found += page.sessions
    return found


def _actor(session: SessionInfo) -> str:
    return "" if session.actor is None else plain(json.dumps(session.actor))


def _shared() -> AppState:
    bound = app_state()
    refuse_memory(bound)
    return bound


def _when(moment: dt.datetime | None, now: float) -> str:
    return when(None if moment is None else moment.timestamp(), now)
