"""Read manifest lists and manifests, keeping the fields that planning needs.

pyiceberg's own manifest reader keeps the fields of format version 2. A deletion vector's offset in its Puffin
file is a field of version 3, so entries are read here with pyiceberg's Avro reader and its version 3 schema.
Bounds and counts that a plan does not need (without a filter) are dropped entry by entry.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
from pyiceberg.io import FileIO
from pyiceberg.manifest import (
    DEFAULT_READ_VERSION,
    MANIFEST_ENTRY_SCHEMAS,
    MANIFEST_LIST_FILE_SCHEMAS,
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    PartitionFieldSummary,
)

from strata.tables.errors import Reading
from strata.tables.files.avro import AvroKind

PATH_FIELD_ID = 2147483546
"""Field id of ``file_path`` in a position delete file (Iceberg specification, "Reserved Field IDs")."""

_MANIFESTS: AvroKind[ManifestFile] = AvroKind(
    MANIFEST_LIST_FILE_SCHEMAS[DEFAULT_READ_VERSION],
    {-1: ManifestFile, 508: PartitionFieldSummary},
    {517: ManifestContent},
)

_ENTRIES: AvroKind[ManifestEntry] = AvroKind(
    MANIFEST_ENTRY_SCHEMAS[3],
    {-1: ManifestEntry, 2: DataFile},
    {0: ManifestEntryStatus, 101: FileFormat, 134: DataFileContent},
)

# Positions of version 3's fields, for which pyiceberg's DataFile has no accessors yet.
_REFERENCED_DATA_FILE, _CONTENT_OFFSET, _CONTENT_SIZE = 17, 18, 19


@attrs.frozen(eq=False)
class Metrics:
    """Column statistics of a file by field id; a missing id is an unknown value.

    Attributes:
        values: Number of values, nulls and NaN included.
        nulls: Number of nulls.
        nans: Number of NaN.
        lower: Lower bounds in Iceberg's single-value serialization.
        upper: Upper bounds in the same form.
    """

    values: dict[int, int]
    nulls: dict[int, int]
    nans: dict[int, int]
    lower: dict[int, bytes]
    upper: dict[int, bytes]


@attrs.frozen(eq=False)
class Entry:
    """A live data or delete file of a snapshot.

    Attributes:
        content: Data, position deletes (deletion vectors too) or equality deletes.
        path: Location.
        file_format: Parquet, Puffin …
        partition: Partition values in the order of the partition spec's fields.
        spec_id: Id of the partition spec.
        sequence_number: Data sequence number (Iceberg specification, "Sequence Numbers").
        record_count: Rows, or deleted positions.
        size: Bytes.
        equality_ids: Field ids an equality delete compares.
        referenced_data_file: The only data file the deletes apply to; ``None`` if unknown.
        content_offset: Byte offset of a deletion vector in its Puffin file.
        content_size: Length of the deletion vector in bytes.
        metrics: Column statistics; ``None`` unless requested.
    """

    content: DataFileContent
    path: str
    file_format: FileFormat
    partition: tuple[Any, ...]
    spec_id: int
    sequence_number: int
    record_count: int
    size: int
    equality_ids: tuple[int, ...]
    referenced_data_file: str | None
    content_offset: int | None
    content_size: int | None
    metrics: Metrics | None


def read_manifests(io: FileIO, manifest_list: str) -> Iterator[ManifestFile]:
    """Yield the manifests of a snapshot in the order of its manifest list; blocking at the first.

    The first step reads the whole file into memory; each step decodes one manifest.

    Raises:
        RefusalError: DATA_UNREADABLE if the manifest list cannot be read.
    """
    with Reading("manifest list", manifest_list), _MANIFESTS.read(io.new_input(manifest_list)) as manifests:
        yield from manifests


def read_entries(io: FileIO, manifest: ManifestFile, *, metrics: bool) -> Iterator[Entry | None]:
    """Yield the entries of a manifest in file order, ``None`` for deleted ones; blocking at the first.

    The first step reads the whole file into memory; each step decodes one entry.

    Args:
        io: Opens the manifest.
        manifest: The manifest, as its list describes it.
        metrics: Whether to include column statistics.

    Raises:
        RefusalError: DATA_UNREADABLE if the manifest cannot be read.
    """
    with (
        Reading("manifest", manifest.manifest_path),
        _ENTRIES.read(io.new_input(manifest.manifest_path)) as entries,
    ):
        for entry in entries:
            gone = entry.status == ManifestEntryStatus.DELETED
            yield None if gone else _entry(entry, manifest, metrics=metrics)


def _entry(entry: ManifestEntry, manifest: ManifestFile, *, metrics: bool) -> Entry:
    # The sequence number of an added file is that of its commit, known from the manifest list only
    # (Iceberg specification, "Sequence Number Inheritance"); format version 1 has none: 0.
    sequence_number = entry.sequence_number
    if sequence_number is None:
        sequence_number = manifest.sequence_number or 0
    file = entry.data_file
    partition = file.partition
    return Entry(
        content=file.content or DataFileContent.DATA,
        path=file.file_path,
        file_format=file.file_format,
        partition=tuple(partition[index] for index in range(len(partition))),
        spec_id=manifest.partition_spec_id,
        sequence_number=sequence_number,
        record_count=file.record_count,
        size=file.file_size_in_bytes,
        equality_ids=tuple(file.equality_ids or ()),
        referenced_data_file=file[_REFERENCED_DATA_FILE],
        content_offset=file[_CONTENT_OFFSET],
        content_size=file[_CONTENT_SIZE],
        metrics=_metrics(file) if metrics else None,
    )


def _metrics(file: DataFile) -> Metrics:
    return Metrics(
        values=file.value_counts or {},
        nulls=file.null_value_counts or {},
        nans=file.nan_value_counts or {},
        lower=file.lower_bounds or {},
        upper=file.upper_bounds or {},
    )
