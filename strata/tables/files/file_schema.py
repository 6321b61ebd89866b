"""Read the columns of a Parquet file as Iceberg fields, from the Arrow schema of its footer.

A column has the field id in the file, else the one that the table's name mapping gives its name (Iceberg
specification, "Column Projection"). A column, or a field of one, that neither knows is not the table's: it
gets an id that no table has, and is passed over.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampNanoType,
    TimestampType,
    TimestamptzNanoType,
    TimestamptzType,
    TimeType,
    UnknownType,
    UUIDType,
)

NAME_MAPPING = "schema.name-mapping.default"
"""Table property that gives field ids to the columns of files without (Iceberg, "Column Projection")."""

_FIELD_ID = b"PARQUET:field_id"
_FIRST_VERSION_WITH_NANOS = 3
_UTC = frozenset({None, "UTC", "+00:00", "Etc/UTC", "Z"})

_Names = Mapping[str, Mapping[str, Any]]


class UnreadableType(IcebergType):
    """A type of a file's column that no Iceberg type is read from.

    Attributes:
        name: The Arrow type.
        leaves: Number of Parquet columns.
    """

    name: str
    leaves: int

    def __str__(self) -> str:
        return self.name


class FileSchemaError(ValueError):
    """The columns of a file cannot be matched with the table's; the message says why, after a colon."""


def file_fields(
    schema: pa.Schema, mapping: str | None, format_version: int
) -> tuple[tuple[NestedField, ...], frozenset[int]]:
    """Return the columns of a file as fields, and the table's ids among those of all fields.

    Args:
        schema: The file's Arrow schema.
        mapping: The table's name mapping in JSON, for columns without ids; ``None``: it has none.
        format_version: The table's; nanoseconds are read as microseconds before version 3.

    Raises:
        FileSchemaError: If no column has an id and there is no mapping, a column has none and the mapping
            cannot be parsed, or two fields have one id.
    """
    ids = [_own_id(field) for field in _all_fields(schema)]
    missing = None in ids
    if missing and not mapping and set(ids) == {None}:
        raise FileSchemaError(f"the file has no field ids, and the table no property {NAME_MAPPING}")
    names = _parsed(mapping) if missing and mapping else {}
    reader = _Reader({one for one in ids if one is not None}, format_version)
    fields = tuple(reader.field(field, field.name, names) for field in schema)
    known = frozenset(reader.known)
    if len(known) != len(reader.known):
        raise FileSchemaError("two of them have one field id")
    return fields, known


def is_plain(schema: pa.Schema) -> bool:
    """Test whether every type is one that Parquet's own types are read as, so that no hint matters."""
    return all(_is_plain(field.type) for field in schema)


def leaf_ranges(schema: pa.Schema) -> tuple[range, ...]:
    """Number the Parquet leaf columns under each top-level column (leaves are stored depth first).

    Columns are read by these numbers, not by name: ``a.b`` may be a column or a field of ``a``, and names may
    repeat.
    """
    ranges = []
    start = 0
    for field in schema:
        stop = start + count_leaves(field.type)
        ranges.append(range(start, stop))
        start = stop
    return tuple(ranges)


class _Reader:
    """Reads fields and gives ids: the file's, the name mapping's, or negative ones, which no table has.

    Args:
        in_file: The ids in the file, which the name mapping cannot give again.
        format_version: The table's.
    """

    def __init__(self, in_file: set[int], format_version: int) -> None:
        self._in_file = in_file
        self._nanos = format_version >= _FIRST_VERSION_WITH_NANOS
        self._unknown = itertools.count(-1, -1)
        self.known: list[int] = []

    def field(self, field: pa.Field, name: str, names: _Names) -> NestedField:
        mapped = names.get(name, {})
        field_id = _own_id(field)
        if field_id is None:
            given = mapped.get("field-id")
            field_id = given if isinstance(given, int) and given not in self._in_file else None
        if field_id is None:
            field_id = next(self._unknown)
        else:
            self.known.append(field_id)
        kind = self._kind(field.type, _names(mapped.get("fields")))
        return NestedField(field_id, field.name, kind, required=not field.nullable)

    def _kind(self, kind: Any, names: _Names) -> IcebergType:
        if pa.types.is_struct(kind):
            return StructType(*(self.field(child, child.name, names) for child in kind))
        if pa.types.is_map(kind):
            key = self.field(kind.key_field, "key", names)
            value = self.field(kind.item_field, "value", names)
            return MapType(
                key.field_id, key.field_type, value.field_id, value.field_type, value_required=value.required
            )
        if _is_list(kind):
            element = self.field(kind.value_field, "element", names)
            return ListType(element.field_id, element.field_type, element_required=element.required)
        return _primitive(kind, nanos=self._nanos)


def _primitive(kind: Any, *, nanos: bool) -> IcebergType:
    """Return the Iceberg type of a leaf ("Parquet", "Data Type Mappings"); integers by their width."""
    simple = _PRIMITIVES.get(kind.id)
    if simple is not None:
        return simple
    if pa.types.is_dictionary(kind):
        return _primitive(kind.value_type, nanos=nanos)
    if pa.types.is_decimal128(kind):
        return DecimalType(kind.precision, kind.scale)
    if pa.types.is_fixed_size_binary(kind):
        return FixedType(kind.byte_width)
    if pa.types.is_timestamp(kind):
        fine = nanos and kind.unit == "ns"
        if kind.tz is None:
            return TimestampNanoType() if fine else TimestampType()
        return TimestamptzNanoType() if fine else TimestamptzType()
    if isinstance(kind, pa.UuidType):
        return UUIDType()
    if isinstance(kind, pa.JsonType):
        return StringType()
    if kind.equals(pa.time64("us")):
        return TimeType()
    return UnreadableType(name=str(kind), leaves=count_leaves(kind))


_PRIMITIVES: dict[int, IcebergType] = {
    kind.id: iceberg
    for iceberg, kinds in (
        (UnknownType(), [pa.null()]),
        (BooleanType(), [pa.bool_()]),
        (IntegerType(), [pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint16(), pa.uint32()]),
        (LongType(), [pa.int64(), pa.uint64()]),
        (FloatType(), [pa.float16(), pa.float32()]),
        (DoubleType(), [pa.float64()]),
        (DateType(), [pa.date32()]),
        (StringType(), [pa.string(), pa.large_string()]),
        (BinaryType(), [pa.binary(), pa.large_binary()]),
    )
    for kind in kinds
}


def _own_id(field: pa.Field) -> int | None:
    text = (field.metadata or {}).get(_FIELD_ID)
    return None if text is None or int(text) < 0 else int(text)


def _all_fields(fields: Iterable[pa.Field]) -> Iterator[pa.Field]:
    for field in fields:
        yield field
        yield from _all_fields(_children(field.type))


def _children(kind: Any) -> list[pa.Field]:
    if pa.types.is_map(kind):
        return [kind.key_field, kind.item_field]
    if pa.types.is_struct(kind) or _is_list(kind):
        return [kind.field(index) for index in range(kind.num_fields)]
    return []


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_plain(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_plain(kind.value_type)
    children = _children(kind)
    if children:
        return all(_is_plain(child.type) for child in children)
    if pa.types.is_timestamp(kind):
        return kind.tz in _UTC
    return not isinstance(kind, pa.JsonType) and not isinstance(_primitive(kind, nanos=True), UnreadableType)


def count_leaves(kind: Any) -> int:
    """Return the number of Parquet leaf columns of an Arrow type."""
    if isinstance(kind, pa.BaseExtensionType):
        return count_leaves(kind.storage_type)
    return sum(count_leaves(child.type) for child in _children(kind)) or 1


def _parsed(mapping: str) -> _Names:
    try:
        return _names(json.loads(mapping))
    except (ValueError, TypeError, AttributeError) as cause:
        raise FileSchemaError(f"the table's property {NAME_MAPPING} is no name mapping") from cause


def _names(fields: Iterable[Mapping[str, Any]] | None) -> _Names:
    return {name: field for field in fields or () for name in field["names"]}
