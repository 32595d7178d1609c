"""Turns errors into responses (status, headers, body), and finds the hook that may answer instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from async_jwt.core.hooks import Hook
from async_jwt.core.permissions import is_scope
from async_jwt.core.settings import Settings
from async_jwt.errors import (
    AmbiguousTokenError,
    CSRFError,
    ExpiredTokenError,
    FreshTokenRequired,
    InsufficientScopeError,
    InvalidHeaderError,
    InvalidQueryParamError,
    IssuerUnavailableError,
    JWTDecodeError,
    JWTExtendedException,
    NoAuthorizationError,
    PermissionDeniedError,
    RevokedTokenError,
    TokenReusedError,
    UserClaimsVerificationError,
    UserLookupError,
    WrongTokenError,
)

__all__ = [
    "RETRY_AFTER",
    "ErrorResponse",
    "before_loaders",
    "error_response",
    "loader_for",
    "message_of",
    "name_of",
]

RETRY_AFTER = 1
"""Seconds after which a client may retry during an outage."""

_INVALID = (InvalidHeaderError, InvalidQueryParamError, JWTDecodeError, WrongTokenError)

# The first matching class decides, so a subclass comes before its base.
_LOADERS: tuple[tuple[type[JWTExtendedException], tuple[str, ...]], ...] = (
    (AmbiguousTokenError, ("invalid_token",)),
    (NoAuthorizationError, ("unauthorized",)),
    (CSRFError, ("unauthorized",)),
    (ExpiredTokenError, ("expired_token",)),
    (FreshTokenRequired, ("needs_fresh_token",)),
    (TokenReusedError, ("token_reuse", "revoked_token")),
    (RevokedTokenError, ("revoked_token",)),
    (UserLookupError, ("user_lookup_error",)),
    (UserClaimsVerificationError, ("token_verification_failed",)),
    (PermissionDeniedError, ("insufficient_scope",)),
    *((refusal, ("invalid_token",)) for refusal in _INVALID),
)


# The PyJWT classes that Flask-JWT-Extended registers handlers for.
_REGISTERED = frozenset(
    {
        "DecodeError",
        "ExpiredSignatureError",
        "InvalidAudienceError",
        "InvalidIssuerError",
        "InvalidTokenError",
        "MissingRequiredClaimError",
    }
)


@cache
def before_loaders(kind: type[JWTExtendedException], *, is_compat: bool) -> tuple[type, ...]:
    """The classes of an error whose handlers in the application take precedence over a loader.

    They are as specific as the ones that Flask-JWT-Extended registers, PyJWT's included. Under the compat
    preset a refused token counts only as PyJWT's error; without it `JWTExtendedException` counts too.

    Args:
        kind: the error's class.
        is_compat: whether the compat preset is on.
    """
    own = [each for each in kind.__mro__ if issubclass(each, JWTExtendedException)]
    theirs = _of_pyjwt(kind)
    registered = next((place for place, each in enumerate(theirs) if each.__name__ in _REGISTERED), -1)
    general = [JWTExtendedException]
    own = [each for each in own if each is not JWTExtendedException]
    if is_compat:
        general, own = [], [each for each in own if not (theirs and each is JWTDecodeError)]
    return (*own, *theirs[: registered + 1], *general)


def name_of(kind: type[JWTExtendedException], *, is_compat: bool) -> str:
    """The name of an error's class; under the compat preset, the name in Flask-JWT-Extended."""
    if not is_compat:
        # Stores have their own subclasses; applications know the base class.
        known = (each for each in kind.__mro__ if not each.__module__.startswith("async_jwt.stores"))
        return next(known).__name__
    if issubclass(kind, RevokedTokenError):
        return RevokedTokenError.__name__
    return next((each.__name__ for each in _of_pyjwt(kind)), name_of(kind, is_compat=False))


def _of_pyjwt(kind: type) -> list[type]:
    return [each for each in kind.__mro__ if each.__module__.partition(".")[0] == "jwt"]


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """The response that a client gets for an error."""

    status: int
    headers: Mapping[str, str]
    body: Mapping[str, Any]


def loader_for(
    error: JWTExtendedException, settings: Settings, hooks: Mapping[str, Hook]
) -> tuple[str, tuple[Any, ...]] | None:
    """The registered hook that answers an error, and its arguments; None if there is none.

    No hook answers outages and broken hooks: the library does.
    """
    names = next((names for kind, names in _LOADERS if isinstance(error, kind)), ())
    name = next((name for name in names if name in hooks), None)
    if name is None:
        return None
    arguments: tuple[Any, ...]
    if name in ("unauthorized", "invalid_token"):
        arguments = (message_of(error, settings),)
    else:  # these classes all carry the token's contents (an app may raise them bare)
        arguments = getattr(error, "jwt_header", {}), getattr(error, "jwt_data", {})
    return name, (*arguments, error) if hooks[name].takes_error else arguments


def message_of(error: JWTExtendedException, settings: Settings) -> str:
    """The message for the client; under the compat preset, PyJWT's text for a refused token."""
    if settings.is_compat and isinstance(error, JWTDecodeError) and not isinstance(error, ExpiredTokenError):
        return error.detail
    if settings.is_compat and isinstance(error, UserLookupError):
        return f"Error loading the user {error.jwt_data.get(settings.identity_claim)}"
    return error.message


def error_response(error: JWTExtendedException, settings: Settings) -> ErrorResponse:
    """The default response to an error."""
    status = error.status
    if isinstance(error, _INVALID) and not isinstance(error, ExpiredTokenError):
        status = settings.invalid_token_status
    headers: dict[str, str] = {}
    if not settings.is_compat and (status == 401 or error.bearer_error is not None):
        headers["WWW-Authenticate"] = _challenge(error, settings.realm)
    if status == 503:
        headers["Retry-After"] = str(
            error.retry_after if isinstance(error, IssuerUnavailableError) else RETRY_AFTER
        )
    message = message_of(error, settings)
    body: dict[str, Any]
    if settings.error_format == "problem":
        # RFC 9457: "about:blank" means that the status describes the problem.
        headers["Content-Type"] = "application/problem+json"
        body = {"type": "about:blank", "status": status, "detail": message, "code": error.error_code}
    else:
        body = {settings.error_message_key: message}
        if not settings.is_compat:
            body["code"] = error.error_code
    return ErrorResponse(status, headers, body)


def _challenge(error: JWTExtendedException, realm: str) -> str:
    """The challenge of RFC 6750 §3. Its description is ASCII without quotes, by its grammar."""
    given = {"realm": realm} if realm else {}
    if error.bearer_error is not None:
        given |= {"error": error.bearer_error, "error_description": error.default_message}
    if isinstance(error, InsufficientScopeError):
        scopes = [scope for scope in error.scopes if is_scope(scope)]  # applications raise it too
        given |= {"scope": " ".join(scopes)} if scopes else {}
    parameters = ", ".join(f'{name}="{value}"' for name, value in given.items())
    return f"Bearer {parameters}".rstrip()
