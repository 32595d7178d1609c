"""A real Chromium for tests, and the sites that it is sent to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

from playwright.async_api import Browser, async_playwright, expect

PATIENCE = 60_000  # milliseconds; a slow machine may take seconds to paint a first page
_OPTIONS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextlib.asynccontextmanager
async def launched(path: str, *options: str) -> AsyncIterator[Browser]:
    """A browser. `path` is what the fixture `chromium` found, so that tests skip before anything starts."""
    expect.set_options(timeout=PATIENCE)
    given = [*_OPTIONS, *options]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        given.append("--no-sandbox")  # with its sandbox, it does not start as root
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=given, timeout=PATIENCE)
        try:
            yield browser
        finally:
            await browser.close()


@contextlib.asynccontextmanager
async def tls_proxy(upstream: int, certificate: Path) -> AsyncIterator[int]:
    """A proxy that ends TLS before a server that speaks plain HTTP, and says so in its headers; its port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        with contextlib.suppress(OSError):
            sink.close()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, OSError):
            writer.close()
            return
        first, _, rest = head.partition(b"\r\n")
        is_socket = b"\r\nupgrade: websocket" in head.lower()
        # As Traefik has it: with "https", Quart finds no WebSocket route.
        added = b"X-Forwarded-Proto: %s\r\nX-Forwarded-For: 127.0.0.1\r\n" % (
            b"wss" if is_socket else b"https"
        )
        if not is_socket:
            added += b"Connection: close\r\n"  # one request for each connection, so one head to add to
            rest = b"\r\n".join(
                line for line in rest.split(b"\r\n") if not line.lower().startswith(b"connection:")
            )
        to_server = await asyncio.open_connection("127.0.0.1", upstream)
        to_server[1].write(first + b"\r\n" + added + rest)
        await asyncio.gather(pump(reader, to_server[1]), pump(to_server[0], writer))

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]
