"""New tokens: access tokens, refresh tokens and purpose tokens."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from async_jwt.core import claims as claim_set
from async_jwt.core.authenticate import CheckResult
from async_jwt.core.codec import encode
from async_jwt.core.compact import object_in
from async_jwt.core.concurrency import refuse_coroutine
from async_jwt.core.cookie_scope import SCOPE
from async_jwt.core.engine import Engine
from async_jwt.core.login import LOGIN, kept_lifetime, lifetime_of
from async_jwt.core.parsers import Expires, Lifetime
from async_jwt.core.permissions import GIVEN, GRANTS, Limits, ceiling_of, grants_in
from async_jwt.core.policy import ACCESS, REFRESH
from async_jwt.core.sessions import latest_expiry, time_limit
from async_jwt.errors import AudienceError, JWTDecodeError, MissingClaimError, SubjectError
from async_jwt.issuers.identity import IssuerIdentity
from async_jwt.keys.key import Key
from async_jwt.stores.contract import Session, SessionStore, TokenRef, adopted_sid

__all__ = [
    "Issued",
    "TokenPair",
    "TokenSpec",
    "UnsignedToken",
    "csrf_of",
    "end_by",
    "holder_of",
    "issue",
    "new_csrf",
    "prepare_token",
    "sign",
    "subject_of",
]

_NONE: Any = object()


@dataclass(frozen=True, slots=True, repr=False)
class TokenPair:
    """The access and refresh token of one session, and the session's id."""

    access_token: str
    refresh_token: str
    sid: str

    def __repr__(self) -> str:
        return f"<TokenPair sid={self.sid!r}>"


@dataclass(frozen=True, slots=True, repr=False)
class Issued:
    """A new token and its claims."""

    token: str
    claims: Mapping[str, Any]


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class TokenSpec:
    """The specification of a new token.

    Attributes:
        identity: the identity as the application has it.
        type: the token's type.
        fresh: whether, or until when, it is fresh.
        expires: its lifetime.
        claims: claims that override ours and the loader's.
        headers: header parameters that override the loader's.
        subject: the identity claim to keep from the token that it follows; without one, it is
            made from the identity.
        csrf: the CSRF value to keep from the token that it follows; None makes a new one.
        limits: what limits its scopes and roles, if its session was given any; None for a new session.
    """

    identity: Any
    type: str
    fresh: claim_set.Fresh = False
    expires: Expires = None
    claims: Mapping[str, Any] | None = None
    headers: Mapping[str, Any] | None = None
    subject: Any = _NONE
    csrf: str | None = None
    limits: Limits | None = None


@dataclass(slots=True, repr=False)
class UnsignedToken:
    """A token before it is signed."""

    type: str
    claims: dict[str, Any]
    headers: dict[str, Any]
    key: Key


async def issue(
    engine: Engine,
    spec: TokenSpec,
    requester: CheckResult | None = None,
    *,
    joins_session: bool = False,
    successor: Mapping[str, Any] | None = None,
) -> Issued:
    """Make one token.

    Args:
        engine: the application's engine.
        spec: the specification of the token.
        requester: the token of the current request. A new token for the same identity grants no more than the
            requester's session was given.
        joins_session: whether such a token joins that session.
        successor: the claims of the refresh token that has replaced the requester meanwhile, if one has.

    Raises:
        ValueError: a claim would have a shape that we do not accept.
        TypeError: a value cannot be written as JSON.
        StoreUnavailableError: the store gave no stamp.
        HookError: a hook returned something that it may not.
        ConfigurationError: there is no key to sign with.
    """
    unsigned = await prepare_token(engine, spec)
    if requester is not None:
        _limit(engine, unsigned, spec, requester, successor or requester.verified.claims)
        if joins_session:
            await _join(engine, unsigned, spec, requester)
    return sign(engine, unsigned, await engine.store.stamp(holder_of(engine, unsigned.claims)))


def new_csrf() -> str:
    """A CSRF value for a new session."""
    return str(uuid.uuid4())


def csrf_of(claims: Mapping[str, Any]) -> str | None:
    """A token's CSRF value; None if it has none."""
    value = claims.get("csrf")
    return value if isinstance(value, str) and value else None


def end_by(claims: dict[str, Any], limit: float | None) -> None:
    """Cap a token's expiry at `limit`, in seconds since the epoch; None for no cap."""
    if limit is not None:
        end = claims.get("exp")
        claims["exp"] = int(limit) if end is None else min(end, int(limit))


def _limit(
    engine: Engine, unsigned: UnsignedToken, spec: TokenSpec, requester: CheckResult, held: Mapping[str, Any]
) -> None:
    """Leave a token no scope or role that its requester's session was not given.

    In a view with an access token, which may stand for a password that was just checked, what the application
    passes goes. Not under the compat preset, where these are claims like any other.
    """
    ceiling, claims = ceiling_of(held), unsigned.claims
    if not ceiling or engine.settings.is_compat or requester.ref.identity != holder_of(engine, claims):
        return
    if requester.type != REFRESH:
        ceiling = {name: value for name, value in ceiling.items() if name not in (spec.claims or {})}
    wishes = {name: value for name, value in grants_in(claims).items() if name in ceiling}
    found = Limits(ceiling, wishes).narrowed({})
    claims.update(found)
    claims[GIVEN] = [name for name in GRANTS if name in found or name in claims.get(GIVEN, ())]


async def _join(engine: Engine, unsigned: UnsignedToken, spec: TokenSpec, requester: CheckResult) -> None:
    """Add a token for the requester's own identity to its session, which it must not outlive."""
    claims, settings, ref = unsigned.claims, engine.settings, requester.ref
    if ref.sid is None or ref.identity != holder_of(engine, unsigned.claims):
        return
    sid = claims.setdefault("sid", ref.sid)
    _take_over(engine, claims, spec, requester.verified.claims)
    if engine.sessions is None:
        return
    await _remember(engine, engine.sessions, ref)
    end, its_end = claims.get("exp"), ref.expires_at
    is_shorter = its_end is None or (isinstance(end, int | float) and end + settings.expiry_leeway <= its_end)
    if is_shorter and settings.session_max_age is None:
        return  # it ends no later than the requester's token
    session = await engine.sessions.get_session(sid)
    if session is not None:
        if session.ends_at is not None:
            end_by(claims, session.ends_at - settings.expiry_leeway)
        end_by(claims, time_limit(session, settings))


def _take_over(engine: Engine, claims: dict[str, Any], spec: TokenSpec, held: Mapping[str, Any]) -> None:
    """Give a token what its session keeps from token to token, but for what the application passed."""
    csrf, life, given = csrf_of(held), kept_lifetime(held, spec.type), spec.claims or {}
    if csrf is not None and "csrf" in claims and "csrf" not in given:
        claims["csrf"] = csrf
    if LOGIN in held:
        claims[LOGIN] = held[LOGIN]
    if life is None or spec.expires is not None or "exp" in given:
        return
    end = lifetime_of(life, engine.settings)
    claims.pop("exp", None)
    if end is not None:
        claims["exp"] = claim_set.end_of(engine.clock(), end)


async def _remember(engine: Engine, store: SessionStore, requester: TokenRef) -> None:
    """Record the session of a refresh token that lives longer than usual.

    An access token made from it does not carry that lifetime: a sign-out with it reads it from the record.
    """
    now, ends = engine.clock(), requester.expires_at
    usual = latest_expiry(engine.settings, now)
    if usual is None or (ends is not None and ends <= usual):
        return
    jti, sid = requester.jti, requester.sid
    if jti is None or sid is None or sid != adopted_sid(requester.identity, jti):
        return
    seen = await store.load_session(requester)
    if seen.session is None and seen.valid is True:
        since = min(max(0.0, requester.issued_at), now)
        session = Session(sid, requester.identity, None, since, now, ends, ends, seen.stamp, jti)
        await store.replace_session(session, seen)  # if declined, another request has just recorded it


async def subject_of(engine: Engine, identity: Any) -> Any:
    """An identity as tokens hold it: passed through `user_identity_loader`, then through JSON."""
    if "user_identity" in engine.hooks:
        identity = await engine.call_hook("user_identity", identity)
    return _as_json(engine, identity)


def _as_json(engine: Engine, identity: Any) -> Any:
    if identity is None or isinstance(identity, str):
        return identity
    try:
        return json.loads(json.dumps(identity, default=engine.json_default))
    except TypeError:
        refuse_coroutine(identity, "await the call that loads the user")
        raise TypeError(
            f"An identity of type {type(identity).__name__} cannot be put into a token: pass a string, "
            "or register a user_identity_loader that returns one"
        ) from None


async def prepare_token(engine: Engine, spec: TokenSpec) -> UnsignedToken:
    """A token with its claims, headers and key. Raises the hook and key errors of `issue`."""
    settings = engine.settings
    subject = await subject_of(engine, spec.identity) if spec.subject is _NONE else spec.subject
    claims = claim_set.build(
        settings,
        identity=subject,
        type=spec.type,
        fresh=spec.fresh,
        expires=_lifetime(engine, spec),
        now=engine.clock(),
        csrf=(spec.csrf or new_csrf()) if settings.cookie_csrf_protect else None,
    )
    granted = await engine.call_hook("additional_claims", spec.identity) or {}
    claim_set.merge(claims, granted)
    claim_set.merge(claims, spec.claims or {})
    given = grants_in(spec.claims) if spec.claims else {}
    if spec.limits is not None:
        given.update(spec.limits.narrowed(granted))
        claims.update(given)
    if given and not settings.is_compat:
        claims[GIVEN] = list(given)
    elif GIVEN in claims:  # as a loader may copy it from another token
        del claims[GIVEN]
    if spec.subject is not _NONE:
        claims[settings.identity_claim] = subject
    if isinstance(claims.get(settings.identity_claim), IssuerIdentity):
        raise ValueError(  # noqa: TRY004  # as for every token that would not be right
            f"{claims[settings.identity_claim]!r} is a user of another issuer: pass the id of your own user"
        )
    if isinstance(engine.scope, str):
        claims[SCOPE] = engine.scope
    if settings.realm:
        claims[claim_set.REALM] = settings.realm
    elif claim_set.REALM in claims:  # as a loader may copy it from another token
        del claims[claim_set.REALM]
    headers = {"typ": "at+jwt"} if settings.token_profile is not None and spec.type == ACCESS else {}
    headers.update(await engine.call_hook("additional_headers", spec.identity) or {})
    headers.update(spec.headers or {})
    return UnsignedToken(spec.type, claims, headers, await engine.signing_key(spec.identity))


def _lifetime(engine: Engine, spec: TokenSpec) -> Lifetime | None:
    settings = engine.settings
    if spec.expires is None:
        return settings.refresh_expires if spec.type == REFRESH else settings.access_expires
    return lifetime_of(spec.expires, settings)


def holder_of(engine: Engine, claims: Mapping[str, Any]) -> str:
    """The identity of a token with these claims, as stores know it."""
    settings = engine.settings
    return claim_set.identity_text(_as_json(engine, claims.get(settings.identity_claim)), settings)


def sign(engine: Engine, unsigned: UnsignedToken, stamp: str) -> Issued:
    """Sign a token with a stamp. Raises what `issue` raises."""
    unsigned.claims.setdefault("gen", stamp)
    if unsigned.type not in (ACCESS, REFRESH):
        # For every application that shares the key, whatever the application's claims say.
        unsigned.claims[claim_set.PURPOSE] = True
    token = encode(unsigned.headers, unsigned.claims, unsigned.key, engine.encoder)
    if not engine.settings.is_compat:
        try:
            parts, header = engine.codec.inspect(token)
            claims, _ = object_in(parts.payload, "payload")
            claim_set.check_shape(claims, engine.settings, new=True)
            if engine.settings.token_profile is not None and unsigned.type == ACCESS:
                claim_set.check_profile(claims)
            engine.codec.trust(parts.header, header)
        except JWTDecodeError as problem:
            raise ValueError(
                f"This token would not be accepted: {str(problem).rstrip('.')}.{_fix(problem)}"
            ) from None
    return Issued(token, unsigned.claims)


def _fix(problem: JWTDecodeError) -> str:
    if isinstance(problem, AudienceError):
        return " Add its `aud` to JWT_DECODE_AUDIENCE, or to JWT_ENCODE_AUDIENCE for all tokens."
    if isinstance(problem, MissingClaimError) and problem.claim == "aud":
        return " Set JWT_ENCODE_AUDIENCE to one that JWT_DECODE_AUDIENCE lists, and keep `aud`."
    if isinstance(problem, MissingClaimError) and problem.claim == "jti":
        return " Keep `jti`, or set JWT_REQUIRE_JTI = False: such a token cannot be revoked alone."
    if not isinstance(problem, SubjectError):
        return ""
    return (
        " Pass str(...) as the identity, or register a user_identity_loader that returns a string;"
        " JWT_VERIFY_SUB = False accepts any JSON value (RFC 7519 §4.1.2 does not)."
    )
