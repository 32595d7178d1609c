"""One issuer: which of its tokens an application accepts, and whom they name. Plain data and pure checks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import SplitResult, urlsplit

from async_jwt.errors import AudienceError, ClaimError, ConfigurationError, MissingClaimError, WrongTokenError
from async_jwt.issuers.fetching import Fetch
from async_jwt.issuers.identity import IssuerIdentity
from async_jwt.issuers.rules import BY_CLIENT, CLIENT_CLAIMS, GENERIC, AccessRule, calls_itself
from async_jwt.keys.key import ALGORITHMS, Key

__all__ = ["ROLES", "SCOPES", "Issuer", "Place", "is_loopback"]

Place = tuple[str, ...]
"""Where a claim is: its name, or the names on the path to it through objects."""

SCOPES: Final[tuple[Place, ...]] = (("scope",), ("scp",))
"""Where scopes are by default (RFC 8693 §4.2): the first of these that a token has."""

ROLES: Final[tuple[Place, ...]] = (("roles",),)
"""Where roles are by default (RFC 9068 §2.2.3.1)."""

_UNSET: Final[Any] = object()
_LEEWAY: Final = 30.0
_LONGEST_LEEWAY: Final = 3600

# What tokens that are no access tokens, or no ID tokens, call themselves.
_NO_ACCESS: Final = frozenset({"id", "refresh", "offline", "logout"})
_NO_ID: Final = frozenset({"bearer", "refresh", "offline", "logout"})

_Fail = Callable[[str], ConfigurationError]


@dataclass(frozen=True, repr=False, init=False)
class Issuer:
    """Another issuer, such as an identity provider, whose tokens an application accepts.

    Its keys are fetched: from `jwks_uri`, or from where its metadata says (OpenID Connect Discovery,
    RFC 8414).
    Nothing at start-up depends on them.

    Args:
        url: the issuer exactly as its tokens have it in `iss`: slashes, case and port count.
        audience: the audience or audiences, of which a token must name one in `aud`: those of your API.
        clients: the client ids, of which a token must name one in `azp`, `client_id`, `appid` or `cid`. One
            of `audience` and `clients` is required; `audience=None` accepts tokens for anybody, and the log
            warns of it.
        jwks_uri: the address of its keys; None looks it up in its metadata.
        keys: its keys, which are then never fetched: `Key` objects, or a JWKS document.
        fetch_from: the address at which to reach the issuer, if that is not `url`, as inside a network.
        algorithms: the accepted algorithms; None accepts those of `Key` objects in `keys`, else all but HMAC.
        access: what tells its access tokens from its other tokens, as an `AccessRule` or a dict of its parts.
            None refuses those that have claims of ID
            tokens or logout tokens; with `clients` alone, a token must also have `scope` or `scp`.
        kind: "access", or "id_token" to accept its ID tokens: for issuers whose only tokens they are.
        identity: the claim that holds the identity; of several, the first that a token has.
        scopes: where its tokens name scopes: a claim, or the path to one as a tuple, such as
            `("resource_access", "shop", "scopes")`. A text there is a list between spaces; a list counts, and
            so do the names in an object. None is `scope`, or else `scp`.
        roles: where they name roles, likewise, but a text is one role. None is `roles`.
        leeway: the allowed clock difference for `exp`, `nbf` and `iat`, in seconds.
        revoked_as: "plain" also refuses tokens whose identity or `jti` was revoked under its bare text, as
            before this issuer was named here. None does not.
        allow_private: whether an issuer that `issuer_loader` named may have private addresses.
        fetch: fetches its documents; None is an `HttpFetch`. Your own must check addresses itself.

    Raises:
        ConfigurationError: an argument is wrong; the text names it and the fix.
    """

    url: str
    audience: frozenset[str] | None
    clients: frozenset[str] | None
    jwks_uri: str | None
    keys: tuple[Key, ...] | Mapping[str, Any] | None
    fetch_from: str | None
    algorithms: tuple[str, ...]
    access: AccessRule
    kind: Literal["access", "id_token"]
    identity: tuple[str, ...]
    scopes: tuple[Place, ...]
    roles: tuple[Place, ...]
    leeway: float
    revoked_as: Literal["plain"] | None
    allow_private: bool
    fetch: Fetch | None

    def __init__(
        self,
        url: str,
        *,
        audience: str | Iterable[str] | None = _UNSET,
        clients: str | Iterable[str] | None = _UNSET,
        jwks_uri: str | None = None,
        keys: Iterable[Key] | Mapping[str, Any] | None = None,
        fetch_from: str | None = None,
        algorithms: Iterable[str] | None = None,
        access: AccessRule | Mapping[str, Any] | None = None,
        kind: Literal["access", "id_token"] = "access",
        identity: str | Iterable[str] = "sub",
        scopes: str | Place | None = None,
        roles: str | Place | None = None,
        leeway: float = _LEEWAY,
        revoked_as: Literal["plain"] | None = None,
        allow_private: bool = False,
        fetch: Fetch | None = None,
    ) -> None:
        fail = _failure(url)
        if audience is _UNSET and clients is _UNSET:
            raise fail(
                "set audience=, the audience of your API, or clients=, the client ids; audience=None accepts "
                "tokens for anybody"
            )
        self._set(
            url=url,
            audience=_texts(fail, "audience", None if audience is _UNSET else audience),
            clients=_texts(fail, "clients", None if clients is _UNSET else clients),
            jwks_uri=_address(fail, "jwks_uri", jwks_uri),
            keys=_keys(fail, keys),
            fetch_from=_address(fail, "fetch_from", fetch_from),
            kind=_one_of(fail, "kind", kind, ("access", "id_token")),
            identity=_names(fail, identity),
            scopes=SCOPES if scopes is None else (_path(fail, "scopes", scopes),),
            roles=ROLES if roles is None else (_path(fail, "roles", roles),),
            leeway=_seconds(fail, leeway),
            revoked_as=_one_of(fail, "revoked_as", revoked_as, (None, "plain")),
            allow_private=bool(allow_private),
            fetch=fetch,
        )
        default = BY_CLIENT if self.audience is None and self.clients is not None else GENERIC
        self._set(access=_rule(fail, access) or default, algorithms=_algorithms(fail, algorithms, self.keys))
        self._check_together(fail)

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)  # frozen for everybody else

    def _check_together(self, fail: _Fail) -> None:
        if self.kind == "id_token" and self.audience is None:
            raise fail('kind="id_token" needs audience=, the client ids (OpenID Connect Core §3.1.3.7)')
        if self.keys is not None:
            if self.jwks_uri is not None or self.fetch_from is not None:
                raise fail("keys= are never fetched: leave out jwks_uri= and fetch_from=")
            for key in self.keys if isinstance(self.keys, tuple) else ():
                if key.issuer not in (None, self.url):
                    raise fail(f"keys= has {key!r}, which is bound to another issuer, {key.issuer!r}")
        elif self.jwks_uri is None and self.fetch_from is None and not _may_be_fetched(self.url):
            raise fail(
                "its keys cannot be fetched, because it does not begin with https://: set fetch_from= or "
                "jwks_uri= to an address where they are"
            )

    @property
    def is_fetched(self) -> bool:
        """True if its keys are fetched."""
        return self.keys is None

    @property
    def accepts_anybody(self) -> bool:
        """True if it accepts tokens whomever they are meant for."""
        return self.audience is None and self.clients is None

    def check_purpose(self, header: Mapping[str, Any], claims: Mapping[str, Any]) -> None:
        """Refuse a token for another audience, another client or another use.

        Raises:
            AudienceError: it is meant for somebody else.
            WrongTokenError: it is not an access token; for `kind="id_token"`, not an ID token.
        """
        audiences = _audiences(claims)
        if self.audience is not None and self.audience.isdisjoint(audiences):
            raise AudienceError("Audience doesn't match")
        if self.clients is not None and _client(claims) not in self.clients:
            raise AudienceError("The token was issued to another client")
        typ = str(header.get("typ", "")).lower().removeprefix("application/")
        is_right = self._is_id_token if self.kind == "id_token" else self._is_access
        if not is_right(typ, claims, audiences):
            raise WrongTokenError

    def _is_access(self, typ: str, claims: Mapping[str, Any], _audiences: list[str]) -> bool:
        is_one = claims.get("token_use", "access") == "access" and not calls_itself(claims, _NO_ACCESS)
        return is_one and self.access.allows(typ, claims)

    def _is_id_token(self, typ: str, claims: Mapping[str, Any], audiences: list[str]) -> bool:
        is_one = claims.get("token_use", "id") == "id" and not calls_itself(claims, _NO_ID)
        # OpenID Connect Core §3.1.3.7: for several audiences, the authorized party must be ours.
        party = claims.get("azp", audiences[0] if len(audiences) == 1 else None)
        is_ours = isinstance(party, str) and party in (self.audience or ())
        return is_one and is_ours and typ in ("", "jwt") and "events" not in claims

    def identity_of(self, claims: Mapping[str, Any]) -> IssuerIdentity:
        """The identity that a token names.

        Raises:
            MissingClaimError: it names none.
            ClaimError: it is not text.
        """
        name = next((name for name in self.identity if name in claims), None)
        if name is None:
            raise MissingClaimError(self.identity[0], f"Missing claim: {self.identity[0]}")
        value = claims[name]
        if not isinstance(value, str) or not value:
            raise ClaimError(f"{name} must be text")
        return IssuerIdentity(value, issuer=self.url)

    def __repr__(self) -> str:
        return f"<Issuer {self.url!r}>"


def is_loopback(parts: SplitResult) -> bool:
    """True if the name of a host is one of this machine's."""
    host = parts.hostname or ""
    return host in ("127.0.0.1", "::1", "localhost") or host.endswith(".localhost")


def _audiences(claims: Mapping[str, Any]) -> list[str]:
    audience = claims.get("aud", [])
    named = [audience] if isinstance(audience, str) else audience
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise AudienceError("Invalid claim format in token")
    return named


def _client(claims: Mapping[str, Any]) -> str | None:
    value = next((claims[name] for name in CLIENT_CLAIMS if name in claims), None)
    return value if isinstance(value, str) else None


def _failure(url: object) -> _Fail:
    if not isinstance(url, str) or not url:
        raise ConfigurationError("Issuer(url) must be text, exactly as its tokens have it in `iss`")
    return lambda problem: ConfigurationError(f"Issuer({url!r}): {problem}")


def _one_of(fail: _Fail, name: str, given: Any, choices: Collection[object]) -> Any:
    if given not in choices:
        raise fail(f"{name} must be one of {', '.join(map(repr, choices))}, not {given!r}")
    return given


def _texts(fail: _Fail, name: str, given: object) -> frozenset[str] | None:
    if given is None:
        return None
    values = [given] if isinstance(given, str) else list(given) if isinstance(given, Iterable) else []
    if not values or not all(isinstance(value, str) and value for value in values):
        raise fail(f"{name} must be a string or a list of strings, none of them empty")
    return frozenset(values)


def _path(fail: _Fail, what: str, given: object) -> Place:
    path = given if isinstance(given, tuple) else (given,)
    if not path or not all(isinstance(name, str) and name for name in path):
        raise fail(f'{what} must be the name of a claim, or the path to one: ("realm_access", "roles")')
    return path


def _names(fail: _Fail, given: object) -> tuple[str, ...]:
    values = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else ()
    if not values or not all(isinstance(value, str) and value for value in values):
        raise fail("identity must be the name of a claim, or a list of names")
    return values


def _seconds(fail: _Fail, given: Any) -> float:
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not is_number or not 0 <= given <= _LONGEST_LEEWAY:
        raise fail(f"leeway must be a number of seconds from 0 to {_LONGEST_LEEWAY}")
    return float(given)


def _keys(fail: _Fail, given: object) -> tuple[Key, ...] | Mapping[str, Any] | None:
    if given is None or isinstance(given, Mapping):
        return given
    keys = tuple(given) if isinstance(given, Iterable) else ()
    if not keys or not all(isinstance(key, Key) for key in keys):
        raise fail("keys must be Key objects, or a JWKS document")
    return keys


def _rule(fail: _Fail, given: object) -> AccessRule | None:
    if isinstance(given, Mapping):
        try:
            return AccessRule(**given)
        except TypeError as problem:
            raise fail(f"access has the wrong parts: {problem}") from None
    if given is not None and not isinstance(given, AccessRule):
        raise fail("access must be an AccessRule, or a dict of its parts")
    return given


def _algorithms(fail: _Fail, given: object, keys: object) -> tuple[str, ...]:
    named = _texts(fail, "algorithms", given)
    if named is None and isinstance(keys, tuple):
        return tuple(dict.fromkeys(key.algorithm for key in keys))
    if named is None:
        return tuple(name for name in ALGORITHMS if not name.startswith("HS"))
    has_secret = isinstance(keys, tuple) and any(key.is_secret for key in keys)
    for name in named:
        if name not in ALGORITHMS:
            raise fail(f"algorithms has {name!r}; choose from {', '.join(ALGORITHMS)}")
        if name.startswith("HS") and not has_secret:
            raise fail(f"algorithms has {name}, which needs a secret in keys=: no secret is ever fetched")
    return tuple(name for name in ALGORITHMS if name in named)


def _address(fail: _Fail, name: str, given: str | None) -> str | None:
    if given is not None and (_parts(given) is None or not given.startswith(("http://", "https://"))):
        raise fail(f"{name} must be an address that begins with https://, not {given!r}")
    return given


def _may_be_fetched(url: str) -> bool:
    parts = _parts(url)
    return parts is not None and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts)))


def _parts(text: object) -> SplitResult | None:
    """An address in its parts; None if it is none, or if it holds a password."""
    try:
        parts = urlsplit(text) if isinstance(text, str) else None
        is_one = parts is not None and parts.hostname and parts.port != 0 and parts.username is None
    except ValueError:
        return None
    return parts if is_one else None
