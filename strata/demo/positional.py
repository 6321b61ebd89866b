"""Delete rows by positional delete files, which pyiceberg reads but does not write.

A positional delete file (Iceberg specification, "Position Delete Files") lists rows by data file and position
from the file's first row. It belongs to one partition and is added by a manifest with content ``deletes``.
pyiceberg's snapshot producer does the rest of the commit; the delete file and the kind of the manifest are
made here, with pyiceberg's internals.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestWriter,
    ManifestWriterV2,
)
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update.snapshot import _FastAppendFiles
from pyiceberg.typedef import Record
from pyiceberg.types import LongType, NestedField, StringType

# The field ids are reserved by the specification ("Reserved Field IDs").
_DELETE_SCHEMA = Schema(
    NestedField(2147483546, "file_path", StringType(), required=True),
    NestedField(2147483545, "pos", LongType(), required=True),
)


def delete_rows(table: Table, condition: pc.Expression, *, columns: list[str]) -> int:
    """Delete rows by positional delete files: one snapshot, no data file is rewritten.

    Args:
        table: A table of format version 2 without deletes.
        condition: The rows to delete, over the data files' own columns.
        columns: The columns the condition reads.

    Returns:
        Number of rows deleted.
    """
    found: dict[Record, list[tuple[str, list[int]]]] = defaultdict(list)
    for task in table.scan().plan_files():
        positions = _positions(task.file.file_path, condition, columns)
        if positions:
            found[task.file.partition].append((task.file.file_path, positions))
    if not found:
        return 0
    with table.transaction() as transaction:
        producer = _DeletesProducer(Operation.DELETE, transaction, table.io)
        for partition, rows in found.items():
            producer.append_data_file(_write_delete_file(table, partition, rows))
        producer.commit()
    return sum(len(positions) for rows in found.values() for _, positions in rows)


def _positions(path: str, condition: pc.Expression, columns: list[str]) -> list[int]:
    rows = pq.read_table(_local(path), columns=columns, partitioning=None, use_threads=False)
    numbered = rows.append_column("__position", pa.array(range(rows.num_rows), pa.int64()))
    return numbered.filter(condition).column("__position").to_pylist()  # type: ignore[no-any-return]  # untyped pyarrow


def _write_delete_file(table: Table, partition: Record, rows: list[tuple[str, list[int]]]) -> DataFile:
    """Write one partition's delete file, sorted by path and position as the specification requires."""
    pairs = [(path, position) for path, positions in sorted(rows) for position in positions]
    content = pa.table(
        [pa.array(column) for column in zip(*pairs, strict=True)],
        schema=schema_to_pyarrow(_DELETE_SCHEMA),  # with field ids in the Parquet schema
    )
    path = f"{table.location()}/data/{uuid.uuid4()}-deletes.parquet"
    with table.io.new_output(path).create() as file:
        pq.write_table(content, file)
    delete_file = DataFile.from_args(
        content=DataFileContent.POSITION_DELETES,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=partition,
        record_count=content.num_rows,
        file_size_in_bytes=len(table.io.new_input(path)),
        sort_order_id=None,  # as the specification requires of position deletes
        spec_id=table.spec().spec_id,
        key_metadata=None,
        equality_ids=None,
        split_offsets=None,
    )
    delete_file.spec_id = table.spec().spec_id
    return delete_file


class _DeletesManifestWriter(ManifestWriterV2):
    """Writes a manifest of delete files."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


class _DeletesProducer(_FastAppendFiles):
    """Commits a manifest of delete files beside all existing manifests."""

    def new_manifest_writer(self, spec: PartitionSpec) -> ManifestWriter:
        return _DeletesManifestWriter(
            spec, self.schema(), self.new_manifest_output(), self.snapshot_id, self._compression
        )


def _local(path: str) -> Any:
    return path.removeprefix("file://")
