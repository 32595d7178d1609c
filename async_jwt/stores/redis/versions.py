"""What a process knows of a store's buckets, and how it notices that the server lost some of it."""

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
        found: the epoch that it had when it was seen; "" if it was gone.
        epochs: epochs that were in use before.
        why: what was seen.
        evicted: the server's run and how many keys it dropped, if that is the evidence.
        by_token: whether a token says so, and not the bucket itself.
    """

    bucket: str
    found: str
    epochs: tuple[str, ...]
    why: str
    evicted: str = ""
    by_token: bool = False


class LastSeen:
    """The last state of each bucket that was seen. Shared by all threads.

    A reply is compared with what was known before its command was sent: replies of several
    connections may come in any order, and only what was known before can have been lost.
    """

    def __init__(self) -> None:
        self._buckets: dict[str, tuple[bytes, Bucket]] = {}
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        """Whether anything was seen."""
        return bool(self._buckets)

    def covers(self, names: Sequence[str]) -> bool:
        """True if all of these buckets were seen."""
        return self._buckets.keys() >= set(names)

    def before(self, name: str) -> Bucket | None:
        """What is known of a bucket, to be handed to `compare` with the reply."""
        entry = self._buckets.get(name)
        return None if entry is None else entry[1]

    def compare(self, name: str, raw: bytes | None, before: Bucket | None, added: int = 0) -> Bucket | Loss:
        """Look at a bucket as a reply has it.

        Args:
            name: the bucket.
            raw: what stands there.
            before: what was known of it when the command was sent.
            added: how many revocations the command itself has added.
        """
        epochs = () if before is None else (before.epoch,)
        if raw is None:
            return Loss(name, "", epochs, "what it knew is gone")
        entry = self._buckets.get(name)
        if entry is not None and entry[0] == raw:
            seen = entry[1]
        else:
            try:
                seen = Bucket.read(raw)
            except ValueError:
                return Loss(name, "", epochs, "somebody else wrote where it stood")
        if before is not None and (seen is not before or added):
            if seen.epoch != before.epoch:
                if before.epoch not in seen.previous_epochs:
                    return Loss(name, seen.epoch, epochs, "it was begun anew, or an older state came back")
            elif seen.revocations < before.revocations + added or (
                seen.revocations == before.revocations and seen.revision != before.revision
            ):
                return Loss(name, seen.epoch, epochs, "an older state came back")
        self._keep(name, raw, seen, before)
        return seen

    def replace(self, names: Sequence[str], values: Iterable[bytes | None]) -> None:
        """Take the state of some buckets as it is, after a loss was dealt with.

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
