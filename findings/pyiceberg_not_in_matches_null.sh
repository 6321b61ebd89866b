#!/usr/bin/env bash
# Software: pyiceberg 0.12.0, pyarrow 25.0.1, a column of longs with 1, 2 and NULL in one file.
# Guess: `x not in (1, 9)` returns what `x != 1 and x != 9` returns, and a delete with it deletes what it returns.
# Instead: the scan returns, and counts, the NULL row too, but only for two literals or more: `not in` with one is
#   rewritten to `!=`, which does not return it. A delete with the same condition leaves the NULL row in the table.
# Right: one answer. In SQL, which `!=` of this release follows, a comparison with NULL is not true, and `not in` is
#   a conjunction of `!=`. The Iceberg specification does not define the filters of a library.
# Seen:
#   x != 1: matches [2], counts 1, after the delete [1, None]
#   x not in (1): matches [2], counts 1, after the delete [1, None]
#   x not in (1, 9): matches [2, None], counts 2, after the delete [1, None]
#   x != 1 and x != 9: matches [2], counts 1, after the delete [1, None]
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
from pyiceberg.types import LongType, NestedField

catalog = SqlCatalog("c", uri=f"sqlite:///{sys.argv[1]}/c.db", warehouse=f"file://{sys.argv[1]}")
catalog.create_namespace("n")
table = catalog.create_table("n.t", Schema(NestedField(1, "x", LongType())))
seen = {}
for condition in ("x != 1", "x not in (1)", "x not in (1, 9)", "x != 1 and x != 9"):
    table.overwrite(pa.table({"x": pa.array([1, 2, None], pa.int64())}))
    matched = table.scan(condition).to_arrow()["x"].to_pylist()
    count = table.scan(condition).count()
    table.delete(condition)
    left = table.scan().to_arrow()["x"].to_pylist()
    seen[condition] = f"matches {matched}, counts {count}, after the delete {left}"
expected = {
    "x != 1": "matches [2], counts 1, after the delete [1, None]",
    "x not in (1)": "matches [2], counts 1, after the delete [1, None]",
    "x not in (1, 9)": "matches [2, None], counts 2, after the delete [1, None]",
    "x != 1 and x != 9": "matches [2], counts 1, after the delete [1, None]",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
