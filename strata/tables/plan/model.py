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
from strata.tables.errors import file_name
from strata.tables.plan.deletes import DeleteFile, DeleteIndex
from strata.tables.plan.manifests import Entry
from strata.tables.plan.sizes import FieldKey, estimate_bytes, field_keys, least_bytes
from strata.tables.scan.predicates import Predicate
from strata.tables.scan.resolve import ResolvedScan

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
        partition_values: Identity-partition values by source field id, for columns absent from the file.
    """

    path: str
    file_size: int
    record_count: int
    file_key: str
    deletes: tuple[DeleteFile, ...] = ()
    partition_values: Mapping[int, Any] = attrs.field(factory=dict)


@attrs.frozen
class Totals:
    """Sums over a plan's files, computed once and shared by all scans of the same files.

    Attributes:
        rows: Rows, deleted ones included.
        nbytes: Bytes of the files.
        deletes: Whether any file has deletes.
    """

    rows: int
    nbytes: int
    deletes: bool

    @classmethod
    def of(cls, files: Sequence[FileTask]) -> Totals:
        """Return the sums over ``files``."""
        return cls(
            sum(file.record_count for file in files),
            sum(file.file_size for file in files),
            any(file.deletes for file in files),
        )


@attrs.frozen(eq=False)
class ScanPlan:
    """The files of a scan in a deterministic order, and bounds of the result's size.

    Attributes:
        scan: The scan.
        files: Data files, in the order of the manifests.
        totals: Sums over ``files``.
        max_rows: Upper bound of the result's rows.
        exact_rows: The result's rows, or ``None`` if a filter or a delete makes them uncertain.
        estimated_bytes: Estimate of the result's Arrow bytes.
        min_bytes: Lower bound of the result's Arrow bytes: the fixed-width columns when ``exact_rows`` is
            known, else 0.
        segment_fields: Identity of the columns that :func:`strata.tables.read_row_group` returns, in order.
        passthrough: Whether :func:`strata.tables.apply_residual` is the identity, so that a segment's encoded
            bytes are the result's.
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
        if scan.plan_key != self.plan_key:
            raise ValueError("the scans read different files")
        return plan_of(scan, self.files, self.totals)


def segment_schema(plan: ScanPlan, fields: Iterable[FieldKey]) -> pa.Schema:
    """Return the Arrow schema of a segment with the given ``segment_fields`` of the plan, in the given order.

    Raises:
        KeyError: If the plan has no such field.
    """
    by_key = dict(zip(plan.segment_fields, plan.scan.read_arrow_schema, strict=True))
    return pa.schema([by_key[field] for field in fields])


def file_task(entry: Entry, index: DeleteIndex, specs: Mapping[int, PartitionSpec], salt: str) -> FileTask:
    """Return the task that reads the data file of a manifest entry.

    Args:
        entry: The data file's entry.
        index: Finds the delete files of the data file.
        specs: The table's partition specs by id.
        salt: Identity of the table and its name mapping.

    Raises:
        RefusalError: UNSUPPORTED, naming the file, if the data file is not Parquet, an equality delete is not
            Parquet, or a position delete is neither Parquet nor Puffin.
    """
    if entry.content != DataFileContent.DATA or entry.file_format != FileFormat.PARQUET:
        raise RefusalError(_unsupported(f"data file {file_name(entry.path)} is not Parquet"))
    deletes = index.for_data_file(entry)
    for delete in deletes:
        if delete.equality_ids and delete.file_format != FileFormat.PARQUET.value:
            raise RefusalError(_unsupported(f"equality delete file {file_name(delete.path)} is not Parquet"))
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


def plan_of(scan: ResolvedScan, files: tuple[FileTask, ...], totals: Totals) -> ScanPlan:
    """Return the plan of a scan over given files."""
    exact = not scan.filtered and not totals.deletes
    return ScanPlan(
        scan=scan,
        files=files,
        totals=totals,
        max_rows=totals.rows,
        exact_rows=totals.rows if exact else None,
        estimated_bytes=estimate_bytes(scan.schema, scan.table_schema, totals.rows, totals.nbytes),
        min_bytes=least_bytes(scan.arrow_schema, totals.rows) if exact else 0,
        segment_fields=field_keys(scan.read_schema),
        passthrough=not scan.filtered,
    )


def too_many_files(most: int) -> Refused:
    """Return the refusal (TOO_LARGE) for a scan of more than ``most`` data files (``max_tasks_per_scan``)."""
    detail = f"The scan reads more than {most} data files (max_tasks_per_scan). Narrow it with filters."
    return Refused(Reason.TOO_LARGE, detail, code="too_many_tasks")


def _unsupported(why: str) -> Refused:
    return Refused(
        Reason.UNSUPPORTED, f"The table cannot be read exactly: {why}", code="unsupported_table_feature"
    )
