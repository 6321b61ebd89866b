#!/usr/bin/env bash
# Software: chDB 4.4.0 (ClickHouse 26.9); pyarrow 26.0.1 writes the same table as Parquet and as an Arrow file, which is
#   the control.
# Guess: the two files of one table answer the same query in the same way, as the types of both are known to the reader.
# Instead: from Parquet a struct that is NULL is a struct of NULLs, so that `s IS NULL` finds no row; from Arrow it is
#   NULL and found. A time of day is a moment of 1970-01-01 in UTC from Parquet, and a time of day from Arrow. No
#   error, no warning.
# Right: parquet-format, "Nested Encoding": the definition level tells a struct that is null from one whose fields are;
#   LogicalTypes.md, "TIME": a time without a date.
# Seen:
#   s IS NULL: Parquet [], Arrow [2]
#   s.a IS NULL: Parquet [2, 3], Arrow [2, 3]
#   type of t: Parquet Nullable(DateTime64(6, 'UTC')), Arrow Nullable(Time64(6))
#   t of the first row: Parquet 1970-01-01 01:02:03.000004, Arrow 01:02:03.000004
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check chdb==4.4.0 pyarrow==26.0.1
cd "$work"
"$work/venv/bin/python" - 2>"$work/log" <<'PYTHON' || { tail -n 5 "$work/log"; exit 1; }
import datetime as dt
import json
import sys

import chdb
import pyarrow as pa
import pyarrow.parquet as pq

structs = pa.array([{"a": 1, "b": 1}, None, {"a": None, "b": None}], pa.struct({"a": pa.int64(), "b": pa.int64()}))
times = pa.array([dt.time(1, 2, 3, 4), dt.time(2), dt.time(3)], pa.time64("us"))
rows = pa.table({"id": [1, 2, 3], "s": structs, "t": times})
pq.write_table(rows, "file.parquet")
with pa.ipc.new_file("file.arrow", rows.schema) as writer:
    writer.write_table(rows)


def ask(what, where):
    answers = []
    for name, path in (("Parquet", "file.parquet"), ("Arrow", "file.arrow")):
        query = f"SELECT {what} FROM file('{path}', {name}) WHERE {where} ORDER BY id"
        data = json.loads(str(chdb.query(query, "JSONCompact")))["data"]
        answers.append((name, [row[0] for row in data]))
    return answers


def ids(where):
    return ", ".join(f"{name} {[int(key) for key in keys]}" for name, keys in ask("id", where))


seen = {
    "s IS NULL": ids("s IS NULL"),
    "s.a IS NULL": ids("s.a IS NULL"),
    "type of t": ", ".join(f"{name} {kind}" for name, (kind,) in ask("toTypeName(t)", "id = 1")),
    "t of the first row": ", ".join(f"{name} {value}" for name, (value,) in ask("toString(t)", "id = 1")),
}
expected = {
    "s IS NULL": "Parquet [], Arrow [2]",
    "s.a IS NULL": "Parquet [2, 3], Arrow [2, 3]",
    "type of t": "Parquet Nullable(DateTime64(6, 'UTC')), Arrow Nullable(Time64(6))",
    "t of the first row": "Parquet 1970-01-01 01:02:03.000004, Arrow 01:02:03.000004",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
