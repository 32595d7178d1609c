"""The core cases of this suite, on a framework of a page, without Werkzeug in the process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.adapters.toy import api
from tests.adapters.toy_cases import CASES

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.asyncio
async def test_core_case(case):
    await case()


def test_no_framework_of_ours_is_imported():
    command = [sys.executable, "-m", "tests.adapters.toy_cases"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == f"{len(CASES)} []\n", done.stderr


def test_outside_of_an_application_it_says_so():
    with pytest.raises(RuntimeError, match="There is no application"):
        asyncio.run(api.operations.create_access_token("alice"))
