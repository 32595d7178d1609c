"""Other projects' own tests, with Flask-JWT-Extended and with async_jwt in its place.

    python -m tests.drop_in fje
    python -m tests.drop_in fab

Fetches a source distribution of a fixed version, and runs its tests twice: as they are, and with the imports
of Flask-JWT-Extended answered by `shim/`. Nothing of it is kept in this repository. Exits with 0 if what
passes there passes here, but for what is listed with its reason. nox installs what each suite needs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@dataclass(frozen=True)
class Suite:
    """A project whose source distribution has its tests.

    Attributes:
        requirement: its fixed version.
        digest: the SHA-256 of the source distribution.
        folder: what it unpacks to.
        parts: what is run, each in a process and with a database of its own.
        drops: what is taken out of the folder first: the package itself, which would come before the shim.
        known: tests that pass there and not here, and why.
        environment: further variables.
    """

    requirement: str
    digest: str
    folder: str
    parts: tuple[str, ...]
    drops: tuple[str, ...] = ()
    known: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


SUITES = {
    "fje": Suite(
        "flask-jwt-extended==4.7.4",
        "78fd0f460317facf3a0084a6457ffaf2f1dda9eefbd576f94cea35b0eadd5531",
        "flask_jwt_extended-4.7.4",
        ("tests",),
        drops=("flask_jwt_extended",),
        known={
            "tests/test_config.py::test_missing_algorithm_in_decode_algorithms": (
                "the order of a private list; the signing algorithm stands first here"
            ),
            "tests/test_decode_tokens.py::test_encode_decode_callback_values": "reads private attributes",
            "tests/test_view_decorators.py::test_override_jwt_location": (
                "an unknown location is refused when it is decorated, not with 500 at each request"
            ),
        },
    ),
    "fab": Suite(
        "flask-appbuilder==5.3.0",
        "baf645c3c150471c6660049cdb61a1e79f318b63524531f890d42f406f5d5596",
        "flask_appbuilder-5.3.0",
        (
            "tests/test_api.py",
            "tests/test_security_api.py",
            "tests/test_menu.py",
            "tests/test_hooks.py",
        ),
        environment={"SQLALCHEMY_DATABASE_URI": "sqlite:///{folder}/tests/app.db"},
    ),
}


def fetch(suite: Suite, folder: Path) -> Path:
    """Download a source distribution and unpack it. Raises CalledProcessError if it is another one."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{suite.requirement} --hash=sha256:{suite.digest}\n")
    download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:"]
    # Only to read its name and version pip would install what it is built with.
    download += ["--no-build-isolation", "--require-hashes", "-r", str(wanted), "-d", str(folder)]
    subprocess.run(download, check=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")
    return folder / suite.folder


def run(suite: Suite, folder: Path, *, ours: bool) -> tuple[set[str], set[str]]:
    """Run the tests. Returns which passed, and which did not."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    own |= {name: value.format(folder=folder) for name, value in suite.environment.items()}
    own["PYTHONPATH"] = os.pathsep.join([str(HERE / "shim"), str(ROOT)] if ours else [])
    passed: set[str] = set()
    failed: set[str] = set()
    for part in suite.parts:
        (folder / "tests" / "app.db").unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "--tb=no", part]
        said = subprocess.run(
            command, cwd=folder, env=own, capture_output=True, text=True, check=False
        ).stdout
        found = re.findall(r"^(PASSED|FAILED|ERROR) (\S+)", said, re.MULTILINE)
        if not found:
            raise RuntimeError(f"{part} ran no test:\n{said[-2000:]}")
        passed |= {name for outcome, name in found if outcome == "PASSED"}
        failed |= {name for outcome, name in found if outcome != "PASSED"}
    return passed, failed


def main(name: str) -> int:
    suite = SUITES[name]
    with tempfile.TemporaryDirectory(prefix="drop-in-") as place:
        folder = fetch(suite, Path(place))
        for package in suite.drops:
            (folder / package).rename(folder / f"{package}-as-it-was")
        there, broken = run(suite, folder, ours=False)
        here, failed = run(suite, folder, ours=True)
    missing = sorted(there - here)
    print(f"{suite.requirement}: {len(there)} passed, {len(broken)} failed as they are")
    print(f"{suite.requirement}: {len(here)} passed, {len(failed)} failed with async_jwt")
    for test in missing:
        print(f"  {test}: {suite.known.get(test, 'UNEXPECTED')}")
    no_longer = sorted(suite.known.keys() & here)
    for test in no_longer:
        print(f"  {test}: passes, and is listed as known")
    return int(bool(set(missing) - suite.known.keys() or no_longer))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
