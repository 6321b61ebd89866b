#!/usr/bin/env bash
# Software: icebird 0.3.1 (npm); pyiceberg 0.12.0 and pyarrow 26.0.1 write the tables, pyiceberg-core 0.11.0 in
#   DataFusion 54.0.0 is the control.
# Guess: "Equality Deletes" of its list of features: a row goes if its key equals the deleted one, whatever the type.
# Instead: a delete that says k = NULL removes every older row of the table, and one of partition p = 1 removes the rows
#   with that key in all partitions. A delete by a date, a time or fixed bytes removes nothing, since these are objects
#   in JavaScript and compared by identity. Numbers, decimals and texts are right. No error, no warning.
# Right: Iceberg specification, "Equality Delete Files": a null there matches a null in the row and nothing else; "Scan
#   Planning": a delete applies to the files of its partition only, unless its spec is unpartitioned.
# Seen (ids of the rows left of 1, 2 and 3; the deleted key is that of row 2, unless said otherwise):
#   a long: icebird [1,3], DataFusion [1,3]
#   a text: icebird [1,3], DataFusion [1,3]
#   a date: icebird [1,2,3], DataFusion [1,3]
#   a time: icebird [1,2,3], DataFusion [1,3]
#   fixed bytes: icebird [1,2,3], DataFusion [1,3]
#   NULL, which the third row has: icebird [], DataFusion [1,2]
#   in one of three partitions: icebird [], DataFusion [2,3]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check 'pyiceberg[sql-sqlite]==0.12.0' pyiceberg-core==0.11.0 \
    pyarrow==26.0.1 datafusion==54.0.0
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
const rows = await icebergRead({ tableUrl: metadata.location, metadata });
console.log(`[${rows.map((row) => Number(row.id)).sort()}]`);
JAVASCRIPT
"$work/venv/bin/python" - "$work" <<'PYTHON'
import datetime
import pathlib
import subprocess
import sys

import datafusion
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestContent, ManifestWriterV2
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update.snapshot import _FastAppendFiles
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record
from pyiceberg.types import DateType, FixedType, LongType, NestedField, StringType, TimestampType
from pyiceberg_core.datafusion import IcebergDataFusionTable

work = sys.argv[1]
catalog = SqlCatalog("c", uri=f"sqlite:///{work}/c.db", warehouse=f"file://{work}")
catalog.create_namespace("n")


class DeleteManifest(ManifestWriterV2):
    def content(self):
        return ManifestContent.DELETES

    @property
    def _meta(self):
        return {**super()._meta, "content": "deletes"}


class AppendDeletes(_FastAppendFiles):  # pyiceberg itself writes no equality deletes
    def new_manifest_writer(self, spec):
        return DeleteManifest(spec, self.schema(), self.new_manifest_output(), self.snapshot_id, "null")


def rows_left(name, kind, arrow, keys, deleted, spec=UNPARTITIONED_PARTITION_SPEC, partition=Record()):
    fields = [NestedField(1, "id", LongType()), NestedField(2, "k", kind), NestedField(3, "p", LongType())]
    table = catalog.create_table(f"n.{name}", Schema(*fields), partition_spec=spec)
    table.append(pa.table({"id": [1, 2, 3], "k": pa.array(keys, arrow), "p": [1, 2, 3]}))
    path = pathlib.Path(f"{work}/n/{name}/data/delete.parquet")
    field = pa.field("k", arrow, metadata={"PARQUET:field_id": "2"})
    pq.write_table(pa.table([pa.array([deleted], arrow)], schema=pa.schema([field])), path)
    delete = DataFile.from_args(
        content=DataFileContent.EQUALITY_DELETES, file_path=f"file://{path}", file_format=FileFormat.PARQUET,
        partition=partition, record_count=1, file_size_in_bytes=path.stat().st_size, equality_ids=[2])
    delete.spec_id = spec.spec_id
    with table.transaction() as change, AppendDeletes(Operation.DELETE, change, table.io) as snapshot:
        snapshot.append_data_file(delete)
    metadata = catalog.load_table(f"n.{name}").metadata_location
    context = datafusion.SessionContext()
    context.register_table("t", IcebergDataFusionTable(["n", name], metadata, file_io_properties={}))
    control = sorted(row["id"] for batch in context.sql("SELECT id FROM t").collect() for row in batch.to_pylist())
    command = ["node", "read.mjs", metadata.removeprefix("file://")]
    icebird = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    return f"icebird {icebird}, DataFusion [{','.join(map(str, control))}]"


days = [datetime.date(2020, 1, 1), datetime.date(2020, 1, 2), None]
times = [datetime.datetime(2020, 1, 1), datetime.datetime(2020, 1, 2), None]
by_p = PartitionSpec(PartitionField(3, 1000, IdentityTransform(), "p"))
seen = {
    "a long": rows_left("a", LongType(), pa.int64(), [1, 2, None], 2),
    "a text": rows_left("b", StringType(), pa.string(), ["a", "b", None], "b"),
    "a date": rows_left("c", DateType(), pa.date32(), days, days[1]),
    "a time": rows_left("d", TimestampType(), pa.timestamp("us"), times, times[1]),
    "fixed bytes": rows_left("e", FixedType(2), pa.binary(2), [b"aa", b"bb", None], b"bb"),
    "NULL, which the third row has": rows_left("f", LongType(), pa.int64(), [1, 2, None], None),
    "in one of three partitions": rows_left("g", LongType(), pa.int64(), [2, 2, 2], 2, by_p, Record(1)),
}
expected = {
    "a long": "icebird [1,3], DataFusion [1,3]",
    "a text": "icebird [1,3], DataFusion [1,3]",
    "a date": "icebird [1,2,3], DataFusion [1,3]",
    "a time": "icebird [1,2,3], DataFusion [1,3]",
    "fixed bytes": "icebird [1,2,3], DataFusion [1,3]",
    "NULL, which the third row has": "icebird [], DataFusion [1,2]",
    "in one of three partitions": "icebird [], DataFusion [2,3]",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
