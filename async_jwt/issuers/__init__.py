"""Other issuers: whose access tokens an application accepts, and where their keys are.

Nothing here knows requests, hooks or event loops: `core` asks for keys and checks tokens.
"""

from async_jwt.issuers.fetching import Fetch, Fetched, FetchError, HttpFetch
from async_jwt.issuers.identity import IssuerIdentity
from async_jwt.issuers.issuer import Issuer
from async_jwt.issuers.presets import (
    apple,
    auth0,
    authentik,
    clerk,
    cognito,
    entra,
    firebase,
    github_actions,
    gitlab_ci,
    google,
    hydra,
    keycloak,
    kubernetes,
    okta,
    supabase,
    zitadel,
)
from async_jwt.issuers.rules import AccessRule

__all__ = [
    "AccessRule",
    "Fetch",
    "FetchError",
    "Fetched",
    "HttpFetch",
    "Issuer",
    "IssuerIdentity",
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
