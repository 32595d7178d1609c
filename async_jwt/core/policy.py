"""The policy of a view: what it demands of a token. Made once per decorator, checked at every request."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, TypeVar

from async_jwt.core.hooks import Hook
from async_jwt.core.parsers import LOCATIONS, realm_name
from async_jwt.core.permissions import ClaimDemand, Demand, Names, claim_demands, demand_of, is_met
from async_jwt.errors import ConfigurationError

__all__ = ["ACCESS", "REFRESH", "Allow", "Location", "Once", "Policy"]

Location = Literal["headers", "cookies", "query_string", "json", "websocket_protocol"]
"""Where a request may carry a token."""

Once = bool | Literal["get"]
"""Whether a view uses its token up: at requests that change something, or at all requests ("get")."""

T = TypeVar("T")

Allow = Callable[[Any], Any]
"""Takes the `Authentication` of a request and returns True or False; `def` or `async def`."""

ACCESS = "access"
REFRESH = "refresh"


@dataclass(frozen=True, slots=True)
class Policy:
    """The demands of one view. Make it with `Policy.of`.

    Attributes:
        optional: whether to let a request without a token through as anonymous.
        fresh: whether the token must come from a recent login.
        refresh: whether to look for the token where refresh tokens are sent.
        locations: where to look, in this order; None is `JWT_TOKEN_LOCATION`.
        types: the types accepted; None is any type under the compat preset, else access
            and refresh.
        skip_revocation_check: whether to skip the revocation check.
        at_once: the types accepted without further checks of type or freshness.
        once: whether the view uses the token up.
        lenient: whether a cookie with an unusable token counts as none.
        refresh_cookie: whether a page load may go on with its refresh token's cookie.
        scopes: the scopes that the token must have.
        roles: the roles that it must have.
        claims: the claims that it must have, and their values.
        allow: functions of the application that must all return True.
        realm: the realm that the token must belong to; None is that of the blueprint, or the unnamed one.
        is_restricted: whether it demands any of these five.
        leaves_mark: whether a check that passed is noted, so that none is left out: a restricted one, or one
            that uses the token up.
    """

    optional: bool
    fresh: bool
    refresh: bool
    locations: tuple[str, ...] | None
    types: frozenset[str] | None
    skip_revocation_check: bool
    at_once: frozenset[str]
    once: Once
    lenient: bool
    refresh_cookie: bool
    scopes: Demand = ()
    roles: Demand = ()
    claims: tuple[ClaimDemand, ...] = ()
    allow: tuple[Hook, ...] = ()
    realm: str | None = None
    is_restricted: bool = field(init=False)
    leaves_mark: bool = field(init=False)

    def __post_init__(self) -> None:
        demands = (self.scopes, self.roles, self.claims, self.allow, self.realm)
        object.__setattr__(self, "is_restricted", any(demands))
        object.__setattr__(self, "leaves_mark", bool(self.once or self.is_restricted))

    @classmethod
    def of(
        cls,
        optional: bool = False,
        fresh: bool = False,
        refresh: bool = False,
        locations: Location | Iterable[Location] | None = None,
        verify_type: bool = True,
        skip_revocation_check: bool = False,
        *,
        type: str | Collection[str] | None = None,
        once: Once = False,
        lenient: bool = False,
        refresh_cookie: bool = False,
        scopes: Names = None,
        roles: Names = None,
        claims: Mapping[str, Any] | None = None,
        allow: Allow | None = None,
        realm: str | None = None,
    ) -> Policy:
        """Check the arguments of `jwt_required` and make a policy from them.

        Raises:
            ConfigurationError: an argument has the wrong type, a location is unknown, or
                two demands contradict each other.
        """
        flags = {
            "optional": optional,
            "fresh": fresh,
            "refresh": refresh,
            "verify_type": verify_type,
            "skip_revocation_check": skip_revocation_check,
            "lenient": lenient,
            "refresh_cookie": refresh_cookie,
        }
        for name, flag in flags.items():
            if not isinstance(flag, bool):
                raise ConfigurationError(f"jwt_required({name}=...) must be True or False")
        if type is not None and (refresh or not verify_type):
            raise ConfigurationError("jwt_required(type=...) cannot be combined with refresh or verify_type")
        types: frozenset[str] | None
        if type is not None:
            types = frozenset((type,) if isinstance(type, str) else type)
            if not types or not all(isinstance(name, str) and name for name in types):
                raise ConfigurationError("jwt_required(type=...) must name one or more token types")
        elif not verify_type:
            types = None
        else:
            types = frozenset((REFRESH if refresh else ACCESS,))
        refresh = refresh or types == frozenset((REFRESH,))
        _check_once(once, types, skip_revocation_check=skip_revocation_check)
        at_once = frozenset[str]() if fresh or types is None else types
        places = _locations(locations)
        _check_cookies(
            places, types, optional=optional, fresh=fresh, lenient=lenient, refresh_cookie=refresh_cookie
        )
        return cls(
            optional,
            fresh,
            refresh,
            places,
            types,
            skip_revocation_check,
            at_once,
            once,
            lenient,
            refresh_cookie,
            demand_of(scopes, "scopes"),
            demand_of(roles, "roles"),
            claim_demands(claims),
            () if allow is None else (Hook.of_view(allow),),
            _realm(realm),
        )

    def plus(self, *others: Policy) -> Self:
        """This policy, with what other policies demand of a token's scopes, roles, claims and realm.

        Raises:
            ConfigurationError: they demand different realms.
        """
        if not any(other.is_restricted for other in others):
            return self
        every: tuple[Policy, ...] = (self, *others)
        realms = sorted({policy.realm for policy in every if policy.realm is not None})
        if len(realms) > 1:
            raise ConfigurationError(
                f"No token belongs to two realms, {' and '.join(map(repr, realms))}: name one, in "
                "protect(blueprint, realm=...) or at the view"
            )
        return replace(
            self,
            scopes=_joined(policy.scopes for policy in every),
            roles=_joined(policy.roles for policy in every),
            claims=_joined(policy.claims for policy in every),
            allow=_joined(policy.allow for policy in every),
            realm=next(iter(realms), None),
        )

    def inside(self, around: Policy) -> Self:
        """The policy of a view in a blueprint that has one of its own: a token that meets both.

        The view's `allow` is left to its decorator, which calls it.
        """
        return replace(self, optional=False, lenient=False, once=False, allow=()).plus(around)

    def plus_below(self, others: Iterable[Policy]) -> Self:
        """This policy, with what decorators below demand of the same token, but for their `allow`."""
        return self.plus(*(replace(other, allow=()) for other in others if self.is_of_same_token(other)))

    def is_of_same_token(self, other: Policy) -> bool:
        """True if two policies are about one token: of the same type, place and realm."""
        mine = self.types, self.refresh, self.locations, self.realm
        return mine == (other.types, other.refresh, other.locations, other.realm)

    def is_met_by(self, other: Policy) -> bool:
        """True if a check against another policy was a check against this one, too."""
        return self.is_of_same_token(other) and self.once in (False, other.once) and other.covers(self)

    def covers(self, other: Policy) -> bool:
        """True if what meets this policy has all scopes, roles and claims that another one demands."""
        return (
            is_met(other.scopes, self.scopes)
            and is_met(other.roles, self.roles)
            and set(other.claims) <= set(self.claims)
            and {id(hook.function) for hook in other.allow} <= {id(hook.function) for hook in self.allow}
        )


def _realm(given: str | None) -> str | None:
    try:
        return None if given is None else realm_name(given)
    except ValueError as problem:
        raise ConfigurationError(f"realm=... {problem}") from None


def _joined(parts: Iterable[tuple[T, ...]]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(item for part in parts for item in part))


def _check_cookies(
    places: tuple[str, ...] | None,
    types: frozenset[str] | None,
    *,
    optional: bool,
    fresh: bool,
    lenient: bool,
    refresh_cookie: bool,
) -> None:
    if lenient and not optional:
        raise ConfigurationError(
            "jwt_required(lenient=True) needs optional=True: it lets anonymous requests in"
        )
    for name, is_on in (("lenient", lenient), ("refresh_cookie", refresh_cookie)):
        if is_on and types != frozenset((ACCESS,)):
            raise ConfigurationError(f"jwt_required({name}=True) is for access tokens")
        if is_on and places is not None and "cookies" not in places:
            raise ConfigurationError(f'jwt_required({name}=True) needs "cookies" among its locations')
    if refresh_cookie and fresh:
        raise ConfigurationError(
            "jwt_required(refresh_cookie=True) cannot be combined with fresh: refreshed tokens are not fresh"
        )


def _check_once(once: Once, types: frozenset[str] | None, *, skip_revocation_check: bool) -> None:
    if not (isinstance(once, bool) or once == "get"):
        raise ConfigurationError('jwt_required(once=...) must be True, False or "get"')
    if once and skip_revocation_check:
        raise ConfigurationError("jwt_required(once=...) cannot be combined with skip_revocation_check")
    if once and (types is None or REFRESH in types):
        raise ConfigurationError(
            "jwt_required(once=...) does not take refresh tokens: rotate_refresh_token() uses them once"
        )


def _locations(given: str | Iterable[str] | None) -> tuple[str, ...] | None:
    names = (given,) if isinstance(given, str) else tuple(given or ())
    for name in names:
        if name not in LOCATIONS:
            raise ConfigurationError(f"{name!r} is not a token location; choose from {', '.join(LOCATIONS)}")
    return names or None
