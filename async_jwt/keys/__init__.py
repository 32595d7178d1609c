"""Single keys, rings of keys that rotate, and folders of keys."""

from __future__ import annotations

from async_jwt.keys.folder import KeyFolder
from async_jwt.keys.key import ALGORITHMS, Key, Moment
from async_jwt.keys.ring import KeyRing

__all__ = ["ALGORITHMS", "Key", "KeyFolder", "KeyRing", "Moment"]
