"""Bounds of a notebook: what has exactly the bound is taken, and one more is refused, with its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from strata.notebooks.model.annotations import read_annotations
from strata.notebooks.model.edits import InsertCell, ReplaceCell, apply_edits
from strata.notebooks.model.limits import (
    MAX_ANNOTATIONS,
    MAX_CELL_BYTES,
    MAX_CELLS,
    MAX_EDITS,
    MAX_METADATA_BYTES,
    MAX_METADATA_DEPTH,
    MAX_NOTEBOOK_BYTES,
    MAX_TITLE_CHARACTERS,
)
from strata.notebooks.model.notebook import Cell, Content, check_content, content_bytes
from strata.outcomes import Refused


def of_cell(**fields: Any) -> Content:
    return Content(title="T", cells=(Cell(id="a", **{"source": "", **fields}),))


def nested(depth: int) -> dict[str, Any]:
    """Return objects that are nested so many deep."""
    found: dict[str, Any] = {}
    for _ in range(depth - 1):
        found = {"k": found}
    return found


def sized(nbytes: int) -> dict[str, Any]:
    """Return metadata of so many bytes."""
    return {"k": "x" * (nbytes - len(msgspec.json.encode({"k": ""})))}


def whole(nbytes: int) -> Content:
    """Return a notebook of so many bytes, each of whose cells is within its own bounds."""
    cells = [Cell(id=f"c{place}", source="#" * 60_000) for place in range(12)]
    left = nbytes - content_bytes(Content(title="T", cells=(*cells, Cell(id="last", source=""))))
    found = Content(title="T", cells=(*cells, Cell(id="last", source="#" * left)))
    assert nbytes == content_bytes(found)
    return found


BOUNDS: dict[str, tuple[int, Callable[[int], Content], tuple[str | int, ...]]] = {
    "characters of the title": (MAX_TITLE_CHARACTERS, lambda n: Content(title="x" * n), ("title",)),
    "characters of a cell's name": (
        MAX_TITLE_CHARACTERS, lambda n: of_cell(name="x" * n), ("cells", 0, "name"),
    ),
    "bytes of a source": (MAX_CELL_BYTES, lambda n: of_cell(source="x" * n), ("cells", 0, "source")),
    "bytes of a source in two-byte letters": (
        MAX_CELL_BYTES // 2, lambda n: of_cell(source="\u00e4" * n), ("cells", 0, "source"),
    ),
    "bytes of a notebook's metadata": (
        MAX_METADATA_BYTES, lambda n: Content(title="T", metadata=sized(n)), ("metadata",),
    ),
    "bytes of a cell's metadata": (
        MAX_METADATA_BYTES, lambda n: of_cell(metadata=sized(n)), ("cells", 0, "metadata"),
    ),
    "depth of metadata": (MAX_METADATA_DEPTH, lambda n: of_cell(metadata=nested(n)), ("cells", 0, "metadata")),
    "cells": (
        MAX_CELLS,
        lambda n: Content(title="T", cells=tuple(Cell(id=f"c{place}", source="") for place in range(n))),
        ("cells",),
    ),
    "bytes of a notebook": (MAX_NOTEBOOK_BYTES, whole, ("cells",)),
}  # fmt: skip


@pytest.mark.parametrize("what", BOUNDS)
def test_a_notebook_may_have_the_bound_and_no_more(what: str) -> None:
    """The refusal names the bound and the place."""
    most, made, loc = BOUNDS[what]
    assert None is check_content(made(most))
    refused = check_content(made(most + 1))
    assert isinstance(refused, Refused)
    assert loc == refused.loc
    named = MAX_CELL_BYTES if "source" in what else most
    assert str(named) in refused.detail


def test_a_revision_may_have_the_bound_of_edits_and_no_more() -> None:
    """All of them are made, or none."""
    edits = [ReplaceCell("a", source=str(number)) for number in range(MAX_EDITS)]
    found = apply_edits(of_cell(), edits, lambda: "new")
    assert isinstance(found, Content)
    assert str(MAX_EDITS - 1) == found.cells[0].source
    refused = apply_edits(of_cell(), [*edits, InsertCell("x")], lambda: "new")
    assert isinstance(refused, Refused)
    assert (("edits",), True) == (refused.loc, str(MAX_EDITS) in refused.detail)


def test_annotations_beyond_the_bound_are_a_finding() -> None:
    """The last one within it still counts; the next one does not, and its line is named."""
    lines = ["# @after c"] * (MAX_ANNOTATIONS - 1)
    fits = read_annotations("python", "\n".join([*lines, "# @timeout 7"]))
    assert 7 == fits.timeout
    assert "annotation_limit" not in {one.code for one in fits.findings}
    over = read_annotations("python", "\n".join([*lines, "# @after c", "# @timeout 7"]))
    assert None is over.timeout
    assert [MAX_ANNOTATIONS + 1] == [one.line for one in over.findings if "annotation_limit" == one.code]
