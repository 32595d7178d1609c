"""The guide's examples do what stands below them."""

from __future__ import annotations

import re
import shlex
import sys
import time
import types
from pathlib import Path

import pytest

from async_jwt.cli.main import jwt

PAGE = (Path(__file__).parents[2] / "docs" / "guide" / "command-line.md").read_text("utf-8")
PYTHON, *_ = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
CONSOLES = re.findall(r"^```console\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
# What differs from run to run: ids and stamps, and how wide the columns are with them.
GAP = re.compile(r"\\?\.\\?\.\\?\.")


def steps():
    for block in CONSOLES:
        command, said = "", []
        for text in block.splitlines():
            if text.startswith("$ "):
                if command:
                    yield command, said
                command, said = text.removeprefix("$ "), []
            else:
                said.append(text)
        yield command, said


def application(monkeypatch):
    module = types.ModuleType("guide")
    monkeypatch.setitem(sys.modules, "guide", module)
    exec(PYTHON, vars(module))
    return module.app


def run(line, command):
    """A command, or two with a pipe between them."""
    given = None
    for part in command.split(" | "):
        framework, group, *arguments = shlex.split(part)
        assert (framework, group) == ("quart", "jwt")
        result = line(*arguments, given=given)
        given = result.stdout
    return result


def test_each_command_says_what_the_guide_says(quart_line, redis_url, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JWT_STORE_URI", f"{redis_url}?prefix=guide-{time.time_ns()}:")
    quart_line.app = application(monkeypatch)
    found = list(steps())
    assert len(found) == 9
    with quart_line.app.extensions["async_jwt"].override(clock=quart_line.clock):
        for command, said in found:
            result = run(quart_line, command)
            pattern = GAP.sub(r"[^\\n]*", re.escape("\n".join(said)))
            assert re.fullmatch(pattern, result.output.rstrip("\n")), (command, result.output)
            assert result.exit_code == ("--check" in command), command


def test_exit_codes(quart_line, monkeypatch, tmp_path):
    """As the guide's table has them; the others are tested where they come up."""
    monkeypatch.chdir(tmp_path)
    quart_line.app = application(monkeypatch)
    assert quart_line("routes", "--check").exit_code == 1
    assert quart_line("routes").exit_code == 0
    assert quart_line("nonsense").exit_code == 2


@pytest.mark.parametrize(
    "name", ["routes", "keys list", "token create", "token inspect", "sessions", "doctor"]
)
def test_what_is_for_programs(name):
    command = jwt
    for part in name.split():
        command = command.commands[part]
    assert any("--json" in parameter.opts for parameter in command.params)
    assert f"`{name}`" in PAGE
