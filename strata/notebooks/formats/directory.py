"""Notebooks as directories: ``notebook.toml`` and one file a cell in ``cells/``, both ways. Blocking.

Other servers of the protocol write more settings into ``notebook.toml``; what is not kept is in the report.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from strata.durable import replace_file
from strata.notebooks.formats.report import OWN, Imported, NotANotebookError, Report
from strata.notebooks.model.limits import MAX_CELL_BYTES, MAX_CELLS, MAX_NOTEBOOK_BYTES
from strata.notebooks.model.notebook import CELL_ID, Cell, Content, Language
from strata.regular_files import read_regular

TOML: Final = "notebook.toml"
CELLS: Final = "cells"

_FILE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\.[a-z]{1,8}")
_SUFFIXES: Final = {Language.PYTHON: ".py", Language.SQL: ".py", Language.MARKDOWN: ".md"}
_KEYS: Final = {"notebook_id", "name", "created_at", "updated_at", "cells", "metadata_json"}
_CELL_KEYS: Final = {
    "id", "file", "language", "order", "name", "metadata_json", "created_by", "updated_by",
}  # fmt: skip


def read_directory(directory: Path, new_id: Callable[[], str]) -> Imported:
    """Return the notebook in a directory, with the report of what was not kept.

    Cells in languages that are not kept become Markdown with the code in a block.

    Args:
        directory: The directory.
        new_id: Returns a fresh id, for cells without a valid one.

    Raises:
        NotANotebookError: If there is no readable notebook. Links are not followed.
        OSError: If a file cannot be read.
    """
    try:
        settings = tomllib.loads(_text(directory / TOML, MAX_NOTEBOOK_BYTES))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise NotANotebookError(f"{TOML} is not TOML: {error}.") from None
    rows = settings.get("cells", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise NotANotebookError(f"The cells of {TOML} must be tables.")
    if len(rows) > MAX_CELLS:
        raise NotANotebookError(f"The notebook has {len(rows)} cells; at most {MAX_CELLS} can be kept.")
    report = Report()
    for key in sorted(settings.keys() - _KEYS):
        report.say("setting_dropped", f"{key[:64]} was not kept.")
    known: set[str] = set()
    rows = sorted(rows, key=_order)
    cells = []
    for place, row in enumerate(rows, 1):
        id_ = row.get("id")
        if not isinstance(id_, str) or not CELL_ID.fullmatch(id_) or id_ in known:
            report.say("id_replaced", "The cell's id is malformed or repeated; it has a new one.", place)
            id_ = new_id()
            while id_ in known:
                id_ = new_id()
        known.add(id_)
        cells.append(_cell(directory, row, place, id_, report))
    name = settings.get("name")
    title = name if isinstance(name, str) and name.strip() else directory.name
    content = Content(
        title=title, cells=tuple(cells), metadata=_metadata(settings, f"The metadata of {TOML}")
    )
    return Imported(content, report)


def write_directory(content: Content, directory: Path, notebook_id: str, at: dt.datetime) -> None:
    """Write a content into a directory, which must not exist.

    Args:
        content: The content.
        directory: The directory that is made.
        notebook_id: Id that is written into it.
        at: Time that is written into it, with its zone.

    Raises:
        OSError: If it exists, or cannot be written.
    """
    (directory / CELLS).mkdir(parents=True)
    lines = [f"notebook_id = {_toml(notebook_id)}", f"name = {_toml(content.title)}"]
    lines += [f"{key} = {at.isoformat()}" for key in ("created_at", "updated_at")]
    if content.metadata:
        lines.append(f"metadata_json = {_toml(json.dumps(content.metadata))}")
    for place, cell in enumerate(content.cells):
        file = f"{cell.id}{_SUFFIXES[cell.language]}"
        lines += ["", "[[cells]]", f"id = {_toml(cell.id)}", f"file = {_toml(file)}"]
        lines += [f"language = {_toml(cell.language.value)}", f"order = {float(place)}"]
        if cell.name is not None:
            lines.append(f"name = {_toml(cell.name)}")
        if cell.metadata:
            lines.append(f"metadata_json = {_toml(json.dumps(cell.metadata))}")
        replace_file(directory / CELLS / file, cell.source)
    replace_file(directory / TOML, "\n".join(lines) + "\n")


def _toml(text: str) -> str:
    """Return a text as a TOML basic string: as in JSON, with DEL escaped, and others as they are."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _order(row: dict[str, Any]) -> float:
    order = row.get("order", 0.0)
    return float(order) if isinstance(order, int | float) else 0.0


def _text(file: Path, most: int) -> str:
    try:
        with read_regular(file) as opened:
            data = opened.read(most + 1)
        text = data.decode()
    except FileNotFoundError:
        raise NotANotebookError(f"There is no file {file.name}.") from None
    except UnicodeDecodeError:
        raise NotANotebookError(f"{file.name} is not UTF-8.") from None
    if len(data) > most:
        raise NotANotebookError(f"{file.name} has more than {most} bytes.")
    return text


def _metadata(row: dict[str, Any], what: str) -> dict[str, Any]:
    text = row.get("metadata_json", "{}")
    try:
        found = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise NotANotebookError(f"{what} must be a text with a JSON object.")
    return found


def _cell(directory: Path, row: dict[str, Any], place: int, id_: str, report: Report) -> Cell:
    file, language = row.get("file"), row.get("language", "python")
    if not isinstance(file, str) or not _FILE.fullmatch(file):
        raise NotANotebookError(f"The file of cell {place} must be a plain name in {CELLS}/.")
    source = _text(directory / CELLS / file, MAX_CELL_BYTES)
    for key in sorted(row.keys() - _CELL_KEYS):
        report.say("setting_dropped", f"{key[:64]} was not kept.", place)
    metadata = _metadata(row, f"The metadata of cell {place}")
    kept = Language.MARKDOWN
    if language in [one.value for one in Language]:
        kept = Language(language)
    else:
        report.say("language_not_kept", f"Cells in {str(language)[:64]} are kept as Markdown.", place)
        source = f"```{str(language)[:64]}\n{source}\n```"
        metadata = {**metadata, OWN: {"language": str(language)[:64]}}
    name = row.get("name")
    return Cell(
        id=id_,
        language=kept,
        source=source,
        name=name if isinstance(name, str) and name else None,
        metadata=metadata,
    )
