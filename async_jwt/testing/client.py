"""A framework's own test client, signed in."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from async_jwt.binding import Binding
from async_jwt.core.claims import Fresh
from async_jwt.core.codec import read_unverified
from async_jwt.core.issue import Expires
from async_jwt.core.locations import cookie_name
from async_jwt.core.policy import ACCESS, REFRESH
from async_jwt.core.realm import Realm
from async_jwt.manager import EXTENSION
from async_jwt.operations import OperationsAt

__all__ = ["binding_of", "jwt_client"]

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
) -> Any:
    """The application's test client, whose requests carry a token of a user.

    The token is made at the client's first request, by the application's own loaders and keys: access and
    refresh tokens as a login makes them. A header of a request's own goes before it::

        response = await jwt_client(app, "alice").get("/me")

    Args:
        app: a Quart or Flask application with a `JWTManager`.
        identity: whom the token is for, as the application hands it to `create_token_pair`.
        type: "access", "refresh" or a purpose.
        fresh: whether an access token is fresh.
        claims: further claims, over those of the loaders.
        expires: its lifetime, as for `create_access_token`.
        expired: whether it has expired an hour ago.
        revoked: whether it was revoked.
        location: "headers", or "cookies" with the CSRF value beside it.

    Returns:
        What `app.test_client()` returns: in Quart its methods are awaited, and `websocket` is signed in
        too.

    Raises:
        RuntimeError: the application has no `JWTManager`.
        ValueError: the location is neither.
    """
    if location not in ("headers", "cookies"):
        raise ValueError(f'location={location!r}: a test client sends tokens in "headers" or "cookies"')
    credentials = _Credentials(
        binding_of(app), identity, type, fresh, dict(claims or {}), expires, expired, revoked, location
    )
    return _signed_in(app, credentials)


def binding_of(app: Any) -> Binding:
    """What an application keeps of its manager.

    Raises:
        RuntimeError: it has none.
    """
    binding: Binding | None = app.extensions.get(EXTENSION)
    if binding is None:
        raise RuntimeError(f"The application {app.name!r} has no JWTManager: call init_app(app)")
    return binding


class _Credentials:
    """What a client sends: made once, when it is needed."""

    def __init__(
        self,
        binding: Binding,
        identity: Any,
        kind: str,
        fresh: Fresh,
        claims: dict[str, Any],
        expires: Expires,
        expired: bool,
        revoked: bool,
        location: str,
    ) -> None:
        # Signed in whatever happens to the store meanwhile, such as an outage that is tested.
        self._binding = copy.copy(binding)
        self._binding.stand_in(None)
        self._operations = OperationsAt(self._binding)
        self._identity = identity
        self._kind = kind
        self._fresh = fresh
        self._claims = claims
        self._expires = expires
        self._expired = expired
        self._revoked = revoked
        self._location = location
        self.is_made = False
        self.headers: dict[str, str] = {}
        self.cookies: dict[str, str] = {}

    def realm(self) -> Realm:
        """The application's authentication."""
        return self._binding.realm()

    async def make(self) -> None:
        """Make the token."""
        if self.is_made:
            return
        app, settings = self._binding.app, self._binding.realm().settings
        async with AsyncExitStack() as stack:
            context = app.app_context()
            if hasattr(context, "__aenter__"):
                await stack.enter_async_context(context)
            else:
                stack.enter_context(context)
            token = await self._token()
            if self._revoked:
                await self._operations.revoke_token(token)
        self.is_made = True
        if self._location == "headers":
            self.headers = {settings.header_name: f"{settings.header_type} {token}".strip()}
            return
        is_refresh = self._kind == REFRESH
        csrf = read_unverified(token, settings.max_token_bytes)[1].get("csrf")
        name = settings.refresh_csrf_header_name if is_refresh else settings.access_csrf_header_name
        self.headers = {} if csrf is None else {name: csrf}
        self.cookies = {cookie_name(is_refresh, settings): token}

    async def _token(self) -> str:
        claims = dict(self._claims)
        if self._expired:
            ended = int(self._binding.realm().clock()) - _AN_HOUR
            claims = {"iat": ended - 1, "nbf": ended - 1, "exp": ended, **claims}
        identity, operations, life = self._identity, self._operations, self._expires
        if self._kind not in (ACCESS, REFRESH):
            return await operations.create_token(
                identity, type=self._kind, expires_delta=life, additional_claims=claims
            )
        if self._binding.realm().sessions is None or self._expired:
            if self._kind == REFRESH:
                return await operations.create_refresh_token(identity, life, claims)
            return await operations.create_access_token(identity, self._fresh, life, claims)
        pair = await operations.create_token_pair(
            identity,
            fresh=self._fresh,
            additional_claims=claims,
            access_expires_delta=life if self._kind == ACCESS else None,
            refresh_expires_delta=life if self._kind == REFRESH else None,
        )
        return pair.access_token if self._kind == ACCESS else pair.refresh_token


def _signed_in(app: Any, credentials: _Credentials) -> Any:
    plain = app.test_client()
    if hasattr(plain, "environ_base"):
        return _flask_client(app, plain, credentials)
    return _quart_client(plain, credentials)


def _flask_client(app: Any, plain: Any, credentials: _Credentials) -> Any:
    from async_jwt.adapters._flask import run  # noqa: PLC0415  # the framework of this application

    class SignedIn(plain.__class__):  # type: ignore[misc]  # whichever the application has
        def open(self, *args: Any, **kwargs: Any) -> Any:
            if not credentials.is_made:
                run(credentials.make(), credentials.realm())
                for name, value in credentials.headers.items():
                    self.environ_base[f"HTTP_{name.upper().replace('-', '_')}"] = value
                for name, value in credentials.cookies.items():
                    self.set_cookie(name, value)
            return super().open(*args, **kwargs)

    app_class, app.test_client_class = app.test_client_class, SignedIn
    try:
        return app.test_client()
    finally:
        app.test_client_class = app_class


def _quart_client(client: Any, credentials: _Credentials) -> Any:
    def carrying(connection: Any) -> Any:
        class Carrying(connection):  # type: ignore[misc]
            async def __aenter__(self) -> Any:
                is_first = not credentials.is_made
                await credentials.make()
                sent = self.scope["headers"]
                names = {name.lower() for name, _ in sent}
                for name, value in credentials.headers.items():
                    if name.lower().encode() not in names:
                        sent.append((name.lower().encode(), value.encode()))
                cookies: dict[str, str] = credentials.cookies if is_first else {}
                for name, value in cookies.items():
                    sent.append((b"cookie", f"{name}={value}".encode()))
                    host = dict(sent).get(b"host", b"localhost").decode()
                    client.set_cookie(host.partition(":")[0], name, value)
                return await super().__aenter__()

        return Carrying

    client.http_connection_class = carrying(client.http_connection_class)
    client.websocket_connection_class = carrying(client.websocket_connection_class)
    return client
