"""Chooses among several cookies of one name: a former domain or path may have left one behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from async_jwt.core.checks import check_type
from async_jwt.core.codec import Verified
from async_jwt.core.engine import Engine
from async_jwt.core.locations import cookie_name
from async_jwt.core.policy import Policy
from async_jwt.errors import (
    AmbiguousTokenError,
    ExpiredTokenError,
    IssuerUnavailableError,
    JWTDecodeError,
    WrongTokenError,
)

__all__ = ["choose"]

# How many tokens a request may have verified.
_MOST: Final = 4


async def choose(engine: Engine, texts: Sequence[str], policy: Policy) -> str:
    """The token that counts: of those with a good signature, time and type, the last issued one.

    Args:
        engine: the application's engine.
        texts: the different tokens, in the order in which the client sent them.
        policy: what the view demands.

    Raises:
        AmbiguousTokenError: they are too many, or belong to different users.
        JWTDecodeError: none is accepted: the reason of one that has expired, else of the first.
        WrongTokenError: as for `JWTDecodeError`.
        IssuerUnavailableError: none is accepted, and the keys of one are not known.
    """
    name = cookie_name(policy.refresh, engine.settings)
    if len(texts) > _MOST:
        raise AmbiguousTokenError(f'The request carries more than {_MOST} different cookies "{name}"')
    good: list[tuple[Verified, str]] = []
    refusals: list[JWTDecodeError | WrongTokenError] = []
    unavailable: IssuerUnavailableError | None = None
    for text in texts:
        try:
            good.append((await _verified(engine, text, policy), text))
        except IssuerUnavailableError as outage:
            unavailable = outage  # the others may count nevertheless
        except (JWTDecodeError, WrongTokenError) as refusal:
            refusals.append(refusal)
    if not good and unavailable is not None:
        raise unavailable
    if not good:
        raise next((each for each in refusals if isinstance(each, ExpiredTokenError)), refusals[0])
    if len({verified.ref.identity for verified, _ in good}) > 1:
        raise AmbiguousTokenError(
            f'The request carries tokens of different users in cookies "{name}". A former JWT_COOKIE_DOMAIN '
            "or path may have left one behind: set JWT_COOKIE_FORMER_DOMAINS or JWT_COOKIE_FORMER_PATHS"
        )
    return max(good, key=lambda each: _issued(each[0]))[1]  # the first of several


async def _verified(engine: Engine, text: str, policy: Policy) -> Verified:
    verified = await engine.verify(text)
    engine.codec.check_times(verified, engine.clock())
    check_type(verified.claims, policy, engine.settings)
    return verified


def _issued(verified: Verified) -> float:
    value = verified.claims.get("iat")
    return value if isinstance(value, int | float) else float("-inf")
