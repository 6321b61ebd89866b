#!/usr/bin/env bash
# Software: pyarrow 26.0.1 (pyarrow.dataset), a Parquet file; Polars 2.1.0 as the control.
# Guess: `count_rows(filter=…)` is the number of rows of `to_table(filter=…)`, only faster.
# Instead: with a NaN in a row group whose numbers all match `x <= 2`, the count has the NaN and the table has not:
#   count_rows adds the size of each row group that the statistics prove, which leave NaN out. For `x != 2` and
#   `is_nan(x)` both agree but lose the NaN that a dataset in memory returns.
# Right: parquet.thrift, "ColumnOrder": min and max are without NaN, so they prove nothing about rows with NaN.
# Seen:
#   x == 2, file: count_rows 2, to_table [2.0, 2.0]
#   x == 2, memory: count_rows 2, to_table [2.0, 2.0]
#   x <= 2, file: count_rows 4, to_table [2.0, 2.0, 1.0]
#   x <= 2, memory: count_rows 3, to_table [2.0, 2.0, 1.0]
#   x != 2, file: count_rows 1, to_table [1.0]
#   x != 2, memory: count_rows 2, to_table [nan, 1.0]
#   is_nan(x), file: count_rows 0, to_table []
#   is_nan(x), memory: count_rows 1, to_table [nan]
#   Polars counts: [2, 3, 2, 1]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pyarrow==26.0.1 polars==2.1.0
cd "$work"
"$work/venv/bin/python" - "$work" 2>"$work/log" <<'PYTHON' || { tail -n 5 "$work/log"; exit 1; }
import sys

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

path = f"{sys.argv[1]}/x.parquet"
rows = pa.table({"x": [2.0, float("nan"), 2.0, 1.0]})
pq.write_table(rows, path, row_group_size=2)
x = ds.field("x")
conditions = {"x == 2": x == 2.0, "x <= 2": x <= 2.0, "x != 2": x != 2.0, "is_nan(x)": x.is_nan()}
seen = {}
for what, condition in conditions.items():
    for where, dataset in {"file": ds.dataset(path), "memory": ds.dataset(rows)}.items():
        found = dataset.to_table(filter=condition)["x"].to_pylist()
        seen[f"{what}, {where}"] = f"count_rows {dataset.count_rows(filter=condition)}, to_table {found}"
polars_counts = [
    pl.scan_parquet(path).filter(condition).select(pl.len()).collect().item()
    for condition in (pl.col("x") == 2, pl.col("x") <= 2, pl.col("x") != 2, pl.col("x").is_nan())
]
seen["Polars counts"] = str(polars_counts)
expected = {
    "x == 2, file": "count_rows 2, to_table [2.0, 2.0]",
    "x == 2, memory": "count_rows 2, to_table [2.0, 2.0]",
    "x <= 2, file": "count_rows 4, to_table [2.0, 2.0, 1.0]",
    "x <= 2, memory": "count_rows 3, to_table [2.0, 2.0, 1.0]",
    "x != 2, file": "count_rows 1, to_table [1.0]",
    "x != 2, memory": "count_rows 2, to_table [nan, 1.0]",
    "is_nan(x), file": "count_rows 0, to_table []",
    "is_nan(x), memory": "count_rows 1, to_table [nan]",
    "Polars counts": "[2, 3, 2, 1]",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
