"""A scan's plan: the data files to read and bounds of the result's size, from manifests alone.

Parquet footers are read later, by :func:`strata.tables.expand_file`, so that the first row group can be sent
before later files are opened. :mod:`strata.tables.plan.planner` makes the plan.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import attrs
import pyarrow as pa
from pyiceberg.manifest import DataFileContent, FileFormat
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.transforms import IdentityTransform

from strata.outcomes import Reason, RefusalError, Refused
from strata.tables.errors import contradicted, file_name
from strata.tables.plan.deletes import DeleteFile, DeleteIndex
from strata.tables.plan.manifests import Entry
from strata.tables.plan.sizes import FieldKey, estimate_bytes, field_keys, least_bytes
from strata.tables.scan.predicates import Predicate
from strata.tables.scan.resolve import ResolvedScan

DELETE_BYTES = 24 * 1024 * 1024
"""Most bytes that reading the deletes of one data file takes, besides a bit for each of its rows: keys kept
for the next slice, and what is decoded at a time."""

# Memory of a plan, of a file's task, and of one of its delete files, which is shared by all data files.
_PLAN_BYTES, _TASK_BYTES, _DELETE_BYTES = 1024, 640, 16

_READABLE_DELETES = frozenset({FileFormat.PARQUET.value, FileFormat.PUFFIN.value})


@attrs.frozen(eq=False)
class FileTask:
    """One data file to read.

    Attributes:
        path: Location.
        file_size: Bytes.
        record_count: Rows, deleted ones included.
        file_key: Identity of the file's rows in this table: SHA-256 of the table's UUID and name mapping, the
            data file and its delete files; independent of snapshot and request.
        deletes: The delete files that apply.
        partition_values: Identity-partition values by source field id, for columns absent from the file; null
            is a value, too.
        has_hidden_rows: Whether cell grants may hide rows of the file: the caller's filter then rules out
            neither the file nor a row group of which the grants do not prove all rows visible.
    """

    path: str
    file_size: int
    record_count: int
    file_key: str
    deletes: tuple[DeleteFile, ...] = ()
    partition_values: Mapping[int, Any] = attrs.field(factory=dict)
    has_hidden_rows: bool = False


@attrs.frozen
class Totals:
    """Sums over a plan's files, computed once and shared by all scans of the same files.

    Attributes:
        rows: Rows, deleted ones included.
        nbytes: Bytes of the files.
        deletes: Whether any file has deletes.
        delete_bytes: Most bytes that reading the deletes of one file takes; 0 without deletes.
        memory: Bytes of memory of the files' tasks.
    """

    rows: int
    nbytes: int
    deletes: bool
    delete_bytes: int = 0
    memory: int = 0

    @classmethod
    def of(cls, files: Sequence[FileTask]) -> Totals:
        """Return the sums over ``files``."""
        return cls(
            sum(file.record_count for file in files),
            sum(file.file_size for file in files),
            any(file.deletes for file in files),
            max((DELETE_BYTES + file.record_count // 8 for file in files if file.deletes), default=0),
            sum(_TASK_BYTES + len(file.path) + _DELETE_BYTES * len(file.deletes) for file in files),
        )


@attrs.frozen(eq=False)
class ScanPlan:
    """The files of a scan in a deterministic order, and bounds of the result's size.

    Attributes:
        scan: The scan.
        files: Data files, in the order of the manifests.
        totals: Sums over the files of ``planned``.
        max_rows: Upper bound of the rows that are read.
        exact_rows: The result's rows, or ``None`` if a filter or a delete makes them uncertain.
        estimated_bytes: Estimate of the result's Arrow bytes.
        min_bytes: Lower bound of the result's Arrow bytes: the fixed-width columns when ``exact_rows`` is
            known, else 0.
        segment_fields: Identity of the columns that :func:`strata.tables.read_row_group` returns, in order.
        passthrough: Whether a segment's encoded bytes are the result's: there is no filter and no limit, and
            there are no hidden cells, whose sizes the bounds of cached batches would tell.
        planned: The files of all scans with the same ``plan_key``, to be remembered: without the scan and its
            table. With a limit ``files`` may be the first of them only.
    """

    scan: ResolvedScan
    files: tuple[FileTask, ...] = attrs.field(repr=False)
    totals: Totals
    max_rows: int
    exact_rows: int | None
    estimated_bytes: int
    min_bytes: int
    segment_fields: tuple[FieldKey, ...]
    passthrough: bool
    planned: PlannedFiles = attrs.field(repr=False)

    @property
    def plan_key(self) -> Hashable:
        """Key of the files (table, snapshot, schema, name mapping, filters); equal keys, equal files."""
        return self.scan.plan_key

    def position_of(self, predicate: Predicate) -> int:
        """Return the index in ``segment_fields`` of the column that a predicate tests.

        Raises:
            LookupError: If the scan does not read the column.
        """
        name = predicate.path[0]
        for position, field in enumerate(self.scan.read_schema.fields):
            if field.name == name:
                return position
        raise LookupError("the read schema lacks a filtered column")

    def for_scan(self, scan: ResolvedScan) -> ScanPlan:
        """Return the plan of another scan with the same ``plan_key``, without reading manifests.

        Raises:
            ValueError: If the scans have different keys, hence different files.
        """
        return self.planned.for_scan(scan)


@attrs.frozen(eq=False)
class PlannedFiles:
    """The files of all scans with one key, for a cache. They keep no table's metadata in memory.

    Attributes:
        plan_key: The scans' key.
        files: Data files, in the order of the manifests.
        totals: Sums over ``files``.
        key_bytes: Bytes of memory of the key.
        enough_rows: Limit of the scans that these files are enough for, which are then the first ones only;
            None: they are all of the files.
    """

    plan_key: Hashable
    files: tuple[FileTask, ...] = attrs.field(repr=False)
    totals: Totals
    key_bytes: int
    enough_rows: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return _PLAN_BYTES + self.key_bytes + self.totals.memory

    def enough_for(self, scan: ResolvedScan) -> bool:
        """Whether a scan with the same key reads no file besides these."""
        return self.enough_rows is None or (
            scan.enough_rows is not None and scan.enough_rows <= self.enough_rows
        )

    def for_scan(self, scan: ResolvedScan) -> ScanPlan:
        """Return the plan of a scan, without reading manifests.

        Raises:
            ValueError: If the scan has another key, hence other files, or reads more of them.
        """
        if scan.plan_key != self.plan_key or not self.enough_for(scan):
            raise ValueError("the scans read different files")
        return _plan(scan, self)


def segment_schema(plan: ScanPlan, fields: Iterable[FieldKey]) -> pa.Schema:
    """Return the Arrow schema of a segment with the given ``segment_fields`` of the plan, in the given order.

    Raises:
        KeyError: If the plan has no such field.
    """
    by_key = dict(zip(plan.segment_fields, plan.scan.read_arrow_schema, strict=True))
    return pa.schema([by_key[field] for field in fields])


def _with_format(delete: DeleteFile) -> str:
    return f"{file_name(delete.path)} is {delete.file_format}"


def file_task(entry: Entry, index: DeleteIndex, specs: Mapping[int, PartitionSpec], salt: str) -> FileTask:
    """Return the task that reads the data file of a manifest entry.

    Args:
        entry: The data file's entry.
        index: Finds the delete files of the data file.
        specs: The table's partition specs by id.
        salt: Identity of the table, its name mapping and, for some catalogs, its caller.

    Raises:
        RefusalError: UNSUPPORTED, naming the file, if the data file is not Parquet, an equality delete is not
            Parquet, or a position delete is neither Parquet nor Puffin; DATA_UNREADABLE if the manifest gives
            it a negative number of rows.
    """
    if entry.content != DataFileContent.DATA or entry.file_format != FileFormat.PARQUET:
        found = entry.file_format.value
        if entry.content != DataFileContent.DATA:
            found = "a delete file among data files"
        raise RefusalError(_unsupported(f"data file {file_name(entry.path)} is {found}, not Parquet"))
    if entry.record_count < 0:
        raise RefusalError(contradicted("data file", entry.path, "rows", f"{entry.record_count}"))
    deletes = index.for_data_file(entry)
    for delete in deletes:
        if delete.equality_ids and delete.file_format != FileFormat.PARQUET.value:
            raise RefusalError(_unsupported(f"equality delete file {_with_format(delete)}, not Parquet"))
        if delete.file_format not in _READABLE_DELETES:
            raise RefusalError(_unsupported(f"delete file {_with_format(delete)}, not Parquet or Puffin"))
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
        if isinstance(field.transform, IdentityTransform)
    }


def plan_of(scan: ResolvedScan, files: tuple[FileTask, ...], totals: Totals) -> ScanPlan:
    """Return the plan of a scan over given files."""
    planned = PlannedFiles(scan.plan_key, files, totals, scan.literal_bytes, scan.enough_rows)
    return _plan(scan, planned)


def _plan(scan: ResolvedScan, planned: PlannedFiles) -> ScanPlan:
    files, totals = planned.files, planned.totals
    exact = not scan.filtered and not totals.deletes
    # The sizes of files are those of hidden cells, too.
    rows, file_bytes, limit = totals.rows, None if scan.restricted else totals.nbytes, scan.spec.limit
    if limit is not None and (exact or not limit):
        files = _first_files(files, limit)
        rows = min(limit, rows)
        if file_bytes is not None:
            file_bytes = file_bytes * rows // max(1, totals.rows)
    return ScanPlan(
        scan=scan,
        files=files,
        totals=totals,
        max_rows=sum(file.record_count for file in files) if limit is not None else totals.rows,
        exact_rows=rows if exact or limit == 0 else None,
        estimated_bytes=estimate_bytes(scan.schema, scan.table_schema, rows, file_bytes),
        min_bytes=least_bytes(scan.arrow_schema, rows) if exact else 0,
        segment_fields=field_keys(scan.read_schema),
        passthrough=not scan.filtered and not scan.restricted and limit is None,
        planned=planned,
    )


def _first_files(files: tuple[FileTask, ...], rows: int) -> tuple[FileTask, ...]:
    """Return the files that hold the first rows, if each holds the rows that its manifest says."""
    before = 0
    for place, file in enumerate(files):
        if before >= rows:
            return files[:place]
        before += file.record_count
    return files


def too_many_files(most: int) -> Refused:
    """Return the refusal (TOO_LARGE) for a scan of more than ``most`` data files (``max_tasks_per_scan``)."""
    detail = f"The scan reads more than {most} data files (max_tasks_per_scan). Narrow it with filters."
    return Refused(Reason.TOO_LARGE, detail, code="too_many_tasks")


def _unsupported(why: str) -> Refused:
    return Refused(
        Reason.UNSUPPORTED, f"The table cannot be read exactly: {why}", code="unsupported_table_feature"
    )
