"""The same application on Flask-JWT-Extended, Flask and Quart: as alike in text as in answers."""

from __future__ import annotations

import difflib
import re
import subprocess
import sys

from tests.integration.conftest import ROOT


def test_one_client_gets_the_same_answers_from_all_three():
    done = subprocess.run(
        [sys.executable, "-m", "examples.three"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"(\d+) of (\d+) answers are the same on all three", done.stdout)
    assert found is not None
    assert found[1] == found[2]
    assert int(found[2]) > 25


def test_their_texts_differ_by_a_handful_of_lines():
    def changed(old: str, new: str) -> int:
        texts = [(ROOT / "examples" / "three" / name).read_text().splitlines()[1:] for name in (old, new)]
        lines = [line.strip() for line in difflib.ndiff(*texts)]
        return sum(line.startswith("+ ") for line in lines)

    assert changed("fje.py", "flask_plain.py") == 2  # the import and the preset
    assert changed("flask_plain.py", "quart_app.py") == 15  # one `async` each, and what is awaited
