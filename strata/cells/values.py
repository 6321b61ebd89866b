"""Keep the values of a cell for other cells: as JSON, Arrow or a pickle, whichever gives back the same value.

Runs in the sandboxed process, which is the only place where a pickle is loaded.
"""

from __future__ import annotations

import json
import math
import reprlib
import sys
import types
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, BinaryIO, Final

import attrs
import pyarrow as pa

from strata.cells import by_value

ARROW: Final = "arrow/ipc"
JSON: Final = "json/object"
PICKLE: Final = "pickle/object"
MODULE: Final = "module/import"

SUFFIXES: Final[Mapping[str, str]] = {
    ARROW: ".arrow",
    JSON: ".json",
    PICKLE: ".pickle",
    MODULE: ".module.json",
    "text/plain": ".txt",
    "text/markdown": ".md",
    "image/png": ".png",
}
"""Endings of the members' names by content type."""

MAX_JSON_ITEMS: Final = 100_000
"""Maximum parts of a value that is kept as JSON; a larger one is pickled, which is faster."""

MAX_JSON_DEPTH: Final = 50
"""Maximum depth of such a value."""

MAX_NUMBER: Final = 10**4_000
"""Whole numbers from here on are pickled: Python reads no numbers in JSON that are much longer."""

PREVIEW_CHARACTERS: Final = 200
"""Maximum characters of the preview of a value."""


class NotKeptError(Exception):
    """A value cannot be kept for other cells; the message is a sentence for the cell's author."""


@attrs.frozen
class Kept:
    """A value in the form in which it is kept.

    Attributes:
        content_type: Its form.
        nbytes: Bytes that :attr:`write` writes.
        write: Writes it into a file.
        facts: What else the manifest says of it: ``type``, ``preview``, ``rows``, ``columns``.
    """

    content_type: str
    nbytes: int
    write: Callable[[BinaryIO], object]
    facts: Mapping[str, Any]


def keep(name: str, value: object) -> Kept:
    """Return the form in which a value is kept.

    Raises:
        NotKeptError: If the value cannot be kept.
    """
    kind = type(value)
    facts = {
        "type": f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."),
        "preview": brief(value),
    }
    if isinstance(value, types.ModuleType) and value.__name__ in sys.modules:
        return _bytes(MODULE, json.dumps({"module": value.__name__}).encode(), facts)
    if kind is pa.Table:
        return _table(value, facts)
    if _Plain().fits(value, 0):
        return _bytes(JSON, json.dumps(value, separators=(",", ":")).encode(), facts)
    try:
        data = by_value.dumps(value)
    except Exception as error:  # noqa: BLE001  # whatever a value's own methods raise
        shown = str(error)[:PREVIEW_CHARACTERS]
        raise NotKeptError(
            f"{name} is of type {facts['type']}, which cannot be kept for other cells ({shown}). Make a "
            f"list, a table or a number of it, or end the cell with `del {name}`."
        ) from None
    return _bytes(PICKLE, data, facts)


def load(content_type: str, data: memoryview) -> object:
    """Return a value that was kept.

    Args:
        content_type: Its form.
        data: Its bytes; those of a table stay in use.

    Raises:
        ValueError: If the form is not known.
    """
    if content_type == ARROW:
        return pa.ipc.open_stream(pa.BufferReader(pa.py_buffer(data))).read_all()
    if content_type == JSON:
        return json.loads(bytes(data))
    if content_type == PICKLE:
        return by_value.loads(data)
    if content_type == MODULE:
        return import_module(json.loads(bytes(data))["module"])
    raise ValueError(f"values of the form {content_type} cannot be loaded")


def brief(value: object) -> str:
    """Return a short text for a value; one whose own text fails has its type only."""
    try:
        if isinstance(value, pa.Table):
            return f"table of {value.num_rows} rows and {value.num_columns} columns"
        return reprlib.repr(value)[:PREVIEW_CHARACTERS]
    except Exception:  # noqa: BLE001  # whatever a value's own methods raise
        return f"<{type(value).__name__}>"


def _bytes(content_type: str, data: bytes, facts: Mapping[str, Any]) -> Kept:
    return Kept(content_type, len(data), lambda file: file.write(data), facts)


def _table(table: pa.Table, facts: Mapping[str, Any]) -> Kept:
    """Keep a table as an Arrow stream, which is written from its columns without a copy of all of them."""
    counted = pa.MockOutputStream()
    _write_table(table, counted)
    facts = {**facts, "rows": table.num_rows, "columns": table.column_names[:1000]}
    return Kept(ARROW, counted.size(), lambda file: _write_table(table, file), facts)


def _write_table(table: pa.Table, sink: Any) -> None:
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


class _Plain:
    """Tells the values that JSON gives back exactly: also no list in two places, which would become two."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def fits(self, value: object, depth: int) -> bool:
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return True
        if kind is int:
            return abs(value) < MAX_NUMBER  # type: ignore[arg-type]  # it is an int
        if kind is float:
            return math.isfinite(value)  # type: ignore[arg-type]  # it is a float
        if kind is not list and kind is not dict:
            return False
        if id(value) in self._seen or depth >= MAX_JSON_DEPTH or len(self._seen) > MAX_JSON_ITEMS:
            return False
        self._seen.add(id(value))
        if isinstance(value, dict):
            return all(type(key) is str for key in value) and self._all(value.values(), depth)
        return self._all(value, depth)

    def _all(self, values: Any, depth: int) -> bool:
        return len(values) <= MAX_JSON_ITEMS and all(self.fits(one, depth + 1) for one in values)
