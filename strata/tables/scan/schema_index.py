"""Index the fields of a schema by id: their columns, their leaves, their paths and their Arrow fields.

A request names fields one by one; without an index each would search the whole schema, so that a request of a
thousand filters on a table of a thousand columns took seconds. And what depends on the schema alone is made
once for a schema, not for each request: the Arrow fields of 10,000 columns take 50 ms of Python code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import attrs
import pyarrow as pa
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.schema import Schema
from pyiceberg.types import ListType, MapType, NestedField, StructType

from strata.tables.catalogs.unsupported import has_unsupported
from strata.tables.files.file_schema import count_leaves
from strata.tables.files.lru import WeightedLru

INDEX_BYTES = 32 << 20
"""Bytes of all indexes that are kept; the least recently used one goes, and a heavier one is not kept."""

_INDEX_BYTES = 4096
_FIELD_BYTES = 1024
"""Memory of a field in an index, with its Arrow field; measured: 700 to 900."""


@attrs.frozen
class Columns:
    """Columns that a scan reads or returns; the index of a :class:`Schema` takes 20 ms for 10,000 of them.

    Attributes:
        fields: The columns, in order.
    """

    fields: tuple[NestedField, ...]


@attrs.frozen(eq=False)
class ArrowColumn:
    """A column in Arrow.

    Attributes:
        field: The field, of the types of pyiceberg's batch reader.
        leaves: Its Parquet leaf columns.
    """

    field: pa.Field
    leaves: int


@attrs.frozen(eq=False)
class SchemaIndex:
    """The fields of a schema by id, nested ones included.

    A *leaf* is a field that a projection can select and not divide: a primitive, a list, a map, or a struct
    without fields.

    Attributes:
        schema: The schema.
        leaves: Field ids of all leaves.
        simple: The columns of primitive types, by name.
        supported: Whether all columns are of types that can be read.
    """

    schema: Schema
    leaves: frozenset[int] = attrs.field(init=False)
    simple: Mapping[str, NestedField] = attrs.field(init=False)
    supported: bool = attrs.field(init=False)
    _columns: dict[int, NestedField] = attrs.field(init=False, factory=dict)
    _inside: dict[int, frozenset[int]] = attrs.field(init=False, factory=dict)
    _leaves_of: dict[int, frozenset[int]] = attrs.field(init=False, factory=dict)
    _paths: dict[int, tuple[str, ...]] = attrs.field(init=False, factory=dict)
    _arrow: dict[int, ArrowColumn] = attrs.field(init=False, factory=dict)

    @simple.default
    def _by_name(self) -> Mapping[str, NestedField]:
        return {field.name: field for field in self.schema.fields if field.field_type.is_primitive}

    @supported.default
    def _all_supported(self) -> bool:
        return not any(has_unsupported(field.field_type) for field in self.schema.fields)

    def __attrs_post_init__(self) -> None:
        leaves: set[int] = set()
        for column in self.schema.fields:
            self._add(column, column, ())
            leaves |= self.leaves_of(column.field_id)
        object.__setattr__(self, "leaves", frozenset(leaves))

    def column_of(self, field_id: int) -> NestedField:
        """Return the top-level column that is or contains a field.

        Raises:
            LookupError: If the schema has no such field.
        """
        return self._columns[field_id]

    def inside(self, field_id: int) -> frozenset[int]:
        """Return the ids of a field and of all fields inside it.

        Raises:
            LookupError: If the schema has no such field.
        """
        self._columns[field_id]
        return self._inside.get(field_id) or frozenset((field_id,))

    def leaves_of(self, field_id: int) -> frozenset[int]:
        """Return the leaves inside a field; for a field inside a list or map, that list or map.

        Raises:
            LookupError: If the schema has no such field.
        """
        self._columns[field_id]
        return self._leaves_of.get(field_id) or frozenset((field_id,))

    def path(self, field_id: int) -> tuple[str, ...] | None:
        """Return the names down to a field through structs; ``None`` if it is absent or in a list or map."""
        known = self._paths.get(field_id)
        if known is not None:
            return known
        column = self._columns.get(field_id)
        return (column.name,) if column is not None and column.field_id == field_id else None

    def names(self, most: int) -> list[tuple[int, str]]:
        """Return id and dotted name of the first columns, then of the fields of structs; ``most`` in all."""
        found = [(field.field_id, field.name) for field in self.schema.fields[:most]]
        inner = ((one, path) for one, path in self._paths.items() if len(path) > 1)
        found += [(one, ".".join(path)) for one, path in islice(inner, most - len(found))]
        return found

    @property
    def nbytes(self) -> int:
        """Bytes of memory, without the schema's."""
        return _INDEX_BYTES + _FIELD_BYTES * len(self._columns)

    def arrow(self, fields: Sequence[NestedField]) -> list[ArrowColumn]:
        """Return columns of the schema, whole or pruned, in Arrow; those of whole columns are made once.

        Raises:
            ValueError: If one has a type that cannot be read.
        """
        known = [self._arrow.get(field.field_id) if self._is_whole(field) else None for field in fields]
        new = [field for field, one in zip(fields, known, strict=True) if one is None]
        if not new:
            return [one for one in known if one is not None]
        made = dict(zip(map(id, new), map(_arrow_column, _arrow_fields(new)), strict=True))
        self._arrow.update({field.field_id: made[id(field)] for field in new if self._is_whole(field)})
        return [one or made[id(field)] for field, one in zip(fields, known, strict=True)]

    def _is_whole(self, field: NestedField) -> bool:
        return self._columns.get(field.field_id) is field

    def _add(self, field: NestedField, column: NestedField, above: tuple[str, ...]) -> None:
        """Add a field reached through structs. For a primitive column only that it exists: most are."""
        self._columns[field.field_id] = column
        kind = field.field_type
        path = (*above, field.name)
        if above:
            self._paths[field.field_id] = path
        if isinstance(kind, StructType):
            for child in kind.fields:
                self._add(child, column, path)
            children = [child.field_id for child in kind.fields]
            inside = frozenset((field.field_id,)).union(*(self.inside(child) for child in children))
            self._inside[field.field_id] = inside
            if children:
                self._leaves_of[field.field_id] = frozenset().union(*map(self.leaves_of, children))
        elif not kind.is_primitive:
            self._inside[field.field_id] = frozenset((field.field_id, *self._add_undivided(field, column)))

    def _add_undivided(self, leaf: NestedField, column: NestedField) -> set[int]:
        """Add the fields inside a list or map, whose only leaf it is; returns their ids."""
        waiting = _parts_of(leaf.field_type)
        added: set[int] = set()
        while waiting:
            field = waiting.pop()
            parts = _parts_of(field.field_type)
            added.add(field.field_id)
            self._columns[field.field_id] = column
            self._leaves_of[field.field_id] = frozenset((leaf.field_id,))
            if parts:
                self._inside[field.field_id] = frozenset(Schema(field).field_ids)
            waiting += parts
        return added


def _parts_of(kind: Any) -> list[NestedField]:
    """Return the fields directly inside a type."""
    match kind:
        case StructType():
            return list(kind.fields)
        case ListType():
            return [kind.element_field]
        case MapType():
            return [kind.key_field, kind.value_field]
    return []


def index_of(schema: Schema) -> SchemaIndex:
    """Return the index of a schema, made once for each schema object."""
    key = _Same(schema)
    known = _INDEXES.get(key)
    if known is None:
        known = SchemaIndex(schema)
        _INDEXES.put(key, known, known.nbytes)
    return known


def _arrow_fields(fields: Sequence[NestedField]) -> pa.Schema:
    return schema_to_pyarrow(Schema(*fields), include_field_ids=False)


def _arrow_column(field: pa.Field) -> ArrowColumn:
    return ArrowColumn(field, count_leaves(field.type))


@attrs.frozen(eq=False)
class _Same:
    """A schema as a key, equal to itself only: comparing two schemas takes as long as indexing one."""

    schema: Schema

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.schema is self.schema

    def __hash__(self) -> int:
        return id(self.schema)


_INDEXES: WeightedLru[_Same, SchemaIndex] = WeightedLru(INDEX_BYTES)
