"""Loads a command's application and runs coroutines in its context, as its server would."""

from __future__ import annotations

import asyncio
import inspect
import logging
import sysconfig
import traceback
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from types import FrameType
from typing import Any, Final, TypeVar

import click

from async_jwt.app_state import AppState
from async_jwt.cli.output import plain
from async_jwt.core.engine import Engine
from async_jwt.core.issue import subject_of
from async_jwt.errors import ConfigurationError, JWTExtendedException, StoreUnavailableError
from async_jwt.manager import app_state_of
from async_jwt.stores.memory import MemoryStore

__all__ = [
    "NO",
    "UNAVAILABLE",
    "WRONG",
    "Commands",
    "Failure",
    "app_state",
    "in_realm",
    "login_of",
    "refuse_memory",
    "run",
]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

log: logging.Logger = logging.getLogger("async_jwt")

NO = 1
"""Exit code: the answer is no."""
WRONG = 2
"""Exit code: invalid argument, setting or hook."""
UNAVAILABLE = 3
"""Exit code: the store is unreachable."""


class Failure(click.ClickException):
    """Ends a command with a one-line message and an exit code."""

    def __init__(self, message: str, exit_code: int = WRONG) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # as click's own do

    def format_message(self) -> str:
        """Return the message with unprintable characters escaped."""
        return plain(super().format_message())


class Commands(click.Group):
    """Command group that turns this library's exceptions into one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except StoreUnavailableError as problem:
            raise Failure(f"The store cannot be reached: {problem}", UNAVAILABLE) from None
        except (ConfigurationError, JWTExtendedException, ValueError, TypeError) as problem:
            if _is_of_the_application(problem):
                raise
            raise Failure(str(problem)) from None


_REALM: Final = "async_jwt.realm"


def in_realm(command: F) -> F:
    """Give a command the option `--realm`, which `app_state` then obeys."""

    def remember(context: click.Context, _: click.Parameter, name: str | None) -> None:
        context.meta[_REALM] = name

    option = click.option(
        "--realm",
        metavar="NAME",
        expose_value=False,
        callback=remember,
        help="The realm, of those in JWT_REALMS. Default: the unnamed one.",
    )
    return option(command)


def app_state() -> AppState:
    """Return the app state of the application that `--app` names, or of its realm that `--realm` names.

    Raises:
        Failure: the application does not exist or has no JWTManager.
        ConfigurationError: there is no such realm.
    """
    info: Any = click.get_current_context().find_root().obj
    if not hasattr(info, "load_app"):
        raise Failure("Run this as `flask jwt` or `quart jwt`, or from a FlaskGroup or QuartGroup CLI")
    app = info.load_app()
    try:
        found = app_state_of(app)
    except RuntimeError as problem:
        raise Failure(str(problem)) from None
    return found.of_realm(click.get_current_context().meta.get(_REALM) or "")


def run(bound: AppState, work: Callable[[], Awaitable[T]], *, asks_hooks: bool = False) -> T:
    """Run a coroutine in an application's context, on a new event loop.

    Args:
        bound: the application's state.
        work: the coroutine function to run.
        asks_hooks: True if it may call the application's hooks. Quart's `before_serving` and
            `after_serving` functions then run around it, because they open what hooks use.
    """

    async def main() -> T:
        app = bound.app
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(bound.context())
            stack.push_async_callback(bound.close)
            if asks_hooks and inspect.iscoroutinefunction(getattr(app, "startup", None)):
                await app.startup()
                stack.push_async_callback(app.shutdown)
            return await work()

    return asyncio.run(main())


def refuse_memory(bound: AppState) -> None:
    """Reject a command that could only change this process's own memory.

    Raises:
        Failure: the application keeps revocations in memory.
    """
    if isinstance(bound.store, MemoryStore):
        raise Failure(
            "This application keeps revocations and sessions in process memory, which this command cannot "
            'reach: set JWT_STORE_URI = "redis://..."'
        )


async def login_of(engine: Engine, identity: str) -> Any:
    """Return what the application creates tokens from, given an identity as it appears in tokens.

    That is the identity itself, or the user object if `user_identity_loader` does not accept text.

    Raises:
        Failure: the loaders find no user with that identity.
    """
    if "user_identity" not in engine.hooks:
        return identity
    try:
        if str(await subject_of(engine, identity)) == identity:
            return identity
    except JWTExtendedException:
        raise
    except Exception as problem:  # noqa: BLE001  # it expects the application's user object
        log.debug("user_identity_loader does not accept text: %s", type(problem).__name__)
    claims = {engine.settings.identity_claim: identity, "type": "access", "fresh": False}
    user = await engine.call_hook("user_lookup", {}, claims)
    if user is None or str(await subject_of(engine, user)) != identity:
        raise Failure(
            f"user_identity_loader does not accept text, and user_lookup_loader found no user {identity!r}",
            NO,
        )
    return user


def _is_of_the_application(problem: BaseException) -> bool:
    """Return True if the application's own code raised the error: its developer needs the traceback."""
    if isinstance(problem, ConfigurationError | JWTExtendedException):
        return False
    after: list[FrameType] = []
    for frame, _ in traceback.walk_tb(problem.__traceback__):
        if frame.f_globals.get("__name__", "").startswith("async_jwt."):
            after = []
        else:
            after.append(frame)
    # The frame right after our last one: a hook, or the standard library such as `json`.
    return bool(after) and not _is_pythons(after[0].f_code.co_filename)


def _is_pythons(file: str) -> bool:
    paths = sysconfig.get_paths()
    return file.startswith((paths["stdlib"], "<frozen")) and not file.startswith(paths["purelib"])
