#!/usr/bin/env bash
# Software: pyiceberg 0.12.0, pyarrow 25.0.1, a column promoted from float to double after its first file.
# Guess: after the promotion a filter compares doubles: 0.1 stored as a float reads as 0.10000000149011612, which is
#   more than 0.1, so `x > 0.1` finds it.
# Instead: for the older file the literal is narrowed to the float of the file, 0.1 becomes 0.10000000149011612, and
#   neither `x > 0.1` nor `x < 0.10000000149011613` finds the row, which a scan without a filter shows. An equal value
#   in a newer file is found. `x = 0.10000000149011612` finds both.
# Right: Iceberg specification, "Schema Evolution" (float to double) and "Column Projection": the older values are
#   read as doubles of the current schema, which the filter is bound to.
# Seen (0.1f stands for 0.10000000149011612, 0.2f for 0.20000000298023224):
#   rows: 0.1 0.1f 0.1f 0.2f
#   x > 0.1: 0.1f 0.2f, right were 0.1f 0.1f 0.2f
#   x < 0.10000000149011613: 0.1 0.1f, right were 0.1 0.1f 0.1f
#   x = 0.10000000149011612: 0.1f 0.1f, right were 0.1f 0.1f
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check 'pyiceberg[sql-sqlite]==0.12.0' pyarrow==25.0.1
cd "$work"
"$work/venv/bin/python" - "$work" 2>"$work/log" <<'PYTHON' || { tail -n 5 "$work/log"; exit 1; }
import sys

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.schema import Schema
from pyiceberg.types import DoubleType, FloatType, NestedField

catalog = SqlCatalog("c", uri=f"sqlite:///{sys.argv[1]}/c.db", warehouse=f"file://{sys.argv[1]}")
catalog.create_namespace("n")
table = catalog.create_table("n.t", Schema(NestedField(1, "x", FloatType())))
table.append(pa.table({"x": pa.array([0.1, 0.2], pa.float32())}))
with table.update_schema() as update:
    update.update_column("x", DoubleType())
table.append(pa.table({"x": [0.10000000149011612, 0.1]}))
rows = table.scan().to_arrow()
names = {0.10000000149011612: "0.1f", 0.20000000298023224: "0.2f"}


def show(found):
    return " ".join(names.get(value, str(value)) for value in sorted(found["x"].to_pylist()))


seen = {"rows": show(rows)}
tests = {">": pc.greater, "<": pc.less, "=": pc.equal}
for sign, literal in ((">", 0.1), ("<", 0.10000000149011613), ("=", 0.10000000149011612)):
    right = show(rows.filter(tests[sign](rows["x"], literal)))
    seen[f"x {sign} {literal}"] = f"{show(table.scan(f'x {sign} {literal}').to_arrow())}, right were {right}"
expected = {
    "rows": "0.1 0.1f 0.1f 0.2f",
    "x > 0.1": "0.1f 0.2f, right were 0.1f 0.1f 0.2f",
    "x < 0.10000000149011613": "0.1 0.1f, right were 0.1 0.1f 0.1f",
    "x = 0.10000000149011612": "0.1f 0.1f, right were 0.1f 0.1f",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
