"""For the tests of applications, and of those who bring a store of their own.

`jwt_client` is a framework's test client, signed in; `frozen_clock` and `outage` change what an
application sees of the world, and `assert_protected` says whether a view was forgotten. The fixtures of
`async_jwt.pytest_plugin` are the same.

`store_contract` holds what a revocation store promises, and `session_contract` what one promises
besides that keeps sessions: one coroutine function for each promise. Each is called with a
store, uses identities of its own, and raises `ContractViolation` if the promise does not hold. With
pytest::

    @pytest.mark.parametrize("promise", store_contract, ids=lambda promise: promise.__name__)
    async def test_my_store(promise):
        await promise(MyStore(...))

Each needs a store in which nothing was revoked before.
"""

from __future__ import annotations

from async_jwt.testing.audit import assert_protected
from async_jwt.testing.client import jwt_client
from async_jwt.testing.clock import FrozenClock, frozen_clock
from async_jwt.testing.contract import ContractViolation, Promise
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
    "session_contract",
    "store_contract",
]
