"""Which data files a scan reads, from manifests alone.

Parquet footers are left for :func:`strata.tables.expand_file`, so that the first row group can be read while
the later files have not been looked at.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import attrs
import pyarrow as pa
from pyiceberg.manifest import DataFileContent, FileFormat, ManifestContent, ManifestFile
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.transforms import IdentityTransform

from strata.outcomes import Reason, RefusalError, Refused
from strata.tables.catalogs import LoadedTable
from strata.tables.deletes import DeleteFile, DeleteIndex
from strata.tables.faults import file_name, refusable
from strata.tables.manifests import Entry, read_entries, read_manifests
from strata.tables.partitions import manifest_might_match, partition_might_match, partition_tests
from strata.tables.predicates import Predicate
from strata.tables.prune import metrics_might_match
from strata.tables.resolve import ResolvedScan, mapping_digest
from strata.tables.sizes import FieldKey, estimate_bytes, field_keys, least_bytes

# Measured sizes of a kept entry, and of one column's statistics in it.
_ENTRY_BYTES = 1024
_COLUMN_METRICS_BYTES = 400
_READABLE_DELETES = frozenset({FileFormat.PARQUET.value, FileFormat.PUFFIN.value})


@attrs.frozen(eq=False)
class FileTask:
    """One data file to read.

    Attributes:
        path: Location.
        file_size: Bytes.
        record_count: Rows, deleted ones included.
        file_key: Identity of the file's rows as this table sees them: the table, the data file, its delete
            files and the name mapping; neither the snapshot nor the request.
        deletes: The delete files that apply.
        partition_values: Identity-partition values by source field id, for columns absent from the file.
    """

    path: str
    file_size: int
    record_count: int
    file_key: str
    deletes: tuple[DeleteFile, ...] = ()
    partition_values: Mapping[int, Any] = attrs.field(factory=dict)


@attrs.frozen(eq=False)
class ScanPlan:
    """The files of a scan in a deterministic order, and what is known of the result's size.

    Attributes:
        scan: The scan.
        files: Data files, in the order of the manifests.
        max_rows: No result has more rows.
        exact_rows: The number of rows, when neither a filter nor a delete makes it uncertain.
        estimated_bytes: A guess at the result's Arrow bytes.
        min_bytes: A lower bound of them: the fixed-width columns when ``exact_rows`` is known, else 0.
        segment_fields: Identity of the columns that :func:`strata.tables.read_row_group` returns, in order.
        passthrough: Whether :func:`strata.tables.finish` is the identity, so that a segment's encoded bytes
            are the result's.
    """

    scan: ResolvedScan
    files: tuple[FileTask, ...] = attrs.field(repr=False)
    max_rows: int
    exact_rows: int | None
    estimated_bytes: int
    min_bytes: int
    segment_fields: tuple[FieldKey, ...]
    passthrough: bool

    @property
    def plan_key(self) -> Hashable:
        """Equal keys have equal files: table, snapshot, schema, name mapping and filters."""
        return self.scan.plan_key

    def position_of(self, predicate: Predicate) -> int:
        """Return the column of ``segment_fields`` a condition is on."""
        name = predicate.path[0]
        for position, field in enumerate(self.scan.read_schema.fields):
            if field.name == name:
                return position
        raise LookupError("the read schema lacks a filtered column")

    def for_scan(self, scan: ResolvedScan) -> ScanPlan:
        """Return the plan of another scan with the same ``plan_key``, without reading manifests again."""
        if scan.plan_key != self.plan_key:
            raise ValueError("the scans read different files")
        return _plan_of(scan, self.files)


@refusable
def plan_files(scan: ResolvedScan) -> ScanPlan:
    """Plan the scan; blocking (reads manifests, no data file).

    Returns a refusal if a manifest cannot be read (DATA_UNREADABLE) or a file has a format that is not read
    (UNSUPPORTED, naming it).
    """
    if scan.snapshot_id is None:
        return _plan_of(scan, ())
    table = scan.table
    snapshot = table.metadata.snapshot_by_id(scan.snapshot_id)
    assert snapshot is not None
    specs = table.metadata.specs()
    manifests = read_manifests(table.io, snapshot.manifest_list)
    data = list(_data_entries(scan, manifests, specs))
    oldest = min((entry.sequence_number for entry in data), default=0)
    deletes = DeleteIndex(
        [
            entry
            for manifest in manifests
            if manifest.content == ManifestContent.DELETES and (manifest.sequence_number or 0) >= oldest
            for entry in _entries(table, manifest, metrics=True)
        ]
        if data
        else [],
        specs,
    )
    salt = f"{table.uuid}{mapping_digest(table.metadata)}"
    return _plan_of(scan, tuple(_file_task(entry, deletes, specs, salt) for entry in data))


def segment_schema(plan: ScanPlan, fields: Iterable[FieldKey]) -> pa.Schema:
    """Return the Arrow schema of a segment with these of the plan's ``segment_fields``, in the order given.

    Raises:
        KeyError: If a field is none of the plan's.
    """
    by_key = dict(zip(plan.segment_fields, plan.scan.read_arrow_schema, strict=True))
    return pa.schema([by_key[field] for field in fields])


def _data_entries(
    scan: ResolvedScan, manifests: Iterable[ManifestFile], specs: Mapping[int, PartitionSpec]
) -> Iterable[Entry]:
    predicates = scan.predicates
    if () in scan.clauses or any(_matches_nothing(predicate) for predicate in predicates):
        return
    tests = {spec_id: partition_tests(predicates, spec) for spec_id, spec in specs.items()}
    for manifest in manifests:
        own = tests.get(manifest.partition_spec_id, ())
        if manifest.content != ManifestContent.DATA or not manifest_might_match(manifest, own):
            continue
        for entry in _entries(scan.table, manifest, metrics=bool(predicates)):
            if not partition_might_match(entry.partition, own):
                continue
            if entry.metrics is None or metrics_might_match(entry.metrics, predicates):
                yield entry


def _entries(table: LoadedTable, manifest: ManifestFile, *, metrics: bool) -> tuple[Entry, ...]:
    key = (table.ref.catalog, table.uuid, manifest.manifest_path)
    # Entries with statistics also serve a scan that needs none.
    entries = table.caches.manifests.get((*key, True))
    if entries is None and not metrics:
        entries = table.caches.manifests.get((*key, False))
    if entries is None:
        entries = read_entries(table.io, manifest, metrics=metrics)
        columns = len(table.metadata.schema().field_ids) if metrics else 0
        weight = len(entries) * (_ENTRY_BYTES + columns * _COLUMN_METRICS_BYTES) + _ENTRY_BYTES
        table.caches.manifests.put((*key, metrics), entries, weight)
    return entries


def _matches_nothing(predicate: Predicate) -> bool:
    return predicate.op == "in" and not predicate.literals


def _file_task(entry: Entry, index: DeleteIndex, specs: Mapping[int, PartitionSpec], salt: str) -> FileTask:
    if entry.content != DataFileContent.DATA or entry.file_format != FileFormat.PARQUET:
        raise RefusalError(_unsupported(f"data file {file_name(entry.path)} is not Parquet"))
    deletes = index.for_data_file(entry)
    for delete in deletes:
        if delete.equality_ids and delete.file_format != FileFormat.PARQUET.value:
            raise RefusalError(
                _unsupported(f"{file_name(delete.path)} holds equality deletes out of Parquet")
            )
        if delete.file_format not in _READABLE_DELETES:
            raise RefusalError(_unsupported(f"delete file {file_name(delete.path)} is not Parquet or Puffin"))
    return FileTask(
        path=entry.path,
        file_size=entry.size,
        record_count=entry.record_count,
        file_key=_file_key(entry, deletes, salt),
        deletes=deletes,
        partition_values=_identity_values(entry, specs.get(entry.spec_id)),
    )


def _file_key(entry: Entry, deletes: tuple[DeleteFile, ...], salt: str) -> str:
    identity = [salt, entry.path, entry.size, [attrs.astuple(delete) for delete in deletes]]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def _identity_values(entry: Entry, spec: PartitionSpec | None) -> dict[int, Any]:
    if spec is None:
        return {}
    return {
        field.source_id: entry.partition[position]
        for position, field in enumerate(spec.fields)
        if isinstance(field.transform, IdentityTransform) and entry.partition[position] is not None
    }


def _plan_of(scan: ResolvedScan, files: tuple[FileTask, ...]) -> ScanPlan:
    rows = sum(file.record_count for file in files)
    exact = not scan.filtered and not any(file.deletes for file in files)
    return ScanPlan(
        scan=scan,
        files=files,
        max_rows=rows,
        exact_rows=rows if exact else None,
        estimated_bytes=estimate_bytes(
            scan.schema, scan.table_schema, rows, sum(file.file_size for file in files)
        ),
        min_bytes=least_bytes(scan.arrow_schema, rows) if exact else 0,
        segment_fields=field_keys(scan.read_schema),
        passthrough=not scan.filtered,
    )


def _unsupported(why: str) -> Refused:
    return Refused(
        Reason.UNSUPPORTED, f"The table cannot be read exactly: {why}", code="unsupported_table_feature"
    )
