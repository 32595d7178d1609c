"""The application that a command is about, and coroutines run as its server would run them."""

from __future__ import annotations

import asyncio
import inspect
import logging
import sysconfig
import traceback
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from types import FrameType
from typing import Any, TypeVar

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
    "login_of",
    "refuse_memory",
    "run",
]

T = TypeVar("T")

log: logging.Logger = logging.getLogger("async_jwt")

NO = 1
"""The exit code of an answer that is no."""
WRONG = 2
"""That of a wrong argument, setting or hook."""
UNAVAILABLE = 3
"""That of a store that cannot be reached."""


class Failure(click.ClickException):
    """What ends a command: one line for its user, and an exit code."""

    def __init__(self, message: str, exit_code: int = WRONG) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # as click's own do

    def format_message(self) -> str:
        """The message, without what terminals act on."""
        return plain(super().format_message())


class Commands(click.Group):
    """A group whose commands end with a line and an exit code where ours would raise."""

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


def app_state() -> AppState:
    """What the application that `--app` names keeps of its JWTManager.

    Raises:
        Failure: there is no such application, or it has no JWTManager.
    """
    info: Any = click.get_current_context().find_root().obj
    if not hasattr(info, "load_app"):
        raise Failure("Run this as `flask jwt` or `quart jwt`, or from a command line made of their groups")
    app = info.load_app()
    try:
        return app_state_of(app)
    except RuntimeError as problem:
        raise Failure(str(problem)) from None


def run(bound: AppState, work: Callable[[], Awaitable[T]], *, asks_hooks: bool = False) -> T:
    """Run a coroutine within an application's context, on an event loop of its own.

    Args:
        bound: the application.
        work: what to run.
        asks_hooks: whether it may ask the application's loaders. Then Quart's `before_serving` and
            `after_serving` functions run around it, which open what loaders use.
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
    """Refuse a command that would change nothing but this process's own memory.

    Raises:
        Failure: the application keeps revocations in memory.
    """
    if isinstance(bound.store, MemoryStore):
        raise Failure(
            "This application keeps revocations and sessions in the memory of its own process, where no "
            'command can reach them: set JWT_STORE_URI = "redis://..."'
        )


async def login_of(engine: Engine, identity: str) -> Any:
    """What the application makes tokens of, for an identity as tokens hold it.

    That is the identity itself, or its user where `user_identity_loader` takes nothing else.

    Raises:
        Failure: the loaders lead to nobody of that identity.
    """
    if "user_identity" not in engine.hooks:
        return identity
    try:
        if str(await subject_of(engine, identity)) == identity:
            return identity
    except JWTExtendedException:
        raise
    except Exception as problem:  # noqa: BLE001  # it wants what the application logs in with: a user
        log.debug("user_identity_loader takes no text: %s", type(problem).__name__)
    claims = {engine.settings.identity_claim: identity, "type": "access", "fresh": False}
    user = await engine.call_hook("user_lookup", {}, claims)
    if user is None or str(await subject_of(engine, user)) != identity:
        raise Failure(
            f"user_identity_loader takes no text, and user_lookup_loader knows no user {identity!r}", NO
        )
    return user


def _is_of_the_application(problem: BaseException) -> bool:
    """Whether an error was raised by the application's own code: its developer wants the traceback."""
    if isinstance(problem, ConfigurationError | JWTExtendedException):
        return False
    after: list[FrameType] = []
    for frame, _ in traceback.walk_tb(problem.__traceback__):
        if frame.f_globals.get("__name__", "").startswith("async_jwt."):
            after = []
        else:
            after.append(frame)
    # What we called last: a hook, or something of Python's own such as its JSON.
    return bool(after) and not _is_pythons(after[0].f_code.co_filename)


def _is_pythons(file: str) -> bool:
    paths = sysconfig.get_paths()
    return file.startswith((paths["stdlib"], "<frozen")) and not file.startswith(paths["purelib"])
