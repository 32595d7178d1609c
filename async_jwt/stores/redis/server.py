"""What a server says about itself: may it drop keys, does it keep them on disk, is it a replica."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ["ServerInfo", "combined", "read_server", "save_points"]


class ServerInfo(NamedTuple):
    """What INFO and CONFIG tell. None is what they do not."""

    run: str
    evicted: int
    may_evict: bool
    persists: bool | None
    read_only: bool
    clock_ahead: float | None = None


def read_server(info: Any) -> ServerInfo | None:
    """Read a reply to INFO.

    Args:
        info: the reply.

    Returns:
        What it says; None if it is no such reply.
    """
    text = info.decode("utf-8", "replace") if isinstance(info, bytes) else str(info)
    lines = (line.partition(":") for line in text.splitlines())
    found = {name: value for name, separator, value in lines if separator}
    try:
        return ServerInfo(
            run=found["run_id"],
            evicted=int(found["evicted_keys"]),
            may_evict=int(found["maxmemory"]) > 0 and found["maxmemory_policy"] != "noeviction",
            persists=True if found["aof_enabled"] == "1" else None,
            read_only=found["role"] == "slave",
            clock_ahead=int(usec) / 1e6 - time.time() if (usec := found.get("server_time_usec")) else None,
        )
    except (KeyError, ValueError):
        return None


def save_points(config: Any) -> str | None:
    """Read a reply to CONFIG GET save, which RESP3 has as a map; None if it is none."""
    values = (
        list(config.values()) if isinstance(config, dict) else config[1:] if isinstance(config, list) else []
    )
    first = values[0] if values else None
    return first.decode() if isinstance(first, bytes) else None


def combined(servers: Sequence[ServerInfo]) -> ServerInfo | None:
    """What is true of some servers together: as bad as the worst of them; None of none."""
    if not servers:
        return None
    persist = {server.persists for server in servers}
    return ServerInfo(
        run=" ".join(server.run for server in servers),
        evicted=sum(server.evicted for server in servers),
        may_evict=any(server.may_evict for server in servers),
        persists=False if False in persist else None if None in persist else True,
        read_only=any(server.read_only for server in servers),
        clock_ahead=max(
            (ahead for server in servers if (ahead := server.clock_ahead) is not None), key=abs, default=None
        ),
    )
