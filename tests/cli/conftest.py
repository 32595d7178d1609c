"""Runs `flask jwt` and `quart jwt` as their frameworks do: found by the entry point, on a real application."""

from __future__ import annotations

import importlib
import inspect
import json
from typing import Any

import flask
import flask.cli
import pytest
from click.testing import CliRunner, Result

from async_jwt.adapters import flask as flask_adapter
from async_jwt.adapters import flask_sync as flask_sync_adapter
from async_jwt.testing import FrozenClock
from tests.harness import SECRET
from tests.harness.applications import quart, quart_adapter
from tests.harness.scan import SCAN


class Line:
    """The command line of one framework, and an application to run it on."""

    def __init__(self, framework: Any, api: Any, group: Any, clock: FrozenClock) -> None:
        self.framework, self.api, self._group, self.clock = framework, api, group, clock
        self.app: Any = None
        self.jwt: Any = None

    def make(
        self, *, secret: str | None = SECRET, manager: dict[str, Any] | None = None, **config: Any
    ) -> Any:
        """A new application with a manager."""
        self.app = self.framework.__dict__[self.framework.__name__.title()]("tests", static_folder=None)
        self.app.config.update({"JWT_SECRET_KEY": secret} if secret else {}, **config)
        self.jwt = self.api.JWTManager(self.app, **{"clock": self.clock, **(manager or {})})
        return self.app

    def __call__(self, *arguments: str, given: str | None = None, color: bool = False) -> Result:
        group = self._group(create_app=self._load, load_dotenv=False)
        result = CliRunner().invoke(group, ["jwt", *arguments], input=given, color=color)
        if arguments[:2] != ("token", "create"):
            SCAN.look(f"jwt {' '.join(arguments[:2])}", result.output)
        return result

    def _load(self) -> Any:
        if self.app is None:
            self.make()
        return self.app() if inspect.isfunction(self.app) else self.app

    def json(self, *arguments: str, **options: Any) -> Any:
        result = self(*arguments, "--json", **options)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return json.loads(result.stdout)


LINES = {
    **({"quart": (quart, quart_adapter, importlib.import_module("quart.cli").QuartGroup)} if quart else {}),
    "flask": (flask, flask_adapter, flask.cli.FlaskGroup),
    "flask_sync": (flask, flask_sync_adapter, flask.cli.FlaskGroup),
}


@pytest.fixture(params=["quart", "flask"] if quart else ["flask"])
def line(request: pytest.FixtureRequest, clock: FrozenClock) -> Line:
    """The commands know no framework: what both do, all of them do."""
    return Line(*LINES[request.param], clock)


@pytest.fixture(params=LINES)
def every_line(request: pytest.FixtureRequest, clock: FrozenClock) -> Line:
    return Line(*LINES[request.param], clock)


@pytest.fixture
def quart_line(clock: FrozenClock) -> Line:
    if quart is None:
        pytest.skip("Quart is not installed")
    return Line(*LINES["quart"], clock)
