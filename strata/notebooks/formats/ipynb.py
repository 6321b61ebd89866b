"""Jupyter notebooks, nbformat 4: cells, their order and all metadata are kept both ways.

Outputs and execution counts are of runs, and are not kept. Raw cells are kept as Markdown that is exported as
raw again; SQL cells are code cells with their language in the metadata. Sources are never changed: a line
that only IPython reads is told in the report, and is a syntax error of the cell until its author changes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from strata.notebooks.formats.report import OWN, Imported, NotANotebookError, Report, own_part
from strata.notebooks.model.limits import MAX_CELLS, MAX_TITLE_CHARACTERS
from strata.notebooks.model.notebook import CELL_ID, Cell, Content, Language

NBFORMAT: Final = 4
NBFORMAT_MINOR: Final = 5

_MAGIC: Final = re.compile(
    r"^[ \t]*(?:%{1,2}[A-Za-z]|!|\?[A-Za-z])|^[A-Za-z_][\w.]*\?{1,2}[ \t]*$", re.MULTILINE
)
_CELL_KEYS: Final = {"cell_type", "id", "metadata", "source", "outputs", "execution_count", "attachments"}
_NOTEBOOK_KEYS: Final = {"cells", "metadata", "nbformat", "nbformat_minor"}


def read_ipynb(text: str | bytes, title: str, new_id: Callable[[], str]) -> Imported:
    """Return the notebook of an .ipynb file, with the report of what was not kept.

    Args:
        text: The file.
        title: The title, unless the notebook's metadata have one.
        new_id: Returns a fresh id, for cells without a valid one.

    Raises:
        NotANotebookError: If it is no notebook of nbformat 4 in Python.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise NotANotebookError("The file is no JSON, so it is no .ipynb notebook.") from None
    if not isinstance(found, dict) or not isinstance(found.get("cells"), list):
        raise NotANotebookError("The file has no cells: it is no notebook of nbformat 4.")
    if found.get("nbformat") != NBFORMAT:
        raise NotANotebookError("The notebook is not of nbformat 4. Open it in Jupyter and save it again.")
    cells = found["cells"]
    if len(cells) > MAX_CELLS:
        raise NotANotebookError(f"The notebook has {len(cells)} cells; at most {MAX_CELLS} can be kept.")
    report = Report()
    for key in sorted(found.keys() - _NOTEBOOK_KEYS):
        report.say("key_dropped", f"{key[:64]} of the notebook is no part of nbformat, and was not kept.")
    metadata, own = own_part(_mapping(found.get("metadata", {}), "The notebook's metadata"))
    _require_python(metadata)
    known: set[str] = set()
    made = tuple(_cell(cell, place, known, new_id, report) for place, cell in enumerate(cells, 1))
    outputs = sum(bool(cell.get("outputs")) for cell in cells)
    if outputs:
        report.say("outputs_dropped", f"The outputs of {outputs} cells were not kept. Run the cells again.")
    return Imported(Content(title=_title(own, metadata, title), cells=made, metadata=metadata), report)


def write_ipynb(content: Content) -> str:
    """Return a content as an .ipynb file of nbformat 4.5, without outputs."""
    document = {
        "cells": [_written(cell) for cell in content.cells],
        "metadata": {**content.metadata, OWN: {"title": content.title}},
        "nbformat": NBFORMAT,
        "nbformat_minor": NBFORMAT_MINOR,
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _title(own: Mapping[str, Any], metadata: Mapping[str, Any], title: str) -> str:
    for found in (own.get("title"), metadata.get("title"), title):
        if isinstance(found, str):
            printable = "".join(one for one in found if one.isprintable()).strip()
            if printable:
                return printable[:MAX_TITLE_CHARACTERS]
    return "Notebook"


def _require_python(metadata: Mapping[str, Any]) -> None:
    for key, inside in (("language_info", "name"), ("kernelspec", "language")):
        part = metadata.get(key)
        name = part.get(inside) if isinstance(part, dict) else None
        if isinstance(name, str) and name.lower() not in ("python", "ipython"):
            raise NotANotebookError(f"The notebook is in {name[:64]}; only Python can be imported.")


def _mapping(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise NotANotebookError(f"{what} must be a JSON object.")
    return value


def _cell(value: object, place: int, known: set[str], new_id: Callable[[], str], report: Report) -> Cell:
    cell = _mapping(value, f"Cell {place}")
    kind = cell.get("cell_type")
    if kind not in ("code", "markdown", "raw"):
        raise NotANotebookError(f"Cell {place} is neither code nor Markdown nor raw.")
    source = cell.get("source", "")
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if not isinstance(source, str):
        raise NotANotebookError(f"The source of cell {place} must be a text or a list of lines.")
    metadata, own = own_part(_mapping(cell.get("metadata", {}), f"The metadata of cell {place}"))
    for key in sorted(cell.keys() - _CELL_KEYS):
        report.say("key_dropped", f"{key[:64]} is no part of nbformat, and was not kept.", place)
    kept: dict[str, Any] = {}
    if kind == "raw":
        kept["cell_type"] = "raw"
    if cell.get("attachments"):
        kept["attachments"] = cell["attachments"]
    is_sql = kind == "code" and own.get("language") == Language.SQL.value
    if kind == "code" and not is_sql and _MAGIC.search(source):
        report.say("ipython_line", "A line that only IPython reads: the cell needs a change to run.", place)
    name = own.get("name")
    return Cell(
        id=_id(cell.get("id"), place, known, new_id, report),
        language=Language.SQL if is_sql else Language.PYTHON if kind == "code" else Language.MARKDOWN,
        source=source,
        name=name if isinstance(name, str) and name else None,
        metadata={**metadata, OWN: kept} if kept else metadata,
    )


def _id(wanted: object, place: int, known: set[str], new_id: Callable[[], str], report: Report) -> str:
    if isinstance(wanted, str) and CELL_ID.fullmatch(wanted) and wanted not in known:
        known.add(wanted)
        return wanted
    if wanted is not None:
        report.say("id_replaced", "The cell's id is malformed or repeated; it has a new one.", place)
    made = new_id()
    while made in known:
        made = new_id()
    known.add(made)
    return made


def _written(cell: Cell) -> dict[str, Any]:
    metadata, own = own_part(dict(cell.metadata))
    kind = "code"
    if cell.language is Language.MARKDOWN:
        kind = "raw" if own.get("cell_type") == "raw" else "markdown"
    marks = {}
    if cell.language is Language.SQL:
        marks["language"] = cell.language.value
    if cell.name is not None:
        marks["name"] = cell.name
    written: dict[str, Any] = {
        "cell_type": kind,
        "id": cell.id,
        "metadata": {**metadata, OWN: marks} if marks else metadata,
        "source": cell.source.splitlines(keepends=True),
    }
    if kind == "code":
        written |= {"execution_count": None, "outputs": []}
    if "attachments" in own and kind != "code":
        written["attachments"] = own["attachments"]
    return written
