#!/usr/bin/env bash
# Software: polars-ducklake 0.2.1 with Polars 2.1.0 and duckdb-engine 0.17.0; DuckDB 1.5.5 and its DuckLake extension
#   write the table and are the control.
# Guess: a column added with a default has it in the rows that were there before, as in DuckDB, or the table is refused.
# Instead: the files of before have NULL in the column: sums, counts and filters are others, and `is_null` finds rows
#   where DuckDB finds none. A row that DuckDB updates without touching the column has the default from then on, since
#   the new file holds it, so that an update of one column changes another one's value for this reader. No error, no
#   warning.
# Right: DuckLake specification, ducklake_column, "initial_default": the value that the column has in files written
#   before it was added.
# Seen (id, c of two rows, then `ADD COLUMN c INTEGER DEFAULT 7`, then a third row):
#   rows: Polars [(1, None), (2, None), (3, 7)], DuckDB [(1, 7), (2, 7), (3, 7)]
#   sum of c: Polars [7], DuckDB [21]
#   c = 7: Polars [3], DuckDB [1, 2, 3]
#   c IS NULL: Polars [1, 2], DuckDB []
#   rows after an update of k of row 1: Polars [(1, 7), (2, None), (3, 7)], DuckDB [(1, 7), (2, 7), (3, 7)]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check polars-ducklake==0.2.1 polars==2.1.0 duckdb==1.5.5 \
    duckdb-engine==0.17.0 duckdb-extension-ducklake==1.5.5
cd "$work"
"$work/venv/bin/python" - 2>"$work/log" <<'PYTHON' || { tail -n 5 "$work/log"; exit 1; }
import importlib.util
import pathlib
import sys

import duckdb
import polars as pl
import polars_ducklake
import sqlalchemy


def duck(*statements):
    with duckdb.connect() as con:
        (package,) = importlib.util.find_spec("duckdb_extension_ducklake").submodule_search_locations
        con.load_extension(str(next(pathlib.Path(package).rglob("ducklake.duckdb_extension"))))
        con.execute("ATTACH 'ducklake:catalog.db' AS lake (DATA_PATH 'data/', DATA_INLINING_ROW_LIMIT 0)")
        con.execute("USE lake")
        for statement in statements:
            rows = con.execute(statement).fetchall()
        return rows


def both(query, by_polars):
    engine = sqlalchemy.create_engine("duckdb:///catalog.db", poolclass=sqlalchemy.NullPool)
    frame = by_polars(polars_ducklake.scan_ducklake(engine, "t")).collect()
    engine.dispose()
    one, other = sorted(frame.rows()), sorted(duck(query))
    if frame.width == 1:
        one, other = [value for (value,) in one], [value for (value,) in other]
    return f"Polars {one}, DuckDB {other}"


duck(
    "CREATE TABLE t (id INTEGER, k INTEGER)",
    "INSERT INTO t VALUES (1, 10), (2, 20)",
    "ALTER TABLE t ADD COLUMN c INTEGER DEFAULT 7",
    "INSERT INTO t (id, k) VALUES (3, 30)",
)
rows = ("SELECT id, c FROM t", lambda frame: frame.select("id", "c"))
seen = {
    "rows": both(*rows),
    "sum of c": both("SELECT sum(c) FROM t", lambda frame: frame.select(pl.col("c").sum())),
    "c = 7": both("SELECT id FROM t WHERE c = 7", lambda frame: frame.filter(pl.col("c") == 7).select("id")),
    "c IS NULL": both("SELECT id FROM t WHERE c IS NULL", lambda frame: frame.filter(pl.col("c").is_null()).select("id")),
}
duck("UPDATE t SET k = 11 WHERE id = 1")
seen["rows after an update of k of row 1"] = both(*rows)
right = "[(1, 7), (2, 7), (3, 7)]"
expected = {
    "rows": f"Polars [(1, None), (2, None), (3, 7)], DuckDB {right}",
    "sum of c": "Polars [7], DuckDB [21]",
    "c = 7": "Polars [3], DuckDB [1, 2, 3]",
    "c IS NULL": "Polars [1, 2], DuckDB []",
    "rows after an update of k of row 1": f"Polars [(1, 7), (2, None), (3, 7)], DuckDB {right}",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
