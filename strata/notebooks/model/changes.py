"""The difference between two contents of a notebook, cell by cell."""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections.abc import Sequence

import attrs

from strata.notebooks.model.notebook import Cell, Content


class ChangeKind(enum.Enum):
    """What became of a cell."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    MOVED = "moved"


@attrs.frozen
class CellChange:
    """What became of a cell: one that changed and moved has two changes.

    Attributes:
        kind: What it is.
        cell_id: The cell.
        before: The cell before; ``None`` for one that was added.
        after: The cell after; ``None`` for one that was removed.
        before_place: Its place before, from 0.
        after_place: Its place after.
    """

    kind: ChangeKind
    cell_id: str
    before: Cell | None
    after: Cell | None
    before_place: int | None
    after_place: int | None


def changes_between(before: Content, after: Content) -> tuple[CellChange, ...]:
    """Return what became of the cells: those of ``after`` in its order, then those that were removed.

    As few cells as possible count as moved: those outside of one longest run that kept its order.
    """
    old = {cell.id: place for place, cell in enumerate(before.cells)}
    new = {cell.id: place for place, cell in enumerate(after.cells)}
    common = [cell.id for cell in after.cells if cell.id in old]
    kept = {common[one] for one in _longest_ascending([old[id_] for id_ in common])}
    found = []
    for place, cell in enumerate(after.cells):
        was = old.get(cell.id)
        if was is None:
            found.append(CellChange(ChangeKind.ADDED, cell.id, None, cell, None, place))
            continue
        kinds = [ChangeKind.CHANGED] if cell != before.cells[was] else []
        kinds += [] if cell.id in kept else [ChangeKind.MOVED]
        found += [CellChange(kind, cell.id, before.cells[was], cell, was, place) for kind in kinds]
    gone = [(place, cell) for place, cell in enumerate(before.cells) if cell.id not in new]
    return (
        *found,
        *(CellChange(ChangeKind.REMOVED, cell.id, cell, None, place, None) for place, cell in gone),
    )


def _longest_ascending(values: Sequence[int]) -> list[int]:
    """Return the places of one longest ascending run of distinct values (patience sorting)."""
    tops: list[int] = []
    places: list[int] = []
    before: list[int] = []
    for place, value in enumerate(values):
        at = bisect_left(tops, value)
        before.append(places[at - 1] if at else -1)
        tops[at : at + 1] = [value]
        places[at : at + 1] = [place]
    found: list[int] = []
    place = places[-1] if places else -1
    while place >= 0:
        found.append(place)
        place = before[place]
    return found[::-1]
