"""The guide's own tests, run by pytest as its readers run them; and pytest without them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "guide" / "testing.md").read_text("utf-8")
APPLICATION = """
import asyncio
from quart import Quart
from async_jwt.adapters.quart import JWTManager, get_jwt_identity, jwt_required

app = Quart(__name__)
app.config["JWT_SECRET_KEY"] = "a secret of the guide that is long enough for it"
JWTManager(app)
"""
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def pytest_says(folder, *options):
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-o",
        "asyncio_mode=auto",
        *options,
    ]
    return subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True).stdout


def test_the_guides_fixtures_are_there_where_they_are_asked_for(tmp_path):
    first, conftest, tests = BLOCKS[:3]
    (tmp_path / "application.py").write_text(APPLICATION + first)
    (tmp_path / "conftest.py").write_text(f"from application import app\n{conftest}")
    (tmp_path / "test_application.py").write_text(tests)
    said = pytest_says(tmp_path)
    assert "2 passed" in said, said
    (tmp_path / "conftest.py").write_text("")
    assert "jwt_client" not in pytest_says(tmp_path, "--fixtures", "--co")
