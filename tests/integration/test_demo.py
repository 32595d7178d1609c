"""The demo's tour: a real application under Hypercorn with TLS, on each store."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.integration.conftest import ROOT


@pytest.mark.parametrize("store", ["memory", "redis"])
def test_tour(store, request):
    uri = (
        "memory://"
        if store == "memory"
        else request.getfixturevalue("redis_url") + "?deadline=5&prefix=demo:"
    )
    done = subprocess.run(
        [sys.executable, "-m", "examples.demo", "--tour"],
        cwd=ROOT,
        env={**os.environ, "JWT_STORE_URI": uri},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"(\d+) of (\d+) answers were the expected ones", done.stdout)
    assert found is not None
    assert found[1] == found[2]
    assert int(found[2]) > 40
