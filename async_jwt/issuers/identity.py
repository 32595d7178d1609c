"""Whose identity a token of another issuer names, and the names that stores know identities by."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from typing import Final, Self

__all__ = [
    "MARK",
    "IssuerIdentity",
    "everybody_of",
    "is_of_realm",
    "own_name",
    "plain_name",
    "realm_name",
    "stored_name",
]

MARK: Final = "iss~"
"""How the stored names of other issuers' identities begin, and those of named realms."""


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
    return f"{_marked(issuer, b'')}~{text}"


def own_name(text: str) -> str:
    """The name under which stores know an identity of our own: its text, unless it looks like an issuer's."""
    # A digest never begins with "~".
    return f"{MARK}~{text.removeprefix(MARK)}" if text.startswith(MARK) else text


def realm_name(realm: str, name: str) -> str:
    """The name under which stores know an identity, or a token's id, of a named realm.

    Args:
        realm: the realm.
        name: the name that it would have in the unnamed realm, which an issuer's may be, too.
    """
    return f"{_marked(realm, b'realm')}~{name}"


def plain_name(realm: str, name: str | None) -> str | None:
    """The name that an identity of a realm would have in the unnamed realm."""
    return name.removeprefix(realm_name(realm, "")) if realm and name is not None else name


def is_of_realm(realm: str, name: str) -> bool:
    """True if a user's stored name is one of a realm; "" is the unnamed one."""
    if realm:
        return name.startswith(realm_name(realm, ""))
    return not name.startswith(MARK) or name.startswith(f"{MARK}~")  # see `own_name`


def everybody_of(realm: str) -> str:
    """The name whose generation ends all tokens of a realm. No identity has it."""
    return _marked(realm, b"realm")


@lru_cache(maxsize=1024)
def _marked(name: str, person: bytes) -> str:
    data = name.encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(data, digest_size=16, person=person).digest()
    return f"{MARK}{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
