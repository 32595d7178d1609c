"""Keys change under load, in four processes at once, and nobody is signed out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import httpx
import jwt as pyjwt
from cryptography.hazmat.primitives.asymmetric import ec

from tests.harness.keys import private_pem
from tests.integration.conftest import ROOT


def put(folder, name, *, age=0.0):
    """A new key, whole at once, as secret managers put them."""
    new = folder / f"{name}.new"
    new.write_text(private_pem(ec.generate_private_key(ec.SECP256R1())))
    os.utime(new, (time.time() - age,) * 2)
    new.rename(folder / f"{name}.pem")


class Load:
    """Clients that log in and use their token for as long as it lives."""

    def __init__(self, url, clients):
        self._url = url
        self._over = threading.Event()
        self.answers = []
        self.kids = set()
        self._threads = [threading.Thread(target=self._client) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _client(self):
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._over.is_set():
                token = client.post("/login/10").json()["token"]
                self.kids.add(pyjwt.get_unverified_header(token)["kid"])
                for _ in range(5):
                    self.answers.append(client.get("/me", headers=bearer(token)).status_code)
                    time.sleep(0.01)

    def end(self):
        self._over.set()
        for thread in self._threads:
            thread.join()


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def kid_of(url):
    return pyjwt.get_unverified_header(httpx.post(f"{url}/login/60").json()["token"])["kid"]


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_keys_are_rotated_under_load_without_a_401_and_retired_ones_end(serve, tmp_path):
    put(tmp_path, "1", age=60)
    url = serve(workers=4, module="rotating", KEY_FOLDER=str(tmp_path))
    first = kid_of(url)
    lasting = httpx.post(f"{url}/login/3600").json()["token"]
    verifier = subprocess.Popen(
        [sys.executable, ROOT / "tests" / "integration" / "verifier.py", url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert verifier.stdout.readline() == "ready\n"
    load = Load(url, clients=4)
    try:
        put(tmp_path, "2")
        until(lambda: kid_of(url) != first)
        second = kid_of(url)
        # Retained: accepted by every worker, in whichever connection.
        retained = [httpx.get(f"{url}/me", headers=bearer(lasting)).status_code for _ in range(12)]
        put(tmp_path, "3")
        until(lambda: kid_of(url) not in (first, second))
        until(lambda: httpx.get(f"{url}/me", headers=bearer(lasting)).status_code == 401)
        time.sleep(0.5)
        refused = [httpx.get(f"{url}/me", headers=bearer(lasting)).status_code for _ in range(12)]
    finally:
        load.end()
        report, _ = verifier.communicate("over\n", timeout=30)
    assert set(retained) == {200}
    assert set(refused) == {401}
    assert set(load.answers) == {200}
    assert len(load.kids) == 3
    assert len(load.answers) > 100
    seen = json.loads(report)
    assert seen["problems"] == []
    assert set(seen["verified"]) == load.kids
    document = httpx.get(f"{url}/.well-known/jwks.json").json()
    assert first not in {key["kid"] for key in document["keys"]}
