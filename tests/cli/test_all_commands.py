"""What all commands have in common."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from async_jwt.cli.main import jwt
from async_jwt.cli.output import ago, duration, when

APPLICATION = """
from {module} import {name}
from async_jwt.adapters.{module} import JWTManager, jwt_required

app = {name}(__name__, static_folder=None)
app.config["JWT_SECRET_KEY"] = "a secret of the tests that is long enough for it"
JWTManager(app)


@app.get("/me")
@jwt_required()
{word} me():
    return {{}}
"""


@pytest.mark.parametrize(
    ("module", "name", "word", "other"),
    [("quart", "Quart", "async def", "flask"), ("flask", "Flask", "def", "quart")],
)
def test_each_framework_finds_the_commands_and_needs_not_the_other(tmp_path, module, name, word, other):
    pytest.importorskip(module)
    (tmp_path / "app.py").write_text(APPLICATION.format(module=module, name=name, word=word))
    spy = f"""
import sys
sys.argv = ["{module}", "jwt", "routes", "--check"]
try:
    import {module}.cli
    {module}.cli.main()
finally:
    assert "async_jwt.adapters.{other}" not in sys.modules
    print("redis" in sys.modules, file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", spy], check=False, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "Rule  Methods  Requires      Set by  Endpoint",
        "/me   GET      access token  view    me",
    ]
    assert done.stderr.splitlines()[-1] == "False"


@pytest.mark.parametrize("command", [[], ["keys"], ["token"], ["revoke"]])
def test_help_teaches_without_an_application(command):
    result = CliRunner().invoke(jwt, [*command, "--help"])
    assert result.exit_code == 0
    group = jwt
    for name in command:
        group = group.commands[name]
    for name, each in group.commands.items():
        assert name in result.output
        assert each.help, name
        shown = CliRunner().invoke(jwt, [*command, name, "--help"])
        assert shown.exit_code == 0
        for parameter in each.params:
            assert not isinstance(parameter, click.Option) or parameter.help, (name, parameter.name)


def test_outside_of_a_framework():
    result = CliRunner().invoke(jwt, ["routes"])
    assert (result.exit_code, result.output) == (
        2,
        "Error: Run this as `flask jwt` or `quart jwt`, or from a FlaskGroup or QuartGroup CLI\n",
    )


def test_an_application_without_a_manager(line):
    line.app = line.framework.__dict__[line.framework.__name__.title()]("tests")
    result = line("routes")
    assert (result.exit_code, result.output) == (
        2,
        "Error: The application 'tests' has no JWTManager: call JWTManager(app) or init_app(app)\n",
    )


def test_a_wrong_setting_is_a_line_and_no_traceback(line):
    def app():
        return line.make(JWT_TOKEN_LOCATION="nowhere")

    line.app = app
    result = line("routes")
    assert result.exit_code == 2
    assert result.output.startswith("Error: JWT_TOKEN_LOCATION ")


def test_what_the_application_raises_is_its_own(line):
    def app():
        raise ValueError("of the application")

    line.app = app
    result = line("routes")
    assert isinstance(result.exception, ValueError)


def test_colours_stand_on_terminals_only(line, monkeypatch):
    line.make().add_url_rule("/open", "open", lambda: "")
    assert "\x1b" not in line("routes").output
    assert "\x1b[31m" in line("routes", color=True).output
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in line("routes", color=True).output


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1.5", 1.5), ("15m", 900), ("2h", 7200), ("30d", 2592000), ("5s", 5)]
)
def test_durations(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "-5", "5 m", "1w", "m", "nan", "9" * 10])
def test_what_is_no_duration(text):
    with pytest.raises(click.BadParameter, match="not a duration such as 90, 15m, 12h or 30d"):
        duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "now"),
        (0.4, "now"),
        (1, "in 1 second"),
        (-59, "59 seconds ago"),
        (3600, "in 1 hour"),
        (-90000, "1 day ago"),
    ],
)
def test_how_far_away(seconds, text):
    assert ago(seconds) == text


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (None, "never"),
        (float("inf"), "never"),
        (float("-inf"), "always"),
        (0, "1970-01-01 00:00:00 UTC (now)"),
        (1e15, "1000000000000000"),
    ],
)
def test_moments(moment, text):
    assert when(moment, 0) == text
