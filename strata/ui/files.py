"""The built pages as files in memory.

A wheel has them (``hatch_build.py`` puts them there). A source tree has none, and a wheel that was built
where the npm registry is not reached has none either: :func:`installed_pages` is None then.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import attrs

FOLDER = Path("strata", "ui", "dist")
"""Where the pages are within an installation."""

DOCUMENT = "index.html"
"""The document of all pages."""

ASSETS = "assets"
"""The folder of the files that the document loads; each name holds a hash of the content."""

KINDS = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Content types by suffix; a file of another kind is not served."""


@attrs.frozen
class PageFile:
    """A file of the pages.

    Attributes:
        kind: Its content type.
        content: Its bytes.
        compressed: The same, with gzip; None if it was not compressed.
    """

    kind: str
    content: bytes = attrs.field(repr=False)
    compressed: bytes | None = attrs.field(repr=False)


@attrs.frozen
class Pages:
    """The pages: their document, and the files that it loads by name."""

    document: PageFile
    assets: Mapping[str, PageFile]


def load_pages(folder: Path) -> Pages | None:
    """Read the pages of a folder; None if it has none. Blocking.

    Args:
        folder: The output of the build: the document, and the folder of assets.

    Raises:
        OSError: If a file cannot be read.
    """
    document = folder / DOCUMENT
    if not document.is_file():
        return None
    assets = {path.name: _read(path) for path in (folder / ASSETS).iterdir() if path.suffix in KINDS}
    return Pages(_read(document), assets)


def _read(path: Path) -> PageFile:
    compressed = path.with_name(f"{path.name}.gz")
    return PageFile(
        KINDS[path.suffix], path.read_bytes(), compressed.read_bytes() if compressed.is_file() else None
    )


@functools.cache
def installed_pages() -> Pages | None:
    """Return the pages of this installation, read once; None if it was built without them."""
    return next((pages for folder in _folders() if (pages := load_pages(folder)) is not None), None)


def _folders() -> list[Path]:
    """Return where the pages may be: beside this module, or, of a source tree, in its installation."""
    folders = [Path(__file__).with_name("dist")]
    with contextlib.suppress(metadata.PackageNotFoundError):
        folders.append(Path(str(metadata.distribution("strata").locate_file(FOLDER))))
    return folders
