"""The framework's own test client, signed in."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from async_jwt.app_state import AppState
from async_jwt.core.claims import Fresh
from async_jwt.core.codec import read_unverified
from async_jwt.core.cookies import Cookie, cookies_to_set
from async_jwt.core.engine import Engine
from async_jwt.core.locations import csrf_names
from async_jwt.core.parsers import Expires
from async_jwt.core.permissions import Granted
from async_jwt.core.policy import ACCESS, REFRESH
from async_jwt.manager import app_state_of
from async_jwt.operations import Operations, operations_at

__all__ = ["jwt_client"]

_AN_HOUR = 3600


def jwt_client(
    app: Any,
    identity: Any,
    *,
    type: str = ACCESS,
    fresh: Fresh = False,
    claims: Mapping[str, Any] | None = None,
    expires: Expires = None,
    expired: bool = False,
    revoked: bool = False,
    location: str = "headers",
    scopes: Granted = None,
    roles: Granted = None,
    realm: str = "",
) -> Any:
    """Return the application's test client, whose requests carry a user's token.

    The first request creates the token with the application's own loaders and keys: access and refresh
    tokens as a login does. A header that a request sets itself takes precedence::

        response = await jwt_client(app, "alice").get("/me")

    Args:
        app: a Quart or Flask application with a `JWTManager`.
        identity: the user, as the application passes it to `create_token_pair`.
        type: "access", "refresh" or a purpose.
        fresh: whether an access token is fresh.
        claims: additional claims, which override those of the loaders.
        expires: its lifetime, a timedelta or seconds; None uses the settings, False means never.
        expired: True for a token that expired an hour ago.
        revoked: True for a revoked token.
        location: "headers", or "cookies" with the CSRF value in its header.
        scopes: its scopes, as for `create_token_pair`.
        roles: its roles, likewise.
        realm: the realm that it belongs to; "" is the unnamed one.

    Returns:
        The result of `app.test_client()`. In Quart, await its methods; `websocket` is signed in too.

    Raises:
        RuntimeError: the application has no `JWTManager`.
        ValueError: the location is not one of these.
        ConfigurationError: there is no such realm.
    """
    if location not in ("headers", "cookies"):
        raise ValueError(f'location={location!r}: a test client sends tokens in "headers" or "cookies"')
    app_state = app_state_of(app).of_realm(realm)
    credentials = _Credentials(
        app_state,
        identity,
        kind=type,
        fresh=fresh,
        claims=dict(claims or {}),
        expires=expires,
        expired=expired,
        revoked=revoked,
        location=location,
        grants={"scopes": scopes, "roles": roles},
    )
    plain = app_state.app.test_client()
    is_flask = hasattr(plain, "environ_base")
    return _flask_client(app_state.app, plain, credentials) if is_flask else _quart_client(plain, credentials)


@dataclass(kw_only=True)
class _Credentials:
    """What a client sends; created once, on first use."""

    app_state: AppState = field(kw_only=False)
    identity: Any = field(kw_only=False)
    kind: str
    fresh: Fresh
    claims: dict[str, Any]
    expires: Expires
    expired: bool
    revoked: bool
    location: str
    grants: dict[str, Any]
    is_made: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    cookies: Sequence[Cookie] = ()

    @property
    def engine(self) -> Engine:
        """The application's engine."""
        return self.app_state.engine()

    @property
    def host(self) -> str:
        """The host that test clients send their requests to."""
        name: str = self.app_state.app.config.get("SERVER_NAME") or "localhost"
        return name.partition(":")[0]

    async def make(self) -> None:
        """Create the token. Call it once."""
        # Use the real store, so that signing in works during a simulated outage.
        own = self.app_state.with_own_store()
        operations, settings = operations_at(own), own.engine().settings
        async with own.context():
            token = await self._token(operations, own.engine())
            if self.revoked:
                await operations.revoke_token(token)
        if self.location == "headers":
            self.headers = {settings.header_name: f"{settings.header_type} {token}".strip()}
        else:
            _, claims = read_unverified(token, settings.max_token_bytes)
            refresh = self.kind == REFRESH
            self.cookies = cookies_to_set(token, claims, settings, own.engine().clock(), refresh=refresh)
            if "csrf" in claims and not settings.csrf_in_cookies:
                header, _ = csrf_names(settings, refresh=refresh)
                self.headers = {header: claims["csrf"]}
        self.is_made = True

    @property
    def csrf_cookie(self) -> tuple[str, str]:
        """Name and path of the cookie that scripts read the CSRF value from."""
        settings, refresh = self.engine.settings, self.kind == REFRESH
        path = settings.refresh_csrf_cookie_path if refresh else settings.access_csrf_cookie_path
        return csrf_names(settings, refresh=refresh)[1], path

    def sent(self, csrf: str | None) -> dict[str, str]:
        """Return the headers of a request, given the CSRF cookie's current value."""
        if csrf is None or self.location == "headers":
            return self.headers
        header, _ = csrf_names(self.engine.settings, refresh=self.kind == REFRESH)
        return {header: csrf}

    async def _token(self, operations: Operations, engine: Engine) -> str:
        claims = dict(self.claims)
        if self.expired:
            ended = int(engine.clock()) - _AN_HOUR
            claims = {"iat": ended - 1, "nbf": ended - 1, "exp": ended, **claims}
        identity, life = self.identity, self.expires
        if self.kind not in (ACCESS, REFRESH):
            return await operations.create_token(
                identity, type=self.kind, expires_delta=life, additional_claims=claims, **self.grants
            )
        if engine.sessions is None or self.expired:
            if self.kind == REFRESH:
                return await operations.create_refresh_token(identity, life, claims, **self.grants)
            return await operations.create_access_token(identity, self.fresh, life, claims, **self.grants)
        pair = await operations.create_token_pair(
            identity,
            fresh=self.fresh,
            additional_claims=claims,
            access_expires_delta=life if self.kind == ACCESS else None,
            refresh_expires_delta=life if self.kind == REFRESH else None,
            **self.grants,
        )
        return pair.access_token if self.kind == ACCESS else pair.refresh_token


def _flask_client(app: Any, plain: Any, credentials: _Credentials) -> Any:
    # Imports Flask, which Quart applications may lack.
    from async_jwt.adapters._flask import run_in_view  # noqa: PLC0415
    from async_jwt.adapters._older_flask import hold_cookie, value_of_cookie  # noqa: PLC0415

    making = threading.Lock()

    class SignedIn(plain.__class__):  # type: ignore[misc]  # the application's client class
        def open(self, *args: Any, **kwargs: Any) -> Any:
            with making:
                if not credentials.is_made:
                    run_in_view(credentials.make(), credentials.engine)
                    for cookie in credentials.cookies:
                        hold_cookie(self, credentials.host, cookie)
            name, path = credentials.csrf_cookie
            domain = credentials.engine.settings.cookie_domain or credentials.host
            for header, value in credentials.sent(value_of_cookie(self, name, domain, path)).items():
                self.environ_base[f"HTTP_{header.upper().replace('-', '_')}"] = value
            return super().open(*args, **kwargs)

    app_class, app.test_client_class = app.test_client_class, SignedIn
    try:
        return app.test_client()
    finally:
        app.test_client_class = app_class


def _quart_client(client: Any, credentials: _Credentials) -> Any:
    making = asyncio.Lock()

    def carrying(connection: Any) -> Any:
        class Carrying(connection):  # type: ignore[misc]  # the client's connection class
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                self._lacks_cookies = not credentials.is_made

            async def __aenter__(self) -> Any:
                async with making:
                    if not credentials.is_made:
                        await credentials.make()
                        for cookie in credentials.cookies:
                            client.set_cookie(
                                credentials.host,
                                cookie.name,
                                cookie.value,
                                path=cookie.path,
                                domain=cookie.domain,
                            )
                held = {cookie.name: cookie.value for cookie in client.cookie_jar}
                sent = self.scope["headers"]
                if self._lacks_cookies:
                    sent += [(b"cookie", f"{name}={value}".encode()) for name, value in held.items()]
                names = {name.lower() for name, _ in sent}
                for header, value in credentials.sent(held.get(credentials.csrf_cookie[0])).items():
                    if header.lower().encode() not in names:
                        sent.append((header.lower().encode(), value.encode()))
                return await super().__aenter__()

        return Carrying

    client.http_connection_class = carrying(client.http_connection_class)
    client.websocket_connection_class = carrying(client.websocket_connection_class)
    return client
