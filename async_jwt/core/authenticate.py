"""The request pipeline: turns a request and a policy into one frozen `Authentication`.

The order is fixed. Cheap, pure checks run before I/O, and I/O happens only for tokens that
we signed: signature, shape and time, CSRF, type, freshness, then the store, then the
application's verification, then the user; then scopes, roles and claims. Last, a token that is used
once is used up. The view sees nothing until every check has passed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from async_jwt.core import checks
from async_jwt.core.codec import Decoded, Verified, copy_of
from async_jwt.core.cookie_scope import ANY, check_scope
from async_jwt.core.cookies import Cookie
from async_jwt.core.engine import UNTOLD, Engine
from async_jwt.core.locations import Found, csrf_value, find, find_in_body, has_short_body, twin_cookies
from async_jwt.core.policy import REFRESH, Policy
from async_jwt.core.request import RequestView
from async_jwt.core.sessions import RefreshOutcome, decide
from async_jwt.core.settings import Settings
from async_jwt.core.single_use import refusal, use_once, without_own_mark
from async_jwt.core.twins import choose
from async_jwt.errors import (
    AmbiguousTokenError,
    CSRFError,
    HookError,
    JWTExtendedException,
    NoAuthorizationError,
    PermissionDeniedError,
    RevokedTokenError,
    TokenReusedError,
    UserClaimsVerificationError,
    UserLookupError,
)
from async_jwt.stores.contract import SessionSnapshot, TokenRef

__all__ = [
    "Authentication",
    "CheckResult",
    "RealmRequestState",
    "RequestState",
    "authenticate",
    "authenticate_once",
    "authenticate_text",
    "refuse_replay",
]

_Claims = dict[str, Any]


@dataclass(frozen=True, slots=True, repr=False)
class Authentication:
    """The authenticated caller of a request, after every check has passed.

    Attributes:
        token: the token's text. Handle it like a password.
        header: the token's header.
        claims: its claims.
        identity: the value of the identity claim.
        user: what `user_lookup_loader` returned; None without one.
        location: where the token was: headers, cookies, query_string, json or websocket_protocol; "text"
            for one given to `authenticate_token`.
        policy: what the view demanded.
        issuer: the other issuer that made the token; None for a token of this application. Then `identity` is
            an `IssuerIdentity`.
    """

    token: str
    header: dict[str, Any]
    claims: dict[str, Any]
    identity: Any
    user: Any
    location: str
    policy: Policy
    issuer: str | None = None

    def __repr__(self) -> str:
        return f"<Authentication identity={self.identity!r} location={self.location!r}>"


# How long a check result is reused, in seconds: two checks of one request share it, but a stream that
# checks again later repeats the work.
_FACTS_HOLD = 1.0


@dataclass(repr=False)
class CheckResult:
    """One check of one token: what it found, and what the application sees of it once it has passed.

    Attributes:
        token: the token's text.
        verified: the verified token.
        found_at: when the token was found in this request, in seconds since the epoch.
        location: where the token was.
        policy: what the view demanded.
        revocation_checked: True if the store and the application's blocklist checked the token.
        user: what `user_lookup_loader` returned.
        own: the copies of header and claims that hooks received, which the application then sees.
        whole: the token as stores know it, where `verified` leaves out what the request itself ended.
    """

    token: str
    verified: Verified
    found_at: float
    location: str
    policy: Policy
    _identity_claim: str
    # Set only by checks that need them: they cost nothing until then.
    revocation_checked: bool = field(default=False, init=False)
    user: Any = field(default=None, init=False)
    own: Decoded | None = field(default=None, init=False)
    _authentication: Authentication | None = field(default=None, init=False)
    whole: TokenRef | None = field(default=None, init=False)

    def again(self, location: str, policy: Policy) -> CheckResult:
        """A further check of the same token in the same request; it reuses what this one found."""
        result = CheckResult(self.token, self.verified, self.found_at, location, policy, self._identity_claim)
        result.revocation_checked, result.user, result.whole = self.revocation_checked, self.user, self.whole
        return result

    def ask_as(self, ref: TokenRef) -> None:
        """Ask the store about another form of the token, which leaves out what the request itself ended."""
        self.whole = self.ref
        self.verified = self.verified._replace(ref=ref)

    @property
    def authentication(self) -> Authentication:
        """The authenticated caller, built on first access."""
        if self._authentication is None:
            header, claims = self.own or copy_of(self.verified)
            issuer = None if self.verified.source is None else self.verified.source.issuer
            self._authentication = Authentication(
                self.token,
                header,
                claims,
                claims[self._identity_claim] if issuer is None else issuer.identity_of(claims),
                self.user,
                self.location,
                self.policy,
                None if issuer is None else issuer.url,
            )
        return self._authentication

    @property
    def ref(self) -> TokenRef:
        """The token as stores know it."""
        return self.whole or self.verified.ref

    @property
    def type(self) -> str:
        """The token's type."""
        return self.verified.type


class RequestState:
    """What this request's checks have found so far. One per request and application.

    Attributes:
        in_request: False outside a request, such as in a shell or a background job.
        passed: True if the last check passed, even if only because there was no token.
        demanded: True if any check that requires a token passed.
        met: the policies that demand more than a token and that passed.
        result: the last check that passed; None for an anonymous request, and after a refusal.
        rests_on: the last result whose revocation was checked; None once the request has revoked that
            very token. It survives refusals: tokens that the request creates for itself depend on it.
        has_revoked: True if the request revoked anything.
        refusal: why the last check failed; None if it passed.
        location: where the last check found a token; None if it found none.
        consumed: the tokens that this request used up; further checks of them pass.
        is_stale: True if the request ended its user's access tokens, its own among them.
        pending: the cookies that the response will set or delete.
        renewed: the access token that took the place of the request's access cookie.
        has_ended: True if the request ended its own session or token.
        successor: the claims of the refresh token that has replaced the request's.
        known: the last check of each token seen, by its text.
    """

    # Defaults on the class: most requests set only three of them.
    in_request: bool = True
    passed: bool = False
    demanded: bool = False
    met: tuple[Policy, ...] = ()
    result: CheckResult | None = None
    rests_on: CheckResult | None = None
    has_revoked: bool = False
    refusal: JWTExtendedException | None = None
    location: str | None = None
    consumed: tuple[str, ...] = ()
    is_stale: bool = False
    pending: tuple[Cookie, ...] = ()
    renewed: str | None = None
    has_ended: bool = False
    successor: Mapping[str, Any] | None = None

    def __init__(self) -> None:
        self.known: dict[str, CheckResult] = {}

    @property
    def authentication(self) -> Authentication | None:
        """The authenticated caller, if a check let the request in."""
        return None if self.result is None else self.result.authentication

    @property
    def ref(self) -> TokenRef | None:
        """The token that let the request in, as stores know it."""
        return None if self.result is None else self.result.ref

    @property
    def may_refresh(self) -> bool:
        """True if revocation was checked and this request has revoked nothing since."""
        return self.rests_on is not None and not self.has_revoked

    def mark_passed(self, result: CheckResult) -> None:
        """Record a check that passed."""
        self.passed = True
        self.result = result
        self.refusal = None
        if result.revocation_checked:
            self.rests_on = result
        policy = result.policy
        if not policy.optional:
            self.demanded = True
            if policy.leaves_mark:
                self.met += (policy,)

    def unmarked(self, result: CheckResult) -> Verified:
        """A check's token. The request's own mark on it is left out: it ends nothing here."""
        if result.token in self.consumed:
            result.ask_as(without_own_mark(result.ref))
        return result.verified

    def mark_used(self, result: CheckResult) -> None:
        """Record that the request itself used up its own token: it may still create new ones.

        Unlike a revocation, this keeps what else ends the request's authority: its user's sign-out.

        Args:
            result: the check of that token.
        """
        self.consumed += (result.token,)
        self.rests_on = copy.copy(result)
        self.rests_on.ask_as(without_own_mark(result.ref))

    def mark_expired(self, result: CheckResult | None) -> None:
        """Record that the request ended a user's access tokens.

        Args:
            result: the check of the request's own token, if that ended, too; then like `mark_used`.
        """
        self.known.clear()
        if result is not None:
            self.is_stale = True
            self.rests_on = copy.copy(result)
            self.rests_on.ask_as(result.verified.ref._replace(type=""))

    def mark_anonymous(self) -> None:
        """Record a check that let through a request without a token."""
        self.passed, self.result, self.refusal = True, None, None

    def mark_revoked(self, *, ends_itself: bool) -> None:
        """Record that this request revoked something.

        Args:
            ends_itself: True if the request revoked its own, until then valid, token: the request may
                still create new ones.
        """
        self.has_revoked = True
        self.known.clear()  # the next check queries the store again
        if ends_itself:
            self.rests_on, self.has_ended = None, True

    def reset(self) -> None:
        """Record a check that failed: the request is no longer authenticated."""
        self.passed, self.result = False, None


class RealmRequestState(RequestState):
    """What this request's checks of one named realm have found so far.

    Args:
        whole: the state of the unnamed realm, which tells what checks of all realms demanded.
    """

    def __init__(self, whole: RequestState) -> None:
        super().__init__()
        self._whole = whole

    def mark_passed(self, result: CheckResult) -> None:
        """Record a check that passed."""
        super().mark_passed(result)
        if not result.policy.optional:
            self._whole.demanded = True
            self._whole.met += (result.policy,)


async def authenticate(
    engine: Engine,
    view: RequestView,
    policy: Policy,
    request_state: RequestState,
    *,
    came_along: bool = False,
) -> bool:
    """Check a request against a policy, and record the findings in its request state.

    Args:
        engine: the application's engine.
        view: the request.
        policy: what the view demands.
        request_state: what earlier checks of the same request found; updated in place. Its
            `result` is None for an anonymous request that the policy lets through.
        came_along: True if the token merely came along and another one authenticates the request. Its CSRF
            value is then not checked, and a replaced refresh token is refused but revokes nothing.

    Returns:
        True if this check loaded a user.

    Raises:
        JWTExtendedException: the request is refused, or cannot be decided.
        Exception: an application hook failed.
    """
    settings = engine.settings
    request_state.location = None
    try:
        token, location = find(view, policy, settings) or await find_in_body(view, policy, settings)
    except (NoAuthorizationError, AmbiguousTokenError) as problem:
        found = await _instead(engine, view, policy, request_state, problem)
        if found is None:
            request_state.mark_anonymous()
            return False
        token, location = found
    request_state.location = location
    needs_csrf = location == "cookies"
    if needs_csrf:
        if request_state.renewed and not policy.refresh:
            token = request_state.renewed
        needs_csrf = not came_along
        if needs_csrf and settings.is_compat:
            await _check_csrf_is_sent(view, policy, settings)
    began = now = engine.clock()
    result = request_state.known.get(token)
    if result is None or view.is_accepted or not 0 <= now - result.found_at < _FACTS_HOLD:
        verified = engine.verify_at_once(token, now)
        if verified is None:  # a key must be loaded first
            verified, now = await engine.verify(token), engine.clock()
        result = CheckResult(token, verified, began, location, policy, settings.identity_claim)
    else:
        result = result.again(location, policy)
    request_state.known[token] = result
    verified = request_state.unmarked(result) if request_state.consumed else result.verified
    engine.codec.check_times(verified, now)
    if needs_csrf:
        await _check_csrf(verified.claims, view, policy, settings)
    loads = await _admit(engine, result, now, came_along=came_along)
    request_state.mark_passed(result)
    return loads


async def _instead(
    engine: Engine,
    view: RequestView,
    policy: Policy,
    request_state: RequestState,
    problem: NoAuthorizationError | AmbiguousTokenError,
) -> Found | None:
    """The token that counts where none or several were found; None for an anonymous request.

    Raises:
        NoAuthorizationError: none does, and the view demands one.
        AmbiguousTokenError: they do not come from cookies of one name, or more than one counts.
        JWTExtendedException: of several cookies, none counts.
    """
    settings = engine.settings
    if isinstance(problem, AmbiguousTokenError):
        texts = twin_cookies(view, policy, settings)
        if not texts:
            raise problem
        request_state.location = "cookies"
        return await choose(engine, texts, policy), "cookies"
    reads_cookies = not policy.refresh and "cookies" in (policy.locations or settings.token_location)
    if request_state.renewed and reads_cookies:
        return request_state.renewed, "cookies"
    if not policy.optional or policy.refresh_cookie:
        raise problem
    return None


async def authenticate_text(
    engine: Engine, token: Any, policy: Policy, *, location: str = "text"
) -> tuple[CheckResult, bool]:
    """Check a token that came elsewhere than in a request. Checks no CSRF value; a replay revokes nothing.

    Args:
        engine: the application's engine.
        token: the token's text.
        policy: what it must satisfy.
        location: where to say that it was.

    Returns:
        The result, and whether this check loaded a user.

    Raises:
        JWTExtendedException: the token is refused, or cannot be decided.
        Exception: an application hook failed.
    """
    if not isinstance(token, str):
        engine.codec.inspect(token)  # always raises: says what it is instead
    verified, now = await engine.verify(token), engine.clock()
    result = CheckResult(token, verified, now, location, policy, engine.settings.identity_claim)
    engine.codec.check_times(verified, now)
    return result, await _admit(engine, result, now, came_along=True)


async def _admit(engine: Engine, result: CheckResult, now: float, *, came_along: bool) -> bool:
    """The checks of a verified token: type, freshness, revocation, hooks. True if they loaded a user."""
    verified, policy = result.verified, result.policy
    if engine.scope is not ANY:
        check_scope(verified.claims, engine.scope)
    if verified.type not in policy.at_once:
        checks.check_demands(verified, policy, engine.settings, now)
    if policy.skip_revocation_check or (result.revocation_checked and not engine.settings.is_compat):
        loads = engine.hooks.at_checks and await _run_hooks(engine, result, revocation=False)
    else:
        if verified.type == REFRESH and engine.sessions is not None:
            seen, ref = await engine.sessions.load_session(verified.ref), verified.ref
            await refuse_replay(engine, seen, ref, *copy_of(verified), came_along=came_along)
        else:
            if verified.source is None:
                valid = await engine.store.check(verified.ref)
            else:
                valid = await engine.is_valid(verified)
            if valid is not True:
                raise await _refusal(engine, verified, valid)
        loads = engine.hooks.at_checks and await _run_hooks(engine, result, revocation=True)
        result.revocation_checked = True
    if policy.is_restricted:
        await _authorize(engine, result)
    return loads


async def _authorize(engine: Engine, result: CheckResult) -> None:
    """Refuse a valid token that lacks what the view demands: last, so that nobody probes with others.

    Raises:
        PermissionDeniedError: it lacks a scope, a role or a claim, or `allow` returned False.
        HookError: `allow` returned something else.
    """
    verified, policy = result.verified, result.policy
    checks.check_permissions(verified, policy, engine.hooks.implied_scopes)
    for hook in policy.allow:
        if not await engine.call_hook(hook, result.authentication):
            raise PermissionDeniedError("The view's `allow` returned False", *copy_of(verified))


async def _refusal(engine: Engine, verified: Verified, valid: Any) -> JWTExtendedException:
    """The error for a token that the store does not call valid."""
    if valid is False:
        return await refusal(engine, verified)
    return HookError(f"{type(engine.store).__name__}.check() must return True or False")


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
    """Refuse a request without a CSRF value before decoding its token, as FJE does.

    A form longer than `JWT_MAX_JSON_BYTES` is not read for this: its sender is not authenticated yet.
    """
    may_read = not settings.csrf_check_form or has_short_body(view, settings)
    if may_read and _needs_csrf(view, settings) and not await csrf_value(view, policy, settings):
        raise CSRFError("Missing CSRF token")


def _needs_csrf(view: RequestView, settings: Settings) -> bool:
    return settings.cookie_csrf_protect and view.method in settings.csrf_methods


async def authenticate_once(
    engine: Engine, view: RequestView, policy: Policy, request_state: RequestState
) -> bool:
    """Like `authenticate`, for a policy with `once`: then use the token up.

    An earlier check of the same request that did so is not repeated.

    Raises:
        TokenUsedError: another request used it.
        StoreUnavailableError: the store did not answer; the token may be used.
        Exception: what `authenticate` raises.
    """
    demanded = request_state.demanded
    request_state.known.clear()  # the token may have been used since an earlier check
    loads = await authenticate(engine, view, policy, request_state)
    result = request_state.result
    if result is None or result.token in request_state.consumed:
        return loads
    try:
        used = await use_once(engine, view, policy, result.verified)
    except BaseException:
        request_state.demanded = demanded
        raise
    if used:
        request_state.mark_used(result)
    return loads


async def refuse_replay(
    engine: Engine,
    seen: SessionSnapshot,
    ref: TokenRef,
    header: _Claims,
    claims: _Claims,
    *,
    came_along: bool,
) -> RefreshOutcome:
    """The refresh outcome of a token, as in `decide`; a replay also revokes its session.

    A token that came along with a request is no replay: its request may have taken long, or the response
    that replaced it was lost. It is refused, and revokes nothing.

    Raises:
        RevokedTokenError: the token is not valid; TokenReusedError if it was replaced.
        StoreUnavailableError: the session could not be revoked.
    """
    try:
        return decide(seen, ref, header, claims)
    except TokenReusedError:
        if came_along:
            raise RevokedTokenError(header, claims) from None
        if seen.session is not None and engine.sessions is not None:
            await engine.sessions.revoke_session(seen.session.sid, seen.session.ends_at)
        raise


async def _user_of(engine: Engine, result: CheckResult, own: Decoded) -> Any:
    """The user of a token, where other issuers' tokens are accepted, too.

    Raises:
        HookError: the application's users could be taken for an issuer's, and the hook is not told.
    """
    source, hook = result.verified.source, engine.hooks["user_lookup"]
    if hook.takes_issuer:
        issuer = None if source is None else source.issuer.url
        return await engine.call_hook("user_lookup", *own, issuer)
    if source is not None and engine.has_several_issuers:
        raise HookError(UNTOLD)
    return await engine.call_hook("user_lookup", *own)


async def _run_hooks(engine: Engine, result: CheckResult, *, revocation: bool) -> bool:
    """Call the application's deciding hooks, and load the user. Returns True if it loaded one."""
    hooks = engine.hooks
    own = result.own = copy_of(result.verified)
    if revocation and "token_in_blocklist" in hooks and await engine.call_hook("token_in_blocklist", *own):
        raise RevokedTokenError(*own)
    # At every check: it may look at more than the token.
    if "token_verification" in hooks and not await engine.call_hook("token_verification", *own):
        raise UserClaimsVerificationError(None, *own)
    if "user_lookup" not in hooks or result.user is not None:
        return False
    if engine.issuers is None:
        result.user = await engine.call_hook("user_lookup", *own)
    else:
        result.user = await _user_of(engine, result, own)
    if result.user is None:
        identity = result.authentication.identity
        raise UserLookupError(f"user_lookup returned None for {identity!r}", *own)
    return True
