"""Refuse texts of a data file that are no valid UTF-8: Arrow passes them on, and its readers may not.

Every column of text is looked at, 21 GB/s for ASCII and 2.8 GB/s for others (one core of the test machine).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import pyarrow as pa

from strata.outcomes import Reason, RefusalError, Refused
from strata.tables.errors import file_name


def check_texts(batch: pa.RecordBatch, location: str, told: Collection[str]) -> None:
    """Check the texts of a batch as it was decoded, those inside structs, lists and maps included.

    Args:
        batch: The batch.
        location: The data file's location; the refusal repeats its last component only.
        told: Columns that the refusal may name; others are those of rules about rows.

    Raises:
        RefusalError: DATA_UNREADABLE if a text is not valid UTF-8.
    """
    for field, column in zip(batch.schema, batch.columns, strict=True):
        for texts in _texts(column):
            try:
                texts.validate(full=True)
            except pa.ArrowInvalid:
                place = f"in the column {field.name} " if field.name in told else ""
                detail = f"The data file {file_name(location)} has a text {place}that is not valid UTF-8"
                raise RefusalError(Refused(Reason.DATA_UNREADABLE, detail, code="data_unreadable")) from None


def _texts(array: Any) -> Iterator[Any]:
    """Yield the arrays of text in an array."""
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        yield array
    elif pa.types.is_struct(kind):
        for at in range(kind.num_fields):
            yield from _texts(array.field(at))
    elif pa.types.is_map(kind):
        yield from _texts(array.keys)
        yield from _texts(array.items)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _texts(array.values)
