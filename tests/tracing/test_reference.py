"""The reference lists exactly the spans and attributes that there are."""

from __future__ import annotations

import re
from pathlib import Path

import strata
from strata.tracing.spans import ATTRIBUTES

PACKAGE = Path(strata.__file__).parent
PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "traces.md").read_text()
SOURCES = "\n".join(path.read_text() for path in sorted(PACKAGE.rglob("*.py")))


def listed(heading: str) -> set[str]:
    """Return the names in the first column of a section's table."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_all_spans_are_listed() -> None:
    """Besides requests, whose names are their routes."""
    opened = set(re.findall(r'\b(?:child|another_trace)\(\s*"([^"]+)"', SOURCES))
    assert opened
    assert opened == {name for name in listed("Spans") if " /" not in name}


def test_all_attributes_are_listed_and_set() -> None:
    """And no other attribute is."""
    assert listed("Attributes") == ATTRIBUTES
    used = set(re.findall(r'\.set\(\s*"([a-z_]+(?:\.[a-z_]+)+)"', SOURCES))
    assert used == ATTRIBUTES
