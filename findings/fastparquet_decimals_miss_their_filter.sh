#!/usr/bin/env bash
# Software: fastparquet 2026.9.0, pyarrow 26.0.1 as the writer and as the control.
# Guess: a decimal read as a double is the nearest double: 1.15 is read as 1.15, and a filter on it finds it.
# Instead: the unscaled integer is multiplied by the double 0.01, which is not a hundredth: 1.15 is read as
#   1.1500000000000001. The filter `x == 1.15` then finds no row, as the statistics are converted in the same way and
#   the row group is skipped; 1.10 is found. About one in eight of the values with two digits after the point is off.
# Right: parquet-format, LogicalTypes.md, "DECIMAL": the value is the integer times ten to the power of minus scale;
#   a division by 100, which is exact, gives the nearest double.
# Seen:
#   1.10: read as 1.1, rows with x == 1.10: 1, by pyarrow 1
#   1.15: read as 1.1500000000000001, rows with x == 1.15: 0, by pyarrow 1
#   0.00 to 99.99, not the nearest double: 1327 of 10000
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check fastparquet==2026.9.0 pyarrow==26.0.1
cd "$work"
"$work/venv/bin/python" - "$work" 2>"$work/log" <<'PYTHON' || { tail -n 5 "$work/log"; exit 1; }
import sys
from decimal import Decimal

import fastparquet
import pyarrow as pa
import pyarrow.parquet as pq

path = f"{sys.argv[1]}/x.parquet"
kind = pa.decimal128(9, 2)
every = [Decimal(cents).scaleb(-2) for cents in range(10000)]
seen = {}
for text in ("1.10", "1.15"):
    pq.write_table(pa.table({"x": pa.array([Decimal(text)], kind)}), path)
    file = fastparquet.ParquetFile(path)
    (value,) = file.to_pandas()["x"].tolist()
    found = len(file.to_pandas(filters=[("x", "==", float(text))], row_filter=True))
    by_pyarrow = pq.read_table(path, filters=[("x", "==", Decimal(text))]).num_rows
    seen[text] = f"read as {value!r}, rows with x == {text}: {found}, by pyarrow {by_pyarrow}"
pq.write_table(pa.table({"x": pa.array(every, kind)}), path)
values = fastparquet.ParquetFile(path).to_pandas()["x"].tolist()
wrong = sum(value != float(exact) for value, exact in zip(values, every, strict=True))
seen["0.00 to 99.99, not the nearest double"] = f"{wrong} of {len(every)}"
expected = {
    "1.10": "read as 1.1, rows with x == 1.10: 1, by pyarrow 1",
    "1.15": "read as 1.1500000000000001, rows with x == 1.15: 0, by pyarrow 1",
    "0.00 to 99.99, not the nearest double": "1327 of 10000",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
