"""Constant values of columns that are absent from a data file.

The Iceberg specification ("Column Projection") fills such a column with its identity-partition value, which
may be null, else its initial default, else null. A field of a null struct is null, whatever its default.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.types import DateType, FloatType, IcebergType, NestedField, PrimitiveType, StructType

from strata.tables.scan.literals import narrow, storage_type, to_literal


def absent_value(field: NestedField, partition_values: Mapping[int, Any]) -> Any:
    """Return the value, in normal form, of ``field``, no struct, in a file without it; ``None`` is null."""
    value = partition_values.get(field.field_id, field.initial_default)
    return None if value is None else normal_constant(field.field_type, value)


def absent_struct_is_null(field: NestedField, partition_values: Mapping[int, Any]) -> bool:
    """Test whether a struct is null in a file without it: no partition value of the file is in it."""
    return not any(partition_values.get(field_id) is not None for field_id in Schema(field).field_ids)


def absent_leaf_value(down: Sequence[NestedField], partition_values: Mapping[int, Any]) -> Any:
    """Return the value, in normal form, of a field in a file without the column it is in; ``None`` is null.

    A struct that is not null is ``{}``.

    Args:
        down: The fields from the top-level column down to the field.
        partition_values: Identity-partition values of the file by field id.
    """
    structs = [field for field in down if isinstance(field.field_type, StructType)]
    if any(absent_struct_is_null(field, partition_values) for field in structs):
        return None
    return {} if down[-1] in structs else absent_value(down[-1], partition_values)


def normal_constant(kind: IcebergType, value: Any) -> Any:
    """Return a default or partition value in the normal form of literals (see :mod:`.literals`)."""
    if isinstance(value, uuid.UUID):
        return value.bytes
    if isinstance(kind, FloatType) and isinstance(value, (int, float)):
        return narrow(value)
    if isinstance(value, (dt.date, dt.time)):
        if isinstance(value, dt.datetime) and isinstance(kind, DateType):
            value = value.date()
        return to_literal(kind, value)
    return value


def constant_array(kind: IcebergType, value: Any, length: int, arrow_type: Any) -> Any:
    """Return an array of ``arrow_type`` with ``length`` times ``value`` (normal form; ``None``: nulls)."""
    if value is None or not isinstance(kind, PrimitiveType):
        return pa.nulls(length, type=arrow_type)
    array = pa.repeat(pa.scalar(value, type=storage_type(kind)), length)
    return array if array.type.equals(arrow_type) else array.cast(arrow_type)
