#!/usr/bin/env bash
# Software: pypaimon 2.1.0 with pyarrow 19.0.1, the newest that it takes.
# Guess: a column TIMESTAMP(9), the precision that a column of nanoseconds gets, keeps its nanoseconds.
# Instead: it does in a table with a primary key until the same key is written again; from then on, as the files are
#   merged, each time is read without its nanoseconds, 999 as 0, and so it is at once for a partition. A filter on the
#   time that was written then finds no row, and one on time 0 finds all three. Where the time is the primary key
#   itself, a filter on 1 or 999 finds none even before a merge. No error, no warning.
# Right: Paimon's reference of data types, "TIMESTAMP(p)": p digits of fractional seconds, from 0 to 9; what is read
#   must not depend on the number of files.
# Seen (nanoseconds read, and the rows that a filter on 0, 1 and 999 finds):
#   beside the key: 0 1 999, found 1 1 1
#   beside the key, committed twice: 0 0 0, found 3 0 0
#   primary key: 0 1 999, found 1 0 0
#   primary key, committed twice: 0 0 0, found 1 0 0
#   partition: 0 0 0, found 3 0 0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pypaimon==2.1.0 pyarrow==19.0.1
cd "$work"
"$work/venv/bin/python" - "$work" 2>"$work/log" <<'PYTHON' || { tail -n 5 "$work/log"; exit 1; }
import sys

import pandas as pd
import pyarrow as pa
from pypaimon import CatalogFactory, Schema

catalog = CatalogFactory.create({"warehouse": f"{sys.argv[1]}/warehouse"})
catalog.create_database("d", True)
nanoseconds = [0, 1, 999]


def run(name, keys=None, partitions=None, commits=1):
    fields = [pa.field("id", pa.int64(), nullable=False), pa.field("t", pa.timestamp("ns"), nullable=False)]
    rows = pa.table([pa.array([1, 2, 3]), pa.array(nanoseconds, pa.timestamp("ns"))], schema=pa.schema(fields))
    options = {"bucket": "1"} if keys else {}
    schema = Schema.from_pyarrow_schema(rows.schema, primary_keys=keys, partition_keys=partitions, options=options)
    catalog.create_table(f"d.{name}", schema, False)
    table = catalog.get_table(f"d.{name}")
    for _ in range(commits):
        builder = table.new_batch_write_builder()
        write, commit = builder.new_write(), builder.new_commit()
        write.write_arrow(rows)
        commit.commit(write.prepare_commit())
        write.close()
        commit.close()

    def scan(time=None):
        read = table.new_read_builder()
        if time is not None:
            read = read.with_filter(read.new_predicate_builder().equal("t", pd.Timestamp(time)))
        return read.new_read().to_arrow(read.new_scan().plan().splits())

    read = scan().sort_by("id")["t"].cast(pa.int64()).to_pylist()
    found = [scan(time).num_rows for time in nanoseconds]
    return f"{' '.join(map(str, read))}, found {' '.join(map(str, found))}"


seen = {
    "beside the key": run("beside", keys=["id"]),
    "beside the key, committed twice": run("beside_twice", keys=["id"], commits=2),
    "primary key": run("key", keys=["t"]),
    "primary key, committed twice": run("key_twice", keys=["t"], commits=2),
    "partition": run("partition", partitions=["t"]),
}
expected = {
    "beside the key": "0 1 999, found 1 1 1",
    "beside the key, committed twice": "0 0 0, found 3 0 0",
    "primary key": "0 1 999, found 1 0 0",
    "primary key, committed twice": "0 0 0, found 1 0 0",
    "partition": "0 0 0, found 3 0 0",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
