"""`RedisStore`: revocation and sessions shared by all processes, with at most one command per check.

This module wires the others. `schema` has the keys and values, `client` talks to one server, `topology` knows
which server holds what, `buckets` and `sessions` read and write, `monitor` and `data_loss` recover.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from async_jwt.errors import StoreUnavailableError
from async_jwt.stores.contract import (
    Session,
    SessionSnapshot,
    StoreStatus,
    TokenRef,
    bucket_of,
    bucket_of_sid,
    refuse_odd_texts,
    text_of,
)
from async_jwt.stores.redis.buckets import BucketStore
from async_jwt.stores.redis.cluster import Cluster
from async_jwt.stores.redis.data_loss import DataLossHandler
from async_jwt.stores.redis.errors import OutageError
from async_jwt.stores.redis.health import Health
from async_jwt.stores.redis.lua import REVOKE_ONE, REVOKE_SESSION
from async_jwt.stores.redis.mirror import open_mirror
from async_jwt.stores.redis.monitor import Monitor
from async_jwt.stores.redis.options import OnDataLoss, OnOutage, read_options
from async_jwt.stores.redis.schema import Layout, ttl_ms
from async_jwt.stores.redis.sessions import Sessions
from async_jwt.stores.redis.topology import PerLoop, Standalone
from async_jwt.stores.redis.versions import LastSeen

__all__ = ["RedisStore"]

T = TypeVar("T")


class RedisStore:
    """Revocations on Redis or Valkey servers (6.2 or newer): one, one that Sentinel names, or a Cluster.

    Checks that wait in the same tick of an event loop share one command. While a server
    does not answer nobody waits for it. A server that lost revocations is noticed.

    Args:
        url: `redis://[user:password@]host[:port][/db]`, `rediss://` for TLS, or
            `unix://path`; `redis+sentinel://host[:26379],host2/service[/db]`, where the login is
            the servers' and the sentinels' own are the query parameters `sentinel_username` and
            `sentinel_password`; `redis+cluster://host[:port],host2`. `rediss+...`, and the same
            with `valkey` and `valkeys`. The options below may be given as query parameters as
            well, and redis-py's `protocol`, `client_name`, `db` and `ssl_*` as query parameters
            only.
        deadline: seconds that one command may take in all: waiting for a connection, making
            it, a retry on one that went stale, and the reply. Turns in which the event loop was busy
            do not count; it ends after four times as long all the same.
        max_connections: how many connections each event loop may hold, to each node of a
            Cluster; further commands wait.
        prefix: what every key begins with; without braces.
        on_outage: what becomes of checks while the server does not answer: "deny" refuses
            them with 503; "allow" lets access tokens that are not fresh through unchecked,
            logged and counted. Everything else is refused either way.
        on_data_loss: what to do once the server has lost revocations: "deny" refuses all
            tokens made until then; "accept" lets them go by their time.
        poll: seconds between two looks at what shows in no reply, such as evicted keys.
        mirror: whether to keep all revocations in this process's memory, so that checks ask
            nobody. Needs the `mirror` extra.
        mirror_max: how many of them to keep one by one; of more a filter is kept, which says of
            nearly all tokens that they are surely not revoked, and the others are asked for.
        mirror_lag: seconds by which the mirror may be behind. Once nobody can say that it is
            not, checks ask the servers.

    Raises:
        ConfigurationError: the URL or an option is wrong.
    """

    def __init__(
        self,
        url: str = "redis://localhost",
        *,
        deadline: float = 0.25,
        max_connections: int = 32,
        prefix: str = "async_jwt:",
        on_outage: OnOutage = "deny",
        on_data_loss: OnDataLoss = "deny",
        poll: float = 5.0,
        mirror: bool = False,
        mirror_max: int = 100_000,
        mirror_lag: float = 1.0,
    ) -> None:
        place, options = read_options(
            url,
            {
                "deadline": deadline,
                "max_connections": max_connections,
                "prefix": prefix,
                "on_outage": on_outage,
                "on_data_loss": on_data_loss,
                "poll": poll,
                "mirror": mirror,
                "mirror_max": mirror_max,
                "mirror_lag": mirror_lag,
            },
        )
        self._passes_outages = options.on_outage == "allow"
        layout, last_seen = Layout(options.prefix), LastSeen()
        self._health = Health(self, options.on_outage)
        data_loss = DataLossHandler(last_seen, layout, options, self._health)
        monitor = Monitor(last_seen, layout, data_loss, options, self._health)
        self._mirror = None
        if options.mirror:
            self._mirror = open_mirror(last_seen, layout, data_loss, options, self._health)
        kind = Cluster if place.kind == "cluster" else Standalone
        topologies = PerLoop(lambda: kind(place, options, layout, self._health, monitor), self._after_fork)
        self._buckets = BucketStore(
            topologies,
            layout,
            last_seen,
            monitor,
            data_loss,
            self._health,
            denies_losses=options.on_data_loss == "deny",
            mirror=self._mirror,
        )
        self._layout = layout
        self._sessions = Sessions(self._buckets)

    async def stamp(self, identity: str) -> str:
        ref = TokenRef(text_of(identity, "The identity"), None, None, None, 0.0, None)
        found = await self._counted(self._buckets.read_token(ref))
        return found.stamp

    async def check(self, ref: TokenRef) -> bool:
        refuse_odd_texts(ref)
        if self._mirror is not None:
            answer = self._mirror.answer(ref)
            if answer is not None:
                return answer
        try:
            return (await self._buckets.check(ref))[0]
        except StoreUnavailableError as problem:
            if not (self._passes_outages and ref.may_fail_open and isinstance(problem, OutageError)):
                self._health.refuse()
                raise
        self._health.let_through()
        return True

    async def revoke_token(self, ref: TokenRef) -> None:
        if ref.jti is None:
            raise ValueError("A token without a jti cannot be revoked by itself: revoke its session or user")
        refuse_odd_texts(ref)
        bucket, key = bucket_of(ref.identity), self._layout.token(ref.identity, ref.jti)
        arguments = [ttl_ms(ref.expires_at), ref.jti]
        await self._to_the_end(self._buckets.revoke(bucket, REVOKE_ONE, [key], arguments))

    async def revoke_session(self, sid: str, expires_at: float | None) -> None:
        sid = text_of(sid, "The sid")
        bucket, key = bucket_of_sid(sid), self._layout.session(sid)
        arguments = [ttl_ms(expires_at), self._layout.base(bucket), sid]
        await self._to_the_end(self._buckets.revoke(bucket, REVOKE_SESSION, [key], arguments))

    async def revoke_user(self, identity: str, keep: TokenRef | None = None) -> None:
        await self._to_the_end(self._buckets.revoke_user(text_of(identity, "The identity"), keep))

    async def revoke_everything(self) -> None:
        await self._to_the_end(self._buckets.revoke_everything())

    async def load_session(self, ref: TokenRef) -> SessionSnapshot:
        refuse_odd_texts(ref)
        return await self._counted(self._sessions.load(ref))

    async def get_session(self, sid: str) -> Session | None:
        return await self._counted(self._sessions.get(text_of(sid, "The sid")))

    async def replace_session(
        self,
        session: Session,
        seen: SessionSnapshot,
        *,
        successor: str | None = None,
        keep_for: float | None = None,
        limit: int | None = None,
    ) -> tuple[str, ...] | None:
        return await self._to_the_end(self._sessions.replace(session, seen, successor, keep_for, limit))

    async def list_sessions(
        self, identity: str, limit: int, cursor: str | None
    ) -> tuple[Sequence[Session], str | None]:
        identity = text_of(identity, "The identity")
        return await self._counted(self._sessions.list(identity, limit, cursor))

    async def start(self) -> None:
        """Connect, and look at the server. One that cannot be reached is an error, and may come back."""
        await self._counted(self._buckets.start())

    async def close(self) -> None:
        await self._buckets.topologies.close()

    def status(self) -> StoreStatus:
        """How the server fares, as far as this process knows. Asks nobody."""
        status, mirror = self._health.status(), self._mirror
        if mirror is None:
            return status
        return replace(status, staleness=mirror.staleness, mirrored=len(mirror))

    def _after_fork(self) -> None:
        """Leave to the parent process what is its own."""
        self._health.after_fork()
        if self._mirror is not None:
            self._mirror.reset()

    async def _to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Finish a revocation even if whoever asked for it is cancelled meanwhile."""
        task = asyncio.ensure_future(work)
        # Whoever was cancelled asks for no outcome; it was logged as the store's.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await self._counted(asyncio.shield(task))

    async def _counted(self, work: Awaitable[T]) -> T:
        try:
            return await work
        except StoreUnavailableError:
            self._health.refuse()
            raise
