"""The harness that each adapter is run in. A new adapter adds one class and one parameter."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from quart import Quart
from werkzeug.datastructures import Headers

import async_jwt.stores.redis  # noqa: F401  # as in applications, made before they serve
from async_jwt.adapters import quart as quart_adapter
from tests.conftest import SECRET


@dataclass
class Answer:
    status: int
    headers: Headers
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return self.json["code"]

    @property
    def cookies(self) -> dict[str, str]:
        """Each Set-Cookie header by its cookie's name."""
        return {line.partition("=")[0]: line for line in self.headers.getlist("Set-Cookie")}


class QuartHarness:
    """An application with a few views, and a client that talks to it."""

    api: ModuleType = quart_adapter

    def __init__(self, config: dict[str, Any] | None = None, **manager: Any) -> None:
        self.app = Quart("tests")
        self.app.config.update({"JWT_SECRET_KEY": SECRET, **(config or {})})
        self.jwt = self.api.JWTManager(self.app, **manager)
        self._views()

    def _views(self) -> None:
        api = self.api

        def report() -> dict[str, Any]:
            found = api.current_auth()
            return {
                "identity": api.get_jwt_identity(),
                "claims": api.get_jwt(),
                "header": api.get_jwt_header(),
                "location": api.get_jwt_request_location(),
                "user": None if found is None else found.user,
            }

        async def view() -> dict[str, Any]:
            return report()

        methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
        for path, demands in {
            "/me": {},
            "/optional": {"optional": True},
            "/fresh": {"fresh": True},
            "/refresh": {"refresh": True},
            "/either": {"verify_type": False},
            "/reset": {"type": "reset"},
            "/unchecked": {"skip_revocation_check": True},
            "/query": {"locations": "query_string"},
            "/everywhere": {"locations": ["headers", "cookies", "query_string", "json"]},
        }.items():
            guarded = api.jwt_required(**demands)(view)
            self.app.add_url_rule(path, path, guarded, methods=methods, provide_automatic_options=False)

        @self.app.get("/open")
        async def open_() -> dict[str, Any]:
            return {"user": bool(api.current_user), "location": api.get_jwt_request_location()}

    def view(self, path: str, function: Callable[..., Any], **options: Any) -> None:
        self.app.add_url_rule(path, path, function, **options)

    async def call(
        self,
        path: str = "/me",
        *,
        method: str = "GET",
        token: str | None = None,
        headers: dict[str, str] | list[tuple[str, str]] | None = None,
        cookies: dict[str, str] | None = None,
        data: bytes | str | None = None,
        json: Any = None,
        form: dict[str, str] | None = None,
    ) -> Answer:
        sent = Headers(headers or {})
        if token is not None:
            sent.add("Authorization", f"Bearer {token}")
        if cookies:
            sent.add("Cookie", "; ".join(f"{name}={value}" for name, value in cookies.items()))
        client = self.app.test_client(use_cookies=False)
        given = {"data": data, "json": json, "form": form}
        given = {name: value for name, value in given.items() if value is not None}
        response = await client.open(path, method=method, headers=sent, **given)
        return Answer(response.status_code, response.headers, await response.get_data(as_text=False))

    async def mint(self, identity: Any = "alice", **options: Any) -> str:
        return await self.jwt.create_access_token(identity, **options)

    async def mint_refresh(self, identity: Any = "alice", **options: Any) -> str:
        return await self.jwt.create_refresh_token(identity, **options)

    def context(self) -> Any:
        return self.app.app_context()


HARNESSES = {"quart": QuartHarness}


@pytest.fixture(params=list(HARNESSES))
def harness(request: pytest.FixtureRequest) -> type[QuartHarness]:
    return HARNESSES[request.param]


@pytest.fixture(autouse=True)
def nothing_blocks() -> Iterator[None]:
    """Fails a test in which we, or a hook that we call, block the event loop."""
    with blockbuster_ctx("async_jwt"):
        yield
