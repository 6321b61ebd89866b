"""Print rows for people and for programs: a table on a terminal, lines with tabs elsewhere, or JSON."""

from __future__ import annotations

import base64
import json
import math
import re
import sys
from collections.abc import Sequence
from typing import Any

import click

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Characters that would move the cursor, end a line or reverse its direction."""


def plain(text: str) -> str:
    """Return a text in which control characters are written as escapes: a value must not steer a terminal."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def cell(value: object) -> str:
    """Return a value as the text of a cell."""
    if value is None:
        return ""
    if isinstance(value, (dict, list, bytes)):
        return _json(value, indent=None)
    return str(value)


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of texts under their headers."""
    if not sys.stdout.isatty():
        for row in (headers, *rows):
            click.echo("\t".join(map(plain, row)))
        return
    # Deferred: it takes a tenth of a second to import.
    from rich import box  # noqa: PLC0415  # see above
    from rich.console import Console  # noqa: PLC0415  # see above
    from rich.table import Table  # noqa: PLC0415  # see above
    from rich.text import Text  # noqa: PLC0415  # see above

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for header in headers:
        table.add_column(Text(plain(header)), overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(one)) for one in row))
    Console().print(table)


def print_json(value: object) -> None:
    """Print a value as JSON; what JSON has no form for is a text, bytes in base64."""
    click.echo(_json(value, indent=2))


def _json(value: object, indent: int | None) -> str:
    return json.dumps(_plain_floats(value), default=_text, indent=indent, ensure_ascii=False)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _plain_floats(value: Any) -> Any:
    """Return a value without NaN and infinities, which are no JSON: they are texts."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain_floats(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_floats(one) for one in value]
    return value
