"""Looks at what users get: the sdist builds the same wheel, and the quickstart runs on the wheel alone.

Run by `nox -s package` with the wheel that was built from the sdist, and the one built from the sources.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def main() -> None:
    from_sdist, from_sources = Path(sys.argv[1]), Path(sys.argv[2])
    if contents(from_sdist) != contents(from_sources):
        raise SystemExit("The sdist builds another wheel than the sources")
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
        venv.create(Path(folder) / "venv", with_pip=True)
        run(python, "-m", "pip", "install", "-q", f"{from_sdist}[quart,flask]")
        for framework in ("Quart", "Flask"):
            quickstart(framework, python, Path(folder))
            print(f"The quickstart runs on the wheel: {framework}")


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True)


def quickstart(framework: str, python: Path, folder: Path) -> None:
    """Run the page's application as the page says, and ask it what the page asks."""
    page = (ROOT / "docs" / "quickstart.md").read_text("utf-8")
    block = re.search(rf":::{{tab-item}} {framework}\n.*?```python\n(.*?)```", page, re.DOTALL)
    assert block is not None
    (folder / "app.py").write_text(block[1])
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    environment = {"PATH": os.environ["PATH"], f"{framework.upper()}_JWT_SECRET_KEY": secrets.token_hex(32)}
    command = [python, "-m", framework.lower(), "run", "--port", str(port)]
    server = subprocess.Popen([str(part) for part in command], cwd=folder, env=environment)
    try:
        ask = client(f"http://127.0.0.1:{port}")
        sent = {"username": "ada", "password": "analytical"}
        assert ask("POST", "/login", {**sent, "password": "wrong"})[0] == 401
        _, pair = ask("POST", "/login", sent)
        assert ask("GET", "/me", token=pair["access_token"]) == (200, {"identity": "ada"})
        _, again = ask("POST", "/refresh", token=pair["refresh_token"])
        assert ask("POST", "/logout", token=again["access_token"])[0] == 200
        assert ask("GET", "/me", token=again["access_token"])[1]["code"] == "token_revoked"
        assert ask("GET", "/me")[1]["code"] == "authorization_required"
    finally:
        server.terminate()
        server.wait()


def client(url: str) -> Any:
    def ask(method: str, path: str, body: Any = None, token: str = "") -> tuple[int, Any]:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refused:
            return refused.code, json.load(refused)

    for _ in range(200):
        try:
            ask("GET", "/me")
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
        else:
            return ask
    raise SystemExit("The server did not start")


if __name__ == "__main__":
    main()
