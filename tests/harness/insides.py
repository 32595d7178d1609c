"""What a Redis store keeps for itself, named in one place.

Some promises show only in here: that a late reply proves nothing, or that a forked child does not close its
parent's sockets. Tests of those ask these functions, so that a renaming changes one file.
"""

from __future__ import annotations

from typing import Any


def buckets_of(store: Any) -> Any:
    """Return what reads and writes a store's buckets."""
    return store._buckets


def data_loss_of(store: Any) -> Any:
    """Return what notices lost data, and answers it."""
    return buckets_of(store)._data_loss


def health_of(store: Any) -> Any:
    """Return what a store knows about its servers."""
    return store._health


def last_seen_of(store: Any) -> Any:
    """Return the last state seen of each bucket."""
    return buckets_of(store)._last_seen


def layout_of(store: Any) -> Any:
    """Return what names a store's keys in Redis."""
    return store._layout


def mirror_of(store: Any) -> Any:
    """Return a store's mirror."""
    return store._mirror


def monitor_of(store: Any) -> Any:
    """Return what looks at a store's servers at intervals."""
    return buckets_of(store)._monitor


def node_of(store: Any, bucket: str) -> Any:
    """Return the client of the server that holds a bucket, in the event loop that used the store last."""
    return topology_of(store).at(bucket)


def open_topologies_of(store: Any) -> Any:
    """Return the topologies of all event loops by loop, each with the generator that closes it."""
    return topologies_of(store)._open


def snapshot_of(store: Any) -> Any:
    """Return the snapshot that a store's mirror answers from."""
    return mirror_of(store)._snapshot


def topologies_of(store: Any) -> Any:
    """Return what makes a topology for each event loop, and keeps it."""
    return buckets_of(store).topologies


def topology_of(store: Any) -> Any:
    """Return the topology of the event loop that used the store last."""
    return topologies_of(store)._recent[1]
