"""JSON Web Tokens for async Python web applications.

The names here are framework-independent. Views, decorators and `current_user` live in the
adapters, such as `async_jwt.adapters.quart`.
"""

from __future__ import annotations

from async_jwt.core.issue import TokenPair
from async_jwt.keys.folder import KeyFolder
from async_jwt.keys.key import Key
from async_jwt.keys.ring import KeyRing
from async_jwt.stores import MemoryStore, Store

__all__ = ["Key", "KeyFolder", "KeyRing", "MemoryStore", "Store", "TokenPair", "__version__"]

__version__ = "0.1.0"
