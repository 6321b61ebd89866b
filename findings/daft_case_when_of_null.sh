#!/usr/bin/env bash
# Software: Daft 0.7.26, pyarrow 25.0.1.
# Guess: CASE WHEN x > 2 THEN 'big' ELSE 'small' END is 'small' where x is NULL, as the condition is not true.
# Instead: it is NULL: an unknown condition makes the whole expression unknown, in SQL and in when(…).otherwise(…).
# Right: ISO/IEC 9075-2, case expression: the result is that of the first branch whose condition is true, else that
#   of ELSE; so do PostgreSQL, SQLite and DuckDB.
# Seen:
#   CASE WHEN: ['big', 'small', None]
#   with coalesce(x > 2, FALSE): ['big', 'small', 'small']
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check daft==0.7.26 pyarrow==25.0.1
cd "$work"
DAFT_PROGRESS_BAR=0 DO_NOT_TRACK=true "$work/venv/bin/python" - 2>"$work/log" <<'PYTHON' || { tail -n 5 "$work/log"; exit 1; }
import sys

import daft
import pyarrow as pa

rows = daft.from_arrow(pa.table({"x": pa.array([3, 1, None], pa.int64())}))
seen = {}
for name, condition in (("CASE WHEN", "x > 2"), ("with coalesce(x > 2, FALSE)", "coalesce(x > 2, FALSE)")):
    query = f"SELECT CASE WHEN {condition} THEN 'big' ELSE 'small' END AS size FROM t"
    seen[name] = daft.sql(query, register_globals=False, t=rows).to_pydict()["size"]
expected = {
    "CASE WHEN": ["big", "small", None],
    "with coalesce(x > 2, FALSE)": ["big", "small", "small"],
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
