"""A query is ordered only if its order cannot differ between two runs."""

from __future__ import annotations

import duckdb
import pytest

from strata.transforms.sql_order import is_ordered
from strata.transforms.sql_settings import ORDERED, ordered_of

ORDERED_QUERIES = [
    "SELECT a, b FROM t ORDER BY a, b",
    "SELECT a, b FROM t ORDER BY b DESC, a NULLS FIRST",
    "SELECT a, b FROM t ORDER BY 1, 2",
    "FROM t ORDER BY ALL",
    "SELECT a AS x FROM t ORDER BY X",
    "SELECT count(*) AS n, sum(a) FROM t",
    "SELECT a FROM t GROUP BY a ORDER BY a LIMIT 3",
    "WITH u AS (SELECT a FROM t) SELECT a FROM u ORDER BY a",
]
OTHERS = [
    "FROM t",
    "SELECT a, b FROM t ORDER BY a",
    "SELECT * FROM t ORDER BY a, b",
    "SELECT a, b FROM t ORDER BY 1",
    "SELECT a, b FROM t ORDER BY a + b, a",
    "SELECT a FROM (SELECT a FROM t ORDER BY a)",
    "SELECT a FROM t UNION ALL SELECT b FROM t",
    "SELECT sum(a) FROM t GROUP BY b",
    "SELECT a, a + 1 FROM t ORDER BY a",
    "SELECT unnest([a, b]) AS c FROM t",
    "SELECT t.a FROM t ORDER BY t.a",
]


@pytest.mark.parametrize("sql", ORDERED_QUERIES + OTHERS)
def test_a_query_is_ordered_by_all_of_its_columns_or_not_at_all(sql: str) -> None:
    """Where it cannot be told, the answer is no; the query itself is one that DuckDB runs."""
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t (a INT, b INT)")
        assert (sql in ORDERED_QUERIES) == is_ordered(connection, sql)
        connection.execute(sql).fetchall()


def test_the_mark_is_read_from_the_last_line_only() -> None:
    """No name of a column can pass for the mark."""
    end = f"\n-- schema metadata --\n{ORDERED}: 'false'"
    assert ordered_of("a: int64" + end) is False
    assert ordered_of(f"{ORDERED}: 'true'" + end) is False
    assert ordered_of("a: int64" + end.replace("false", "true")) is True
    assert ordered_of("a: int64") is None
    assert ordered_of(None) is None
