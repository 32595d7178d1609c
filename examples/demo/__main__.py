"""Serves the demo under Hypercorn with TLS, takes the tour, and stays for a browser."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import socket
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import trustme
from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart

from examples.demo.app import create_app
from examples.demo.steps import table
from examples.demo.tour import run_tour

HOST = "127.0.0.1"


def main() -> int:
    """Parse the arguments and run. Returns 0 if every answer of the tour was the expected one."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--tour", action="store_true", help="end after the tour")
    parser.add_argument("--port", type=int, default=0, help="the port; a free one by default")
    options = parser.parse_args()
    stay = not options.tour and sys.stdout.isatty()
    try:
        return asyncio.run(demo(options.port, stay=stay))
    except KeyboardInterrupt:
        return 130


async def demo(port: int, *, stay: bool) -> int:
    """Serve, take the tour and, if asked to, stay until Ctrl-C."""
    with tempfile.TemporaryDirectory(prefix="async_jwt-demo-") as directory:
        folder = Path(directory)
        passwords = {"ada": secrets.token_urlsafe(9), "grace": secrets.token_urlsafe(9)}
        app = create_app(
            {
                "JWT_SECRET_KEY": secrets.token_hex(64),
                "DATABASE_URL": f"sqlite+aiosqlite:///{folder / 'demo.db'}",
                "USERS": passwords,
            }
        )
        await asyncio.to_thread(make_certificates, folder)
        async with served(app, port, folder / "server.pem") as url:
            trust = ssl.create_default_context(cafile=folder / "ca.pem")
            steps = await run_tour(app, url, trust, "grace", passwords["grace"])
            print(table(steps), flush=True)
            if stay:
                print(f"\nServing on {url}/ until Ctrl-C. Log in as ada, password {passwords['ada']}")
                print(f"Its certificate authority, for `curl --cacert`: {folder / 'ca.pem'}", flush=True)
                await interrupted()
    return 0 if all(step.passed for step in steps) else 1


def make_certificates(folder: Path) -> None:
    """A certificate authority of our own, and what it issues to the server."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued = authority.issue_cert("localhost", HOST)
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")


@contextlib.asynccontextmanager
async def served(app: Quart, port: int, certificate: Path) -> AsyncIterator[str]:
    """Hypercorn in a task of this loop, for as long as the block runs; its URL."""
    # Bound and listening before the server is up: the port is ours, and nobody is refused.
    listening = socket.create_server((HOST, port))
    port = listening.getsockname()[1]
    config = Config()
    config.bind = [f"fd://{listening.detach()}"]
    config.certfile = config.keyfile = str(certificate)
    config.loglevel = "WARNING"
    config.websocket_max_message_size = 16 * 1024

    stop = asyncio.Event()

    async def stopped() -> None:
        await stop.wait()
        # Hypercorn tells the application only once its WebSockets have ended, so they would not end.
        app.shutdown_event.set()

    async def serve_until_stopped() -> None:
        # A client that still talks when its connection ends is no failure, but Hypercorn raises it.
        with contextlib.suppress(ssl.SSLError):
            await serve(app, config, shutdown_trigger=stopped)

    asyncio.get_running_loop().set_exception_handler(report)
    async with asyncio.TaskGroup() as group:
        group.create_task(serve_until_stopped())
        try:
            yield f"https://{HOST}:{port}"
        finally:
            stop.set()


def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what nobody handled, but not the TLS errors of connections that have ended."""
    if not isinstance(context.get("exception"), ssl.SSLError):
        loop.default_exception_handler(context)


async def interrupted() -> None:
    """Wait for Ctrl-C. A second one ends the program at once."""
    task = asyncio.current_task()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:  # what `asyncio.run` makes of the first Ctrl-C
        if task is not None:
            task.uncancel()


if __name__ == "__main__":
    sys.exit(main())
