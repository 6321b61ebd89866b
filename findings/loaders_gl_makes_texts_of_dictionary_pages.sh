#!/usr/bin/env bash
# Software: @loaders.gl/parquet and @loaders.gl/core 4.5.2 (npm), pyarrow 26.0.1 as the writer.
# Guess: how a column is encoded does not show: dictionary pages (pyarrow's default) and plain pages of the same rows
#   are read as the same values.
# Instead: from dictionary pages each value goes through a text. Numbers are texts like "1", so that adding two of
#   them joins them and 10 sorts before 9, while the schema says int32. A timestamp in milliseconds is then made a Date
#   from that text, which is taken for a date in words: 12 milliseconds after 1970 is December of 2001, 1500 is the
#   year 1500, and today is an invalid Date. Microseconds are divided before, and right.
# Right: Parquet format, Encodings.md, "Dictionary Encoding": an encoding of the values, which stay those of the type.
# Seen:
#   int32 of dictionary pages: string 9, string 10, undefined; sum 910
#   int32 of plain pages: number 9, number 10, undefined; sum 19
#   double of dictionary pages: string 1.5, string 0.25, undefined; sum 1.50.25
#   double of plain pages: number 1.5, number 0.25, undefined; sum 1.75
#   timestamp[ms] of dictionary pages: Invalid Date, 1500-01-01T00:00:00.000Z, 2001-12-01T00:00:00.000Z
#   timestamp[ms] of plain pages: 2024-05-01T12:30:00.123Z, 1970-01-01T00:00:01.500Z, 1970-01-01T00:00:00.012Z
#   timestamp[us] of dictionary pages and of plain pages: as timestamp[ms] of plain pages
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pyarrow==26.0.1
npm install --silent --no-audit --no-fund --prefix "$work" @loaders.gl/parquet@4.5.2 @loaders.gl/core@4.5.2
cd "$work"
cat >read.cjs <<'JAVASCRIPT'
process.env.TZ = 'UTC';
const { ParquetJSONLoader } = require('@loaders.gl/parquet');
const { parse } = require('@loaders.gl/core');
const { readFileSync } = require('node:fs');

const show = (value) =>
  value === undefined ? 'undefined'
    : !(value instanceof Date) ? `${typeof value} ${value}`
      : Number.isNaN(value.getTime()) ? 'Invalid Date' : value.toISOString();
(async () => {
  const { buffer, byteOffset, length } = readFileSync(process.argv[2]);
  const file = buffer.slice(byteOffset, byteOffset + length);
  const values = (await parse(file, ParquetJSONLoader, { worker: false })).data.map((row) => row.x);
  const sum = values.filter((value) => value !== undefined).reduce((one, other) => one + other);
  console.log(values.map(show).join(', ') + (values[0] instanceof Date ? '' : `; sum ${sum}`));
})();
JAVASCRIPT
"$work/venv/bin/python" - <<'PYTHON'
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq

times = pa.array([1714566600123, 1500, 12], pa.timestamp("ms"))
columns = {
    "int32": pa.array([9, 10, None], pa.int32()),
    "double": pa.array([1.5, 0.25, None]),
    "timestamp[ms]": times,
    "timestamp[us]": times.cast(pa.timestamp("us")),
}


def read(column, dictionary):
    pq.write_table(pa.table({"x": column}), "file.parquet", compression="none", use_dictionary=dictionary)
    done = subprocess.run(["node", "read.cjs", "file.parquet"], check=True, capture_output=True, text=True)
    return done.stdout.strip().splitlines()[-1]


seen = {}
for name, column in columns.items():
    seen[f"{name} of dictionary pages"] = read(column, True)
    seen[f"{name} of plain pages"] = read(column, False)
moments = "2024-05-01T12:30:00.123Z, 1970-01-01T00:00:01.500Z, 1970-01-01T00:00:00.012Z"
expected = {
    "int32 of dictionary pages": "string 9, string 10, undefined; sum 910",
    "int32 of plain pages": "number 9, number 10, undefined; sum 19",
    "double of dictionary pages": "string 1.5, string 0.25, undefined; sum 1.50.25",
    "double of plain pages": "number 1.5, number 0.25, undefined; sum 1.75",
    "timestamp[ms] of dictionary pages": "Invalid Date, 1500-01-01T00:00:00.000Z, 2001-12-01T00:00:00.000Z",
    "timestamp[ms] of plain pages": moments,
    "timestamp[us] of dictionary pages": moments,
    "timestamp[us] of plain pages": moments,
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
