"""Resolved scans are remembered by what they weigh, and a table by all that is remembered with it."""

from __future__ import annotations

import gc
import tracemalloc
import weakref

from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField, StringType, StructType

from strata.tables.caches import MOST_BYTES, Caches
from strata.tables.catalogs import loading

WIDE = Schema(*(NestedField(at + 1, f"column_{at}", LongType(), required=False) for at in range(2000)))
NARROW = Schema(
    NestedField(1, "id", LongType(), required=False), NestedField(2, "name", StringType(), required=False)
)


def above(value: object, column: str = "column_1") -> dict:
    return {"filters": [{"column": column, "op": ">", "value": value}]}


def test_scans_of_wide_tables_are_weighed_by_their_columns(warehouse):
    """A scan of 2,000 columns weighs half a megabyte at least; 256 of them were kept as if it were 4 KiB."""
    warehouse.create(WIDE)
    table = warehouse.resolve({}).table
    for value in range(20):
        scan = warehouse.resolve(above(value))
        assert scan.nbytes >= 2000 * 380
    assert table is scan.table
    assert table.scans.weight <= table.scans.budget
    assert len(table.scans._entries) <= table.scans.budget // (2000 * 380)


def test_a_scan_weighs_no_less_than_python_allocates_for_it(warehouse):
    """Whatever the values, nested columns and projections, the weight is at least what Python's objects take."""
    nested = StructType(*(NestedField(at + 10, f"f{at}", LongType(), required=False) for at in range(100)))
    warehouse.create(Schema(*NARROW.fields, NestedField(3, "s", nested, required=False)))
    warehouse.resolve({})
    for params in (
        {},
        above("x" * 10_000, "name"),
        {"columns": ["id"], "filters": [{"column": "id", "op": "in", "value": list(range(10_000, 20_000))}]},
        {
            "columns": ["s"],
            "filters": [{"column": "name", "op": "in", "value": [f"{at:50}" for at in range(900)]}],
        },
        {"columns": ["s.f1", "s.f2"], **above(1, "s.f99")},
    ):
        gc.collect()
        tracemalloc.start()
        scan = warehouse.resolve(params)
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert taken <= scan.nbytes + len(repr(scan.spec))


def test_the_scans_of_a_table_count_where_tables_do(warehouse):
    """What is remembered with a table is part of its weight, so that all tables stay within one budget."""
    warehouse.create(WIDE)
    tables = warehouse.resolve({}).table.caches.tables
    before = tables.weight
    scans = warehouse.resolve({}).table.scans
    first = scans.weight
    warehouse.resolve(above(1))
    assert tables.weight - before == scans.weight - first > 0


def test_a_table_too_heavy_for_the_budget_is_served_and_not_kept(warehouse):
    """Without memory to remember a table, every request loads it anew, and finds the same."""
    warehouse.create(NARROW)
    table = warehouse.resolve({}).table
    table.caches.tables.resize(loading._TABLE_BYTES)
    assert 0 == table.caches.tables.weight
    again = warehouse.resolve({}).table
    assert again is not table
    assert table.metadata == again.metadata


def test_a_small_budget_makes_every_cache_smaller_in_proportion():
    """All caches together never take more than the part of `memory_budget_bytes` for them."""
    caches = Caches()
    budgets = []
    for nbytes in (10 * MOST_BYTES, MOST_BYTES, MOST_BYTES // 2, 0):
        caches.resize(nbytes)
        footers = caches.footers._footers.budget + caches.footers._columns.budget
        budgets.append(footers + caches.deletes.budget + caches.manifests.budget + caches.tables.budget)
    assert [MOST_BYTES, MOST_BYTES, MOST_BYTES // 2, 0] == budgets


def test_a_table_that_leaves_the_cache_is_freed_without_garbage_collection(warehouse):
    """A table and its scans refer to each other, and megabytes of them would wait for a full collection."""
    warehouse.create(NARROW)
    table = weakref.ref(warehouse.resolve({}).table)
    caches = warehouse.resolve(above(1, "id")).table.caches
    gc.collect()
    gc.disable()
    try:
        assert table() is not None
        caches.tables.resize(0)
        assert table() is None
        uncached = weakref.ref(warehouse.resolve(above(2, "id")).table)
        assert uncached() is None
    finally:
        gc.enable()
