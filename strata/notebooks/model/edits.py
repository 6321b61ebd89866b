"""Edits of a notebook: several make one revision, all or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from strata.notebooks.model.limits import MAX_EDITS
from strata.notebooks.model.notebook import (
    Cell,
    Content,
    Language,
    check_content,
    too_large,
    unprocessable,
)
from strata.outcomes import Refused


@attrs.frozen
class InsertCell:
    """Insert a cell behind the cell ``after``, or as the first one; without an id it is given one."""

    source: str = ""
    language: Language = Language.PYTHON
    after: str | None = None
    id: str | None = None
    name: str | None = None
    metadata: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class ReplaceCell:
    """Replace parts of a cell; ``None`` keeps a part, and an empty name removes the name."""

    id: str
    source: str | None = None
    language: Language | None = None
    name: str | None = None
    metadata: Mapping[str, Any] | None = None


@attrs.frozen
class MoveCell:
    """Move a cell behind the cell ``after``, or to the beginning."""

    id: str
    after: str | None = None


@attrs.frozen
class DeleteCell:
    """Delete a cell."""

    id: str


@attrs.frozen
class Describe:
    """Replace the notebook's title or metadata; ``None`` keeps a part."""

    title: str | None = None
    metadata: Mapping[str, Any] | None = None


Edit = InsertCell | ReplaceCell | MoveCell | DeleteCell | Describe


def apply_edits(content: Content, edits: Sequence[Edit], new_id: Callable[[], str]) -> Content | Refused:
    """Return a content after edits, in their order.

    Args:
        content: The content.
        edits: One or more edits.
        new_id: Returns a fresh id for a cell.

    Returns:
        The new content, or the refusal of an edit that does not apply or of the result (see
        :func:`~strata.notebooks.model.notebook.check_content`).
    """
    if not edits:
        return unprocessable("There must be an edit.", "no_edits", "edits")
    if len(edits) > MAX_EDITS:
        return too_large(f"A revision has at most {MAX_EDITS} edits.", "edits")
    cells = list(content.cells)
    for number, edit in enumerate(edits):
        done = _edit_cells(cells, edit, new_id)
        if isinstance(done, Refused):
            return attrs.evolve(done, loc=("edits", number, *done.loc))
        if isinstance(edit, Describe):
            title = content.title if edit.title is None else edit.title
            metadata = content.metadata if edit.metadata is None else edit.metadata
            content = attrs.evolve(content, title=title, metadata=metadata)
    changed = attrs.evolve(content, cells=tuple(cells))
    return check_content(changed) or changed


def _edit_cells(cells: list[Cell], edit: Edit, new_id: Callable[[], str]) -> Refused | None:
    match edit:
        case InsertCell():
            return _insert(cells, edit, new_id)
        case Describe():
            return None
    place = _place(cells, edit.id)
    if isinstance(place, Refused):
        return place
    match edit:
        case ReplaceCell():
            cells[place] = _replaced(cells[place], edit)
        case MoveCell(after=after):
            return _move(cells, place, after)
        case DeleteCell():
            del cells[place]
    return None


def _move(cells: list[Cell], place: int, after: str | None) -> Refused | None:
    if after == cells[place].id:
        return unprocessable("A cell cannot stand behind itself.", "bad_place", "after")
    cell = cells.pop(place)
    behind = _behind(cells, after)
    if isinstance(behind, Refused):
        return behind
    cells.insert(behind, cell)
    return None


def _insert(cells: list[Cell], edit: InsertCell, new_id: Callable[[], str]) -> Refused | None:
    behind = _behind(cells, edit.after)
    if isinstance(behind, Refused):
        return behind
    known = {cell.id for cell in cells}
    id_ = edit.id
    if id_ is None:
        id_ = new_id()
        while id_ in known:
            id_ = new_id()
    elif id_ in known:
        return unprocessable("There is a cell with this id already.", "cell_id_repeated", "id")
    cell = Cell(id=id_, language=edit.language, source=edit.source, name=edit.name, metadata=edit.metadata)
    cells.insert(behind, cell)
    return None


def _replaced(cell: Cell, edit: ReplaceCell) -> Cell:
    return attrs.evolve(
        cell,
        source=cell.source if edit.source is None else edit.source,
        language=edit.language or cell.language,
        name=cell.name if edit.name is None else edit.name or None,
        metadata=cell.metadata if edit.metadata is None else edit.metadata,
    )


def _behind(cells: Sequence[Cell], after: str | None) -> int | Refused:
    if after is None:
        return 0
    place = _place(cells, after)
    return attrs.evolve(place, loc=("after",)) if isinstance(place, Refused) else place + 1


def _place(cells: Sequence[Cell], id_: str) -> int | Refused:
    for place, cell in enumerate(cells):
        if cell.id == id_:
            return place
    return unprocessable("There is no cell with this id.", "cell_unknown", "id")
