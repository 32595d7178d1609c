"""`jwt doctor`: what is not well with an application's authentication, and the fix."""

from __future__ import annotations

import click

from async_jwt.binding import Binding
from async_jwt.cli.application import NO, Failure, binding, login_of, run
from async_jwt.cli.diagnosis import (
    Finding,
    of_hook_timeout,
    of_hooks,
    of_keys,
    of_names,
    of_paths,
    of_settings,
    of_store,
    of_views,
)
from async_jwt.cli.output import as_json, bad, good, plain, show_json
from async_jwt.core.realm import Realm
from async_jwt.errors import ConfigurationError, HookError
from async_jwt.operations import OperationsAt

__all__ = ["doctor"]


@click.command()
@click.option(
    "--identity", help="A user of yours: have the hooks asked as at this user's login and requests."
)
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings too.")
@as_json
def doctor(identity: str | None, strict: bool, as_json: bool) -> None:
    """Look for mistakes in settings, keys, cookies, store, clocks, views and hooks.

    Exits with 1 if there is an error, so that it can stand in your CI and deployment. Run it where the
    application runs, with its configuration. Hooks are asked with --identity only, because they are your
    own code: a token for that user is made, checked, and thrown away.
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
        bound = binding()
    except ConfigurationError as problem:
        return [Finding("error", "settings", str(problem), "correct it: the application does not start")]
    except Failure as problem:
        return [Finding("error", "application", problem.message, "correct it: nothing is protected")]
    realm = bound.realm()
    found = [*of_settings(realm.settings), *of_names(bound), *of_paths(bound)]
    found += [*of_views(bound), *of_hook_timeout(bound)]
    found += run(bound, lambda: of_store(bound))
    try:
        found += run(bound, lambda: _of_keys(realm))
    except (ConfigurationError, HookError) as problem:
        found.append(Finding("error", "keys", str(problem), "correct it: no token is made or accepted"))
        return _sorted(found)
    if identity is not None:
        try:
            found += run(bound, lambda: _of_hooks(bound, identity), asks_hooks=True)
        except (ConfigurationError, HookError) as problem:
            found.append(Finding("error", "hooks", str(problem), "correct it: this user cannot sign in"))
    return _sorted(found)


def _sorted(found: list[Finding]) -> list[Finding]:
    return sorted(found, key=lambda finding: finding.level)


async def _of_keys(realm: Realm) -> list[Finding]:
    if "decode_key" in realm.hooks and "encode_key" in realm.hooks:
        return []  # the application's own business
    await realm.active_keys()
    return list(of_keys(realm))


async def _of_hooks(bound: Binding, identity: str) -> list[Finding]:
    realm = bound.realm()
    return await of_hooks(OperationsAt(bound), realm, lambda: login_of(realm, identity))


def _summary(found: list[Finding], identity: str | None) -> str:
    errors = sum(finding.level == "error" for finding in found)
    hooks = "" if identity else ". Hooks were not asked: give a user with --identity"
    if not found:
        return good("Nothing is wrong") + hooks
    return f"{_count(errors, 'error')}, {_count(len(found) - errors, 'warning')}{hooks}"


def _count(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"
