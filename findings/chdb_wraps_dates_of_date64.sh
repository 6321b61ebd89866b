#!/usr/bin/env bash
# Software: chDB 4.4.0, pyarrow 26.0.1 as the writer; the same column in a Parquet file and as date32 are the controls.
# Guess: a date64 of Arrow, a date in milliseconds, is the date that a date32 is, or what lies outside is refused.
# Instead: it becomes a DateTime, seconds from 1970 in 32 bits without sign, and whatever does not fit is taken modulo
#   2^32: the end of 1969 is in 2106, 1900 in 2036, and 2200 in 2063, at some time of day. A filter for days before
#   1970 finds nothing, no error, no warning. So from an Arrow file, a stream and a table in memory; a Parquet file
#   that pyarrow writes of the same table, where the column is DATE, is read right. The column returned is a uint32.
# Right: Arrow columnar format, Schema.fbs, "Date": milliseconds since the epoch in whole days, 64 bits with sign.
# Seen (2024-05-01, 1969-12-31, 1900-01-01, 2200-01-01):
#   date64, Arrow file: DateTime 2024-05-01 00:00:00, 2106-02-06 06:28:16, 2036-02-07 06:28:16, 2063-11-24 17:31:44
#   date64, Arrow stream and table in memory: as the Arrow file
#   date64, days before 1970: 0
#   date64, type returned: uint32
#   date64, Parquet file: Date32 2024-05-01, 1969-12-31, 1900-01-01, 2200-01-01
#   date32, Arrow file: Date32 2024-05-01, 1969-12-31, 1900-01-01, 2200-01-01
#   date32, days before 1970: 2
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check chdb==4.4.0 pyarrow==26.0.1
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import datetime
import io
import sys

import chdb
import pyarrow as pa
import pyarrow.parquet as pq

days = [datetime.date(*day) for day in [(2024, 5, 1), (1969, 12, 31), (1900, 1, 1), (2200, 1, 1)]]


def write(kind):
    table = pa.table({"x": pa.array(days, kind)}, pa.schema([pa.field("x", kind, nullable=False)]))
    for name, new in (("file", pa.ipc.new_file), ("stream", pa.ipc.new_stream)):
        with pa.OSFile(name, "wb") as sink, new(sink, table.schema) as writer:
            writer.write_table(table)
    pq.write_table(table, "parquet")
    return table


def lines(query):
    return chdb.query(query, "TSV").data().split("\n")[:-1]


def read(source):
    kinds = set(lines(f"SELECT toTypeName(x) FROM {source}"))
    return f"{'/'.join(kinds)} {', '.join(lines(f'SELECT toString(x) FROM {source}'))}"


def before(source):
    return lines(f"SELECT count() FROM {source} WHERE x < toDate32('1970-01-01')")[0]


file, stream, parquet = "file('file', 'Arrow')", "file('stream', 'ArrowStream')", "file('parquet', 'Parquet')"
table = write(pa.date64())
returned = pa.ipc.open_file(io.BytesIO(chdb.query(f"SELECT x FROM {file}", "Arrow").bytes())).read_all()
seen = {
    "date64, Arrow file": read(file),
    "date64, Arrow stream": read(stream),
    "date64, table in memory": read("Python(table)"),
    "date64, days before 1970": before(file),
    "date64, type returned": str(returned.schema.field("x").type),
    "date64, Parquet file": read(parquet),
}
write(pa.date32())
seen |= {"date32, Arrow file": read(file), "date32, days before 1970": before(file)}
wrapped = "2024-05-01 00:00:00, 2106-02-06 06:28:16, 2036-02-07 06:28:16, 2063-11-24 17:31:44"
expected = {
    "date64, Arrow file": f"DateTime {wrapped}",
    "date64, Arrow stream": f"DateTime {wrapped}",
    "date64, table in memory": f"DateTime {wrapped}",
    "date64, days before 1970": "0",
    "date64, type returned": "uint32",
    "date64, Parquet file": "Date32 2024-05-01, 1969-12-31, 1900-01-01, 2200-01-01",
    "date32, Arrow file": "Date32 2024-05-01, 1969-12-31, 1900-01-01, 2200-01-01",
    "date32, days before 1970": "2",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
