"""Runs the three applications and one client against each: `python -m examples.three`.

Every answer of the client is compared with the original's: its status, its body but for the
tokens in it, and the attributes of its cookies.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx

FLASK = "-m flask --app {module} run --host 127.0.0.1 --port {port}"
HYPERCORN = "-m hypercorn {module}:app --bind 127.0.0.1:{port} --log-level error"
APPS = {
    "Flask-JWT-Extended": ("examples.three.fje", FLASK),
    "Flask": ("examples.three.flask_plain", FLASK),
    "Quart": ("examples.three.quart_app", HYPERCORN),
}


@asynccontextmanager
async def serving(module: str, command: str) -> AsyncIterator[str]:
    """An application on its server; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, *command.format(module=module, port=port).split()),
        env={**os.environ, "JWT_SECRET_KEY": "the secret that all three applications share"},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with httpx.AsyncClient() as client:
            for _ in range(200):
                try:
                    await client.get(address)
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
        yield address
    finally:
        server.terminate()
        await server.wait()


class Client:
    """Asks one application, and notes what it answers."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.answers: list[tuple[str, int, Any, list[str]]] = []

    async def ask(self, what: str, method: str, path: str, **request: Any) -> httpx.Response:
        """Send a request and note the answer."""
        async with httpx.AsyncClient(base_url=self._address) as client:
            response = await client.request(method, path, **request)
        body = (
            response.json()
            if response.headers.get("Content-Type", "").startswith("application/json")
            else response.text
        )
        if isinstance(body, dict):
            body = {
                name: "a token" if name in ("access", "refresh") else value for name, value in body.items()
            }
        cookies = sorted(
            f"{line.partition('=')[0]}{line[line.index(';') :]}"
            for line in response.headers.get_list("Set-Cookie")
        )
        self.answers.append((what, response.status_code, body, cookies))
        return response


async def visit(client: Client, borrowed: str | None) -> str:
    """What the client does. It tries a token of another application first; returns one of this."""

    def bearer(token: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {token}"}

    ada = {"name": "ada", "password": "analytical"}
    await client.ask("no token", "GET", "/notes")
    await client.ask("a stranger", "GET", "/")
    await client.ask("garbage", "GET", "/notes", headers=bearer("garbage"))
    await client.ask("another scheme", "GET", "/", headers={"Authorization": "Basic eDp5"})
    await client.ask("a wrong password", "POST", "/login", json={"name": "ada", "password": "x"})
    made = (await client.ask("log in", "POST", "/login", json=ada)).json()
    access, refresh = made["access"], made["refresh"]
    await client.ask("a token of another application", "GET", "/notes", headers=bearer(borrowed or access))
    await client.ask("not a stranger", "GET", "/", headers=bearer(access))
    await client.ask("write", "POST", "/notes", headers=bearer(access), json={"text": "hello"})
    await client.ask("read", "GET", "/notes", headers=bearer(access))
    await client.ask("the wrong type", "GET", "/notes", headers=bearer(refresh))
    await client.ask("the other wrong type", "POST", "/refresh", headers=bearer(access))
    later = (await client.ask("refresh", "POST", "/refresh", headers=bearer(refresh))).json()["access"]
    await client.ask("not fresh", "DELETE", "/notes", headers=bearer(later))
    await client.ask("fresh", "DELETE", "/notes", headers=bearer(access))
    grace = (
        await client.ask("log in", "POST", "/login", json={"name": "grace", "password": "hopper"})
    ).json()
    await client.ask("no editor", "POST", "/notes", headers=bearer(grace["access"]), json={"text": "hi"})
    jar = (await client.ask("log in with cookies", "POST", "/login", json={**ada, "cookies": True})).cookies
    sent = {"Cookie": "; ".join(f"{name}={value}" for name, value in jar.items())}
    await client.ask("read by cookie", "GET", "/notes", headers=sent)
    await client.ask("write without CSRF value", "POST", "/notes", headers=sent, json={"text": "no"})
    csrf = {**sent, "X-CSRF-TOKEN": jar["csrf_access_token"]}
    await client.ask("write with it", "POST", "/notes", headers=csrf, json={"text": "yes"})
    await client.ask("refresh with the wrong one", "POST", "/refresh", headers=csrf)
    await client.ask("log out", "POST", "/logout", headers=csrf)
    await client.ask("afterwards", "GET", "/notes", headers=sent)
    await client.ask("log out", "POST", "/logout", headers=bearer(access))
    await client.ask("afterwards", "GET", "/notes", headers=bearer(access))
    await client.ask("preflight", "OPTIONS", "/notes")
    return str(later)


async def main() -> int:
    """Visit all three and compare."""
    importlib.import_module("flask_jwt_extended")  # the original is not among our requirements
    async with AsyncExitStack() as stack:
        tasks = [stack.enter_async_context(serving(*app)) for app in APPS.values()]
        clients = [Client(address) for address in await asyncio.gather(*tasks)]
        borrowed: str | None = None
        for client in clients:
            borrowed = await visit(client, borrowed)
    original, *others = clients
    differ = 0
    for number, (what, status, *rest) in enumerate(original.answers):
        same = all(client.answers[number] == (what, status, *rest) for client in others)
        differ += not same
        print(f"{'same' if same else 'DIFFERS':8}{status}  {what}")
        if not same:
            for name, client in zip(APPS, clients, strict=True):
                print(f"          {name}: {client.answers[number][1:]}")
    print(f"\n{len(original.answers) - differ} of {len(original.answers)} answers are the same on all three")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
