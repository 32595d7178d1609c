"""The pipeline: from a request and a policy to one frozen `Authentication`, on one screen.

The order is fixed. Cheap and pure checks stand before I/O, and I/O is done only for tokens
that we signed: signature, shape and time, CSRF, type, freshness, then the store, then the
application's verification, then the user. Nothing is visible to the view before all passed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from async_jwt.core import checks
from async_jwt.core.codec import Verified
from async_jwt.core.locations import csrf_value, find, find_in_body
from async_jwt.core.policy import REFRESH, Policy
from async_jwt.core.realm import Realm
from async_jwt.core.request import RequestView
from async_jwt.core.sessions import Move, move_of
from async_jwt.core.settings import Settings
from async_jwt.errors import (
    CSRFError,
    HookError,
    JWTExtendedException,
    NoAuthorizationError,
    RevokedTokenError,
    TokenReusedError,
    UserClaimsVerificationError,
    UserLookupError,
)
from async_jwt.stores.contract import SessionStore, SessionView, TokenRef

__all__ = ["Authentication", "Record", "authenticate", "refuse_replay"]

_Claims = dict[str, Any]


@dataclass(frozen=True, slots=True, repr=False)
class Authentication:
    """Who a request comes from, once everything was checked.

    Attributes:
        token: the token's text. Handle it as the password it is.
        header: the token's header.
        claims: its claims.
        identity: the value of the identity claim.
        user: what `user_lookup_loader` returned; None without one.
        location: where the token was: headers, cookies, query_string, json or websocket_protocol.
        policy: what the view demanded.
    """

    token: str
    header: dict[str, Any]
    claims: dict[str, Any]
    identity: Any
    user: Any
    location: str
    policy: Policy

    def __repr__(self) -> str:
        return f"<Authentication identity={self.identity!r} location={self.location!r}>"


# How long what was found out is taken for granted, in seconds: two checks of one request share it, and
# a stream that checks again later asks again.
_FACTS_HOLD = 1.0


@dataclass(slots=True, repr=False)
class _Facts:
    """What is known of one token in this request; each is found out once."""

    token: Verified
    found_at: float
    counts: bool = False
    user: Any = None


@dataclass(slots=True, repr=False)
class Record:
    """What this request's checks found so far.

    Attributes:
        answered: whether a check has passed, be it for want of a token.
        authentication: the last success; None for an anonymous request.
        ref: the token of the last success, as stores know it.
        type: its type.
        vouched: whether its revocation was looked at, and the request itself has revoked
            nothing since.
        refusal: why the last check failed; None after one that passed.
    """

    answered: bool = False
    authentication: Authentication | None = None
    ref: TokenRef | None = None
    type: str | None = None
    vouched: bool = False
    refusal: JWTExtendedException | None = None
    facts: dict[str, _Facts] = field(default_factory=dict)

    def forget(self) -> None:
        """As before the first check."""
        self.answered, self.authentication, self.vouched = False, None, False
        self.ref = self.type = None


async def authenticate(
    realm: Realm, view: RequestView, policy: Policy, record: Record, *, csrf: bool = True
) -> Authentication | None:
    """Check a request against a policy.

    Args:
        realm: the application's authentication.
        view: the request.
        policy: what the view demands.
        record: what earlier checks of the same request found; it is added to.
        csrf: whether to look at the CSRF value. Another token of the request has stood for it
            where not.

    Returns:
        The authentication, also kept in the record; None for an anonymous request that the
        policy lets through.

    Raises:
        JWTExtendedException: the request is refused, or cannot be decided.
        Exception: a hook of the application failed.
    """
    settings = realm.settings
    try:
        token, location = find(view, policy, settings) or await find_in_body(view, policy, settings)
    except NoAuthorizationError:
        if not policy.optional:
            raise
        record.answered, record.authentication, record.refusal = True, None, None
        record.ref = record.type = None
        return None
    if csrf and location == "cookies" and settings.is_compat:
        await _check_csrf_is_sent(view, policy, settings)
    facts, now = record.facts.get(token), realm.clock()
    if facts is None or view.is_accepted or not 0 <= now - facts.found_at < _FACTS_HOLD:
        facts = _Facts(realm.verify_at_once(token, now) or await realm.verify(token), now)
        record.facts[token] = facts
        now = realm.clock()  # a key may have been waited for
    header, claims = realm.codec.read(facts.token, now)
    if csrf and location == "cookies":
        await _check_csrf(claims, view, policy, settings)
    checks.check_type(claims, policy, settings)
    if policy.fresh:
        checks.check_fresh(header, claims, now)
    ref, hooks = facts.token.ref, realm.hooks
    if not policy.skip_revocation_check and (not facts.counts or settings.is_compat):
        await _check_revocation(realm, ref, header, claims)
        facts.counts = True
    if "token_verification" in hooks:  # at each check: it may look at more than the token
        await _check_verification(realm, header, claims)
    if "user_lookup" in hooks and facts.user is None:
        facts.user = await _load_user(realm, header, claims)
    identity, kind = claims[settings.identity_claim], claims["type"]
    found = Authentication(token, header, claims, identity, facts.user, location, policy)
    record.answered, record.authentication, record.refusal = True, found, None
    record.ref, record.type, record.vouched = ref, kind, facts.counts
    return found


async def _check_csrf(claims: _Claims, view: RequestView, policy: Policy, settings: Settings) -> None:
    if view.is_websocket:
        # Browsers let any site open a WebSocket with this site's cookies, and send no CSRF value.
        checks.check_origin(view, settings)
        return
    if not _needs_csrf(view, settings):
        return
    if settings.csrf_check_origin:
        checks.check_origin(view, settings)
    sent = await csrf_value(view, policy, settings)
    checks.check_csrf(claims, sent, settings, refresh=policy.refresh)


async def _check_csrf_is_sent(view: RequestView, policy: Policy, settings: Settings) -> None:
    """As FJE, whose clients are told of a missing value before anything about the token."""
    if _needs_csrf(view, settings) and not await csrf_value(view, policy, settings):
        raise CSRFError("Missing CSRF token")


def _needs_csrf(view: RequestView, settings: Settings) -> bool:
    return settings.cookie_csrf_protect and view.method in settings.csrf_methods


async def _check_revocation(realm: Realm, ref: TokenRef, header: _Claims, claims: _Claims) -> None:
    if claims["type"] == REFRESH and realm.sessions is not None:
        await refuse_replay(realm.sessions, await realm.sessions.look_session(ref), ref, header, claims)
    else:
        counts = await realm.store.check(ref)
        if counts is False:
            raise RevokedTokenError(header, claims)
        if counts is not True:
            raise HookError(f"{type(realm.store).__name__}.check() must return True or False")
    if "token_in_blocklist" in realm.hooks and await realm.ask("token_in_blocklist", header, claims):
        raise RevokedTokenError(header, claims)


async def refuse_replay(
    store: SessionStore, seen: SessionView, ref: TokenRef, header: _Claims, claims: _Claims
) -> Move:
    """What becomes of a refresh token, as `move_of` says. A replay revokes its session first.

    Raises:
        RevokedTokenError: it does not count; TokenReusedError if it is a replay.
        StoreUnavailableError: the session could not be revoked.
    """
    try:
        return move_of(seen, ref, header, claims)
    except TokenReusedError:
        if seen.session is not None:
            await store.revoke_session(seen.session.sid, seen.session.ends_at)
        raise


async def _check_verification(realm: Realm, header: _Claims, claims: _Claims) -> None:
    if not await realm.ask("token_verification", header, claims):
        raise UserClaimsVerificationError(None, header, claims)


async def _load_user(realm: Realm, header: _Claims, claims: _Claims) -> Any:
    user = await realm.ask("user_lookup", header, claims)
    if user is None:
        identity = claims[realm.settings.identity_claim]
        raise UserLookupError(f"user_lookup returned None for {identity}", header, claims)
    return user
