#!/usr/bin/env bash
# Software: sqlglot 30.30.0, its SQL engine `sqlglot.executor`; SQLite of Python is the control.
# Guess: `SELECT a FROM t UNION ALL SELECT b FROM t` has the values of a and then those of b.
# Instead: it has those of one side twice, and which side it is differs from process to process. Where the two sides
#   of a set operation read the same table under the same name, one of them answers for both: a UNION ALL of two
#   conditions gives the rows of one twice, two sums give one sum twice, and EXCEPT gives nothing. With different
#   aliases, and for two tables, the answers are right. No error, no warning.
# Right: ISO/IEC 9075-2, query expression: each operand is a query of its own, and the names of its tables end with
#   it.
# Seen, for a table t of a, b with the rows (1, 10) and (2, 20), and a table u of a with the row (3):
#   SELECT a FROM t UNION ALL SELECT b FROM t: one side twice
#   SELECT a FROM t WHERE a = 1 UNION ALL SELECT a FROM t WHERE a = 2: one side twice
#   SELECT sum(a) FROM t UNION ALL SELECT sum(b) FROM t: one side twice
#   SELECT a FROM t EXCEPT SELECT b FROM t: [], SQLite [1, 2]
#   SELECT a FROM t AS x UNION ALL SELECT b FROM t AS y: as SQLite
#   SELECT a FROM t UNION ALL SELECT a FROM u: as SQLite
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check sqlglot==30.30.0
"$work/venv/bin/python" - <<'PYTHON'
import sqlite3
import sys

from sqlglot.executor import execute

tables = {"t": [{"a": 1, "b": 10}, {"a": 2, "b": 20}], "u": [{"a": 3}]}
control = sqlite3.connect(":memory:")
for statement in ("CREATE TABLE t (a, b)", "INSERT INTO t VALUES (1, 10), (2, 20)", "CREATE TABLE u (a)",
                  "INSERT INTO u VALUES (3)"):
    control.execute(statement)
expected = {
    "SELECT a FROM t UNION ALL SELECT b FROM t": "one side twice",
    "SELECT a FROM t WHERE a = 1 UNION ALL SELECT a FROM t WHERE a = 2": "one side twice",
    "SELECT sum(a) FROM t UNION ALL SELECT sum(b) FROM t": "one side twice",
    "SELECT a FROM t EXCEPT SELECT b FROM t": "[], SQLite [1, 2]",
    "SELECT a FROM t AS x UNION ALL SELECT b FROM t AS y": "as SQLite",
    "SELECT a FROM t UNION ALL SELECT a FROM u": "as SQLite",
}


def values(rows):
    return sorted(value for (value,) in rows)


def answer(query):
    found, right = values(execute(query, tables=tables).rows), values(control.execute(query).fetchall())
    if found == right:
        return "as SQLite"
    sides = [values(control.execute(side).fetchall()) for side in query.split(" UNION ALL ")]
    if found in [sorted(side * 2) for side in sides]:
        return "one side twice"
    return f"{found}, SQLite {right}"


seen = {}
for query in expected:
    seen[query] = answer(query)
    print(f"{query}: {seen[query]}")
changed = [query for query in expected if seen[query] != expected[query]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
