"""Support for Flask before 2.3 and Werkzeug before 3.1, in one place.

The installed versions are detected once, by their features.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any, Final, cast

from flask import Flask, Request, Response, jsonify, stream_with_context
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.test import Client
from werkzeug.wsgi import get_input_stream

from async_jwt.core.cookies import Cookie

__all__ = ["hold_cookie", "json_default", "json_response", "limited", "streamed", "value_of_cookie"]

_HAS_PROVIDERS: Final = hasattr(Flask, "json_provider_class")  # 2.2
_HAS_ENCODERS: Final = hasattr(Flask, "json_encoder")  # until 2.2
_LIMITS_BODIES: Final = "max_content_length" in inspect.signature(get_input_stream).parameters  # 2.3
_FINDS_COOKIES: Final = hasattr(Client, "get_cookie")  # 2.3


def _encoder_of(app: Any) -> type[Any] | None:
    """Return an application's JSON encoder class, in Flask versions that use one."""
    # Flask 2.2 warns about the public name.
    kind: type[Any] | None = app._json_encoder if _HAS_PROVIDERS else app.json_encoder  # noqa: SLF001
    return kind


def json_default(app: Flask) -> Callable[[Any], Any]:
    """Return the `default` function of an application's JSON, for values that JSON cannot represent."""
    kind = _encoder_of(app) if _HAS_ENCODERS else None
    if kind is not None and (not _HAS_PROVIDERS or "default" in vars(kind)):
        own: Callable[[Any], Any] = kind().default
        return own
    from flask.json.provider import DefaultJSONProvider  # noqa: PLC0415  # from Flask 2.2 on

    # A provider based on a faster library may lack it.
    providers = (app.json, app.json_provider_class, DefaultJSONProvider)
    default: Callable[[Any], Any] = next(each for each in providers if hasattr(each, "default")).default
    return default


def json_response(app: Flask, body: dict[str, Any]) -> Response:
    """Return a JSON response, serialized by the application's own JSON."""
    return cast("Response", app.json.response(body) if _HAS_PROVIDERS else jsonify(body))


def streamed(app: Flask, answer: Iterator[Any]) -> Any:
    """Return a generator view's response, which keeps the request context while it streams."""
    stream = stream_with_context(answer)
    # Before 2.2, views cannot return a generator, and an unread one leaves its context pushed.
    return stream if _HAS_PROVIDERS else app.response_class(stream)


def limited(request: Request) -> Request:
    """Return the request, its body limited to `MAX_CONTENT_LENGTH`.

    Raises:
        RequestEntityTooLarge: the body is longer.
    """
    limit = None if _LIMITS_BODIES else request.max_content_length
    if limit is None or "stream" in vars(request):  # other code is already reading it
        return request
    length = request.content_length
    if length is None:  # chunked: the client marks the end
        start = bytearray()
        while len(start) <= limit and (part := request.stream.read(limit + 1 - len(start))):
            start += part  # streams may return short reads
        request.stream, length = BytesIO(start), len(start)
    if length > limit:
        raise RequestEntityTooLarge
    return request


def hold_cookie(client: Any, host: str, cookie: Cookie) -> None:
    """Store a host's cookie in a test client."""
    if _FINDS_COOKIES:
        domain, alone = cookie.domain or host, cookie.domain is None
        client.set_cookie(cookie.name, cookie.value, domain=domain, origin_only=alone, path=cookie.path)
    else:
        client.set_cookie(host, cookie.name, cookie.value, domain=cookie.domain, path=cookie.path)


def value_of_cookie(client: Any, name: str, domain: str, path: str) -> str | None:
    """Return the value of a cookie in a test client; None if it has no such cookie."""
    if _FINDS_COOKIES:
        kept = client.get_cookie(name, domain, path)
        return None if kept is None else str(kept.value)
    # Python's cookie jar stores "localhost" as "localhost.local", and other domains with a leading dot.
    domains = {domain, f".{domain}", f"{domain}.local"}
    found = (held for held in client.cookie_jar if held.name == name and held.path == path)
    return next((held.value for held in found if held.domain in domains), None)
