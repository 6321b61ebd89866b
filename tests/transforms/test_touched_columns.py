"""Which columns a query can touch: never too few, and all where that is not certain."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

from strata.transforms.sql_columns import touched_columns

SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("value", pa.float64()),
        ("name", pa.large_string()),
        ("home", pa.struct([("city", pa.string()), ("zip", pa.int32())])),
        ("tags", pa.list_(pa.string())),
    ]
)

SURE = {
    "SELECT id FROM input0": "id",
    "SELECT count(*) FROM input0": "id",
    'SELECT "ID" FROM input0 ORDER BY ALL': "id",
    "SELECT home.city FROM input0": "home",
    "SELECT input0.home.zip, main.input0.id FROM input0": "id home",
    "SELECT id AS name FROM input0 ORDER BY name": "id name",
    "SELECT a.id FROM input0 a JOIN events b USING (value)": "id value",
    "WITH c AS (SELECT id, value FROM input0) SELECT value FROM c": "id value",
    "SELECT id FROM input0 UNION BY NAME SELECT name FROM input1": "id name",
    "SELECT id FROM input0 a WHERE EXISTS (SELECT 1 FROM input1 b WHERE b.value = a.value)": "id value",
    "SELECT list_transform(tags, lambda x: upper(x)) AS t FROM input0": "tags",
    "SELECT unnest(home) FROM input0": "home",
    "SELECT struct_pack(name := id) AS s FROM input0": "id name",
    "SELECT sum(id) FILTER (value > 1) AS s FROM input0 GROUP BY CUBE (id)": "id value",
    "SELECT tags.list_extract(1) AS t FROM input0": "tags",
}
"""Queries of which it is certain, and the columns that each input needs."""

ALL = [
    "SELECT * FROM input0",
    "FROM input0",
    "SELECT id FROM (SELECT * FROM input0)",
    "SELECT * EXCLUDE (name) FROM input0",
    "SELECT COLUMNS('i.*') FROM input0",
    "SELECT id FROM input0 ORDER BY COLUMNS('v.*')",
    "SELECT input0 FROM input0",
    "SELECT main.input0 FROM input0",
    "SELECT t FROM events t",
    "SELECT to_json(t) AS j FROM input0 AS t",
    "SELECT count(c) AS n FROM (SELECT id FROM input0) c",
    "SELECT home.* FROM input0",
    "SELECT id FROM input0 NATURAL JOIN input1",
    "SELECT #1 FROM input0",
    "SELECT x FROM input0 AS t(x, y)",
    "SELECT id FROM query('SELECT * FROM input0')",
    "SELECT id FROM query_table('input0')",
    "DESCRIBE input0",
    "SUMMARIZE input0",
    "SELECT id FROM input0 USING SAMPLE 3",
    "SELECT value FROM input0 UNPIVOT (value FOR k IN (id))",
    "SELECT nosuch FROM input0",
    "SELEC 1",
    "SELECT id FROM input0; SELECT 1",
]
"""Queries that may touch any column, and those that are wrong: these are told with all columns."""


def touched(sql: str, *schemas: pa.Schema) -> list[list[str]] | None:
    with duckdb.connect(config={"threads": 1}) as connection:
        return touched_columns(connection, sql, schemas, ["events", "more"][: len(schemas)])


@pytest.mark.parametrize("sql", SURE)
def test_only_what_the_query_names_is_read(sql: str) -> None:
    """By any name in any place, without regard to case; of each input at least one column."""
    kept = SURE[sql].split()
    assert [kept, kept] == touched(sql, SCHEMA, SCHEMA)


@pytest.mark.parametrize("sql", ALL)
def test_all_is_read_where_it_is_not_certain(sql: str) -> None:
    """Stars, whole rows, positions, generated queries, samples, and errors."""
    assert touched(sql, SCHEMA, SCHEMA) is None


def test_names_that_differ_in_case_only_are_not_told_apart() -> None:
    """DuckDB renames the second of such columns, which depends on the first."""
    assert touched("SELECT a FROM input0", pa.schema([("a", pa.int64()), ("A", pa.int64())])) is None
    assert touched("SELECT 1 AS one FROM input0", pa.schema([])) is None
