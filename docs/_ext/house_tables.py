"""What is made from the code, so that it cannot drift: `settings-table`, `errors-table`, `command-help`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from async_jwt import errors
from async_jwt.cli.main import jwt
from async_jwt.core.settings import SPECS

# The first field of each group. A field that is renamed fails the build here.
GROUPS = {
    "compat": "The preset",
    "access_expires": "Tokens",
    "realms": "Realms",
    "token_location": "Token locations",
    "access_cookie_name": "Cookies",
    "cookie_csrf_protect": "CSRF",
    "error_message_key": "Errors, hooks and the store",
    "app_secret_key": "The framework's own",
}


def _shown(value: Any) -> str:
    """A default as one writes it in a configuration."""
    if isinstance(value, dt.timedelta):
        days, seconds = value.days, value.seconds
        return f"`timedelta(days={days})`" if not seconds else f"`timedelta(minutes={seconds // 60})`"
    if isinstance(value, tuple):
        return ", ".join(f'`"{item}"`' for item in value)
    return f'`"{value}"`' if isinstance(value, str) else f"`{value!r}`"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def settings_markdown() -> str:
    known = {spec.name for spec in SPECS}
    if missing := GROUPS.keys() - known:
        raise ValueError(f"Settings has no field {', '.join(missing)}: mend GROUPS")
    parts: list[str] = []
    rows: list[list[str]] = []
    head = ("Key", "Default", "With `JWT_COMPAT`", "Meaning")
    for spec in SPECS:
        if spec.name in GROUPS:
            parts += [_table(head, rows)] if rows else []
            rows = []
            parts.append(f"**{GROUPS[spec.name]}**")
        meta = spec.metadata
        same = meta["compat"] is meta["default"]
        preset = "the same" if same else _shown(meta["compat"])
        rows.append([f"`{meta['key']}`", _shown(meta["default"]), preset, meta["about"]])
    return "\n\n".join([*parts, _table(head, rows)])


def errors_markdown() -> str:
    rows = []
    for kind in _tree(errors.JWTExtendedException):
        challenge = kind.bearer_error
        rows.append(
            [
                f"`{kind.__name__}`",
                str(kind.status),
                f"`{kind.error_code}`",
                "-" if challenge is None else f"`{challenge}`",
                kind.default_message,
            ]
        )
    return _table(("Class", "Status", "`code`", "Bearer error", "Message"), rows)


def _tree(kind: type[errors.JWTExtendedException]) -> list[type[errors.JWTExtendedException]]:
    """A class and those below it, without private classes and adapters' twins."""
    found = [kind] if kind.__name__ in errors.__all__ else []
    for child in kind.__subclasses__():
        found += [below for below in _tree(child) if below not in found]
    return list(dict.fromkeys(found))


class SettingsTable(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(settings_markdown())


class ErrorsTable(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(errors_markdown())


class CommandHelp(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return [nodes.literal_block(text, text, language="text") for text in _helps(jwt, ("quart", "jwt"))]


def _helps(command: click.Command, names: tuple[str, ...]) -> Iterator[str]:
    with click.Context(command, info_name=" ".join(names), terminal_width=100) as context:
        yield f"$ {' '.join(names)} --help\n{command.get_help(context)}"
    for name, inner in getattr(command, "commands", {}).items():
        yield from _helps(inner, (*names, name))


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("settings-table", SettingsTable)
    app.add_directive("errors-table", ErrorsTable)
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True}
