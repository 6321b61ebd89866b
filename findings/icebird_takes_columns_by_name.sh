#!/usr/bin/env bash
# Software: icebird 0.3.1 (npm) over a table of pyiceberg 0.12.0 (pyarrow 26.0.1), which is the control.
# Guess: "Rename Columns" of its list of features: older files are read by the ids of their columns.
# Instead: it does not look at the ids. It takes the names from a text that the Java library leaves in the file
#   (`iceberg.schema`), and where another writer left none it takes the names of today: after a rename the column is
#   missing in each row of an older file, and after two columns have swapped names each has the values of the other. No
#   error, no warning.
# Right: Iceberg specification, "Column Projection": columns are found by field id, and for Parquet the ids are those
#   of the file's schema, which pyiceberg writes; `iceberg.schema` is in no specification.
# Seen, for one row with fields 2: 'one', 3: 'two', first named a and b, then c and b, then b and a:
#   renamed: icebird {"id":1,"b":"two"}, pyiceberg {"id":1,"c":"one","b":"two"}
#   swapped: icebird {"id":1,"b":"two","a":"one"}, pyiceberg {"id":1,"b":"one","a":"two"}
#   ids in the file: id 1, a 2, b 3
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check 'pyiceberg[sql-sqlite]==0.12.0' pyarrow==26.0.1
npm install --silent --no-audit --no-fund --prefix "$work" icebird@0.3.1
cd "$work"
cat >read.mjs <<'JAVASCRIPT'
import { icebergRead } from 'icebird';
import { readFileSync } from 'node:fs';

// icebird reads addresses only: files take the place of a web server here.
globalThis.fetch = async (address, init) => {
  const all = readFileSync(new URL(address).pathname);
  const range = /bytes=(\d+)-(\d*)/.exec(new Headers(init?.headers).get('Range') ?? '');
  if (init?.method === 'HEAD') return new Response(null, { headers: { 'Content-Length': String(all.length) } });
  if (!range) return new Response(all);
  return new Response(all.subarray(Number(range[1]), range[2] ? Number(range[2]) + 1 : undefined), { status: 206 });
};
const metadata = JSON.parse(readFileSync(process.argv[2]));
const [row] = await icebergRead({ tableUrl: metadata.location, metadata });
console.log(JSON.stringify({ ...row, id: Number(row.id) }));
JAVASCRIPT
"$work/venv/bin/python" - "$work" <<'PYTHON'
import json
import pathlib
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.schema import Schema
from pyiceberg.types import LongType, NestedField, StringType

work = sys.argv[1]
catalog = SqlCatalog("c", uri=f"sqlite:///{work}/c.db", warehouse=f"file://{work}")
catalog.create_namespace("n")
fields = [NestedField(1, "id", LongType()), NestedField(2, "a", StringType()), NestedField(3, "b", StringType())]
table = catalog.create_table("n.t", Schema(*fields))
table.append(pa.table({"id": [1], "a": ["one"], "b": ["two"]}))


def rename(name, new):
    with table.update_schema() as change:
        change.rename_column(name, new)


def by_both():
    command = ["node", "read.mjs", table.metadata_location.removeprefix("file://")]
    icebird = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    (control,) = table.scan().to_arrow().to_pylist()
    return f"icebird {icebird}, pyiceberg {json.dumps(control, separators=(',', ':'))}"


seen = {}
rename("a", "c")
seen["renamed"] = by_both()
rename("b", "a")
rename("c", "b")
seen["swapped"] = by_both()
(file,) = pathlib.Path(f"{work}/n/t/data").rglob("*.parquet")
ids = [(field.name, field.metadata[b"PARQUET:field_id"].decode()) for field in pq.read_schema(file)]
seen["ids in the file"] = ", ".join(f"{name} {number}" for name, number in ids)
expected = {
    "renamed": 'icebird {"id":1,"b":"two"}, pyiceberg {"id":1,"c":"one","b":"two"}',
    "swapped": 'icebird {"id":1,"b":"two","a":"one"}, pyiceberg {"id":1,"b":"one","a":"two"}',
    "ids in the file": "id 1, a 2, b 3",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
