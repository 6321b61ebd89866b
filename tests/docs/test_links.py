"""Links of the documentation resolve, and every page can be reached."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]


def links_of(page: Path) -> Iterator[str]:
    for token in MarkdownIt("commonmark").parse(page.read_text()):
        for child in token.children or ():
            target = child.attrGet("href") or child.attrGet("src")
            if target:
                yield str(target)


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts generate them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_resolve(page: Path) -> None:
    """A relative link names a file of the repository, and an anchor a heading in it."""
    for link in links_of(page):
        if re.match(r"[a-z]+:", link):
            assert link.startswith("https://"), link
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), f"{link} leads nowhere"
        assert target.is_relative_to(ROOT)
        assert not anchor or anchor in anchors_of(target), f"{link} names no heading"


def test_every_page_is_reached_from_the_index() -> None:
    """Every page can be reached by links from docs/index.md."""
    reached: set[Path] = set()
    waiting = [ROOT / "docs" / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        targets = (link.partition("#")[0] for link in links_of(page) if not re.match(r"[a-z]+:", link))
        waiting += [(page.parent / target).resolve() for target in targets if target]
    assert set() == set((ROOT / "docs").rglob("*.md")) - reached


def test_the_picture_is_of_this_code() -> None:
    """The picture is well-formed, has a description for screen readers, and names existing folders."""
    tree = ET.parse(ROOT / "docs" / "explanation" / "architecture.svg")  # our own file
    texts = ["".join(element.itertext()).strip() for element in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert tree.find("{http://www.w3.org/2000/svg}desc") is not None
    folders = {found[1] for text in texts for found in re.finditer(r"\b([a-z]+)/", text)}
    assert {"http", "tenants", "tables", "work", "cache", "artifacts", "acl"} == folders
    assert all((ROOT / "strata" / folder).is_dir() for folder in folders)


@pytest.mark.parametrize("folder", ["tutorial", "how-to", "reference", "explanation"])
def test_the_documentation_has_all_four_kinds(folder: str) -> None:
    """Tutorial, how-to, reference and explanation each have a folder with at least one page."""
    assert list((ROOT / "docs" / folder).glob("*.md"))
