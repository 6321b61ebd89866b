"""Tables as other engines write them are read right, or refused with a sentence that says why."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from foreign import TABLES
from foreign.cases import Answer, Case, Refusal
from foreign.maker import Maker
from foreign.page import page
from foreign.rows import rows_of

from strata.outcomes import Reason, Refused

REASONS = {False: Reason.UNSUPPORTED, True: Reason.DATA_UNREADABLE}
INSERT = "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location) VALUES (?, ?, ?, ?)"


def check(found: pa.Table | Refused, right: Answer) -> None:
    if isinstance(right, Refusal):
        assert isinstance(found, Refused), found.to_pylist()
        assert REASONS[right.damaged] is found.reason, found
        assert right.sentence == found.detail
    else:
        assert not isinstance(found, Refused), found
        assert Counter(map(repr, right)) == Counter(map(repr, rows_of(found)))


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory, warehouse_class: Any) -> Iterator[Any]:
    """A warehouse of all tables of this module."""
    one = warehouse_class(tmp_path_factory.mktemp("foreign") / "wh")
    yield one
    one.close()


@pytest.mark.parametrize("case", TABLES.values(), ids=TABLES)
def test_a_table_of_another_engine_is_read_right_or_refused(tables: Any, case: Case) -> None:
    """Every row and value is the specification's, also with filters and in the past; a refusal says why."""
    maker = Maker(tables.directory / "db" / case.name)
    right = case.make(maker)
    location = maker.location or maker.write()
    with sqlite3.connect(tables.directory / "catalog.db") as catalog:
        catalog.execute(INSERT, ("strata", "db", case.name, location))
    check(tables.try_scan({}, case.name), right.rows)
    for params, answer in right.more:
        check(tables.try_scan(params, case.name), answer)


def test_the_page_lists_every_table_with_its_answer() -> None:
    """The page equals the output of ``foreign.page``, and has 60 tables or more of which public test data is known."""
    path = Path(__file__).parents[3] / "docs" / "reference" / "tables-of-other-engines.md"
    assert page() == path.read_text()
    public = (
        "impala:",
        "iceberg:",
        "iceberg-rust:",
        "iceberg-go:",
        "duckdb-iceberg:",
        "trino:",
        "parquet-testing:",
    )
    assert 60 <= sum(case.known.startswith(public) for case in TABLES.values())
