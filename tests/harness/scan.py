"""Looks for tokens, keys and CSRF values in all that the suite's logs, spans and error bodies say.

The loggers of async_jwt tell it everything, at whatever level they are; others what they would write.
"""

from __future__ import annotations

import functools
import logging
import re
import traceback
from base64 import urlsafe_b64encode
from typing import Any

from async_jwt.core import issue
from async_jwt.keys.key import Key

_TOKEN = re.compile(r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{16,}")
_WORD = re.compile(r"[\w+/-]{16,}")


class Scan:
    """What was made that nobody may be told, and what was told."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._phrases: set[str] = set()
        self.looked_at = 0
        self.found: list[str] = []

    def forget(self) -> None:
        self._secrets.clear()
        self._phrases.clear()
        self.found.clear()

    def keep(self, secret: Any) -> None:
        """Something that nobody may be told."""
        if isinstance(secret, bytes):
            for shown in (urlsafe_b64encode(secret).rstrip(b"="), secret.hex().encode()):
                self._secrets.update(_WORD.findall(shown.decode()))
        text = secret.decode("utf-8", "replace") if isinstance(secret, bytes) else secret
        if isinstance(text, str) and len(text) >= 16:
            self._secrets.update(_WORD.findall(text))
            if " " in text:
                self._phrases.add(text)

    def look(self, where: str, text: str) -> None:
        """Something that was told."""
        self.looked_at += 1
        if (
            _TOKEN.search(text)
            or not self._secrets.isdisjoint(_WORD.findall(text))
            or any(phrase in text for phrase in self._phrases)
        ):
            self.found.append(f"{where}: {text[:500]}")


SCAN = Scan()


def _rendered(message: Any, args: Any, options: dict[str, Any]) -> str:
    text = str(message)
    if args:
        text = text % (args[0] if len(args) == 1 and isinstance(args[0], dict) else args)
    return f"{text} {options.get('extra', '')}"


class _Told(logging.Logger):
    """A logger that tells the scan what it is told, written or not."""


def _telling(name: str) -> Any:
    original = getattr(logging.Logger, name)

    @functools.wraps(original)
    def told(self: logging.Logger, *args: Any, **kwargs: Any) -> None:
        message, *rest = args[1:] if name == "log" else args
        trace = traceback.format_exc() if name == "exception" or kwargs.get("exc_info") else ""
        SCAN.look(f"logger {self.name}", _rendered(message, tuple(rest), kwargs) + trace)
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        original(self, *args, **kwargs)

    return told


for _name in ("debug", "info", "warning", "error", "critical", "exception", "log"):
    setattr(_Told, _name, _telling(_name))


class _Others(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith("async_jwt"):
            SCAN.look(f"logger {record.name}", self.format(record))


def install() -> None:
    """Have the scan told of what is made, and of what is written."""
    encode, make = issue.encode, Key.__init__

    def encoded(header: Any, claims: Any, key: Key, json_default: Any = None) -> str:
        token = encode(header, claims, key, json_default)
        SCAN.keep(claims.get("csrf"))
        SCAN.keep(token.rpartition(".")[2])
        return token

    @functools.wraps(make)
    def made(self: Key, material: Any, *args: Any, **kwargs: Any) -> None:
        SCAN.keep(material)
        make(self, material, *args, **kwargs)
        if self.can_sign and not self.algorithm.startswith("HS"):
            jwk = self.private_jwk()
            SCAN.keep(jwk["d"])

    issue.encode = encoded
    Key.__init__ = made  # type: ignore[method-assign]
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "async_jwt"]
    for name in names:
        logging.getLogger(name).__class__ = _Told
    logging.root.addHandler(_Others())
