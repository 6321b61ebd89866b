#!/usr/bin/env bash
# Software: DataFusion 55.0.0 and arro3-core 0.9.1, both on the Arrow library of Rust, and pyarrow 26.0.1 as the writer;
#   DuckDB 2.0.1 is the control.
# Guess: a table with a sparse union that was sliced is handed over like any other slice.
# Instead: the offset of a sparse union counts for the type of each row but not for its value: these are taken from the
#   first row of the whole array on. A row that is 't' becomes 's', a null becomes a number, and with two types in turn
#   each row has a type and a value that no row of the table had together. No error, no warning. A dense union and
#   the columns beside it are right, as is a copy of the slice.
# Right: Arrow columnar format, "Sparse Union": a child has the length of the union, thus row i of the slice is the
#   child's value at offset + i; C data interface, "offset".
# Seen (1 's', 2 't', None 'u', 4 'v' of int64 and string, from the second row on):
#   sparse, DataFusion: [('s', 2), (2, 3), ('u', 4)]
#   sparse, arro3: ['s', 2, 'u']
#   sparse, DuckDB: ['t', None, 'v']
#   sparse, a copy of the slice, DataFusion: [('t', 2), (None, 3), ('v', 4)]
#   dense, DataFusion: [('t', 2), (None, 3), ('v', 4)]
#   dense, arro3: ['t', None, 'v']
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check datafusion==55.0.0 arro3-core==0.9.1 pyarrow==26.0.1 duckdb==2.0.1
"$work/venv/bin/python" - <<'PYTHON'
import sys

import arro3.core
import datafusion
import duckdb
import pyarrow as pa

types = pa.array([0, 1, 0, 1], pa.int8())
children = [pa.array([1, 2, None, 4]), pa.array(["s", "t", "u", "v"])]
unions = {
    "sparse": pa.UnionArray.from_sparse(types, children),
    "dense": pa.UnionArray.from_dense(types, pa.array(range(4), pa.int32()), children),
}


def sliced(union):
    return pa.table({"x": union, "row": [1, 2, 3, 4]}).slice(1)


def by_datafusion(table):
    rows = datafusion.SessionContext().from_arrow(table).to_pylist()
    return str([(row["x"], row["row"]) for row in rows])


def by_arro3(table):
    return str(pa.table(arro3.core.Table.from_arrow(table))["x"].to_pylist())


def by_duckdb(given):
    return str([row[0] for row in duckdb.sql("SELECT x FROM given").fetchall()])


sink = pa.BufferOutputStream()
with pa.ipc.new_stream(sink, sliced(unions["sparse"]).schema) as writer:
    writer.write_table(sliced(unions["sparse"]))
copied = pa.ipc.open_stream(sink.getvalue()).read_all()
seen = {
    "sparse, DataFusion": by_datafusion(sliced(unions["sparse"])),
    "sparse, arro3": by_arro3(sliced(unions["sparse"])),
    "sparse, DuckDB": by_duckdb(sliced(unions["sparse"])),
    "sparse, a copy of the slice, DataFusion": by_datafusion(copied),
    "dense, DataFusion": by_datafusion(sliced(unions["dense"])),
    "dense, arro3": by_arro3(sliced(unions["dense"])),
}
expected = {
    "sparse, DataFusion": "[('s', 2), (2, 3), ('u', 4)]",
    "sparse, arro3": "['s', 2, 'u']",
    "sparse, DuckDB": "['t', None, 'v']",
    "sparse, a copy of the slice, DataFusion": "[('t', 2), (None, 3), ('v', 4)]",
    "dense, DataFusion": "[('t', 2), (None, 3), ('v', 4)]",
    "dense, arro3": "['t', None, 'v']",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
