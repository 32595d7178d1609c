"""Store health: counters, one log line per state change, and signals."""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections.abc import Sequence
from contextvars import Context
from typing import Any, NamedTuple

from async_jwt.clock import system_clock
from async_jwt.signals import send, store_state_changed
from async_jwt.stores.contract import StoreStatus
from async_jwt.stores.redis.options import OnOutage

__all__ = ["Health", "ServerInfo", "combined", "read_server", "save_points"]

log: logging.Logger = logging.getLogger("async_jwt.store")


class Health:
    """The state behind `RedisStore.status()`. Changed on event loops only.

    Args:
        store: the sender of signals.
        on_outage: decides how the log describes an outage.

    Attributes:
        unavailable: True while a server is known not to answer.
        refuses_reads: True while a server refuses checks.
    """

    def __init__(self, store: Any, on_outage: OnOutage) -> None:
        self._store = store
        self._allows = on_outage == "allow"
        self._since = system_clock()
        self._unavailable: weakref.WeakSet[Any] = weakref.WeakSet()
        self._why = ""
        self.unavailable: bool = False
        self._said_corrupt = False
        self._write_problems: dict[str, str] = {}  # by the server's name
        self._read_problems: dict[str, str] = {}
        self.refuses_reads: bool = False
        self._refused = 0
        self._let_through = 0
        self._losses = 0
        self._server: ServerInfo | None = None
        self._mirrors = False
        self._sending: set[asyncio.Task[None]] = set()

    def status(self) -> StoreStatus:
        """The current status."""
        server = self._server
        return StoreStatus(
            available=not self.unavailable and not self._read_problems,
            since=self._since,
            problem=self._problem(),
            refused=self._refused,
            let_through=self._let_through,
            data_losses=self._losses,
            may_evict=None if server is None else server.may_evict,
            persists=None if server is None else server.persists,
            read_only=None if server is None else server.read_only,
            clock_ahead=None if server is None else server.clock_ahead,
        )

    def _problem(self) -> str | None:
        if self.unavailable:
            return self._why
        return next(iter([*self._read_problems.values(), *self._write_problems.values()]), None)

    def refuse(self) -> None:
        """Count an unanswered call."""
        self._refused += 1

    def let_through(self) -> None:
        """Count a check that was let through without an answer."""
        self._let_through += 1

    def outage(self, client: Any, why: str | None) -> None:
        """Record that a client's server stopped answering, or answers again (None)."""
        if why is None:
            self.answered(client)
            return
        self._unavailable.add(client)
        if self.unavailable:
            return
        self.unavailable, self._why, self._since = True, why, system_clock()
        meanwhile = "plain access tokens pass unchecked, all else is" if self._allows else "requests are"
        event = {"event": "store_unavailable"}
        log.error("%s. Until it answers, %s refused with 503", why, meanwhile, extra=event)
        self._send("unavailable", why)

    def answered(self, client: Any) -> None:
        """Record that a client's server answers."""
        self._unavailable.discard(client)
        if self.unavailable and not self._unavailable:
            self.unavailable, self._since = False, system_clock()
            log.warning("The revocation store answers again", extra={"event": "store_available"})
            self._send("available", "")

    def client_closed(self, client: Any) -> None:
        """Forget a closed client; closing says nothing about its server."""
        self._unavailable.discard(client)

    def after_fork(self) -> None:
        """Forget all clients: they belong to the parent process."""
        self._unavailable.clear()

    def corrupt(self) -> None:
        """Log, once, that another program wrote to a user's key."""
        if not self._said_corrupt:
            self._said_corrupt = True
            log.error(
                "Another program overwrote a user's generation in the revocation store: that user's "
                "requests are refused with 503 until the key is removed",
                extra={"event": "store_corrupt"},
            )

    def misconfigured(self, name: str, problem: str | None) -> None:
        """Record that a server refuses checks because of a misconfiguration, or no longer (None).

        Only the first problem and the end of the last one are logged and signaled.
        """
        before = bool(self._read_problems)
        if problem is not None:
            self._read_problems[name] = problem
        else:
            self._read_problems.pop(name, None)
        self.refuses_reads = bool(self._read_problems)
        if self.refuses_reads == before:
            return
        self._since = system_clock()
        if problem is not None:
            event = {"event": "store_misconfigured"}
            log.error("%s. Until then, requests are refused with 503", problem, extra=event)
            self._send("misconfigured", problem)
        else:
            log.warning("The revocation store accepts checks again", extra={"event": "store_configured"})
            self._send("configured", "")

    def writing(self, name: str, problem: str | None) -> None:
        """Record that a server refused a write, or accepted one (None).

        Only the first problem and the end of the last one are logged and signaled.
        """
        before = bool(self._write_problems)
        if problem is None:
            self._write_problems.pop(name, None)
            if before and not self._write_problems:
                log.warning("The revocation store accepts writes again", extra={"event": "store_revoking"})
                self._send("revoking", "")
            return
        self._write_problems[name] = problem
        if not before:
            event = {"event": "store_not_revoking"}
            log.error("%s. Until it accepts writes, revocations are refused with 503", problem, extra=event)
            self._send("not_revoking", problem)

    def lost(self, why: str, *, denied: bool, elsewhere: bool = False) -> None:
        """Record that the server lost data.

        Args:
            why: the evidence.
            denied: True if that ended all tokens.
            elsewhere: True if another process handled it first.
        """
        self._losses += 1
        if not denied:
            outcome = 'Tokens are judged by their issue time; revoked ones may pass (on_data_loss="accept")'
        elif elsewhere:
            outcome = "Another process handled it first"
        else:
            outcome = "All tokens issued so far are refused: all users must sign in again"
        event = {"event": "store_data_lost"}
        log.critical("The revocation store lost data: %s. %s", why, outcome, extra=event)
        self._send("data_lost", why)

    def mirror(self, *, live: bool) -> None:
        """Record whether the mirror is live or behind."""
        if live == self._mirrors:
            return
        self._mirrors = live
        if live:
            log.info("The revocation mirror is live", extra={"event": "mirror_live"})
            self._send("mirror_live", "")
        else:
            text = "The revocation mirror is behind: checks query the servers"
            log.warning(text, extra={"event": "mirror_late"})
            self._send("mirror_late", "")

    def server(self, server: ServerInfo | None) -> None:
        """Record what the servers report about themselves; None if they report nothing."""
        known, self._server = self._server, server
        for (attribute, bad), warning in _WARNINGS.items():
            if getattr(server, attribute, None) is bad and getattr(known, attribute, None) is not bad:
                log.warning(warning, extra={"event": f"store_{attribute}"})

    def _send(self, state: str, detail: str) -> None:
        if store_state_changed.receivers:
            coroutine = send(store_state_changed, self._store, state=state, detail=detail)
            task = asyncio.get_running_loop().create_task(coroutine, context=Context())
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)


_WARNINGS: dict[tuple[str, bool], str] = {
    ("may_evict", True): (
        "The revocation server drops keys, and so revocations, when its memory is full: set its "
        "maxmemory-policy to noeviction"
    ),
    ("persists", False): (
        "The revocation server keeps nothing on disk: a restart forgets all revocations and signs "
        "all users out. Set appendonly yes"
    ),
    ("read_only", True): (
        "The revocation server is a read-only replica: revocations fail. Set JWT_STORE_URI to its primary"
    ),
}


class ServerInfo(NamedTuple):
    """Facts from INFO and CONFIG; None where unknown."""

    run: str
    evicted: int
    may_evict: bool
    persists: bool | None
    read_only: bool
    clock_ahead: float | None = None


def read_server(info: Any) -> ServerInfo | None:
    """Parse a reply to INFO.

    Args:
        info: the reply.

    Returns:
        The parsed facts; None if the reply cannot be parsed.
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
    """Parse a reply to CONFIG GET save, a map in RESP3; None if it cannot be parsed."""
    values = (
        list(config.values()) if isinstance(config, dict) else config[1:] if isinstance(config, list) else []
    )
    first = values[0] if values else None
    return first.decode() if isinstance(first, bytes) else None


def combined(servers: Sequence[ServerInfo]) -> ServerInfo | None:
    """Merge the facts of several servers: as bad as the worst of them; None if there are none."""
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
