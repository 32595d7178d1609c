"""The pipeline: from a request and a policy to one frozen `Authentication`, on one screen.

The order is fixed. Cheap and pure checks stand before I/O, and I/O is done only for tokens
that we signed: signature, shape and time, CSRF, type, freshness, then the store, then the
application's verification, then the user. Nothing is visible to the view before all passed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from async_jwt.core import checks
from async_jwt.core.codec import Decoded, Verified, copy_of
from async_jwt.core.engine import Engine
from async_jwt.core.locations import csrf_value, find, find_in_body
from async_jwt.core.policy import REFRESH, Policy
from async_jwt.core.request import RequestView
from async_jwt.core.sessions import RefreshOutcome, decide, was_overtaken
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
from async_jwt.stores.contract import SessionSnapshot, TokenRef

__all__ = ["Authentication", "CheckResult", "RequestState", "authenticate", "refuse_replay"]

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

    token: str
    verified: Verified
    found_at: float
    revocation_checked: bool = False
    user: Any = None


@dataclass(slots=True, repr=False)
class CheckResult:
    """A check that passed. What the application sees of it is made when it is asked for.

    Attributes:
        location: where the token was.
    """

    _facts: _Facts
    location: str
    _policy: Policy
    _identity_claim: str
    _own: Decoded | None
    _authentication: Authentication | None = None

    @property
    def authentication(self) -> Authentication:
        """Who the request comes from."""
        if self._authentication is None:
            header, claims = self._own or copy_of(self._facts.verified)
            identity, user = claims[self._identity_claim], self._facts.user
            self._authentication = Authentication(
                self._facts.token, header, claims, identity, user, self.location, self._policy
            )
        return self._authentication

    @property
    def ref(self) -> TokenRef:
        """The token, as stores know it."""
        return self._facts.verified.ref

    @property
    def found_at(self) -> float:
        """When the token was found in this request, in seconds since the epoch."""
        return self._facts.found_at

    @property
    def type(self) -> str:
        """The token's type."""
        kind: str = self._facts.verified.claims["type"]
        return kind


class RequestState:
    """What this request's checks found so far.

    Attributes:
        answered: whether the last check passed, if only because there was no token.
        demanded: whether any check has passed that demands a token.
        success: the last success; None for an anonymous request, and after a refusal.
        rests_on: the last success whose revocation was checked; None once the request has revoked that
            very token. It stays through refusals: what the request makes for itself rests on it.
        has_revoked: whether the request revoked anything.
        refusal: why the last check failed; None after one that passed.
        location: where the last check found a token; None where it found none.
        known: what is known of each token, by its text.
    """

    def __init__(self) -> None:
        self.passed: bool = False
        self.demanded: bool = False
        self.result: CheckResult | None = None
        self.rests_on: CheckResult | None = None
        self.has_revoked: bool = False
        self.refusal: JWTExtendedException | None = None
        self.location: str | None = None
        self.known: dict[str, _Facts] = {}

    def mark_passed(self, result: CheckResult | None, *, revocation_checked: bool) -> None:
        """Note that a check has passed; None for an anonymous request."""
        self.passed, self.result, self.refusal = True, result, None
        if revocation_checked:
            self.rests_on = result

    def reset(self) -> None:
        """Note that a check did not pass: from now on nobody is authenticated."""
        self.passed, self.result = False, None


async def authenticate(
    engine: Engine,
    view: RequestView,
    policy: Policy,
    request_state: RequestState,
    *,
    came_along_at: float | None = None,
) -> bool:
    """Check a request against a policy, and note in its record what that found.

    Args:
        engine: the application's authentication.
        view: the request.
        policy: what the view demands.
        request_state: what earlier checks of the same request found; it is added to. Its
            `result` is None for an anonymous request that the policy lets through.
        came_along_at: when the request began to be served, if its token merely came along and another
            one stands for it. Then its CSRF value is not looked at, and one that was replaced meanwhile is
            no replay.

    Returns:
        Whether this check loaded a user.

    Raises:
        JWTExtendedException: the request is refused, or cannot be decided.
        Exception: a hook of the application failed.
    """
    settings, hooks = engine.settings, engine.hooks
    request_state.location = None
    try:
        token, location = find(view, policy, settings) or await find_in_body(view, policy, settings)
    except NoAuthorizationError:
        if not policy.optional:
            raise
        request_state.mark_passed(None, revocation_checked=False)
        return False
    request_state.location = location
    stands_for_request = came_along_at is None
    if stands_for_request and location == "cookies" and settings.is_compat:
        await _check_csrf_is_sent(view, policy, settings)
    facts, now = request_state.known.get(token), engine.clock()
    if facts is None or view.is_accepted or not 0 <= now - facts.found_at < _FACTS_HOLD:
        facts = _Facts(token, engine.verify_at_once(token, now) or await engine.verify(token), now)
        request_state.known[token] = facts
        now = engine.clock()  # a key may have been waited for
    verified, own, loads = facts.verified, None, False
    engine.codec.check_times(verified, now)
    if stands_for_request and location == "cookies":
        await _check_csrf(verified.claims, view, policy, settings)
    checks.check_type(verified.claims, policy, settings)
    if policy.fresh:
        checks.check_fresh(verified, now)
    asks = not policy.skip_revocation_check and (not facts.revocation_checked or settings.is_compat)
    if asks:
        await _check_revocation(engine, verified, came_along_at)
    if hooks.any_at_checks():
        own = copy_of(verified)
        loads = await _run_hooks(engine, facts, own, revocation=asks)
    facts.revocation_checked = facts.revocation_checked or asks
    result = CheckResult(facts, location, policy, settings.identity_claim, own)
    request_state.mark_passed(result, revocation_checked=facts.revocation_checked)
    request_state.demanded = request_state.demanded or not policy.optional
    return loads


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
    """Refuse a request without a CSRF value before its token is looked at, as FJE does.

    A form longer than `JWT_MAX_JSON_BYTES` is not read for that: its sender is not authenticated yet.
    """
    length = next(iter(view.headers("Content-Length")), "x" if view.headers("Transfer-Encoding") else "0")
    is_short = length.isdecimal() and len(length) < 12 and int(length) <= settings.max_json_bytes
    may_read = is_short or not settings.csrf_check_form
    if may_read and _needs_csrf(view, settings) and not await csrf_value(view, policy, settings):
        raise CSRFError("Missing CSRF token")


def _needs_csrf(view: RequestView, settings: Settings) -> bool:
    return settings.cookie_csrf_protect and view.method in settings.csrf_methods


async def _check_revocation(engine: Engine, verified: Verified, came_along_at: float | None) -> None:
    ref = verified.ref
    if verified.claims["type"] == REFRESH and engine.sessions is not None:
        seen = await engine.sessions.load_session(ref)
        await refuse_replay(engine, seen, ref, *copy_of(verified), came_along_at=came_along_at)
        return
    valid = await engine.store.check(ref)
    if valid is False:
        raise RevokedTokenError(*copy_of(verified))
    if valid is not True:
        raise HookError(f"{type(engine.store).__name__}.check() must return True or False")


async def refuse_replay(
    engine: Engine,
    seen: SessionSnapshot,
    ref: TokenRef,
    header: _Claims,
    claims: _Claims,
    *,
    came_along_at: float | None,
) -> RefreshOutcome:
    """What becomes of a refresh token, as `decide` says. A replay revokes its session first.

    Not so one that came along with a request which began before the token was replaced, or just after.

    Raises:
        RevokedTokenError: it does not count; TokenReusedError if it was replaced.
        StoreUnavailableError: the session could not be revoked.
    """
    try:
        return decide(seen, ref, header, claims)
    except TokenReusedError as reused:
        if seen.session is None or engine.sessions is None:
            raise
        if came_along_at is not None and was_overtaken(seen, engine.clock() - came_along_at, engine.settings):
            reused.kind = "overtaken"
        else:
            await engine.sessions.revoke_session(seen.session.sid, seen.session.ends_at)
        raise


async def _run_hooks(engine: Engine, facts: _Facts, own: Decoded, *, revocation: bool) -> bool:
    """Ask the application's hooks for what they decide, and for the user. Returns whether it loaded one."""
    hooks = engine.hooks
    if revocation and "token_in_blocklist" in hooks and await engine.call_hook("token_in_blocklist", *own):
        raise RevokedTokenError(*own)
    # At each check: it may look at more than the token.
    if "token_verification" in hooks and not await engine.call_hook("token_verification", *own):
        raise UserClaimsVerificationError(None, *own)
    if "user_lookup" not in hooks or facts.user is not None:
        return False
    facts.user = await engine.call_hook("user_lookup", *own)
    if facts.user is None:
        identity = own[1][engine.settings.identity_claim]
        raise UserLookupError(f"user_lookup returned None for {identity!r}", *own)
    return True
