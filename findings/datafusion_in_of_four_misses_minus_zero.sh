#!/usr/bin/env bash
# Software: DataFusion 55.0.0, pyarrow 26.0.1 as the writer; DuckDB 2.0.1 is the control.
# Guess: `f IN (0, 7, 8, 9)` returns the rows of `f IN (0, 7, 8)` where f is none of 7, 8 and 9.
# Instead: with four values or more the row with -0.0 is missing, and `NOT IN` returns it. Up to three are rewritten
#   into `=`, for which both zeros are one value; four are looked up by their bits. So are those of a subquery, and the
#   values of a simple CASE. GROUP BY and joins take both zeros for one. No error, no warning.
# Right: ISO/IEC 9075-2, in predicate: `f IN (…)` is `f = ANY (VALUES …)`, whatever the number of values; IEEE 754,
#   5.11: the zeros are equal.
# Seen (ids of the rows found of (1, 0.0) (2, -0.0) (3, 1.0)):
#   f = 0: DataFusion [1, 2], DuckDB [1, 2]
#   f IN (0, 7, 8): DataFusion [1, 2], DuckDB [1, 2]
#   f IN (0, 7, 8, 9): DataFusion [1], DuckDB [1, 2]
#   f IN (-0.0, 7, 8, 9): DataFusion [2], DuckDB [1, 2]
#   f NOT IN (0, 7, 8): DataFusion [3], DuckDB [3]
#   f NOT IN (0, 7, 8, 9): DataFusion [2, 3], DuckDB [3]
#   f IN (SELECT CAST(0 AS DOUBLE)): DataFusion [1], DuckDB [1, 2]
#   CASE f WHEN 0 THEN TRUE ELSE FALSE END: DataFusion [1], DuckDB [1, 2]
#   values that GROUP BY tells apart: DataFusion 2, DuckDB 2
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check datafusion==55.0.0 pyarrow==26.0.1 duckdb==2.0.1
"$work/venv/bin/python" - <<'PYTHON'
import sys

import datafusion
import duckdb
import pyarrow as pa

t = pa.table({"id": [1, 2, 3], "f": [0.0, -0.0, 1.0]})
context = datafusion.SessionContext()
context.register_record_batches("t", [t.to_batches()])


def both(query):
    one = [value for batch in context.sql(query).collect() for value in batch.column(0).to_pylist()]
    return one, [value for (value,) in duckdb.sql(query).fetchall()]


expected = {
    "f = 0": "DataFusion [1, 2], DuckDB [1, 2]",
    "f IN (0, 7, 8)": "DataFusion [1, 2], DuckDB [1, 2]",
    "f IN (0, 7, 8, 9)": "DataFusion [1], DuckDB [1, 2]",
    "f IN (-0.0, 7, 8, 9)": "DataFusion [2], DuckDB [1, 2]",
    "f NOT IN (0, 7, 8)": "DataFusion [3], DuckDB [3]",
    "f NOT IN (0, 7, 8, 9)": "DataFusion [2, 3], DuckDB [3]",
    "f IN (SELECT CAST(0 AS DOUBLE))": "DataFusion [1], DuckDB [1, 2]",
    "CASE f WHEN 0 THEN TRUE ELSE FALSE END": "DataFusion [1], DuckDB [1, 2]",
    "values that GROUP BY tells apart": "DataFusion 2, DuckDB 2",
}
seen = {}
for condition in list(expected)[:-1]:
    one, other = both(f"SELECT id FROM t WHERE {condition} ORDER BY id")
    seen[condition] = f"DataFusion {one}, DuckDB {other}"
one, other = both("SELECT f FROM t GROUP BY f")
seen["values that GROUP BY tells apart"] = f"DataFusion {len(one)}, DuckDB {len(other)}"
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
