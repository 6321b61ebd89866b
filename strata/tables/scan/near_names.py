"""Find the columns whose names are like one that a table does not have."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Final

from strata.tables.scan.schema_index import SchemaIndex

LONGEST_NAME: Final = 128
"""Most characters of a name that is compared, or repeated; a longer one is like no other."""

MOST_COMPARED: Final = 1_000
"""Most names that are compared, the first of the schema: some 30 ms."""

MOST_SHOWN: Final = 3
"""Most names that are shown."""


def near_names(
    name: str, index: SchemaIndex, granted: Callable[[int], bool] | None = None
) -> tuple[str, ...]:
    """Return the names of columns most like ``name``, the likest first; letter case does not count.

    Args:
        name: The name that the table does not have.
        index: The table's columns, and fields of structs by their dotted names.
        granted: Whether the caller may read a field, by its id; others are never shown. ``None``: all.
    """
    if len(name) > LONGEST_NAME:
        return ()
    known: dict[str, str] = {}
    for field_id, found in index.names(MOST_COMPARED):
        if len(found) <= LONGEST_NAME and (granted is None or granted(field_id)):
            known.setdefault(found.casefold(), found)
    like = difflib.get_close_matches(name.casefold(), known, n=MOST_SHOWN)
    return tuple(known[one] for one in like)
