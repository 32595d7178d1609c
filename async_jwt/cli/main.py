"""`flask jwt` and `quart jwt`: one group of commands, found by either framework through its entry point.

It imports no framework: the application that a command is about says which one it is.
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
    """Keys, tokens, revocations and the safety of this application.

    Commands that print something for programs take --json. Exit codes: 0 is yes or done; 1 is no, such as
    an open view or a refused token; 2 is a wrong argument or setting; 3 means that the store cannot be
    reached.
    """
    if os.environ.get("NO_COLOR"):
        context.color = False


for _command in (routes, keys, token, revoke, sessions, doctor):
    jwt.add_command(_command)
