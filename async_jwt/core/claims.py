"""Builds the claim set of a new token, and checks the exact shape of a received one."""

from __future__ import annotations

import calendar
import datetime as dt
import json
import uuid
from collections.abc import Mapping
from itertools import repeat
from typing import Any

from async_jwt.core.parsers import Lifetime
from async_jwt.core.settings import Settings
from async_jwt.core.tuples import fast_tuple
from async_jwt.errors import (
    AudienceError,
    ClaimError,
    ExpiredTokenError,
    ImmatureTokenError,
    IssuerError,
    MissingClaimError,
    RealmError,
    SubjectError,
)
from async_jwt.issuers.identity import MARK, own_name, realm_name
from async_jwt.stores.contract import TokenRef, adopted_sid

__all__ = [
    "PURPOSE",
    "REALM",
    "Fresh",
    "build",
    "check_profile",
    "check_shape",
    "end_of",
    "identity_text",
    "merge",
    "realm_id",
    "refuse_no_subject",
    "refuse_times",
    "times_of",
]

REALM = "async_jwt_realm"
"""Our own claim: the realm of a token; the unnamed realm's tokens have none."""

PURPOSE = "async_jwt_purpose"
"""Our own claim, True in purpose tokens: under the compat preset any type but "refresh" counts as access."""

_INFINITY = float("inf")
# About thirty million years: a larger value is not a date, and no float could count its seconds.
_LATEST = 10**15

Fresh = bool | float | dt.timedelta
"""Freshness: a bool, or until when, as a timedelta from now or in seconds since the epoch."""

_DROPPABLE = frozenset({"nbf", "iat", "aud", "iss"})
_TIME_CLAIMS = ("exp", "iat", "nbf")


def build(
    settings: Settings,
    *,
    identity: Any,
    type: str,
    fresh: Fresh,
    expires: Lifetime | None,
    now: float,
    csrf: str | None,
) -> dict[str, Any]:
    """The claims of a new token, before the application's are merged in.

    Args:
        settings: the application's settings.
        identity: the identity as the token holds it.
        type: the token's type.
        fresh: whether, or until when, it is fresh.
        expires: the lifetime; None for no expiry.
        now: seconds since the epoch.
        csrf: the CSRF value; None for none.
    """
    issued = int(now)
    claims: dict[str, Any] = {
        "fresh": now + fresh.total_seconds() if isinstance(fresh, dt.timedelta) else fresh,
        "iat": issued,
        "jti": str(uuid.uuid4()),
        "type": type,
        settings.identity_claim: identity,
    }
    if settings.encode_nbf:
        claims["nbf"] = issued
    if csrf is not None:
        claims["csrf"] = csrf
    if settings.encode_audience is not None:
        claims["aud"] = settings.encode_audience
    if settings.encode_issuer is not None:
        claims["iss"] = settings.encode_issuer
    if settings.token_profile is not None and type == "access":
        claims["client_id"] = settings.token_client_id
    if expires is not None:
        claims["exp"] = end_of(issued, expires)
    return claims


def end_of(now: float, expires: Lifetime) -> int:
    """The end of a lifetime that starts now, in whole seconds since the epoch."""
    issued = int(now)
    if isinstance(expires, dt.timedelta):
        return int(issued + expires.total_seconds())
    return int((dt.datetime.fromtimestamp(issued, dt.UTC) + expires).timestamp())


def merge(claims: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    """Merge the application's claims over ours. Every claim may be overridden.

    None drops `nbf`, `iat`, `aud` or `iss`; datetimes in time claims become seconds.
    """
    if not overrides:
        return
    claims.update(overrides)
    for name in _DROPPABLE & overrides.keys():
        if claims[name] is None:
            del claims[name]
    for name in _TIME_CLAIMS:
        value = claims.get(name)
        if isinstance(value, dt.datetime):
            claims[name] = calendar.timegm(value.utctimetuple())


def check_shape(
    claims: dict[str, Any], settings: Settings, *, new: bool = False, own: bool = True
) -> tuple[float, float, TokenRef]:
    """Refuse a claim set of the wrong shape; fill in optional claims.

    A token without `type` (where that is allowed), `fresh` or `jti` gets "access", False
    and None, so that all claim sets read alike. Times are floored, as in PyJWT.

    Args:
        claims: the claim set; filled in place.
        settings: the application's settings.
        new: whether it is a new token of ours.
        own: whether a key of ours signed it: then it must have a `jti`, and may name no audience but those
            of the settings.

    Returns:
        The later of `nbf` and `iat` in whole seconds since the epoch, minus infinity if both
        are absent; `exp` likewise, infinity if absent; and the token as stores know it.

    Raises:
        MissingClaimError: a required claim is absent.
        ClaimError: a claim has the wrong type; SubjectError if it is the subject.
        AudienceError: it names no accepted audience.
        IssuerError: the issuer is not accepted.
        RealmError: it belongs to another realm.
    """
    if (REALM in claims or settings.realm) and claims.get(REALM) != settings.realm:
        raise RealmError("The token belongs to another realm")
    identity_claim = settings.identity_claim
    if identity_claim not in claims:
        raise MissingClaimError(identity_claim, f"Missing claim: {identity_claim}")
    if "type" not in claims:
        if settings.require_type:
            raise MissingClaimError("type", "Missing claim: type")
        claims["type"] = "access"
    if not all(map(isinstance, map(claims.get, _TEXTS, repeat("")), repeat(str))):  # without a Python loop
        _refuse_texts(claims, settings)
    fresh = claims.setdefault("fresh", False)
    if fresh is not False and not isinstance(fresh, _NUMBER) and not settings.is_compat:
        raise ClaimError("Fresh claim must be a boolean or a number")
    if "iss" in claims or settings.decode_issuer is not None:
        _check_issuer(claims, None if new else settings.decode_issuer)
    audience = settings.accepted_audience if own else settings.decode_audience
    if "aud" in claims or audience is not None:
        _check_audience(claims, audience, others=settings.is_compat or not own)
    if not claims.setdefault("jti", None) and settings.require_jti and own:
        raise MissingClaimError("jti", "Missing claim: jti")
    issued, start, end = times_of(claims, strict=settings.strict_times)
    return max(start, issued), end, _ref(claims, issued, end, settings)


_PROFILE = ("iss", "exp", "aud", "sub", "client_id", "iat", "jti")


def check_profile(claims: Mapping[str, Any]) -> None:
    """Refuse an access token that lacks a claim of RFC 9068 §2.2. Raises MissingClaimError."""
    for name in _PROFILE:
        if not claims.get(name):
            raise MissingClaimError(name, f'JWT_TOKEN_PROFILE = "rfc9068" demands the claim {name}')


def _refuse_texts(claims: Mapping[str, Any], settings: Settings) -> None:
    for name, problem in _TEXTS.items():
        if not isinstance(claims.get(name, ""), str) and not _is_lenient(name, settings):
            raise (SubjectError if name == "sub" else ClaimError)(problem)


def _ref(claims: Mapping[str, Any], issued: float, end: float, settings: Settings) -> TokenRef:
    whose, jti = claims[settings.identity_claim], claims["jti"]
    # Nearly every identity is text that no issuer's stored name looks like.
    if settings.realm or not isinstance(whose, str) or whose.startswith(MARK):
        whose, jti = identity_text(whose, settings), realm_id(settings, jti)
    kind, sid, gen = claims["type"], claims.get("sid"), claims.get("gen")
    if not isinstance(sid, str):
        # A refresh token without one belongs to the session that its first rotation begins.
        sid = adopted_sid(whose, jti) if jti is not None and kind == "refresh" else None
    if not isinstance(gen, str):
        gen = None
    skew = settings.clock_skew
    issued_at = issued - skew if issued > skew else 0.0
    expires_at = None if end == _INFINITY else end + settings.expiry_leeway
    may_fail_open = kind == "access" and claims["fresh"] is False
    if settings.is_compat:
        kind = _compat_type(claims)
    return fast_tuple(TokenRef, (whose, jti, sid, gen, issued_at, expires_at, may_fail_open, kind))


def _compat_type(claims: Mapping[str, Any]) -> str:
    """A token's type as views take it under the compat preset, where it may be any value."""
    kind = claims["type"]
    if kind != "refresh" and claims.get(PURPOSE) is not True:
        return "access"
    return kind if isinstance(kind, str) else ""


def _is_lenient(name: str, settings: Settings) -> bool:
    """True if a claim need not be text: FJE ignores `sid` and `gen`, and reads `type` and `csrf` lazily."""
    return not settings.verify_sub if name == "sub" else settings.is_compat and name != "jti"


_TEXTS = {
    "type": "Type claim must be a string",
    "jti": "JWT ID must be a string",
    "csrf": "CSRF claim must be a string",
    "gen": "Generation claim must be a string",
    "sid": "Session ID must be a string",
    "sub": "Subject must be a string",
}
# A tuple: `int | float` would build a union at every check. A bool is an int.
_NUMBER = (int, float)


def _check_issuer(claims: Mapping[str, Any], accepted: frozenset[str] | None) -> None:
    if "iss" not in claims:
        if accepted is not None:
            raise MissingClaimError("iss", 'Token is missing the "iss" claim')
        return
    issuer = claims["iss"]
    if not isinstance(issuer, str):
        raise IssuerError("Payload Issuer (iss) must be a string")
    if accepted is not None and issuer not in accepted:
        raise IssuerError("Invalid issuer")


def _check_audience(claims: Mapping[str, Any], accepted: frozenset[str] | None, *, others: bool) -> None:
    """Refuse an audience that is not accepted; where none is named, `others` accepts any."""
    audience = claims.get("aud", "")
    if audience in ("", []):
        if accepted is not None:
            raise MissingClaimError("aud", 'Token is missing the "aud" claim')
        return
    named = [audience] if isinstance(audience, str) else audience
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise AudienceError("Invalid claim format in token")
    if (accepted is None and not others) or (accepted is not None and accepted.isdisjoint(named)):
        raise AudienceError("Audience doesn't match")


_TIME_NAMES = {
    "exp": "Expiration Time claim (exp) must be an integer.",
    "nbf": "Not Before claim (nbf) must be an integer.",
    "iat": "Issued At claim (iat) must be an integer.",
}


def times_of(claims: Mapping[str, Any], *, strict: bool) -> tuple[float, float, float]:
    """`iat`, `nbf` and `exp`, each in whole seconds since the epoch; infinities for those that are absent.

    Args:
        claims: the claim set.
        strict: whether they must be finite numbers; else what PyJWT accepts.

    Raises:
        ClaimError: one is no time.
    """
    issued: Any = claims.get("iat")
    start: Any = claims.get("nbf")
    end: Any = claims.get("exp")
    # Fast path: most tokens have all three, in order.
    if type(issued) is type(start) is type(end) is int and 0 <= issued < end < _LATEST and 0 <= start < end:
        return issued, start, end
    return (
        _seconds(claims, "iat", -_INFINITY, strict=strict),
        _seconds(claims, "nbf", -_INFINITY, strict=strict),
        _seconds(claims, "exp", _INFINITY, strict=strict),
    )


def _seconds(claims: Mapping[str, Any], name: str, default: float, *, strict: bool) -> float:
    if name not in claims:
        return default
    value = claims[name]
    is_number = isinstance(value, _NUMBER) and not isinstance(value, bool)
    if not is_number and strict:
        raise ClaimError(_TIME_NAMES[name])
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise ClaimError(_TIME_NAMES[name]) from None
    if not -_LATEST < number < _LATEST:
        raise ClaimError(_TIME_NAMES[name])
    return number


def refuse_times(
    header: Mapping[str, Any],
    claims: Mapping[str, Any],
    settings: Settings,
    latest: float,
    allow_expired: bool,
) -> None:
    """Raise for a token outside its validity period. Returns only if it is expired and that is allowed.

    Args:
        header: the token's header.
        claims: its claims.
        settings: the settings.
        latest: the latest time at which it may begin, leeway included, in seconds since the epoch.
        allow_expired: whether it may have expired.

    Raises:
        ImmatureTokenError: `iat` or `nbf` lies in the future.
        ExpiredTokenError: `exp` has passed; it carries the verified header and claims.
    """
    for name in ("iat", "nbf"):
        if _seconds(claims, name, -_INFINITY, strict=settings.strict_times) > latest:
            raise ImmatureTokenError(f"The token is not yet valid ({name})")
    if not allow_expired:
        raise ExpiredTokenError("Signature has expired", header, claims)


def refuse_no_subject(subject: Any, settings: Settings) -> None:
    """Refuse a value that no token's identity claim can hold.

    Args:
        subject: an identity as tokens hold it, after `user_identity_loader` and JSON.
        settings: they say whether it must be text.

    Raises:
        ValueError: it is None or a float, or not text where `JWT_VERIFY_SUB` requires text.
    """
    needs_text = settings.verify_sub and settings.identity_claim == "sub"
    if subject is None or isinstance(subject, float) or (needs_text and not isinstance(subject, str)):
        raise ValueError(
            f"No token has an identity of type {type(subject).__name__}: pass the same identity as to "
            "create_access_token(); user_identity_loader converts it"
        )


def identity_text(identity: Any, settings: Settings) -> str:
    """An identity of our own as stores know it: text, any other JSON value as JSON text."""
    if isinstance(identity, str):
        text = own_name(identity)
    else:
        text = json.dumps(identity, separators=(",", ":"), sort_keys=True)
    return realm_name(settings.realm, text) if settings.realm else text


def realm_id(settings: Settings, jti: Any) -> Any:
    """A token's id as stores know it: those of named realms are their own."""
    return realm_name(settings.realm, jti) if settings.realm and jti is not None else jti
