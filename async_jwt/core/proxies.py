"""Proxies such as `current_app` and `current_user`: the library keeps the objects behind them."""

from __future__ import annotations

from typing import Any, TypeVar

__all__ = ["unproxied"]

T = TypeVar("T")


def unproxied(value: T) -> T:
    """The object behind a Werkzeug proxy, or behind several; anything else as it is.

    A proxy says that it is of its object's class, cannot be referenced weakly or written as JSON,
    is never None, and may be another object tomorrow.

    Raises:
        RuntimeError: the proxy has no object here, such as `current_app` outside of a context.
    """
    # Look at the class: an object that answers every attribute is not a proxy.
    while hasattr(type(value), "_get_current_object"):
        proxy: Any = value
        value = proxy._get_current_object()  # noqa: SLF001  # Werkzeug documents it for this
    return value
