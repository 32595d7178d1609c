"""The walk of one token through a Quart request: which functions of ours it enters, and in which files.

`python -m benchmarks.walk` counts the functions entered, their files, and how often the walk goes from one
file to another. A reader who follows a request takes the same way. Flask-JWT-Extended, counted alike in the
same run, stands beside it; `--trace` prints each function.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import flask_jwt_extended

import async_jwt
from benchmarks import asgi, flask_request, quart_request, wsgi
from benchmarks.servers import redis_server
from benchmarks.tokens import Headers, bearers, token

__all__ = ["Walk", "main", "walk"]

WARM_UPS = 3


@dataclass(frozen=True, slots=True)
class Walk:
    """The functions that one request entered, in order, as (file, function)."""

    steps: tuple[tuple[str, str], ...]

    @property
    def files(self) -> int:
        """How many files they are in."""
        return len({file for file, _ in self.steps})

    @property
    def changes(self) -> int:
        """How often two that follow each other are in different files."""
        return sum(one[0] != other[0] for one, other in zip(self.steps, self.steps[1:], strict=False))


async def walk(run: Callable[[int], Awaitable[None]], package: Any) -> Walk:
    """The walk of one request through a package, after some that warm up what is remembered."""
    folder = Path(package.__file__).parent
    steps: list[tuple[str, str]] = []

    def enter(frame: FrameType, event: str, _argument: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(folder):
            steps.append((str(path.relative_to(folder)), frame.f_code.co_qualname))

    await run(WARM_UPS)
    before = sys.getprofile()
    sys.setprofile(enter)
    try:
        await run(1)
    finally:
        sys.setprofile(before)
    return Walk(tuple(steps))


async def _walks(redis_url: str) -> dict[str, Walk]:
    def new() -> list[Headers]:
        return bearers([token() for _ in range(WARM_UPS + 1)])

    memory = quart_request.our_app()
    redis = quart_request.our_app(JWT_STORE_URI=redis_url)
    theirs = flask_request.our_app(flask_jwt_extended)
    found = {
        "memory, new token": await walk(asgi.requests(memory, "/me", new()), async_jwt),
        "memory, repeated token": await walk(asgi.requests(memory, "/me", new()[:1]), async_jwt),
        "Redis, new token": await walk(asgi.requests(redis, "/me", new()), async_jwt),
        "Redis, repeated token": await walk(asgi.requests(redis, "/me", new()[:1]), async_jwt),
        "Flask-JWT-Extended, new token": await walk(wsgi.requests(theirs, "/me", new()), flask_jwt_extended),
    }
    await redis.extensions["async_jwt"].close()
    return found


def main(arguments: list[str] | None = None) -> None:
    """Print the counts, and the functions themselves if that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.walk", description=__doc__)
    parser.add_argument("--trace", action="store_true", help="print each function entered")
    trace = parser.parse_args(arguments).trace
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as url:
        found = asyncio.run(_walks(url))
    print(f"{'':32}{'functions':>10}{'files':>7}{'changes':>9}")
    for name, each in found.items():
        print(f"{name:32}{len(each.steps):10}{each.files:7}{each.changes:9}")
        if trace:
            print("".join(f"    {file}  {function}\n" for file, function in each.steps))


if __name__ == "__main__":
    main()
