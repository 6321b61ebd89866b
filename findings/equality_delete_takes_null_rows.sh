#!/usr/bin/env bash
# Software: DuckDB 1.5.5 with its Iceberg and Avro extensions 1.5.5, chDB 4.4.0 (ClickHouse 26.9); pyiceberg 0.12.0
#   writes the table, pyiceberg-core 0.11.0 in DataFusion 54.0.0 is the control.
# Guess: an equality delete that says k = 2 deletes the rows where k is 2, and no others.
# Instead: both also leave out each row whose k is NULL, silently: they keep the rows for which "k differs from 2" is
#   true, and for NULL that is unknown. A delete that says k = NULL is right in both: only the NULL rows go.
# Right: Iceberg specification, "Equality Delete Files": a row goes if its columns equal the deleted ones; a null
#   there matches a null in the row and nothing else, optional columns are allowed.
# Seen (ids of the rows left of (1, k=1) (2, k=2) (3, k=NULL)):
#   k = 2: DataFusion [1, 3], DuckDB [1], chDB [1]
#   k = NULL: DataFusion [1, 2], DuckDB [1, 2], chDB [1, 2]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --disable-pip-version-check 'pyiceberg[sql-sqlite]==0.12.0' pyiceberg-core==0.11.0 \
    pyarrow==26.0.1 datafusion==54.0.0 duckdb==1.5.5 duckdb-extension-iceberg==1.5.5 duckdb-extension-avro==1.5.5 chdb==4.4.0
"$work/venv/bin/python" - "$work" <<'PYTHON'
import importlib.util
import pathlib
import subprocess
import sys

import datafusion
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestContent, ManifestWriterV2
from pyiceberg.schema import Schema
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update.snapshot import _FastAppendFiles
from pyiceberg.typedef import Record
from pyiceberg.types import LongType, NestedField
from pyiceberg_core.datafusion import IcebergDataFusionTable

work = sys.argv[1]
catalog = SqlCatalog("c", uri=f"sqlite:///{work}/c.db", warehouse=f"file://{work}")
catalog.create_namespace("n")
chdb_ids = """import chdb, sys
ids = str(chdb.query(f"SELECT id FROM icebergLocal('{sys.argv[1]}', 'Parquet')", "CSV")).split()
print(sorted(map(int, ids)))"""
con = duckdb.connect()
for name in ("avro", "iceberg"):
    (package,) = importlib.util.find_spec(f"duckdb_extension_{name}").submodule_search_locations
    con.load_extension(str(next(pathlib.Path(package).rglob(f"{name}.duckdb_extension"))))


class DeleteManifest(ManifestWriterV2):
    def content(self):
        return ManifestContent.DELETES

    @property
    def _meta(self):
        return {**super()._meta, "content": "deletes"}


class AppendDeletes(_FastAppendFiles):  # pyiceberg itself writes no equality deletes
    def new_manifest_writer(self, spec):
        return DeleteManifest(spec, self.schema(), self.new_manifest_output(), self.snapshot_id, "null")


def rows_left(name, key):
    schema = Schema(NestedField(1, "id", LongType()), NestedField(2, "k", LongType()))
    table = catalog.create_table(f"n.{name}", schema)
    table.append(pa.table({"id": [1, 2, 3], "k": [1, 2, None]}))
    path = pathlib.Path(f"{work}/n/{name}/data/delete.parquet")
    fields = [pa.field("k", pa.int64(), metadata={"PARQUET:field_id": "2"})]
    pq.write_table(pa.table([pa.array([key], pa.int64())], schema=pa.schema(fields)), path)
    delete = DataFile.from_args(
        content=DataFileContent.EQUALITY_DELETES, file_path=f"file://{path}", file_format=FileFormat.PARQUET,
        partition=Record(), record_count=1, file_size_in_bytes=path.stat().st_size, equality_ids=[2])
    delete.spec_id = 0
    with table.transaction() as change, AppendDeletes(Operation.DELETE, change, table.io) as snapshot:
        snapshot.append_data_file(delete)
    metadata = catalog.load_table(f"n.{name}").metadata_location
    context = datafusion.SessionContext()
    context.register_table("t", IcebergDataFusionTable(["n", name], metadata, file_io_properties={}))
    control = sorted(row["id"] for batch in context.sql("SELECT id FROM t").collect() for row in batch.to_pylist())
    by_duckdb = con.sql(f"SELECT id FROM iceberg_scan('{metadata.removeprefix('file://')}')").fetchall()
    chdb = subprocess.run([sys.executable, "-c", chdb_ids, f"{work}/n/{name}"], cwd="/", check=True,
                          capture_output=True, text=True)
    return f"DataFusion {control}, DuckDB {sorted(key for key, in by_duckdb)}, chDB {chdb.stdout.strip()}"


seen = {"k = 2": rows_left("a", 2), "k = NULL": rows_left("b", None)}
expected = {
    "k = 2": "DataFusion [1, 3], DuckDB [1], chDB [1]",
    "k = NULL": "DataFusion [1, 2], DuckDB [1, 2], chDB [1, 2]",
}
for what, value in seen.items():
    print(f"{what}: {value}")
changed = [what for what in expected if seen[what] != expected[what]]
sys.exit(f"changed: {', '.join(changed)}" if changed else 0)
PYTHON
