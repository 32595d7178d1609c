"""The documentation names everything that is public, and its links lead somewhere."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / "examples" / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted(DOCS.rglob("*.md")),
]
REFERENCE = "".join(page.read_text("utf-8") for page in sorted((DOCS / "reference").glob("*.md")))
PUBLIC = [
    "async_jwt",
    "async_jwt.adapters.quart",
    "async_jwt.adapters.flask",
    "async_jwt.adapters.flask_sync",
    "async_jwt.keys",
    "async_jwt.signals",
    "async_jwt.stores",
    "async_jwt.testing",
    "async_jwt.observe",
    "async_jwt.pytest_plugin",
]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_stands_in_the_reference(name):
    """By its name; `errors` and the settings are made from the code, and cannot lack one."""
    names = importlib.import_module(name).__all__
    shown = [public for public in names if re.search(rf"\b{public}\b", REFERENCE) or is_member(public)]
    assert not [public for public in names if public not in shown and not public.startswith("__")]


def is_member(name: str) -> bool:
    """Whether a class whose members are all shown has it."""
    from async_jwt.operations import Operations

    return "async_jwt.operations.Operations" in REFERENCE and hasattr(Operations, name)


@pytest.mark.parametrize("made", ["settings-table", "errors-table", "command-help"])
def test_what_is_made_from_the_code_stands_in_the_reference(made):
    """So no setting, no error and no command can be missing."""
    assert f"```{{{made}}}\n```" in REFERENCE


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)).lower().replace(" ", "-")
        for heading in headings
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_within_the_project_is_dead(page):
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        where = page if not path else (page.parent / path).resolve()
        if not where.exists() or (anchor and anchor not in anchors(where)):
            dead.append(target)
    assert not dead


def test_every_page_is_in_the_table_of_contents():
    index = (DOCS / "index.md").read_text("utf-8")
    pages = {str(page.relative_to(DOCS).with_suffix("")) for page in DOCS.rglob("*.md")} - {"index"}
    assert not [page for page in sorted(pages) if not re.search(rf"^{re.escape(page)}$", index, re.MULTILINE)]


ARCHITECTURE = (DOCS / "architecture.md").read_text("utf-8")


def test_the_picture_of_the_house_has_each_module():
    modules = {path.name for path in (ROOT / "async_jwt").rglob("*.py")} - {"__init__.py"}
    assert not [
        name for name in sorted(modules) if not re.search(rf"(?<![\w]){re.escape(name)}\b", ARCHITECTURE)
    ]


def test_each_inside_that_we_lean_on_has_its_test():
    tests = (ROOT / "tests" / "adapters" / "test_insides_that_we_lean_on.py").read_text("utf-8")
    table = ARCHITECTURE.partition("## One door to each framework's inside")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(test_\w+)`", table))
    written = set(re.findall(r"def (test_\w+)", tests))
    assert named == written


def test_files_that_the_picture_names_are_there():
    named = set(re.findall(r"`((?:tests|async_jwt)/[\w/.]+)`", ARCHITECTURE))
    assert named
    assert not [path for path in sorted(named) if not (ROOT / path).exists()]
