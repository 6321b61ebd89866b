"""The index of a schema finds what a search through the schema finds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.schema import Schema, assign_fresh_schema_ids, prune_columns
from pyiceberg.types import ListType, LongType, MapType, NestedField, StructType

from strata.tables.scan.cell_grants import leaf_ids
from strata.tables.scan.nested import struct_path
from strata.tables.scan.schema_index import index_of


def field(kind: Any, name: str = "a") -> NestedField:
    return NestedField(1, name, kind, required=False)


kinds = st.recursive(
    st.just(LongType()),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(
            lambda all_: StructType(*(field(k, f"f{n}") for n, k in enumerate(all_)))
        ),
        inner.map(lambda kind: ListType(1, kind, element_required=False)),
        st.tuples(inner, inner).map(lambda two: MapType(1, two[0], 2, two[1], value_required=False)),
    ),
    max_leaves=8,
)
schemas = st.lists(kinds, min_size=1, max_size=4).map(
    lambda all_: assign_fresh_schema_ids(Schema(*(field(kind, f"c{n}") for n, kind in enumerate(all_))))
)


def leaves_by_search(column: NestedField, field_id: int) -> set[int]:
    if column.field_id != field_id and isinstance(column.field_type, StructType):
        for child in column.field_type.fields:
            if field_id in Schema(child).field_ids:
                return leaves_by_search(child, field_id)
    return leaf_ids(column)


@given(schemas)
def test_the_index_finds_what_a_search_finds(schema: Schema) -> None:
    """Column, inner fields, leaves and path of every field equal those found by searching the schema."""
    index = index_of(schema)
    assert {leaf for column in schema.fields for leaf in leaf_ids(column)} == index.leaves
    for field_id in schema.field_ids:
        (column,) = [one for one in schema.fields if field_id in Schema(one).field_ids]
        assert column is index.column_of(field_id)
        assert set(Schema(schema.find_field(field_id)).field_ids) == index.inside(field_id)
        assert leaves_by_search(column, field_id) == index.leaves_of(field_id)
        assert struct_path(schema.fields, field_id) == index.path(field_id)


def test_a_field_that_the_schema_has_not_is_an_error_and_has_no_path() -> None:
    """A missing field is never taken for a leaf of its own."""
    index = index_of(Schema(field(LongType())))
    assert index.path(7) is None
    for ask in (index.column_of, index.inside, index.leaves_of):
        with pytest.raises(LookupError):
            ask(7)


@given(schemas, st.data())
def test_the_arrow_fields_are_those_of_pyiceberg(schema: Schema, data: st.DataObject) -> None:
    """Of whole and of pruned columns, in any order, asked for again and again."""
    index = index_of(schema)
    for _ in range(3):
        chosen = data.draw(st.sets(st.sampled_from(sorted(index.leaves)), min_size=1))
        columns = data.draw(st.permutations(prune_columns(schema, chosen, select_full_types=True).fields))
        # Columns that are whole are the schema's own objects, as where a scan is resolved.
        wanted = [index.column_of(one.field_id) for one in columns]
        wanted = [own if own == one else one for own, one in zip(wanted, columns, strict=True)]
        expected = schema_to_pyarrow(Schema(*wanted), include_field_ids=False)
        assert [one.field for one in index.arrow(wanted)] == list(expected)
