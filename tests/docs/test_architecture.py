"""The architecture page names the folders and modules of the code as they are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "strata"
TABLE = (
    (ROOT / "docs" / "explanation" / "architecture.md").read_text().partition("\n## Places in the code\n")[2]
)
NAMED = [
    place
    for row in TABLE.splitlines()
    if row.startswith("| `")
    for place in re.findall(r"`([^`]+)`", row.split(" | ")[0])
]


def test_every_folder_of_code_has_its_question() -> None:
    """The table lists exactly the folders with code, so a moved folder changes the page."""
    folders = {path.parent for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
    listed = {PACKAGE / place for place in NAMED}
    parents = {PACKAGE, *(PACKAGE / place for place in ("http", "tenants", "tables", "artifacts"))}
    expected = {place for place in folders - parents if "migrations" not in place.parts}
    assert expected == {place for place in listed if place.is_dir()}
    assert [] == [place for place in listed if not place.exists()]


def test_modules_named_on_the_page_exist() -> None:
    """Modules named in the prose, such as `work/admission.py`, exist."""
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
    named = re.findall(r"`([\w/]+\.py)`", page)
    assert len(named) >= 5
    assert [] == [
        place for place in named if not (PACKAGE / place).is_file() and not (ROOT / place).is_file()
    ]
