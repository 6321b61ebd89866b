#!/usr/bin/env bash
# Software: pyiceberg 0.12.0 (its compiled Avro decoder), pyarrow 25.0.1.
# Guess: a filter `x = 1/3` on a table partitioned by identity(x), x a double, finds the row with 1/3.
# Instead: the partition value is read from the manifest with the precision of a float, 0.3333333432674408, so the
#   file is pruned and the filter answers no row, silently; `x = 0.5`, which a float holds, finds its row, and
#   without a filter the value is 1/3. A delete with the filter that finds no row deletes the row.
# Right: Avro specification, "Binary Encoding": a double is 8 bytes. The same release's decoder in Python reads the
#   8 bytes of 1/3 as 1/3: the file is right, the compiled decoder is not.
# Seen:
#   rows with x = 1/3: []
#   rows with x = 1/2: [0.5]
#   rows: [0.3333333333333333, 0.5]
#   partition of the file with 1/3: 0.3333333432674408
#   decoded in Python: 0.3333333333333333
#   rows after deleting x = 1/3: [0.5]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check 'pyiceberg[sql-sqlite]==0.12.0' pyarrow==25.0.1
cd "$work"
"$work/venv/bin/python" - "$work" 2>"$work/log" <<'PYTHON' || { tail -n 5 "$work/log"; exit 1; }
import struct
import sys

import pyarrow as pa
from pyiceberg.avro.decoder import StreamingBinaryDecoder
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.expressions import EqualTo

catalog = SqlCatalog("c", uri=f"sqlite:///{sys.argv[1]}/c.db", warehouse=f"file://{sys.argv[1]}")
catalog.create_namespace("n")
table = catalog.create_table("n.t", pa.schema([("x", pa.float64())]))
with table.update_spec() as spec:
    spec.add_identity("x")
table.append(pa.table({"x": [1 / 3, 0.5]}))


def rows(**more):
    return sorted(table.scan(**more).to_arrow().column("x").to_pylist())


seen = {
    "rows with x = 1/3": rows(row_filter=EqualTo("x", 1 / 3)),
    "rows with x = 1/2": rows(row_filter=EqualTo("x", 0.5)),
    "rows": rows(),
    "partition of the file with 1/3": min(task.file.partition[0] for task in table.scan().plan_files()),
    "decoded in Python": StreamingBinaryDecoder(struct.pack("<d", 1 / 3)).read_double(),
}
table.delete(EqualTo("x", 1 / 3))
seen["rows after deleting x = 1/3"] = rows()
expected = {
    "rows with x = 1/3": [],
    "rows with x = 1/2": [0.5],
    "rows": [1 / 3, 0.5],
    "partition of the file with 1/3": 0.3333333432674408,
    "decoded in Python": 1 / 3,
    "rows after deleting x = 1/3": [0.5],
}
for what in expected:
    print(f"{what}: {seen[what]}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
