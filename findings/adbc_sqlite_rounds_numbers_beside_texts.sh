#!/usr/bin/env bash
# Software: adbc-driver-sqlite 1.13.0 with adbc-driver-manager 1.13.0 and pyarrow 26.0.1; Python's sqlite3 and SQLite's
#   own CAST are the control.
# Guess: a column of a query that holds numbers and texts, which SQLite allows, comes as texts, each number with its
#   digits, as an integer beside a text does.
# Instead: a number with a fraction gets seven digits: 1234567.89 comes as 1.234568e+06. And so does an integer, if a
#   row before the first text has a fraction: 123456789 comes as 1.234568e+08, while in another order of the same rows
#   it comes as 123456789. Without a text the column is of doubles and whole. No error, no warning.
# Right: SQLite, "SQL Language Expressions", "CAST expressions": a number as a text is the one that SQLite prints, which
#   for each of these has all digits; what a driver does in its place should lose no more.
# Seen:
#   123456789, 'a': 123456789 a, CAST 123456789 a
#   1234567.89, 'a': 1.234568e+06 a, CAST 1234567.89 a
#   123456789, 2.5, 'a': 1.234568e+08 2.500000e+00 a, CAST 123456789 2.5 a
#   2.5, 'a', 123456789: 2.500000e+00 a 123456789, CAST 2.5 a 123456789
#   1234567.89, 2: 1234567.89 2.0, CAST 1234567.89 2
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check adbc-driver-sqlite==1.13.0 adbc-driver-manager==1.13.0 \
    pyarrow==26.0.1
cd "$work"
"$work/venv/bin/python" - 2>"$work/log" <<'PYTHON' || { tail -n 5 "$work/log"; exit 1; }
import sqlite3
import sys

import adbc_driver_sqlite.dbapi


def rows(values):
    query = f"SELECT column1 FROM (VALUES {', '.join(f'({value})' for value in values.split(', '))})"
    with adbc_driver_sqlite.dbapi.connect() as connection, connection.cursor() as cursor:
        cursor.execute(query)
        read = cursor.fetch_arrow_table().column(0).to_pylist()
    control = sqlite3.connect(":memory:").execute(query.replace("column1", "CAST(column1 AS TEXT)", 1))
    cast = " ".join(text for (text,) in control.fetchall())
    return f"{' '.join(map(str, read))}, CAST {cast}"


expected = {
    "123456789, 'a'": "123456789 a, CAST 123456789 a",
    "1234567.89, 'a'": "1.234568e+06 a, CAST 1234567.89 a",
    "123456789, 2.5, 'a'": "1.234568e+08 2.500000e+00 a, CAST 123456789 2.5 a",
    "2.5, 'a', 123456789": "2.500000e+00 a 123456789, CAST 2.5 a 123456789",
    "1234567.89, 2": "1234567.89 2.0, CAST 1234567.89 2",
}
seen = {values: rows(values) for values in expected}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
