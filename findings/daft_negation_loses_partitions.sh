#!/usr/bin/env bash
# Software: Daft 0.7.26 over tables of pyiceberg 0.12.0 with pyiceberg-core 0.11.0 and pyarrow 25.0.1; pyiceberg's own
#   scan is the control.
# Guess: `x NOT IN (1)` skips no partition by `truncate[10]`, `bucket` or `month`, as a partition that holds 1 may
#   hold other values too; so it finds what `x != 1` finds.
# Instead: the partition of the value that is negated is skipped whole, with all its other rows: the filter is turned
#   into one on the partition, and that one is negated. `NOT (x = 1)` and `NOT (x > 1)` are as `NOT IN`; `x != 1` is
#   right, and so is everything in partitions by the value itself and in a table without partitions. No error.
# Right: Iceberg specification, "Scan Planning": a filter on rows becomes an inclusive one on partitions, which keeps
#   each file that may have a matching row; the negation of an inclusive filter is not inclusive.
# Seen (ids of the rows found; the values are 1, 2, 11, by month 2024-01-01, 2024-01-02, 2024-02-01):
#   truncate[10], x NOT IN (1): Daft [3], pyiceberg [2, 3]
#   truncate[10], NOT (x = 1): Daft [3], pyiceberg [2, 3]
#   truncate[10], NOT (x > 1): Daft [], pyiceberg [1]
#   truncate[10], x != 1: Daft [2, 3], pyiceberg [2, 3]
#   month, x NOT IN (2024-01-01): Daft [3], pyiceberg [2, 3]
#   identity, x NOT IN (1): Daft [2, 3], pyiceberg [2, 3]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check daft==0.7.26 'pyiceberg[sql-sqlite]==0.12.0' \
    pyiceberg-core==0.11.0 pyarrow==25.0.1
"$work/venv/bin/python" - "$work" 2>"$work/log" <<'PYTHON' || { tail -n 5 "$work/log"; exit 1; }
import datetime as dt
import sys

import daft
import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.expressions import EqualTo, GreaterThan, Not, NotEqualTo
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform, MonthTransform, TruncateTransform
from pyiceberg.types import DateType, LongType, NestedField

catalog = SqlCatalog("c", uri=f"sqlite:///{sys.argv[1]}/c.db", warehouse=f"file://{sys.argv[1]}")
catalog.create_namespace("n")


def made(name, kind, transform, values):
    schema = Schema(NestedField(1, "id", LongType()), NestedField(2, "x", kind))
    spec = PartitionSpec(PartitionField(2, 1000, transform, "p"))
    table = catalog.create_table(f"n.{name}", schema, partition_spec=spec)
    table.append(pa.table({"id": [1, 2, 3], "x": values}))
    return table


day = dt.date(2024, 1, 1)
tables = {
    "truncate[10]": made("truncated", LongType(), TruncateTransform(10), [1, 2, 11]),
    "month": made("by_month", DateType(), MonthTransform(), [day, dt.date(2024, 1, 2), dt.date(2024, 2, 1)]),
    "identity": made("plain", LongType(), IdentityTransform(), [1, 2, 11]),
}
x = daft.col("x")
filters = {
    "truncate[10], x NOT IN (1)": (~x.is_in([1]), NotEqualTo("x", 1)),
    "truncate[10], NOT (x = 1)": (~(x == 1), Not(EqualTo("x", 1))),
    "truncate[10], NOT (x > 1)": (~(x > 1), Not(GreaterThan("x", 1))),
    "truncate[10], x != 1": (x != 1, NotEqualTo("x", 1)),
    f"month, x NOT IN ({day})": (~x.is_in([day]), NotEqualTo("x", day.isoformat())),
    "identity, x NOT IN (1)": (~x.is_in([1]), NotEqualTo("x", 1)),
}
seen = {}
for what, (ours, control) in filters.items():
    table = tables[what.partition(",")[0]]
    found = sorted(daft.read_iceberg(table).where(ours).to_pydict()["id"])
    right = sorted(table.scan(control).to_arrow()["id"].to_pylist())
    seen[what] = f"Daft {found}, pyiceberg {right}"
    print(f"{what}: {seen[what]}")
expected = {
    "truncate[10], x NOT IN (1)": "Daft [3], pyiceberg [2, 3]",
    "truncate[10], NOT (x = 1)": "Daft [3], pyiceberg [2, 3]",
    "truncate[10], NOT (x > 1)": "Daft [], pyiceberg [1]",
    "truncate[10], x != 1": "Daft [2, 3], pyiceberg [2, 3]",
    f"month, x NOT IN ({day})": "Daft [3], pyiceberg [2, 3]",
    "identity, x NOT IN (1)": "Daft [2, 3], pyiceberg [2, 3]",
}
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
