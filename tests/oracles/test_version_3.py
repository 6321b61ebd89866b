"""Tables of format version 3 by Java's library: the right rows, or a refusal that names the column and its type."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from foreign.rows import rows_of
from java_tables import JavaTable

from strata.outcomes import Reason, Refused

Row = dict[str, Any]


def scanned(strata: Any, table: JavaTable, **params: object) -> list[Row]:
    found = strata.scan(table.location, **params)
    assert isinstance(found, pa.Table), found
    return rows_of(found)


def where(column: str, op: str, value: object = None) -> dict[str, object]:
    return {"filters": [{"column": column, "op": op} | ({} if value is None else {"value": value})]}


def ids(rows: list[Row]) -> list[int]:
    return sorted(row["id"] for row in rows)


def test_defaults(spark: Any, strata: Any) -> None:
    """Rows of older files have the default, those of newer files what they were written with, filters too."""
    table = JavaTable(spark, "defaults")
    spark.run(f"INSERT INTO {table.sql} VALUES (1), (2)")
    types = table.types
    added = {
        "i": (types.IntegerType.get(), 5),
        "f": (types.FloatType.get(), 0.1),
        "d": (types.DoubleType.get(), 0.1),
        "s": (types.StringType.get(), "é"),
        "day": (types.DateType.get(), -1),
    }
    for name, (kind, default) in added.items():
        table.add(name, kind, default)
    nulls = ", ".join("null" for _ in added)
    spark.run(f"INSERT INTO {table.sql} VALUES (3, {nulls})")
    right = spark.rows(f"SELECT * FROM {table.sql} ORDER BY id")
    assert right == sorted(scanned(strata, table), key=lambda row: row["id"])
    assert (5, "é") == (right[0]["i"], right[0]["s"])
    for name in added:
        assert [3] == ids(scanned(strata, table, **where(name, "is null")))
    assert [1, 2] == ids(scanned(strata, table, **where("i", "=", 5)))
    assert [] == scanned(strata, table, **where("s", "!=", "__str__:é"))


def test_default_of_a_decimal(spark: Any, strata: Any) -> None:
    """Rows have the default that Java's library wrote; Spark cannot read newer files of such a table."""
    table = JavaTable(spark, "decimal_default")
    spark.run(f"INSERT INTO {table.sql} VALUES (1)")
    table.add("n", table.types.DecimalType.of(9, 2), table.java.java.math.BigDecimal("1.25"))
    assert [{"id": 1, "n": Decimal("1.25")}] == spark.rows(f"SELECT * FROM {table.sql}")
    spark.run(f"INSERT INTO {table.sql} VALUES (2, 2.5BD)")
    with pytest.raises(Exception, match="Cannot cast default value to int"):
        spark.rows(f"SELECT * FROM {table.sql}")
    rows = sorted(scanned(strata, table), key=lambda row: row["id"])
    assert [{"id": 1, "n": Decimal("1.25")}, {"id": 2, "n": Decimal("2.50")}] == rows
    assert [1] == ids(scanned(strata, table, **where("n", "=", "__decimal__:1.25")))


def test_nested_default(spark: Any, strata: Any) -> None:
    """The default of a struct's field is that of structs which are there, not of those that are null."""
    table = JavaTable(spark, "nested_default", "id INT, st STRUCT<a: INT>")
    spark.run(f"INSERT INTO {table.sql} VALUES (1, named_struct('a', 1)), (2, null)")
    table.add("b", table.types.StringType.get(), "y", inside="st")
    right = [{"id": 1, "st": {"a": 1, "b": "y"}}, {"id": 2, "st": None}]
    assert right == spark.rows(f"SELECT * FROM {table.sql} ORDER BY id")
    assert right == sorted(scanned(strata, table), key=lambda row: row["id"])
    assert [1] == ids(scanned(strata, table, **where("st.b", "=", "__str__:y")))
    assert [2] == ids(scanned(strata, table, **where("st.b", "is null")))


def test_nanoseconds(spark: Any, strata: Any) -> None:
    """Times with nanoseconds are those that Java wrote; Spark has no such type."""
    table = JavaTable(spark, "nanoseconds")
    table.add("t", table.types.TimestampNanoType.withoutZone())
    table.add("tz", table.types.TimestampNanoType.withZone())
    time = table.java.java.time
    row = {
        "id": 1,
        "t": time.LocalDateTime.parse("1969-12-31T23:59:59.999999999"),
        "tz": time.OffsetDateTime.parse("2024-01-01T12:00:00.000000001Z"),
    }
    table.append([row, {"id": 2}])
    found = strata.scan(table.location)
    assert isinstance(found, pa.Table), found
    assert [pa.timestamp("ns"), pa.timestamp("ns", "UTC")] == found.schema.types[1:]
    assert [-1, None] == found["t"].cast(pa.int64()).to_pylist()
    assert [1_704_110_400_000_000_001, None] == found["tz"].cast(pa.int64()).to_pylist()
    assert [
        "Record(1, 1969-12-31T23:59:59.999999999, 2024-01-01T12:00:00.000000001Z)",
        "Record(2, null, null)",
    ] == table.texts()
    assert [2] == ids(scanned(strata, table, columns=["id"], **where("tz", "is null")))


def test_variant(spark: Any, strata: Any) -> None:
    """A refusal names the column; the other columns have their rows."""
    table = JavaTable(spark, "variant")
    table.add("v", table.types.VariantType.get())
    variants = table.java.org.apache.iceberg.variants
    value = variants.Variant.of(variants.Variants.emptyMetadata(), variants.Variants.of("a"))
    table.append([{"id": 1, "v": value}, {"id": 2}])
    for params in ({}, {"columns": ["v"]}, {"columns": ["id"]} | where("v", "is null")):
        refused = strata.scan(table.location, **params)
        assert isinstance(refused, Refused), refused
        assert Reason.UNSUPPORTED is refused.reason
        assert refused.detail.startswith("Column 'v' cannot be read: its type is variant."), refused
    assert [1, 2] == ids(scanned(strata, table, columns=["id"]))


def test_unknown(spark: Any, strata: Any) -> None:
    """A column of unknown type is null."""
    table = JavaTable(spark, "unknown")
    spark.run(f"INSERT INTO {table.sql} VALUES (1)")
    table.add("u", table.types.UnknownType.get())
    table.append([{"id": 2}])
    rows = [{"id": 1, "u": None}, {"id": 2, "u": None}]
    assert rows == sorted(scanned(strata, table), key=lambda row: row["id"])
