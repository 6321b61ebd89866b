#!/usr/bin/env bash
# Software: pypaimon 2.1.0 with pyarrow 19.0.1, the newest that it takes.
# Guess: a row that was written and committed is read by the same library, whatever the options of the table.
# Instead: with `merge-engine` `first-row`, or with `deletion-vectors.enabled`, a table with a primary key shows no row,
#   however often one commits and reads: the reader skips the files of level 0, since in these modes a compaction lifts
#   the rows, and the writer, which accepts the options, only ever writes level 0 and cannot compact. The snapshot
#   counts the rows. No error, no warning.
# Right: Paimon's documentation, "Table Mode" and the reference of options: files of level 0 are seen after a compaction
#   only, which is why a writer compacts before it commits; one that cannot should refuse, as it does other options.
# Seen (records of the snapshot, rows read):
#   no options: 2, 2
#   merge-engine=first-row: 2, 0
#   deletion-vectors.enabled=true: 2, 0
#   merge-engine=partial-update: 2, 2
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check pypaimon==2.1.0 pyarrow==19.0.1
cd "$work"
"$work/venv/bin/python" - "$work" 2>"$work/log" <<'PYTHON' || { tail -n 5 "$work/log"; exit 1; }
import json
import pathlib
import sys

import pyarrow as pa
from pypaimon import CatalogFactory, Schema

warehouse = pathlib.Path(sys.argv[1], "warehouse")
catalog = CatalogFactory.create({"warehouse": str(warehouse)})
catalog.create_database("d", True)
fields = pa.schema([pa.field("k", pa.int64(), nullable=False), pa.field("v", pa.int64())])


def run(name, options):
    schema = Schema.from_pyarrow_schema(fields, primary_keys=["k"], options={"bucket": "1", **options})
    catalog.create_table(f"d.{name}", schema, False)
    table = catalog.get_table(f"d.{name}")
    for key in (1, 2):
        builder = table.new_batch_write_builder()
        write, commit = builder.new_write(), builder.new_commit()
        write.write_arrow(pa.table([[key], [key]], schema=fields))
        commit.commit(write.prepare_commit())
        write.close()
        commit.close()
    read = catalog.get_table(f"d.{name}").new_read_builder()
    rows = read.new_read().to_arrow(read.new_scan().plan().splits()).num_rows
    snapshot = json.loads((warehouse / "d.db" / name / "snapshot" / "snapshot-2").read_text())
    return f"{snapshot['totalRecordCount']}, {rows}"


seen = {
    "no options": run("plain", {}),
    "merge-engine=first-row": run("first", {"merge-engine": "first-row"}),
    "deletion-vectors.enabled=true": run("vectors", {"deletion-vectors.enabled": "true"}),
    "merge-engine=partial-update": run("partial", {"merge-engine": "partial-update"}),
}
expected = {
    "no options": "2, 2",
    "merge-engine=first-row": "2, 0",
    "deletion-vectors.enabled=true": "2, 0",
    "merge-engine=partial-update": "2, 2",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
