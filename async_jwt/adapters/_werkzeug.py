"""What Quart and Flask share because both stand on Werkzeug: errors, request, cookies."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Sequence
from copy import copy
from enum import Enum
from functools import cache
from typing import Any

from werkzeug import wrappers
from werkzeug.exceptions import HTTPException
from werkzeug.sansio.request import Request
from werkzeug.sansio.response import Response

from async_jwt.core.cookies import Cookie
from async_jwt.errors import JWTExtendedException

__all__ = [
    "Form",
    "WerkzeugView",
    "as_http_exception",
    "has_cookies",
    "object_of",
    "put_cookies",
    "response_of",
]

_PARTITIONS = "partitioned" in inspect.signature(Response.set_cookie).parameters  # from Werkzeug 3.1 on

# An `Origin` header names the page that opens a WebSocket, which came by http.
_WEBSOCKET_SCHEMES = {"ws": "http", "wss": "https"}


class WerkzeugView:
    """The part of a `RequestView` that needs no I/O."""

    __slots__ = ("_request", "method")

    is_websocket = False
    is_accepted = False

    def __init__(self, request: Request) -> None:
        self._request = request
        self.method: str = request.method

    @property
    def origin(self) -> str:
        """The request's own origin, as the application sees it behind its proxies."""
        scheme = self._request.scheme.lower()
        # Werkzeug leaves default ports out.
        return f"{_WEBSOCKET_SCHEMES.get(scheme, scheme)}://{self._request.host.lower()}"

    @property
    def is_json(self) -> bool:
        """Whether the content type says JSON."""
        return self._request.is_json

    def headers(self, name: str) -> Sequence[str]:
        """All values of a header."""
        return self._request.headers.getlist(name)

    def cookies(self, name: str) -> Sequence[str]:
        """All values of a cookie."""
        return self._request.cookies.getlist(name)

    def query(self, name: str) -> Sequence[str]:
        """All values of a query parameter."""
        try:
            return self._request.args.getlist(name)
        except UnicodeDecodeError:
            return ()  # raw bytes that no URL may hold: no token is among them

    def subprotocols(self) -> Sequence[str]:
        """The protocols that a WebSocket's client offers."""
        return ()


def object_of(proxy: Any) -> Any | None:
    """What stands behind a framework's proxy, if anything: contexts differ between its versions."""
    try:
        return proxy._get_current_object()  # noqa: SLF001  # Werkzeug documents it for this
    except RuntimeError:
        return None


class Form(Enum):
    """The forms of an error that carries its answer. Each suits another kind of error handling."""

    HTTP = "http"
    """An `HTTPException` with its answer: extensions that bypass the application's handlers render it."""
    ELSEWHERE = "elsewhere"
    """An `HTTPException` that raises itself when it is rendered: the application's handlers get it then."""
    NAMED = "named"
    """An `HTTPException` without an answer: it gets one by the name of its class."""
    BARE = "bare"
    """No `HTTPException`, as Flask-JWT-Extended's errors are."""


@cache
def _twin_class(kind: type[JWTExtendedException], form: Form, name: str) -> type[JWTExtendedException]:
    # The class keeps HTTPException's `code = None`, so that frameworks look for a handler
    # by class: an application's handler for our class, then ours, then one for HTTPException.
    body: dict[str, Any] = {"__module__": kind.__module__, "__doc__": kind.__doc__, "is_twin": True}
    if form is Form.HTTP:
        body["data"] = property(_data)
    elif form is Form.ELSEWHERE:
        body["get_response"] = _raised
    bases = (kind,) if form is Form.BARE else (kind, HTTPException)
    return type(name, bases, body)


def _data(twin: Any) -> Any:
    """The answer's body as a value: Flask-RESTX writes it anew."""
    response = twin.response
    if not isinstance(response, wrappers.Response):
        raise AttributeError("data")  # noqa: TRY004  # Quart's can only be awaited: as if it were not there
    data = response.get_json(silent=True)
    return response.get_data(as_text=True) if data is None else data


def _raised(twin: Any, *_: Any) -> Any:
    raise twin


def as_http_exception(
    error: JWTExtendedException, response: Response, form: Form = Form.HTTP, name: str | None = None
) -> JWTExtendedException:
    """The same error as one that carries its answer.

    Args:
        error: the error.
        response: its answer.
        form: what it looks like.
        name: what its class is called; None is the error's.
    """
    kind = _twin_class(type(error), form, name or type(error).__name__)  # type: ignore[arg-type]  # classes are hashable
    twin = kind.__new__(kind, *error.args)
    twin.__dict__.update(error.__dict__)
    answered: Any = twin
    answered.answer = response
    answered.response = None if form is Form.NAMED else response
    if form is not Form.BARE:
        answered.code = response.status_code
        answered.description = error.message
    return twin


def response_of(error: JWTExtendedException) -> Any | None:
    """The answer that an error carries, if it is a twin."""
    # An application's own subclass may have such an attribute as well.
    return getattr(error, "answer", None) if getattr(error, "is_twin", False) else None


def copy_response(response: Response) -> Response:
    """The same answer, whose headers are its own."""
    copied = copy(response)
    copied.headers = response.headers.copy()
    return copied


def has_cookies(response: Response, names: Collection[str]) -> bool:
    """Whether a response sets one of some cookies, or takes it away."""
    return any(header.partition("=")[0].strip() in names for header in response.headers.getlist("Set-Cookie"))


def put_cookies(response: Response, cookies: Iterable[Cookie], *, uncached: bool) -> None:
    """Set cookies on a response.

    Args:
        response: the response.
        cookies: what to set.
        uncached: whether to keep caches from storing it for somebody else.
    """
    for cookie in cookies:
        partitioned = {"partitioned": True} if cookie.partitioned and _PARTITIONS else {}
        response.set_cookie(
            cookie.name,
            cookie.value,
            max_age=cookie.max_age,
            expires=cookie.expires,
            path=cookie.path,
            domain=cookie.domain,
            secure=cookie.secure,
            httponly=cookie.httponly,
            samesite=cookie.samesite,
            **partitioned,
        )
        if cookie.partitioned and not _PARTITIONS:
            *others, line = response.headers.getlist("Set-Cookie")
            response.headers.setlist("Set-Cookie", [*others, f"{line}; Partitioned"])
    if uncached:
        response.headers["Cache-Control"] = "no-store"
        response.vary.add("Cookie")
