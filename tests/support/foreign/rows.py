"""Rows of a result in Python, so that they can be compared with right values."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa


def plain(values: pa.Array) -> list[Any]:
    """Return the values in Python, times in UTC, those with nanoseconds as a time and what is below a microsecond."""
    if pa.types.is_timestamp(values.type) and values.type.unit == "ns":
        nanos = values.cast(pa.int64()).to_pylist()
        start = dt.datetime(1970, 1, 1)  # noqa: DTZ001
        return [
            None if n is None else (start + dt.timedelta(microseconds=n // 1000), n % 1000) for n in nanos
        ]
    return [_in_utc(one) for one in values.to_pylist()]


def _in_utc(value: Any) -> Any:
    match value:
        case dt.datetime() if value.tzinfo:
            return value.astimezone(dt.UTC)
        case dict():
            return {key: _in_utc(one) for key, one in value.items()}
        case list():
            return [_in_utc(one) for one in value]
    return value


def rows_of(found: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of a table."""
    if not found.column_names:
        return [{}] * found.num_rows
    if not found.num_rows:  # without chunks, an array of an extension type cannot be made
        return []
    columns = {name: plain(found[name].combine_chunks()) for name in found.column_names}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
