"""Answers in a notebook: tables in HTML, in which every text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, TypeVar

import attrs

T = TypeVar("T")

SHOWN_ROWS = 100
"""Rows of a listing that a notebook shows; the number of the others is told."""

LONGEST = 300
"""Characters of a value that a notebook shows."""


def text_of(value: object) -> str:
    """Return a value as one text: nothing for None, the beginning of a long one."""
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value):
        text = ", ".join(value)
    elif isinstance(value, Mapping):
        text = ", ".join(f"{key}: {text_of(one)}" for key, one in value.items())
    else:
        text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def table_html(headers: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> str:
    """Return a table in HTML, its first :data:`SHOWN_ROWS` rows."""
    all_rows = list(rows)
    lines = [f"<caption>{escape(caption)}</caption>"] if caption else []
    lines.append(f"<tr>{''.join(f'<th>{escape(header)}</th>' for header in headers)}</tr>")
    for row in all_rows[:SHOWN_ROWS]:
        cells = "".join(f"<td>{escape(text_of(value))}</td>" for value in row)
        lines += [f"<tr>{cells}</tr>"]
    more = len(all_rows) - SHOWN_ROWS
    note = f"<p>and {more:,} more</p>" if more > 0 else ""
    return f"<table>{''.join(lines)}</table>{note}"


def _fields(value: Any) -> dict[str, Any]:
    return attrs.asdict(value, recurse=False)


class Shown:
    """A value that a notebook shows as a table of its fields."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        """Return the fields that are set, each with its value."""
        found = _fields(self)
        rows = [(name, value) for name, value in found.items() if value not in (None, (), {})]
        return table_html(("", type(self).__name__), rows)


class Listing(tuple[T, ...]):
    """Values of one kind, in order; a notebook shows them as a table."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        """Return a row for each value, without fields that none has."""
        if not self:
            return "<p>nothing</p>"
        found: list[dict[str, Any]] = [_fields(one) for one in self]
        names = [name for name in found[0] if any(one[name] not in (None, (), {}) for one in found)]
        return table_html(names, ([one[name] for name in names] for one in found))
