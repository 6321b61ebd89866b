#!/usr/bin/env bash
# Software: pyiceberg 0.12.0 with pyiceberg-core 0.11.0 and pyarrow 26.0.1; the same table unpartitioned is the control.
# Guess: in a table partitioned by truncate[10] of an int, `x < 0` and `x = -2147483648` find the smallest int.
# Instead: they find nothing, and a delete with them deletes nothing: the partition of that row should be -2147483650,
#   which an int cannot hold, and is stored as 2147483646; the filters then skip it as too large. The bounds of the file
#   say what is in it, and a scan without a filter has the row. So it is for the last few values before the smallest one,
#   and for the smallest long.
# Right: Iceberg specification, "Partitioning" and "Scan Planning": a filter on a column is turned into one on the
#   partition that keeps every file that may match. "Truncate Transform Details" does not say what to store here, and
#   other writers store the same wrapped value, so a reader has to expect it in the largest partition.
# Seen (rows found, and rows left after a delete with the same filter, of the smallest value and 5):
#   int, x < 0: found 0, left 2; unpartitioned: found 1, left 1
#   int, x = -2147483648: found 0, left 2; unpartitioned: found 1, left 1
#   long, x < 0: found 0, left 2; unpartitioned: found 1, left 1
#   long, x = -9223372036854775808: found 0, left 2; unpartitioned: found 1, left 1
#   partitions: int 2147483646 and 0, long 9223372036854775806 and 0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check 'pyiceberg[sql-sqlite]==0.12.0' pyiceberg-core==0.11.0 \
    pyarrow==26.0.1
"$work/venv/bin/python" - "$work" 2>"$work/log" <<'PYTHON' || { tail -n 5 "$work/log"; exit 1; }
import itertools
import sys

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import TruncateTransform
from pyiceberg.types import IntegerType, LongType, NestedField

catalog = SqlCatalog("c", uri=f"sqlite:///{sys.argv[1]}/c.db", warehouse=f"file://{sys.argv[1]}")
catalog.create_namespace("n")
numbers = itertools.count()
by_tens = PartitionSpec(PartitionField(1, 1000, TruncateTransform(10), "p"))
kinds = {"int": (IntegerType(), pa.int32(), -(2**31)), "long": (LongType(), pa.int64(), -(2**63))}


def filled(kind, spec):
    iceberg, arrow, smallest = kinds[kind]
    table = catalog.create_table(f"n.t{next(numbers)}", Schema(NestedField(1, "x", iceberg)), partition_spec=spec)
    table.append(pa.table({"x": pa.array([smallest, 5], arrow)}))
    return table


def counts(kind, condition, spec):
    table = filled(kind, spec)
    found = table.scan(condition).to_arrow().num_rows
    table.delete(condition)
    return f"found {found}, left {table.scan().to_arrow().num_rows}"


def partitions(kind):
    values = sorted((task.file.partition[0] for task in filled(kind, by_tens).scan().plan_files()), reverse=True)
    return f"{kind} {' and '.join(map(str, values))}"


seen = {}
for kind, (_, _, smallest) in kinds.items():
    for condition in ("x < 0", f"x = {smallest}"):
        control = counts(kind, condition, UNPARTITIONED_PARTITION_SPEC)
        seen[f"{kind}, {condition}"] = f"{counts(kind, condition, by_tens)}; unpartitioned: {control}"
seen["partitions"] = f"{partitions('int')}, {partitions('long')}"
missed = "found 0, left 2; unpartitioned: found 1, left 1"
expected = {
    "int, x < 0": missed,
    "int, x = -2147483648": missed,
    "long, x < 0": missed,
    "long, x = -9223372036854775808": missed,
    "partitions": "int 2147483646 and 0, long 9223372036854775806 and 0",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
