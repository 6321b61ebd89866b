#!/usr/bin/env bash
# Software: pyiceberg-core 0.11.0 (iceberg-rust) as a table provider of DataFusion 54.0.0, pyiceberg 0.12.0 (whose
#   Table registers itself there by this way), pyarrow 26.0.1.
# Guess: a table registered in DataFusion has the table's current schema, as in pyiceberg.
# Instead: it announces the current schema and reads by the one its last snapshot was written with. A change of
#   schema makes no snapshot, so until the next write: after two columns have swapped names, SELECT a gives the
#   values of the other column, silently; a renamed column is refused as unknown; one that was added too. The next
#   append cures all of it, old rows included.
# Right: Iceberg specification, "Schemas" and "Column Projection": a table is read with its current schema, columns
#   by field id; the snapshot's schema is for time travel. (apache/iceberg-rust issue 2905 reports the added column.)
# Seen, for one row with fields 1: 'one', 2: 'two', first named a and b, then b and a:
#   swapped, pyiceberg: a=two
#   swapped, DataFusion: a=one
#   renamed, DataFusion: refused
#   added, DataFusion: refused
#   swapped, one append later, DataFusion: a=two
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check \
    'pyiceberg[sql-sqlite]==0.12.0' pyiceberg-core==0.11.0 pyarrow==26.0.1 datafusion==54.0.0
"$work/venv/bin/python" - "$work" <<'PYTHON'
import sys

import pyarrow as pa
from datafusion import SessionContext
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.schema import Schema
from pyiceberg.types import NestedField, StringType

catalog = SqlCatalog("c", uri=f"sqlite:///{sys.argv[1]}/c.db", warehouse=f"file://{sys.argv[1]}")
catalog.create_namespace("n")


def table_with(name, *changes):
    table = catalog.create_table(
        f"n.{name}", Schema(NestedField(1, "a", StringType()), NestedField(2, "b", StringType()))
    )
    table.append(pa.table({"a": ["one"], "b": ["two"]}))
    for change in changes:
        with table.update_schema() as update:
            change(update)
    return table


def by_datafusion(table, column):
    context = SessionContext()
    context.register_table("t", catalog.load_table(table.name()))
    try:
        batches = context.sql(f"SELECT {column} FROM t").collect()
    except Exception as error:
        return "refused" if f"Column {column} not found in table" in str(error) else str(error)
    return " ".join(f"{column}={value}" for batch in batches for value in batch.column(0).to_pylist())


swapped = table_with(
    "swapped",
    lambda update: update.rename_column("a", "x"),
    lambda update: update.rename_column("b", "a"),
    lambda update: update.rename_column("x", "b"),
)
seen = {
    "swapped, pyiceberg": f"a={swapped.scan().to_arrow()['a'][0]}",
    "swapped, DataFusion": by_datafusion(swapped, "a"),
    "renamed, DataFusion": by_datafusion(table_with("renamed", lambda u: u.rename_column("a", "c")), "c"),
    "added, DataFusion": by_datafusion(table_with("added", lambda u: u.add_column("c", StringType())), "c"),
}
swapped.append(pa.table({"a": pa.array([], pa.string()), "b": pa.array([], pa.string())}))
seen["swapped, one append later, DataFusion"] = by_datafusion(swapped, "a")
expected = {
    "swapped, pyiceberg": "a=two",
    "swapped, DataFusion": "a=one",
    "renamed, DataFusion": "refused",
    "added, DataFusion": "refused",
    "swapped, one append later, DataFusion": "a=two",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
