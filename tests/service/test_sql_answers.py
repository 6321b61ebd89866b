"""Answers of queries are DuckDB's own on the rows that pyiceberg reads, with the documented Arrow types."""

from __future__ import annotations

import datetime as dt
import random
from decimal import Decimal

import attrs
import duckdb
import pyarrow as pa
import pytest
from service_kit import Running, Warehouse, fetch, running

from strata.config import Settings
from strata.config.fields import RegisteredTransform, TransformSection

TABLES = ("orders", "lines", "parts")

QUERIES = {
    "filter and project": "SELECT id, price FROM orders WHERE price > 500 AND day >= DATE '2026-02-01' ORDER BY ALL",
    "aggregate": "SELECT part, count(*) AS n, sum(amount) AS a, avg(discount) AS d FROM lines GROUP BY ALL ORDER BY ALL",
    "having": "SELECT part, max(amount) AS m FROM lines GROUP BY part HAVING count(*) > 20 ORDER BY ALL",
    "rollup": "SELECT part, day, count(*) AS n FROM lines JOIN orders ON id = order_id GROUP BY ROLLUP (part, day) ORDER BY ALL",
    "inner join": "SELECT o.id, p.name, l.amount FROM orders o JOIN lines l ON o.id = l.order_id JOIN parts p ON p.id = l.part ORDER BY ALL",
    "left join": "SELECT p.id, count(l.part) AS n FROM parts p LEFT JOIN lines l ON l.part = p.id GROUP BY ALL ORDER BY ALL",
    "full join": "SELECT a.id AS a, b.id AS b FROM orders a FULL JOIN parts b ON a.id = b.id ORDER BY ALL",
    "semi join": "SELECT id FROM orders o WHERE EXISTS (FROM lines l WHERE l.order_id = o.id AND amount > 90) ORDER BY ALL",
    "anti join": "SELECT id FROM parts WHERE id NOT IN (SELECT part FROM lines WHERE part IS NOT NULL) ORDER BY ALL",
    "window": "SELECT id, sum(price) OVER (ORDER BY id ROWS 3 PRECEDING) AS s, rank() OVER (ORDER BY day, id) AS r FROM orders ORDER BY ALL",
    "partitioned window": "SELECT part, amount, row_number() OVER (PARTITION BY part ORDER BY amount, order_id) AS r FROM lines ORDER BY ALL",
    "qualify": "SELECT part, order_id, amount FROM lines QUALIFY row_number() OVER (PARTITION BY part ORDER BY amount DESC, order_id) = 1 ORDER BY ALL",
    "common table": "WITH big AS (FROM orders WHERE price > 900) SELECT count(*) AS n, min(day) AS first FROM big",
    "recursive": "WITH RECURSIVE r AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM r WHERE a < 50) SELECT a, price FROM r JOIN orders ON a = id ORDER BY ALL",
    "union": "SELECT id FROM orders UNION SELECT order_id FROM lines ORDER BY ALL",
    "except": "SELECT id FROM orders EXCEPT SELECT order_id FROM lines ORDER BY ALL",
    "pivot": "SELECT part, count(*) FILTER (discount IS NULL) AS none, count(discount) AS some FROM lines GROUP BY ALL ORDER BY ALL",
    "dates": "SELECT date_trunc('week', day) AS week, sum(price) AS s FROM orders GROUP BY ALL ORDER BY ALL",
    "texts": "SELECT upper(name) AS u, length(name) AS l, name LIKE '%a%' AS has FROM parts ORDER BY ALL",
    "nested": "SELECT part, list(amount ORDER BY amount, order_id) AS all_of FROM lines GROUP BY ALL ORDER BY part",
    "asof": "SELECT o.id, p.id AS p FROM orders o ASOF JOIN parts p ON o.id >= p.id ORDER BY ALL",
    "lateral": "SELECT p.id, t.amount FROM parts p, LATERAL (SELECT max(amount) AS amount FROM lines l WHERE l.part = p.id) t ORDER BY ALL",
}
"""Queries by what they use; each fixes the order of its rows."""

TYPES = {
    "CAST(1 AS TINYINT)": pa.int8(),
    "CAST(1 AS BIGINT)": pa.int64(),
    "CAST(1 AS UTINYINT)": pa.uint8(),
    "CAST(1 AS UBIGINT)": pa.uint64(),
    "CAST(1 AS HUGEINT)": pa.decimal128(38, 0),
    "sum(id)": pa.decimal128(38, 0),
    "CAST(1 AS REAL)": pa.float32(),
    "avg(id)": pa.float64(),
    "CAST(1 AS DECIMAL(9, 2))": pa.decimal128(9, 2),
    "true": pa.bool_(),
    "'x'": pa.string(),
    "CAST('x' AS BLOB)": pa.binary(),
    "DATE '2026-01-01'": pa.date32(),
    "CAST('b4b147bc-522b-4508-8de6-8f6b8a8f0b13' AS UUID)": pa.string(),
    "CAST('[1]' AS JSON)": pa.string(),
    "TIME '01:02:03'": pa.time64("us"),
    "TIMESTAMP '2026-01-01'": pa.timestamp("us"),
    "CAST('2026-01-01' AS TIMESTAMP_S)": pa.timestamp("s"),
    "CAST('2026-01-01' AS TIMESTAMP_MS)": pa.timestamp("ms"),
    "CAST('2026-01-01' AS TIMESTAMP_NS)": pa.timestamp("ns"),
    "TIMESTAMPTZ '2026-01-01 00:00:00+02'": pa.timestamp("us", tz="UTC"),
    "INTERVAL 1 DAY": pa.month_day_nano_interval(),
    "CAST('a' AS ENUM('a', 'b'))": pa.dictionary(pa.uint8(), pa.string()),
    "[1, 2]": pa.list_(pa.field("l", pa.int32())),
    "CAST([1, 2] AS INT[2])": pa.list_(pa.field("l", pa.int32()), 2),
    "{'a': 1}": pa.struct([("a", pa.int32())]),
    "MAP {'a': 1}": pa.map_(pa.string(), pa.int32()),
}
"""Arrow types by expression: the table of docs/reference/transforms.md."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    entry = RegisteredTransform("duckdb_sql@*")
    return attrs.evolve(settings, transforms=TransformSection(enabled=True, registry=(entry,)))


def rows() -> dict[str, pa.Table]:
    """Return three tables with decimals, dates, texts and nulls, always the same."""
    chance, first = random.Random(7), dt.date(2026, 1, 1)
    count, parts = 1500, 40
    return {
        "orders": pa.table(
            {
                "id": pa.array(range(300), pa.int64()),
                "price": pa.array(
                    [Decimal(chance.randrange(100_000)) / 100 for _ in range(300)], pa.decimal128(12, 2)
                ),
                "day": pa.array([first + dt.timedelta(days=chance.randrange(90)) for _ in range(300)]),
            }
        ),
        "lines": pa.table(
            {
                "order_id": pa.array([chance.randrange(320) for _ in range(count)], pa.int64()),
                "part": pa.array(
                    [chance.choice([None, *range(parts - 5)]) for _ in range(count)], pa.int32()
                ),
                "amount": pa.array([chance.randrange(100) for _ in range(count)], pa.int32()),
                "discount": pa.array([chance.choice([None, 0.25, 0.5]) for _ in range(count)], pa.float64()),
            }
        ),
        "parts": pa.table(
            {
                "id": pa.array(range(parts), pa.int64()),
                "name": pa.array([chance.choice(["bolt", "nut", "Wäsche", "", None]) for _ in range(parts)]),
            }
        ),
    }


async def ask(server: Running, query: str, inputs: dict[str, str]) -> pa.Table:
    body = {
        "inputs": [*inputs.values()],
        "transform": {"executor": "duckdb_sql@v1", "params": {"sql": query, "input_names": [*inputs]}},
    }
    async with server.client() as client:
        return await fetch(client, body)


async def test_every_kind_of_query_is_equal_to_duckdb_on_pyicebergs_rows(
    settings: Settings, warehouse: Warehouse
) -> None:
    """Joins, windows, aggregates and the rest: the same values, types and order; each is marked as ordered."""
    made = {name: warehouse.create(table, f"db.{name}") for name, table in rows().items()}
    made["lines"].append(rows()["lines"].slice(0, 100))
    made["orders"].delete("id < 20")
    with duckdb.connect(config={"threads": 2}) as bare:
        bare.execute("SET TimeZone = 'UTC'")
        for name, table in made.items():
            bare.register(name, table.scan().to_arrow_batch_reader().read_all())
        expected = {kind: bare.sql(query).to_arrow_table() for kind, query in QUERIES.items()}
    async with running(settings) as server:
        for kind, query in QUERIES.items():
            found = await ask(server, query, {name: f"wh:db.{name}" for name in TABLES})
            assert expected[kind].equals(found.replace_schema_metadata(None)), kind
            assert found.num_rows > 0, kind
            ordered = {b"strata.ordered": b"false" if kind == "nested" else b"true"}
            assert ordered == found.schema.metadata, kind


async def test_types_are_those_of_the_documentation(settings: Settings, warehouse: Warehouse) -> None:
    """Each SQL type of the table has its Arrow type, through the server and the wire."""
    warehouse.create(rows()["orders"], "db.orders")
    shown = ", ".join(f"{expression} AS c{index}" for index, expression in enumerate(TYPES))
    async with running(settings) as server:
        found = await ask(server, f"SELECT {shown} FROM orders", {"orders": "wh:db.orders"})
    assert [*TYPES.values()] == found.schema.types
    assert 1 == found.num_rows
