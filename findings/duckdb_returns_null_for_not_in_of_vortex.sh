#!/usr/bin/env bash
# Software: DuckDB 1.5.5 with its Vortex extension 1.5.5, which writes and reads the file; a table of DuckDB itself with
#   the same rows is the control.
# Guess: `k NOT IN (1, 2)` returns the same rows of the file as of the table, and none where k is NULL.
# Instead: it returns the rows with NULL too: the condition is handed to Vortex, for which NULL is not contained in a
#   list, and that negated is true. `NOT IN (1, NULL)`, which is true for no row, returns all rows but that of 1. The
#   filter is not checked again. `!=` is right; `IS DISTINCT FROM` is handed over as well, and refused there.
# Right: ISO/IEC 9075-2, in predicate: `x NOT IN (…)` is `NOT (x IN (…))`, and a comparison with NULL is unknown.
# Seen (ids of the rows found of (1, 1) (2, 2) (3, 3) (4, NULL)):
#   k NOT IN (1, 2): file [3, 4], table [3]
#   k NOT IN (1, NULL): file [2, 3, 4], table []
#   (k NOT IN (1, 2)) IS NULL: file [], table [4]
#   k != 1: file [2, 3], table [2, 3]
#   k IS DISTINCT FROM 1: file BinderException, table [2, 3, 4]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check duckdb==1.5.5 duckdb-extension-vortex==1.5.5
cd "$work"
"$work/venv/bin/python" - 2>"$work/log" <<'PYTHON' || { tail -n 5 "$work/log"; exit 1; }
import importlib.util
import pathlib
import sys

import duckdb

con = duckdb.connect()
(package,) = importlib.util.find_spec("duckdb_extension_vortex").submodule_search_locations
con.load_extension(str(next(pathlib.Path(package).rglob("vortex.duckdb_extension"))))
con.execute("CREATE TABLE t AS SELECT * FROM (VALUES (1, 1), (2, 2), (3, 3), (4, NULL)) v(id, k)")
con.execute("COPY t TO 'file.vortex' (FORMAT vortex)")


def rows(source, condition):
    try:
        found = con.sql(f"SELECT id FROM {source} WHERE {condition}").fetchall()
    except duckdb.Error as error:
        return type(error).__name__
    return str(sorted(key for (key,) in found))


expected = {
    "k NOT IN (1, 2)": "file [3, 4], table [3]",
    "k NOT IN (1, NULL)": "file [2, 3, 4], table []",
    "(k NOT IN (1, 2)) IS NULL": "file [], table [4]",
    "k != 1": "file [2, 3], table [2, 3]",
    "k IS DISTINCT FROM 1": "file BinderException, table [2, 3, 4]",
}
path = "read_vortex('file.vortex')"
seen = {condition: f"file {rows(path, condition)}, table {rows('t', condition)}" for condition in expected}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
