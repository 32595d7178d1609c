"""A guard against slowdowns in Python code of ours: counts, not seconds.

`python -m benchmarks.counts` counts the bytecode instructions and the calls that a request takes because
it is protected: all that Python runs in the request's thread, but for the framework and its server. The same
code counts the same on every machine, so more than was counted before is an error. What a slower C function
takes, or a task that asyncio runs, it does not see: `python -m benchmarks request` does. `--update` writes
what is counted now to `benchmarks/counts.json`, by version of Python, for the commit that means it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import inspect
import json
import platform
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Self, cast

import async_jwt
from async_jwt.adapters.quart import JWTManager
from benchmarks import asgi, flask_request, quart_request, wsgi
from benchmarks.tokens import bearers, cookies, token

__all__ = ["ALLOWED", "Count", "count", "counts_now", "main"]

KEPT = Path(__file__).with_suffix(".json")
OURS = Path(async_jwt.__file__).parent
# Their own, and how many calls they make, is not ours.
LEFT_OUT = ("quart", "flask", "werkzeug", "asgiref", "asyncio", "benchmarks", "logging", "threading")
TIMES = 20
ALLOWED = 1.01


@dataclass(frozen=True, slots=True)
class Count:
    """What one request takes, or one token."""

    instructions: float
    calls: float


class Counter:
    """Counts while it is entered, in its own thread."""

    def __init__(self) -> None:
        self.instructions = self.calls = 0
        self._is_ours: dict[CodeType, bool] = {}

    def __enter__(self) -> Self:
        gc.collect()
        gc.disable()  # what it calls is nobody's here
        self._before = sys.gettrace(), sys.getprofile()  # such as who measures the coverage of tests
        cast(
            "FrameType", inspect.currentframe()
        ).f_trace_opcodes = True  # Python 3.12 looks for one such frame as tracing begins
        sys.setprofile(self._profile)
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        trace, profile = self._before
        sys.settrace(trace)
        sys.setprofile(profile)
        gc.enable()

    def _counts(self, code: CodeType) -> bool:
        known = self._is_ours.get(code)
        if known is None:
            path = Path(code.co_filename)
            is_left_out = any(part in LEFT_OUT for part in path.parts)
            known = self._is_ours[code] = path.is_relative_to(OURS) or not is_left_out
        return known

    def _enter(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        if not self._counts(frame.f_code):
            return None
        self.calls += 1
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return self._step

    def _step(self, _frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "opcode":
            self.instructions += 1
        return self._step

    def _profile(self, frame: FrameType, event: str, _argument: Any) -> None:
        if event == "c_call" and self._counts(frame.f_code):
            self.calls += 1


async def count(run: Callable[[int], Awaitable[None]], bare: Count | None = None) -> Count:
    """What each call takes, once it is warm; less what another takes."""
    await run(10)
    with Counter() as counter:
        await run(TIMES)
    less = bare or Count(0, 0)
    return Count(
        counter.instructions / TIMES - less.instructions,
        counter.calls / TIMES - less.calls,
    )


async def _counts() -> dict[str, Count]:
    new, cookie = bearers([token() for _ in range(100)]), cookies("access_token_cookie", 100)
    app, flask = quart_request.our_app(), flask_request.our_app()
    options = {"JWT_TOKEN_LOCATION": ["cookies"]}

    bare = await count(asgi.requests(quart_request.bare_app(), "/bare", new))
    post = await count(asgi.requests(quart_request.bare_app(), "/bare", cookie, "POST"))
    plain = await count(wsgi.requests(flask_request.bare_app(), "/bare", new))
    others = quart_request.our_app(others=True)
    theirs = bearers([token(iss=quart_request.ISSUER, aud="api") for _ in range(100)])
    issuing = quart_request.bare_app()
    issuer = JWTManager(issuing)

    async def issue(times: int) -> None:
        for _ in range(times):
            await issuer.create_access_token("alice")

    return {
        "Quart, not protected": await count(asgi.requests(app, "/bare", new), bare),
        "Quart, new token": await count(asgi.requests(app, "/me", new), bare),
        "Quart, repeated token": await count(asgi.requests(app, "/me", new[:1]), bare),
        "Quart, new token, async user lookup": await count(
            asgi.requests(quart_request.our_app(user=True), "/me", new), bare
        ),
        "Quart, new token, cookie + CSRF": await count(
            asgi.requests(quart_request.our_app(**options), "/me", cookie, "POST"), post
        ),
        "Quart, another issuer's new token": await count(asgi.requests(others, "/me", theirs), bare),
        "Quart, another issuer's repeated token": await count(asgi.requests(others, "/me", theirs[:1]), bare),
        "Quart, own repeated token beside issuers": await count(asgi.requests(others, "/me", new[:1]), bare),
        "Flask, not protected": await count(wsgi.requests(flask, "/bare", new), plain),
        "Flask, new token": await count(wsgi.requests(flask, "/me", new), plain),
        "Flask, repeated token": await count(wsgi.requests(flask, "/me", new[:1]), plain),
        "issuing a token": await count(issue),
    }


def counts_now() -> dict[str, Count]:
    """What each case takes now."""
    return asyncio.run(_counts())


def main(arguments: list[str] | None = None) -> int:
    """Compare with what was kept, or keep what is counted now."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.counts", description=__doc__)
    parser.add_argument("--update", action="store_true", help="keep what is counted now")
    update = parser.parse_args(arguments).update
    python = ".".join(platform.python_version_tuple()[:2])
    kept: dict[str, dict[str, dict[str, float]]] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    now = {name: asdict(found) for name, found in counts_now().items()}
    if update:
        KEPT.write_text(json.dumps({**kept, python: now}, indent=1, sort_keys=True) + "\n")
    elif python not in kept:
        print(f"Nothing was counted with Python {python} yet: run it with --update")
        return 0
    before = now if update else kept[python]
    more = False
    for name, found in now.items():
        for kind, value in found.items():
            was = before.get(name, {}).get(kind, 0.0)
            is_more = value > was * ALLOWED
            more = more or is_more
            print(f"{name:40} {kind:13} {was:9.1f} {value:9.1f} {'MORE' if is_more else ''}")
    if more:
        print("More than before: mend it, or keep it with --update and say why in the commit")
    return int(more)


if __name__ == "__main__":
    sys.exit(main())
