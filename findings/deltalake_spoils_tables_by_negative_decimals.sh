#!/usr/bin/env bash
# Software: deltalake 1.6.6 (delta-rs), pyarrow 26.0.1.
# Guess: a row with -1.05 is appended to a table that is partitioned by a decimal, beside the row with 1.05.
# Instead: the append raises, and is in the log all the same: the partition is written as `-1.-5`, since the sign goes
#   to the digits behind the point as well (-0.01 becomes `0.-1`), and reading the log back is what fails. From then on
#   the table cannot be opened, so that the rows of before are out of reach but by naming the older version. A decimal
#   without a fraction is written right, and so are all decimals outside partitions.
# Right: Delta protocol, "Partition Value Serialization": a number is its decimal text; an append that fails leaves the
#   table as it was.
# Seen:
#   append of 1.05: partitions 1.05
#   append of -1.05: DeltaError, partitions 1.05 -1.-5
#   deltalake: DeltaError, Failed to parse value '-1.-5' as 'decimal(9,2)'
#   deltalake, version 0: [{'id': 1, 'd': Decimal('1.05')}]
#   append of -105 as decimal(9,0): [{'id': 1, 'd': Decimal('-105')}]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check deltalake==1.6.6 pyarrow==26.0.1
cd "$work"
"$work/venv/bin/python" - 2>"$work/log" <<'PYTHON' || { tail -n 5 "$work/log"; exit 1; }
import json
import pathlib
import re
import sys
from decimal import Decimal

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

table = str(pathlib.Path("table").resolve())


def row(key, number, digits=2):
    return pa.table({"id": [key], "d": pa.array([Decimal(number)], pa.decimal128(9, digits))})


def outcome(step, message=False):
    try:
        return str(step())
    except Exception as error:
        found = re.search(r"Failed to parse value '[^']*' as '[^']*'", str(error))
        return f"{type(error).__name__}, {found.group()}" if message and found else type(error).__name__


def append(key, number):
    error = outcome(lambda: write_deltalake(table, row(key, number), partition_by=["d"], mode="append"))
    lines = [line for log in sorted(pathlib.Path(table, "_delta_log").glob("*.json")) for line in log.open()]
    adds = [json.loads(line)["add"] for line in lines if '"add"' in line]
    found = "partitions " + " ".join(add["partitionValues"]["d"] for add in adds)
    return found if error == "None" else f"{error}, {found}"


seen = {
    "append of 1.05": append(1, "1.05"),
    "append of -1.05": append(2, "-1.05"),
    "deltalake": outcome(lambda: DeltaTable(table), message=True),
    "deltalake, version 0": outcome(lambda: DeltaTable(table, version=0).to_pyarrow_table().to_pylist()),
}
write_deltalake("whole", row(1, "-105", 0), partition_by=["d"])
seen["append of -105 as decimal(9,0)"] = str(DeltaTable("whole").to_pyarrow_table().to_pylist())
expected = {
    "append of 1.05": "partitions 1.05",
    "append of -1.05": "DeltaError, partitions 1.05 -1.-5",
    "deltalake": "DeltaError, Failed to parse value '-1.-5' as 'decimal(9,2)'",
    "deltalake, version 0": "[{'id': 1, 'd': Decimal('1.05')}]",
    "append of -105 as decimal(9,0)": "[{'id': 1, 'd': Decimal('-105')}]",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
