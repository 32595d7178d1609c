"""The tokens of other issuers: whose keys verify them, and what they may say.

Keys of one issuer verify its tokens alone: ours never do, nor those of another issuer. What such a token says
about freshness, its type or a session of ours counts for nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from async_jwt.clock import Clock
from async_jwt.core import claims as claim_set
from async_jwt.core.claims import PURPOSE, REALM
from async_jwt.core.codec import Codec, Header, Memory, Verified
from async_jwt.core.compact import Compact, object_in, split
from async_jwt.core.cookie_scope import SCOPE
from async_jwt.core.issuer_keys import IssuerKeys
from async_jwt.core.issuer_registry import Ask, IssuerRegistry
from async_jwt.core.login import LOGIN
from async_jwt.core.permissions import GIVEN
from async_jwt.core.settings import Settings
from async_jwt.core.tuples import fast_tuple
from async_jwt.errors import ClaimError, JWTDecodeError, MissingClaimError, SignatureError, WrongTokenError
from async_jwt.issuers.identity import realm_name, stored_name
from async_jwt.issuers.issuer import Issuer
from async_jwt.stores.contract import TokenRef

__all__ = ["IssuerTokens", "plain_ref", "ref_of_claims"]

log: logging.Logger = logging.getLogger("async_jwt.issuers")

# Claims that only this library makes, for tokens of its own.
_OURS = (PURPOSE, REALM, SCOPE, LOGIN, GIVEN)


class IssuerTokens:
    """Verifies the tokens of other issuers under one set of settings.

    Args:
        registry: the issuers.
        settings: the settings.
        codec: reads headers, and checks signatures.
        clock: seconds since the epoch.

    Attributes:
        registry: as given.
    """

    def __init__(self, registry: IssuerRegistry, settings: Settings, codec: Codec, clock: Clock) -> None:
        self.registry: IssuerRegistry = registry
        self._settings = settings
        self._codec = codec
        self._clock = clock
        self._verified = Memory(settings.token_cache_size)
        self._warned_of_nonce = False

    def recall(self, token: str, now: float) -> Verified | None:
        """A token that is remembered, if nothing about its issuer is due."""
        verified = self._verified[token]
        if verified is not None:
            source = verified.source
            if source is not None and source.since <= now < source.due:
                return verified
        return None

    async def verify(self, token: str, ask: Ask | None) -> Verified | None:
        """Check a token; None if it is not another issuer's.

        Args:
            token: the token's text.
            ask: calls the application's `issuer_loader`; None if there is none.

        Raises:
            JWTDecodeError: it is not accepted.
            WrongTokenError: it is not an access token.
            IssuerUnavailableError: no key of its issuer is known.
            Exception: whatever the loader raised.
        """
        parts = split(token, self._settings.max_token_bytes)
        claims, nested = object_in(parts.payload, "payload")
        source = await self.find(claims, ask)
        if source is None:
            return None
        remembered = self._verified[token]
        if remembered is not None and remembered.source is source.keys:
            await source.tend(self._clock)
            now, keys = self._clock(), source.keys
            if remembered.source is keys and now < keys.until and now < remembered.key.accepted_until:
                return remembered
        header = self._codec.header_for(parts, source.issuer.algorithms)
        verified = await self._check(source, parts, header, claims, nested=nested or header.nested)
        self._verified.put(token, verified)
        self.registry.verified(source)
        return verified

    async def find(self, claims: Mapping[str, Any], ask: Ask | None) -> IssuerKeys | None:
        """The issuer of a token with these claims; None if it is ours, or unknown.

        Args:
            claims: the claims.
            ask: calls the application's `issuer_loader`; None if there is none.

        Raises:
            Exception: as for `verify`.
        """
        named = claims.get("iss")
        if not isinstance(named, str) or named == self._settings.encode_issuer:
            return None
        is_ours = named in (self._settings.decode_issuer or ())
        return await self.registry.find(named, None if is_ours else ask, self._clock)

    async def _check(
        self, source: IssuerKeys, parts: Compact, header: Header, claims: dict[str, Any], *, nested: bool
    ) -> Verified:
        worth = self._is_worth_a_fetch(source.issuer, header, claims)
        keys, candidates = await source.select(header.algorithm, header.kid, self._clock, may_fetch=worth)
        try:
            key = self._codec.key_of(parts, header.algorithm, candidates)
        except SignatureError:
            self._log_nonce(header)
            if not worth or keys.has_named(header.kid):
                raise
            # The token names no key, or one that is unknown: perhaps a new one is published.
            keys, candidates = await source.look_again(header.algorithm, header.kid, self._clock)
            key = self._codec.key_of(parts, header.algorithm, candidates)
        issuer = source.issuer
        issuer.check_purpose(header.parameters, claims)
        start, end, ref = shape_of(claims, issuer, self._settings)
        # The comparisons add the leeway of our own tokens.
        start -= issuer.leeway - self._settings.start_leeway
        end += issuer.leeway - self._settings.expiry_leeway
        found = (key, header.parameters, claims, ref.type, nested, start, end, ref, keys)
        verified: Verified = fast_tuple(Verified, found)
        return verified

    def _log_nonce(self, header: Header) -> None:
        if "nonce" in header.parameters and not self._warned_of_nonce:
            self._warned_of_nonce = True
            log.warning(
                "Refused a token with a nonce in its header, as those for Microsoft Graph have: nobody else "
                "can verify them. Have the client ask for a token for your own API",
                extra={"event": "issuer_graph_token"},
            )

    def _is_worth_a_fetch(self, issuer: Issuer, header: Header, claims: Mapping[str, Any]) -> bool:
        """True if a token would be accepted, were its signature right."""
        try:
            issuer.check_purpose(header.parameters, claims)
            start, end, _ = shape_of(dict(claims), issuer, self._settings)
        except (JWTDecodeError, WrongTokenError):
            return False
        now = self._clock()
        return start <= now + issuer.leeway and end > now - issuer.leeway


def shape_of(claims: dict[str, Any], issuer: Issuer, settings: Settings) -> tuple[float, float, TokenRef]:
    """The times of an issuer's token, and the token as stores know it. Fills in what is ours, in place.

    `type`, `fresh` and `jti` read as in our own tokens.

    Raises:
        MissingClaimError: `exp`, `iat` or the identity is absent.
        ClaimError: a claim has the wrong form.
        WrongTokenError: it has a mark of this library's: another application made it for a purpose.
    """
    if any(name in claims for name in _OURS):
        raise WrongTokenError
    for name in ("exp", "iat"):
        if name not in claims:
            raise MissingClaimError(name, f"Missing claim: {name}")
    issued, start, end = claim_set.times_of(claims, strict=True)
    ref = ref_of_claims(claims, issuer, settings, issued, end)
    claims.update(type=ref.type, fresh=False)
    claims.setdefault("jti", None)
    return max(start, issued), end, ref


def ref_of_claims(
    claims: Mapping[str, Any], issuer: Issuer, settings: Settings, issued: float, end: float
) -> TokenRef:
    """A token of an issuer, as stores know it.

    Args:
        claims: its claims.
        issuer: the issuer.
        settings: the settings.
        issued: its `iat`, in seconds since the epoch.
        end: its `exp`, likewise.
    """
    jti, whose = _id_of(claims), issuer.identity_of(claims).stored_name
    jti = None if jti is None else claim_set.realm_id(settings, stored_name(issuer.url, jti))
    return TokenRef(
        identity=realm_name(settings.realm, whose) if settings.realm else whose,
        jti=jti,
        sid=None,
        gen=None,
        issued_at=max(0.0, issued - settings.clock_skew),
        expires_at=end + issuer.leeway,
        may_fail_open=True,
        type="access",
    )


def plain_ref(ref: TokenRef, claims: Mapping[str, Any], settings: Settings) -> TokenRef:
    """A token as stores knew it before its issuer was configured: by the bare text of its identity and id.

    Args:
        ref: the token as stores know it now.
        claims: its claims.
        settings: the settings.
    """
    identity, jti = claims.get(settings.identity_claim), claims.get("jti")
    return ref._replace(
        identity="" if identity is None else claim_set.identity_text(identity, settings),
        jti=claim_set.realm_id(settings, jti) if isinstance(jti, str) else None,
    )


def _id_of(claims: Mapping[str, Any]) -> str | None:
    """A token's id; None without one. Microsoft's is in `uti`."""
    value = claims.get("jti")
    value = claims.get("uti") if value is None else value
    if value is not None and not isinstance(value, str):
        raise ClaimError("JWT ID must be a string")
    return value or None
