"""What is done before the first request: listings of a made-up table are parsed, and its rows are read.

The first file of a process takes five times as long as the second: modules and memory are touched for the
first time. The fork server parses listings, once for all readers; each reader reads rows, which starts
threads. The server forks readers before they are needed, so that no request waits for that.
"""

from __future__ import annotations

import io
import os
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestEntry,
    ManifestEntryStatus,
    write_manifest,
    write_manifest_list,
)
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.typedef import Record
from pyiceberg.types import BooleanType, DoubleType, LongType, NestedField, StringType, TimestampType

from strata.outcomes import Refused
from strata.readers.child.manifests import OpenListing, encoded
from strata.readers.messages import FileGiven, ListEntries, Listing, ListManifests
from strata.readers.plans import mapped
from strata.tables import LoadedTable, RowGroup, ScanSpec, TableRef, expand_file, resolve_scan
from strata.tables.caches import Caches
from strata.tables.files.confined import LocalFileIO
from strata.tables.plan.model import FileTask, Totals, plan_of
from strata.tables.read.ipc import encode_into, encoded_size

ROWS = 50_000
"""Rows that are read: as many bytes as a slice."""

FEW_ROWS = 100
"""Rows that a reader reads for which a request waits."""

TIMES = 3
"""Times they are read."""

_SCHEMA = Schema(
    NestedField(1, "number", LongType()),
    NestedField(2, "moment", TimestampType()),
    NestedField(3, "text", StringType()),
    NestedField(4, "share", DoubleType()),
    NestedField(5, "flag", BooleanType()),
)


class _MemoryIO(LocalFileIO):
    """Opens one file in memory, by its descriptor as any other."""

    def __init__(self, descriptor: int) -> None:
        super().__init__({})
        self._descriptor = descriptor

    def is_local(self, location: str) -> bool:  # noqa: ARG002  # there is one file
        return True

    def open_local(self, location: str) -> Any:  # noqa: ARG002  # as above
        return mapped(os.dup(self._descriptor))


def _file(rows: int) -> bytes:
    table = pa.table(
        {
            "number": pa.array(range(rows), pa.int64()),
            "moment": pa.array(range(rows), pa.timestamp("us")),
            "text": pa.array([f"text {at % 100}" for at in range(rows)]),
            "share": pa.array([at / 7 for at in range(rows)]),
            "flag": pa.array([at % 3 == 0 for at in range(rows)]),
        }
    )
    ids = [table.schema.field(at).with_metadata({"PARQUET:field_id": f"{at + 1}"}) for at in range(5)]
    file = io.BytesIO()
    pq.write_table(table.cast(pa.schema(ids)), file, compression="zstd")
    return file.getvalue()


def warm_up(slots: memoryview, slot_bytes: int, *, ahead: bool) -> None:
    """Read the table a few times, into the first slot.

    Args:
        slots: The shared memory.
        slot_bytes: Bytes of a slot.
        ahead: Whether no request waits for the reader; else a small table is read once, which starts threads.
    """
    rows, times = (ROWS, TIMES) if ahead else (FEW_ROWS, 1)
    data = _file(rows)
    descriptor = os.memfd_create("strata-warm-up", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, data)
        for at in range(times):
            _read(descriptor, len(data), slots[:slot_bytes], rows, threads=not at)
    finally:
        os.close(descriptor)


class _MemoryFile(io.BytesIO):
    """A file to be written whose bytes outlive its closing; has what pyiceberg wants of an output file."""

    location = "memory:"
    data = b""

    def create(self, overwrite: bool = False) -> Self:  # noqa: ARG002, FBT001, FBT002  # there is no other
        """Return the file itself."""
        return self

    def close(self) -> None:
        """Keep the bytes."""
        if not self.closed:
            self.data = self.getvalue()
        super().close()

    def __len__(self) -> int:
        return len(self.data or self.getvalue())


def warm_up_listings() -> None:
    """Parse a manifest and a manifest list, and encode what is in them; starts no thread."""
    manifest_file: Any = _MemoryFile()
    list_file: Any = _MemoryFile()
    file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path="memory:",
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=1,
        file_size_in_bytes=1,
        value_counts={1: 1},
        null_value_counts={1: 0},
        nan_value_counts={4: 0},
        lower_bounds={1: bytes(8)},
        upper_bounds={1: bytes(8)},
    )
    with write_manifest(2, UNPARTITIONED_PARTITION_SPEC, _SCHEMA, manifest_file, 1, "deflate") as writer:
        writer.add_entry(
            ManifestEntry.from_args(
                status=ManifestEntryStatus.ADDED,
                snapshot_id=1,
                sequence_number=1,
                file_sequence_number=1,
                data_file=file,
            )
        )
    manifest = writer.to_manifest_file()
    with write_manifest_list(2, list_file, 1, None, 1, "deflate") as listed:
        listed.add_manifests([manifest])
    entries = ListEntries((manifest,), {0: UNPARTITIONED_PARTITION_SPEC}, metrics=True)
    for what, written in ((ListManifests(whole=True), list_file), (entries, manifest_file)):
        descriptor = os.memfd_create("strata-warm-up", os.MFD_CLOEXEC)
        os.write(descriptor, written.data)
        opened = OpenListing(Listing(what, ("memory:",), (FileGiven(),)), 0, [descriptor])
        encoded(opened.next(2), *opened.reading)
        opened.close()


def _read(descriptor: int, size: int, slot: memoryview, rows: int, *, threads: bool) -> None:
    metadata = new_table_metadata(_SCHEMA, UNPARTITIONED_PARTITION_SPEC, UNSORTED_SORT_ORDER, "memory:")
    ref = TableRef("warm_up", ("warm_up",), "warm_up")
    table = LoadedTable(ref, "warm_up", "memory:", metadata, _MemoryIO(descriptor), Caches())
    scan = resolve_scan(table, ScanSpec())
    file = FileTask("memory:", size, rows, "warm_up")
    assert not isinstance(scan, Refused)
    plan = plan_of(scan, (file,), Totals.of((file,)))
    tasks = expand_file(plan, file)
    assert not isinstance(tasks, Refused)
    for task in tasks:
        group = RowGroup(plan, task, batch_rows=rows, slice_rows=rows, threads=threads)
        batches = group.read()
        if encoded_size(batches) <= len(slot):
            encode_into(batches, slot)
        group.close()
