"""Which data files a scan reads, from manifests alone.

Parquet footers are left for :func:`strata.tables.expand_file`, so that the first row group can be read while
the later files have not been looked at. How a plan is made says :mod:`strata.tables.plan.planner`.
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


@attrs.frozen
class Totals:
    """Of the files of a plan, counted once: there may be many, and other scans of the same files.

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
        """Count them."""
        return cls(
            sum(file.record_count for file in files),
            sum(file.file_size for file in files),
            any(file.deletes for file in files),
        )


@attrs.frozen(eq=False)
class ScanPlan:
    """The files of a scan in a deterministic order, and what is known of the result's size.

    Attributes:
        scan: The scan.
        files: Data files, in the order of the manifests.
        totals: Of the files.
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
    totals: Totals
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
        return plan_of(scan, self.files, self.totals)


def segment_schema(plan: ScanPlan, fields: Iterable[FieldKey]) -> pa.Schema:
    """Return the Arrow schema of a segment with these of the plan's ``segment_fields``, in the order given.

    Raises:
        KeyError: If a field is none of the plan's.
    """
    by_key = dict(zip(plan.segment_fields, plan.scan.read_arrow_schema, strict=True))
    return pa.schema([by_key[field] for field in fields])


def file_task(entry: Entry, index: DeleteIndex, specs: Mapping[int, PartitionSpec], salt: str) -> FileTask:
    """Return what is to be read for a data file's entry.

    Args:
        entry: The entry.
        index: Finds its deletes.
        specs: The table's partition specs by id.
        salt: Identity of the table and its name mapping.

    Raises:
        RefusalError: UNSUPPORTED, naming the file, if it or one of its deletes has a format that is not read.
    """
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


def plan_of(scan: ResolvedScan, files: tuple[FileTask, ...], totals: Totals) -> ScanPlan:
    """Return the plan of a scan whose files are known."""
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
    """The refusal of a scan of more data files than ``max_tasks_per_scan``."""
    detail = f"The scan reads more than {most} data files (max_tasks_per_scan)."
    return Refused(Reason.TOO_LARGE, detail, code="too_many_tasks")


def _unsupported(why: str) -> Refused:
    return Refused(
        Reason.UNSUPPORTED, f"The table cannot be read exactly: {why}", code="unsupported_table_feature"
    )
