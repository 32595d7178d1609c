"""What Quart and Flask share through Werkzeug: errors and their handlers, requests, cookies."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, MutableMapping, Sequence
from copy import copy
from dataclasses import dataclass
from enum import Enum
from functools import cache
from operator import attrgetter
from typing import Any, ClassVar, cast
from urllib.parse import quote, urlencode

from werkzeug import wrappers
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BuildError
from werkzeug.sansio.response import Response
from werkzeug.utils import redirect

from async_jwt import errors
from async_jwt.core.cookies import Cookie
from async_jwt.core.error_responses import before_loaders
from async_jwt.errors import JWTExtendedException

__all__ = [
    "Form",
    "WerkzeugFramework",
    "WerkzeugView",
    "as_http_exception",
    "handler_before_ours",
    "register_error_handler",
]

_PARTITIONS = "partitioned" in inspect.signature(Response.set_cookie).parameters  # from Werkzeug 3.1 on

# The `Origin` of a WebSocket is that of the page that opens it, which was loaded over http(s).
_WEBSOCKET_SCHEMES = {"ws": "http", "wss": "https"}


@dataclass(slots=True)
class WerkzeugView:
    """The part of a `RequestView` that needs no I/O and is the same in Quart and Flask."""

    _request: Any
    method: str

    is_websocket: ClassVar[bool] = False

    @property
    def origin(self) -> str:
        """The request's own origin, as the application sees it behind its proxies."""
        scheme = self._request.scheme.lower()
        # Werkzeug omits default ports.
        return f"{_WEBSOCKET_SCHEMES.get(scheme, scheme)}://{self._request.host.lower()}"

    @property
    def path(self) -> str:
        """The path and query, from the root of the host on."""
        request = self._request
        path = quote((request.script_root + request.path).encode("utf-8", "replace"), safe="/:@!$&'()*+,;=~")
        query = quote(request.query_string, safe="%/:?@!$&'()*+,;=~")
        return f"{path}?{query}" if query else path

    @property
    def is_json(self) -> bool:
        """True if the content type is JSON."""
        is_json: bool = self._request.is_json
        return is_json

    def cookies(self, name: str) -> Sequence[str]:
        """All values of a cookie."""
        values: list[str] = self._request.cookies.getlist(name)
        return values

    def query(self, name: str) -> Sequence[str]:
        """All values of a query parameter."""
        try:
            values: list[str] = self._request.args.getlist(name)
        except UnicodeDecodeError:
            return ()  # raw bytes, which no URL may contain: not a token
        return values

    def subprotocols(self) -> Sequence[str]:
        """The subprotocols that a WebSocket's client offers."""
        return ()


class WerkzeugFramework:
    """The members of `Framework` that are the same in Quart and Flask."""

    def __init__(self) -> None:
        # C functions, because each request calls them.
        self.config: Callable[[Any], MutableMapping[str, Any]] = attrgetter("config")
        self.extensions: Callable[[Any], MutableMapping[str, Any]] = attrgetter("extensions")

    def label(self, app: Any) -> str:
        """An application's name."""
        return str(app.name)

    def copy_response(self, response: Response) -> Response:
        """Return a copy of a response with its own headers."""
        copied = copy(response)
        copied.headers = response.headers.copy()
        return copied

    def status(self, response: Response) -> int:
        """Return a response's status."""
        return response.status_code

    def redirect_to(self, app: Any, target: str, path: str | None) -> Any:
        """Return a redirect to a view; None to itself, or if it needs arguments that the request lacks."""
        request: Any = self.current()[1]
        if target in (request.endpoint, request.path):
            return None
        query = {} if path is None else {"next": path}
        if target.startswith("/"):
            mark = "&" if "?" in target else "?"
            target = request.script_root + target + (mark + urlencode(query) if query else "")
        else:
            names = {
                name
                for rule in app.url_map.iter_rules()
                if rule.endpoint == target
                for name in rule.arguments
            }
            given = {name: value for name, value in (request.view_args or {}).items() if name in names}
            try:
                target = self.url_for(target, {**given, **query})
            except BuildError:
                return None
        response = redirect(target, 302, app.response_class)
        response.headers["Cache-Control"] = "no-store"
        return response

    @abstractmethod
    def url_for(self, endpoint: str, query: dict[str, Any]) -> str:
        """Return the path of a view."""

    @abstractmethod
    def current(self) -> tuple[Any, Any]:
        """Return the current application and request."""

    def sets_cookie(self, response: Response, names: Collection[str]) -> bool:
        """True if a response sets or deletes one of these cookies."""
        return any(
            header.partition("=")[0].strip() in names for header in response.headers.getlist("Set-Cookie")
        )

    def set_cookies(self, response: Response, cookies: Iterable[Cookie], *, uncached: bool) -> None:
        """Set cookies on a response.

        Args:
            response: the response.
            cookies: what to set.
            uncached: True keeps caches from storing the response for other users.
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
            for name in ("CDN-Cache-Control", "Surrogate-Control"):  # caches that know them obey them first
                response.headers.pop(name, None)
            response.headers["Cache-Control"] = "no-store"
            response.vary.add("Cookie")


class Form(Enum):
    """The forms of an error that carries its response, one for each kind of error handling."""

    HTTP = "http"
    """An `HTTPException` with its response, for extensions that bypass the application's handlers."""
    ELSEWHERE = "elsewhere"
    """An `HTTPException` that raises itself when rendered, so that the application's handlers get it."""
    NAMED = "named"
    """An `HTTPException` without a response: the extension looks one up by class name."""
    BARE = "bare"
    """Not an `HTTPException`, like Flask-JWT-Extended's errors."""


@cache
def _class_with_response(
    kind: type[JWTExtendedException], form: Form, name: str
) -> type[JWTExtendedException]:
    # The class keeps HTTPException's `code = None`, so that frameworks look for a handler
    # by class: an application's handler for our class, then ours, then one for HTTPException.
    body: dict[str, Any] = {"__module__": kind.__module__, "__doc__": kind.__doc__, "carries_response": True}
    if form is Form.HTTP:
        body["data"] = property(_data)
    elif form is Form.ELSEWHERE:
        body["get_response"] = _raised
    bases = (kind,) if form is Form.BARE else (kind, HTTPException)
    return type(name, bases, body)


def _data(error: Any) -> Any:
    """Return the response's body as a value: Flask-RESTX serializes it again."""
    response = error.response
    if not isinstance(response, wrappers.Response):
        raise AttributeError("data")  # noqa: TRY004  # Quart's must be awaited: act as if absent
    data = response.get_json(silent=True)
    return response.get_data(as_text=True) if data is None else data


def _raised(error: Any, *_: Any) -> Any:
    raise error


def as_http_exception(
    error: JWTExtendedException, response: Response, form: Form = Form.HTTP, name: str | None = None
) -> JWTExtendedException:
    """Return the same error in a form that carries its response.

    Args:
        error: the error.
        response: its response.
        form: the form.
        name: the name of its class; None keeps the error's.
    """
    kind = _class_with_response(type(error), form, name or type(error).__name__)  # type: ignore[arg-type]  # classes are hashable
    carrying: Any = kind.__new__(kind, *error.args)
    carrying.__dict__.update(error.__dict__)
    carrying.answer = response
    carrying.response = None if form is Form.NAMED else response
    if form is not Form.BARE:
        carrying.code = response.status_code
        carrying.description = error.message
    return cast("JWTExtendedException", carrying)


_CLASSES: tuple[type[JWTExtendedException], ...] = tuple(
    kind for name in errors.__all__ if issubclass(kind := getattr(errors, name), JWTExtendedException)
)


def register_error_handler(app: Any, answer: Callable[[Any], Any]) -> None:
    """Register a handler for those of our errors whose class the application does not handle itself.

    Args:
        app: a Quart or Flask application.
        answer: an error handler.
    """
    answer.is_of_async_jwt = True  # type: ignore[attr-defined]  # marks it as ours
    theirs = app.error_handler_spec[None][None]
    for kind in _CLASSES:
        if kind not in theirs:
            app.register_error_handler(kind, answer)


def handler_before_ours(
    app: Any, blueprints: Iterable[str], error: JWTExtendedException, *, is_compat: bool
) -> Callable[[Any], Any] | None:
    """Return the application's handler that takes an error before ours does; None if it has none.

    Args:
        app: a Quart or Flask application.
        blueprints: the names of the request's blueprints, innermost first.
        error: the error.
        is_compat: True if the compat preset is on.
    """
    kind = type(error)
    for name in blueprints:
        handler = _handler_in(app, name, kind.__mro__)
        if handler is not None:
            return handler
    kinds = before_loaders(kind, is_compat=is_compat)  # type: ignore[arg-type]  # classes are hashable
    return _handler_in(app, None, kinds)


def _handler_in(app: Any, blueprint: str | None, kinds: Sequence[type]) -> Callable[[Any], Any] | None:
    handlers = app.error_handler_spec[blueprint][None]
    found = (handlers[kind] for kind in kinds if kind in handlers)
    return next((handler for handler in found if not getattr(handler, "is_of_async_jwt", False)), None)
