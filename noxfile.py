"""`nox`: what CI runs, one session each. `nox -s tests-3.12` runs one of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import nox
from nox.virtualenv import PassthroughEnv

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = [
    "tests",
    "floors",
    "old_flask",
    "coverage",
    "counts",
    "lint",
    "types",
    "docs",
    "package",
    "demo",
]

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
# Each with the Werkzeug of its day.
OLD_FLASKS = {"2.0.3": "2.0.3", "2.2.5": "2.2.3", "2.3.3": "2.3.8"}
FLASK_TESTS = [
    "tests/adapters",
    "tests/cli",
    "tests/integration/test_same_answers_as_fje.py",
    "tests/integration/test_extensions_render_our_errors.py",
    "tests/integration/test_same_error_handling_as_fje.py",
    "tests/integration/test_extensions_around_guards.py",
    "tests/integration/test_nothing_is_left_over.py",
    "tests/integration/test_thread_bound_database_sessions.py",
    "tests/redis/test_plain_views_on_redis.py",
]
# Measuring takes as long again as the tests: what runs in other processes is left out.
MEASURED = [
    "tests/adapters",
    "tests/cli",
    "tests/core",
    "tests/issuers",
    "tests/keys",
    "tests/project",
    "tests/redis",
    "tests/stores",
    "tests/integration/test_same_error_handling_as_fje.py",
    "examples",
]
BROWSER_TESTS = [
    "tests/integration/test_demo_in_a_browser.py",
    "tests/integration/test_other_sites_can_do_nothing.py",
    "tests/integration/test_pages_in_a_browser.py",
    "tests/integration/test_realms_in_a_browser.py",
    "examples/single_page",
]
# Kept for the session `coverage`, which says what is missing.
MEASURING = ["--cov=async_jwt", "--cov-append", "--cov-report=", "--cov-fail-under=0"]
# The lowest versions that the extras and the core allow; tested, not guessed.
FLOORS = [
    "anyio==4.7.0",
    "blinker==1.8.0",
    "cryptography==43.0.0",
    "flask==3.0.3",  # older ones have a session of their own: no Quart of ours goes with them
    "PyJWT==2.15.1",
    "quart==0.20.0",
    "redis==8.0.0",
]


def _pip(session: nox.Session, *arguments: str) -> None:
    """Install into the session's environment, or into the one that `nox --no-venv` runs in, as CI does."""
    if isinstance(session.virtualenv, PassthroughEnv):
        session.run("python", "-m", "pip", "install", "-q", *arguments)
    else:
        session.install(*arguments)


def _install(session: nox.Session, *groups: str) -> None:
    _pip(session, "-U", "pip")
    _pip(session, "-e", ".[all]", *(option for group in groups for option in ("--group", group)))


def _werkzeug(flask: str) -> tuple[str, ...]:
    return (f"Werkzeug=={OLD_FLASKS[flask]}",) if flask in OLD_FLASKS else ()


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests."""
    _install(session, "test")
    session.run("pytest", *session.posargs)


@nox.session(python="3.11")
def coverage(session: nox.Session) -> None:
    """That tests run every branch. Without most of those whose servers and browsers are other processes.

    Behind `old_flask`: what bridges old versions runs there alone.
    """
    _install(session, "test")
    session.run("pytest", "--cov=async_jwt", "--cov-append", *MEASURED, *session.posargs)


@nox.session
def browser(session: nox.Session) -> None:
    """The tests of the browser alone. They skip themselves without a Chromium."""
    _install(session, "test")
    session.run("pytest", *BROWSER_TESTS, *session.posargs)


@nox.session(python="3.11")
def floors(session: nox.Session) -> None:
    """All tests on the lowest versions allowed."""
    _install(session, "test")
    session.install(*FLOORS)
    session.run("pytest", *session.posargs)


@nox.session(python="3.11")
@nox.parametrize("flask", [*OLD_FLASKS])
def old_flask(session: nox.Session, flask: str) -> None:
    """The Flask half of the tests on an older Flask, without Quart."""
    session.install("-U", "pip", silent=True)
    pins = (f"flask[async]=={flask}", *_werkzeug(flask), "setuptools<81")
    session.install("-e", ".[flask,redis,mirror,otel]", "--group", "test-flask", *pins)
    session.run("pytest", *FLASK_TESTS, *(MEASURING if flask == "2.0.3" else ()), *session.posargs)


@nox.session(python="3.11")
@nox.parametrize(("suite", "flask"), [("fje", "3.1.3"), ("fje", "2.3.3"), ("fje", "2.0.3"), ("fab", "3.1.3")])
def drop_in(session: nox.Session, suite: str, flask: str) -> None:
    """Flask-JWT-Extended's and Flask-AppBuilder's own tests, with async_jwt in the place of the former."""
    session.install("-U", "pip", silent=True)
    session.install(
        "-e", ".[flask]", "--group", f"drop-in-{suite}", f"flask[async]=={flask}", *_werkzeug(flask)
    )
    session.run("python", "-m", "tests.drop_in", suite)


@nox.session
def lint(session: nox.Session) -> None:
    """Format, lint, and the arrows of the house."""
    _install(session, "lint")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """mypy strict, both on every snippet, and pyright on the completeness of the public types."""
    _install(session, "types", "test")
    session.run("mypy")
    session.run("mypy", "--strict", "tests/typing")
    session.run("python", "-m", "tests.typing")
    session.run("pyright", "--verifytypes", "async_jwt", "--ignoreexternal")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, with warnings as errors."""
    _install(session, "docs")
    session.run("sphinx-build", "-W", "-q", "-b", "html", "docs", "docs/_build/html")


@nox.session
def demo(session: nox.Session) -> None:
    """The demo's tour."""
    _install(session, "demo")
    session.run("python", "-m", "examples.demo", "--tour")


@nox.session
def package(session: nox.Session) -> None:
    """The wheel and the sdist, as users get them: looked at, and the quickstart run without the sources."""
    _pip(session, "-U", "pip")
    _pip(session, "--group", "package")
    dist, direct = Path(session.create_tmp()) / "dist", Path(session.create_tmp()) / "direct"
    for folder in (dist, direct):
        shutil.rmtree(folder, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(dist), silent=True)  # the wheel from the sdist
    session.run("python", "-m", "build", "--wheel", "--outdir", str(direct), silent=True)
    wheel, sdist = next(dist.glob("*.whl")), next(dist.glob("*.tar.gz"))
    session.run("twine", "check", "--strict", str(wheel), str(sdist))
    session.run("check-wheel-contents", str(wheel))
    session.run("python", ".ci/package.py", str(wheel), str(next(direct.glob("*.whl"))))


@nox.session
def soak(session: nox.Session) -> None:
    """Faults in full, minutes of them all at once, and the page that they fill."""
    _install(session, "test")
    session.run(
        "pytest",
        *("tests/redis", "tests/stores/test_stores_follow_a_model.py"),
        "tests/integration/test_nothing_is_left_over.py",
        *("-n", "0", "--soak", "180", "--reliability", "docs/reliability.md"),
        *session.posargs,
    )


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks, beside their peers."""
    _install(session, "test", "bench")
    # Its own requirements would bring back an older PyJWT.
    session.install("--no-deps", "quart-jwt-extended==0.1.0")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session(python="3.11")
def counts(session: nox.Session) -> None:
    """That a protected request runs no more bytecode, and makes no more calls, than was kept."""
    _install(session, "test")
    session.run("python", "-m", "benchmarks.counts", *session.posargs)
