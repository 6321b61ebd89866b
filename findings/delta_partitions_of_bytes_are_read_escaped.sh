#!/usr/bin/env bash
# Software: deltalake 1.6.6 (delta-rs); it and DuckDB 1.5.5 with its Delta extension 1.5.5 as readers; pyarrow 26.0.1.
# Guess: the bytes `abc` in a table partitioned by that column are read as `abc`, at least by the library that wrote
#   them.
# Instead: deltalake writes them to the log in the way of the protocol, as the text `\u0061\u0062\u0063`, and on reading
#   takes that text itself for the value: 18 bytes in place of three. A filter on `abc` finds no row. DuckDB, which
#   shares its kernel, reads the same. Empty bytes become NULL, as the protocol says.
# Right: Delta protocol, "Partition Value Serialization": binary is "a string of escaped binary values", so a reader has
#   to undo the escapes.
# Seen:
#   in the log: \u0061\u0062\u0063 \u0000\u00FF
#   deltalake: [b'\\u0061\\u0062\\u0063', b'\\u0000\\u00FF']
#   DuckDB: [b'\\u0061\\u0062\\u0063', b'\\u0000\\u00FF']
#   rows found by b = abc: 0
#   without partitions: [b'abc', b'\x00\xff'], rows found by b = abc: 1
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

import duckdb
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

con = duckdb.connect()
(package,) = importlib.util.find_spec("duckdb_extension_delta").submodule_search_locations
con.load_extension(str(next(pathlib.Path(package).rglob("delta.duckdb_extension"))))
rows = pa.table({"id": [1, 2], "b": [b"abc", b"\x00\xff"]})
by, plain = (str(pathlib.Path(name).resolve()) for name in ("by", "plain"))
write_deltalake(by, rows, partition_by=["b"])
write_deltalake(plain, rows)


def values(path):
    return DeltaTable(path).to_pyarrow_table().sort_by("id")["b"].to_pylist()


def found(path):
    return DeltaTable(path).to_pyarrow_table(filters=[("b", "=", b"abc")]).num_rows


(log,) = pathlib.Path(by, "_delta_log").glob("*.json")
adds = [json.loads(line)["add"] for line in log.open() if '"add"' in line]
duck = [value for (value,) in con.sql(f"SELECT b FROM delta_scan('{by}') ORDER BY id").fetchall()]
seen = {
    "in the log": " ".join(sorted((add["partitionValues"]["b"] for add in adds), reverse=True)),
    "deltalake": str(values(by)),
    "DuckDB": str(duck),
    "rows found by b = abc": str(found(by)),
    "without partitions": f"{values(plain)}, rows found by b = abc: {found(plain)}",
}
escaped = r"[b'\\u0061\\u0062\\u0063', b'\\u0000\\u00FF']"
expected = {
    "in the log": r"\u0061\u0062\u0063 \u0000\u00FF",
    "deltalake": escaped,
    "DuckDB": escaped,
    "rows found by b = abc": "0",
    "without partitions": r"[b'abc', b'\x00\xff'], rows found by b = abc: 1",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
