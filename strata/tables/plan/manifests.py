"""Read manifest lists and manifests, keeping the fields that planning needs.

pyiceberg's own manifest reader keeps the fields of format version 2. A deletion vector's offset in its Puffin
file is a field of version 3, so entries are read here with pyiceberg's Avro reader and its version 3 schema.
Bounds and counts that a plan does not need (without a filter) are dropped entry by entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema

from strata.outcomes import Reason, RefusalError, Refused
from strata.tables.errors import Reading, file_name
from strata.tables.files.avro import AvroKind

PATH_FIELD_ID = 2147483546
"""Field id of ``file_path`` in a position delete file (Iceberg specification, "Reserved Field IDs")."""

_NEEDED = {500, 501, 502}
"""Fields that a manifest list must have: path, length and spec id; lists of 2019 have no more (version 1)."""

_LIST_SCHEMA = Schema(
    *(
        field.model_copy(update={"required": field.required and field.field_id in _NEEDED})
        for field in MANIFEST_LIST_FILE_SCHEMAS[DEFAULT_READ_VERSION].fields
    )
)

_MANIFESTS: AvroKind[ManifestFile] = AvroKind(
    _LIST_SCHEMA,
    {-1: ManifestFile, 508: PartitionFieldSummary},
    {517: ManifestContent},
)

_ENTRIES: AvroKind[ManifestEntry] = AvroKind(
    MANIFEST_ENTRY_SCHEMAS[3],
    {-1: ManifestEntry, 2: DataFile},
    {0: ManifestEntryStatus, 101: FileFormat, 134: DataFileContent},
)

_PARTITION = (2, 102)
"""Ids of the fields from an entry to its partition values: ``data_file``, ``partition``."""

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


def first_manifests(io: FileIO, locations: Iterable[str]) -> Iterator[ManifestFile]:
    """Yield the manifests of a snapshot of the first releases, which has no manifest list; blocking.

    A manifest says the id of its partition spec itself (Iceberg specification, "Manifests").

    Raises:
        RefusalError: DATA_UNREADABLE if a manifest cannot be read.
    """
    for location in locations:
        with Reading("manifest", location), _ENTRIES.read(io.new_input(location)) as entries:
            spec_id = int(entries.header.meta.get("partition-spec-id", 0))
        yield ManifestFile.from_args(
            manifest_path=location,
            manifest_length=0,
            partition_spec_id=spec_id,
            content=ManifestContent.DATA,
            sequence_number=0,
            min_sequence_number=0,
        )


def read_entries(
    io: FileIO, manifest: ManifestFile, spec: PartitionSpec | None, *, metrics: bool
) -> Iterator[Entry | None]:
    """Yield the entries of a manifest in file order, ``None`` for deleted ones; blocking at the first.

    The first step reads the whole file into memory; each step decodes one entry.

    Args:
        io: Opens the manifest.
        manifest: The manifest, as its list describes it.
        spec: The manifest's partition spec; None: the table has none of that id.
        metrics: Whether to include column statistics.

    Raises:
        RefusalError: DATA_UNREADABLE if the manifest cannot be read; UNSUPPORTED, naming it and the field, if
            it has no value of a field of its partition spec.
    """
    with (
        Reading("manifest", manifest.manifest_path),
        _ENTRIES.read(io.new_input(manifest.manifest_path), manifest.manifest_length or 0) as entries,
    ):
        places = _partition_places(entries.field_ids(*_PARTITION), manifest, spec)
        for entry in entries:
            gone = entry.status == ManifestEntryStatus.DELETED
            yield None if gone else _entry(entry, manifest, places, metrics=metrics)


def _partition_places(
    written: Sequence[int], manifest: ManifestFile, spec: PartitionSpec | None
) -> Sequence[int]:
    """Return the position among the written partition values of each field of the spec.

    Values belong to fields by id, not by position (Iceberg specification, "Manifests", field 102).
    """
    if spec is None:
        return range(len(written))
    places = []
    for field in spec.fields:
        if field.field_id not in written:
            name = file_name(manifest.manifest_path)
            detail = f"The manifest {name} lacks the values of partition field {field.name}"
            raise RefusalError(Refused(Reason.UNSUPPORTED, detail, code="unsupported_table_feature"))
        places.append(written.index(field.field_id))
    return places


def _entry(entry: ManifestEntry, manifest: ManifestFile, places: Sequence[int], *, metrics: bool) -> Entry:
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
        partition=tuple(partition[place] for place in places),
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
