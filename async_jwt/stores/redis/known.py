"""What a process knows of a store's buckets, and how it notices that the server lost some of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from async_jwt.stores.redis.layout import BUCKET_NAMES, Bucket

__all__ = ["Known", "Loss"]


class Loss(NamedTuple):
    """Evidence that a server forgot revocations.

    Attributes:
        bucket: the bucket that shows it.
        found: the epoch that it has now; "" if it is gone.
        epochs: epochs that were in use before.
        why: what was seen.
        evicted: the server's run and how many keys it dropped, if that is the evidence.
    """

    bucket: str
    found: str
    epochs: tuple[str, ...]
    why: str
    evicted: str = ""


class Known:
    """The last state of each bucket that was seen. Shared by all threads.

    A reply is compared with what was known before its command was sent: replies of several
    connections may come in any order, and only what was known before can have been lost.
    """

    def __init__(self) -> None:
        self._buckets: dict[str, tuple[bytes, Bucket]] = {}

    @property
    def is_complete(self) -> bool:
        """Whether every bucket was seen."""
        return len(self._buckets) == len(BUCKET_NAMES)

    def before(self, names: Iterable[str]) -> list[Bucket | None]:
        """What is known of some buckets, to be handed to `look` with the reply."""
        return [entry[1] if (entry := self._buckets.get(name)) else None for name in names]

    def look(self, name: str, raw: bytes | None, before: Bucket | None, added: int = 0) -> Bucket | Loss:
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
                if before.epoch not in seen.former:
                    return Loss(name, seen.epoch, epochs, "it was begun anew, or an older state came back")
            elif seen.revocations < before.revocations + added or (
                seen.revocations == before.revocations and seen.mark != before.mark
            ):
                return Loss(name, seen.epoch, epochs, "an older state came back")
        self._keep(name, raw, seen, before)
        return seen

    def replace(self, values: Iterable[bytes | None]) -> str:
        """Take the state of all buckets as it is, after a loss was dealt with. Returns the epoch.

        Raises:
            ValueError: one is missing, or cannot be read.
        """
        read = {
            name: (raw or b"", Bucket.read(raw or b""))
            for name, raw in zip(BUCKET_NAMES, values, strict=True)
        }
        self._buckets = read
        return read[BUCKET_NAMES[0]][1].epoch

    def _keep(self, name: str, raw: bytes, seen: Bucket, before: Bucket | None) -> None:
        entry = self._buckets.get(name)
        if entry is not None:
            now = entry[1]
            is_late = now is not before and now.epoch != seen.epoch
            if is_late or (now.epoch == seen.epoch and now.revocations >= seen.revocations):
                return
        self._buckets[name] = (raw, seen)
