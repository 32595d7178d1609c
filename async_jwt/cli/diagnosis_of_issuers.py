"""The doctor's checks of other issuers: fetches the documents of each configured one."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from async_jwt.app_state import AppState
from async_jwt.cli.diagnosis import Finding
from async_jwt.clock import system_clock
from async_jwt.core.issuer_keys import IssuerKeys
from async_jwt.issuers.issuer import Issuer, is_loopback

__all__ = ["of_issuers"]


async def of_issuers(bound: AppState) -> list[Finding]:
    """Check the configured issuers, and whether their keys can be fetched."""
    found = []
    for source in bound.registry.configured:
        found += [*_of_issuer(source.issuer), *await _of_source(source)]
        if "decode_key" in bound.base_engine().hooks and source.issuer.revoked_as is None:
            found.append(
                Finding(
                    "warning",
                    source.issuer.url,
                    "decode_key_loader is registered, too: users who were revoked while it accepted this "
                    "issuer's tokens get in again",
                    'set revoked_as="plain" until the longest of those revocations has ended',
                )
            )
    return found


def _of_issuer(issuer: Issuer) -> Iterator[Finding]:
    if issuer.accepts_anybody:
        yield Finding(
            "error",
            issuer.url,
            "tokens that it made for any other service are accepted",
            "set audience= or clients=",
        )
    for address in (issuer.jwks_uri, issuer.fetch_from):
        parts = None if address is None else urlsplit(address)
        if parts is not None and parts.scheme == "http" and not is_loopback(parts):
            yield Finding(
                "warning",
                issuer.url,
                f"its keys are fetched over http, from {address}",
                "use https://, unless the network between is your own",
            )
    if issuer.revoked_as == "plain":
        yield Finding(
            "warning",
            issuer.url,
            'revoked_as="plain" also applies revocations of users of your own who have the same name',
            "drop it once the revocations from before this issuer was configured have ended",
        )


async def _of_source(source: IssuerKeys) -> list[Finding]:
    if not source.issuer.is_fetched:
        return []
    await source.fetch_now(system_clock)
    if source.problem is not None:
        return [
            Finding(
                "error",
                source.issuer.url,
                f"its keys cannot be fetched: {source.problem}",
                "compare it with the issuer in its metadata, byte for byte, or set jwks_uri= or fetch_from=",
            )
        ]
    if len(source.keys):
        return []
    return [
        Finding(
            "error",
            source.issuer.url,
            f"none of its {source.left_out} keys can verify tokens",
            "compare their algorithms with algorithms=",
        )
    ]
