"""What tests stand on. Each module explains its own magic.

`applications` builds one small application for each adapter behind one interface, so that one suite proves
them alike. It also turns an `async def` view of a test into a plain one. `sockets` is a WebSocket client that
speaks ASGI. `rotation` is an application whose refresh tokens are rotated.

`servers` starts Redis-protocol servers, `fleets` several that belong together (Sentinel, Cluster), and `wire`
stands between a store and its server and fails in any way that a test asks for. `crowd` uses a store all
the time and knows which answers are wrong; `report` writes what faults were answered. `insides` names what a
store keeps for itself, for the few promises that show nowhere else.

`scan` reads every log line, span and error body of the whole suite and fails a test in which a token, a key
or a CSRF value stands. `keys` are key pairs, made once. `browser` is a real Chromium.

Fixtures are in the `conftest.py` of each directory. The clock of tests is `async_jwt.testing.FrozenClock`.
"""

from __future__ import annotations

SECRET = "a secret for tests, long enough for any hash that HMAC may use, which is 64 bytes"
