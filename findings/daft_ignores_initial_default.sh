#!/usr/bin/env bash
# Software: Daft 0.7.26 with pyiceberg 0.12.0 and pyarrow 25.0.1, a table of format version 3.
# Guess: read_iceberg gives a column's initial-default for files older than the column, as pyiceberg does whose
#   table object it is handed, or refuses the table.
# Instead: the column is NULL in those rows, a required one too, and filters follow: q = 7 finds nothing, q IS NULL
#   finds every row. No error, no warning.
# Right: Iceberg specification, "Default values" and "Column Projection": a field that a file lacks has its
#   initial-default; null only if there is none.
# Seen:
#   pyiceberg: [{'id': 1, 'q': 7, 'day': datetime.date(2020, 1, 1)}], q = 7: 1, q IS NULL: 0
#   Daft: [{'id': 1, 'q': None, 'day': None}], q = 7: 0, q IS NULL: 1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check \
    daft==0.7.26 'pyiceberg[sql-sqlite]==0.12.0' pyarrow==25.0.1
cd "$work"
DAFT_PROGRESS_BAR=0 DO_NOT_TRACK=true "$work/venv/bin/python" - "$work" 2>"$work/log" <<'PYTHON' || { tail -n 5 "$work/log"; exit 1; }
import json
import pathlib
import sys

import daft
import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.schema import Schema
from pyiceberg.table import StaticTable
from pyiceberg.types import LongType, NestedField

catalog = SqlCatalog("c", uri=f"sqlite:///{sys.argv[1]}/c.db", warehouse=f"file://{sys.argv[1]}")
catalog.create_namespace("n")
table = catalog.create_table("n.t", Schema(NestedField(1, "id", LongType())))
table.append(pa.table({"id": [1]}))

# pyiceberg reads format version 3 but does not write it: upgrade the metadata, then add two columns with defaults.
before = pathlib.Path(table.metadata_location.removeprefix("file://"))
metadata = json.loads(before.read_text())
metadata |= {"format-version": 3, "next-row-id": 1, "last-column-id": 3}
for snapshot in metadata["snapshots"]:
    snapshot |= {"first-row-id": 0, "added-rows": 1}
(old,) = metadata["schemas"]
day = {"initial-default": "2020-01-01", "write-default": "2020-01-01"}
new = [
    {"id": 2, "name": "q", "required": False, "type": "long", "initial-default": 7, "write-default": 8},
    {"id": 3, "name": "day", "required": True, "type": "date", **day},
]
metadata["schemas"].append({**old, "schema-id": 1, "fields": [*old["fields"], *new]})
metadata["current-schema-id"] = 1
after = before.with_name("00002-upgraded.metadata.json")
after.write_text(json.dumps(metadata))

table = StaticTable.from_metadata(str(after))
frame = daft.read_iceberg(table)
q = daft.col("q")
seen = {
    "pyiceberg": f"{table.scan().to_arrow().to_pylist()}, q = 7: {table.scan('q = 7').count()}, "
    f"q IS NULL: {table.scan('q IS NULL').count()}",
    "Daft": f"{frame.to_pylist()}, q = 7: {frame.where(q == 7).count_rows()}, "
    f"q IS NULL: {frame.where(q.is_null()).count_rows()}",
}
expected = {
    "pyiceberg": "[{'id': 1, 'q': 7, 'day': datetime.date(2020, 1, 1)}], q = 7: 1, q IS NULL: 0",
    "Daft": "[{'id': 1, 'q': None, 'day': None}], q = 7: 0, q IS NULL: 1",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
