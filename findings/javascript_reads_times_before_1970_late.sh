#!/usr/bin/env bash
# Software: hyparquet 1.33.0 and @dsnp/parquetjs 1.8.8 (npm), pyarrow 26.0.1 as the writer and as the control.
# Guess: a time with microseconds becomes a Date of the millisecond it lies in; what a Date cannot hold is cut off, so
#   that no time moves past another one, nor out of its second, day or year.
# Instead: both divide the number since 1970 as integers, which cuts towards zero: each time before 1970 is moved up
#   to the next millisecond. The last microsecond of 1969 is read as the first of 1970, the last one of a month before
#   falls into the next month, and hyparquet's filter `$lt` by 1970 does not return a row of 1969. Times after 1970
#   are cut down.
# Right: parquet-format, LogicalTypes.md, "TIMESTAMP": the number is the time since 1970, negative before; a coarser
#   value of it that stays in its unit is the floor.
# Seen:
#   1969-12-31 23:59:59.999999: hyparquet 1970-01-01T00:00:00.000Z, parquetjs 1970-01-01T00:00:00.000Z
#   1955-01-31 23:59:59.999500: hyparquet 1955-02-01T00:00:00.000Z, parquetjs 1955-02-01T00:00:00.000Z
#   2020-01-31 23:59:59.999500: hyparquet 2020-01-31T23:59:59.999Z, parquetjs 2020-01-31T23:59:59.999Z
#   rows before 1970: hyparquet 1, pyarrow 2
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pyarrow==26.0.1
npm install --silent --no-audit --no-fund --prefix "$work" @dsnp/parquetjs@1.8.8 hyparquet@1.33.0
cd "$work"
cat >read.mjs <<'JAVASCRIPT'
import parquetjs from '@dsnp/parquetjs';
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet';

const file = await asyncBufferFromFile('file.parquet');
const rows = await parquetReadObjects({ file });
const reader = await parquetjs.ParquetReader.openFile('file.parquet');
const cursor = reader.getCursor();
for (const { t } of rows) {
  const other = await cursor.next();
  console.log(`hyparquet ${t.toISOString()}, parquetjs ${other.t.toISOString()}`);
}
await reader.close();
console.log((await parquetReadObjects({ file, filter: { t: { $lt: new Date(0) } } })).length);
JAVASCRIPT
"$work/venv/bin/python" - <<'PYTHON'
import datetime as dt
import subprocess
import sys

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

times = [
    dt.datetime(1969, 12, 31, 23, 59, 59, 999999),
    dt.datetime(1955, 1, 31, 23, 59, 59, 999500),
    dt.datetime(2020, 1, 31, 23, 59, 59, 999500),
]
pq.write_table(pa.table({"t": pa.array(times, pa.timestamp("us"))}), "file.parquet", compression="none")
lines = subprocess.run(["node", "read.mjs"], check=True, capture_output=True, text=True).stdout.splitlines()
seen = dict(zip(map(str, times), lines, strict=False))
control = pq.read_table("file.parquet", filters=pc.field("t") < dt.datetime(1970, 1, 1)).num_rows
seen["rows before 1970"] = f"hyparquet {lines[-1]}, pyarrow {control}"


def both(time):
    return f"hyparquet {time}, parquetjs {time}"


expected = {
    "1969-12-31 23:59:59.999999": both("1970-01-01T00:00:00.000Z"),
    "1955-01-31 23:59:59.999500": both("1955-02-01T00:00:00.000Z"),
    "2020-01-31 23:59:59.999500": both("2020-01-31T23:59:59.999Z"),
    "rows before 1970": "hyparquet 1, pyarrow 2",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
