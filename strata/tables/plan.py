"""Which data files a scan reads, from manifests alone.

Parquet footers are left for :func:`strata.tables.expand_file`, so that the first row group can be read while
the later files have not been looked at.

A table may have a hundred thousand files, and to look at them takes seconds of Python: so a plan is made in
steps of a few milliseconds (:class:`Planning`), between which others have their turn.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import attrs
import pyarrow as pa
from pyiceberg.manifest import DataFileContent, FileFormat, ManifestContent, ManifestFile
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.transforms import IdentityTransform

from strata.outcomes import Reason, RefusalError, Refused
from strata.tables.catalogs import LoadedTable
from strata.tables.deletes import DeleteFile, DeleteIndex
from strata.tables.faults import file_name, refusable
from strata.tables.footers import is_local
from strata.tables.manifests import Entry, read_entries, read_manifests
from strata.tables.partitions import (
    PartitionTest,
    manifest_might_match,
    partition_might_match,
    partition_tests,
)
from strata.tables.predicates import Predicate
from strata.tables.prune import metrics_might_match
from strata.tables.resolve import ResolvedScan, mapping_digest
from strata.tables.sizes import FieldKey, estimate_bytes, field_keys, least_bytes

T = TypeVar("T")

STEP_FILES = 100
"""Files of a table that a step of its plan looks at: some five milliseconds."""

MANIFEST_FILES = 4
"""What opening a manifest takes, in files that could be looked at meanwhile; one far away is a step."""

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
        return _plan_of(scan, self.files, self.totals)


@attrs.frozen(eq=False)
class Step:
    """A step of a planning.

    Attributes:
        files: Files it looked at.
        plan: The plan, once there is nothing left to look at.
        busy: Another thread is at it: nothing was done.
    """

    files: int = 0
    plan: ScanPlan | None = None
    busy: bool = False


class Planning:
    """A plan that is being made; threads may take its steps in turn.

    Args:
        scan: Whose.
        most: Data files that it may have.
    """

    def __init__(self, scan: ResolvedScan, most: int | None = None) -> None:
        self._scan = scan
        self._most = math.inf if most is None else most
        self._plan: ScanPlan | None = None
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._pace = _Pace()
        self._steps = _planned(self._scan, self._pace, self._most)

    def step(self) -> Step:
        """Look at some more files; blocking (reads manifests, no data file). Never waits for another thread.

        Raises:
            RefusalError: DATA_UNREADABLE if a manifest cannot be read, UNSUPPORTED, naming it, if a file has
                a format that is not read, TOO_LARGE as soon as there are more data files than there may be.
                The next step is the first one again.
        """
        if not self._lock.acquire(blocking=False):
            return Step(busy=True)
        try:
            if self._plan is None:
                try:
                    next(self._steps)
                except StopIteration as end:
                    self._plan = end.value
                except BaseException:
                    self._begin()
                    raise
            return Step(self._pace.take(), self._plan)
        finally:
            self._lock.release()


@refusable
def plan_step(planning: Planning) -> Step:
    """Take a step of a planning; blocking. A refusal is returned (see :meth:`Planning.step`)."""
    return planning.step()


@refusable
def plan_files(scan: ResolvedScan) -> ScanPlan:
    """Plan the scan in one go; blocking for as long as its manifests take. A refusal is returned."""
    planning = Planning(scan)
    while (plan := planning.step().plan) is None:
        pass
    return plan


def segment_schema(plan: ScanPlan, fields: Iterable[FieldKey]) -> pa.Schema:
    """Return the Arrow schema of a segment with these of the plan's ``segment_fields``, in the order given.

    Raises:
        KeyError: If a field is none of the plan's.
    """
    by_key = dict(zip(plan.segment_fields, plan.scan.read_arrow_schema, strict=True))
    return pa.schema([by_key[field] for field in fields])


@attrs.define
class _Pace:
    """Files looked at since the last step ended."""

    files: int = 0

    def full(self, files: int) -> bool:
        """Count some more; whether they make a step."""
        self.files += files
        return self.files >= STEP_FILES

    def take(self) -> int:
        files, self.files = self.files, 0
        return files


_Steps = Generator[None, None, T]
"""Yields between steps of a planning, and returns what they found."""


def _planned(scan: ResolvedScan, pace: _Pace, most: float) -> _Steps[ScanPlan]:
    if scan.snapshot_id is None:
        return _plan_of(scan, (), Totals.of(()))
    table = scan.table
    snapshot = table.metadata.snapshot_by_id(scan.snapshot_id)
    assert snapshot is not None
    specs = table.metadata.specs()
    manifests = yield from _gathered(_in_parts(read_manifests(table.io, snapshot.manifest_list)), pace)
    data: list[Entry] = []
    for manifest, tests in _data_manifests(scan, manifests, specs):
        for some in _entries(table, manifest, metrics=bool(scan.predicates)):
            data += (entry for entry in some if _might_match(entry, tests, scan.predicates))
            if len(data) > most:
                raise RefusalError(too_many_files(most))
            if pace.full(len(some)):
                yield
        yield from _opened(table, manifest, pace)
    deletes: list[Entry] = []
    for manifest in _delete_manifests(manifests, data):
        deletes += yield from _gathered(_entries(table, manifest, metrics=True), pace)
        yield from _opened(table, manifest, pace)
    index = DeleteIndex(deletes, specs)
    salt = f"{table.uuid}{mapping_digest(table.metadata)}"
    files: list[FileTask] = []
    for entries in _in_parts(data):
        files += (_file_task(entry, index, specs, salt) for entry in entries)
        if pace.full(len(entries)):
            yield
    return _plan_of(scan, tuple(files), Totals.of(files))


def _gathered(parts: Iterable[Sequence[T]], pace: _Pace) -> _Steps[list[T]]:
    found: list[T] = []
    for some in parts:
        found += some
        if pace.full(len(some)):
            yield
    return found


def _opened(table: LoadedTable, manifest: ManifestFile, pace: _Pace) -> _Steps[None]:
    if pace.full(MANIFEST_FILES if is_local(table.io, manifest.manifest_path) else STEP_FILES):
        yield


def _in_parts(things: Iterable[T]) -> Iterator[list[T]]:
    left = iter(things)
    while some := list(islice(left, STEP_FILES)):
        yield some


def _data_manifests(
    scan: ResolvedScan, manifests: Iterable[ManifestFile], specs: Mapping[int, PartitionSpec]
) -> Iterator[tuple[ManifestFile, Sequence[PartitionTest]]]:
    """Yield the manifests whose data files may have rows of the scan, and what their partitions must pass."""
    predicates = scan.predicates
    if () in scan.clauses or any(_matches_nothing(predicate) for predicate in predicates):
        return
    tests = {spec_id: partition_tests(predicates, spec) for spec_id, spec in specs.items()}
    for manifest in manifests:
        own = tests.get(manifest.partition_spec_id, ())
        if manifest.content == ManifestContent.DATA and manifest_might_match(manifest, own):
            yield manifest, own


def _delete_manifests(manifests: Iterable[ManifestFile], data: Iterable[Entry]) -> Iterator[ManifestFile]:
    """Yield those whose deletes may be of the data files: none is older than all of them."""
    oldest = min((entry.sequence_number for entry in data), default=math.inf)
    for manifest in manifests:
        if manifest.content == ManifestContent.DELETES and (manifest.sequence_number or 0) >= oldest:
            yield manifest


def _might_match(entry: Entry, tests: Sequence[PartitionTest], predicates: Sequence[Predicate]) -> bool:
    return partition_might_match(entry.partition, tests) and (
        entry.metrics is None or metrics_might_match(entry.metrics, predicates)
    )


def _entries(table: LoadedTable, manifest: ManifestFile, *, metrics: bool) -> Iterator[Sequence[Entry]]:
    """Yield the manifest's entries in parts, out of memory or of the file, and remember them."""
    key = (table.ref.catalog, table.uuid, manifest.manifest_path)
    # Entries with statistics also serve a scan that needs none.
    known = table.caches.manifests.get((*key, True))
    if known is None and not metrics:
        known = table.caches.manifests.get((*key, False))
    if known is not None:
        yield from _in_parts(known)
        return
    entries: list[Entry] = []
    for some in _in_parts(read_entries(table.io, manifest, metrics=metrics)):
        entries += some
        yield some
    columns = len(table.metadata.schema().field_ids) if metrics else 0
    weight = len(entries) * (_ENTRY_BYTES + columns * _COLUMN_METRICS_BYTES) + _ENTRY_BYTES
    table.caches.manifests.put((*key, metrics), tuple(entries), weight)


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


def _plan_of(scan: ResolvedScan, files: tuple[FileTask, ...], totals: Totals) -> ScanPlan:
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


def too_many_files(most: float) -> Refused:
    """The refusal of a scan of more data files than ``max_tasks_per_scan``."""
    detail = f"The scan reads more than {most} data files (max_tasks_per_scan)."
    return Refused(Reason.TOO_LARGE, detail, code="too_many_tasks")


def _unsupported(why: str) -> Refused:
    return Refused(
        Reason.UNSUPPORTED, f"The table cannot be read exactly: {why}", code="unsupported_table_feature"
    )
