"""Which conditions scans test for a query: never one that leaves out a row of which the answer depends."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.types import (
    DateType,
    DoubleType,
    IcebergType,
    IntegerType,
    LongType,
    StringType,
    TimestampType,
)

from strata.tables.scan.literals import literals_of
from strata.tables.scan.params import ScanSpec, parse_scan_params
from strata.tables.scan.predicates import normal_predicate, row_mask
from strata.transforms.sql_columns import touched_columns
from strata.transforms.sql_filters import Filter, pushed_filters
from strata.transforms.sql_settings import RESULT_SETTINGS

KINDS: dict[str, IcebergType] = {
    "a": LongType(),
    "i": IntegerType(),
    "s": StringType(),
    "d": DateType(),
    "t": TimestampType(),
    "x": DoubleType(),
}
SCHEMA = pa.schema(
    [
        ("a", pa.int64()),
        ("i", pa.int32()),
        ("s", pa.string()),
        ("d", pa.date32()),
        ("t", pa.timestamp("us")),
        ("x", pa.float64()),
    ]
)


def filters_of(sql: str, schema: pa.Schema = SCHEMA, names: tuple[str, ...] = ()) -> list[str]:
    """Return the filters of each of two inputs, as text."""
    with duckdb.connect() as connection:
        found = pushed_filters(connection, sql, [schema, schema], names)
    return [
        "; ".join(f"{one['column']} {one['op']} {one.get('value', '')}".strip() for one in each)
        for each in found
    ]


TAKEN = {
    "SELECT a FROM input0 WHERE a > 5": "a > 5",
    "SELECT a FROM input0 WHERE 5 > a": "a < 5",
    "SELECT a FROM input0 AS z WHERE z.A <= -5 AND s = 'x'": "a <= -5; s = __str__:x",
    "SELECT a FROM input0 WHERE a BETWEEN 1 AND 3 AND x > 0": "a >= 1; a <= 3",
    "SELECT a FROM input0 WHERE s IN ('x', '__int__:1')": "s in ['__str__:x', '__str__:__int__:1']",
    "SELECT a FROM input0 WHERE s NOT IN ('x')": "s not in ['__str__:x']",
    "SELECT a FROM input0 WHERE x IS NOT NULL AND d IS NULL": "x is not null; d is null",
    "SELECT a FROM input0 WHERE d >= DATE '2020-02-29'": "d >= __date__:2020-02-29",
    "SELECT a FROM input0 WHERE t < TIMESTAMP '2020-02-28 01:02:03.5'": "t < __timestamp__:2020-02-28 01:02:03.5",
    "SELECT n FROM (SELECT count(*) AS n FROM input0 WHERE a <> 2)": "a != 2",
    "SELECT a, row_number() OVER (ORDER BY a) AS n FROM input0 WHERE a > 1": "a > 1",
}  # fmt: skip
"""Queries, and the filters of their first input."""

LEFT = [
    "SELECT a FROM input0 WHERE a > 5 OR s = 'x'",
    "SELECT a FROM input0 WHERE NOT (a > 5 AND s = 'x')",
    "SELECT a FROM input0 WHERE a + 1 > 5",
    "SELECT a FROM input0 WHERE x > 5",
    "SELECT a FROM input0 WHERE x = 5.0",
    "SELECT a FROM input0 WHERE a > 5.5",
    "SELECT a FROM input0 WHERE a > '5'",
    "SELECT a FROM input0 WHERE a > 99999999999999999999",
    "SELECT a FROM input0 WHERE i = 2147483648",
    "SELECT a FROM input0 WHERE a = NULL",
    "SELECT a FROM input0 WHERE a IN (1, NULL)",
    "SELECT a FROM input0 WHERE a IN (SELECT a FROM input1)",
    "SELECT a FROM input0 WHERE a IS DISTINCT FROM 5",
    "SELECT a FROM input0 WHERE s = 'x' COLLATE NOCASE",
    "SELECT a FROM input0 WHERE s LIKE 'x%'",
    "SELECT a FROM input0 WHERE d >= '2020-01-01'",
    "SELECT a FROM input0 WHERE d >= DATE '2020-1-1'",
    "SELECT a FROM input0 WHERE d >= DATE '2020-02-30'",
    "SELECT a FROM input0 WHERE d >= TIMESTAMP '2020-01-01 00:00:00'",
    "SELECT a FROM input0 WHERE t >= DATE '2020-01-01'",
    "SELECT a FROM input0 WHERE t >= TIMESTAMPTZ '2020-01-01 00:00:00'",
    "SELECT a FROM input0 WHERE t >= TIMESTAMP '2020-01-01 00:00:00Z'",
    "SELECT a FROM input0 WHERE t >= TRY_CAST('2020-01-01 00:00:00' AS TIMESTAMP)",
    "SELECT a FROM input0 WHERE a > 5 UNION ALL SELECT a FROM input0",
    "SELECT a FROM input0 WHERE a > 5 UNION ALL SELECT a FROM main.input0",
    "SELECT a FROM input0 WHERE a > (SELECT min(a) FROM input0) AND a > 5",
    "SELECT p.a FROM input1 q LEFT JOIN input0 p ON p.a = q.a WHERE p.i = 1",
    "SELECT p.a FROM input0 p RIGHT JOIN input1 q ON p.a = q.a WHERE p.i = 1",
    "SELECT p.a FROM input0 p FULL JOIN input1 q ON p.a = q.a WHERE p.i IS NULL",
    "SELECT p.a FROM input0 p JOIN input1 q USING (a) WHERE p.i = 1",
    "SELECT p.a FROM input1 q ASOF JOIN input0 p ON q.a >= p.a WHERE p.i = 1",
    "SELECT p.a FROM input0 p JOIN input1 q ON p.a = q.a AND p.i = 1",
    "SELECT 1 AS n FROM input0, input1 AS q WHERE i = 1",
    "WITH input0 AS (SELECT a FROM input1) SELECT a FROM input0 WHERE a > 5",
    "SELECT s AS i, a AS s FROM input0 WHERE s = 'x'",
    "SELECT a FROM input0 GROUP BY a HAVING a > 5",
    "SELECT a FROM input0 QUALIFY a > 5",
    "SELECT a FROM input0 AS s WHERE s.a > 5",
    "SELECT count(*) FILTER (a > 5) AS n FROM input0",
    "SELECT p.a FROM input0 p JOIN input1 q ON p.a = q.a WHERE p.i = 1",
    "SELECT p.a FROM input0 p LEFT JOIN input1 q ON p.a = q.a WHERE p.i = 1",
    "SELECT p.a FROM input0 p, input1 q WHERE p.i = 1 AND p.a = q.a",
    "WITH c AS (SELECT a FROM input0 WHERE a > 1) SELECT 1 AS n FROM c, c AS e",
    "SELECT a FROM input1 WHERE EXISTS (SELECT 1 FROM input0 o WHERE o.i = 3)",
    "SELECT a FROM input0 WHERE a > 5 UNION ALL SELECT a FROM input1",
    "SELECT a FROM input0 WHERE a > 5 AND i IN (VALUES (1), (2))",
    "SELECT input0.a FROM input0, range(3) r(n) WHERE input0.a > 5",
    "SELECT o.a FROM input0 o, (SELECT 1 AS n) WHERE o.a > 5",
    "WITH c AS (SELECT a FROM input0 WHERE a > 1) SELECT a FROM c",
]
"""Queries whose conditions are left to them."""


@pytest.mark.parametrize("sql", TAKEN)
def test_simple_conditions_are_tested_by_the_scan(sql: str) -> None:
    """Of the only table of the query, in the conjunction of its own WHERE."""
    assert [TAKEN[sql], ""] == filters_of(sql)


@pytest.mark.parametrize("sql", LEFT)
def test_all_others_are_left_to_the_query(sql: str) -> None:
    """Where another type or name could make it another condition, or the query reads something else, too."""
    assert ["", ""] == filters_of(sql)


def test_both_names_of_an_input_are_the_same_input() -> None:
    """Two references by two names are two."""
    sql = "SELECT a FROM {} WHERE a > 1 UNION ALL SELECT a FROM {} WHERE a > 2"
    assert ["", ""] == filters_of(sql.format("events", "input0"), names=("Events", "other"))
    assert ["a > 1", ""] == filters_of("SELECT a FROM EVENTS WHERE a > 1", names=("events", "other"))
    assert ["", "a > 1"] == filters_of("SELECT a FROM input1 WHERE a > 1", names=("events", "other"))


def test_columns_of_other_types_have_no_constants() -> None:
    """Nor has a column whose name a scan would take for a field of a struct."""
    schema = pa.schema(
        [
            ("a", pa.decimal128(9, 2)),
            ("s", pa.binary()),
            ("d", pa.timestamp("us", "UTC")),
            ("t", pa.timestamp("ns")),
            ("x.y", pa.int64()),
            ("b", pa.bool_()),
        ]
    )
    conditions = "a = 1 AND s = 'x' AND d = TIMESTAMP '2020-01-01 00:00:00' AND b = true AND b"
    more = "t = TIMESTAMP '2020-01-01 00:00:00' AND \"x.y\" = 1"
    assert ["", ""] == filters_of(f"SELECT a FROM input0 WHERE {conditions} AND {more}", schema)


def test_names_that_differ_in_letters_only_are_not_the_same() -> None:
    """To Python a long s is an ``s``, and ``ß`` is ``ss``; to DuckDB they name something else."""
    schema = pa.schema([("\u017f", pa.int64()), ("straße", pa.int64()), ("a", pa.int64())])
    for condition in ("s = 1", "strasse = 1", "ß.a = 1"):
        assert ["", ""] == filters_of(f"SELECT a FROM input0 AS ss WHERE {condition}", schema)
    assert ["", ""] == filters_of("SELECT a FROM input0 AS ß WHERE ss.a = 1", schema)
    assert ["a = 1", ""] == filters_of("SELECT a FROM input0 AS ss WHERE ss.a = 1", schema)


def nullable(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


TEXTS = st.sampled_from(["", "a", "B", "b", "ä", "a'", "é", "\U0001f600"])
DATES = st.dates(dt.date(1969, 12, 30), dt.date(1970, 1, 3))
TIMES = st.datetimes(dt.datetime(1969, 12, 31, 23, 59, 59), dt.datetime(1970, 1, 1, 0, 0, 1))  # noqa: DTZ001
NUMBERS = st.integers(-3, 3) | st.sampled_from([2**31 - 1, -(2**31)])
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "a": nullable(NUMBERS | st.sampled_from([2**63 - 1, -(2**63)])),
            "i": nullable(NUMBERS),
            "s": nullable(TEXTS),
            "d": nullable(DATES),
            "t": nullable(TIMES),
            "x": nullable(st.sampled_from([0.0, -0.0, 1.5, math.nan, math.inf, -2.0])),
        }
    ),
    max_size=12,
)
CONSTANTS = {
    "a": st.integers(-4, 4).map(str) | st.sampled_from([str(2**63 - 1), str(2**70), "1.5", "'1'", "NULL"]),
    "i": st.integers(-4, 4).map(str) | st.sampled_from([str(2**31 - 1), str(2**31), "NULL"]),
    "s": TEXTS.map(lambda one: "'" + one.replace("'", "''") + "'"),
    "d": DATES.map(lambda one: f"DATE '{one}'") | DATES.map(lambda one: f"'{one}'"),
    "t": TIMES.map(lambda one: f"TIMESTAMP '{one}'") | DATES.map(lambda one: f"DATE '{one}'"),
    "x": st.sampled_from(["0", "1.5", "'NaN'::DOUBLE", "-2", "NULL"]),
}


@st.composite
def conditions(draw: st.DrawFn, prefix: str) -> str:
    """Return a conjunction of simple and other conditions."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        column = draw(st.sampled_from([*CONSTANTS]))
        one, other, third = (draw(CONSTANTS[column]) for _ in range(3))
        name = f"{prefix}{column}"
        op = draw(st.sampled_from(["=", "<>", "<", "<=", ">", ">="]))
        forms = [
            f"{name} {op} {one}",
            f"{one} {op} {name}",
            f"{name} IN ({one}, {other})",
            f"{name} NOT IN ({one}, {other}, {third})",
            f"{name} BETWEEN {one} AND {other}",
            f"{name} IS NULL",
            f"{name} IS NOT NULL",
            f"NOT {name} {op} {one}",
            f"({name} {op} {one} OR {name} = {other})",
        ]
        found.append(draw(st.sampled_from(forms)))
    return " AND ".join(found)


@st.composite
def queries(draw: st.DrawFn) -> str:
    """Return a query of one input, or one of two in a total order."""
    alone, first, second = (draw(conditions(prefix)) for prefix in ("", "p.", "q."))
    join = draw(st.sampled_from(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "SEMI JOIN", "ANTI JOIN"]))
    both = f"FROM input0 p {join} input1 q ON p.i = q.i"
    columns = "p.a, p.s, p.x" if join in ("SEMI JOIN", "ANTI JOIN") else "p.a, p.s, p.x, q.a AS b, q.t"
    where = first if join in ("SEMI JOIN", "ANTI JOIN") else f"{first} AND {second}"
    return draw(
        st.sampled_from(
            [
                f"SELECT a, i, s, d, t, x FROM input0 WHERE {alone} ORDER BY ALL",
                f"SELECT count(*) AS n, max(s) AS m FROM input0 WHERE {alone}",
                f"SELECT a, s, x FROM input0 WHERE {alone} LIMIT 3 OFFSET 1",
                f"SELECT i, first(a) AS f, sum(x) AS m FROM input0 WHERE {alone} GROUP BY i",
                f"SELECT sum(x) AS m, string_agg(s, ',') AS c, list(a) AS l FROM input0 WHERE {alone}",
                f"SELECT DISTINCT ON (i) i, a, s FROM input0 WHERE {alone}",
                f"SELECT a, row_number() OVER () AS n FROM input0 WHERE {alone}",
                f"SELECT {columns} {both} WHERE {where} ORDER BY ALL",
                f"SELECT a, s FROM input0 WHERE {alone} UNION ALL SELECT a, s FROM input1 ORDER BY ALL",
                f"SELECT a, i FROM input1 WHERE i IN (SELECT i FROM input0 WHERE {alone}) ORDER BY ALL",
                f"SELECT a, (SELECT count(*) FROM input0 p WHERE {first} AND p.i = q.i) AS n FROM input1 q ORDER BY ALL",
                f"WITH c AS (SELECT a, i FROM input0 WHERE {alone}) SELECT l.a FROM c l, c r WHERE l.i = r.i ORDER BY ALL",
                f"SELECT a FROM input0 WHERE {alone} EXCEPT SELECT a FROM input0 WHERE i = 1 ORDER BY ALL",
            ]
        )
    )


def scanned(rows: pa.Table, filters: list[Filter]) -> pa.Table:
    """Return the rows that a scan with these filters keeps."""
    spec = parse_scan_params({"filters": filters})
    assert isinstance(spec, ScanSpec), spec
    for one in spec.filters:
        kind = KINDS[one.column]
        literals = literals_of(kind, one.op, one.value)
        predicate = normal_predicate(1, (one.column,), kind, one.op, literals)
        rows = rows.filter(row_mask(predicate, rows[one.column].combine_chunks()))
    return rows


def answer(connection: duckdb.DuckDBPyConnection, sql: str, inputs: list[pa.Table]) -> object:
    for index, rows in enumerate(inputs):
        connection.register(f"input{index}", rows)
    return [tuple(map(plain, row)) for row in connection.execute(sql).fetchall()]


def plain(value: object) -> object:
    """Return a value that equals itself, and whose type tells it from others."""
    return (type(value).__name__, str(value)) if isinstance(value, float | Decimal) else value


def answers(sql: str, inputs: list[pa.Table]) -> tuple[object, object] | None:
    """Return a query's answers of all rows and of those that scans with its filters keep; None: it has none."""
    with duckdb.connect(config={"threads": 1}) as connection:
        for name, value in RESULT_SETTINGS.items():
            connection.execute(f"SET {name} = '{value}'")
        if touched_columns(connection, sql, [SCHEMA, SCHEMA], ()) is None:
            return None
        filters = pushed_filters(connection, sql, [SCHEMA, SCHEMA], ())
        try:
            right = answer(connection, sql, inputs)
        except duckdb.ConversionException:
            return None  # of a constant, whatever the rows are
        fewer = [scanned(rows, own) for rows, own in zip(inputs, filters, strict=True)]
        return right, answer(connection, sql, fewer)


@given(queries(), ROWS, ROWS)
def test_answers_are_the_same_with_and_without_filters(
    sql: str, first: list[dict], second: list[dict]
) -> None:
    """Of any rows, nulls, NaN and the ends of types included."""
    found = answers(sql, [pa.Table.from_pylist(rows, SCHEMA) for rows in (first, second)])
    assert found is None or found[0] == found[1]


JOINED = "FROM input0 p JOIN input1 q ON p.a = q.a WHERE p.i < 20"
OF_AN_ORDER = [
    "SELECT count(*) AS n FROM (SELECT p.i {} LIMIT 5) WHERE i > 2",
    "SELECT p.i, q.i AS j {} LIMIT 5",
    "SELECT sum(p.x * q.x) AS n {}",
    "SELECT string_agg(p.s, ',') AS n, list(q.i) AS l, first(p.i) AS f {}",
    "SELECT DISTINCT ON (p.a) p.a, p.i, q.i AS j {}",
    "SELECT p.i, q.i AS j, row_number() OVER () AS n {}",
    "SELECT i FROM input1 WHERE i IN (SELECT i FROM input0 WHERE i < 20) LIMIT 5",
    "WITH c AS (SELECT a, i FROM input0 WHERE i < 20) SELECT c.i, q.i AS j FROM c JOIN input1 q ON c.a = q.a LIMIT 5",
    "SELECT i, a FROM input0 WHERE i < 20 ORDER BY a LIMIT 5",
    "SELECT sum(x) AS n, string_agg(s, ',') AS s, list(i) AS l FROM input0 WHERE i < 20",
    "SELECT i, row_number() OVER () AS n FROM input0 WHERE i < 20 LIMIT 5",
]
"""Queries whose answers depend on the order in which DuckDB joins or reads rows."""


@pytest.mark.parametrize("sql", OF_AN_ORDER)
def test_fewer_rows_change_no_order_on_which_an_answer_depends(sql: str) -> None:
    """DuckDB joins by the sizes of tables: a scan of fewer rows would have it build from the other side."""
    large, small = (
        pa.Table.from_pylist(
            [{"a": i % 7, "i": i * 37 % count, "s": str(i), "x": 1 / (i + 3)} for i in range(count)], SCHEMA
        )
        for count in (1000, 100)
    )
    found = answers(sql.format(JOINED), [large, small])
    assert found is not None
    assert found[0] == found[1]
