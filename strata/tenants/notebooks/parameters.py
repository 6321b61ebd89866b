"""Parameters of a run: a cell behind the one with the tag ``parameters`` gives its names other values."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from typing import Any, Final

import attrs

from strata.notebooks.model.notebook import Cell, Content, Language
from strata.outcomes import Reason, Refused

TAG: Final = "parameters"
"""The tag of the cell whose names are parameters, as other tools for notebooks have it."""

CELL: Final = "run-parameters"
"""Id of the cell with the values of a run."""

_NAME: Final = re.compile(r"[^\W\d]\w{0,255}")


def with_parameters(parameters: Mapping[str, Any], content: Content) -> Content | Refused:
    """Return a notebook whose parameters have these values.

    Args:
        parameters: Values by name, as JSON has them.
        content: The notebook.
    """
    if not parameters:
        return content
    wrong = [name for name in parameters if not _NAME.fullmatch(name) or keyword.iskeyword(name)]
    if wrong:
        return _refused(f"{wrong[0][:64]!r} is no name of Python.")
    place = next((at for at, cell in enumerate(content.cells) if TAG in _tags(cell)), None)
    if place is None or any(cell.id == CELL for cell in content.cells):
        return _refused(f"No cell of the notebook has the tag {TAG!r} in its metadata.")
    source = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    cell = Cell(id=CELL, language=Language.PYTHON, source=source)
    return attrs.evolve(content, cells=(*content.cells[: place + 1], cell, *content.cells[place + 1 :]))


def parameters_cell(content: Content) -> str | None:
    """Return the id of the cell whose names are parameters."""
    return next((cell.id for cell in content.cells if TAG in _tags(cell)), None)


def _tags(cell: Cell) -> list[Any]:
    tags = cell.metadata.get("tags")
    return tags if isinstance(tags, list) and cell.language is Language.PYTHON else []


def _refused(detail: str) -> Refused:
    return Refused(Reason.UNPROCESSABLE, detail, code="parameter_unknown", loc=("body", "parameters"))
