#!/usr/bin/env bash
# Software: pyiceberg 0.12.0, pyarrow 25.0.1, a table of one double column without partitions.
# Guess: `table.delete(condition)` deletes the rows that `table.scan(condition)` returns.
# Instead: where all numbers of a file meet the condition, the file is dropped with its NaN rows, which do not meet
#   it: bounds leave NaN out, pyiceberg writes no `nan_value_counts`, and its strict evaluation takes a count that is
#   missing for a count of zero. With one number that does not match the file is rewritten and the NaN stays; NULL
#   stays always. The same missing count makes a scan for `x is nan` find nothing.
# Right: Iceberg specification, "Manifests", fields of `data_file`: bounds are those of the values that are neither
#   null nor NaN; `nan_value_counts` is optional, so its absence says nothing.
# Seen:
#   x <= 2.0 of 1.0, 2.0, NaN: matches [1.0, 2.0], after the delete []
#   x = 2.0 of 2.0, NaN: matches [2.0], after the delete []
#   x <= 2.0 of 1.0, 3.0, NaN: matches [1.0], after the delete [3.0, nan]
#   x <= 2.0 of 1.0, 2.0, NULL: matches [1.0, 2.0], after the delete [None]
#   NaN count in the manifest: None
#   x is nan of 2.0, NaN: matches []
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check 'pyiceberg[sql-sqlite]==0.12.0' pyarrow==25.0.1
cd "$work"
"$work/venv/bin/python" - "$work" 2>"$work/log" <<'PYTHON' || { tail -n 5 "$work/log"; exit 1; }
import sys

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.schema import Schema
from pyiceberg.types import DoubleType, NestedField

catalog = SqlCatalog("c", uri=f"sqlite:///{sys.argv[1]}/c.db", warehouse=f"file://{sys.argv[1]}")
catalog.create_namespace("n")
schema = Schema(NestedField(1, "x", DoubleType()))
nan = float("nan")
seen = {}


def run(what, condition, values):
    table = catalog.create_table(f"n.t{len(seen)}", schema)
    table.append(pa.table({"x": pa.array(values, pa.float64())}))
    matched = table.scan(condition).to_arrow()["x"].to_pylist()
    table.delete(condition)
    seen[what] = f"matches {matched}, after the delete {table.scan().to_arrow()['x'].to_pylist()}"
    return table


run("x <= 2.0 of 1.0, 2.0, NaN", "x <= 2.0", [1.0, 2.0, nan])
run("x = 2.0 of 2.0, NaN", "x = 2.0", [2.0, nan])
run("x <= 2.0 of 1.0, 3.0, NaN", "x <= 2.0", [1.0, 3.0, nan])
run("x <= 2.0 of 1.0, 2.0, NULL", "x <= 2.0", [1.0, 2.0, None])
table = catalog.create_table("n.nan", schema)
table.append(pa.table({"x": [2.0, nan]}))
count = table.inspect.files()["readable_metrics"][0].as_py()["x"]["nan_value_count"]
seen["NaN count in the manifest"] = str(count)
seen["x is nan of 2.0, NaN"] = f"matches {table.scan('x is nan').to_arrow()['x'].to_pylist()}"
expected = {
    "x <= 2.0 of 1.0, 2.0, NaN": "matches [1.0, 2.0], after the delete []",
    "x = 2.0 of 2.0, NaN": "matches [2.0], after the delete []",
    "x <= 2.0 of 1.0, 3.0, NaN": "matches [1.0], after the delete [3.0, nan]",
    "x <= 2.0 of 1.0, 2.0, NULL": "matches [1.0, 2.0], after the delete [None]",
    "NaN count in the manifest": "None",
    "x is nan of 2.0, NaN": "matches []",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
