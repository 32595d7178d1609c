"""An OpenID provider on this machine: real HTTP, which hangs, fails and rotates its keys as a test says.

Its tokens are made by another library than ours.
"""

from __future__ import annotations

import json
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey

OPENID = "/.well-known/openid-configuration"
OAUTH = "/.well-known/oauth-authorization-server"
JWKS = "/keys"

_MAKERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "RS256": lambda options: RSAKey.generate_key(2048, options),
    "PS256": lambda options: RSAKey.generate_key(2048, options),
    "ES256": lambda options: ECKey.generate_key("P-256", options),
    "EdDSA": lambda options: OKPKey.generate_key("Ed25519", options),
}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: Any) -> None:
        """Nothing: a client that gives up is what some tests are about."""


class Provider:
    """A provider with one key.

    Attributes:
        url: its issuer.
        keys: its keys by id; those are published.
        hidden: ids of keys that are not published.
        asked: the paths that were requested.
        answers: what is answered instead, by path: a body, or a status, or both and headers.
        headers: further headers of all answers.
    """

    def __init__(self, algorithm: str = "ES256") -> None:
        self.keys: dict[str, tuple[str, Any]] = {}
        self.hidden: set[str] = set()
        self.asked: list[str] = []
        self.answers: dict[str, Any] = {}
        self.headers: dict[str, str] = {}
        self._open = threading.Event()
        self._open.set()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.add("k1", algorithm)

    def add(self, kid: str, algorithm: str = "ES256") -> None:
        """Publish one more key, which signs from now on."""
        self.keys[kid] = (algorithm, _MAKERS[algorithm]({"kid": kid}))
        self.kid = kid

    def drop(self, kid: str) -> None:
        """Publish a key no longer. It can still sign."""
        self.hidden.add(kid)

    def jwk(self, kid: str) -> dict[str, Any]:
        algorithm, key = self.keys[kid]
        return {**key.as_dict(private=False), "use": "sig", "alg": algorithm}

    def jwks(self) -> dict[str, Any]:
        return {"keys": [self.jwk(kid) for kid in self.keys if kid not in self.hidden]}

    def metadata(self) -> dict[str, Any]:
        return {"issuer": self.url, "jwks_uri": self.url + JWKS}

    def token(self, kid: str | None = None, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token for the API "api", which the key of that id signs."""
        algorithm, key = self.keys[kid or self.kid]
        now = int(time.time())
        full = {
            "iss": self.url,
            "aud": "api",
            "sub": "u-1",
            "jti": "t-1",
            "iat": now,
            "exp": now + 600,
            **claims,
        }
        full = {name: value for name, value in full.items() if value is not None}
        parameters = {"alg": algorithm, "kid": kid or self.kid, "typ": "at+jwt", **(header or {})}
        parameters = {name: value for name, value in parameters.items() if value is not None}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the name EdDSA, for which RFC 9864 has others
            return jwt.encode(parameters, full, key, algorithms=[algorithm])

    @property
    def fetches(self) -> int:
        """How often its keys were asked for."""
        return self.asked.count(JWKS)

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Answers nothing meanwhile, and all of it afterwards."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    def fail(self, status: int = 500) -> None:
        self.answers = dict.fromkeys((OPENID, OAUTH, JWKS), status)

    def heal(self) -> None:
        self.answers = {}

    def stop(self) -> None:
        self._open.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        self.asked.append(path)
        self._open.wait(20)
        given = self.answers.get(path)
        if given is None:
            documents = {OPENID: self.metadata, JWKS: self.jwks}
            return (200, {}, json.dumps(documents[path]()).encode()) if path in documents else (404, {}, b"")
        if isinstance(given, int):
            return given, {}, b"{}"
        if isinstance(given, tuple):
            return given
        return 200, {}, given if isinstance(given, bytes) else json.dumps(given).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, headers, body = provider._answer(self.path)
                self.send_response(status)
                for name, value in {**provider.headers, **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler
