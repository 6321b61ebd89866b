"""Convert arrays of a file's columns to the table's columns, matched by field id at every level.

The rules are the Iceberg specification's ("Column Projection", "Schema Evolution"): a field absent from the
file has its partition value, default or null; types widen; names and order are the table's. A column that
already has the Arrow type of the table is not copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.exceptions import ResolveError
from pyiceberg.schema import promote
from pyiceberg.types import (
    DateType,
    DecimalType,
    IcebergType,
    ListType,
    MapType,
    NestedField,
    PrimitiveType,
    StructType,
    TimestampNanoType,
    TimestampType,
    TimestamptzNanoType,
    TimestamptzType,
    UnknownType,
)

from strata.tables.scan.constants import absent_struct_is_null, absent_value, constant_array


class ColumnTypeError(ResolveError):
    """A column of a file that cannot be read as the table's; the message names it and both types."""


_DATES_BECOME = (TimestampType, TimestampNanoType)
"""Types that a date may be promoted to, of version 3 (Iceberg specification, "Schema Evolution")."""


@attrs.frozen
class Rows:
    """Length and constant values of the arrays to make.

    Attributes:
        length: Number of values.
        partition_values: Identity-partition values of the file by field id.
    """

    length: int
    partition_values: Mapping[int, Any] = attrs.field(factory=dict)


def project_field(
    array: Any | None,
    have: NestedField | None,
    want: NestedField,
    kind: Any,
    rows: Rows,
) -> Any:
    """Return the values of the field ``want`` as an array of the Arrow type ``kind``.

    Args:
        array: The file's array; ``None`` together with ``have`` if the file lacks the field.
        have: The field in the file's schema.
        want: The field in the table's schema.
        kind: Arrow type of the result.
        rows: Number of values, and the values of absent fields.

    Raises:
        ColumnTypeError: If the file's type cannot be read as the table's, or the file lacks a required field.
    """
    if array is None or have is None:
        if isinstance(want.field_type, StructType):
            return _absent_struct(want, want.field_type, kind, rows)
        value = absent_value(want, rows.partition_values)
        if value is None and want.required:
            raise ColumnTypeError(f"it lacks the required column {want.name!r}")
        return constant_array(want.field_type, value, rows.length, kind)
    try:
        return _project(array, have.field_type, want.field_type, kind, rows.partition_values)
    except ColumnTypeError:
        raise
    except ResolveError as cause:
        why = f"its column {want.name!r} is {have.field_type}, the table's {want.field_type}: {cause}"
        raise ColumnTypeError(why) from cause


def _absent_struct(want: NestedField, struct: StructType, kind: Any, rows: Rows) -> Any:
    if not absent_struct_is_null(want, rows.partition_values):
        children = [
            project_field(None, None, field, kind.field(index).type, rows)
            for index, field in enumerate(struct.fields)
        ]
        return _struct_of(children, kind, rows.length, None)
    if want.required:
        raise ColumnTypeError(f"it lacks the required column {want.name!r}")
    return pa.nulls(rows.length, type=kind)


def same_layout(have: IcebergType, want: IcebergType) -> bool:
    """Test whether two types have equal field ids and types in the same order: no rebuild needed."""
    match have, want:
        case StructType(), StructType():
            return len(have.fields) == len(want.fields) and all(
                a.field_id == b.field_id and same_layout(a.field_type, b.field_type)
                for a, b in zip(have.fields, want.fields, strict=True)
            )
        case ListType(), ListType():
            return have.element_id == want.element_id and same_layout(have.element_type, want.element_type)
        case MapType(), MapType():
            return (
                have.key_id == want.key_id
                and have.value_id == want.value_id
                and same_layout(have.key_type, want.key_type)
                and same_layout(have.value_type, want.value_type)
            )
    return isinstance(have, PrimitiveType) and have == want


def _project(array: Any, have: IcebergType, want: IcebergType, kind: Any, values: Mapping[int, Any]) -> Any:
    if array.type.equals(kind) and same_layout(have, want):
        return array
    if isinstance(have, UnknownType):
        return pa.nulls(len(array), kind)
    match have, want:
        case StructType(), StructType():
            return _struct(array, have, want, kind, values)
        case ListType(), ListType():
            return _list(array, have, want, kind, values)
        case MapType(), MapType():
            return _map(array, have, want, kind, values)
        case PrimitiveType(), PrimitiveType():
            return _primitive(array, have, want, kind)
    raise ResolveError("none is read as the other")


def _struct(array: Any, have: StructType, want: StructType, kind: Any, values: Mapping[int, Any]) -> Any:
    position = {field.field_id: index for index, field in enumerate(have.fields)}
    children = []
    for index, field in enumerate(want.fields):
        at = position.get(field.field_id)
        child = None if at is None else array.field(at)
        old = None if at is None else have.fields[at]
        children.append(project_field(child, old, field, kind.field(index).type, Rows(len(array), values)))
    return _struct_of(children, kind, len(array), array.is_null() if array.null_count else None)


def _struct_of(children: list[Any], kind: Any, length: int, mask: Any | None) -> Any:
    if not children:
        bitmap = None if mask is None else pc.invert(mask).buffers()[1]
        return pa.Array.from_buffers(kind, length, [bitmap])
    fields = [kind.field(index) for index in range(kind.num_fields)]
    return pa.StructArray.from_arrays(children, fields=fields, mask=mask)


def _list(array: Any, have: ListType, want: ListType, kind: Any, values: Mapping[int, Any]) -> Any:
    if have.element_id < 0:
        raise ResolveError("its elements have no field id, in the file or in the table's name mapping")
    if pa.types.is_fixed_size_list(array.type):
        array = array.cast(pa.large_list(array.type.value_field))
    array = _unsliced(array)
    child = array.values
    element = project_field(
        child,
        have.element_field,
        want.element_field,
        kind.value_type,
        Rows(len(child), values),
    )
    # Built from buffers: from_arrays does not keep null and empty lists apart.
    offsets = array.offsets.cast(pa.int64())
    return pa.Array.from_buffers(
        kind, len(array), [_validity(array), offsets.buffers()[1]], array.null_count, children=[element]
    )


def _map(array: Any, have: MapType, want: MapType, kind: Any, values: Mapping[int, Any]) -> Any:
    if min(have.key_id, have.value_id) < 0:
        raise ResolveError("its entries have no field ids, in the file or in the table's name mapping")
    array = _unsliced(array)
    keys = project_field(
        array.keys,
        have.key_field,
        want.key_field,
        kind.key_type,
        Rows(len(array.keys), values),
    )
    items = project_field(
        array.items,
        have.value_field,
        want.value_field,
        kind.item_type,
        Rows(len(array.items), values),
    )
    entries = pa.StructArray.from_arrays([keys, items], fields=[kind.key_field, kind.item_field])
    return pa.Array.from_buffers(
        kind, len(array), [_validity(array), array.offsets.buffers()[1]], array.null_count, children=[entries]
    )


def _primitive(array: Any, have: PrimitiveType, want: PrimitiveType, kind: Any) -> Any:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if array.type.equals(kind):
        return array
    if pa.types.is_timestamp(array.type) and isinstance(want, (TimestampType, TimestamptzType)):
        if have != want and {type(have), type(want)} != {TimestampType, TimestamptzType}:
            raise ResolveError("a timestamp of another precision")
        # Whatever zone Arrow names, the values are UTC's.
        fine = array.type.unit == "ns" and not isinstance(want, (TimestampNanoType, TimestamptzNanoType))
        return (_microseconds(array) if fine else array).cast(kind)
    if isinstance(have, DecimalType) and isinstance(want, DecimalType) and have.scale != want.scale:
        raise ResolveError("a decimal of another scale")
    if have != want and not (isinstance(have, DateType) and isinstance(want, _DATES_BECOME)):
        promote(have, want)
    return array.cast(kind)


def _microseconds(array: Any) -> Any:
    """Cut nanoseconds to the microseconds of tables before version 3, towards the past as INT96's are."""
    nanos = array.cast(pa.int64())
    micros = pc.divide(nanos, 1000)  # towards zero
    later = pc.greater(pc.multiply(micros, 1000), nanos)
    return pc.subtract(micros, later.cast(pa.int64()))


def _unsliced(array: Any) -> Any:
    return pa.concat_arrays([array]) if array.offset else array


def _validity(array: Any) -> Any | None:
    return array.buffers()[0] if array.null_count else None
