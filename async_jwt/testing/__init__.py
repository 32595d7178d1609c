"""For the tests of those who bring a store of their own.

`store_contract` holds what a revocation store promises, and `session_contract` what one promises
besides that keeps sessions: one coroutine function for each promise. Each is called with a
store, uses identities of its own, and raises `BrokenPromise` if the promise does not hold. With
pytest::

    @pytest.mark.parametrize("promise", store_contract, ids=lambda promise: promise.__name__)
    async def test_my_store(promise):
        await promise(MyStore(...))

Each needs a store in which nothing was revoked before.
"""

from __future__ import annotations

from async_jwt.testing.promise import BrokenPromise, Promise
from async_jwt.testing.revocation import store_contract
from async_jwt.testing.sessions import session_contract

__all__ = ["BrokenPromise", "Promise", "session_contract", "store_contract"]
