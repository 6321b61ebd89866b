#!/usr/bin/env bash
# Software: Daft 0.7.26 over a table written by pyiceberg 0.12.0 with pyiceberg-core 0.11.0, pyarrow 25.0.1.
# Guess: Daft prunes partitions by bucket(decimal) as the writer made them; a filter finds its row.
# Instead: it hashes too few bytes wherever the value needs its sign byte, and no byte for zero: 1.28 (unscaled
#   128, bytes 00 80) gets the bucket of -1.28 (byte 80), 0.00 gets bucket 0, the hash of nothing. The file is
#   pruned and the filter answers no row, silently; 14.20, the example of the specification, is right. Without a
#   filter all rows are there. Scale and precision do not matter.
# Right: Iceberg specification, Appendix B, "32-bit Hash Requirements": hash the minimal big-endian two's complement
#   bytes of the unscaled value; zero is one byte, a value whose top bit is set needs a sign byte.
# Seen:
#   14.20: written in bucket 59, Daft's bucket 59, rows found 1
#   1.28: written in bucket 949, Daft's bucket 677, rows found 0
#   -1.28: written in bucket 677, Daft's bucket 492, rows found 0
#   0.00: written in bucket 727, Daft's bucket 0, rows found 0
#   without a filter: rows found 4
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check \
    daft==0.7.26 'pyiceberg[sql-sqlite]==0.12.0' pyiceberg-core==0.11.0 pyarrow==25.0.1
cd "$work"
DAFT_PROGRESS_BAR=0 DO_NOT_TRACK=true "$work/venv/bin/python" - "$work" 2>"$work/log" <<'PYTHON' || { tail -n 5 "$work/log"; exit 1; }
import sys
from decimal import Decimal

import daft
import pyarrow as pa
from daft.functions import partition_iceberg_bucket
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import DecimalType, NestedField

catalog = SqlCatalog("c", uri=f"sqlite:///{sys.argv[1]}/c.db", warehouse=f"file://{sys.argv[1]}")
catalog.create_namespace("n")
table = catalog.create_table(
    "n.t",
    Schema(NestedField(1, "x", DecimalType(9, 2))),
    partition_spec=PartitionSpec(PartitionField(1, 1000, BucketTransform(1000), "x_bucket")),
)
kind = pa.decimal128(9, 2)
seen = {}
for text in ("14.20", "1.28", "-1.28", "0.00"):
    rows = pa.table({"x": pa.array([Decimal(text)], kind)})
    table.append(rows)
    written = {task.file.file_path: task.file.partition[0] for task in table.scan(f"x = {text}").plan_files()}
    computed = daft.from_arrow(rows).select(partition_iceberg_bucket(daft.col("x"), 1000).alias("b"))
    found = daft.read_iceberg(table).where(daft.col("x") == Decimal(text)).count_rows()
    bucket = ", ".join(str(value) for value in written.values())
    seen[text] = f"written in bucket {bucket}, Daft's bucket {computed.to_pydict()['b'][0]}, rows found {found}"
seen["without a filter"] = f"rows found {daft.read_iceberg(table).count_rows()}"
expected = {
    "14.20": "written in bucket 59, Daft's bucket 59, rows found 1",
    "1.28": "written in bucket 949, Daft's bucket 677, rows found 0",
    "-1.28": "written in bucket 677, Daft's bucket 492, rows found 0",
    "0.00": "written in bucket 727, Daft's bucket 0, rows found 0",
    "without a filter": "rows found 4",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
