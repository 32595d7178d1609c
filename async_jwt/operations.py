"""Making, reading and revoking tokens: the same methods on managers and in the adapters.

Each is written once here. Inside a request they know whose it is; outside of one, in a job
or a shell, they work as well wherever they do not need to.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from async_jwt.binding import Binding
from async_jwt.core import claims as claim_set
from async_jwt.core.checks import check_csrf
from async_jwt.core.claims import Fresh
from async_jwt.core.issue import Expires, Issued, Order, TokenPair, issue, issue_pair, subject_of
from async_jwt.core.notify import notify
from async_jwt.core.policy import ACCESS, REFRESH
from async_jwt.core.realm import Realm
from async_jwt.errors import RevokedTokenError
from async_jwt.signals import token_issued, token_revoked
from async_jwt.stores.contract import TokenRef

__all__ = ["Operations"]


class Operations:
    """The coroutines that make, read and revoke tokens.

    All of them may raise `ConfigurationError` for a missing or wrong setting, `HookError`
    for a hook that returns what it may not, and `StoreUnavailableError` when the store does
    not answer. Those that make tokens raise `RevokedTokenError` in a request that was
    revoked since its check.
    """

    @abstractmethod
    def _binding(self) -> Binding:
        """The application that is meant.

        Raises:
            RuntimeError: it is not clear which one.
        """

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
        return await self._issued(
            Order(
                identity=identity,
                type=ACCESS,
                fresh=fresh,
                expires=expires_delta,
                claims=additional_claims,
                headers=additional_headers,
                requester=self._binding().authentication(),
            )
        )

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
        return await self._issued(
            Order(
                identity=identity,
                type=REFRESH,
                expires=expires_delta,
                claims=additional_claims,
                headers=additional_headers,
            )
        )

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
        return await self._issued(
            Order(
                identity=identity,
                type=type,
                expires=expires_delta,
                claims=additional_claims,
                headers=additional_headers,
            )
        )

    async def create_token_pair(
        self,
        identity: Any,
        *,
        fresh: Fresh = False,
        additional_claims: Mapping[str, Any] | None = None,
        additional_headers: Mapping[str, Any] | None = None,
        access_expires_delta: Expires = None,
        refresh_expires_delta: Expires = None,
    ) -> TokenPair:
        """Make the access and refresh token of a new session, as a login does.

        Args:
            identity: whom they are for.
            fresh: whether the access token is fresh.
            additional_claims: further claims of both.
            additional_headers: further header parameters of both.
            access_expires_delta: the access token's lifetime.
            refresh_expires_delta: the refresh token's lifetime.

        Returns:
            The tokens and their session's id, which both carry as `sid`.

        Raises:
            ValueError: a token would have a shape that is not accepted.
            TypeError: a value cannot be written as JSON.
        """
        both: dict[str, Any] = {
            "identity": identity,
            "claims": additional_claims,
            "headers": additional_headers,
        }
        access, refresh, sid = await issue_pair(
            self._binding().realm(),
            Order(type=ACCESS, fresh=fresh, expires=access_expires_delta, **both),
            Order(type=REFRESH, expires=refresh_expires_delta, **both),
        )
        await self._refuse_lost_authority(access)
        await self._tell_issued(access)
        await self._tell_issued(refresh)
        return TokenPair(access.token, refresh.token, sid)

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
        realm = self._binding().realm()
        decoded = await realm.decode(encoded_token, allow_expired=allow_expired)
        if csrf_value is not None:
            check_csrf(decoded.claims, csrf_value, realm.settings.access_csrf_header_name)
        return decoded.claims

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
        """Revoke one token, for as long as it would have lived.

        Args:
            token: an encoded token, which may have expired, or a decoded claim set; None is
                the token of this request.

        Raises:
            JWTDecodeError: it is no token of this application.
            RuntimeError: there is no token in this request.
            ValueError: the token has no `jti`.
        """
        realm = self._binding().realm()
        if token is None:
            ref = self._own_ref("revoke_token")
        elif isinstance(token, str):
            ref = self._ref_of(realm, await self.decode_token(token, allow_expired=True))
        else:
            ref = self._ref_of(realm, token)
        await realm.store.revoke_token(ref)
        await self._tell_revoked("token", ref.identity, ref.jti, ref.sid)

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
        realm = self._binding().realm()
        own = self._own_ref("revoke_user") if identity is None or keep_current else None
        if identity is None and own is not None:
            text = own.identity
        else:
            text = claim_set.identity_text(await subject_of(realm, identity))
        keep = own if keep_current else None
        if keep is not None and ((keep.sid or keep.jti) is None or keep.identity != text):
            raise ValueError("keep_current needs a session or token of the same user to keep")
        await realm.store.revoke_user(text, keep)
        await self._tell_revoked("user", text)

    async def revoke_everything(self) -> None:
        """Revoke every token made until now, of everybody."""
        await self._binding().realm().store.revoke_everything()
        await self._tell_revoked("everything")

    async def _issued(self, order: Order) -> str:
        issued = await issue(self._binding().realm(), order)
        await self._refuse_lost_authority(issued)
        await self._tell_issued(issued)
        return issued.token

    async def _refuse_lost_authority(self, issued: Issued) -> None:
        """Refuse a token that a request gets for itself if it was revoked since its check.

        The new token's stamp is taken already, so whatever is revoked after this look
        revokes the new token as well: nobody outlives a sign-out by being slow.
        """
        binding = self._binding()
        realm = binding.realm()
        current, ref = binding.authentication(), binding.ref()
        if current is None or ref is None or not binding.vouched():
            return
        its_own = issued.claims.get(realm.settings.identity_claim) == current.identity
        if its_own and not await realm.store.check(ref):
            raise RevokedTokenError(current.header, current.claims)

    async def _tell_issued(self, issued: Issued) -> None:
        claims = issued.claims
        await notify(
            token_issued,
            self._binding().app,
            identity=claims.get(self._binding().realm().settings.identity_claim),
            type=claims.get("type"),
            jti=claims.get("jti"),
            sid=claims.get("sid"),
        )

    async def _tell_revoked(
        self, scope: str, identity: str | None = None, jti: str | None = None, sid: str | None = None
    ) -> None:
        binding = self._binding()
        binding.note_revocation()
        await notify(token_revoked, binding.app, scope=scope, identity=identity, jti=jti, sid=sid)

    def _own_ref(self, name: str) -> TokenRef:
        ref = self._binding().ref()
        if ref is None:
            raise RuntimeError(f"{name}() without a token or identity needs an authenticated request")
        return ref

    @staticmethod
    def _ref_of(realm: Realm, claims: Mapping[str, Any]) -> TokenRef:
        # A token without `jti` reads as one with None, which no token may hold.
        held = {name: value for name, value in claims.items() if (name, value) != ("jti", None)}
        return claim_set.check_shape(held, realm.settings).ref
