"""Explains a token claim by claim: each value, and why the token would be refused."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from async_jwt.app_state import AppState
from async_jwt.core import claims as claim_set
from async_jwt.core.authenticate import RequestState, authenticate
from async_jwt.core.codec import read_unverified
from async_jwt.core.engine import Engine
from async_jwt.core.permissions import granted_roles, granted_scopes
from async_jwt.core.policy import ACCESS, Policy
from async_jwt.core.request import RequestView
from async_jwt.core.settings import Settings
from async_jwt.errors import JWTDecodeError, JWTExtendedException, MissingClaimError
from async_jwt.stores.contract import SessionStore
from async_jwt.stores.memory import MemoryStore

__all__ = ["TIMES", "Explanation", "Part", "explain", "presented"]

TIMES = frozenset({"exp", "nbf", "iat"})


@dataclass(frozen=True, slots=True)
class Part:
    """One header parameter or claim.

    Attributes:
        name: its name.
        value: its value; None if it must not be shown.
        problem: why this part alone gets the token refused; None if it does not.
    """

    name: str
    value: Any
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a token contains, and whether a view would accept it.

    Attributes:
        header: its header parameters.
        claims: its claims, and the required ones that it lacks.
        kind: the token type it was checked as, by a view that requires this type.
        refusal: why that view refuses it or cannot decide; None if it accepts it.
        asks_store: True if its revocation could be checked.
        scopes: the scopes that it names or implies, sorted.
        roles: the roles that it names, sorted.
    """

    header: Sequence[Part]
    claims: Sequence[Part]
    kind: str
    refusal: JWTExtendedException | None
    asks_store: bool
    scopes: Sequence[str]
    roles: Sequence[str]

    @property
    def undecided(self) -> bool:
        """True if the check failed, so the token was neither accepted nor refused."""
        return self.refusal is not None and self.refusal.status >= 500


class _Presented:
    """A request with only a token in its header, which is all that the check reads."""

    is_websocket = is_accepted = False
    method = "GET"

    def __init__(self, token: str, settings: Settings) -> None:
        self._value = f"{settings.header_type} {token}".lstrip()

    def headers(self, name: str) -> Sequence[str]:  # noqa: ARG002  # always the token's header
        return (self._value,)


class _Looking:
    """Read-only session store: explaining a replayed token must not revoke its session."""

    def __init__(self, store: SessionStore) -> None:
        self.load_session = store.load_session

    async def revoke_session(self, sid: str, expires_at: float | None) -> None:
        """Do nothing: explaining a token is not using it."""


def _dry(engine: Engine) -> Engine:
    """Return a copy of the engine whose checks have no side effects."""
    looking = copy.copy(engine)
    if engine.sessions is not None:
        looking.sessions = _Looking(engine.sessions)  # type: ignore[assignment]  # all that a check calls
    return looking


async def presented(engine: Engine, token: str, kind: str) -> None:
    """Check a token as a view that requires a type would.

    Raises:
        JWTExtendedException: the view refuses it.
    """
    policy = Policy.of(type=kind, locations="headers")
    view = cast("RequestView", _Presented(token, engine.settings))
    await authenticate(_dry(engine), view, policy, RequestState())


async def explain(bound: AppState, token: str) -> Explanation:
    """Explain a token.

    Raises:
        MalformedTokenError: it is not a token at all.
    """
    engine = bound.engine()
    settings, now = engine.settings, engine.clock()
    header, claims = read_unverified(token, settings.max_token_bytes)
    held = claims.get("type", ACCESS)
    kind = held if isinstance(held, str) and held else ACCESS
    refusal = None
    try:
        await presented(engine, token, kind)
    except JWTExtendedException as problem:
        refusal = problem
    issuer = engine.issuer_of(claims)
    foreign = issuer is not None  # then the check has said what is wrong
    return Explanation(
        [Part(*each) for each in header.items()] if foreign else _header_parts(engine, token, header),
        [Part(*each) for each in claims.items()] if foreign else _claim_parts(claims, settings, now),
        kind,
        refusal,
        not isinstance(engine.store, MemoryStore),
        sorted(engine.hooks.implied_scopes.with_implied(granted_scopes(claims, issuer))),
        sorted(granted_roles(claims, issuer)),
    )


def _header_parts(engine: Engine, token: str, header: dict[str, Any]) -> list[Part]:
    try:
        engine.codec.inspect(token)
    except JWTDecodeError as problem:
        text = str(problem)
        culprit = next((name for name in _CULPRITS if name in header and _CULPRITS[name] in text), "alg")
        return [Part(name, value, text if name == culprit else None) for name, value in header.items()]
    return [Part(name, value) for name, value in header.items()]


# Header parameter -> text by which an error message blames it.
_CULPRITS = {"crit": "critical", "b64": "critical", "kid": "Key ID", "typ": "typ value"}


def _claim_parts(claims: dict[str, Any], settings: Settings, now: float) -> list[Part]:
    """Check each claim on its own, within an otherwise valid claim set."""
    sound = _sound(settings)
    parts = [
        Part(name, None if name == "csrf" else value, _problem({**sound, name: value}, settings, now))
        for name, value in claims.items()
    ]
    for name in sorted(sound.keys() - claims.keys()):
        rest = {other: value for other, value in sound.items() if other != name}
        problem = _problem(rest, settings, now)
        if problem is not None:
            parts.append(Part(name, None, problem))
    return parts


def _sound(settings: Settings) -> dict[str, Any]:
    claims: dict[str, Any] = {settings.identity_claim: "someone", "type": ACCESS, "jti": "1"}
    if settings.realm:
        claims[claim_set.REALM] = settings.realm
    for name, accepted in (("iss", settings.decode_issuer), ("aud", settings.accepted_audience)):
        if accepted:
            claims[name] = min(accepted)
    return claims


def _problem(claims: dict[str, Any], settings: Settings, now: float) -> str | None:
    try:
        start, end, _ = claim_set.check_shape(claims, settings)
        if start > now + settings.start_leeway or end <= now - settings.expiry_leeway:
            claim_set.refuse_times({}, claims, settings, now + settings.start_leeway, allow_expired=False)
    except MissingClaimError as problem:
        return f"missing: {problem}"
    except JWTDecodeError as problem:
        return str(problem)
    return None
