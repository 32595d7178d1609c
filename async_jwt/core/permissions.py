"""Scopes, roles and claims: what a view demands of them, and what a token grants.

Names are compared as whole words, case-sensitively. A wildcard in a token means nothing: what one scope
implies, the application says with `scopes_imply`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from async_jwt.errors import ConfigurationError, InvalidScopeError
from async_jwt.issuers.issuer import ROLES, Issuer, Place

__all__ = [
    "GIVEN",
    "GRANTS",
    "AnyOf",
    "ClaimDemand",
    "Demand",
    "Granted",
    "ImpliedScopes",
    "Limits",
    "Names",
    "any_of",
    "canonical",
    "ceiling_of",
    "claim_demands",
    "demand_of",
    "granted_roles",
    "granted_scopes",
    "grants_in",
    "is_met",
    "is_scope",
    "role_list",
    "scope_text",
    "unmet",
]

Demand = tuple[tuple[str, ...], ...]
"""A demand of scopes or roles: of each of these tuples, a token must have at least one."""

ClaimDemand = tuple[str, str]
"""A claim's name, and the value that it must have, as canonical JSON."""

# RFC 6749 §3.3: printable ASCII without space, quote and backslash.
_SCOPE: Final = re.compile(r"[!#-\[\]-~]+")


GRANTS: Final[Mapping[str, bool]] = {"scope": True, "roles": False}
"""The claims of our own tokens that name scopes and roles, and whether a text there is a list."""


GIVEN: Final = "async_jwt_given"
"""Our own claim: which of these an application gave a session when it began, a list. A refresh cannot add to
them; what only the claims loader says follows the loader."""


class AnyOf(tuple[str, ...]):
    """Scopes or roles of which one is enough. Made by `any_of`."""

    __slots__ = ()


Names = str | AnyOf | Iterable[str | AnyOf] | None
"""Scopes or roles as a decorator takes them: one; a list, of which all are needed; or `any_of(...)`."""


Granted = str | Iterable[str] | None
"""Scopes or roles of a new token: one, or a list; None leaves them to the claims loader."""


def any_of(*names: str) -> AnyOf:
    """Scopes or roles of which a token needs one: `jwt_required(scopes=any_of("orders:read", "orders:all"))`.

    Of several scopes, a refused client is told the first one.

    Args:
        names: two or more names.

    Raises:
        ConfigurationError: they are fewer than two, or one is no text.
    """
    if len(names) < 2 or not all(isinstance(name, str) for name in names):
        raise ConfigurationError('any_of(...) takes two or more names, such as any_of("read", "write")')
    return AnyOf(names)


def demand_of(given: Names, what: str) -> Demand:
    """Check and convert the scopes or roles that a view demands.

    Args:
        given: the argument.
        what: its name: "scopes" or "roles".

    Raises:
        ConfigurationError: it is neither text nor a list of texts, is empty, or holds no name of a scope.
    """
    if given is None:
        return ()
    parts: Iterable[Any] = (given,) if isinstance(given, str | AnyOf) else _listed(given, what)
    demand = tuple(dict.fromkeys(part if isinstance(part, AnyOf) else (part,) for part in parts))
    if not demand:
        raise ConfigurationError(f"{what}=... demands nothing: name at least one, or leave it out")
    for name in (name for choice in demand for name in choice):
        _refuse_name(name, what)
    return tuple(tuple(choice) for choice in demand)


def _listed(given: Any, what: str) -> tuple[Any, ...]:
    if isinstance(given, Iterable) and not isinstance(given, bytes | Mapping):
        return tuple(given)
    raise ConfigurationError(f"{what}=... must be text, a list of texts, or any_of(...)")


def _refuse_name(name: Any, what: str) -> None:
    if not isinstance(name, str) or not name.strip():
        raise ConfigurationError(f"{what}=... must hold names, not {name!r}")
    if what != "scopes" or _SCOPE.fullmatch(name):
        return
    if " " in name:
        raise ConfigurationError(f"scopes={name!r} holds a space: give a list, {name.split()!r}")
    raise ConfigurationError(
        f"{name!r} is no name of a scope: use ASCII without spaces, quotes and backslashes (RFC 6749 §3.3)"
    )


def claim_demands(given: Mapping[str, Any] | None) -> tuple[ClaimDemand, ...]:
    """Check and convert the claims that a view demands.

    Raises:
        ConfigurationError: it is not a dict of claims and JSON values, or is empty.
    """
    if given is None:
        return ()
    if not isinstance(given, Mapping) or not given or not all(isinstance(name, str) for name in given):
        raise ConfigurationError('claims=... must be a dict of claims, such as {"email_verified": True}')
    try:
        demands = tuple((name, canonical(value)) for name, value in given.items())
        is_json = all(json.loads(text) == given[name] for name, text in demands)
    except (TypeError, ValueError, RecursionError) as problem:
        raise ConfigurationError(f"claims=... must hold values that JSON has: {problem}") from None
    if not is_json:  # such as a dict whose names are numbers
        raise ConfigurationError(
            "claims=... must hold values that JSON has, with text as the names in objects"
        )
    return demands


def canonical(value: Any) -> str:
    """A JSON value as text that tells values and types apart: True from 1 and "true"."""
    return json.dumps(value, sort_keys=True, allow_nan=False)


class ImpliedScopes(dict[str, frozenset[str]]):
    """By scope, all scopes that it implies, directly or through others. The application's word alone."""

    def add(self, given: Mapping[str, str | Iterable[str]]) -> None:
        """Add what scopes imply.

        Args:
            given: by scope, one scope or a list of scopes.

        Raises:
            ConfigurationError: it is something else.
        """
        if not isinstance(given, Mapping):
            raise ConfigurationError('scopes_imply() takes a dict, such as {"orders:all": ["orders:read"]}')
        direct = dict(self)
        for scope, implied in given.items():
            _refuse_name(scope, "scopes")
            demand = demand_of(implied, "scopes")
            if any(len(choice) > 1 for choice in demand):
                raise ConfigurationError(f"scopes_imply(): list what {scope!r} implies, without any_of")
            names = frozenset(name for choice in demand for name in choice)
            direct[scope] = direct.get(scope, frozenset()) | names
        self.update({scope: _reached(scope, direct) for scope in direct})

    def with_implied(self, scopes: frozenset[str]) -> frozenset[str]:
        """Scopes, and all that they imply."""
        if not self:
            return scopes
        return scopes.union(*(self[scope] for scope in scopes if scope in self))


def _reached(scope: str, direct: Mapping[str, frozenset[str]]) -> frozenset[str]:
    reached: set[str] = set()
    ahead = [scope]
    while ahead:
        found = direct.get(ahead.pop(), frozenset()) - reached
        reached |= found
        ahead += found
    return frozenset(reached)


def granted_scopes(claims: Mapping[str, Any], issuer: Issuer | None) -> frozenset[str]:
    """The scopes that a token names, without those that they imply.

    Args:
        claims: the token's claims.
        issuer: the other issuer that made it; None for a token of our own.
    """
    return _words_at(claims, (("scope",),) if issuer is None else issuer.scopes, splits=True)


def granted_roles(claims: Mapping[str, Any], issuer: Issuer | None) -> frozenset[str]:
    """The roles that a token names. See `granted_scopes`."""
    return _words_at(claims, ROLES if issuer is None else issuer.roles, splits=False)


def _words_at(claims: Mapping[str, Any], places: Sequence[Place], *, splits: bool) -> frozenset[str]:
    """The words at the first place that a token has; none if its value has another form.

    Args:
        claims: the token's claims.
        places: paths of claims.
        splits: whether a text is a list of words between spaces, as `scope` is (RFC 6749 §3.3).
    """
    for place in places:
        value: Any = claims
        for name in place:
            value = value.get(name) if isinstance(value, Mapping) else None
        if value is not None:
            return frozenset(_words(value, splits=splits))
    return frozenset()


def _words(value: Any, *, splits: bool) -> Iterable[str]:
    if isinstance(value, str):
        return [word for word in value.split(" ") if word] if splits else [value]
    if isinstance(value, Mapping):  # `{"admin": false}` and `{"admin": []}` say that it is none
        return [name for name, held in value.items() if held]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def unmet(demand: Demand, granted: Collection[str]) -> tuple[str, ...] | None:
    """The first names of which a token would need one, and has none; None if it has all that is demanded."""
    return next((choice for choice in demand if not any(name in granted for name in choice)), None)


def is_scope(name: object) -> bool:
    """True for the name of a scope (RFC 6749 §3.3)."""
    return isinstance(name, str) and _SCOPE.fullmatch(name) is not None


def is_met(demand: Demand, by: Demand) -> bool:
    """True if whatever meets one demand also meets the other."""
    return all(any(set(other) <= set(choice) for other in by) for choice in demand)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a token may grant that follows another one of its session.

    Attributes:
        ceiling: the `scope` and `roles` that the session was given; what it names can only become less.
        wishes: those that the application asks for now; what is beyond the ceiling is left out.
        keeps: likewise, but what is beyond the ceiling is an error.
    """

    ceiling: Mapping[str, Any]
    wishes: Mapping[str, Any] = field(default_factory=dict)
    keeps: Mapping[str, Any] = field(default_factory=dict)

    def narrowed(self, granted: Mapping[str, Any]) -> dict[str, Any]:
        """The `scope` and `roles` of the new token.

        Args:
            granted: what the claims loader says now; what it does not name is not limited by it.

        Raises:
            InvalidScopeError: the session does not have a scope that is to be kept.
            ValueError: the session does not have a role that is to be kept.
        """
        found: dict[str, Any] = {}
        for name, splits in GRANTS.items():
            asked = [wish[name] for wish in (self.wishes, self.keeps) if name in wish]
            source = self.ceiling if name in self.ceiling else granted if asked else None
            if source is None:
                continue
            held = set(_words(source.get(name), splits=splits))
            limits = [set(_words(each, splits=splits)) for each in asked]
            if name in self.keeps and not limits[-1] <= held:
                raise _not_held(name, min(limits[-1] - held))
            if name in granted:
                limits.append(set(_words(granted[name], splits=splits)))
            gone = held.difference(held.intersection(*limits))
            found[name] = _without(source.get(name), gone, splits=splits)
        return found


def _not_held(name: str, more: str) -> ValueError:
    text = f"The session does not have the {name.removesuffix('s')} {more!r:.200}: a refresh never adds any"
    return InvalidScopeError(text) if name == "scope" else ValueError(text)


def ceiling_of(claims: Mapping[str, Any]) -> dict[str, Any]:
    """The `scope` and `roles` that a token's session was given, as the token says."""
    given = claims.get(GIVEN)
    names = given if isinstance(given, list) else ()
    return {name: claims[name] for name in GRANTS if name in names and name in claims}


def grants_in(claims: Mapping[str, Any]) -> dict[str, Any]:
    """The `scope` and `roles` among some claims."""
    return {name: claims[name] for name in GRANTS if name in claims}


def _without(value: Any, gone: set[str], *, splits: bool) -> Any:
    """The value of a claim without some words; its form stays, and what is no word in it."""
    if not gone and value is not None:
        return value
    if isinstance(value, Mapping):
        return {name: held for name, held in value.items() if name not in gone}
    if isinstance(value, list):
        return [item for item in value if not (isinstance(item, str) and item in gone)]
    return " ".join(word for word in _words(value, splits=True) if word not in gone) if splits else []


def scope_text(given: str | Iterable[str]) -> str:
    """Scopes of a new token as its `scope` claim has them (RFC 8693 §4.2).

    Args:
        given: one scope, or a list; an empty list is a token without any.

    Raises:
        InvalidScopeError: it is something else, or a name has a character that no scope may have.
    """
    return " ".join(_names_for_token(given, "scopes"))


def role_list(given: str | Iterable[str]) -> list[str]:
    """Roles of a new token as its `roles` claim has them (RFC 9068 §2.2.3.1). Raises ValueError."""
    return _names_for_token(given, "roles")


def _names_for_token(given: Any, what: str) -> list[str]:
    try:
        names = [given] if isinstance(given, str) else list(_listed(given, what))
        for name in names:
            _refuse_name(name, what)
    except ConfigurationError as problem:
        kind = InvalidScopeError if what == "scopes" else ValueError
        raise kind(str(problem)) from None
    return list(dict.fromkeys(names))
