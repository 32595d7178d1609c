"""Making, reading and revoking tokens: the same methods on managers and in the adapters.

Each is written once here. Inside a request they know whose it is; outside of one, in a job
or a shell, they work as well wherever they do not need to.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from async_jwt.app_state import AppState, Current
from async_jwt.core import claims as claim_set
from async_jwt.core.authenticate import Authentication, RequestState
from async_jwt.core.checks import check_csrf
from async_jwt.core.claims import Fresh
from async_jwt.core.concurrency import notify
from async_jwt.core.engine import Engine
from async_jwt.core.issue import Expires, Issued, TokenPair, TokenSpec, holder_of, issue, subject_of
from async_jwt.core.policy import ACCESS, REFRESH
from async_jwt.core.proxies import unproxied
from async_jwt.core.rotation import NewPair, PairSpec, open_session, rotate, session_store
from async_jwt.core.sessions import SessionPage, latest_expiry, session_info
from async_jwt.errors import (
    InvalidPageError,
    JWTExtendedException,
    RevokedTokenError,
    StoreUnavailableError,
    TokenReusedError,
)
from async_jwt.signals import token_issued, token_repeated, token_reused, token_revoked
from async_jwt.stores.contract import LONGEST_ID, TokenRef, latest, refuse_odd_texts

__all__ = [
    "Operations",
    "hand_out",
    "known_as",
    "operations_at",
    "send_repeated",
    "send_reused",
]


_LONGEST_PAGE = 1000

log: logging.Logger = logging.getLogger("async_jwt")


class Operations:
    """The coroutines that make, read and revoke tokens.

    All of them may raise `ConfigurationError` for a missing or wrong setting, `HookError`
    for a hook that returns what it may not, and `StoreUnavailableError` when the store does
    not answer. Those that make tokens raise `RevokedTokenError` in a request that was
    revoked since its check.

    Args:
        current: says which application and request a call is about. It raises RuntimeError where that is
            not clear.
        any_session: True if `revoke_session(sid)` outside of a request reaches anybody's session, as
            operators need it.
    """

    def __init__(self, current: Current, *, any_session: bool) -> None:
        self._current = current
        self._any_session = any_session

    async def start(self) -> None:
        """Check keys and hooks and connect the store. Servers do it as they start.

        Raises:
            ConfigurationError: a key is missing or a hook is wrong.
        """
        await self._current()[0].start()

    async def ping(self) -> bool:
        """Ask the revocation store whether it answers now, whatever `on_outage` and a mirror let pass.

        For health checks. It takes one command, and no longer than the store's deadline.

        Raises:
            ConfigurationError: a setting was changed to a wrong value.
        """
        try:
            await self._current()[0].engine().store.stamp("ping")
        except StoreUnavailableError:
            return False
        return True

    async def close(self) -> None:
        """Release the store's connections of the running event loop. Servers do it as they stop."""
        await self._current()[0].close()

    async def create_access_token(
        self,
        identity: Any,
        fresh: Fresh = False,
        expires_delta: Expires = None,
        additional_claims: Mapping[str, Any] | None = None,
        additional_headers: Mapping[str, Any] | None = None,
    ) -> str:
        """Make an access token.

        Within a request of the same identity, the token belongs to that request's session.

        Args:
            identity: whom it is for; goes through `user_identity_loader`.
            fresh: whether it comes from a login just now; a timedelta or seconds since the
                epoch say until when.
            expires_delta: its lifetime: timedelta or seconds; False is never, None is
                `JWT_ACCESS_TOKEN_EXPIRES`.
            additional_claims: claims over those of `additional_claims_loader`.
            additional_headers: header parameters over those of `additional_headers_loader`.

        Raises:
            ValueError: the token would have a shape that is not accepted, such as a `sub`
                that is not text.
            TypeError: a value cannot be written as JSON.
        """
        spec = TokenSpec(
            identity=unproxied(identity),
            type=ACCESS,
            fresh=fresh,
            expires=expires_delta,
            claims=additional_claims,
            headers=additional_headers,
        )
        return await self._issue(spec, joins_session=True)

    async def create_refresh_token(
        self,
        identity: Any,
        expires_delta: Expires = None,
        additional_claims: Mapping[str, Any] | None = None,
        additional_headers: Mapping[str, Any] | None = None,
    ) -> str:
        """Make a refresh token, which lives for `JWT_REFRESH_TOKEN_EXPIRES`.

        See `create_access_token`.
        """
        spec = TokenSpec(
            identity=unproxied(identity),
            type=REFRESH,
            expires=expires_delta,
            claims=additional_claims,
            headers=additional_headers,
        )
        return await self._issue(spec)

    async def create_token(
        self,
        identity: Any,
        *,
        type: str,
        expires_delta: Expires = None,
        additional_claims: Mapping[str, Any] | None = None,
        additional_headers: Mapping[str, Any] | None = None,
    ) -> str:
        """Make a token for one purpose, such as a password reset.

        Only a view with `jwt_required(type=...)` accepts it; it is never an access token.
        See `create_access_token`; the lifetime is `JWT_ACCESS_TOKEN_EXPIRES`.

        Args:
            identity: whom it is for.
            type: the purpose.
            expires_delta: its lifetime.
            additional_claims: further claims.
            additional_headers: further header parameters.

        Raises:
            ValueError: the type is empty, or that of an access or refresh token.
        """
        if not type or type in (ACCESS, REFRESH):
            raise ValueError(f"create_token() makes tokens for a purpose: type={type!r} is none")
        spec = TokenSpec(
            identity=unproxied(identity),
            type=type,
            expires=expires_delta,
            claims=additional_claims,
            headers=additional_headers,
        )
        return await self._issue(spec)

    async def create_token_pair(
        self,
        identity: Any,
        *,
        fresh: Fresh = False,
        device: str | None = None,
        additional_claims: Mapping[str, Any] | None = None,
        additional_headers: Mapping[str, Any] | None = None,
        access_expires_delta: Expires = None,
        refresh_expires_delta: Expires = None,
    ) -> TokenPair:
        """Make the access and refresh token of a new session, as a login does.

        With `JWT_MAX_SESSIONS`, the user's least recently used sessions beyond are revoked.

        Args:
            identity: whom they are for.
            fresh: whether the access token is fresh.
            device: what to call the device in `list_sessions`, such as its browser's name; of a
                longer text the first 200 characters are kept, of anything else its text.
            additional_claims: further claims of both, and of all that follow them in the session;
                `sid`, `gen` and `type` are the session's own.
            additional_headers: further header parameters likewise.
            access_expires_delta: the access token's lifetime.
            refresh_expires_delta: the refresh token's lifetime.

        Returns:
            The tokens and their session's id, which both carry as `sid`.

        Raises:
            ValueError: a token would have a shape that is not accepted.
            TypeError: a value cannot be written as JSON.
        """
        spec = PairSpec(
            identity=unproxied(identity),
            fresh=fresh,
            device=device,
            claims=additional_claims,
            headers=additional_headers,
            access_expires=access_expires_delta,
            refresh_expires=refresh_expires_delta,
        )
        app_state, request_state = self._current()
        engine = app_state.engine()
        approve = partial(_refuse_lost_authority, engine, request_state)
        return await hand_out(app_state, request_state, await open_session(engine, spec, approve))

    async def rotate_refresh_token(
        self,
        *,
        identity: Any = None,
        device: str | None = None,
        additional_claims: Mapping[str, Any] | None = None,
        additional_headers: Mapping[str, Any] | None = None,
        access_expires_delta: Expires = None,
        refresh_expires_delta: Expires = None,
    ) -> TokenPair:
        """Replace this request's refresh token, in a view with `jwt_required(refresh=True)`.

        The refresh token is used up: its successor takes its place (RFC 9700 §2.2.2). For as long
        as `JWT_REFRESH_GRACE` says it leads to the same successor once more; who presents it
        later, or one before it, holds a copy, and the session is revoked. The access token is
        never fresh. A refresh token that was made alone, by `create_refresh_token`, becomes the
        first of a session.

        Args:
            identity: the user, as the loaders of claims, headers and keys get it. None is the
                user of this request where `user_identity_loader` makes the token's identity of
                it, else the token's identity.
            device: another label for the device; None leaves it as it is.
            additional_claims: claims over those that the session's tokens had, for these and all
                that follow.
            additional_headers: header parameters likewise.
            access_expires_delta: the access token's lifetime.
            refresh_expires_delta: the refresh token's lifetime.

        Returns:
            Both tokens, and the session's id.

        Raises:
            TokenReusedError: the token was replaced before; the session is revoked.
            SessionUnknownError: the store does not know the session.
            RevokedTokenError: the token, its session or its user was revoked.
            ExpiredTokenError: the session is older than `JWT_SESSION_MAX_AGE`.
            RuntimeError: this request has no refresh token that was checked.
            ValueError: `identity` is somebody else, or a token would have a shape that is not
                accepted.
            TypeError: a value cannot be written as JSON.
            ConfigurationError: the store keeps no sessions.
        """
        app_state, request_state = self._current()
        app_state.warn_of_memory()
        engine, result = app_state.engine(), request_state.result
        if result is None or result.type != REFRESH:
            raise RuntimeError("rotate_refresh_token() needs a view with jwt_required(refresh=True)")
        held = result.authentication
        spec = PairSpec(
            identity=await known_as(engine, held, identity),
            device=device,
            claims=additional_claims,
            headers=additional_headers,
            access_expires=access_expires_delta,
            refresh_expires=refresh_expires_delta,
        )
        try:
            pair = await rotate(engine, held, result.ref, spec, began_at=result.found_at)
        except TokenReusedError as reused:
            await send_reused(app_state, reused)
            raise
        await send_repeated(app_state, held, result.ref, pair.late_streak)
        return await hand_out(app_state, request_state, pair)

    async def decode_token(
        self, encoded_token: str, csrf_value: str | None = None, allow_expired: bool = False
    ) -> dict[str, Any]:
        """Verify a token's signature, times and shape, and return its claims.

        Neither type, revocation nor user are looked at: this proves who made a token, not
        that a request may use it.

        Args:
            encoded_token: the token.
            csrf_value: the CSRF value that it must hold; None does not look.
            allow_expired: whether it may have expired.

        Raises:
            JWTDecodeError: it is not accepted; the subclasses are PyJWT's exceptions too.
            CSRFError: its CSRF value is another.
        """
        engine = self._current()[0].engine()
        _, claims = await engine.decode(encoded_token, allow_expired=allow_expired)
        if csrf_value is not None:
            check_csrf(claims, csrf_value, engine.settings, refresh=claims["type"] == REFRESH)
        return claims

    async def get_jti(self, encoded_token: str) -> str | None:
        """The `jti` of a token that is valid now; None for a foreign one without.

        Raises:
            JWTDecodeError: it is not accepted.
        """
        jti: str | None = (await self.decode_token(encoded_token))["jti"]
        return jti

    async def get_csrf_token(self, encoded_token: str) -> str:
        """The CSRF value of a token that is valid now.

        Raises:
            JWTDecodeError: it is not accepted.
            KeyError: it has none.
        """
        value: str = (await self.decode_token(encoded_token))["csrf"]
        return value

    async def revoke_token(self, token: str | Mapping[str, Any] | None = None) -> None:
        """Revoke one token, for as long as it would have lived. A refresh token takes its session along.

        So says RFC 7009 §2.1: nothing that was made of it goes on, a successor above all.

        Args:
            token: an encoded token, which may have expired, or a decoded claim set; None is
                the token of this request.

        Raises:
            JWTDecodeError: it is no token of this application.
            RuntimeError: there is no token in this request.
            ValueError: the token has no `jti`.
        """
        app_state, request_state = self._current()
        engine = app_state.engine()
        if token is None:
            ref, kind = _own_ref(request_state, "revoke_token"), _type_of(request_state)
        else:
            if isinstance(token, Mapping):
                claims = token
            else:
                claims = await self.decode_token(token, allow_expired=True)
            ref, kind = _ref_of(engine, claims), claims.get("type")
        is_session = kind == REFRESH and ref.sid is not None
        ends_itself = await _check_before_revoking(
            engine,
            request_state,
            lambda own: (
                own.identity == ref.identity and (own.sid == ref.sid if is_session else own.jti == ref.jti)
            ),
        )
        if is_session and ref.sid is not None:
            await engine.store.revoke_session(ref.sid, latest((_session_end(engine), ref.expires_at)))
        else:
            await engine.store.revoke_token(ref)
        scope = "session" if is_session else "token"
        request_state.mark_revoked(ends_itself=ends_itself)
        await _send_revoked(app_state, scope, ref.identity, ref.jti, ref.sid)

    async def revoke_session(self, sid: str | None = None, *, identity: Any = None) -> bool:
        """Sign a device out: revoke a session's access and refresh tokens at once.

        Args:
            sid: the session's id; None is the session of this request, or its token alone where
                it belongs to no session.
            identity: whose session it has to be; goes through `user_identity_loader`. None is the
                user of this request; for a manager's method outside of a request, anybody.

        Returns:
            Whether there was such a session. Somebody else's is left alone.

        Raises:
            RuntimeError: there is no authenticated request where one is needed: in a request that
                is not authenticated, and with the adapters' function outside of one, `identity` has
                to be named.
            ValueError: this request's token has neither `sid` nor `jti`, or `identity` is given
                without a `sid`.
        """
        app_state, request_state = self._current()
        engine = app_state.engine()
        if sid is None:
            if identity is not None:
                raise ValueError("revoke_session(identity=...) needs the sid of a session")
            sid = _own_ref(request_state, "revoke_session").sid
            if sid is None:
                await self.revoke_token()
                return True
        elif identity is None and (request_state.in_request or not self._any_session):
            _own_ref(request_state, "revoke_session")
        own = request_state.ref
        holder, until = await _holder(engine, sid, own)
        if identity is not None:
            whose: str | None = await _name_of(engine, identity)
        else:
            whose = None if own is None else own.identity
        is_own = own is not None and own.sid == sid
        if whose not in (None, holder) or not (is_own or _is_text(sid)):
            return False
        ends_itself = await _check_before_revoking(engine, request_state, lambda own: own.sid == sid)
        await engine.store.revoke_session(sid, until)
        request_state.mark_revoked(ends_itself=ends_itself)
        await _send_revoked(app_state, "session", holder, sid=sid)
        return holder is not None

    async def list_sessions(
        self, identity: Any = None, *, limit: int = 100, cursor: str | None = None
    ) -> SessionPage:
        """The devices that a user is signed in on, the last used first. Nothing in it is a token.

        Args:
            identity: the user; goes through `user_identity_loader`. None is the user of this
                request.
            limit: how many at most, from 1 to 1000.
            cursor: the `cursor` of the page before; None is the first page.

        Raises:
            PageError: there is no such page: the cursor is none, or the limit. A client gets 400.
            RuntimeError: there is no authenticated request where one is needed.
            ConfigurationError: the store keeps no sessions.
        """
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= _LONGEST_PAGE:
            raise InvalidPageError(f"limit must be a whole number from 1 to {_LONGEST_PAGE}")
        app_state, request_state = self._current()
        engine, own = app_state.engine(), request_state.ref
        if identity is None:
            whose = _own_ref(request_state, "list_sessions").identity
        else:
            whose = await _name_of(engine, identity)
        found, following = await session_store(engine).list_sessions(whose, limit, cursor)
        current = None if own is None else own.sid
        return SessionPage(tuple(session_info(session, current) for session in found), following)

    async def revoke_user(self, identity: Any = None, *, keep_current: bool = False) -> None:
        """Revoke every token of a user made until now: sign out everywhere.

        Args:
            identity: the user; goes through `user_identity_loader`. None is the user of
                this request.
            keep_current: whether the session of this request, or its token where it has
                none, stays valid.

        Raises:
            RuntimeError: there is no authenticated request where one is needed.
            ValueError: `keep_current` of somebody else's session, or of a token that has
                neither `sid` nor `jti`.
        """
        app_state, request_state = self._current()
        engine = app_state.engine()
        own = _own_ref(request_state, "revoke_user") if identity is None or keep_current else None
        if identity is None and own is not None:
            text = own.identity
        else:
            text = await _name_of(engine, identity)
        keep = own if keep_current else None
        if keep is not None and ((keep.sid or keep.jti) is None or keep.identity != text):
            raise ValueError("keep_current needs a session or token of the same user to keep")
        ends_itself = await _check_before_revoking(
            engine, request_state, lambda own: own.identity == text and keep is None
        )
        await engine.store.revoke_user(text, keep)
        request_state.mark_revoked(ends_itself=ends_itself)
        await _send_revoked(app_state, "user", text)

    async def revoke_everything(self) -> None:
        """Revoke every token made until now, of everybody."""
        app_state, request_state = self._current()
        engine = app_state.engine()
        ends_itself = await _check_before_revoking(engine, request_state, lambda _: True)
        await engine.store.revoke_everything()
        request_state.mark_revoked(ends_itself=ends_itself)
        await _send_revoked(app_state, "everything")

    async def _issue(self, spec: TokenSpec, *, joins_session: bool = False) -> str:
        app_state, request_state = self._current()
        engine = app_state.engine()
        issued = await issue(engine, spec, request_state.ref if joins_session else None)
        await _refuse_lost_authority(engine, request_state, issued)
        await _send_issued(app_state, engine, issued)
        return issued.token


def operations_at(app_state: AppState) -> Operations:
    """The operations of one application, whichever context is active."""
    return Operations(lambda: (app_state, app_state.current_request_state()), any_session=True)


async def hand_out(app_state: AppState, request_state: RequestState, pair: NewPair) -> TokenPair:
    """Send the signals of a new pair, and return what an application gets of it."""
    engine = app_state.engine()
    await _send_issued(app_state, engine, pair.access)
    if pair.is_new:
        await _send_issued(app_state, engine, pair.refresh)
    identity = pair.access.claims.get(engine.settings.identity_claim)
    for sid in pair.ended:
        request_state.mark_revoked(ends_itself=False)
        await _send_revoked(app_state, "session", identity, sid=sid)
    return TokenPair(pair.access.token, pair.refresh.token, pair.sid)


async def known_as(engine: Engine, held: Authentication, identity: Any) -> Any:
    """A user as the application's loaders know them: what it gave, its user, or the token's identity.

    Raises:
        ValueError: what it gave is another identity than the token's.
    """
    identity = unproxied(identity)
    if identity is not None:
        if await subject_of(engine, identity) != held.identity:
            raise ValueError("rotate_refresh_token(identity=...) is another one than the token's")
        return identity
    if held.user is not None and "user_identity" in engine.hooks:
        try:
            if await subject_of(engine, held.user) == held.identity:
                return held.user
        except JWTExtendedException:
            raise
        except Exception as problem:  # noqa: BLE001  # it wants what the application logs in with, which is no user
            log.debug("user_identity_loader takes no user: %s", type(problem).__name__)
    return held.identity


async def send_reused(app_state: AppState, reused: TokenReusedError) -> None:
    """Log and signal a replay, and that its session was revoked."""
    claims, sid = reused.jwt_data, reused.sid
    identity = claims.get(app_state.engine().settings.identity_claim)
    log.warning(
        "A refresh token was used again (%s); its session %r is revoked",
        reused.kind,
        sid,
        extra={"event": "token_reused", "kind": reused.kind, "sid": sid, "jti": claims.get("jti")},
    )
    await notify(
        token_reused, app_state.app, kind=reused.kind, identity=identity, jti=claims.get("jti"), sid=sid
    )
    if reused.kind != "revoked_session":
        await notify(token_revoked, app_state.app, scope="session", identity=identity, jti=None, sid=sid)


async def send_repeated(app_state: AppState, held: Authentication, ref: TokenRef, in_a_row: int) -> None:
    """Log and signal a refresh token that came again late, as those before it did."""
    if in_a_row < 2:  # a single answer may be lost
        return
    log.warning(
        "A refresh token came again late, for the %dth time in a row; its session is %r",
        in_a_row,
        ref.sid,
        extra={"event": "token_repeated", "in_a_row": in_a_row, "sid": ref.sid, "jti": ref.jti},
    )
    await notify(
        token_repeated, app_state.app, in_a_row=in_a_row, identity=held.identity, jti=ref.jti, sid=ref.sid
    )


async def _send_issued(app_state: AppState, engine: Engine, issued: Issued) -> None:
    claims = issued.claims
    await notify(
        token_issued,
        app_state.app,
        identity=claims.get(engine.settings.identity_claim),
        type=claims.get("type"),
        jti=claims.get("jti"),
        sid=claims.get("sid"),
    )


async def _send_revoked(
    app_state: AppState,
    scope: str,
    identity: str | None = None,
    jti: str | None = None,
    sid: str | None = None,
) -> None:
    app_state.warn_of_memory()
    await notify(token_revoked, app_state.app, scope=scope, identity=identity, jti=jti, sid=sid)


async def _check_before_revoking(
    engine: Engine, request_state: RequestState, is_own: Callable[[TokenRef], bool]
) -> bool:
    """Check that the request's own token is still valid before the request revokes anything.

    What was revoked meanwhile has no say over others, and must not be hidden by the request's own
    revocation: it could make new tokens afterwards.

    Args:
        engine: the application's engine.
        request_state: the request's state.
        is_own: says if the request's own token is what it revokes.

    Returns:
        True if the request itself ends its own token, which was valid until now.

    Raises:
        RevokedTokenError: the token was revoked, and the request would revoke something else.
    """
    held = request_state.rests_on
    if held is None:
        return False
    valid, own = await engine.store.check(held.ref) is True, is_own(held.ref)
    if not (valid or own):
        raise RevokedTokenError(held.authentication.header, held.authentication.claims)
    return valid and own


async def _refuse_lost_authority(engine: Engine, request_state: RequestState, issued: Issued) -> None:
    """Refuse a token that a request gets for itself if it was revoked since its check.

    The new token's stamp is taken already, so whatever is revoked after this check
    revokes the new token as well: nobody outlives a sign-out by being slow.
    """
    held = request_state.rests_on
    if held is None:
        return
    current = held.authentication
    its_own = holder_of(engine, issued.claims) == held.ref.identity
    if its_own and await engine.store.check(held.ref) is not True:
        raise RevokedTokenError(current.header, current.claims)


async def _holder(engine: Engine, sid: Any, own: TokenRef | None) -> tuple[str | None, float | None]:
    """Whose a session is, if that is known, and when the last of its tokens expires."""
    until = _session_end(engine)
    if own is not None and own.sid == sid:
        return own.identity, latest((until, own.expires_at))
    if engine.sessions is not None and _is_text(sid):
        session = await engine.sessions.get_session(sid)
        if session is not None:
            return session.identity, session.ends_at
    return None, until


async def _name_of(engine: Engine, identity: Any) -> str:
    """An identity that an application names, as stores know it.

    Raises:
        ValueError: no token can be of such an identity: nobody would be signed out, in silence.
    """
    subject = await subject_of(engine, unproxied(identity))
    claim_set.refuse_no_subject(subject, engine.settings)
    return claim_set.identity_text(subject)


def _own_ref(request_state: RequestState, name: str) -> TokenRef:
    ref = request_state.ref
    if ref is None:
        raise RuntimeError(f"{name}() without a token or identity needs an authenticated request")
    return ref


def _type_of(request_state: RequestState) -> str | None:
    return None if request_state.result is None else request_state.result.type


def _ref_of(engine: Engine, claims: Mapping[str, Any]) -> TokenRef:
    # A token without `jti` reads as one with None, which no token may hold.
    held = {name: value for name, value in claims.items() if (name, value) != ("jti", None)}
    ref = claim_set.check_shape(held, engine.settings)[-1]
    refuse_odd_texts(ref)  # a claim set need not come out of a token
    return ref


def _session_end(engine: Engine) -> float | None:
    """Until when a session must stay revoked of which nothing more is known; None is for ever.

    A store that keeps no sessions does not know how long the tokens of one live.
    """
    return None if engine.sessions is None else latest_expiry(engine.settings, engine.clock())


def _is_text(sid: Any) -> bool:
    """Whether it can be an id at all: applications pass on what clients send."""
    try:
        return isinstance(sid, str) and len(sid) <= LONGEST_ID and bool(sid.encode("utf-8"))
    except UnicodeEncodeError:
        return False
