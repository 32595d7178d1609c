"""Opens and rotates sessions: carries out in a store what `sessions` decides.

Both load the session, make the tokens and store the session, in this order. The store declines
if anything has changed in between, and the step starts over. So a failure on the way changes
nothing, and no client gets a token that is not stored.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from async_jwt.core import claims as claim_set
from async_jwt.core.authenticate import Authentication, refuse_replay
from async_jwt.core.cookies import cookies_to_set
from async_jwt.core.engine import Engine
from async_jwt.core.issue import (
    Issued,
    TokenSpec,
    UnsignedToken,
    csrf_of,
    end_by,
    holder_of,
    new_csrf,
    prepare_token,
    sign,
)
from async_jwt.core.login import LOGIN, kept_lifetime, login_terms
from async_jwt.core.parsers import Expires
from async_jwt.core.permissions import Limits, ceiling_of, grants_in
from async_jwt.core.policy import ACCESS, REFRESH
from async_jwt.core.sessions import (
    ACTOR,
    RefreshOutcome,
    device_label,
    extras_of,
    read_extras,
    repeated,
    streak_before,
    time_limit,
    was_overtaken,
)
from async_jwt.core.settings import Settings
from async_jwt.errors import (
    ConfigurationError,
    ExpiredTokenError,
    RevokedTokenError,
    SessionUnknownError,
    StoreUnavailableError,
    TokenReusedError,
)
from async_jwt.stores.contract import Session, SessionSnapshot, SessionStore, TokenRef, latest, new_sid

__all__ = [
    "NewPair",
    "PairSpec",
    "open_session",
    "renew_access",
    "require_refresh_grace",
    "rotate",
    "session_store",
]

_TRIES = 32
"""How often a step is tried while other requests change the session first."""


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class PairSpec:
    """The specification of a session's two tokens.

    Attributes:
        identity: the identity as the hooks receive it.
        fresh: whether, or until when, the access token is fresh.
        device: the device's label.
        claims: claims that override ours, the loader's and the session's.
        headers: header parameters likewise.
        access_expires: the access token's lifetime.
        refresh_expires: the refresh token's lifetime.
        persistent: for a login, whether cookies outlive the browser session; None follows the settings.
        counts: whether a new session counts toward `JWT_MAX_SESSIONS`.
        keeps: for a rotation, the `scope` and `roles` to keep of those that the session has; None keeps all.
    """

    identity: Any
    fresh: claim_set.Fresh = False
    device: str | None = None
    claims: Mapping[str, Any] | None = None
    headers: Mapping[str, Any] | None = None
    access_expires: Expires = None
    refresh_expires: Expires = None
    persistent: bool | None = None
    counts: bool = True
    keeps: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, repr=False)
class NewPair:
    """The tokens of a session.

    Attributes:
        sid: the session's id.
        access: the access token.
        refresh: the refresh token.
        is_new: whether the refresh token is new; False if it was reissued.
        ended: the ids of sessions that `JWT_MAX_SESSIONS` ended.
        late_streak: how many late repeats in a row there are, if one was counted now; else 0.
    """

    sid: str
    access: Issued
    refresh: Issued
    is_new: bool = True
    ended: tuple[str, ...] = ()
    late_streak: int = 0


def session_store(engine: Engine) -> SessionStore:
    """The store, which must keep sessions.

    Raises:
        ConfigurationError: it keeps none.
    """
    if engine.sessions is None:
        raise ConfigurationError(
            f"{type(engine.store).__name__} keeps no sessions: to rotate refresh tokens and list devices, "
            "use a store that has the methods of async_jwt.stores.SessionStore"
        )
    return engine.sessions


def require_refresh_grace(engine: Engine, what: str) -> None:
    """Refuse what several requests of one browser do at once, if a second use of a refresh token is theft.

    Args:
        engine: the core.
        what: what needs it, as the developer wrote it.

    Raises:
        ConfigurationError: `JWT_REFRESH_GRACE` is 0.
    """
    if engine.settings.refresh_grace == 0:
        raise ConfigurationError(f"{what} needs a JWT_REFRESH_GRACE other than 0")


async def open_session(
    engine: Engine, spec: PairSpec, approve: Callable[[Issued], Awaitable[None]]
) -> NewPair:
    """Make the two tokens of a new session.

    Args:
        engine: the application's engine.
        spec: the specification of the tokens.
        approve: called with the access token before anything is stored; it may raise.

    Raises:
        ValueError: a claim would have a shape that we do not accept.
        TypeError: a value cannot be written as JSON.
        StoreUnavailableError: the store did not answer.
        HookError: a hook returned something that it may not.
        ConfigurationError: there is no key to sign with.
    """
    builder = PairBuilder(engine, spec)
    sid = ""
    for _ in range(_TRIES):
        unsigned = await builder.prepare(None)
        identity = holder_of(engine, unsigned.access.claims)
        sid = sid or new_sid(identity)
        if engine.sessions is None:
            stamp = await engine.store.stamp(identity)
            access = builder.signed(unsigned.access, sid, stamp, None)
            await approve(access)
            return NewPair(sid, access, builder.signed(unsigned.refresh, sid, stamp, None))
        seen = await engine.sessions.load_session(TokenRef(identity, None, sid, None, 0.0, None))
        if (done := builder.done(seen)) is not None:
            return done
        now = engine.clock()
        session = Session(sid, identity, device_label(spec.device), now, now, None, None, seen.stamp, "")
        if not spec.counts or ACTOR in unsigned.access.claims:
            session = replace(session, counts=False)
        pair = await builder.put(engine.sessions, unsigned, session, seen, approve)
        if pair is not None:
            return pair
    raise _overrun()


async def rotate(
    engine: Engine,
    held: Authentication,
    ref: TokenRef,
    spec: PairSpec,
    *,
    began_at: float,
    came_along: bool = False,
) -> NewPair:
    """Replace a refresh token with a successor, or reissue the successor that it already has.

    Args:
        engine: the application's engine.
        held: the refresh token that was presented.
        ref: the same token as stores know it.
        spec: the specification of its successors.
        began_at: when the server began to serve the request, in seconds since the epoch. Lateness counts
            from there: a request may take long.
        came_along: whether the token merely came along with a request that another token authenticates.
            Then nothing is a replay and nothing is revoked: a replaced token is refused.

    Raises:
        TokenReusedError: it was replaced before; its session is revoked.
        RevokedTokenError: it, its session or its user was revoked.
        SessionUnknownError: the store does not know its session.
        ExpiredTokenError: its session is older than `JWT_SESSION_MAX_AGE`.
        Exception: what `open_session` raises.
    """
    store, settings = session_store(engine), engine.settings
    builder = PairBuilder(engine, spec, held)
    pair: NewPair | None
    for _ in range(_TRIES):
        seen = await store.load_session(ref)
        if (done := builder.done(seen)) is not None:
            return done
        outcome = await refuse_replay(engine, seen, ref, held.header, held.claims, came_along=came_along)
        if outcome is RefreshOutcome.UNKNOWN:
            raise SessionUnknownError(held.header, held.claims)
        now = engine.clock()
        before = seen.session or _adopted(held, ref, now)
        _refuse_overage(before, held, engine)
        if outcome is RefreshOutcome.REISSUE:
            pair = await builder.reissue(store, before, seen)
            if not was_overtaken(seen, now - began_at, settings):
                most = None if came_along else settings.refresh_late_limit
                pair = await _counted(store, before, seen, held, most, pair)
            if pair is not None:
                return pair
            continue
        unsigned = await builder.prepare(before)
        device = before.device if spec.device is None else device_label(spec.device)
        after = replace(
            before,
            device=device,
            last_used_at=now,
            stamp=seen.stamp,
            previous_jti=ref.jti,
            late_streak=streak_before(before),
            repeated_late=False,
        )
        pair = await builder.put(store, unsigned, after, seen)
        if pair is not None:
            return pair
    raise _overrun()


async def renew_access(engine: Engine, held: Authentication, ref: TokenRef, spec: PairSpec) -> Issued:
    """Make an access token beside a refresh token that stays as it is and came along with a request.

    Its stamp is as old as the look at the refresh token: what revokes that later revokes it too.

    Raises what `rotate` raises for a token that came along.
    """
    seen = await session_store(engine).load_session(ref)
    outcome = await refuse_replay(engine, seen, ref, held.header, held.claims, came_along=True)
    if outcome is RefreshOutcome.UNKNOWN:
        raise SessionUnknownError(held.header, held.claims)
    session = seen.session or _adopted(held, ref, engine.clock())
    _refuse_overage(session, held, engine)
    return await PairBuilder(engine, spec, held).access(session, seen.stamp)


def _refuse_overage(session: Session, held: Authentication, engine: Engine) -> None:
    limit = time_limit(session, engine.settings)
    if limit is not None and int(limit) <= engine.clock():
        raise ExpiredTokenError(None, held.header, held.claims)


class PairBuilder:
    """Makes the tokens of one session, in as many attempts as it takes.

    Attributes:
        declined: the pairs that the store declined, by the refresh token's id. A command that was sent
            twice because its reply was lost is declined the second time.
    """

    def __init__(self, engine: Engine, spec: PairSpec, held: Authentication | None = None) -> None:
        for name in ("sid", "gen", "type", LOGIN):
            if name in (spec.claims or {}):
                raise ValueError(f"additional_claims cannot hold {name}: each token of a session has its own")
        self._engine = engine
        self._wish = spec
        self._same: dict[str, Any] = {} if held is None else {"subject": held.identity}
        # One value for all tokens of a session, so that a form in another tab outlives a rotation.
        self._same["csrf"] = (None if held is None else csrf_of(held.claims)) or new_csrf()
        self._held: Mapping[str, Any] = {} if held is None else held.claims
        self._is_for_cookies = held is not None and held.location == "cookies"
        self.declined: dict[str, NewPair] = {}

    def done(self, seen: SessionSnapshot) -> NewPair | None:
        """The pair that was stored although its reply was lost, if any. It may have a successor since."""
        session = seen.session
        if session is None or seen.valid is not True:
            return None
        return self.declined.get(session.refresh_jti) or self.declined.get(session.previous_jti or "")

    async def prepare(self, before: Session | None, *, is_repeat: bool = False) -> _UnsignedPair:
        """Unsigned drafts of both tokens, with the claims and headers that the session carries on.

        Args:
            before: the session; None for a new one.
            is_repeat: whether the refresh token is there already: then no wish is an error.
        """
        engine, spec = self._engine, self._wish
        claims, headers = (self._terms(), {}) if before is None else read_extras(before.extras)
        limits = None if before is None else self._limits(claims, is_repeat=is_repeat)
        claims.update(spec.claims or {})
        headers.update(spec.headers or {})
        both: dict[str, Any] = {"identity": spec.identity, "claims": claims, "headers": headers, **self._same}
        both["limits"] = limits
        access, refresh = spec.access_expires, spec.refresh_expires
        if before is not None:  # what is passed to a rotation is for this step alone
            access = kept_lifetime(claims, ACCESS) if access is None else access
            refresh = kept_lifetime(claims, REFRESH) if refresh is None else refresh
        new_access = TokenSpec(type=ACCESS, fresh=spec.fresh, expires=access, **both)
        unsigned = (
            await prepare_token(engine, new_access),
            await prepare_token(engine, TokenSpec(type=REFRESH, expires=refresh, **both)),
        )
        if limits is not None:  # what was taken away stays away
            claims.update(ceiling_of(unsigned[0].claims))
        return _UnsignedPair(*unsigned, extras_of(claims, headers, engine.settings, engine.json_default))

    def _limits(self, carried: dict[str, Any], *, is_repeat: bool) -> Limits:
        """What limits the scopes and roles of a session's next tokens.

        Args:
            carried: the claims that the session carries on. One that begins with a refresh token made without
                a session carries none: then the token says what it was given.
            is_repeat: as for `prepare`.
        """
        spec = self._wish
        ceiling = {**ceiling_of(self._held), **grants_in(carried)}
        wishes, keeps = grants_in(spec.claims or {}), spec.keeps or {}
        return Limits(ceiling, {**wishes, **keeps}) if is_repeat else Limits(ceiling, wishes, keeps)

    def _terms(self) -> dict[str, Any]:
        """The claim that says what this login decides; none if it follows the settings."""
        engine, spec = self._engine, self._wish
        terms = login_terms(
            engine.settings,
            engine.clock(),
            access=spec.access_expires,
            refresh=spec.refresh_expires,
            persistent=spec.persistent,
        )
        return {LOGIN: terms} if terms else {}

    def signed(self, unsigned: UnsignedToken, sid: str, stamp: str, limit: float | None) -> Issued:
        """A signed token of the session, which expires no later than `limit`."""
        unsigned.claims.update(
            sid=sid, gen=stamp, type=unsigned.type
        )  # whatever the application's claims say
        end_by(unsigned.claims, limit)
        return sign(self._engine, unsigned, stamp)

    async def put(
        self,
        store: SessionStore,
        unsigned: _UnsignedPair,
        session: Session,
        seen: SessionSnapshot,
        approve: Callable[[Issued], Awaitable[None]] | None = None,
    ) -> NewPair | None:
        """Sign both tokens and store their session; None if the store declined."""
        settings = self._engine.settings
        limit = time_limit(session, settings)
        access = self.signed(unsigned.access, session.sid, seen.stamp, limit)
        refresh = self.signed(unsigned.refresh, session.sid, seen.stamp, limit)
        named = refresh.claims["jti"]
        jti = claim_set.realm_id(settings, named) if isinstance(named, str) else None
        if jti is None or jti == session.previous_jti:
            raise ValueError("Each refresh token of a session needs its own jti, and it must be a string")
        if approve is not None:
            await approve(access)
        if self._is_for_cookies:  # a token that is too large for a cookie must not use up the old one
            for issued in (access, refresh):
                cookies_to_set(
                    issued.token, issued.claims, settings, session.last_used_at, refresh=issued is refresh
                )
        ends = [_end(access.claims, settings), _end(refresh.claims, settings)]
        if session.previous_jti is not None:
            ends.append(session.ends_at)
        grace, kept = settings.refresh_grace, None
        if grace != 0:
            kept = json.dumps([refresh.claims, unsigned.refresh.headers], default=self._engine.json_default)
        pair = NewPair(session.sid, access, refresh)
        ended = await store.replace_session(
            replace(
                session, refresh_jti=jti, expires_at=ends[1], ends_at=latest(ends), extras=unsigned.extras
            ),
            seen,
            successor=None if session.previous_jti is None else kept,
            keep_for=None if grace == "until_used" else grace,
            limit=settings.max_sessions,
        )
        if ended is None:
            self.declined[jti] = pair
            return None
        return replace(pair, ended=ended)

    async def access(self, session: Session, stamp: str) -> Issued:
        """A new access token of a session, which does not outlive it."""
        drafts, settings = await self.prepare(session, is_repeat=True), self._engine.settings
        unsigned = drafts.access
        if session.ends_at is not None:
            end_by(unsigned.claims, session.ends_at - settings.expiry_leeway)
        return self.signed(unsigned, session.sid, stamp, time_limit(session, settings))

    async def reissue(self, store: SessionStore, session: Session, seen: SessionSnapshot) -> NewPair:
        """The refresh token that already exists, and a new access token."""
        engine, settings = self._engine, self._engine.settings
        claims, headers = json.loads(seen.successor or "")
        if not await store.check(claim_set.check_shape(dict(claims), settings, new=True)[-1]):
            raise RevokedTokenError({}, claims)
        access = await self.access(session, seen.stamp)
        key = await engine.signing_key(self._wish.identity)
        refresh = sign(engine, UnsignedToken(REFRESH, claims, headers, key), seen.stamp)
        return NewPair(session.sid, access, refresh, is_new=False)


async def _counted(
    store: SessionStore,
    before: Session,
    seen: SessionSnapshot,
    held: Authentication,
    limit: int | None,
    pair: NewPair,
) -> NewPair | None:
    """Count a late repeat and return its pair; None if the session has changed in the meantime.

    Raises:
        TokenReusedError: this many in a row are a replay; the session is revoked.
    """
    after = before if before.repeated_late else repeated(before)
    if after is not before and await store.replace_session(after, seen) is None:
        return None
    if limit is not None and after.late_streak >= limit:
        await store.revoke_session(before.sid, before.ends_at)
        raise TokenReusedError(held.header, held.claims, "late_repeats", before.sid)
    return pair if after is before else replace(pair, late_streak=after.late_streak)


@dataclass(frozen=True, slots=True, repr=False)
class _UnsignedPair:
    access: UnsignedToken
    refresh: UnsignedToken
    extras: str


def _adopted(held: Authentication, ref: TokenRef, now: float) -> Session:
    """The session that begins with a refresh token that was made without one."""
    issued = held.claims.get("iat")
    since = min(max(0.0, issued), now) if isinstance(issued, (int, float)) else now
    ends = ref.expires_at
    return Session(ref.sid or "", ref.identity, None, since, since, ends, ends, "", ref.jti or "")


def _end(claims: Mapping[str, Any], settings: Settings) -> float | None:
    end = claims.get("exp")
    return end + settings.expiry_leeway if isinstance(end, (int, float)) else None


def _overrun() -> StoreUnavailableError:
    return StoreUnavailableError("The session changes faster than it can be read")
