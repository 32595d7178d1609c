"""Operations that create, read and revoke tokens, shared by managers and adapters.

Inside a request they know its user. Those that need no user also work outside a request, in a
job or a shell.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from async_jwt.app_state import AppState, Current
from async_jwt.core import claims as claim_set
from async_jwt.core.authenticate import Authentication, RequestState, authenticate_text
from async_jwt.core.checks import check_csrf
from async_jwt.core.claims import Fresh
from async_jwt.core.concurrency import notify, refuse_coroutine
from async_jwt.core.cookie_scope import check_scope
from async_jwt.core.engine import Engine
from async_jwt.core.issue import Issued, TokenPair, TokenSpec, holder_of, issue, subject_of
from async_jwt.core.observer import kind_of
from async_jwt.core.parsers import Expires
from async_jwt.core.permissions import Granted, Names, role_list, scope_text
from async_jwt.core.policy import ACCESS, REFRESH, Allow, Policy
from async_jwt.core.proxies import unproxied
from async_jwt.core.rotation import NewPair, PairSpec, open_session, rotate, session_store
from async_jwt.core.sessions import SessionPage, latest_expiry, session_info
from async_jwt.core.single_use import refusal, refuse_unfit
from async_jwt.errors import (
    InvalidPageError,
    JWTExtendedException,
    StoreUnavailableError,
    TokenReusedError,
    WrongTokenError,
)
from async_jwt.issuers.identity import IssuerIdentity, is_of_realm, plain_name, realm_name
from async_jwt.signals import token_issued, token_repeated, token_reused, token_revoked, user_loaded
from async_jwt.stores.contract import LONGEST_ID, TokenRef, latest, refuse_odd_texts

__all__ = [
    "Operations",
    "check_before_revoking",
    "hand_out",
    "known_as",
    "operations_at",
    "send_issued",
    "send_repeated",
    "send_reused",
    "send_revoked",
    "send_used",
]


_LONGEST_PAGE = 1000

log: logging.Logger = logging.getLogger("async_jwt")


class Operations:
    """Coroutines that create, read and revoke tokens.

    All of them may raise `ConfigurationError` for a missing or invalid setting, `HookError` for a
    hook that returns an invalid value, and `StoreUnavailableError` when the store does not answer.
    Those that create tokens raise `RevokedTokenError` if the request's own token was revoked after
    its check.

    Most take the name of a realm: "" is the unnamed one. None is the current one: for functions that of the
    request's last check, else the unnamed one; for methods of a manager, or of a realm, it is their own. An
    unknown name raises `ConfigurationError`.

    Args:
        current: returns the application's state and the request that a call is about; raises
            RuntimeError if that is not clear.
        any_session: True if `revoke_session(sid)` outside a request may revoke any user's session,
            as operators need.
    """

    def __init__(self, current: Current, *, any_session: bool) -> None:
        self._current = current
        self._any_session = any_session

    def _here(self, realm: str | None) -> tuple[AppState, RequestState]:
        app_state, request = self._current(realm)
        return app_state, app_state.state_of(request)

    async def start(self) -> None:
        """Check keys and hooks, and connect the store.

        Quart servers call this at startup. Under Flask, call it yourself, or leave it to the first
        request.

        Raises:
            ConfigurationError: a key is missing or a hook is wrong.
        """
        await self._current()[0].start()

    async def ping(self) -> bool:
        """Return True if the revocation store answers right now.

        For health checks: ignores `on_outage` and the mirror, sends one command, and takes no longer
        than the store's deadline.

        Raises:
            ConfigurationError: a setting was changed to an invalid value.
        """
        try:
            await self._current()[0].engine().store.stamp("ping")
        except StoreUnavailableError:
            return False
        return True

    async def close(self) -> None:
        """Close the running event loop's store connections. Quart servers call this at shutdown."""
        await self._current()[0].close()

    async def create_access_token(
        self,
        identity: Any,
        fresh: Fresh = False,
        expires_delta: Expires = None,
        additional_claims: Mapping[str, Any] | None = None,
        additional_headers: Mapping[str, Any] | None = None,
        *,
        scopes: Granted = None,
        roles: Granted = None,
        realm: str | None = None,
    ) -> str:
        """Create an access token.

        In a request of the same identity, the token joins that request's session.

        Args:
            identity: the user that the token is for; passed through `user_identity_loader`.
            fresh: True if the user has just logged in. A timedelta from now, or seconds since the
                epoch, limits how long the token is fresh.
            expires_delta: the lifetime, as a timedelta or in seconds. False never expires; None
                uses `JWT_ACCESS_TOKEN_EXPIRES`.
            additional_claims: claims that override those of `additional_claims_loader`.
            additional_headers: header parameters that override those of `additional_headers_loader`.
            scopes: the token's scopes: one, or a list. They are its `scope` claim (RFC 8693 §4.2), and
                override the loader's. None leaves that to the loader; an empty list grants none.
            roles: its roles, likewise: the claim `roles`, a list (RFC 9068 §2.2.3.1).
            realm: the realm; None for the current one.

        Returns:
            The encoded token.

        Raises:
            ValueError: the token would not be accepted later, such as for a `sub` that is not a string.
            TypeError: a value cannot be serialized as JSON.
        """
        spec = TokenSpec(
            identity=unproxied(identity),
            type=ACCESS,
            fresh=fresh,
            expires=expires_delta,
            claims=_granting(additional_claims, scopes, roles),
            headers=additional_headers,
        )
        return await self._issue(spec, realm, joins_session=True)

    async def create_refresh_token(
        self,
        identity: Any,
        expires_delta: Expires = None,
        additional_claims: Mapping[str, Any] | None = None,
        additional_headers: Mapping[str, Any] | None = None,
        *,
        scopes: Granted = None,
        roles: Granted = None,
        realm: str | None = None,
    ) -> str:
        """Create a refresh token, valid for `JWT_REFRESH_TOKEN_EXPIRES` by default.

        Arguments and errors are those of `create_access_token`.
        """
        spec = TokenSpec(
            identity=unproxied(identity),
            type=REFRESH,
            expires=expires_delta,
            claims=_granting(additional_claims, scopes, roles),
            headers=additional_headers,
        )
        return await self._issue(spec, realm)

    async def create_token(
        self,
        identity: Any,
        *,
        type: str,
        expires_delta: Expires = None,
        additional_claims: Mapping[str, Any] | None = None,
        additional_headers: Mapping[str, Any] | None = None,
        scopes: Granted = None,
        roles: Granted = None,
        realm: str | None = None,
    ) -> str:
        """Create a token for one purpose, such as a password reset.

        Only views with `jwt_required(type=...)` accept it; it never counts as an access token.
        See `create_access_token` for details of the arguments.

        Args:
            identity: the user that the token is for.
            type: the purpose.
            expires_delta: the lifetime; None uses `JWT_ACCESS_TOKEN_EXPIRES`.
            additional_claims: additional claims.
            additional_headers: additional header parameters.
            scopes: its scopes.
            roles: its roles.
            realm: the realm; None for the current one.

        Returns:
            The encoded token.

        Raises:
            ValueError: `type` is empty, or the type of an access or refresh token.
        """
        if not type or type in (ACCESS, REFRESH):
            raise ValueError(f"create_token() needs a purpose of its own: type={type!r} is empty or reserved")
        spec = TokenSpec(
            identity=unproxied(identity),
            type=type,
            expires=expires_delta,
            claims=_granting(additional_claims, scopes, roles),
            headers=additional_headers,
        )
        return await self._issue(spec, realm)

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
        persistent: bool | None = None,
        counts: bool = True,
        scopes: Granted = None,
        roles: Granted = None,
        realm: str | None = None,
    ) -> TokenPair:
        """Start a session, as a login does: create its access token and refresh token.

        If the user then has more than `JWT_MAX_SESSIONS` sessions, the least recently used ones are
        revoked. A session of somebody else who acts as the user (impersonation) is not counted, nor
        revoked for this: pass `counts=False`, or an `act` claim (RFC 8693 §4.1) in `additional_claims`, which
        `list_sessions` shows.

        Args:
            identity: the user that the tokens are for; passed through `user_identity_loader`.
            fresh: True if the access token is fresh, or until when; see `create_access_token`.
            device: a label for the device in `list_sessions`, such as the browser's name. It is
                converted to text and cut to 200 characters.
            additional_claims: additional claims for both tokens and for all later tokens of the
                session, which sets `sid`, `gen` and `type` itself.
            additional_headers: additional header parameters, likewise.
            access_expires_delta: the lifetime of the session's access tokens, this one and all later
                ones: a timedelta or seconds. None follows `JWT_ACCESS_TOKEN_EXPIRES`.
            refresh_expires_delta: the lifetime of its refresh tokens, likewise. None follows
                `JWT_REFRESH_TOKEN_EXPIRES`; `JWT_SESSION_MAX_AGE` still ends the session.
            persistent: True keeps the session's cookies beyond the end of the browser session
                ("remember me"), False does not; None follows `JWT_SESSION_COOKIE`.
            counts: False leaves the session out of `JWT_MAX_SESSIONS`, for as long as it lasts.
            scopes: the scopes of the session's tokens; see `create_access_token`. A refresh never adds to
                them: it keeps those that the claims loader still grants, if that names `scope`.
            roles: their roles, likewise.
            realm: the realm; None for the current one.

        Returns:
            The tokens and their session's id, which both carry as `sid`.

        Raises:
            ValueError: a token would not be accepted later, or an argument is invalid.
            TypeError: a value cannot be serialized as JSON.
        """
        if not isinstance(counts, bool):
            raise ValueError("create_token_pair(counts=...) must be True or False")  # noqa: TRY004  # as others
        spec = PairSpec(
            counts=counts,
            identity=unproxied(identity),
            fresh=fresh,
            device=device,
            claims=_granting(additional_claims, scopes, roles),
            headers=additional_headers,
            access_expires=access_expires_delta,
            refresh_expires=refresh_expires_delta,
            persistent=persistent,
        )
        app_state, request_state = self._here(realm)
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
        scopes: Granted = None,
        roles: Granted = None,
        realm: str | None = None,
    ) -> TokenPair:
        """Replace this request's refresh token, in a view with `jwt_required(refresh=True)`.

        A refresh token is used once: its successor replaces it (RFC 9700 §2.2.2). Within
        `JWT_REFRESH_GRACE`, presenting it again yields the same successor. If it is presented later,
        or if an older one is, someone holds a copy, and the session is revoked. The new access token
        is never fresh. A refresh token from `create_refresh_token`, which has no session, becomes
        the first of a new one.

        Args:
            identity: the user to pass to the loaders of claims, headers and keys. None passes this
                request's user if `user_identity_loader` maps it to the token's identity, or else
                the token's identity.
            device: a new label for the device; None keeps the label.
            additional_claims: claims that override the session's, for these tokens and all later
                ones.
            additional_headers: header parameters, likewise.
            access_expires_delta: this access token's lifetime; None keeps the one that the login chose.
            refresh_expires_delta: this refresh token's lifetime, likewise.
            scopes: the scopes that these and all later tokens keep, of those that the session has
                (RFC 6749 §6); None keeps all. If `additional_claims_loader` names `scope`, those that it does
                not grant any more are gone as well. A repeat within the grace leaves the successor as it is.
            roles: the roles that they keep, likewise.
            realm: the realm; None for the current one.

        Returns:
            Both tokens and the session's id.

        Raises:
            TokenReusedError: the token was already replaced; the session is revoked.
            SessionUnknownError: the store does not know the session.
            RevokedTokenError: the token, its session or its user was revoked.
            ExpiredTokenError: the session is older than `JWT_SESSION_MAX_AGE`.
            RuntimeError: no refresh token was checked in this request.
            InvalidScopeError: the session does not have a scope that is to be kept. A client gets 400.
            ValueError: `identity` is not the token's, the session does not have a role that is to be kept,
                or a token would not be accepted later.
            TypeError: a value cannot be serialized as JSON.
            ConfigurationError: the store does not support sessions.
        """
        app_state, request_state = self._here(realm)
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
            keeps=_granting(None, scopes, roles),
        )
        try:
            pair = await rotate(engine, held, result.ref, spec, began_at=result.found_at)
        except TokenReusedError as reused:
            await send_reused(app_state, reused)
            raise
        await send_repeated(app_state, held, result.ref, pair.late_streak)
        request_state.successor = pair.refresh.claims
        return await hand_out(app_state, request_state, pair)

    async def decode_token(
        self,
        encoded_token: str,
        csrf_value: str | None = None,
        allow_expired: bool = False,
        *,
        realm: str | None = None,
    ) -> dict[str, Any]:
        """Verify a token's signature, times and shape, and return its claims.

        This is no check of a token: type, revocation and user are not looked at. The result proves
        who issued the token, not that anyone may use it. `authenticate_token` is the check.

        Args:
            encoded_token: the token.
            csrf_value: the CSRF value that the token must contain; None skips this check.
            allow_expired: True accepts an expired token.
            realm: the realm; None for the current one.

        Returns:
            The token's claims.

        Raises:
            JWTDecodeError: the token is invalid; its subclasses are also PyJWT's exceptions.
            CSRFError: the token's CSRF value is a different one.
        """
        engine = self._current(realm)[0].engine()
        _, claims = await engine.decode(encoded_token, allow_expired=allow_expired)
        if csrf_value is not None:
            check_csrf(claims, csrf_value, engine.settings, refresh=claims["type"] == REFRESH)
        return claims

    async def authenticate_token(
        self,
        text: str,
        *,
        type: str | Collection[str] = ACCESS,
        fresh: bool = False,
        skip_revocation_check: bool = False,
        scopes: Names = None,
        roles: Names = None,
        claims: Mapping[str, Any] | None = None,
        allow: Allow | None = None,
        realm: str | None = None,
    ) -> Authentication:
        """Check a token that did not come in a request: a first WebSocket message, Socket.IO, MQTT, a job.

        Runs every check of `jwt_required`: signature, times, type, freshness, revocation, the
        application's verification, and the user lookup. It changes nothing about the current
        request: `current_user` stays. Never use it for the token of a cookie: it checks no CSRF value.
        A refresh token is only read: a replay is refused, but revokes nothing.

        Args:
            text: the encoded token.
            type: the type, or types, of tokens to accept, such as "refresh" or a purpose.
            fresh: True requires a token from a recent login.
            skip_revocation_check: True accepts revoked tokens.
            scopes: the scopes that it must have; see `jwt_required`, also for the next three.
            roles: the roles that it must have.
            claims: claims that it must have, with their values.
            allow: takes the `Authentication` and returns True or False.
            realm: the realm; None for the current one.

        Returns:
            What the token says, and its user. Its `location` is "text".

        Raises:
            JWTExtendedException: the token is refused, or cannot be decided.
            ConfigurationError: an argument is invalid.
            TypeError: `text` is a coroutine that was not awaited.
        """
        refuse_coroutine(text, "await the call that returns the token")
        policy = Policy.of(
            fresh=fresh,
            skip_revocation_check=skip_revocation_check,
            type=type,
            scopes=scopes,
            roles=roles,
            claims=claims,
            allow=allow,
        )
        app_state = self._current(realm)[0]
        engine = app_state.engine()
        if engine.observer is None:
            result, loads = await authenticate_text(engine, text, policy)
        else:
            with engine.observer.measure("check", "check") as measurement:
                result, loads = await authenticate_text(engine, text, policy)
                measurement.outcome = "accepted"
                measurement.details = {"location": result.location, "type": kind_of(result.type)}
        found = result.authentication
        if loads:
            await notify(
                user_loaded, app_state.app, user=found.user, identity=found.identity, **app_state.labels
            )
        return found

    async def get_jti(self, encoded_token: str, *, realm: str | None = None) -> str | None:
        """Return the `jti` of a token that is valid now; None for a foreign token without one.

        Args:
            encoded_token: the token.
            realm: the realm; None for the current one.

        Raises:
            JWTDecodeError: the token is invalid.
        """
        jti: str | None = (await self.decode_token(encoded_token, realm=realm))["jti"]
        return jti

    async def get_csrf_token(self, encoded_token: str, *, realm: str | None = None) -> str:
        """Return the CSRF value of a token that is valid now.

        Args:
            encoded_token: the token.
            realm: the realm; None for the current one.

        Raises:
            JWTDecodeError: the token is invalid.
            KeyError: the token has no CSRF value.
        """
        value: str = (await self.decode_token(encoded_token, realm=realm))["csrf"]
        return value

    async def revoke_token(
        self, token: str | Mapping[str, Any] | None = None, *, realm: str | None = None
    ) -> None:
        """Revoke one token for the rest of its lifetime. Revoking a refresh token revokes its session.

        RFC 7009 §2.1 asks for this: tokens derived from a refresh token, above all its successor,
        must not stay valid.

        Args:
            token: an encoded token, which may have expired, or a decoded claim set; None revokes
                this request's token.
            realm: the realm; None for the current one.

        Raises:
            JWTDecodeError: the token is not one of this application's.
            RuntimeError: `token` is None and this request has no token.
            ValueError: the token has no `jti`.
        """
        app_state, request_state = self._here(realm)
        engine = app_state.engine()
        if token is None:
            ref, kind = _own_ref(request_state, "revoke_token"), _type_of(request_state)
        else:
            if isinstance(token, Mapping):
                claims = token
            else:
                claims = await self.decode_token(token, allow_expired=True, realm=realm)
            ref, kind = await _ref_of(engine, claims), claims.get("type")
        is_session = kind == REFRESH and ref.sid is not None
        ends_itself = await check_before_revoking(
            app_state,
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
        await send_revoked(app_state, scope, ref.identity, ref.jti, ref.sid)

    async def consume_token(
        self,
        token: str | Mapping[str, Any] | None = None,
        *,
        type: str | None = None,
        others: bool = False,
        realm: str | None = None,
    ) -> bool:
        """Use a token once: of all callers, in all processes, the first one gets True.

        The token is revoked from then on, and nothing revives it. For purpose tokens: password resets,
        invitations, sign-in links, WebSocket tickets. `jwt_required(once=True)` does this for a view.

        Of a given token, this checks the signature, the times, the type and the store's own revocations, as
        `decode_token` and the store do. Call `authenticate_token` first where the user, your own
        verification or a blocklist of yours matter. Any outage raises `StoreUnavailableError`, whatever
        `on_outage` is; the token may then be used.

        Args:
            token: an encoded token, or a decoded claim set; None uses this request's token.
            type: the type that a given token must have, such as "reset". None accepts any but "refresh".
            others: True also ends this user's other tokens of the same type that were made until now.
                A counter of the user and the type is raised, and each token carries the counter that it was
                made under: it does not depend on clocks, nor on how many tokens there are. They are refused
                with the code `token_used`. In a view with `once=True`, whose token is used already, this ends
                the others and returns True.
            realm: the realm; None for the current one.

        Returns:
            True if this call used the token. False if it was used or revoked before; then nothing changes.

        Raises:
            JWTDecodeError: the token is not one of this application's, or has expired.
            WrongTokenError: the token is of another type.
            RuntimeError: `token` is None and this request has no token.
            ValueError: the token has no `jti` or never expires, it is a refresh token, or `others` is True
                for an access token.
            ConfigurationError: the store does not support it.
        """
        app_state, request_state = self._here(realm)
        engine = app_state.engine()
        store = engine.single_use
        if token is None:
            ref = _own_ref(request_state, "consume_token")
        elif isinstance(token, Mapping):
            check_scope(token, engine.scope)
            ref = await _ref_of(engine, token)
        else:
            ref = await engine.ref_of(token)
        if type is not None and ref.type != type:
            raise WrongTokenError
        refuse_unfit(engine, ref, others=others)
        held = request_state.rests_on
        if held is not None and others and held.token in request_state.consumed and held.ref.jti == ref.jti:
            # The view's guard has used it: a mark of the same user and type, for no token, ends the others.
            ref, held = ref._replace(jti=str(uuid.uuid4())), None
        elif held is not None and (held.ref.identity, held.ref.jti) != (ref.identity, ref.jti):
            await check_before_revoking(app_state, request_state, lambda _: False)
            held = None
        if await store.consume_token(ref, others=others) is not True:
            return False
        request_state.mark_revoked(ends_itself=False)
        if held is not None:
            request_state.mark_used(held)
        await send_used(app_state, ref, others=others)
        return True

    async def revoke_session(
        self, sid: str | None = None, *, identity: Any = None, realm: str | None = None
    ) -> bool:
        """Sign out a device: revoke a session's access and refresh tokens at once.

        Args:
            sid: the session's id. None revokes this request's session, or only its token if it
                belongs to no session.
            identity: the user who must own the session; passed through `user_identity_loader`.
                None means this request's user or, for a manager's method outside a request, any user.
            realm: the realm; None for the current one.

        Returns:
            True if the session was found. Another user's session is left alone: False.

        Raises:
            RuntimeError: an authenticated request is needed and there is none. Pass `sid` and
                `identity` in a request that is not authenticated and, to the adapters' function,
                outside a request.
            ValueError: this request's token has neither `sid` nor `jti`, or `identity` is given
                without a `sid`.
        """
        app_state, request_state = self._here(realm)
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
        if holder is not None and not is_of_realm(engine.settings.realm, holder):
            return False
        if identity is not None:
            whose: str | None = await _name_of(engine, identity)
        else:
            whose = None if own is None else own.identity
        is_own = own is not None and own.sid == sid
        if whose not in (None, holder) or not (is_own or _is_text(sid)):
            return False
        ends_itself = await check_before_revoking(app_state, request_state, lambda own: own.sid == sid)
        await engine.store.revoke_session(sid, until)
        request_state.mark_revoked(ends_itself=ends_itself)
        await send_revoked(app_state, "session", holder, sid=sid)
        return holder is not None

    async def list_sessions(
        self,
        identity: Any = None,
        *,
        limit: int = 100,
        cursor: str | None = None,
        realm: str | None = None,
    ) -> SessionPage:
        """List the devices a user is signed in on, most recently used first. No tokens are included.

        Args:
            identity: the user; passed through `user_identity_loader`. None means this request's
                user.
            limit: the maximum number of sessions on the page, from 1 to 1000.
            cursor: the previous page's `cursor`; None returns the first page.
            realm: the realm; None for the current one.

        Returns:
            One page of sessions, and the cursor of the next page.

        Raises:
            InvalidPageError: `cursor` or `limit` is invalid. A client gets 400.
            RuntimeError: `identity` is None and this request is not authenticated.
            ConfigurationError: the store does not support sessions.
        """
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= _LONGEST_PAGE:
            raise InvalidPageError(f"limit must be a whole number from 1 to {_LONGEST_PAGE}")
        app_state, request_state = self._here(realm)
        engine, own = app_state.engine(), request_state.ref
        if identity is None:
            whose = _own_ref(request_state, "list_sessions").identity
        else:
            whose = await _name_of(engine, identity)
        found, following = await session_store(engine).list_sessions(whose, limit, cursor)
        current = None if own is None else own.sid
        return SessionPage(tuple(session_info(session, current) for session in found), following)

    async def revoke_user(
        self, identity: Any = None, *, keep_current: bool = False, realm: str | None = None
    ) -> None:
        """Sign out a user everywhere: revoke all of the user's tokens created until now.

        Args:
            identity: the user; passed through `user_identity_loader`. None means this request's
                user.
            keep_current: True keeps this request's session valid, or only its token if it has no
                session.
            realm: the realm; None for the current one.

        Raises:
            RuntimeError: `identity` is None or `keep_current` is True, and this request is not
                authenticated.
            ValueError: `keep_current` would keep another user's session, or a token that has
                neither `sid` nor `jti`.
        """
        app_state, request_state = self._here(realm)
        engine = app_state.engine()
        own = _own_ref(request_state, "revoke_user") if identity is None or keep_current else None
        if identity is None and own is not None:
            text = own.identity
        else:
            text = await _name_of(engine, identity)
        keep = own if keep_current else None
        if keep is not None and ((keep.sid or keep.jti) is None or keep.identity != text):
            raise ValueError("keep_current needs a session or token of the same user to keep")
        if keep is not None and keep.sid is not None:
            keep = keep._replace(jti=None, type="")  # the session goes on, even if its access token ended
        ends_itself = await check_before_revoking(
            app_state, request_state, lambda own: own.identity == text and keep is None
        )
        await engine.store.revoke_user(text, keep)
        request_state.mark_revoked(ends_itself=ends_itself)
        await send_revoked(app_state, "user", text)

    async def expire_access_tokens(self, identity: Any = None, *, realm: str | None = None) -> None:
        """End a user's access tokens that were created until now, as after a change of roles.

        Refresh tokens and sessions go on: a client gets 401 with the code `token_stale`, refreshes, and has a
        token with the new claims. Unlike `revoke_user(keep_current=True)`, this ends the access tokens of
        every session.

        Args:
            identity: the user; passed through `user_identity_loader`. None means this request's user.
            realm: the realm; None for the current one.

        Raises:
            RuntimeError: `identity` is None and this request is not authenticated.
            ValueError: no token can have this identity.
            ConfigurationError: the store does not support it.
        """
        app_state, request_state = self._here(realm)
        engine = app_state.engine()
        store = engine.access_expiry
        if identity is None:
            text = _own_ref(request_state, "expire_access_tokens").identity
        else:
            text = await _name_of(engine, identity)
        held = request_state.rests_on
        ends_itself = await check_before_revoking(
            app_state, request_state, lambda own: own.identity == text and own.type == ACCESS
        )
        await store.expire_access_tokens(text)
        request_state.mark_expired(held if ends_itself else None)
        await send_revoked(app_state, "access", text)

    async def revoke_everything(self, *, realm: str | None = None) -> None:
        """Revoke all tokens of all users created until now: of all realms, or of one named realm.

        Args:
            realm: the named realm; None is that of the object whose method this is.
        """
        app_state, request_state = self._here(realm)
        engine = app_state.engine()
        ends_itself = await check_before_revoking(app_state, request_state, lambda _: True, and_others=True)
        await engine.store.revoke_everything()
        request_state.mark_revoked(ends_itself=ends_itself)
        await send_revoked(app_state, "everything")

    async def _issue(self, spec: TokenSpec, realm: str | None, *, joins_session: bool = False) -> str:
        app_state, request_state = self._here(realm)
        engine = app_state.engine()
        issued = await issue(
            engine,
            spec,
            request_state.result,
            joins_session=joins_session,
            successor=request_state.successor,
        )
        await _refuse_lost_authority(engine, request_state, issued)
        await send_issued(app_state, engine, issued)
        return issued.token


def operations_at(app_state: AppState) -> Operations:
    """Return the operations of one application, regardless of the active context."""

    def current(realm: str | None = None) -> tuple[AppState, Any | None]:
        return (app_state if realm is None else app_state.of_realm(realm)), app_state.current_request()

    return Operations(current, any_session=True)


async def hand_out(app_state: AppState, request_state: RequestState, pair: NewPair) -> TokenPair:
    """Send the signals of a new pair, and return the pair in the form that applications get."""
    engine = app_state.engine()
    await send_issued(app_state, engine, pair.access)
    if pair.is_new:
        await send_issued(app_state, engine, pair.refresh)
    identity = pair.access.claims.get(engine.settings.identity_claim)
    for sid in pair.ended:
        request_state.mark_revoked(ends_itself=False)
        await send_revoked(app_state, "session", identity, sid=sid)
    return TokenPair(pair.access.token, pair.refresh.token, pair.sid)


async def known_as(engine: Engine, held: Authentication, identity: Any) -> Any:
    """Return the user to pass to loaders: the given identity, the loaded user, or the token's identity.

    Raises:
        ValueError: the given identity is not the token's.
    """
    identity = unproxied(identity)
    if identity is not None:
        if await subject_of(engine, identity) != held.identity:
            raise ValueError("rotate_refresh_token(identity=...) does not match the token's identity")
        return identity
    if held.user is not None and "user_identity" in engine.hooks:
        try:
            if await subject_of(engine, held.user) == held.identity:
                return held.user
        except JWTExtendedException:
            raise
        except Exception as problem:  # noqa: BLE001  # it takes what the application logs in with, not a user
            log.debug("user_identity_loader does not accept the loaded user: %s", type(problem).__name__)
    return held.identity


async def send_reused(app_state: AppState, reused: TokenReusedError) -> None:
    """Log and signal a replay and the revocation of its session."""
    claims, sid = reused.jwt_data, reused.sid
    identity = claims.get(app_state.engine().settings.identity_claim)
    log.warning(
        "A refresh token was used again (%s); its session %r is revoked",
        reused.kind,
        sid,
        extra={"event": "token_reused", "kind": reused.kind, "sid": sid, "jti": claims.get("jti")},
    )
    await notify(
        token_reused,
        app_state.app,
        kind=reused.kind,
        identity=identity,
        jti=claims.get("jti"),
        sid=sid,
        **app_state.labels,
    )
    if reused.kind != "revoked_session":
        await notify(
            token_revoked,
            app_state.app,
            scope="session",
            identity=identity,
            jti=None,
            sid=sid,
            **app_state.labels,
        )


async def send_repeated(app_state: AppState, held: Authentication, ref: TokenRef, in_a_row: int) -> None:
    """Log and signal a refresh token that was repeated late, if those before it were too."""
    if in_a_row < 2:  # a single response may get lost
        return
    log.warning(
        "A refresh token was repeated late, %d times in a row; its session is %r",
        in_a_row,
        ref.sid,
        extra={"event": "token_repeated", "in_a_row": in_a_row, "sid": ref.sid, "jti": ref.jti},
    )
    await notify(
        token_repeated,
        app_state.app,
        in_a_row=in_a_row,
        identity=held.identity,
        jti=plain_name(app_state.realm, ref.jti),
        sid=ref.sid,
        **app_state.labels,
    )


async def send_used(app_state: AppState, ref: TokenRef, *, others: bool = False) -> None:
    """Send the signals of a token that was used, and of its purpose if others ended with it."""
    await send_revoked(app_state, "token", ref.identity, ref.jti, ref.sid)
    if others:
        await send_revoked(app_state, "purpose", ref.identity)


async def send_issued(app_state: AppState, engine: Engine, issued: Issued) -> None:
    """Send the signal of a new token."""
    claims = issued.claims
    await notify(
        token_issued,
        app_state.app,
        identity=claims.get(engine.settings.identity_claim),
        type=claims.get("type"),
        jti=claims.get("jti"),
        sid=claims.get("sid"),
        **app_state.labels,
    )


async def send_revoked(
    app_state: AppState,
    scope: str,
    identity: str | None = None,
    jti: str | None = None,
    sid: str | None = None,
) -> None:
    """Signal a revocation; warn once if other processes cannot see it."""
    app_state.warn_of_memory()
    realm = app_state.realm
    await notify(
        token_revoked,
        app_state.app,
        scope=scope,
        identity=plain_name(realm, identity),
        jti=plain_name(realm, jti),
        sid=sid,
        **app_state.labels,
    )


async def check_before_revoking(
    app_state: AppState,
    request_state: RequestState,
    is_own: Callable[[TokenRef], bool],
    *,
    and_others: bool = False,
) -> bool:
    """Check that the request's own token is still valid before the request revokes anything.

    A token that was revoked meanwhile must not revoke others. Nor may the request's own revocation
    hide that it was: the request could create new tokens afterwards.

    Args:
        app_state: the application's state.
        request_state: the request's state.
        is_own: tells if the request revokes its own token.
        and_others: True if it revokes tokens of other users, too.

    Returns:
        True if the request itself revokes its own token, which was valid until now.

    Raises:
        RevokedTokenError: the token was revoked, and the request would revoke something else; or a token of
            another realm that let the request in was revoked.
    """
    engine = app_state.engine()
    for other in app_state.others_of_request() if app_state.realms else ():
        acting = other.state_of(other.current_request()).rests_on
        if acting is not None and await other.engine().is_valid(acting.verified) is not True:
            raise await refusal(other.engine(), acting.verified)
    held = request_state.rests_on
    if held is None:
        return False
    valid, own = await engine.is_valid(held.verified) is True, is_own(held.ref)
    if not valid and (and_others or not own):
        raise await refusal(engine, held.verified)
    return valid and own


async def _refuse_lost_authority(engine: Engine, request_state: RequestState, issued: Issued) -> None:
    """Refuse a new token for the request's own user if the request was revoked since its check.

    The new token's stamp is already taken, so any revocation after this check also revokes the
    new token: a slow request cannot outlive a sign-out.
    """
    held = request_state.rests_on
    if held is None:
        return
    its_own = holder_of(engine, issued.claims) == held.ref.identity
    if its_own and await engine.is_valid(held.verified) is not True:
        raise await refusal(engine, held.verified)


async def _holder(engine: Engine, sid: Any, own: TokenRef | None) -> tuple[str | None, float | None]:
    """Return a session's user, if known, and when the last of its tokens expires."""
    until = _session_end(engine)
    if own is not None and own.sid == sid:
        return own.identity, latest((until, own.expires_at))
    if engine.sessions is not None and _is_text(sid):
        session = await engine.sessions.get_session(sid)
        if session is not None:
            return session.identity, session.ends_at
    return None, until


async def _name_of(engine: Engine, identity: Any) -> str:
    """Return an identity in the form that stores use.

    Raises:
        ValueError: no token can have this identity: the call would silently sign out no one.
    """
    subject = (
        identity if isinstance(identity, IssuerIdentity) else await subject_of(engine, unproxied(identity))
    )
    if isinstance(subject, IssuerIdentity):
        name, realm = subject.stored_name, engine.settings.realm
        return realm_name(realm, name) if realm else name
    claim_set.refuse_no_subject(subject, engine.settings)
    return claim_set.identity_text(subject, engine.settings)


def _granting(claims: Mapping[str, Any] | None, scopes: Granted, roles: Granted) -> Mapping[str, Any] | None:
    """Return the claims of a new token, with its scopes and roles.

    Raises:
        ValueError: the claims name them too, or a name is none.
    """
    if scopes is None and roles is None:
        return claims
    grants: dict[str, Any] = {}
    if scopes is not None:
        grants["scope"] = scope_text(scopes)
    if roles is not None:
        grants["roles"] = role_list(roles)
    for name in grants.keys() & (claims or {}).keys():
        argument = "scopes" if name == "scope" else name
        raise ValueError(f"Pass {argument}=..., or {name!r} in additional_claims, not both")
    return {**(claims or {}), **grants}


def _own_ref(request_state: RequestState, name: str) -> TokenRef:
    ref = request_state.ref
    if ref is None:
        raise RuntimeError(f"{name}() without a token or identity needs an authenticated request")
    return ref


def _type_of(request_state: RequestState) -> str | None:
    return None if request_state.result is None else request_state.result.type


async def _ref_of(engine: Engine, claims: Mapping[str, Any]) -> TokenRef:
    ref = await engine.ref_of_claims(claims)
    refuse_odd_texts(ref)  # a claim set need not come from a token
    return ref


def _session_end(engine: Engine) -> float | None:
    """Return until when to keep a session revoked if nothing else is known about it; None is forever.

    A store without sessions does not know how long a session's tokens live.
    """
    return None if engine.sessions is None else latest_expiry(engine.settings, engine.clock())


def _is_text(sid: Any) -> bool:
    """True if the value can be an id at all: applications pass on what clients send."""
    try:
        return isinstance(sid, str) and len(sid) <= LONGEST_ID and bool(sid.encode("utf-8"))
    except UnicodeEncodeError:
        return False
