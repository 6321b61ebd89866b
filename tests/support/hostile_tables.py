"""Tables for the pages: texts that try to run as code, values that are hard to show, and a secret."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField, StringType

PAYLOADS = (
    '<img src=x onerror="window.ran=1">',
    "<script>window.ran=1</script>",
    '"><svg onload="window.ran=1">',
    "<iframe srcdoc='<script>parent.ran=1</script>'>",
    "javascript:window.ran=1",
    "</textarea></title><script>window.ran=1</script>",
    "' autofocus onfocus='window.ran=1",
    "{{constructor.constructor('window.ran=1')()}}",
)
"""Texts that run code where a page takes them for HTML, an attribute or an address."""

SECRET = "secret-of-the-board"
"""In the name, the columns and the rows of the table that only one may read."""


def exact() -> pa.Table:
    """Return values that go wrong where a page puts them through a floating-point number."""
    moment = dt.datetime(2024, 2, 29, 23, 59, 59, 123456)  # noqa: DTZ001  # Iceberg's timestamp has no zone
    return pa.table(
        {
            "id": pa.array([9007199254740993, -9223372036854775808, 3], pa.int64()),
            "price": pa.array(
                [Decimal("12345678901234567890.10"), Decimal("-0.05"), None], pa.decimal128(30, 2)
            ),
            "at": pa.array(
                [moment, dt.datetime(1, 1, 1, tzinfo=dt.UTC).replace(tzinfo=None), None], pa.timestamp("us")
            ),
            "zoned": pa.array(
                [moment, dt.datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC), None],
                pa.timestamp("us", "UTC"),
            ),
            "day": pa.array([dt.date(2000, 2, 29), dt.date(9999, 12, 31), None], pa.date32()),
            "tags": pa.array([["a", None], [], None], pa.list_(pa.string())),
            "place": pa.array(
                [{"x": 1, "y": None}, {"x": None, "y": "é"}, None],
                pa.struct([("x", pa.int64()), ("y", pa.string())]),
            ),
            "raw": pa.array([b"\x00\xff", b"", None], pa.binary()),
        }
    )


def fill(warehouse: Path) -> None:
    """Write the tables: hostile ones, exact ones, a large one, and one that only ``root`` may read."""
    catalog = SqlCatalog("strata", uri=f"sqlite:///{warehouse}/catalog.db", warehouse=str(warehouse))
    for namespace in ("shop", "board"):
        catalog.create_namespace(namespace)
    fields = [
        NestedField(at + 1, payload, StringType(), required=False, doc=payload)
        for at, payload in enumerate(PAYLOADS)
    ]
    hostile = catalog.create_table("shop.hostile", Schema(*fields), properties={"comment": PAYLOADS[0]})
    hostile.append(pa.table({payload: pa.array([payload, None]) for payload in PAYLOADS}))
    made = catalog.create_table("shop.exact", exact().schema)
    made.append(exact())
    numbers = Schema(
        NestedField(1, "id", LongType(), required=True, doc="Counts up."),
        NestedField(2, "name", StringType()),
    )
    large = catalog.create_table("shop.orders", numbers)
    whole = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("name", pa.string())])
    large.append(pa.table({"id": range(5_000), "name": [f"order {at}" for at in range(5_000)]}, schema=whole))
    first = large.current_snapshot()
    assert first is not None
    large.manage_snapshots().create_tag(first.snapshot_id, "opening").commit()
    large.append(pa.table({"id": [5_000], "name": ["late"]}, schema=whole))
    secret = catalog.create_table(f"board.{SECRET}", pa.schema([(SECRET, pa.string())]))
    secret.append(pa.table({SECRET: [SECRET]}))
