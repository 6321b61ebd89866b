#!/usr/bin/env bash
# Software: carquet 0.7.2 as the writer; pyarrow 26.0.1, Polars 2.1.0, DuckDB 2.0.1 and carquet itself as readers.
# Guess: a decimal that carquet takes from pyarrow is read by pyarrow again.
# Instead: pyarrow refuses the file: the schema of Arrow that carquet puts beside the one of Parquet (`ARROW:schema`,
#   which is in no specification of Parquet) has a decimal with a precision of 0. Readers that do not look there read
#   the value, as the schema of Parquet has all its digits; carquet's own reader gives bytes back, without a word
#   about a decimal, for files of other writers too.
# Right: parquet-format, LogicalTypes.md, "DECIMAL": scale and precision are those of the Parquet schema; Arrow
#   columnar format, Schema.fbs, "Decimal": the precision is the number of digits.
# Seen:
#   pyarrow: ArrowInvalid, Decimal precision out of range [1, 38]: 0
#   Polars: -1.15 as Decimal(precision=9, scale=2)
#   DuckDB: -1.15 as DECIMAL(9,2)
#   carquet: fixed_size_binary[4]
#   carquet, the file of pyarrow: fixed_size_binary[4]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check carquet==0.7.2 pyarrow==26.0.1 polars==2.1.0 duckdb==2.0.1
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import sys
from decimal import Decimal

import carquet
import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

table = pa.table({"d": pa.array([Decimal("-1.15")], pa.decimal128(9, 2))})
carquet.write_table(table, "carquet.parquet")
pq.write_table(table, "pyarrow.parquet", store_schema=False)


def by_pyarrow():
    try:
        return str(pq.read_table("carquet.parquet")["d"].to_pylist())
    except pa.ArrowInvalid as error:
        return f"ArrowInvalid, {error}"


column = pl.read_parquet("carquet.parquet")["d"]
value, kind = duckdb.sql("SELECT d, typeof(d) FROM 'carquet.parquet'").fetchall()[0]
seen = {
    "pyarrow": by_pyarrow(),
    "Polars": f"{column[0]} as {column.dtype}",
    "DuckDB": f"{value} as {kind}",
    "carquet": str(pa.table(carquet.read_table("carquet.parquet")).schema.field("d").type),
    "carquet, the file of pyarrow": str(pa.table(carquet.read_table("pyarrow.parquet")).schema.field("d").type),
}
expected = {
    "pyarrow": "ArrowInvalid, Decimal precision out of range [1, 38]: 0",
    "Polars": "-1.15 as Decimal(precision=9, scale=2)",
    "DuckDB": "-1.15 as DECIMAL(9,2)",
    "carquet": "fixed_size_binary[4]",
    "carquet, the file of pyarrow": "fixed_size_binary[4]",
}
for what, text in seen.items():
    print(f"{what}: {text}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
