#!/usr/bin/env bash
# Software: @dsnp/parquetjs 1.8.8 (npm; 1.9.3 came without its code) as the writer; pyarrow 26.0.1 and DuckDB 2.0.1
#   as readers, Polars 2.1.0, which does not skip here, as the control.
# Guess: a number given as a text, which the library takes for INT64 and DOUBLE and writes as the number, is one like
#   another: `id >= 10` finds the rows with 10 and 20.
# Instead: the values are right and the bounds are those of the texts: of 1, 5, 10 and 20 the greatest is 5, as texts
#   are ordered. pyarrow and DuckDB skip the row group for numbers beyond. Given as numbers, the same rows are found. No
#   error, no warning.
# Right: parquet.thrift, "ColumnOrder" and "Statistics": the order of INT64 and DOUBLE is that of the numbers, and
#   `max_value` is not less than any of them.
# Seen (rows found of 1, 5, 10 and 20):
#   texts: bounds 1 to 5
#   texts: id >= 10 by pyarrow 0, DuckDB 0, Polars 2
#   texts: values 1 5 10 20
#   numbers: bounds 1 to 20
#   numbers: id >= 10 by pyarrow 2, DuckDB 2, Polars 2
#   numbers: values 1 5 10 20
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pyarrow==26.0.1 duckdb==2.0.1 polars==2.1.0
npm install --silent --no-audit --no-fund --prefix "$work" @dsnp/parquetjs@1.8.8
cd "$work"
cat >write.mjs <<'JAVASCRIPT'
import parquetjs from '@dsnp/parquetjs';

for (const [name, ids] of [['texts', ['1', '5', '10', '20']], ['numbers', [1, 5, 10, 20]]]) {
  const schema = new parquetjs.ParquetSchema({ id: { type: 'INT64' } });
  const writer = await parquetjs.ParquetWriter.openFile(schema, `${name}.parquet`);
  for (const id of ids) await writer.appendRow({ id });
  await writer.close();
}
JAVASCRIPT
node write.mjs
"$work/venv/bin/python" - <<'PYTHON'
import sys

import duckdb
import polars as pl
import pyarrow.parquet as pq

con = duckdb.connect()
seen = {}
for name in ("texts", "numbers"):
    path = f"{name}.parquet"
    bounds = pq.read_metadata(path).row_group(0).column(0).statistics
    ((count,),) = con.sql(f"SELECT count(*) FROM '{path}' WHERE id >= 10").fetchall()
    pyarrow = pq.read_table(path, filters=[("id", ">=", 10)]).num_rows
    polars = pl.scan_parquet(path).filter(pl.col("id") >= 10).collect().height
    values = " ".join(map(str, pq.read_table(path)["id"].to_pylist()))
    seen[f"{name}: bounds"] = f"{bounds.min} to {bounds.max}"
    seen[f"{name}: id >= 10 by"] = f"pyarrow {pyarrow}, DuckDB {count}, Polars {polars}"
    seen[f"{name}: values"] = values
expected = {
    "texts: bounds": "1 to 5",
    "texts: id >= 10 by": "pyarrow 0, DuckDB 0, Polars 2",
    "texts: values": "1 5 10 20",
    "numbers: bounds": "1 to 20",
    "numbers: id >= 10 by": "pyarrow 2, DuckDB 2, Polars 2",
    "numbers: values": "1 5 10 20",
}
for what, value in seen.items():
    print(f"{what} {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
