"""Helpers for testing applications, and contracts for testing custom stores.

`jwt_client` is the framework's test client, signed in; `frozen_clock` and `outage` change the time and
the store that an application sees; `assert_protected` fails if a view was left open. The fixtures of
`async_jwt.pytest_plugin` wrap the first three.

`store_contract` lists the promises of every revocation store, and `session_contract` the additional ones
of a store that keeps sessions. Each promise is a coroutine function that takes a store, uses its own
identities, and raises `ContractViolation` if the store breaks it. With pytest::

    @pytest.mark.parametrize("promise", store_contract, ids=lambda promise: promise.__name__)
    async def test_my_store(promise):
        await promise(MyStore(...))

Each promise needs a store in which nothing was revoked before. Some are about what not every store does,
such as using tokens once: they hold for a store that lacks the methods. `promises_of(store, store_contract)`
returns those that a store does make.
"""

from __future__ import annotations

from async_jwt.testing.audit import assert_protected
from async_jwt.testing.client import jwt_client
from async_jwt.testing.clock import FrozenClock, frozen_clock
from async_jwt.testing.contract import ContractViolation, Promise, promises_of
from async_jwt.testing.outage import outage
from async_jwt.testing.revocation import store_contract
from async_jwt.testing.sessions import session_contract

__all__ = [
    "ContractViolation",
    "FrozenClock",
    "Promise",
    "assert_protected",
    "frozen_clock",
    "jwt_client",
    "outage",
    "promises_of",
    "session_contract",
    "store_contract",
]
