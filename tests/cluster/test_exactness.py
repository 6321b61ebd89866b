"""What Daft reads itself is read exactly, and what it is asked is what it computes as DuckDB does."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from pathlib import Path

import daft
import duckdb
import pyarrow as pa
import pytest
from foreign import TABLES
from foreign.cases import Case, Refusal
from foreign.maker import Maker
from foreign.rows import rows_of
from pyiceberg.table import StaticTable

from strata.executor.cluster.sql_subset import SubsetError, rewrite
from strata.executor.cluster.tables import NotExactError, open_exact

ACCEPTED: list[str] = []


@pytest.mark.parametrize("case", TABLES.values(), ids=TABLES)
def test_a_table_of_another_engine_is_read_right_or_refused(tmp_path: Path, case: Case) -> None:
    """What is not refused has the rows that the specification says, also behind a filter and in a count."""
    maker = Maker(tmp_path / case.name)
    right = case.make(maker)
    location = maker.location or maker.write()
    try:
        current = StaticTable.from_metadata(location).metadata.current_snapshot_id
    except Exception:  # noqa: BLE001  # metadata that pyiceberg does not know
        return
    if current is None:
        return
    try:
        table = open_exact(location, current, {}, str(tmp_path))
    except NotExactError:
        return
    if isinstance(right.rows, Refusal) and right.rows.sentence.startswith("The table"):
        return  # the server never names such a table to an executor
    assert isinstance(right.rows, list), right.rows  # what is refused elsewhere is never read here
    read = daft.read_iceberg(table, snapshot_id=current)
    assert Counter(map(repr, right.rows)) == Counter(map(repr, rows_of(read.to_arrow())))
    assert len(right.rows) == read.count_rows()
    ACCEPTED.append(case.name)


def test_some_tables_are_read_by_reference() -> None:
    """Refusing every table would be exact, too."""
    assert 5 <= len(ACCEPTED), ACCEPTED


ROWS = pa.table(
    {
        "id": pa.array([1, 2, 3, None, 2**62, 2**62], pa.int64()),
        "small": pa.array([1, 2, 3, 4, 5, None], pa.int32()),
        "name": ["a", "b", None, "a", "b", "ä"],
        "price": pa.array([Decimal("1.25"), Decimal("2.50"), None] * 2, pa.decimal128(10, 2)),
        "ratio": [0.5, 1.5, None, -2.0, 4.0, 0.25],
    }
)
OTHER = pa.table({"name": ["a", "b", "z"], "weight": [1.0, 2.0, 3.0]})
QUERIES = (
    "SELECT name, count(*) AS n, sum(id) AS s FROM input0 GROUP BY name",
    "SELECT sum(small) AS s, avg(id) AS a, min(price) AS lo, max(name) AS hi FROM input0",
    "SELECT id, name FROM input0 WHERE small BETWEEN 2 AND 4 AND name IS NOT NULL",
    "SELECT id FROM input0 WHERE id NOT IN (1, 2)",
    "SELECT id FROM input0 WHERE name IN ('a', 'ä') OR price > 2",
    "SELECT id, ratio * 2 AS r FROM input0 WHERE ratio < 1.0",
    "SELECT a.id, b.weight FROM input0 AS a JOIN input1 AS b ON a.name = b.name",
    "SELECT a.id, b.weight FROM input0 AS a LEFT JOIN input1 AS b ON a.name = b.name",
    "WITH x AS (SELECT name, max(ratio) AS m FROM input0 GROUP BY name) SELECT name, m FROM x WHERE m > 0",
    "SELECT CASE WHEN small > 2 THEN 'big' ELSE 'small' END AS size, id FROM input0",
    "SELECT DISTINCT name FROM input0",
    "SELECT name FROM input0 UNION ALL SELECT name FROM input1",
    "SELECT count(DISTINCT name) AS n FROM input0",
    "SELECT sum(CAST(small AS DECIMAL(15, 2)) + CAST(2 AS DECIMAL(15, 2))) AS s FROM input0",
)
ORDERED = (
    "SELECT id, small FROM input0 ORDER BY small",
    "SELECT id, small FROM input0 ORDER BY small DESC",
    "SELECT name, id FROM input0 ORDER BY name NULLS FIRST, id DESC LIMIT 3",
)


def answers(sql: str) -> tuple[list, list]:
    """Return the rows of Daft and of DuckDB."""
    inputs = {"input0": ROWS, "input1": OTHER}
    written = rewrite(sql, {name: rows.schema for name, rows in inputs.items()})
    frames = {name: daft.from_arrow(rows) for name, rows in inputs.items()}
    found = daft.sql(written, register_globals=False, **frames).to_arrow()
    with duckdb.connect() as bare:
        bare.execute("SET default_null_order = 'nulls_last'")
        for name, rows in inputs.items():
            bare.register(name, rows)
        return [tuple(one.values()) for one in found.to_pylist()], bare.sql(sql).fetchall()


@pytest.mark.parametrize("sql", QUERIES)
def test_a_query_of_the_subset_has_duckdbs_answer(sql: str) -> None:
    """Whatever the order of its rows."""
    found, right = answers(sql)
    assert Counter(map(plain, right)) == Counter(map(plain, found))


def plain(row: tuple) -> tuple:
    """Return a row whose whole decimals are integers: DuckDB's HUGEINT is one, in Arrow it is a decimal."""
    return tuple(int(one) if isinstance(one, Decimal) and one == int(one) else one for one in row)


@pytest.mark.parametrize("sql", ORDERED)
def test_an_ordered_query_has_duckdbs_order(sql: str) -> None:
    """Nulls are last in both directions, unless the query says otherwise."""
    found, right = answers(sql)
    assert right == found


REFUSED = {
    "SELECT * FROM read_parquet('/etc/passwd')": "no input",
    "SELECT * FROM read_csv('/etc/passwd')": "ReadCSV|no input",
    "SELECT * FROM 's3://bucket/x.parquet'": "no input",
    "SELECT * FROM other.input0": "no input",
    "SELECT * FROM secrets": "no input",
    "SELECT url_download(name) FROM input0": "url_download is not run",
    "SELECT file(name) FROM input0": "not run",
    "SELECT id + 1 AS i FROM input0": "wraps around",
    "SELECT -id AS i FROM input0": "wraps around",
    "SELECT sum(id * 2) AS s FROM input0": "sum and avg take a column",
    "SELECT sum(CASE WHEN id > 1 THEN id END) AS s FROM input0": "sum and avg take a column",
    "WITH x AS (SELECT count(*) AS c FROM input0) SELECT sum(c) AS s FROM x": "cast c",
    "SELECT CAST(ratio AS BIGINT) AS i FROM input0": "cast to BIGINT",
    "SELECT TRY_CAST(name AS DOUBLE) AS i FROM input0": "TryCast",
    "SELECT id FROM input0 ORDER BY 1": "ORDER BY a number",
    "SELECT name, count(*) FROM input0 GROUP BY 1": "GROUP BY a number",
    "SELECT id % 2 AS m FROM input0": "Mod",
    "SELECT median(id) AS m FROM input0": "Median",
    "SELECT row_number() OVER () AS r FROM input0": "not run",
    "SELECT 1; SELECT 2": "one SELECT",
    "DROP TABLE input0": "one SELECT",
    "SELECT id FROM input0 TABLESAMPLE 10%": "ample",
    "SELEC": "one SELECT|Invalid|Expected",
}


@pytest.mark.parametrize("sql", REFUSED)
def test_what_is_outside_of_the_subset_is_refused_by_name(sql: str) -> None:
    """Functions that read files, and what the engines compute differently."""
    with pytest.raises(SubsetError, match=REFUSED[sql]):
        rewrite(sql, {"input0": ROWS.schema, "input1": OTHER.schema})
