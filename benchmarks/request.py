"""What protection adds to a request, in process: a protected view against the same view bare.

Tokens are new, so that each is verified, or one that comes again. All libraries get tokens of the same
claims with one HS256 secret, and quart-jwt-extended the two more that it demands. An ASGI or WSGI request is
handed to the application as a server hands it over; no client and no socket take part. Microseconds are of
processor time, the garbage collector off; nothing is revoked.
"""

from __future__ import annotations

from benchmarks import flask_request, peer_request, quart_request
from benchmarks.rows import Row

__all__ = ["run"]


async def run() -> list[Row]:
    """What protection adds to a request."""
    return [*await quart_request.run(), *await flask_request.run(), *await peer_request.run()]
