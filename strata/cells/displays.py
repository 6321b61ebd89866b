"""What a cell shows: texts, Markdown, pictures, first rows of tables. Runs in the sandboxed process."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping
from typing import Any, Final

import attrs
import pyarrow as pa

from strata.cells.values import brief

TABLE: Final = "table/json"
"""The first rows of a table: ``columns``, ``types``, ``rows`` (texts, or null) and ``total_rows``."""

TEXT: Final = "text/plain"
MARKDOWN: Final = "text/markdown"
PNG: Final = "image/png"

MAX_DISPLAYS: Final = 100
"""Maximum displays of a cell; further ones are counted only."""

MAX_TEXT_CHARACTERS: Final = 100_000
"""Maximum characters of a text that is shown; the rest is cut off, and a last line gives the length."""

ROWS: Final = 20
"""Rows of a table that are shown."""

COLUMNS: Final = 100
"""Columns of a table that are shown."""

VALUE_CHARACTERS: Final = 500
"""Maximum characters of a value of a table that are shown."""


class Markdown:
    """A text in Markdown, for :func:`display` or as the last expression of a cell."""

    def __init__(self, text: str) -> None:
        self.text = str(text)

    def __repr__(self) -> str:
        return f"Markdown({self.text[:80]!r})"


@attrs.frozen
class Display:
    """What is shown.

    Attributes:
        content_type: Its form.
        data: Its bytes.
        preview: A short text for it.
    """

    content_type: str
    data: bytes
    preview: str


def display_of(value: object) -> Display:
    """Return what is shown of a value; raises what the value's own methods raise."""
    preview = brief(value)
    if isinstance(value, Markdown):
        return Display(MARKDOWN, _cut(value.text).encode(), preview)
    table = _as_table(value)
    if table is not None:
        return Display(TABLE, json.dumps(_first_rows(*table)).encode(), preview)
    picture = _as_png(value)
    if picture is not None:
        return Display(PNG, picture, preview)
    return Display(TEXT, _cut(repr(value)).encode(errors="backslashreplace"), preview)


def _cut(text: str) -> str:
    if len(text) <= MAX_TEXT_CHARACTERS:
        return text
    return f"{text[:MAX_TEXT_CHARACTERS]}\n[cut off: {len(text)} characters]"


def _as_png(value: Any) -> bytes | None:
    """Return a value as a picture, if it is one."""
    maker = getattr(type(value), "_repr_png_", None)
    if maker is not None:
        found = maker(value)
        return found if isinstance(found, bytes) else None
    figures = sys.modules.get("matplotlib.figure")
    if figures is not None and isinstance(value, figures.Figure):
        file = io.BytesIO()
        value.savefig(file, format="png")
        return file.getvalue()
    return None


def _as_table(value: Any) -> tuple[pa.Table, int] | None:
    """Return the first rows of a table of any library as a table, and how many it has; None for others."""
    if isinstance(value, pa.Table):
        return value.slice(0, ROWS), value.num_rows
    if isinstance(value, pa.RecordBatch):
        return pa.Table.from_batches([value.slice(0, ROWS)]), value.num_rows
    pandas, polars = sys.modules.get("pandas"), sys.modules.get("polars")
    if pandas is not None and isinstance(value, pandas.DataFrame):
        first = value.head(ROWS)
        try:
            return pa.Table.from_pandas(first, preserve_index=False), len(value)
        except (pa.ArrowException, TypeError, ValueError):
            return None
    if polars is not None and isinstance(value, polars.DataFrame):
        return value.head(ROWS).to_arrow(), value.height
    return None


def _first_rows(table: pa.Table, total: int) -> Mapping[str, Any]:
    shown = table.select(range(min(table.num_columns, COLUMNS)))
    columns = [[_text(one.as_py()) for one in column] for column in shown.columns]
    return {
        "columns": shown.column_names,
        "types": [str(field.type) for field in shown.schema],
        "rows": [list(row) for row in zip(*columns, strict=True)],
        "total_rows": total,
        "total_columns": table.num_columns,
    }


def _text(value: object) -> str | None:
    return None if value is None else str(value)[:VALUE_CHARACTERS]
