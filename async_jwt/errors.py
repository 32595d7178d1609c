"""Every error that async_jwt raises, in one tree.

* JWTExtendedException                 a request was refused, or could not be decided
  * NoAuthorizationError               401  authorization_required
  * AmbiguousTokenError                400  multiple_tokens
  * CSRFError                          401  csrf_failed
  * InvalidHeaderError                 401  header_invalid
  * InvalidQueryParamError             401  query_invalid
  * JWTDecodeError                     401  token_invalid
    * MalformedTokenError              401  token_invalid      (jwt.DecodeError)
    * SignatureError                   401  token_invalid      (jwt.InvalidSignatureError)
    * AlgorithmError                   401  token_invalid      (jwt.InvalidAlgorithmError)
    * ExpiredTokenError                401  token_expired      (jwt.ExpiredSignatureError)
    * ImmatureTokenError               401  token_immature     (jwt.ImmatureSignatureError)
    * ClaimError                       401  claim_invalid      (jwt.InvalidTokenError)
      * MissingClaimError              401  claim_missing      (jwt.MissingRequiredClaimError)
      * SubjectError                   401  subject_invalid    (jwt.InvalidSubjectError)
      * AudienceError                  401  audience_invalid   (jwt.InvalidAudienceError)
      * IssuerError                    401  issuer_invalid     (jwt.InvalidIssuerError)
      * RealmError                     401  realm_wrong        (jwt.InvalidTokenError)
  * WrongTokenError                    401  token_type_wrong
    * CookieScopeError                 401  cookie_scope_wrong
  * RevokedTokenError                  401  token_revoked
    * TokenReusedError                 401  token_reused
    * TokenUsedError                   401  token_used
    * StaleTokenError                  401  token_stale
    * SessionUnknownError              401  session_unknown
  * FreshTokenRequired                 401  fresh_token_required
  * PermissionDeniedError              403  permission_denied
    * InsufficientScopeError           403  insufficient_scope
  * UserLookupError                    401  user_not_found
  * UserClaimsVerificationError        400  claims_rejected
  * StoreUnavailableError              503  store_unavailable
  * IssuerUnavailableError             503  issuer_unavailable
  * HookTimeoutError                   503  hook_timeout
  * HookError (TypeError)              500  hook_error
  * InvalidPageError (ValueError)      400  page_invalid
  * InvalidScopeError (ValueError)     400  invalid_scope
* ConfigurationError (RuntimeError)    the application is set up wrongly; never caused by a client

A name in brackets is the exception that the class also derives from, so that code that
catches PyJWT's keeps working. ``str(error)`` tells a developer what happened;
`JWTExtendedException.message` is what a client may read. Neither ever holds a token, a key
or a CSRF value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jwt
from jwt.exceptions import InvalidSubjectError

__all__ = [
    "AlgorithmError",
    "AmbiguousTokenError",
    "AudienceError",
    "CSRFError",
    "ClaimError",
    "ConfigurationError",
    "CookieScopeError",
    "ExpiredTokenError",
    "FreshTokenRequired",
    "HookError",
    "HookTimeoutError",
    "ImmatureTokenError",
    "InsufficientScopeError",
    "InvalidHeaderError",
    "InvalidPageError",
    "InvalidQueryParamError",
    "InvalidScopeError",
    "IssuerError",
    "IssuerUnavailableError",
    "JWTDecodeError",
    "JWTExtendedException",
    "MalformedTokenError",
    "MissingClaimError",
    "NoAuthorizationError",
    "PermissionDeniedError",
    "RealmError",
    "RevokedTokenError",
    "SessionUnknownError",
    "SignatureError",
    "StaleTokenError",
    "StoreUnavailableError",
    "SubjectError",
    "TokenReusedError",
    "TokenUsedError",
    "UserClaimsVerificationError",
    "UserLookupError",
    "WrongTokenError",
]


class ConfigurationError(RuntimeError):
    """A setting, key, hook or option is wrong. The text names it and the fix."""


class JWTExtendedException(Exception):
    """Base of every error that refuses a request.

    Args:
        detail: what happened, for developers: text, or an object with a text form; defaults to
            the class's message.

    Attributes:
        error_code: a stable, machine-readable name of the reason.
        status: the HTTP status of the response.
        bearer_error: the ``error`` of the ``WWW-Authenticate`` challenge (RFC 6750 §3.1,
            RFC 9470 §3), or None for a challenge without one.
        public_detail: whether ``detail`` may be shown to a client.
        default_message: what a client reads if ``detail`` may not be shown.
        response: the library's response, on errors that reach an error handler of the application.
    """

    error_code: ClassVar[str] = "jwt_error"
    status: ClassVar[int] = 401
    bearer_error: ClassVar[str | None] = "invalid_token"
    public_detail: ClassVar[bool] = False
    default_message: ClassVar[str] = "The request was refused"
    response: Any

    def __init__(self, detail: object = None) -> None:
        # Not super(): PyJWT's exceptions, further along in some MROs, take other arguments.
        Exception.__init__(self, *(() if detail is None else (detail,)))
        # Applications raise these with whatever they have: another exception, a lazy string.
        self.detail: str = str(detail or self.default_message)

    def __str__(self) -> str:
        return self.detail

    @property
    def message(self) -> str:
        """What a client may read of this error."""
        return self.detail if self.public_detail else self.default_message


class NoAuthorizationError(JWTExtendedException):
    """No token was found in any location that this view searches."""

    error_code = "authorization_required"
    # RFC 6750 §3.1: a request without credentials gets a challenge without an error code.
    bearer_error: ClassVar[str | None] = None
    public_detail = True
    default_message = "Authentication is required"


class AmbiguousTokenError(JWTExtendedException):
    """One request carried two different tokens (RFC 6750 §2 forbids it)."""

    error_code = "multiple_tokens"
    status = 400
    bearer_error: ClassVar[str | None] = "invalid_request"
    public_detail = True
    default_message = "The request carries more than one token"


class CSRFError(JWTExtendedException):
    """The CSRF value or the origin of a cookie-authenticated request is missing or wrong."""

    error_code = "csrf_failed"
    bearer_error: ClassVar[str | None] = None
    public_detail = True
    default_message = "The CSRF check failed"


class InvalidHeaderError(JWTExtendedException):
    """The authorization header names the right scheme but is not well-formed."""

    error_code = "header_invalid"
    public_detail = True
    default_message = "The authorization header is not well-formed"


class InvalidQueryParamError(JWTExtendedException):
    """The token's query parameter lacks the configured prefix."""

    error_code = "query_invalid"
    public_detail = True
    default_message = "The token's query parameter is not well-formed"


class JWTDecodeError(JWTExtendedException):
    """The token is not one that this application accepts."""

    error_code = "token_invalid"
    default_message = "The token is not valid"


class MalformedTokenError(JWTDecodeError, jwt.DecodeError):
    """The text is not a compact JWS of a JSON object (RFC 7515 §7.1, RFC 7519 §7.2)."""


class SignatureError(JWTDecodeError, jwt.InvalidSignatureError):
    """None of the keys that may verify this token did."""


class AlgorithmError(JWTDecodeError, jwt.InvalidAlgorithmError):
    """The header names an algorithm that is not accepted (RFC 8725 §3.1)."""


class _TokenContextError(JWTExtendedException):
    """Carries the verified header and claims of the refused token."""

    def __init__(
        self,
        detail: str | None = None,
        jwt_header: Mapping[str, Any] | None = None,
        jwt_data: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.jwt_header: dict[str, Any] = dict(jwt_header or {})
        self.jwt_data: dict[str, Any] = dict(jwt_data or {})


class ExpiredTokenError(_TokenContextError, JWTDecodeError, jwt.ExpiredSignatureError):
    """The token's ``exp`` has passed; its signature and claims are otherwise valid."""

    error_code = "token_expired"
    default_message = "Token has expired"


class ImmatureTokenError(JWTDecodeError, jwt.ImmatureSignatureError):
    """The token's ``nbf`` or ``iat`` lies in the future."""

    error_code = "token_immature"
    default_message = "The token is not valid yet"


class ClaimError(JWTDecodeError, jwt.InvalidTokenError):
    """A claim has a value or a type that is not accepted."""

    error_code = "claim_invalid"


class MissingClaimError(ClaimError, jwt.MissingRequiredClaimError):
    """A required claim is absent.

    Attributes:
        claim: the name of the claim.
    """

    error_code = "claim_missing"

    def __init__(self, claim: str = "", detail: str | None = None) -> None:
        super().__init__(detail)
        self.claim = claim


class SubjectError(ClaimError, InvalidSubjectError):
    """The subject is not text (RFC 7519 §4.1.2)."""

    error_code = "subject_invalid"


class AudienceError(ClaimError, jwt.InvalidAudienceError):
    """The token is meant for another audience (RFC 7519 §4.1.3)."""

    error_code = "audience_invalid"


class IssuerError(ClaimError, jwt.InvalidIssuerError):
    """The token comes from another issuer (RFC 7519 §4.1.1)."""

    error_code = "issuer_invalid"


class RealmError(ClaimError):
    """The token belongs to another realm of the application (`JWT_REALMS`)."""

    error_code = "realm_wrong"


class WrongTokenError(JWTExtendedException):
    """A token of another type was presented, such as a refresh token as an access token."""

    error_code = "token_type_wrong"
    public_detail = True
    default_message = "A token of this type is not accepted here"


class CookieScopeError(WrongTokenError):
    """The token was made in another cookie scope than the request's (`cookie_scope_loader`)."""

    error_code = "cookie_scope_wrong"
    default_message = "This token belongs to another part of this site"


class RevokedTokenError(_TokenContextError):
    """The token, its session or its user was revoked."""

    error_code = "token_revoked"
    default_message = "Token has been revoked"

    def __init__(
        self,
        jwt_header: Mapping[str, Any] | None = None,
        jwt_data: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(None, jwt_header, jwt_data)


class TokenReusedError(RevokedTokenError):
    """A replaced refresh token was presented again: someone else may hold it (RFC 9700 §4.14.2).

    Its session is revoked.

    Attributes:
        kind: which token was presented: "predecessor", the one before the current one, after its
            grace; "older", one before that; "late_repeats", the one before the current one within its
            grace, but late, as at each step before (`JWT_REFRESH_LATE_LIMIT`); "revoked_session", one
            older than the last two of a session that was revoked.
        sid: its session's id.
    """

    error_code = "token_reused"
    default_message = "Token has been used before"

    def __init__(
        self,
        jwt_header: Mapping[str, Any] | None = None,
        jwt_data: Mapping[str, Any] | None = None,
        kind: str = "",
        sid: str | None = None,
    ) -> None:
        super().__init__(jwt_header, jwt_data)
        self.kind = kind
        self.sid = sid


class TokenUsedError(RevokedTokenError):
    """The token can be used once, and was; or using another one of its purpose ended it."""

    error_code = "token_used"
    default_message = "Token has already been used"


class StaleTokenError(RevokedTokenError):
    """The user's access tokens were ended, and the session goes on: the client should refresh its token."""

    error_code = "token_stale"
    default_message = "Token is out of date"


class SessionUnknownError(RevokedTokenError):
    """The store does not know the session of this refresh token: it ended, or the store forgot it."""

    error_code = "session_unknown"
    default_message = "The session has ended"


class InvalidPageError(JWTExtendedException, ValueError):
    """Invalid page cursor or limit."""

    error_code = "page_invalid"
    status = 400
    bearer_error: ClassVar[str | None] = None
    public_detail = True
    default_message = "There is no such page"


class InvalidScopeError(JWTExtendedException, ValueError):
    """A new token cannot have a scope: it is malformed, or not its session's (RFC 6749 §5.2)."""

    error_code = "invalid_scope"
    status = 400
    bearer_error: ClassVar[str | None] = None
    default_message = "The requested scope is invalid"


class FreshTokenRequired(_TokenContextError):
    """The view demands a token from a recent login (RFC 9470)."""

    error_code = "fresh_token_required"
    bearer_error: ClassVar[str | None] = "insufficient_user_authentication"
    default_message = "Fresh token required"


class PermissionDeniedError(_TokenContextError):
    """The token is valid, but lacks a role or a claim that the view demands, or `allow` refused it."""

    error_code = "permission_denied"
    status = 403
    bearer_error: ClassVar[str | None] = None
    default_message = "Permission denied"


class InsufficientScopeError(PermissionDeniedError):
    """The token is valid, but lacks a scope that the view demands (RFC 6750 §3.1).

    Args:
        detail: what is lacking, for developers.
        jwt_header: the token's header.
        jwt_data: its claims.
        scopes: the scopes that the resource demands, which the challenge names.
    """

    error_code = "insufficient_scope"
    bearer_error: ClassVar[str | None] = "insufficient_scope"
    default_message = "The token lacks a scope that this resource requires"

    def __init__(
        self,
        detail: str | None = None,
        jwt_header: Mapping[str, Any] | None = None,
        jwt_data: Mapping[str, Any] | None = None,
        scopes: tuple[str, ...] = (),
    ) -> None:
        super().__init__(detail, jwt_header, jwt_data)
        self.scopes = scopes


class UserLookupError(_TokenContextError):
    """The user lookup found no user for this token."""

    error_code = "user_not_found"
    default_message = "The user of this token was not found"


class UserClaimsVerificationError(_TokenContextError):
    """The application's own verification refused the token's claims."""

    error_code = "claims_rejected"
    status = 400
    bearer_error: ClassVar[str | None] = None
    default_message = "User claims verification failed"


class StoreUnavailableError(JWTExtendedException):
    """The revocation store did not answer in time. The client may retry the request."""

    error_code = "store_unavailable"
    status = 503
    bearer_error: ClassVar[str | None] = None
    default_message = "Authentication is unavailable for the moment"


class IssuerUnavailableError(JWTExtendedException):
    """No key of the token's issuer is known, because the issuer cannot be reached. The client may retry.

    Args:
        detail: what happened, for developers.
        retry_after: when to retry, in seconds from now.
    """

    error_code = "issuer_unavailable"
    status = 503
    bearer_error: ClassVar[str | None] = None
    default_message = "Authentication is unavailable for the moment"

    def __init__(self, detail: object = None, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class HookTimeoutError(JWTExtendedException):
    """An application hook ran longer than ``JWT_HOOK_TIMEOUT``."""

    error_code = "hook_timeout"
    status = 503
    bearer_error: ClassVar[str | None] = None
    default_message = "Authentication is unavailable for the moment"


class HookError(JWTExtendedException, TypeError):
    """An application hook returned something that it may not return."""

    error_code = "hook_error"
    status = 500
    bearer_error: ClassVar[str | None] = None
    default_message = "Authentication failed on the server's side"
