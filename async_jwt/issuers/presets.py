"""Presets: what is known of some providers, as plain data. Each returns an `Issuer`.

Every preset takes the further arguments of `Issuer`, which win. What tells a provider's access tokens from
its ID tokens comes from its documents, as of November 2026.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from async_jwt.errors import ConfigurationError
from async_jwt.issuers.issuer import Issuer
from async_jwt.issuers.rules import AccessRule

__all__ = [
    "PRESETS",
    "apple",
    "auth0",
    "authentik",
    "clerk",
    "cognito",
    "entra",
    "firebase",
    "github_actions",
    "gitlab_ci",
    "google",
    "hydra",
    "keycloak",
    "kubernetes",
    "okta",
    "supabase",
    "zitadel",
]

_ID_TOKENS: Final = {"kind": "id_token", "algorithms": ("RS256",)}

RULES: Final[Mapping[str, Mapping[str, Any]]] = {
    # ID tokens are meant for the client, whose id is never an API's audience.
    "auth0": {"algorithms": ("RS256",), "access": AccessRule(none_of=("at_hash", "c_hash", "nonce"))},
    "okta": {
        "algorithms": ("RS256",),
        "identity": ("uid", "sub"),  # a login may change hands; machines have no uid
        "roles": "groups",
        "scopes": "scp",
        "access": AccessRule(prefixes={"jti": "AT."}, none_of=("at_hash", "nonce")),
    },
    # Access tokens may have a nonce, up to Keycloak 24.
    "keycloak": {
        "access": AccessRule(claims={"typ": ("Bearer",)}, all_of=("jti",)),
        "roles": ("realm_access", "roles"),
    },
    "cognito": {
        "algorithms": ("RS256",),
        "access": AccessRule(claims={"token_use": ("access",)}),
        "roles": "cognito:groups",
    },
    # ID tokens may have roles, too, but name no client beside their audience.
    "entra": {
        "algorithms": ("RS256",),
        "identity": "oid",
        "scopes": "scp",
        "access": AccessRule(
            any_of=("scp", "roles"), none_of=("nonce", "at_hash"), at_jwt_suffices=False, names_client=True
        ),
    },
    "google": _ID_TOKENS,
    "firebase": _ID_TOKENS,
    "supabase": {
        "algorithms": ("ES256", "RS256"),
        "access": AccessRule(all_of=("session_id", "role")),
        "roles": "role",
    },
    "clerk": {
        "algorithms": ("RS256",),
        "roles": ("o", "rol"),
        "access": AccessRule(all_of=("sid",), none_of=("nonce", "at_hash", "aud")),
    },
    "zitadel": {
        "access": AccessRule(all_of=("jti",), none_of=("nonce", "at_hash")),
        "roles": "urn:zitadel:iam:org:project:roles",  # an object, by the name of the role
    },
    # Its access tokens have all claims of its ID tokens.
    "authentik": {"access": AccessRule(all_of=("azp", "uid"))},
    "hydra": {
        "access": AccessRule(all_of=("client_id", "jti"), none_of=("at_hash", "nonce")),
    },
    "github_actions": _ID_TOKENS,
    "gitlab_ci": _ID_TOKENS,
    "kubernetes": {"algorithms": ("RS256", "ES256"), "access": AccessRule(all_of=("kubernetes.io",))},
    "apple": _ID_TOKENS,
}
"""By preset, the arguments of `Issuer` that it sets."""

PRESETS: Final = tuple(RULES)
"""The names of all presets, which `JWT_ISSUERS` may name as `preset`."""


def preset(name: str, url: str, options: Mapping[str, Any]) -> Issuer:
    """An issuer with the rules of a provider.

    Args:
        name: the provider.
        url: the issuer.
        options: further arguments of `Issuer`, which win.

    Raises:
        ConfigurationError: there is no such preset, or an argument is wrong.
    """
    if name not in RULES:
        raise ConfigurationError(f"There is no preset {name!r}: choose from {', '.join(PRESETS)}")
    return Issuer(url, **{**RULES[name], **options})


def _host(domain: str) -> str:
    """A host, of which users also pass the address. Raises ConfigurationError."""
    host = domain.removeprefix("https://").rstrip("/")
    if not host or "://" in host:
        raise ConfigurationError(f"{domain!r} must be a host name, such as login.example.com")
    return host


def _audience(audience: str | Iterable[str], clients: str | Iterable[str] | None) -> dict[str, Any]:
    return {"audience": audience, **({} if clients is None else {"clients": clients})}


def auth0(domain: str, *, audience: str | Iterable[str], **options: Any) -> Issuer:
    """Auth0: `auth0("acme.eu.auth0.com", audience="https://api.acme.dev")`.

    Args:
        domain: the tenant's domain, or your own.
        audience: the identifier of your API.
        options: further arguments of `Issuer`.
    """
    return preset("auth0", f"https://{_host(domain)}/", {"audience": audience, **options})


def okta(
    domain: str, *, audience: str | Iterable[str] = "api://default", server: str = "default", **options: Any
) -> Issuer:
    """Okta. Tokens of the organization's own server cannot be verified by others: use a custom one.

    Args:
        domain: the organization's domain, such as acme.okta.com.
        audience: the audience of the authorization server.
        server: its id.
        options: further arguments of `Issuer`.
    """
    return preset("okta", f"https://{_host(domain)}/oauth2/{server}", {"audience": audience, **options})


def keycloak(
    base: str,
    realm: str,
    *,
    audience: str | Iterable[str] | None = None,
    clients: str | Iterable[str] | None = None,
    **options: Any,
) -> Issuer:
    """Keycloak. Without an audience mapper its tokens name none of yours: then pass `clients`.

    Args:
        base: the server's address as clients see it, such as https://login.example.com.
        realm: the realm.
        audience: the audience of your API.
        clients: the clients whose tokens you accept; compared with `azp`.
        options: further arguments of `Issuer`; `fetch_from` where the server has another address inside.
    """
    given = {
        name: value for name, value in (("audience", audience), ("clients", clients)) if value is not None
    }
    return preset("keycloak", f"{base.rstrip('/')}/realms/{realm}", {**given, **options})


def cognito(region: str, pool: str, *, clients: str | Iterable[str], **options: Any) -> Issuer:
    """Amazon Cognito. Its access tokens have no `aud`, but a `client_id`.

    Args:
        region: the region, such as eu-central-1.
        pool: the user pool's id.
        clients: the app clients whose tokens you accept.
        options: further arguments of `Issuer`.
    """
    return preset(
        "cognito", f"https://cognito-idp.{region}.amazonaws.com/{pool}", {"clients": clients, **options}
    )


def entra(
    tenant: str,
    *,
    audience: str | Iterable[str],
    clients: str | Iterable[str] | None = None,
    version: int = 2,
    **options: Any,
) -> Issuer:
    """Microsoft Entra ID. Tokens for Microsoft Graph cannot be verified by others.

    For several tenants, return one of these for each from `issuer_loader`.

    Args:
        tenant: the tenant's id, a GUID: `common` and domain names are no issuers.
        audience: the application id of your API (version 2), or its App ID URI (version 1).
        clients: the applications whose tokens you accept; None accepts those of all.
        version: the version of the access tokens, as your API's manifest has it.
        options: further arguments of `Issuer`.
    """
    if tenant.lower() in ("common", "organizations", "consumers") or "." in tenant:
        raise ConfigurationError(f"entra({tenant!r}): pass the tenant's id, a GUID, which its tokens name")
    given = {**_audience(audience, clients), **options}
    if version == 1:
        given.setdefault("fetch_from", f"https://login.microsoftonline.com/{tenant}")
        return preset("entra", f"https://sts.windows.net/{tenant}/", given)
    return preset("entra", f"https://login.microsoftonline.com/{tenant}/v2.0", given)


def google(*, clients: str | Iterable[str], **options: Any) -> Issuer:
    """Google's ID tokens, the only ones that are JWTs.

    Args:
        clients: your client ids, which are the audience of ID tokens.
        options: further arguments of `Issuer`.
    """
    return preset("google", "https://accounts.google.com", {"audience": clients, **options})


def firebase(project: str, **options: Any) -> Issuer:
    """Firebase Authentication.

    Args:
        project: the project's id.
        options: further arguments of `Issuer`.
    """
    url = f"https://securetoken.google.com/{project}"
    return preset("firebase", url, {"audience": project, "jwks_uri": _FIREBASE_KEYS, **options})


_FIREBASE_KEYS = "https://www.googleapis.com/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com"


def supabase(project: str, *, audience: str | Iterable[str] = "authenticated", **options: Any) -> Issuer:
    """Supabase, with asymmetric keys. The legacy secret needs `keys=[Key(secret)]`, `algorithms=["HS256"]`.

    Args:
        project: the project's reference.
        audience: the audience.
        options: further arguments of `Issuer`.
    """
    return preset("supabase", f"https://{project}.supabase.co/auth/v1", {"audience": audience, **options})


def clerk(frontend_api: str, *, clients: str | Iterable[str], **options: Any) -> Issuer:
    """Clerk's session tokens, which have no `aud`.

    Args:
        frontend_api: the Frontend API, such as clerk.example.com.
        clients: the origins of your pages, which `azp` names.
        options: further arguments of `Issuer`.
    """
    return preset("clerk", f"https://{_host(frontend_api)}", {"clients": clients, **options})


def zitadel(domain: str, *, audience: str | Iterable[str], **options: Any) -> Issuer:
    """Zitadel. The application must issue access tokens as JWTs.

    Args:
        domain: the instance's domain.
        audience: the project's id.
        options: further arguments of `Issuer`.
    """
    return preset("zitadel", f"https://{_host(domain)}", {"audience": audience, **options})


def authentik(base: str, application: str, *, audience: str | Iterable[str], **options: Any) -> Issuer:
    """Authentik.

    Args:
        base: the server's address.
        application: the application's slug.
        audience: the client id.
        options: further arguments of `Issuer`.
    """
    url = f"{base.rstrip('/')}/application/o/{application}/"
    return preset("authentik", url, {"audience": audience, **options})


def hydra(
    url: str,
    *,
    audience: str | Iterable[str] | None = None,
    clients: str | Iterable[str] | None = None,
    **options: Any,
) -> Issuer:
    """Ory Hydra, with access tokens as JWTs.

    Args:
        url: the issuer as it is configured there.
        audience: the audience; Hydra leaves `aud` empty unless a client asks for one.
        clients: the clients whose tokens you accept.
        options: further arguments of `Issuer`.
    """
    given = {
        name: value for name, value in (("audience", audience), ("clients", clients)) if value is not None
    }
    return preset("hydra", url, {**given, **options})


def github_actions(*, audience: str | Iterable[str], **options: Any) -> Issuer:
    """Tokens of GitHub Actions. Check the claims `repository` and `ref`: anybody has such tokens.

    Args:
        audience: the audience that the workflow asks for.
        options: further arguments of `Issuer`.
    """
    url = "https://token.actions.githubusercontent.com"
    return preset("github_actions", url, {"audience": audience, "leeway": 300, **options})


def gitlab_ci(url: str = "https://gitlab.com", *, audience: str | Iterable[str], **options: Any) -> Issuer:
    """Tokens of GitLab CI jobs. Check the claim `project_path`: anybody has such tokens.

    Args:
        url: the instance.
        audience: the audience that the job asks for.
        options: further arguments of `Issuer`.
    """
    return preset("gitlab_ci", url, {"audience": audience, **options})


def kubernetes(
    url: str = "https://kubernetes.default.svc.cluster.local",
    *,
    audience: str | Iterable[str],
    **options: Any,
) -> Issuer:
    """Service account tokens of a cluster.

    Args:
        url: the issuer of the cluster.
        audience: the audience of the projected token.
        options: further arguments of `Issuer`: inside a cluster, `fetch=HttpFetch(verify=..., headers=...)`
            with its certificate authority and a token.
    """
    return preset("kubernetes", url, {"audience": audience, **options})


def apple(*, clients: str | Iterable[str], **options: Any) -> Issuer:
    """Sign in with Apple: its ID tokens.

    Args:
        clients: your bundle ids or service ids.
        options: further arguments of `Issuer`.
    """
    return preset("apple", "https://appleid.apple.com", {"audience": clients, **options})
