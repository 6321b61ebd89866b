"""The threat model and the list of faults elsewhere name existing tests, and list open risks."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {
    name: (ROOT / "docs" / "explanation" / name).read_text()
    for name in ("threat-model.md", "what-went-wrong.md")
}
PAGE = PAGES["threat-model.md"]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def functions_of(path: Path) -> set[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, functions)}


def missing(page: str) -> list[str]:
    """Return the tests that a page names and that do not exist."""
    return [
        f"{path}::{name}"
        for path, name in NAMED.findall(page)
        if not (ROOT / path).is_file() or name not in functions_of(ROOT / path)
    ]


@pytest.mark.parametrize("listing", PAGES)
def test_every_test_that_is_named_exists(listing: str) -> None:
    """Every test named on a page exists under that name."""
    assert [] == missing(PAGES[listing])


def test_everything_that_went_wrong_is_held_by_a_test() -> None:
    """Every fault on the page names a test."""
    rows = re.findall(r"^\| (?!what went wrong|-).+", PAGES["what-went-wrong.md"], re.MULTILINE)
    assert len(rows) > 40
    assert [] == [row for row in rows if not NAMED.search(row)]


def test_a_test_that_does_not_exist_is_noticed() -> None:
    """A missing file or function is found, so the test above can fail."""
    here = "`tests/docs/test_threat_model.py::test_every_test_that_is_named_exists`"
    gone = "`tests/docs/test_threat_model.py::test_gone` `tests/gone.py::test_gone`"
    assert ["tests/docs/test_threat_model.py::test_gone", "tests/gone.py::test_gone"] == missing(
        f"{here} {gone}"
    )


def test_every_attack_is_held_by_a_test() -> None:
    """Every attack names a test; one without belongs under Open."""
    rows = [
        line
        for line in PAGE.splitlines()
        if line.startswith("|") and not re.match(r"\|-+\||\| (attack|boundary) ", line)
    ]
    attacks = [row for row in rows if 3 == len(row.strip("|").split(" | "))]
    held = [row for row in attacks if NAMED.search(row)]
    boundaries = [row for row in attacks if "→" in row.split(" | ")[0]]
    assert len(held) > 50
    assert attacks == [row for row in attacks if row in held or row in boundaries]


def test_what_is_open_is_said() -> None:
    """Open risks are listed, without naming tests."""
    _, _, opened = PAGE.partition("\n## Open\n")
    items = re.findall(r"^- \*\*.+", opened, re.MULTILINE)
    assert len(items) >= 5
    assert not NAMED.search(opened)
