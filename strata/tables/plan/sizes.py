"""Identities and Arrow sizes of columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.types import NestedField, PrimitiveType, StructType

from strata.tables.scan.schema_index import Columns

FieldKey = tuple[int, str]
"""Identity of a cached column: field id, full Iceberg type with nested ids, names and requiredness, and the
defaults that files without the column, or a field of it, are filled with."""

_OFFSET_BYTES = 8
# Arrow bytes of string and nested columns per byte of Parquet: undoes dictionaries and compression.
_INFLATION = 3
_BITS = 8

VALUE_BYTES = 64
"""Assumed bytes of a value of a string or nested column whose size in the files is unknown."""


def field_keys(schema: Columns) -> tuple[FieldKey, ...]:
    """Return the identities of the top-level columns, in order."""
    return tuple((field.field_id, f"{field.field_type}{_defaults(field)}") for field in schema.fields)


def _defaults(field: NestedField) -> str:
    found = "" if field.initial_default is None else f" = {field.initial_default!r}"
    if isinstance(field.field_type, StructType):
        inner = ((child.field_id, _defaults(child)) for child in field.field_type.fields)
        found += "".join(f" {field_id}{default}" for field_id, default in inner if default)
    return found


def fixed_bits(kind: Any) -> int | None:
    """Return the bits of one value in Arrow's data buffer; ``None`` if values differ in width."""
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_null(kind):
        return 0
    if pa.types.is_primitive(kind) or pa.types.is_fixed_size_binary(kind) or pa.types.is_decimal(kind):
        return int(kind.bit_width)
    return None


def leaves_of(schema: pa.Schema) -> int:
    """Return the number of columns with values, nested ones included."""
    return sum(_columns_in(field.type) for field in schema)


def _columns_in(kind: Any) -> int:
    if not pa.types.is_nested(kind):
        return 1
    return sum(_columns_in(kind.field(at).type) for at in range(kind.num_fields))


def least_bytes(schema: pa.Schema, rows: int) -> int:
    """Return a lower bound of the Arrow bytes of ``rows`` rows: data and offset buffers without validity."""
    bits = 0
    for field in schema:
        own = fixed_bits(field.type)
        bits += _OFFSET_BYTES * _BITS // 2 if own is None and _has_offsets(field.type) else own or 0
    return rows * bits // _BITS


def estimate_bytes(schema: Columns, whole: Schema, rows: int, file_bytes: int | None) -> int:
    """Estimate the Arrow bytes of ``rows`` rows of ``schema``.

    Args:
        schema: The columns read.
        whole: All columns of the files.
        rows: Rows read.
        file_bytes: Bytes of the Parquet files; None: unknown, so that :data:`VALUE_BYTES` is assumed.
    """
    leaves, all_leaves = _leaves(schema.fields), _leaves(whole.fields)
    fixed = sum(_width(field) or 0 for field in leaves)
    variable = sum(1 for field in leaves if _width(field) is None)
    least = rows * (fixed + _OFFSET_BYTES * variable)
    if file_bytes is None:
        return least + rows * VALUE_BYTES * variable
    # file_bytes include the fixed-width columns, so this overestimates.
    share = variable / max(1, len(all_leaves))
    return int(least + file_bytes * _INFLATION * share)


def _has_offsets(kind: Any) -> bool:
    return bool(
        pa.types.is_large_string(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_map(kind)
    )


def _leaves(fields: Iterable[NestedField]) -> list[NestedField]:
    found: list[NestedField] = []
    for field in fields:
        if isinstance(field.field_type, StructType):
            found.extend(_leaves(field.field_type.fields))
        else:
            found.append(field)
    return found


def _width(field: NestedField) -> int | None:
    if not isinstance(field.field_type, PrimitiveType):
        return None
    return _WIDTHS.get(type(field.field_type).__name__)


_WIDTHS = {
    "BooleanType": 1,
    "IntegerType": 4,
    "FloatType": 4,
    "DateType": 4,
    "LongType": 8,
    "DoubleType": 8,
    "TimeType": 8,
    "TimestampType": 8,
    "TimestamptzType": 8,
    "TimestampNanoType": 8,
    "TimestamptzNanoType": 8,
    "DecimalType": 16,
    "UUIDType": 16,
}
