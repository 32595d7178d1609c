"""What tells access tokens from ID tokens, refresh tokens and others of the same issuer. Plain data."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["BY_CLIENT", "CLIENT_CLAIMS", "GENERIC", "AccessRule", "calls_itself"]

CLIENT_CLAIMS: Final = ("azp", "client_id", "appid", "cid")
"""The claims that name the client that a token was issued to, the usual one first."""

# OpenID Connect Core §3.1.3.6, §3.3.2.11 and Back-Channel Logout §2.4: claims that no access token has.
_OF_OTHERS: Final = ("at_hash", "c_hash", "events", "nonce", "s_hash")


@dataclass(frozen=True, kw_only=True, slots=True)
class AccessRule:
    """What tells an issuer's access tokens from its other tokens. Every part must hold.

    Attributes:
        typ: the `typ` headers of access tokens, in lower case; "" for a token without one.
        claims: claims and the values that each may have, such as `{"token_use": ("access",)}`.
        prefixes: claims and the text that each begins with.
        all_of: claims that access tokens have.
        any_of: claims of which they have at least one, not empty.
        none_of: claims that they never have.
        at_jwt_suffices: whether `typ: at+jwt` in the header (RFC 9068 §2.1) makes `any_of` unnecessary.
        names_client: whether they name their client, in `azp`, `client_id`, `appid` or `cid`.
        kinds: what they may call themselves in the claims `type` and `token_type`, in lower case; a token
            need not have either.
    """

    typ: tuple[str, ...] = ("", "jwt", "at+jwt")
    claims: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    prefixes: Mapping[str, str] = field(default_factory=dict)
    all_of: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    none_of: tuple[str, ...] = ()
    at_jwt_suffices: bool = True
    names_client: bool = False
    kinds: tuple[str, ...] = ("access", "access_token", "bearer")

    def allows(self, typ: str, claims: Mapping[str, Any]) -> bool:
        """True if a token is an access token.

        Args:
            typ: its `typ` header in lower case, without "application/"; "" if it has none.
            claims: its claims.
        """
        says_so = self.at_jwt_suffices and typ == "at+jwt"
        kinds = [claims[name] for name in ("type", "token_type") if name in claims]
        return (
            typ in self.typ
            and all(isinstance(kind, str) and kind.lower() in self.kinds for kind in kinds)
            and (not self.names_client or any(name in claims for name in CLIENT_CLAIMS))
            and all(_is_text_in(claims.get(name), values) for name, values in self.claims.items())
            and all(_begins(claims.get(name), start) for name, start in self.prefixes.items())
            and all(name in claims for name in self.all_of)
            and not any(name in claims for name in self.none_of)
            and (not self.any_of or says_so or any(claims.get(name) for name in self.any_of))
        )


GENERIC: Final = AccessRule(none_of=_OF_OTHERS)
"""For issuers that nothing more is known of."""

BY_CLIENT: Final = AccessRule(none_of=_OF_OTHERS, any_of=("scope", "scp"))
"""Without an audience: an ID token of the same client has no scope, and nothing else would tell it apart."""


def calls_itself(claims: Mapping[str, Any], kinds: Collection[str]) -> bool:
    """True if a token calls itself one of these kinds, as Keycloak's do in the claim `typ`."""
    kind = claims.get("typ")
    return isinstance(kind, str) and kind.lower() in kinds


def _is_text_in(value: object, accepted: Collection[str]) -> bool:
    return isinstance(value, str) and value in accepted


def _begins(value: object, start: str) -> bool:
    return isinstance(value, str) and value.startswith(start)
