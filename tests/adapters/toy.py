"""A web framework of a page, and its adapter: what a framework has to offer, and nothing of Werkzeug.

`api.py` and everything below it stand on `Framework` alone. This is the proof, and the smallest example.
"""

from __future__ import annotations

import contextlib
import inspect
import json
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from types import SimpleNamespace
from typing import Any

from async_jwt.adapters.api import PublicAPI
from async_jwt.adapters.errors import response_of
from async_jwt.errors import JWTExtendedException
from async_jwt.manager import AsyncManager

_current: ContextVar[tuple[Any, Any]] = ContextVar("current", default=(None, None))


@dataclass
class Request:
    path: str
    method: str = "GET"
    sent: dict[str, str] = field(default_factory=dict)
    cookies: dict[str, str] = field(default_factory=dict)


@dataclass
class Response:
    body: Any
    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)


class App:
    def __init__(self, **config: Any) -> None:
        self.config: dict[str, Any] = config
        self.extensions: dict[str, Any] = {}
        self.views: dict[str, Any] = {}
        self.last: list[Any] = []

    async def handle(self, request: Request) -> Response:
        token = _current.set((self, request))
        try:
            answer = self.views[request.path]()
            answer = await answer if inspect.isawaitable(answer) else answer
            response = answer if isinstance(answer, Response) else Response(answer)
        except JWTExtendedException as error:
            response = response_of(error)
        else:
            for function in self.last:
                response = function(response)
        finally:
            _current.reset(token)
        return response


class View:
    is_websocket = is_accepted = is_json = False
    origin = "https://toy.example"

    def __init__(self, request: Request) -> None:
        self.method, self.path = request.method, request.path
        self._request = request

    def headers(self, name: str) -> list[str]:
        return [value for key, value in self._request.sent.items() if key.lower() == name.lower()]

    def cookies(self, name: str) -> list[str]:
        return [self._request.cookies[name]] if name in self._request.cookies else []

    def query(self, name: str) -> list[str]:
        return []

    def subprotocols(self) -> list[str]:
        return []

    async def body(self, limit: int) -> bytes | None:
        return b""

    async def form(self, name: str) -> str | None:
        return None


class Toy(SimpleNamespace):
    name, adapters = "Toy", ("tests.adapters.toy",)

    def serves(self, app: Any) -> bool:
        return isinstance(app, App)

    def current(self) -> tuple[Any, Any]:
        return _current.get()

    def config(self, app: App) -> dict[str, Any]:
        return app.config

    def extensions(self, app: App) -> dict[str, Any]:
        return app.extensions

    def label(self, app: App) -> str:
        return "toy"

    @contextlib.asynccontextmanager
    async def context(self, app: App) -> Any:
        token = _current.set((app, None))
        yield
        _current.reset(token)

    def json_default(self, app: App) -> Any:
        return json.JSONEncoder().default

    def reach(self, store: Any) -> Any:
        return store

    def expose(self, function: Any, current: Any) -> Any:
        return function

    def view(self, request: Request) -> View:
        return View(request)

    def guard(self, function: Any, check: Any, served: Any) -> Any:
        @wraps(function)
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            await check()
            answer = function(*args, **kwargs)
            return await answer if inspect.isawaitable(answer) else answer

        return guarded

    async def make_response(self, app: App, value: Any) -> Response:
        return value if isinstance(value, Response) else Response(value)

    def json_response(self, app: App, body: Any, status: int, headers: Any) -> Response:
        return Response(dict(body), status, list(headers.items()))

    def status(self, response: Response) -> int:
        return response.status

    def finish(self, app: App, function: Any) -> None:
        app.last.append(function)

    def redirect_to(self, app: App, target: str, path: str | None) -> Response:
        return Response("", 302, [("Location", f"{target}?next={path}")])

    def copy_response(self, response: Response) -> Response:
        return Response(response.body, response.status, list(response.headers))

    def sets_cookie(self, response: Response, names: Any) -> bool:
        return any(value.partition("=")[0] in names for key, value in response.headers if key == "Set-Cookie")

    def set_cookies(self, response: Response, cookies: Any, *, uncached: bool) -> None:
        response.headers += [("Set-Cookie", f"{cookie.name}={cookie.value}") for cookie in cookies]

    def has_handler(self, app: App, error: Exception, *, is_compat: bool) -> bool:
        return False

    def as_http_exception(self, app: App, error: Any, response: Response, *, is_compat: bool) -> Any:
        error.answer, error.carries_response = response, True
        return error


api = PublicAPI(Toy())


class JWTManager(AsyncManager):
    framework = Toy()

    def _install(self, app: App, app_state: Any) -> None:
        """Nothing: an application handles our errors itself."""
