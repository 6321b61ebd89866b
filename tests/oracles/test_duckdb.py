"""Tables of the suite's generators are read by DuckDB's Iceberg extension as by Strata, but for a list of known differences."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from duckdb_differences import ENDS, EQUAL, KNOWN, OTHER_ROWS, REFUSES
from duckdb_iceberg import CRASHED, Failure
from foreign import TABLES
from foreign.cases import Case, Refusal
from foreign.maker import Maker
from foreign.rows import rows_of
from hypothesis import given, settings
from hypothesis import strategies as st
from random_tables import draw_table
from whole_scan import Pipeline


def outcome(right: Any, found: pa.Table | Failure) -> str:
    if isinstance(found, Failure):
        if found.sentence == CRASHED:
            return ENDS
        return EQUAL if isinstance(right, Refusal) else REFUSES
    if isinstance(right, Refusal):
        return OTHER_ROWS
    return EQUAL if Counter(map(repr, right)) == Counter(map(repr, rows_of(found))) else OTHER_ROWS


@pytest.mark.parametrize("case", TABLES.values(), ids=TABLES)
def test_a_table_of_another_engine_is_as_duckdb_reads_it(duckdb: Any, tmp_path: Path, case: Case) -> None:
    """The rows by the specification, which are Strata's, are DuckDB's; a known difference is still there."""
    maker = Maker(tmp_path / case.name)
    right = case.make(maker)
    found = duckdb.read(maker.location or maker.write())
    known = KNOWN[case.name].what if case.name in KNOWN else EQUAL
    assert known == outcome(right.rows, found), (right.rows, found)


@given(st.data())
@settings(max_examples=settings.default.max_examples // 2)
def test_a_random_table_is_as_duckdb_reads_it(duckdb: Any, data: st.DataObject) -> None:
    """Tables with a history of changed columns, partitions and deletes have the same rows."""
    with tempfile.TemporaryDirectory() as directory:
        warehouse = Path(directory, "wh")
        warehouse.mkdir()
        random = draw_table(data.draw, warehouse)
        found = duckdb.read(random.table.metadata_location)
        mine = Pipeline(warehouse, Path(directory, "cache")).scan({})
        assert isinstance(found, pa.Table), found
        assert mine.column_names == found.column_names
        assert Counter(map(repr, rows_of(mine))) == Counter(map(repr, rows_of(found)))
