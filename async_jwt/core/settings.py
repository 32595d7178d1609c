"""The `JWT_*` settings: names, defaults, meaning and validation.

The only reader of `JWT_*` keys. A configuration becomes one frozen, fully checked `Settings`;
a wrong value raises `ConfigurationError` with the key's name and the fix. Each field of
`Settings` states its key, its default, its default under the compat preset, and its meaning;
there is no second list of keys.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Final, Literal

from async_jwt.core import parsers
from async_jwt.core.parsers import Lifetime
from async_jwt.errors import ConfigurationError
from async_jwt.issuers.issuer import Issuer
from async_jwt.keys.key import ALGORITHMS

__all__ = ["COMPAT_NAME", "KEYS", "SPECS", "Settings", "preset_of"]

COMPAT_NAME: Final = "flask-jwt-extended"

_SAME: Any = object()


def _setting(
    key: str,
    default: object,
    parse: Callable[[object], Any],
    about: str,
    *,
    compat: Any = _SAME,
    new: bool = False,
) -> Any:
    """A setting; `new` if Flask-JWT-Extended has none of this name."""
    metadata = {"key": key, "default": default, "parse": parse, "about": about, "new": new}
    return field(metadata={**metadata, "compat": default if compat is _SAME else compat})


@dataclass(frozen=True, kw_only=True, repr=False)  # no slots: they leave no room for cached properties
class Settings:
    """The settings of one application, validated. Made by `Settings.from_config`."""

    compat: str | None = _setting(
        "JWT_COMPAT",
        None,
        parsers.optional(parsers.one_of(COMPAT_NAME)),
        'None, or "flask-jwt-extended": use Flask-JWT-Extended\'s defaults and responses.',
        new=True,
    )

    ignored_settings: frozenset[str] = _setting(
        "JWT_IGNORED_SETTINGS",
        (),
        parsers.names,
        "Names of the application's own settings that look like ours: they are not reported.",
        new=True,
    )

    # Tokens
    access_expires: Lifetime | None = _setting(
        "JWT_ACCESS_TOKEN_EXPIRES",
        dt.timedelta(minutes=15),
        parsers.lifetime,
        "Lifetime of access tokens: timedelta or seconds; False never expires.",
    )
    refresh_expires: Lifetime | None = _setting(
        "JWT_REFRESH_TOKEN_EXPIRES",
        dt.timedelta(days=30),
        parsers.lifetime,
        "Lifetime of refresh tokens: timedelta or seconds; False never expires.",
    )
    algorithm: str = _setting(
        "JWT_ALGORITHM",
        "HS256",
        parsers.one_of(*ALGORITHMS),
        "The algorithm that signs new tokens (RFC 7518 §3.1).",
    )
    decode_algorithms: tuple[str, ...] | None = _setting(
        "JWT_DECODE_ALGORITHMS",
        None,
        parsers.never_empty(parsers.each(parsers.one_of(*ALGORITHMS))),
        "The algorithms accepted in tokens, besides JWT_ALGORITHM, which is always accepted.",
    )
    secret_key: str | bytes | None = _setting(
        "JWT_SECRET_KEY",
        None,
        parsers.never_empty(parsers.secret),
        "The HMAC secret, text or bytes. If it is not set, SECRET_KEY signs.",
    )
    secret_fallbacks: tuple[str | bytes, ...] | None = _setting(
        "JWT_SECRET_KEY_FALLBACKS",
        None,
        parsers.optional(parsers.secrets),
        "A list of former values of JWT_SECRET_KEY: they verify, but never sign.",
        new=True,
    )
    private_key: object | None = _setting(
        "JWT_PRIVATE_KEY",
        None,
        lambda value: value or None,
        "The private key that signs: PEM, or a key of `cryptography`.",
    )
    public_key: object | None = _setting(
        "JWT_PUBLIC_KEY",
        None,
        lambda value: value or None,
        "The public key that verifies: PEM, or a key of `cryptography`.",
    )
    key_folder: str | None = _setting(
        "JWT_KEY_FOLDER",
        None,
        parsers.never_empty(parsers.path),
        "A folder of keys, made with `flask jwt keys` or `quart jwt keys`. It must then hold all keys.",
        new=True,
    )
    min_secret_bytes: int | None = _setting(
        "JWT_MIN_SECRET_BYTES",
        None,
        parsers.optional(parsers.count),
        "The minimum length of an HMAC secret in bytes. None is the hash's own length (RFC 7518 §3.2); "
        "0 accepts any length, and RSA keys below 2048 bits.",
        compat=0,
        new=True,
    )
    identity_claim: str = _setting(
        "JWT_IDENTITY_CLAIM",
        "sub",
        parsers.text,
        "The claim that holds the identity.",
    )
    verify_sub: bool = _setting(
        "JWT_VERIFY_SUB",
        True,
        parsers.flag,
        "Whether `sub` must be a string (RFC 7519 §4.1.2).",
    )
    encode_nbf: bool = _setting(
        "JWT_ENCODE_NBF",
        True,
        parsers.flag,
        "Whether new tokens carry `nbf`.",
    )
    encode_audience: str | tuple[str, ...] | None = _setting(
        "JWT_ENCODE_AUDIENCE",
        None,
        parsers.never_empty(parsers.audience),
        "`aud` of new tokens: a string or a list.",
    )
    encode_issuer: str | None = _setting(
        "JWT_ENCODE_ISSUER",
        None,
        parsers.never_empty(parsers.text),
        "`iss` of new tokens.",
    )
    decode_audience: frozenset[str] | None = _setting(
        "JWT_DECODE_AUDIENCE",
        None,
        parsers.optional(parsers.text_set),
        "The accepted audiences: a token must name one of them. None takes those of JWT_ENCODE_AUDIENCE; "
        "if that is None, too, a token of ours that names any is refused (RFC 7519 §4.1.3).",
    )
    decode_issuer: frozenset[str] | None = _setting(
        "JWT_DECODE_ISSUER",
        None,
        parsers.optional(parsers.text_set),
        "The accepted issuers, compared exactly: a string or a set. None accepts any.",
    )
    decode_leeway: float | None = _setting(
        "JWT_DECODE_LEEWAY",
        None,
        parsers.optional(parsers.seconds),
        "Allowed clock difference, in seconds or as a timedelta, for `exp`, `nbf` and `iat`. "
        "None is 0 for `exp` and 10 seconds for `nbf` and `iat`.",
        compat=0,
    )
    strict_times: bool = _setting(
        "JWT_STRICT_TIMES",
        True,
        parsers.flag,
        "Whether `exp`, `nbf` and `iat` must be finite numbers; False accepts what PyJWT accepts.",
        compat=False,
        new=True,
    )
    require_type: bool = _setting(
        "JWT_REQUIRE_TYPE",
        True,
        parsers.flag,
        "Whether a token must name its type. False: a token without one is an access token.",
        compat=False,
        new=True,
    )
    issuers: tuple[Issuer, ...] = _setting(
        "JWT_ISSUERS",
        None,
        parsers.issuers,
        "Other issuers whose access tokens are accepted: a dict of issuers and the arguments of `Issuer`, or "
        'of a preset that it names, such as {"https://acme.eu.auth0.com/": {"preset": "auth0", '
        '"audience": "https://api.acme.dev"}}.',
        new=True,
    )
    require_jti: bool = _setting(
        "JWT_REQUIRE_JTI",
        True,
        parsers.flag,
        "Whether tokens of ours must have a `jti`: without one, a token cannot be revoked alone.",
        compat=False,
        new=True,
    )
    token_profile: Literal["rfc9068"] | None = _setting(
        "JWT_TOKEN_PROFILE",
        None,
        parsers.optional(parsers.one_of("rfc9068")),
        '"rfc9068": access tokens have the header `typ: at+jwt` and the claims of RFC 9068, for verifiers '
        "that demand them. Needs JWT_ENCODE_ISSUER, JWT_ENCODE_AUDIENCE and JWT_TOKEN_CLIENT_ID. None is a "
        "plain JWT.",
        new=True,
    )
    token_client_id: str | None = _setting(
        "JWT_TOKEN_CLIENT_ID",
        None,
        parsers.never_empty(parsers.text),
        "`client_id` of access tokens under JWT_TOKEN_PROFILE; `additional_claims` may name another one.",
        new=True,
    )
    accept_typ: frozenset[str] | None = _setting(
        "JWT_ACCEPT_TYP",
        ("JWT", "at+jwt"),
        parsers.optional(parsers.text_set),
        "The accepted `typ` headers, in any case; a token without one is always accepted. None accepts any.",
        compat=None,
        new=True,
    )
    max_token_bytes: int = _setting(
        "JWT_MAX_TOKEN_BYTES",
        8192,
        parsers.count,
        "The longest token accepted, in bytes.",
        new=True,
    )
    max_json_bytes: int = _setting(
        "JWT_MAX_JSON_BYTES",
        65_536,
        parsers.count,
        "The longest JSON body that is searched for a token, in bytes. Its sender is not authenticated yet.",
        compat=1_048_576,
        new=True,
    )
    token_cache_size: int = _setting(
        "JWT_TOKEN_CACHE_SIZE",
        1024,
        parsers.count,
        "How many verified tokens are cached, up to 4 KiB each; 0 turns the cache off.",
        new=True,
    )
    clock_skew: float = _setting(
        "JWT_CLOCK_SKEW",
        10,
        parsers.seconds,
        "For tokens without a `gen` claim: how many seconds the clock of the issuing machine may be ahead. "
        "Revoking a user also revokes tokens whose `iat` is up to this much later.",
        new=True,
    )

    # Realms
    realms: Mapping[str, Mapping[str, Any]] = _setting(
        "JWT_REALMS",
        None,
        parsers.realms,
        "Further kinds of users, each with keys, cookies, lifetimes and issuers of its own: a dict of names "
        'and settings, such as {"admin": {"JWT_SECRET_KEY": ..., "JWT_ACCESS_TOKEN_EXPIRES": 300}}. A realm '
        "inherits what it does not name, but for keys and issuers.",
        new=True,
    )

    # Token locations
    token_location: tuple[str, ...] = _setting(
        "JWT_TOKEN_LOCATION",
        ("headers",),
        parsers.locations,
        "Where to look for a token, in this order: headers, cookies, query_string, json, websocket_protocol.",
    )
    strict_locations: bool = _setting(
        "JWT_STRICT_LOCATIONS",
        True,
        parsers.flag,
        "Whether a request with two different tokens is refused; False: the first token counts.",
        compat=False,
        new=True,
    )
    header_name: str = _setting(
        "JWT_HEADER_NAME",
        "Authorization",
        parsers.token,
        "The header that holds the token.",
    )
    header_type: str = _setting(
        "JWT_HEADER_TYPE",
        "Bearer",
        parsers.any_text,
        'The scheme before the token; "" for a bare token.',
    )
    strict_scheme_case: bool = _setting(
        "JWT_STRICT_SCHEME_CASE",
        False,
        parsers.flag,
        "Whether the scheme's case must match (RFC 9110 §11.1 says it does not matter).",
        compat=True,
        new=True,
    )
    query_string_name: str = _setting(
        "JWT_QUERY_STRING_NAME",
        "jwt",
        parsers.text,
        "The query parameter that holds the token.",
    )
    query_string_value_prefix: str = _setting(
        "JWT_QUERY_STRING_VALUE_PREFIX",
        "",
        parsers.any_text,
        "The prefix that the parameter's value must have.",
    )
    json_key: str = _setting(
        "JWT_JSON_KEY",
        "access_token",
        parsers.text,
        "The JSON key that holds an access token.",
    )
    refresh_json_key: str = _setting(
        "JWT_REFRESH_JSON_KEY",
        "refresh_token",
        parsers.text,
        "The JSON key that holds a refresh token.",
    )

    # Cookies
    access_cookie_name: str = _setting(
        "JWT_ACCESS_COOKIE_NAME",
        "access_token_cookie",
        parsers.token,
        "The access token's cookie.",
    )
    refresh_cookie_name: str = _setting(
        "JWT_REFRESH_COOKIE_NAME",
        "refresh_token_cookie",
        parsers.token,
        "The refresh token's cookie.",
    )
    access_cookie_path: str = _setting(
        "JWT_ACCESS_COOKIE_PATH",
        "/",
        parsers.text,
        "The path of the access token's cookie.",
    )
    refresh_cookie_path: str = _setting(
        "JWT_REFRESH_COOKIE_PATH",
        "/",
        parsers.text,
        "The path of the refresh token's cookie.",
    )
    cookie_secure: bool = _setting(
        "JWT_COOKIE_SECURE",
        True,
        parsers.flag,
        "Whether browsers send the cookies over https only.",
        compat=False,
    )
    cookie_domain: str | None = _setting(
        "JWT_COOKIE_DOMAIN",
        None,
        parsers.never_empty(parsers.domain),
        "The cookies' domain; None is this host only.",
    )
    cookie_samesite: str | None = _setting(
        "JWT_COOKIE_SAMESITE",
        "Lax",
        parsers.optional(parsers.same_site),
        "The cookies' SameSite attribute: the text Lax, Strict or None; the value None leaves it out.",
        compat=None,
    )
    cookie_prefix: str = _setting(
        "JWT_COOKIE_PREFIX",
        "",
        parsers.prefix,
        'A prefix for all cookie names, which browsers enforce: "__Host-", "__Secure-" or "".',
        new=True,
    )
    cookie_partitioned: bool = _setting(
        "JWT_COOKIE_PARTITIONED",
        False,
        parsers.flag,
        "Whether cookies are partitioned by top-level site (CHIPS).",
        new=True,
    )
    cookie_former_domains: tuple[str | None, ...] = _setting(
        "JWT_COOKIE_FORMER_DOMAINS",
        (),
        parsers.former_domains,
        "Former values of JWT_COOKIE_DOMAIN, a list; None is this host only. Responses that set or delete "
        "token cookies also delete those of the same names under these domains.",
        new=True,
    )
    cookie_former_paths: tuple[str, ...] = _setting(
        "JWT_COOKIE_FORMER_PATHS",
        (),
        parsers.former_paths,
        "Former paths of the token cookies, a list; treated like the former domains.",
        new=True,
    )
    session_cookie: bool = _setting(
        "JWT_SESSION_COOKIE",
        False,
        parsers.flag,
        "Whether cookies end with the browser session; False: when their token expires.",
        compat=True,
    )

    # CSRF
    cookie_csrf_protect: bool = _setting(
        "JWT_COOKIE_CSRF_PROTECT",
        True,
        parsers.flag,
        "Whether cookie-authenticated requests need a CSRF value.",
    )
    csrf_methods: frozenset[str] = _setting(
        "JWT_CSRF_METHODS",
        ("POST", "PUT", "PATCH", "DELETE"),
        parsers.methods,
        "The HTTP methods that need a CSRF value.",
        # A list, as in Flask-JWT-Extended: applications that migrate from it append to the list.
        compat=["POST", "PUT", "PATCH", "DELETE"],
    )
    csrf_in_cookies: bool = _setting(
        "JWT_CSRF_IN_COOKIES",
        True,
        parsers.flag,
        "Whether the CSRF value is also set as a cookie that scripts can read.",
    )
    csrf_check_form: bool = _setting(
        "JWT_CSRF_CHECK_FORM",
        False,
        parsers.flag,
        "Whether a form field may hold the CSRF value.",
    )
    csrf_check_origin: bool = _setting(
        "JWT_CSRF_CHECK_ORIGIN",
        True,
        parsers.flag,
        "Whether Origin and Sec-Fetch-Site must also be trusted, if the browser sends them.",
        compat=False,
        new=True,
    )
    trusted_origins: frozenset[str] | None = _setting(
        "JWT_TRUSTED_ORIGINS",
        None,
        parsers.never_empty(parsers.origins),
        "Origins trusted besides the request's own, such as https://app.example.",
        new=True,
    )
    access_csrf_cookie_name: str = _setting(
        "JWT_ACCESS_CSRF_COOKIE_NAME",
        "csrf_access_token",
        parsers.token,
        "The cookie of the access token's CSRF value.",
    )
    refresh_csrf_cookie_name: str = _setting(
        "JWT_REFRESH_CSRF_COOKIE_NAME",
        "csrf_refresh_token",
        parsers.token,
        "The cookie of the refresh token's CSRF value.",
    )
    access_csrf_cookie_path: str = _setting(
        "JWT_ACCESS_CSRF_COOKIE_PATH",
        "/",
        parsers.text,
        "The path of the cookie of the access token's CSRF value.",
    )
    refresh_csrf_cookie_path: str = _setting(
        "JWT_REFRESH_CSRF_COOKIE_PATH",
        "/",
        parsers.text,
        "The path of the cookie of the refresh token's CSRF value.",
    )
    access_csrf_header_name: str = _setting(
        "JWT_ACCESS_CSRF_HEADER_NAME",
        "X-CSRF-TOKEN",
        parsers.token,
        "The header that carries the access token's CSRF value.",
    )
    refresh_csrf_header_name: str = _setting(
        "JWT_REFRESH_CSRF_HEADER_NAME",
        "X-CSRF-TOKEN",
        parsers.token,
        "The header that carries the refresh token's CSRF value.",
    )
    access_csrf_field_name: str = _setting(
        "JWT_ACCESS_CSRF_FIELD_NAME",
        "csrf_token",
        parsers.text,
        "The form field for the access token's CSRF value.",
    )
    refresh_csrf_field_name: str = _setting(
        "JWT_REFRESH_CSRF_FIELD_NAME",
        "csrf_token",
        parsers.text,
        "The form field for the refresh token's CSRF value.",
    )

    # Views, responses, hooks, store
    default_deny: bool = _setting(
        "JWT_DEFAULT_DENY",
        False,
        parsers.flag,
        "Whether undecorated views demand an access token; `@public` exempts a view.",
        new=True,
    )
    login_view: str | None = _setting(
        "JWT_LOGIN_VIEW",
        None,
        parsers.never_empty(parsers.text),
        "The endpoint or the path of the login page: page loads that would be refused with 401 are sent "
        "to it, with the path to come back to as `next`. None answers them with 401.",
        new=True,
    )
    error_message_key: str = _setting(
        "JWT_ERROR_MESSAGE_KEY",
        "msg",
        parsers.text,
        "The key of the message in an error's JSON body.",
    )
    error_format: Literal["msg", "problem"] = _setting(
        "JWT_ERROR_FORMAT",
        "msg",
        parsers.one_of("msg", "problem"),
        '"msg": {"msg": ..., "code": ...} (compat: without code); "problem": RFC 9457.',
        new=True,
    )
    invalid_token_status: int = _setting(
        "JWT_INVALID_TOKEN_STATUS",
        401,
        parsers.client_error,
        "The response status for a token that is not accepted.",
        compat=422,
        new=True,
    )
    hook_timeout: float | None = _setting(
        "JWT_HOOK_TIMEOUT",
        None,
        parsers.optional(parsers.positive_seconds),
        "How long a hook, or a call to a store that awaits, may run, in seconds; None is no limit. A plain "
        "hook in a plain Flask view cannot be interrupted: if it returns late, the response is a 503.",
        new=True,
    )
    jwks_max_age: int = _setting(
        "JWT_JWKS_MAX_AGE",
        300,
        parsers.count,
        "How long verifiers may cache the JWKS document, in seconds. Announce keys for longer than that "
        "before they sign.",
        new=True,
    )
    store_uri: str = _setting(
        "JWT_STORE_URI",
        "memory://",
        parsers.text,
        "The revocation store: memory://, redis://, rediss:// or unix://.",
        new=True,
    )

    # Sessions
    refresh_grace: float | Literal["until_used"] = _setting(
        "JWT_REFRESH_GRACE",
        10,
        parsers.grace,
        "How long a replaced refresh token still leads to its successor: seconds or a timedelta; "
        '"until_used" is until the successor is itself rotated; 0 is not at all.',
        new=True,
    )
    refresh_late_after: float = _setting(
        "JWT_REFRESH_LATE_AFTER",
        2,
        parsers.seconds,
        "How long after its replacement a refresh token that is repeated within its grace counts as late: "
        "seconds or a timedelta, by the store's clock.",
        new=True,
    )
    refresh_late_limit: int | None = _setting(
        "JWT_REFRESH_LATE_LIMIT",
        5,
        parsers.optional(parsers.positive_count),
        "How many late repeats, at successive refresh tokens of one session, count as a replay. "
        "None turns this off.",
        new=True,
    )
    session_max_age: float | None = _setting(
        "JWT_SESSION_MAX_AGE",
        None,
        parsers.optional(parsers.positive_seconds),
        "How long after login a session ends, however much it is used: seconds or a timedelta; "
        "None is never.",
        new=True,
    )
    max_sessions: int | None = _setting(
        "JWT_MAX_SESSIONS",
        None,
        parsers.optional(parsers.positive_count),
        "How many sessions a user may have; one more login signs out the least recently used one. "
        "Those in which somebody else acts as the user do not count. None is any number.",
        new=True,
    )

    shared_loop: bool = _setting(
        "JWT_SHARED_LOOP",
        False,
        parsers.flag,
        "Flask: whether async views run on the store loop, the event loop of the async hooks, so that both "
        "can share clients and pools. A view that blocks then holds up all others.",
        new=True,
    )

    # The frameworks' own settings
    app_secret_key: str | bytes | None = _setting(
        "SECRET_KEY",
        None,
        parsers.never_empty(parsers.secret),
        "Signs if JWT_SECRET_KEY is not set.",
    )
    app_secret_fallbacks: tuple[str | bytes, ...] | None = _setting(
        "SECRET_KEY_FALLBACKS",
        None,
        parsers.never_empty(parsers.secrets),
        "Former values of SECRET_KEY: they verify if SECRET_KEY signs, but never sign. Put those of "
        "JWT_SECRET_KEY in JWT_SECRET_KEY_FALLBACKS.",
    )
    debug: bool = _setting(
        "DEBUG",
        False,
        bool,
        "Whether to log hooks that block the event loop.",
    )

    realm: str = ""
    """The name of the realm that these settings are for; "" for the unnamed one. No setting of its own."""

    @cached_property
    def is_compat(self) -> bool:
        """True under the compat preset."""
        return self.compat is not None

    @cached_property
    def expiry_leeway(self) -> float:
        """The leeway for `exp`, in seconds."""
        return 0.0 if self.decode_leeway is None else self.decode_leeway

    @cached_property
    def start_leeway(self) -> float:
        """The leeway for `nbf` and `iat`, in seconds."""
        return 10.0 if self.decode_leeway is None else self.decode_leeway

    @cached_property
    def encoded_audience(self) -> frozenset[str] | None:
        """The audiences of new tokens; None for none."""
        given = self.encode_audience
        return None if given is None else frozenset((given,) if isinstance(given, str) else given)

    @cached_property
    def accepted_audience(self) -> frozenset[str] | None:
        """The audiences of which a token of ours must name one; None if it need not name any."""
        if self.decode_audience is not None or self.is_compat:
            return self.decode_audience
        return self.encoded_audience

    @cached_property
    def accepted_algorithms(self) -> tuple[str, ...]:
        """The algorithms accepted in tokens, the signing one first."""
        more = self.decode_algorithms or ()
        return (self.algorithm, *(name for name in more if name != self.algorithm))

    def __repr__(self) -> str:
        return f"<Settings compat={self.compat!r}>"  # never the values: secrets are among them

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Settings:
        """Read and check a configuration.

        Args:
            config: any mapping; absent keys take their default.

        Raises:
            ConfigurationError: a value is wrong; the text names its key and the fix.
        """
        preset = preset_of(config)
        checked: dict[str, Any] = {}
        for spec in SPECS:
            meta = spec.metadata
            raw = config.get(meta["key"], meta[preset])
            parse = meta["parse"]
            if preset == "compat":
                parse = _COMPAT_PARSERS.get(parse, parse)
            try:
                checked[spec.name] = parse(raw)
            except ValueError as problem:
                raise ConfigurationError(f"{meta['key']} {problem}{_as_environment_has_it(raw)}") from None
        settings = cls(**checked)
        settings._check_keys()
        settings._check_audience()
        settings._check_cookies()
        return settings

    def _check_keys(self) -> None:
        beside = {
            "JWT_SECRET_KEY": self.secret_key,
            "JWT_SECRET_KEY_FALLBACKS": self.secret_fallbacks or None,
            "JWT_PRIVATE_KEY": self.private_key,
            "JWT_PUBLIC_KEY": self.public_key,
        }
        for key, value in beside.items():
            if self.key_folder is not None and value is not None:
                raise ConfigurationError(
                    f"JWT_KEY_FOLDER holds all keys, so {key} must not be set: put its key into the folder "
                    "with `keys new --from`"
                )
        if self.secret_fallbacks and not any(name.startswith("HS") for name in self.accepted_algorithms):
            raise ConfigurationError(
                "JWT_SECRET_KEY_FALLBACKS are HMAC secrets, but no HS algorithm is accepted: for former keys "
                "of other algorithms, use a KeyRing"
            )

    def _check_audience(self) -> None:
        encoded, decoded = self.encoded_audience, self.decode_audience
        if not self.is_compat and encoded is not None and decoded is not None and decoded.isdisjoint(encoded):
            raise ConfigurationError(
                "JWT_DECODE_AUDIENCE names no audience of JWT_ENCODE_AUDIENCE, so this application would "
                "refuse its own tokens: add one, or unset JWT_DECODE_AUDIENCE: None follows "
                "JWT_ENCODE_AUDIENCE"
            )
        needed = {
            "JWT_ENCODE_ISSUER": self.encode_issuer,
            "JWT_ENCODE_AUDIENCE": self.encode_audience,
            "JWT_TOKEN_CLIENT_ID": self.token_client_id,
        }
        missing = [key for key, value in needed.items() if value is None]
        if self.token_profile is not None and missing:
            raise ConfigurationError(
                f'JWT_TOKEN_PROFILE = "rfc9068" needs {" and ".join(missing)} (RFC 9068 §2.2)'
            )

    def _check_cookies(self) -> None:
        if self.cookie_samesite == "None" and not self.cookie_secure and not self.is_compat:
            raise ConfigurationError(
                'JWT_COOKIE_SAMESITE = "None" needs JWT_COOKIE_SECURE = True: browsers drop the cookie'
            )
        if self.cookie_partitioned and not self.cookie_secure:
            raise ConfigurationError("JWT_COOKIE_PARTITIONED needs JWT_COOKIE_SECURE = True")
        if self.cookie_prefix and not self.cookie_secure:
            raise ConfigurationError(
                f'JWT_COOKIE_PREFIX = "{self.cookie_prefix}" needs JWT_COOKIE_SECURE = True'
            )
        if self.cookie_prefix == "__Host-":
            if self.cookie_former_domains or self.cookie_former_paths:
                raise ConfigurationError(
                    'JWT_COOKIE_PREFIX = "__Host-" allows no other domain or path: leave '
                    "JWT_COOKIE_FORMER_DOMAINS and JWT_COOKIE_FORMER_PATHS empty"
                )
            if self.cookie_domain is not None:
                raise ConfigurationError('JWT_COOKIE_PREFIX = "__Host-" forbids JWT_COOKIE_DOMAIN')
            for path in ("access_cookie", "refresh_cookie", "access_csrf_cookie", "refresh_csrf_cookie"):
                if getattr(self, f"{path}_path") != "/":
                    raise ConfigurationError(
                        f'JWT_COOKIE_PREFIX = "__Host-" needs JWT_{path.upper()}_PATH = "/"'
                    )


def _as_environment_has_it(raw: object) -> str:
    """A hint on how to write a value in the environment, if it was given as text but is not text."""
    if not isinstance(raw, str):
        return ""
    if raw.lower() in ("true", "false", "null", "none", "yes", "no", "on", "off"):
        return "; in the environment write true, false or null, which are JSON"
    if "," in raw or raw.startswith("["):
        return '; in the environment write a JSON list, such as ["headers", "cookies"]'
    return ""


_COMPAT_PARSERS: Final[dict[Any, Any]] = {
    parsers.lifetime: parsers.compat_lifetime,
    parsers.flag: parsers.compat_flag,
}
SPECS: Final = tuple(spec for spec in fields(Settings) if spec.metadata)
"""The fields of `Settings` that are settings."""

KEYS: Final[dict[str, bool]] = {spec.metadata["key"]: spec.metadata["new"] for spec in SPECS}
"""Every key, and whether Flask-JWT-Extended lacks it."""


def preset_of(config: Mapping[str, Any]) -> str:
    """The preset that a configuration names: "compat" or "default"."""
    return "compat" if config.get("JWT_COMPAT") == COMPAT_NAME else "default"
