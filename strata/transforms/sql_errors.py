"""Say what is wrong with a query: DuckDB's message, the place in the query, and no value of any row."""

from __future__ import annotations

import json
import re
from typing import Final

MOST_CHARACTERS: Final = 2000
"""Most characters of a message; a longer one is cut."""

MOST_LINE: Final = 200
"""Most characters of the line of a query that a message shows; of a longer one, the part around the place."""

MOST_KIND: Final = 30
"""Most characters of the kind of an error, before its text."""

HIDDEN: Final = "…"
"""Stands for a value that is not in the query itself, so may be one of a row."""

PREPARE: Final = "PREPARE query AS "
"""What stands before a query when its errors are looked for; DuckDB counts it."""

_BEFORE_ROWS: Final = frozenset({"Parser", "Syntax", "Binder", "Catalog", "Permission", "Not implemented"})
"""Kinds of errors that DuckDB finds before it reads a row."""

_VALUE: Final = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|(?<![\w.])[-+]?\d[\w.:+-]*|(?<![\w/])/[^\s'"]+"""
)


def explain(error: Exception, sql: str, *, prepared: bool = False) -> tuple[str, str]:
    """Return the code and the message of DuckDB's error: its class, then its text, line, column and caret.

    Args:
        error: DuckDB's error.
        sql: The query.
        prepared: Whether :data:`PREPARE` stood before it.
    """
    code, text = type(error).__name__, str(error)
    kind, position = "", None
    start = text.find("{")
    try:
        facts = json.loads(text[start:]) if start >= 0 else {}
        kind, text = str(facts["exception_type"]), str(facts["exception_message"])
        position = int(facts["position"]) - len(PREPARE) * prepared if "position" in facts else None
    except (ValueError, KeyError, TypeError):
        while (parts := text.partition(" Error: "))[1] and len(parts[0]) < MOST_KIND:
            kind, _, text = parts  # some errors say it twice
    if code == "OutOfMemoryException":
        text = "The query needs more memory, or more space to spill, than this tenant may use."
    elif kind == "Invalid Input" and re.search(r"\berror\s*\(", sql, re.IGNORECASE):
        text = HIDDEN  # the function error() makes a message of a row's values
    elif kind not in _BEFORE_ROWS:
        text = without_values(text, sql)
    message = f"{kind} Error: {text}"[:MOST_CHARACTERS] if kind else text[:MOST_CHARACTERS]
    return code, message if position is None else message + place(sql, position)


def without_values(text: str, sql: str) -> str:
    """Return the first line of a message without the numbers, texts and paths that are not in the query.

    Further lines repeat the value. The process has only rows that the caller may read; but the message is
    kept, and goes into logs of clients.
    """
    text = text.partition("\n")[0]
    known = {match[0] for match in _VALUE.finditer(sql)}
    return _VALUE.sub(lambda match: match[0] if match[0] in known else HIDDEN, text)


def place(sql: str, position: int) -> str:
    """Return the line of a query in which an offset in bytes of its UTF-8 form is, with a caret below it."""
    before = sql.encode()[:position].decode(errors="ignore")
    line = before.count("\n") + 1
    column = len(before) - (before.rfind("\n") + 1)
    shown = sql.split("\n")[line - 1].replace("\t", " ").rstrip("\r")
    start = max(0, column - MOST_LINE // 2)
    prefix = f"LINE {line}: "
    caret = " " * (len(prefix) + column - start) + "^"
    return f"\n\n{prefix}{shown[start : start + MOST_LINE]}\n{caret}\n(line {line}, column {column + 1})"
