"""Values of a notebook, and the checks that every one of them has passed."""

from __future__ import annotations

import enum
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import attrs
import msgspec

from strata.notebooks.model.limits import (
    MAX_CELL_BYTES,
    MAX_CELLS,
    MAX_METADATA_BYTES,
    MAX_METADATA_DEPTH,
    MAX_NOTEBOOK_BYTES,
    MAX_TITLE_CHARACTERS,
)
from strata.outcomes import Reason, Refused

CELL_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Ids of cells, as in nbformat 4.5."""

NOTEBOOK_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
"""Names of notebooks, which the server makes of their titles."""

Location = tuple[str | int, ...]


class Language(enum.Enum):
    """Language of a cell."""

    PYTHON = "python"
    SQL = "sql"
    MARKDOWN = "markdown"


class Access(enum.Enum):
    """Who besides administrators may use a notebook that the access rules open: its owner, or its tenant."""

    PRIVATE = "private"
    TENANT = "tenant"


@attrs.frozen(kw_only=True)
class Cell:
    """A cell.

    Attributes:
        id: Its id, unique in the notebook.
        language: Its language.
        source: Its source.
        name: Its display name, unless ``@name`` gives another one.
        metadata: What else is known of it, as JSON values.
    """

    id: str
    language: Language = Language.PYTHON
    source: str = ""
    name: str | None = None
    metadata: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Content:
    """What a revision of a notebook holds.

    Attributes:
        title: Its title.
        cells: Its cells in order.
        metadata: What else is known of it, as JSON values.
    """

    title: str
    cells: tuple[Cell, ...] = ()
    metadata: Mapping[str, Any] = attrs.field(factory=dict)


def encode_content(content: Content) -> str:
    """Return a content as JSON."""
    return msgspec.json.encode(content).decode()


def decode_content(text: str) -> Content:
    """Return the content of :func:`encode_content`."""
    return msgspec.json.decode(text, type=Content)


def check_content(content: Content) -> Refused | None:
    """Validate a content against every bound of :mod:`.limits`.

    Returns:
        The refusal of the first fault (UNPROCESSABLE or TOO_LARGE, with its location), or ``None``.
    """
    refused = title_problem(content.title, ("title",), "The title") or metadata_problem(
        content.metadata, ("metadata",)
    )
    if refused is not None:
        return refused
    if len(content.cells) > MAX_CELLS:
        return too_large(f"A notebook has at most {MAX_CELLS} cells.", "cells")
    for place, cell in enumerate(content.cells):
        refused = _cell_problem(cell, ("cells", place))
        if refused is not None:
            return refused
    id_, uses = next(iter(Counter(cell.id for cell in content.cells).most_common(1)), ("", 0))
    if uses > 1:
        return unprocessable(f"Two cells have the id {id_}.", "cell_id_repeated", "cells")
    if content_bytes(content) > MAX_NOTEBOOK_BYTES:
        return too_large(f"A notebook has at most {MAX_NOTEBOOK_BYTES} bytes. Split it.", "cells")
    return None


def content_bytes(content: Content) -> int:
    """Return the bytes that a content has as JSON."""
    return len(msgspec.json.encode(content))


def title_problem(title: str, loc: Location, what: str) -> Refused | None:
    """Return the refusal of a title or a cell's name: of none, of too long a one, of control characters."""
    if not title.strip() or len(title) > MAX_TITLE_CHARACTERS or not title.isprintable():
        return unprocessable(
            f"{what} must have 1 to {MAX_TITLE_CHARACTERS} printable characters.", "bad_title", *loc
        )
    return None


def metadata_problem(metadata: Mapping[str, Any], loc: Location) -> Refused | None:
    """Return the refusal of metadata that are too large or nested too deeply."""
    if _depth(metadata) > MAX_METADATA_DEPTH:
        return unprocessable(
            f"Metadata are nested at most {MAX_METADATA_DEPTH} deep.", "metadata_too_nested", *loc
        )
    if len(msgspec.json.encode(metadata)) > MAX_METADATA_BYTES:
        return too_large(f"Metadata have at most {MAX_METADATA_BYTES} bytes.", *loc)
    return None


def unprocessable(detail: str, code: str, *loc: str | int) -> Refused:
    """Return the refusal of a faulty part of a notebook."""
    return Refused(Reason.UNPROCESSABLE, detail, code=code, loc=loc)


def too_large(detail: str, *loc: str | int) -> Refused:
    """Return the refusal of what is beyond a bound of a notebook."""
    return Refused(Reason.TOO_LARGE, detail, code="notebook_too_large", loc=loc)


def _cell_problem(cell: Cell, loc: Location) -> Refused | None:
    if not CELL_ID.fullmatch(cell.id):
        return unprocessable(
            "A cell's id has 1 to 64 letters, digits, underscores and hyphens.", "bad_cell_id", *loc, "id"
        )
    if len(cell.source) > MAX_CELL_BYTES or len(cell.source.encode()) > MAX_CELL_BYTES:
        return too_large(f"A cell's source has at most {MAX_CELL_BYTES} bytes. Split it.", *loc, "source")
    named = None if cell.name is None else title_problem(cell.name, (*loc, "name"), "A cell's name")
    return named or metadata_problem(cell.metadata, (*loc, "metadata"))


def _depth(value: object) -> int:
    """Return how many lists and objects are nested in one another, and at most one more than the bound."""
    level = [value]
    depth = 0
    while level and depth <= MAX_METADATA_DEPTH:
        depth += 1
        inside: list[object] = []
        for one in level:
            inside += (
                one.values() if isinstance(one, Mapping) else one if isinstance(one, list | tuple) else ()
            )
        level = [one for one in inside if isinstance(one, Mapping | list | tuple)]
    return depth
