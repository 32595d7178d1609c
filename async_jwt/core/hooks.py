"""The hooks: which exist, their arguments, and what each may return.

A hook that returns anything else raises a `HookError` and never lets a request in: not
with an un-awaited coroutine, None or a string.
"""

from __future__ import annotations

import concurrent.futures
import functools
import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import AsyncGeneratorType, GeneratorType
from typing import Any, Final

from async_jwt.core.cookie_scope import CookieScope
from async_jwt.core.permissions import ImpliedScopes
from async_jwt.errors import ConfigurationError, HookError
from async_jwt.issuers.issuer import Issuer

__all__ = ["HOOKS", "Hook", "Hooks", "checked", "looks_async", "refuse_unfit"]

log: logging.Logger = logging.getLogger("async_jwt.hooks")


def _anything(_: Any) -> bool:
    return True


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a hook may return, as a check and in words for the error."""

    accepts: Callable[[Any], bool]
    wanted: str


_GATE = _Kind(_is_bool, "True or False")
_CLAIMS = _Kind(_is_mapping, "a dict")
# `keys.Key` decides what a key may be; None refuses the token.
_KEY = _Kind(lambda value: not isinstance(value, bool | int | float), "a key")
_ANY = _Kind(_anything, "anything")
_ISSUER = _Kind(lambda value: value is None or isinstance(value, Issuer), "an Issuer or None")
_SCOPE = _Kind(lambda value: value is None or isinstance(value, CookieScope), "a CookieScope or None")

HOOKS: Final[Mapping[str, _Kind]] = {
    "additional_claims": _CLAIMS,
    "additional_headers": _CLAIMS,
    "allow": _GATE,
    "cookie_scope": _SCOPE,
    "decode_key": _KEY,
    "encode_key": _KEY,
    "expired_token": _ANY,
    "insufficient_scope": _ANY,
    "invalid_token": _ANY,
    "issuer": _ISSUER,
    "needs_fresh_token": _ANY,
    "revoked_token": _ANY,
    "token_in_blocklist": _GATE,
    "token_reuse": _ANY,
    "token_verification": _GATE,
    "token_verification_failed": _ANY,
    "unauthorized": _ANY,
    "user_identity": _ANY,
    "user_lookup": _ANY,
    "user_lookup_error": _ANY,
}
"""Every hook, by its loader's name without `_loader`; and `allow`, which a decorator takes."""

_TOKEN, _IDENTITY, _MESSAGE = ("jwt_header", "jwt_data"), ("identity",), ("message",)
_ARGUMENTS: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(HOOKS, _TOKEN),
    **dict.fromkeys(("additional_claims", "additional_headers", "encode_key", "user_identity"), _IDENTITY),
    **dict.fromkeys(("invalid_token", "unauthorized"), _MESSAGE),
    "allow": ("authentication",),
    "cookie_scope": ("request",),
    "issuer": ("iss",),
}
"""The arguments of each hook."""

# Every check calls these.
_AT_CHECKS = frozenset(("token_in_blocklist", "token_verification", "user_lookup"))
# The others answer errors.
_DECIDING = frozenset(
    {
        "additional_claims",
        "additional_headers",
        "allow",
        "cookie_scope",
        "decode_key",
        "encode_key",
        "issuer",
        "token_in_blocklist",
        "token_verification",
        "user_identity",
        "user_lookup",
    }
)


# Truthy objects that stand for a result that does not exist yet.
_UNFINISHED = (concurrent.futures.Future, GeneratorType, AsyncGeneratorType)


@dataclass(slots=True, eq=False)
class Hook:
    """One registered hook.

    Attributes:
        name: the loader's name without `_loader`.
        function: what the application registered.
        inline: whether the application promised that it never blocks.
        is_async: whether it is called on the event loop. Only a hint: any awaitable result
            is awaited.
        takes_error: whether it answers errors and has a last parameter `error`, which receives them.
        warned: whether the log already warned that its truth value is used.
        takes_issuer: whether it looks up users and has a last parameter `issuer`, which receives the token's.
    """

    name: str
    function: Callable[..., Any]
    inline: bool
    is_async: bool
    takes_error: bool = False
    warned: bool = False
    takes_issuer: bool = False

    @property
    def label(self) -> str:
        """Its name in log lines."""
        return _label(self.name)

    @classmethod
    def of(
        cls, name: str, function: Callable[..., Any], *, inline: bool = False, takes_error: bool = False
    ) -> Hook:
        """Make a hook of a function, and detect whether it is async."""
        return cls(name, function, inline, looks_async(function), takes_error)

    @classmethod
    def of_view(cls, function: Any) -> Hook:
        """Make a hook of the `allow` function of a view.

        Raises:
            ConfigurationError: it does not take one argument, or is a class or generator function.
        """
        refuse_unfit("allow", function)
        return cls.of("allow", function)


class Hooks(dict[str, Hook]):
    """The hooks of one manager by name, shared by all of its applications.

    Attributes:
        at_checks: True if every check of a request calls at least one of them.
        implied_scopes: what scopes imply, as the application says.
        beside: the hooks of the manager's realms.
    """

    def __init__(self) -> None:
        super().__init__()
        self._deciding: tuple[Hook, ...] = ()
        self.at_checks: bool = False
        self.implied_scopes: ImpliedScopes = ImpliedScopes()
        self.beside: list[Hooks] = []

    def register(self, name: str, function: Any, *, inline: bool) -> None:
        """Register a hook; it replaces an earlier one of the same name.

        Raises:
            ConfigurationError: it does not accept the hook's arguments, is a generator function, or is
                a class whose instances the hook may not return.
        """
        if name == "cookie_scope" and looks_async(function):
            raise ConfigurationError(
                "cookie_scope_loader needs a plain function: what sets cookies calls it, and cannot wait"
            )
        takes_error, takes_issuer = refuse_unfit(name, function)
        self[name] = Hook.of(name, function, inline=inline, takes_error=takes_error)
        self[name].takes_issuer = takes_issuer
        self._deciding = tuple(hook for hook in self.values() if hook.name in _DECIDING)
        self.at_checks = not _AT_CHECKS.isdisjoint(self)

    def any_async(self) -> bool:
        """True if any hook that a valid request, or a login, may call is async."""
        for hook in self._deciding:  # on the request path: a generator is slower
            if hook.is_async:
                return True
        if self.beside:
            return any(hooks.any_async() for hooks in self.beside)
        return False

    def refuse_untimed(self) -> None:
        """Refuse hooks that `JWT_HOOK_TIMEOUT` cannot interrupt.

        Raises:
            ConfigurationError: a plain hook was registered with inline=True.
        """
        for hook in self.values():
            if hook.inline and not hook.is_async and hook.name != "cookie_scope":
                raise ConfigurationError(
                    f"JWT_HOOK_TIMEOUT cannot interrupt {hook.name}_loader(inline=True): "
                    "make the hook async, or drop inline=True"
                )


def _label(name: str) -> str:
    return {"keys": "The KeyRing loader", "allow": "allow"}.get(name, f"{name}_loader")


def refuse_unfit(name: str, function: Any) -> tuple[bool, bool]:
    """Refuse what cannot be a hook.

    Returns:
        Whether it has a last parameter `error`, and whether it has a last parameter `issuer`.

    Raises:
        ConfigurationError: as for `Hooks.register`.
    """
    if not callable(function):
        raise ConfigurationError(f"{_label(name)} needs a callable, not {type(function).__name__}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(f"{_label(name)} cannot take a generator function: return, do not yield")
    signature = _signature_of(function)
    takes_error = signature is not None and _takes_one_more(name, signature, "error")
    takes_issuer = signature is not None and _takes_one_more(name, signature, "issuer")
    _refuse_arguments(name, function, None if takes_error or takes_issuer else signature)
    return takes_error, takes_issuer


def _signature_of(function: Any) -> inspect.Signature | None:
    try:
        # Of the outermost function: a decorator may pass on other arguments than it takes.
        return inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return None  # some built-in functions have no signature


def _takes_one_more(name: str, signature: inspect.Signature, extra: str) -> bool:
    """True if a hook has one extra parameter: `error` if it answers errors, `issuer` if it looks up users."""
    place = len(_ARGUMENTS[name])
    parameters = list(signature.parameters.values())
    may_have = name == "user_lookup" if extra == "issuer" else name not in _DECIDING
    return (
        may_have
        and len(parameters) > place
        and parameters[place].name == extra
        and parameters[place].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    )


def _refuse_arguments(name: str, function: Any, signature: inspect.Signature | None) -> None:
    arguments, kind = _ARGUMENTS[name], HOOKS[name]
    is_mapping = inspect.isclass(function) and issubclass(function, Mapping)
    if inspect.isclass(function) and not (kind is _ANY or (kind is _CLAIMS and is_mapping)):
        raise ConfigurationError(
            f"{_label(name)} cannot take the class {function.__name__}: the hook must return {kind.wanted}, "
            "not an instance"
        )
    if signature is None:
        return
    try:
        signature.bind(*arguments)
    except TypeError:
        hook = f"{getattr(function, '__name__', type(function).__name__)}{signature}"
        raise ConfigurationError(
            f"{_label(name)} calls its hook with ({', '.join(arguments)}), but {hook} does not accept that"
        ) from None


def looks_async(function: Any) -> bool:
    """True if calling something returns a coroutine, as far as can be told without calling it."""
    while isinstance(function, functools.partial):
        function = function.func
    call = getattr(function, "__call__", None)  # noqa: B004  # the method itself, to inspect it
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def checked(hook: Hook, value: Any, *, truth_counts: bool) -> Any:
    """A hook's result, if the hook may return it.

    Args:
        hook: the hook.
        value: its result, awaited.
        truth_counts: whether to use the truth value of a plain gate's result, as in
            Flask-JWT-Extended: many return what redis returned. Only for the compat preset.

    Raises:
        HookError: the hook may not return it.
    """
    kind = HOOKS[hook.name]
    if kind.accepts(value) and not (isinstance(value, _UNFINISHED) and hook.name in _DECIDING):
        return value
    problem = f"{hook.label} returned {type(value).__name__}; it must return {kind.wanted}"
    if kind is _GATE and truth_counts and not hook.is_async and hook.name != "allow":
        if not hook.warned:
            hook.warned = True
            event = {"event": "hook_truth", "hook": hook.name}
            log.warning("%s; under JWT_COMPAT its truth value is used", problem, extra=event)
        return bool(value)
    log.error("%s", problem, extra={"event": "hook_error", "hook": hook.name})
    raise HookError(problem)
