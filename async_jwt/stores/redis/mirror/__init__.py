"""An optional copy of all revocations in each process's memory. Needs the `mirror` extra."""

from __future__ import annotations

from typing import TYPE_CHECKING

from async_jwt.errors import ConfigurationError
from async_jwt.stores.redis.data_loss import DataLossHandler
from async_jwt.stores.redis.health import Health
from async_jwt.stores.redis.options import Options
from async_jwt.stores.redis.schema import Layout
from async_jwt.stores.redis.versions import LastSeen

if TYPE_CHECKING:
    from async_jwt.stores.redis.mirror.feed import Mirror as Mirror

__all__ = ["open_mirror"]


def open_mirror(
    last_seen: LastSeen, layout: Layout, data_loss: DataLossHandler, options: Options, health: Health
) -> Mirror:
    """Create a mirror that is not fed yet. See `Mirror` for the arguments.

    Raises:
        ConfigurationError: the `mirror` extra is not installed.
    """
    try:
        from async_jwt.stores.redis.mirror.feed import Mirror  # noqa: PLC0415  # needs the extra
    except ImportError:
        raise ConfigurationError(
            "JWT_STORE_URI: mirror=true needs an extra package: pip install async-jwt[mirror]"
        ) from None
    return Mirror(last_seen, layout, data_loss, options, health)
