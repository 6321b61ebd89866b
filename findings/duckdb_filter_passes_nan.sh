#!/usr/bin/env bash
# Software: DuckDB 2.0.1 and DataFusion 55.0.0 over a Parquet file of pyarrow 26.0.1; Polars 2.1.0 as the control.
# Guess: in both, NaN is greater than each number; so `x <= 2` does not return NaN, as it does not for a table in
#   memory. At most, pruning of row groups might lose a NaN.
# Instead: it loses them (`x > 2`, `max(x)`; in DuckDB `isnan(x)` too), and DuckDB also returns NaN for `x <= 2` and
#   `x BETWEEN 0 AND 2`: the statistics, which leave NaN out, prove the condition for the file, and the filter is
#   dropped. DataFusion filters such rows all the same; Polars does not trust the bounds.
# Right: parquet.thrift, "ColumnOrder": bounds leave NaN out, and a reader that looks for NaN has to disregard them.
# Seen:
#   DuckDB, x <= 2: file [1.0, 1.5, 2.0, nan], memory [1.0, 1.5, 2.0]
#   DuckDB, x > 2: file [], memory [nan]
#   DuckDB, x BETWEEN 0 AND 2: file [1.0, 1.5, 2.0, nan], memory [1.0, 1.5, 2.0]
#   DuckDB, isnan(x): file [], memory [nan]
#   DuckDB, max(x): file [2.0], memory [nan]
#   DataFusion, x <= 2: file [1.0, 1.5, 2.0], memory [1.0, 1.5, 2.0]
#   DataFusion, x > 2: file [], memory [nan]
#   DataFusion, max(x): file [2.0], memory [nan]
#   Polars, x <= 2: file [1.0, 1.5, 2.0]
#   Polars, x > 2: file [nan]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check \
    duckdb==2.0.1 datafusion==55.0.0 polars==2.1.0 pyarrow==26.0.1
cd "$work"
"$work/venv/bin/python" - "$work" 2>"$work/log" <<'PYTHON' || { tail -n 5 "$work/log"; exit 1; }
import sys

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from datafusion import SessionContext

path = f"{sys.argv[1]}/x.parquet"
rows = pa.table({"x": [2.0, float("nan"), 1.0, 1.5]})
pq.write_table(rows, path, row_group_size=2)
connection = duckdb.connect()
connection.register("memory", rows)
context = SessionContext()
context.register_parquet("file", path)
context.register_record_batches("memory", [rows.to_batches()])


def ordered(values):
    return sorted(values, key=lambda value: (value != value, value))


def by_duckdb(source, rest, what="x"):
    return ordered(row[0] for row in connection.sql(f"SELECT {what} FROM {source} {rest}").fetchall())


def by_datafusion(source, rest, what="x"):
    batches = context.sql(f"SELECT {what} FROM {source} {rest}").collect()
    return ordered(value for batch in batches for value in batch[0].to_pylist())


seen = {}
for condition in ("x <= 2", "x > 2", "x BETWEEN 0 AND 2", "isnan(x)"):
    inside, outside = (by_duckdb(source, f"WHERE {condition}") for source in (f"'{path}'", "memory"))
    seen[f"DuckDB, {condition}"] = f"file {inside}, memory {outside}"
inside, outside = (by_duckdb(source, "", "max(x)") for source in (f"'{path}'", "memory"))
seen["DuckDB, max(x)"] = f"file {inside}, memory {outside}"
for what, arguments in {"x <= 2": ("WHERE x <= 2",), "x > 2": ("WHERE x > 2",), "max(x)": ("", "max(x)")}.items():
    inside, outside = (by_datafusion(source, *arguments) for source in ("file", "memory"))
    seen[f"DataFusion, {what}"] = f"file {inside}, memory {outside}"
for what, condition in {"x <= 2": pl.col("x") <= 2, "x > 2": pl.col("x") > 2}.items():
    seen[f"Polars, {what}"] = f"file {ordered(pl.scan_parquet(path).filter(condition).collect()['x'])}"
expected = {
    "DuckDB, x <= 2": "file [1.0, 1.5, 2.0, nan], memory [1.0, 1.5, 2.0]",
    "DuckDB, x > 2": "file [], memory [nan]",
    "DuckDB, x BETWEEN 0 AND 2": "file [1.0, 1.5, 2.0, nan], memory [1.0, 1.5, 2.0]",
    "DuckDB, isnan(x)": "file [], memory [nan]",
    "DuckDB, max(x)": "file [2.0], memory [nan]",
    "DataFusion, x <= 2": "file [1.0, 1.5, 2.0], memory [1.0, 1.5, 2.0]",
    "DataFusion, x > 2": "file [], memory [nan]",
    "DataFusion, max(x)": "file [2.0], memory [nan]",
    "Polars, x <= 2": "file [1.0, 1.5, 2.0]",
    "Polars, x > 2": "file [nan]",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
