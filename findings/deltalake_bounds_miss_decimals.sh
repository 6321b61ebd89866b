#!/usr/bin/env bash
# Software: deltalake 1.6.6 (delta-rs) as the writer; it and DuckDB 1.5.5 with its Delta extension 1.5.5 as readers;
#   pyarrow 26.0.1.
# Guess: a row with the decimal 123456789012345.67 is found by `d = 123456789012345.67`, as one of fewer digits is.
# Instead: no row: the least and the greatest value of the file are written to the log as doubles, here as
#   123456789012345.69, so that the file is skipped. From 17 digits on that happens to some values, of a decimal(18,2)
#   too. deltalake's own `delete` with the condition deletes nothing, and both readers find nothing; `max` and a
#   scan without a filter have the value. No error, no warning.
# Right: Delta protocol, "Per-file Statistics": `minValues` and `maxValues` are values that no value of the file is
#   smaller or greater than; JSON can hold the digits of a decimal.
# Seen:
#   12345678901234.56: bounds 12345678901234.56 to 12345678901234.56
#   12345678901234.56: rows found by deltalake 1, DuckDB 1, rows deleted 1
#   123456789012345.67: bounds 123456789012345.69 to 123456789012345.69
#   123456789012345.67: rows found by deltalake 0, DuckDB 0, rows deleted 0
#   123456789012345.67: max by DuckDB 123456789012345.67
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check deltalake==1.6.6 pyarrow==26.0.1 \
    duckdb==1.5.5 duckdb-extension-delta==1.5.5
cd "$work"
"$work/venv/bin/python" - 2>"$work/log" <<'PYTHON' || { tail -n 5 "$work/log"; exit 1; }
import importlib.util
import json
import pathlib
import sys
from decimal import Decimal

import duckdb
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

con = duckdb.connect()
(package,) = importlib.util.find_spec("duckdb_extension_delta").submodule_search_locations
con.load_extension(str(next(pathlib.Path(package).rglob("delta.duckdb_extension"))))
seen = {}
for text in ("12345678901234.56", "123456789012345.67"):
    number = Decimal(text)
    path = str(pathlib.Path(text).resolve())
    write_deltalake(path, pa.table({"d": pa.array([number], pa.decimal128(18, 2))}))
    (log,) = pathlib.Path(path, "_delta_log").glob("*.json")
    (add,) = [json.loads(line)["add"] for line in log.open() if '"add"' in line]
    bounds = json.loads(add["stats"], parse_float=str)
    seen[f"{text}: bounds"] = f"{bounds['minValues']['d']} to {bounds['maxValues']['d']}"
    deltalake = DeltaTable(path).to_pyarrow_table(filters=[("d", "=", number)]).num_rows
    ((count,),) = con.sql(f"SELECT count(*) FROM delta_scan('{path}') WHERE d = {text}").fetchall()
    ((largest,),) = con.sql(f"SELECT max(d) FROM delta_scan('{path}')").fetchall()
    deleted = DeltaTable(path).delete(f"d = CAST('{text}' AS DECIMAL(18, 2))")["num_deleted_rows"]
    found = f"deltalake {deltalake}, DuckDB {count}, rows deleted {deleted}"
    seen[f"{text}: rows found by"] = found
    seen[f"{text}: max by DuckDB"] = str(largest)
expected = {
    "12345678901234.56: bounds": "12345678901234.56 to 12345678901234.56",
    "12345678901234.56: rows found by": "deltalake 1, DuckDB 1, rows deleted 1",
    "12345678901234.56: max by DuckDB": "12345678901234.56",
    "123456789012345.67: bounds": "123456789012345.69 to 123456789012345.69",
    "123456789012345.67: rows found by": "deltalake 0, DuckDB 0, rows deleted 0",
    "123456789012345.67: max by DuckDB": "123456789012345.67",
}
for what, value in seen.items():
    print(f"{what} {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
