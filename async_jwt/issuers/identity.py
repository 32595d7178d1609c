"""Whose identity a token of another issuer names, and the names that stores know identities by."""

from __future__ import annotations

import base64
import hashlib
from typing import Final, Self

__all__ = ["MARK", "IssuerIdentity", "own_name", "stored_name"]

MARK: Final = "iss~"
"""How the stored names of other issuers' identities begin."""


class IssuerIdentity(str):
    """The identity of a user at another issuer: its text, and whose it is.

    The same `sub` at two issuers is two people, so operations such as `revoke_user` need both parts:
    `get_jwt_identity()` of a token of another issuer returns this. It equals no plain text: a lookup that
    knows nothing of issuers finds nobody. `str(identity)` is the text alone.

    Args:
        text: the identity at the issuer.
        issuer: the issuer, as `iss` has it.
    """

    __slots__ = ("issuer",)

    issuer: str

    def __new__(cls, text: str, /, *, issuer: str) -> Self:  # noqa: D102  # the class says what it takes
        identity = super().__new__(cls, text)
        identity.issuer = issuer
        return identity

    def __eq__(self, other: object) -> bool:
        is_one = isinstance(other, IssuerIdentity) and self.issuer == other.issuer
        return is_one and str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other  # that of `str` knows no issuers

    def __hash__(self) -> int:
        return hash((self.issuer, str(self)))

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, str]]:
        return (str(self),), {"issuer": self.issuer}

    def __repr__(self) -> str:
        return f"IssuerIdentity({str(self)!r}, issuer={self.issuer!r})"

    @property
    def stored_name(self) -> str:
        """The name under which stores know this identity: no own identity has it."""
        return stored_name(self.issuer, self)


def stored_name(issuer: str, text: str) -> str:
    """The name under which stores know what an issuer calls `text`.

    Args:
        issuer: the issuer; of any length.
        text: an identity, or a token's id, at the issuer.
    """
    digest = hashlib.blake2b(issuer.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return f"{MARK}{base64.urlsafe_b64encode(digest).decode().rstrip('=')}~{text}"


def own_name(text: str) -> str:
    """The name under which stores know an identity of our own: its text, unless it looks like an issuer's."""
    # A digest never begins with "~".
    return f"{MARK}~{text.removeprefix(MARK)}" if text.startswith(MARK) else text
