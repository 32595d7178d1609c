"""`flask jwt` and `quart jwt`: one command group, which each framework finds through its entry point.

It imports neither framework: the loaded application tells which one is in use.
"""

from __future__ import annotations

import os

import click

from async_jwt.cli.application import Commands
from async_jwt.cli.doctor import doctor
from async_jwt.cli.keys import keys
from async_jwt.cli.revoke import revoke, sessions
from async_jwt.cli.routes import routes
from async_jwt.cli.tokens import token

__all__ = ["jwt"]


@click.group(cls=Commands)
@click.pass_context
def jwt(context: click.Context) -> None:
    """Manage keys, tokens and revocations of this application, and check its safety.

    Commands with output for programs take --json. Exit codes: 0 is yes or done; 1 is no, such as an open
    view or a refused token; 2 is an invalid argument, setting or hook; 3 means the store is unreachable.
    """
    if os.environ.get("NO_COLOR"):
        context.color = False


for _command in (routes, keys, token, revoke, sessions, doctor):
    jwt.add_command(_command)
