"""Fast NamedTuple construction for the request path."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

__all__ = ["fast_tuple"]

T = TypeVar("T", bound=tuple[Any, ...])


class _Make(Protocol):
    def __call__(self, kind: type[T], values: Iterable[Any], /) -> T: ...


fast_tuple: _Make = tuple.__new__
"""``fast_tuple(Kind, (a, b, ...))`` skips the Python-level constructor of a NamedTuple."""
