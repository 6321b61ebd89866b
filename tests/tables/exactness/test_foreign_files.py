"""Random files as other engines write them are read as the specification says, cached or not, in both processes."""

from __future__ import annotations

import datetime as dt
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from foreign.maker import Maker
from foreign.random_files import FILTERABLE, FORMS, OPS, RandomFiles, draw_files, holds
from foreign.rows import rows_of
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.catalog.sql import SqlCatalog
from random_tables import wire_value
from whole_scan import Pipeline

Row = dict[str, Any]
NAMES = "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location) VALUES (?, ?, ?, ?)"


def operand(value: Any) -> Any:
    if isinstance(value, dt.time):
        return value.isoformat()
    return f"__float__:{value!r}" if isinstance(value, float) else wire_value(value)


def conditions(draw: Callable[[Any], Any], table: RandomFiles) -> tuple[list[Row], Callable[[Row], bool]]:
    """Draw up to two filters, as on the wire and as a test of a row."""
    usable = {column.name: column for column in table.columns if column.kind in FILTERABLE}
    usable |= {f"st.{column.name}": column for column in table.inner if column.kind in FILTERABLE}
    filters: list[Row] = []
    tests: list[tuple[str, str, Any]] = []
    for _ in range(draw(st.integers(0, 2)) if usable else 0):
        name = draw(st.sampled_from(sorted(usable)))
        op = draw(st.sampled_from([*OPS, "is null", "is not null"]))
        known = [value for row in table.rows if (value := table.value(row, name)) is not None]
        one = draw(st.sampled_from(FORMS[usable[name].kind])).values
        values = st.sampled_from(known) | one if known else one
        if op in {"is null", "is not null"}:
            value, entry = None, {}
        elif op in {"in", "not in"}:
            value = draw(st.lists(values, min_size=1, max_size=3))
            entry = {"value": [operand(each) for each in value]}
        else:
            value = draw(values)
            entry = {"value": operand(value)}
        filters.append({"column": name, "op": op, **entry})
        tests.append((name, op, value))
    return filters, lambda row: all(holds(op, table.value(row, name), value) for name, op, value in tests)


@pytest.mark.slow
@given(st.data())
@settings(max_examples=settings.default.max_examples // 4)
def test_files_of_other_engines_have_the_rows_of_the_specification(data: st.DataObject) -> None:
    """INT96, hints, unmapped columns, widened types, defaults, deletes: cold, cached, and in the past."""
    with tempfile.TemporaryDirectory() as directory:
        warehouse = Path(directory, "wh")
        warehouse.mkdir()
        SqlCatalog("strata", uri=f"sqlite:///{warehouse}/catalog.db", warehouse=str(warehouse)).close()
        table = draw_files(data.draw, Maker(warehouse / "db" / "t"))
        with sqlite3.connect(warehouse / "catalog.db") as catalog:
            catalog.execute(NAMES, ("strata", "db", "t", table.maker.write()))
        mine = Pipeline(warehouse, Path(directory, "cache"))
        for _ in range(3):
            filters, keeps = conditions(data.draw, table)
            names = ["id", "st", *(column.name for column in table.columns)]
            columns = data.draw(st.none() | st.lists(st.sampled_from(names), min_size=1, unique=True))
            snapshot = data.draw(st.none() | st.sampled_from(sorted(table.past)))
            params: Row = {"columns": columns, "filters": filters}
            if snapshot is not None:
                params["snapshot_id"] = snapshot
            rows = table.rows if snapshot is None else table.past[snapshot]
            right = [{name: row[name] for name in columns or names} for row in rows if keeps(row)]
            for _ in range(2):
                found = mine.scan(params)
                assert (columns or names) == found.column_names
                assert Counter(map(repr, right)) == Counter(map(repr, rows_of(found)))
