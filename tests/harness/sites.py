"""Sites under real hosts' names, served by Hypercorn with TLS, and a browser that finds them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
from hypercorn.asyncio import serve
from hypercorn.config import Config
from hypercorn.middleware import ProxyFixMiddleware
from playwright.async_api import Browser, BrowserContext, Page
from quart import Quart

from async_jwt.adapters.quart import JWTManager
from tests.harness.browser import PATIENCE, launched, tls_proxy

OURS, SIBLING, UNKNOWN = "app.site.test", "evil.site.test", "evil.test"

FORM = """([url, fields]) => {
  const form = document.createElement("form");
  Object.assign(form, {method: "POST", action: url});
  for (const [name, value] of Object.entries(fields)) {
    const input = document.createElement("input");
    Object.assign(input, {name, value});
    form.append(input);
  }
  document.body.append(form);
  form.submit();
}"""


@dataclass
class Site:
    """An application with something to lose, and what was done to it."""

    app: Quart
    jwt: JWTManager
    port: int = 0
    transfers: list[str] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)

    def url(self, path: str, host: str = OURS, scheme: str = "https") -> str:
        return f"{scheme}://{host}:{self.port}{path}"


@contextlib.asynccontextmanager
async def served(site: Site, folder: Path, *, proxied: bool = False) -> AsyncIterator[Site]:
    """The site under Hypercorn with TLS, or behind a proxy that ends it."""
    certificate = folder / "server.pem"
    issued = trustme.CA().issue_cert(OURS, SIBLING, UNKNOWN)
    issued.private_key_and_cert_chain_pem.write_to_path(certificate)
    listening = socket.create_server(("127.0.0.1", 0))
    site.port = listening.getsockname()[1]
    config = Config()
    config.bind = [f"fd://{listening.detach()}"]
    config.loglevel = "WARNING"
    if not proxied:
        config.certfile = config.keyfile = str(certificate)
    app: Any = ProxyFixMiddleware(site.app, mode="legacy", trusted_hops=1) if proxied else site.app
    stop = asyncio.Event()

    async def run() -> None:
        with contextlib.suppress(OSError):  # a browser that goes while TLS is spoken
            await serve(app, config, shutdown_trigger=stop.wait)

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, _context: None)  # connections that a browser cut
    async with asyncio.TaskGroup() as group, contextlib.AsyncExitStack() as stack:
        group.create_task(run())
        if proxied:
            site.port = await stack.enter_async_context(tls_proxy(site.port, certificate))
        try:
            yield site
        finally:
            stop.set()


@contextlib.asynccontextmanager
async def browsing(chromium: str) -> AsyncIterator[Browser]:
    async with launched(chromium, "--host-resolver-rules=MAP *.test 127.0.0.1") as browser:
        yield browser


async def new_context(browser: Browser) -> BrowserContext:
    context = await browser.new_context(ignore_https_errors=True)
    context.set_default_timeout(PATIENCE)
    return context


async def submit(page: Page, url: str, **fields: str) -> None:
    """Send a form from wherever the page is, and wait until its answer is there."""
    async with page.expect_navigation(timeout=PATIENCE):
        await page.evaluate(FORM, [url, fields])
