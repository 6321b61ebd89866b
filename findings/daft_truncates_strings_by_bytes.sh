#!/usr/bin/env bash
# Software: Daft 0.7.26 over a table of pyiceberg 0.12.0 with pyiceberg-core 0.11.0 and pyarrow 25.0.1; pyiceberg's
#   own scan is the control.
# Guess: in a table by truncate[2] of a string, Daft skips partitions by the first two characters, as the writer
#   stored them; a filter on a text finds its row.
# Instead: it cuts the text of the filter to two bytes, which for "äb" is "ä", no partition of the table, so that `=`,
#   `IN` and `<=` find nothing, or less. Texts of ASCII are right, and so are `>` and `startswith`. Where the cut lies
#   inside a character an error is raised instead. Without a filter all rows are there.
# Right: Iceberg specification, "Truncate Transform Details": strings are cut to a valid UTF-8 string "with no more
#   than L code points".
# Seen (ids of the rows found, of 1 'äb', 2 'ab', 3 'äbc', 4 'zz'):
#   partitions: ab zz äb
#   x = 'äb': Daft [], pyiceberg [1]
#   x IN ('äb', 'äbc'): Daft [], pyiceberg [1, 3]
#   x <= 'äbc': Daft [2, 4], pyiceberg [1, 2, 3, 4]
#   x = 'ab': Daft [2], pyiceberg [2]
#   truncate[1], x = 'äb': Daft raises, pyiceberg [1]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check daft==0.7.26 'pyiceberg[sql-sqlite]==0.12.0' \
    pyiceberg-core==0.11.0 pyarrow==25.0.1
"$work/venv/bin/python" - "$work" 2>"$work/log" <<'PYTHON' || { tail -n 5 "$work/log"; exit 1; }
import sys

import daft
import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.expressions import EqualTo, In, LessThanOrEqual
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import TruncateTransform
from pyiceberg.types import LongType, NestedField, StringType

catalog = SqlCatalog("c", uri=f"sqlite:///{sys.argv[1]}/c.db", warehouse=f"file://{sys.argv[1]}")
catalog.create_namespace("n")


def made(width):
    schema = Schema(NestedField(1, "id", LongType()), NestedField(2, "x", StringType()))
    spec = PartitionSpec(PartitionField(2, 1000, TruncateTransform(width), "p"))
    table = catalog.create_table(f"n.t{width}", schema, partition_spec=spec)
    table.append(pa.table({"id": [1, 2, 3, 4], "x": ["äb", "ab", "äbc", "zz"]}))
    return table


def found(table, condition):
    try:
        return sorted(daft.read_iceberg(table).where(condition).to_pydict()["id"])
    except Exception:
        return "raises"


two, one = made(2), made(1)
x = daft.col("x")
filters = {
    "x = 'äb'": (two, x == "äb", EqualTo("x", "äb")),
    "x IN ('äb', 'äbc')": (two, x.is_in(["äb", "äbc"]), In("x", {"äb", "äbc"})),
    "x <= 'äbc'": (two, x <= "äbc", LessThanOrEqual("x", "äbc")),
    "x = 'ab'": (two, x == "ab", EqualTo("x", "ab")),
    "truncate[1], x = 'äb'": (one, x == "äb", EqualTo("x", "äb")),
}
seen = {"partitions": " ".join(sorted(task.file.partition[0] for task in two.scan().plan_files()))}
for what, (table, condition, control) in filters.items():
    right = sorted(table.scan(control).to_arrow()["id"].to_pylist())
    seen[what] = f"Daft {found(table, condition)}, pyiceberg {right}"
expected = {
    "partitions": "ab zz äb",
    "x = 'äb'": "Daft [], pyiceberg [1]",
    "x IN ('äb', 'äbc')": "Daft [], pyiceberg [1, 3]",
    "x <= 'äbc'": "Daft [2, 4], pyiceberg [1, 2, 3, 4]",
    "x = 'ab'": "Daft [2], pyiceberg [2]",
    "truncate[1], x = 'äb'": "Daft raises, pyiceberg [1]",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
