"""Bucket states that this process saw last, and detection of data loss from them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from async_jwt.stores.redis.schema import Bucket

__all__ = ["LastSeen", "Loss"]


class Loss(NamedTuple):
    """Evidence that a server forgot revocations.

    Attributes:
        bucket: the bucket that shows it.
        found: its epoch when the loss was seen; "" if the bucket was gone.
        epochs: epochs that were in use before.
        why: what was seen.
        evicted: the server's run id and number of evicted keys, if that is the evidence.
        by_token: True if a token is the evidence, not the bucket itself.
    """

    bucket: str
    found: str
    epochs: tuple[str, ...]
    why: str
    evicted: str = ""
    by_token: bool = False


class LastSeen:
    """The last seen state of each bucket. Shared by all threads.

    A reply is compared with what was known before its command was sent: replies on several
    connections may arrive in any order, and only what was known before can have been lost.
    """

    def __init__(self) -> None:
        self._buckets: dict[str, tuple[bytes, Bucket]] = {}
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        """True if any bucket was seen."""
        return bool(self._buckets)

    def covers(self, names: Sequence[str]) -> bool:
        """True if all of these buckets were seen."""
        return self._buckets.keys() >= set(names)

    def before(self, name: str) -> Bucket | None:
        """The last seen state of a bucket, to pass to `compare` with the reply."""
        entry = self._buckets.get(name)
        return None if entry is None else entry[1]

    def compare(self, name: str, raw: bytes | None, before: Bucket | None, added: int = 0) -> Bucket | Loss:
        """Parse a bucket from a reply. Returns a Loss if it shows data loss.

        Args:
            name: the bucket.
            raw: its value in the reply.
            before: its last seen state when the command was sent.
            added: how many revocations the command itself added.
        """
        epochs = () if before is None else (before.epoch,)
        if raw is None:
            return Loss(name, "", epochs, "a bucket is missing")
        entry = self._buckets.get(name)
        if entry is not None and entry[0] == raw:
            seen = entry[1]
        else:
            try:
                seen = Bucket.read(raw)
            except ValueError:
                return Loss(name, "", epochs, "another program overwrote a bucket")
        if before is not None and (seen is not before or added):
            if seen.epoch != before.epoch:
                if before.epoch not in seen.previous_epochs:
                    return Loss(name, seen.epoch, epochs, "it was recreated, or an older state came back")
            elif seen.revocations < before.revocations + added or (
                seen.revocations == before.revocations and seen.revision != before.revision
            ):
                return Loss(name, seen.epoch, epochs, "an older state came back")
        self._keep(name, raw, seen, before)
        return seen

    def replace(self, names: Sequence[str], values: Iterable[bytes | None]) -> None:
        """Accept the current state of some buckets, after a loss was handled.

        Raises:
            ValueError: one is missing, or cannot be read.
        """
        read = {name: (raw or b"", Bucket.read(raw or b"")) for name, raw in zip(names, values, strict=True)}
        with self._lock:
            self._buckets.update(read)

    def _keep(self, name: str, raw: bytes, seen: Bucket, before: Bucket | None) -> None:
        entry = self._buckets.get(name)
        if entry is not None and entry[1] is seen:
            return
        with self._lock:
            entry = self._buckets.get(name)
            if entry is not None:
                now = entry[1]
                is_late = now is not before and now.epoch != seen.epoch
                if is_late or (now.epoch == seen.epoch and now.revocations >= seen.revocations):
                    return
            self._buckets[name] = (raw, seen)
