"""`jwt doctor`: finds problems in an application's authentication, with a fix for each."""

from __future__ import annotations

from dataclasses import replace

import click

from async_jwt.app_state import AppState
from async_jwt.cli.application import NO, Failure, app_state, in_realm, login_of, run
from async_jwt.cli.diagnosis import (
    Finding,
    of_hook_timeout,
    of_hooks,
    of_keys,
    of_names,
    of_paths,
    of_scopes,
    of_settings,
    of_store,
    of_views,
)
from async_jwt.cli.diagnosis_of_issuers import of_issuers
from async_jwt.cli.output import as_json, bad, good, plain, show_json
from async_jwt.core.engine import Engine
from async_jwt.errors import ConfigurationError, HookError
from async_jwt.operations import operations_at

__all__ = ["doctor"]


@click.command()
@click.option(
    "--identity", help="One of your users: also run the hooks, as for this user's login and requests."
)
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings too.")
@as_json
@in_realm
def doctor(identity: str | None, strict: bool, as_json: bool) -> None:
    """Look for mistakes in settings, keys, issuers, cookies, store, clocks, views and hooks, in all realms.

    Exits with 1 on errors, for use in CI and deployment. Run it where the application runs, with its
    configuration. Hooks run with --identity only, because they are your own code: the doctor creates a
    token for that user, checks it, and throws it away.
    """
    found = _examined(identity)
    if as_json:
        show_json(
            [
                {"level": finding.level, "about": finding.about, "what": finding.what, "fix": finding.fix}
                for finding in found
            ]
        )
    else:
        for finding in found:
            title = bad("error") if finding.level == "error" else click.style("warning", fg="yellow")
            click.echo(f"{title}  {plain(finding.about)}: {plain(finding.what)}\n  fix: {plain(finding.fix)}")
        click.echo(_summary(found, identity))
    if any(strict or finding.level == "error" for finding in found):
        click.get_current_context().exit(NO)


def _examined(identity: str | None) -> list[Finding]:
    try:
        bound = app_state()
    except ConfigurationError as problem:
        return [Finding("error", "settings", str(problem), "correct it: the application does not start")]
    except Failure as problem:
        return [Finding("error", "application", problem.message, "correct it: nothing is protected")]
    found = [*of_names(bound), *of_views(bound), *of_scopes(bound)]
    found += run(bound, lambda: of_store(bound))
    has_keys = True
    for state in (bound,) if bound.realm else (bound, *bound.realms.values()):
        its, missing = _of_realm(state)
        found += [replace(each, about=_about(state, each)) for each in its]
        has_keys = has_keys and not (missing and state is bound)
    if identity is not None and has_keys:
        try:
            found += run(bound, lambda: _of_hooks(bound, identity), asks_hooks=True)
        except (ConfigurationError, HookError) as problem:
            found.append(Finding("error", "hooks", str(problem), "correct it: this user cannot sign in"))
    return _sorted(found)


def _of_realm(bound: AppState) -> tuple[list[Finding], bool]:
    """Return what is wrong with one realm, and whether it has no keys."""
    engine = bound.engine()
    found = [*of_settings(engine.settings), *of_paths(bound), *of_hook_timeout(bound)]
    found += run(bound, lambda: of_issuers(bound))
    try:
        found += run(bound, lambda: _of_keys(engine))
    except (ConfigurationError, HookError) as problem:
        wrong = Finding("error", "keys", str(problem), "correct it: no token can be made or accepted")
        return [*found, wrong], True
    return found, False


def _about(bound: AppState, finding: Finding) -> str:
    return f"realm {bound.realm}: {finding.about}" if bound.realm else finding.about


def _sorted(found: list[Finding]) -> list[Finding]:
    return sorted(found, key=lambda finding: finding.level)


async def _of_keys(engine: Engine) -> list[Finding]:
    if "decode_key" in engine.hooks and "encode_key" in engine.hooks:
        return []  # the application manages its own keys
    await engine.active_keys()
    return list(of_keys(engine))


async def _of_hooks(bound: AppState, identity: str) -> list[Finding]:
    engine = bound.engine()
    return await of_hooks(operations_at(bound), engine, lambda: login_of(engine, identity))


def _summary(found: list[Finding], identity: str | None) -> str:
    errors = sum(finding.level == "error" for finding in found)
    hooks = "" if identity else ". Hooks were not run: pass --identity to run them"
    if not found:
        return good("No problems found") + hooks
    return f"{_count(errors, 'error')}, {_count(len(found) - errors, 'warning')}{hooks}"


def _count(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"
