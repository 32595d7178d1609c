"""What one worker is told, all of them know."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from examples.conftest import free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture
def url():
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "examples.workers", str(port)], cwd=ROOT)
    url = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            httpx.get(f"{url}/me", timeout=5)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            break
    yield url
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)


def test_a_sign_out_counts_on_every_worker(url):
    sent = {"name": "ada", "password": "analytical"}
    token = httpx.post(f"{url}/login", json=sent).json()["access_token"]
    httpx.post(f"{url}/login", json=sent)
    headers = {"Authorization": f"Bearer {token}"}
    # A connection stays with its worker, so each request makes its own.
    answers = [httpx.get(f"{url}/me", headers=headers).json() for _ in range(40)]
    assert {answer["devices"] for answer in answers} == {2}
    assert len({answer["worker"] for answer in answers}) > 1
    assert httpx.post(f"{url}/logout-everywhere", headers=headers).status_code == 200
    assert {httpx.get(f"{url}/me", headers=headers).status_code for _ in range(40)} == {401}
