"""The request as Werkzeug has it."""

from __future__ import annotations

import flask
import pytest
from werkzeug.datastructures import Headers
from werkzeug.sansio.request import Request

from async_jwt.adapters._werkzeug import WerkzeugView, as_http_exception
from async_jwt.errors import NoAuthorizationError


def view(**more):
    values = {
        "method": "GET",
        "scheme": "https",
        "server": ("localhost", 443),
        "root_path": "",
        "path": "/",
        "query_string": b"",
        "headers": Headers(),
        "remote_addr": None,
    }
    return WerkzeugView(Request(**{**values, **more}), "GET")


def test_raw_bytes_in_a_query_string_are_no_token():
    """As a server for HTTP/2 may hand them on."""
    found = view(query_string=b"jwt=\xff&x=1").query("jwt")
    assert found in ((), ["\ufffd"])  # Werkzeug before 2.3 puts a sign that no token has
    assert view(query_string=b"jwt=a&jwt=b").query("jwt") == ["a", "b"]


@pytest.mark.parametrize(
    ("scheme", "host", "origin"),
    [
        ("https", "app.example", "https://app.example"),
        ("https", "APP.example:443", "https://app.example"),
        ("http", "app.example:80", "http://app.example"),
        ("http", "app.example:443", "http://app.example:443"),
        ("ws", "app.example", "http://app.example"),
    ],
)
def test_origin(scheme, host, origin):
    assert view(scheme=scheme, headers=Headers({"Host": host})).origin == origin


def test_the_body_of_a_quart_answer_is_left_alone():
    """It can only be awaited; Flask-RESTX, which asks for it, is for Flask alone."""
    quart = pytest.importorskip("quart")
    assert not hasattr(as_http_exception(NoAuthorizationError(), quart.Response("{}")), "data")
    assert (
        as_http_exception(NoAuthorizationError(), flask.Response("{}", mimetype="application/json")).data
        == {}
    )
