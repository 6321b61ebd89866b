"""The settings of DuckDB that change results: fixed, and a part of the identity of each result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

ENGINE: Final = "duckdb"

RESULT_SETTINGS: Final[Mapping[str, object]] = {
    "TimeZone": "UTC",
    "Calendar": "gregorian",
    "default_collation": "",
    "default_null_order": "NULLS_LAST",
    "default_order": "ASCENDING",
    "preserve_insertion_order": True,
}

ORDERED: Final = "strata.ordered"
"""Key of the result schema's metadata: whether the query fixes the order of its rows, ``true`` or ``false``.
It is the schema's only metadata."""


def ordered_of(schema: str | None) -> bool | None:
    """Return from a result's schema, as text, whether its query fixes the order of its rows.

    None for a result that no query made. Only the last line counts: no name of a column can stand there.
    """
    last = (schema or "").rpartition("\n")[2]
    return {f"{ORDERED}: 'true'": True, f"{ORDERED}: 'false'": False}.get(last)
