"""Constant values of columns that are absent from a data file.

The Iceberg specification ("Column Projection") fills such a column with its identity-partition value, else
its initial default, else null.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from pyiceberg.types import DateType, IcebergType, NestedField, PrimitiveType

from strata.tables.scan.literals import storage_type, to_literal


def absent_value(field: NestedField, partition_values: Mapping[int, Any]) -> Any:
    """Return the value, in normal form, of ``field`` in a file without it; ``None`` is null."""
    value = partition_values.get(field.field_id)
    if value is None:
        value = field.initial_default
    return None if value is None else normal_constant(field.field_type, value)


def normal_constant(kind: IcebergType, value: Any) -> Any:
    """Return a default or partition value in the normal form of literals (see :mod:`.literals`)."""
    if isinstance(value, uuid.UUID):
        return value.bytes
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
