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
    Refusal,
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
from async_jwt.stores.redis.lua import EXPIRE_ACCESS, REVOKE_ONE, REVOKE_SESSION
from async_jwt.stores.redis.mirror import open_mirror
from async_jwt.stores.redis.monitor import Monitor
from async_jwt.stores.redis.options import OnDataLoss, OnOutage, read_options
from async_jwt.stores.redis.schema import Bucket, Layout, TokenStatus, ttl_ms
from async_jwt.stores.redis.sessions import Sessions
from async_jwt.stores.redis.single_use import consume
from async_jwt.stores.redis.topology import PerLoop, Standalone
from async_jwt.stores.redis.versions import LastSeen

__all__ = ["RedisStore"]

T = TypeVar("T")

# Refusals whose reason nobody asked for: most checks of refused tokens are followed by the question.
_MOST_REFUSALS = 100

_REASONS: dict[TokenStatus, Refusal] = {TokenStatus.STALE: "stale", TokenStatus.USED: "used"}


class _Refusals:
    """Why the last checks refused their tokens, so that the question after a check sends no command.

    An answer holds for as long as this process sees the bucket in the same state.
    """

    def __init__(self) -> None:
        self._reasons: dict[TokenRef, tuple[Bucket, Refusal]] = {}

    def put(self, ref: TokenRef, bucket: Bucket, reason: Refusal) -> None:
        """Keep the reason of a refusal."""
        if len(self._reasons) >= _MOST_REFUSALS:
            self._reasons.clear()
        self._reasons[ref] = bucket, reason

    def take(self, ref: TokenRef, bucket: Bucket | None) -> Refusal | None:
        """Return the reason once; None if it is unknown, or the bucket has changed."""
        at, reason = self._reasons.pop(ref, (None, None))
        return reason if at is bucket else None


class RedisStore:
    """Revocations on Redis or Valkey (6.2 or newer): a single server, Sentinel or a Cluster.

    Checks in the same tick of an event loop share one command. While a server does not
    answer, requests fail at once. Lost revocations are detected.

    Args:
        url: `redis://[user:password@]host[:port][/db]`, `rediss://` for TLS, or
            `unix://path`; `redis+sentinel://host[:26379],host2/service[/db]`, with the servers'
            login, and the sentinels' own in the query parameters `sentinel_username` and
            `sentinel_password`; `redis+cluster://host[:port],host2`. `rediss+...`, `valkey` and
            `valkeys` work the same way. The options below may also be query parameters;
            redis-py's `protocol`, `client_name`, `db` and `ssl_*` can only be query parameters.
        deadline: seconds that one command may take in total: waiting for a connection, opening
            it, a retry on a stale one, and the reply. Turns in which the event loop was busy
            do not count, up to a hard limit of four times as long.
        max_connections: maximum connections of each event loop, to each node of a Cluster;
            further commands wait.
        prefix: the prefix of every key; without braces.
        on_outage: how to answer checks while the server does not answer: "deny" refuses
            them with 503; "allow" lets access tokens that are not fresh through unchecked,
            logged and counted. Everything else is refused either way.
        on_data_loss: what to do once the server has lost revocations: "deny" refuses all
            tokens issued until then; "accept" judges them by their issue time.
        poll: seconds between polls for what no reply shows, such as evicted keys.
        mirror: True keeps all revocations in this process's memory, so that checks send no
            command. Needs the `mirror` extra.
        mirror_max: how many revocations to keep individually. Beyond that, a filter clears
            nearly all tokens that are not revoked; checks of the others query the server.
        mirror_lag: maximum seconds that the mirror may be behind. Once that is no longer
            certain, checks query the servers.

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
        self._last_seen, self._refusals = last_seen, _Refusals()
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
            mirrored = self._mirror.status(ref)
            if mirrored is not None:
                return mirrored is TokenStatus.VALID
        try:
            status, read = await self._buckets.judge(ref)
        except StoreUnavailableError as problem:
            if not (self._passes_outages and ref.may_fail_open and isinstance(problem, OutageError)):
                self._health.refuse()
                raise
            self._health.let_through()
            return True
        if status is TokenStatus.VALID:
            return True
        self._refusals.put(ref, read.bucket, _REASONS.get(status, "revoked"))
        return False

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

    async def consume_token(self, ref: TokenRef, *, others: bool = False) -> bool:
        refuse_odd_texts(ref)
        return await self._to_the_end(consume(self._buckets, ref, others=others))

    async def expire_access_tokens(self, identity: str) -> None:
        identity = text_of(identity, "The identity")
        bucket, key = bucket_of(identity), self._layout.user(identity)
        await self._to_the_end(self._buckets.revoke(bucket, EXPIRE_ACCESS, [key], [identity]))

    async def refusal_of(self, ref: TokenRef) -> Refusal:
        refuse_odd_texts(ref)
        known = self._refusals.take(ref, self._last_seen.before(bucket_of(ref.identity)))
        if known is not None:
            return known
        status = None if self._mirror is None else self._mirror.status(ref)
        if status is None:
            status, _ = await self._buckets.judge(ref)  # not counted: the check was answered
        return _REASONS.get(status, "revoked")

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
        """Connect and inspect the servers. Raises StoreUnavailableError if one is down; it may come back."""
        await self._counted(self._buckets.start())

    async def close(self) -> None:
        await self._buckets.topologies.close()

    def status(self) -> StoreStatus:
        """The server's status, as far as this process knows. Sends no command."""
        status, mirror = self._health.status(), self._mirror
        if mirror is None:
            return status
        return replace(status, staleness=mirror.staleness, mirrored=len(mirror))

    def _after_fork(self) -> None:
        """Drop what belongs to the parent process."""
        self._health.after_fork()
        if self._mirror is not None:
            self._mirror.reset()

    async def _to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Finish a revocation even if its caller is cancelled meanwhile."""
        task = asyncio.ensure_future(work)
        # A cancelled caller does not retrieve the outcome; the store has logged it.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await self._counted(asyncio.shield(task))

    async def _counted(self, work: Awaitable[T]) -> T:
        try:
            return await work
        except StoreUnavailableError:
            self._health.refuse()
            raise
