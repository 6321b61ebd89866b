#!/usr/bin/env bash
# Software: pyiceberg 0.12.0 with pyiceberg-core 0.11.0 and pyarrow 26.0.1.
# Guess: appending one row with 0.0 and one with -0.0 to a table partitioned by identity(double) stores two rows.
# Instead: four rows. The partitions are taken apart by bits (two of them), the rows of each are then picked with
#   an equality in which both zeros are equal, so that each partition's file holds both rows. The commit succeeds,
#   the summary says 4 added records, and every reader shows each row twice. float behaves as double.
#   A NaN in that column equals nothing: its partition gets no row at all, and the append ends in a division by zero.
# Right: Iceberg specification, "Partitioning": a file's rows all have the partition's values, and an append of two
#   rows adds two.
# Seen:
#   double: 2 rows appended, 4 rows read: (1, -0.0) (1, -0.0) (2, 0.0) (2, 0.0)
#   float: 2 rows appended, 4 rows read: (1, -0.0) (1, -0.0) (2, 0.0) (2, 0.0)
#   double, unpartitioned: 2 rows appended, 2 rows read: (1, -0.0) (2, 0.0)
#   NaN: ZeroDivisionError
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check \
    'pyiceberg[sql-sqlite]==0.12.0' pyiceberg-core==0.11.0 pyarrow==26.0.1
"$work/venv/bin/python" - "$work" <<'PYTHON'
import sys

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import DoubleType, FloatType, LongType, NestedField

catalog = SqlCatalog("c", uri=f"sqlite:///{sys.argv[1]}/c.db", warehouse=f"file://{sys.argv[1]}")
catalog.create_namespace("n")
by_x = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "x"))


def appended(name, kind, arrow, spec, values):
    schema = Schema(NestedField(1, "id", LongType()), NestedField(2, "x", kind))
    table = catalog.create_table(f"n.{name}", schema, partition_spec=spec)
    rows = {"id": pa.array(range(1, len(values) + 1), pa.int64()), "x": pa.array(values, arrow)}
    table.append(pa.table(rows))
    found = sorted((row["id"], str(row["x"])) for row in table.scan().to_arrow().to_pylist())
    shown = " ".join(f"({key}, {value})" for key, value in found)
    return f"{len(values)} rows appended, {len(found)} rows read: {shown}"


def nan():
    try:
        return appended("nan", DoubleType(), pa.float64(), by_x, [float("nan")])
    except Exception as error:
        return type(error).__name__


zeros = [-0.0, 0.0]
seen = {
    "double": appended("d", DoubleType(), pa.float64(), by_x, zeros),
    "float": appended("f", FloatType(), pa.float32(), by_x, zeros),
    "double, unpartitioned": appended("u", DoubleType(), pa.float64(), UNPARTITIONED_PARTITION_SPEC, zeros),
    "NaN": nan(),
}
twice = "2 rows appended, 4 rows read: (1, -0.0) (1, -0.0) (2, 0.0) (2, 0.0)"
expected = {
    "double": twice,
    "float": twice,
    "double, unpartitioned": "2 rows appended, 2 rows read: (1, -0.0) (2, 0.0)",
    "NaN": "ZeroDivisionError",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
