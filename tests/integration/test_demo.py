"""The demo's tour, a real application under Hypercorn with TLS on each store, and its notice board."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from examples.demo.live import MAX_WAITING_NOTICES, Board
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
    assert int(found[2]) > 60


def test_a_slow_listener_misses_notices_and_keeps_nobody_waiting():
    board = Board()
    with board.listener() as quick:
        with board.listener() as slow:
            for number in range(MAX_WAITING_NOTICES + 1):
                board.post(str(number))
                assert quick.get_nowait() == str(number)
            assert slow.qsize() == MAX_WAITING_NOTICES
            slow.get_nowait()
        board.post("after the slow one has left")
        assert quick.get_nowait() == "after the slow one has left"
        assert slow.qsize() == MAX_WAITING_NOTICES - 1
