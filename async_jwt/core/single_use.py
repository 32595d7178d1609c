"""Tokens that are used once, and the error for a token that the store refuses."""

from __future__ import annotations

import logging

from async_jwt.core.codec import Verified, copy_of
from async_jwt.core.engine import Engine
from async_jwt.core.policy import ACCESS, REFRESH, Policy
from async_jwt.core.request import RequestView
from async_jwt.errors import (
    ExpiredTokenError,
    MissingClaimError,
    RevokedTokenError,
    StaleTokenError,
    StoreUnavailableError,
    TokenUsedError,
)
from async_jwt.stores.contract import Refusal, TokenRef

__all__ = ["SAFE_METHODS", "refusal", "refuse_unfit", "use_once", "without_own_mark"]

log: logging.Logger = logging.getLogger("async_jwt")

SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))
"""Methods that change nothing (RFC 9110 §9.2.1)."""

_ERRORS: dict[Refusal, type[RevokedTokenError]] = {
    "revoked": RevokedTokenError,
    "stale": StaleTokenError,
    "used": TokenUsedError,
}


async def refusal(engine: Engine, verified: Verified) -> RevokedTokenError:
    """The error for a token that the store refuses. A store that cannot say why has revoked it."""
    reason: Refusal = "revoked"
    if engine.refusals is not None:
        try:
            reason = await engine.refusals.refusal_of(verified.ref)
        except StoreUnavailableError:  # the refusal itself is certain
            reason = "revoked"
        except Exception:  # as above, whatever an application's own store does
            log.exception("refusal_of() of the store failed", extra={"event": "store_error"})
    known = next((error for name, error in _ERRORS.items() if name == reason), RevokedTokenError)
    return known(*copy_of(verified))


async def use_once(engine: Engine, view: RequestView, policy: Policy, verified: Verified) -> bool:
    """Use a token up if the request does more than look. Returns True if it did.

    Raises:
        TokenUsedError: another request used it.
        RevokedTokenError: it was revoked since it was checked.
        MissingClaimError: it has no `jti` or never expires: no store could remember it.
        StoreUnavailableError: the store did not answer; the token may be used.
        ConfigurationError: the store does not use tokens once.
    """
    store, ref = engine.single_use, verified.ref
    for name, value in (("jti", ref.jti), ("exp", ref.expires_at)):
        if value is None:
            raise MissingClaimError(name, f"A token that is used once needs the claim {name}")
    if policy.once != "get" and view.method in SAFE_METHODS and not view.is_websocket:
        # A token that is used once does not pass an outage unchecked.
        if ref.may_fail_open and not await engine.store.check(ref._replace(may_fail_open=False)):
            raise await refusal(engine, verified)
        return False
    if await store.consume_token(ref) is True:
        return True
    if engine.refusals is None:
        raise TokenUsedError(*copy_of(verified))
    raise await refusal(engine, verified)


def refuse_unfit(engine: Engine, ref: TokenRef, *, others: bool) -> None:
    """Refuse a token that cannot be used once.

    Args:
        engine: the application's engine.
        ref: the token.
        others: whether to end the user's other tokens of its type as well.

    Raises:
        ValueError: no store could remember that it was used, or other calls end such tokens.
        ExpiredTokenError: it has expired.
    """
    if ref.jti is None or ref.expires_at is None:
        lacks = "jti" if ref.jti is None else "exp"
        raise ValueError(f"A token without {lacks} cannot be used once: nothing could remember that it was")
    if ref.type == REFRESH:
        raise ValueError("rotate_refresh_token() uses refresh tokens once, and keeps their session")
    if others and ref.type == ACCESS:
        raise ValueError(
            "consume_token(others=True) is for purpose tokens: expire_access_tokens() ends access tokens"
        )
    if ref.expires_at <= engine.clock():
        raise ExpiredTokenError


def without_own_mark(ref: TokenRef) -> TokenRef:
    """A token as the request that used it sees it.

    A sign-out of its session or user still ends it, and so does what ends its user's access tokens.
    """
    return ref._replace(jti=None, type=ACCESS if ref.type == ACCESS else "", may_fail_open=False)
