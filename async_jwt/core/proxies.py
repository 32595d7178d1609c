"""Unwraps proxies such as `current_app` and `current_user`: the library keeps the objects behind them."""

from __future__ import annotations

from typing import Any, TypeVar

__all__ = ["unproxied"]

T = TypeVar("T")


def unproxied(value: T) -> T:
    """The object behind one or several nested Werkzeug proxies; any other value unchanged.

    A proxy claims its object's class, cannot be weakly referenced or written as JSON, is never
    None, and may stand for another object later.

    Raises:
        RuntimeError: the proxy has no object here, such as `current_app` outside a context.
    """
    # Look at the class: an object that has every attribute is not a proxy.
    while hasattr(type(value), "_get_current_object"):
        proxy: Any = value
        value = proxy._get_current_object()  # noqa: SLF001  # Werkzeug documents it for this
    return value
