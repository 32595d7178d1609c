"""Tells browsers' page loads from scripts' requests, and local paths from foreign addresses. Pure."""

from __future__ import annotations

import re

from async_jwt.core.request import RequestView

__all__ = ["is_conditional", "is_from_here", "is_local", "is_navigation", "is_page_load"]

_LONGEST = 2000
"""Maximum length of a path to come back to, in bytes."""

# One leading slash, no second one beside it before the query; no backslash, which browsers read as a slash;
# no control character, which they leave out.
_LOCAL = re.compile(r"/(?!/)(?:(?!//)[^\\\x00-\x20\x7f?#])*(?:[?#][^\\\x00-\x20\x7f]*)?")


def is_navigation(view: RequestView) -> bool:
    """True if a browser loads a page, for itself or a frame, and shows the response to its user.

    Browsers say so (Fetch Metadata §2.2), over https and on localhost. Of a client that does not say it, a
    request counts that accepts HTML.
    """
    if view.method != "GET" or view.is_websocket:
        return False
    modes = view.headers("Sec-Fetch-Mode")
    if modes:
        return modes[0] == "navigate"
    return any("text/html" in value for value in view.headers("Accept"))


def is_page_load(view: RequestView) -> bool:
    """True if a browser says that it loads a page into a tab for its user, not merely ahead of time."""
    if view.method != "GET" or view.is_websocket:
        return False
    said = [*view.headers("Sec-Fetch-Mode"), *view.headers("Sec-Fetch-Dest")]
    ahead = [*view.headers("Sec-Purpose"), *view.headers("Purpose")]
    return said == ["navigate", "document"] and not ahead


def is_from_here(view: RequestView) -> bool:
    """True if the browser says that this site, or the user's own hand, caused a request."""
    return [*view.headers("Sec-Fetch-Site")] in (["same-origin"], ["none"])


def is_conditional(view: RequestView) -> bool:
    """True if the response may be a 304 or a part, which says nothing but what a cache holds already."""
    names = ("If-None-Match", "If-Modified-Since", "If-Range", "Range")
    return any(view.headers(name) for name in names)


def is_local(target: str) -> bool:
    """True if a text is a path of this site that a browser takes nowhere else."""
    try:
        encoded = target.encode("utf-8")
    except UnicodeEncodeError:
        return False  # no address holds it
    return len(encoded) <= _LONGEST and _LOCAL.fullmatch(target) is not None
