"""Pictures of the pages: the page that shows them has all of them, and each is there."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs" / "reference"
BENCH = Path(__file__).parents[2] / "bench" / "pictures.py"


def test_each_page_has_its_pictures() -> None:
    """Three widths, light and dark, of each page that ``nox -s pictures`` opens; no other file."""
    views = re.findall(r'^    View\("([a-z-]+)"', BENCH.read_text(), re.MULTILINE)
    assert len(views) > 20
    wanted = {
        f"{view}-{width}-{scheme}.webp"
        for view in views
        for width in ("phone", "tablet", "wide")
        for scheme in ("light", "dark")
    }
    assert wanted == {path.name for path in (DOCS / "pictures").iterdir()}
    assert wanted == set(re.findall(r"\]\(pictures/([a-z-]+\.webp)\)", (DOCS / "pages.md").read_text()))


def test_pictures_are_small_images() -> None:
    """WebP, and together less than 5 MB: a clone stays quick."""
    paths = [*(DOCS / "pictures").iterdir()]
    assert all(path.read_bytes()[8:12] == b"WEBP" for path in paths)
    assert sum(path.stat().st_size for path in paths) < 5_000_000
