"""Plan scans in steps of a few milliseconds.

A table may have a hundred thousand files, which take seconds of Python to look at; between two steps of a
plan, other work gets the core and the interpreter.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar

import attrs
from pyiceberg.manifest import ManifestContent, ManifestFile
from pyiceberg.partitioning import PartitionSpec

from strata.outcomes import RefusalError, Refused
from strata.tables.caches import MANIFEST_BYTES
from strata.tables.catalogs.loading import LoadedTable
from strata.tables.files.footers import is_local
from strata.tables.plan.deletes import DeleteIndex
from strata.tables.plan.manifests import Entry, read_entries, read_manifests
from strata.tables.plan.model import FileTask, ScanPlan, Totals, file_task, plan_of, too_many_files
from strata.tables.plan.prune_by_partition import (
    PartitionTest,
    manifest_might_match,
    partition_might_match,
    partition_tests,
)
from strata.tables.plan.prune_by_statistics import metrics_might_match
from strata.tables.scan.predicates import Predicate
from strata.tables.scan.resolve import ResolvedScan, mapping_digest

T = TypeVar("T")

STEP_FILES = 128
"""Files per step: about 5 ms, at 20 to 35 µs a file with warm processor caches, twice that with cold ones."""

MANIFEST_FILES = 2
"""Cost of opening a manifest, in files: 50 to 70 µs with warm caches."""

CHECKS = 50
"""Checks of a delete against a data file that cost as much as looking at one file."""

# Measured bytes of a cached entry, and of one column's statistics in it.
_ENTRY_BYTES = 1024
_COLUMN_METRICS_BYTES = 400


@attrs.frozen(eq=False)
class Step:
    """Result of one planning step.

    Attributes:
        files: Work done, in files looked at (other work is converted).
        plan: The plan, when it is complete.
        refused: Why there is no plan: DATA_UNREADABLE if a manifest cannot be read; UNSUPPORTED, naming it,
            if a file has an unsupported format; TOO_LARGE if the scan has more than the allowed data files.
        busy: Another thread is taking a step; this call did nothing.
    """

    files: int = 0
    plan: ScanPlan | None = None
    refused: Refused | None = None
    busy: bool = False


class Planning:
    """A plan in the making; threads may take turns at its steps.

    Args:
        scan: The scan to plan.
        most: Maximum number of data files; more are refused. ``None``: no limit.
    """

    def __init__(self, scan: ResolvedScan, most: int | None = None) -> None:
        self._scan = scan
        self._most = most
        self._plan: ScanPlan | None = None
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._work = _StepWork()
        self._steps = _plan_in_steps(self._scan, self._work, self._most)

    def step(self) -> Step:
        """Do the next part of the plan; blocking (reads manifests, no data file), never on another thread.

        After a refusal or any other error, the next step starts the plan anew.
        """
        if not self._lock.acquire(blocking=False):
            return Step(busy=True)
        try:
            return self._step()
        except BaseException:
            self._begin()
            raise
        finally:
            self._lock.release()

    def _step(self) -> Step:
        refused = None
        if self._plan is None:
            try:
                next(self._steps)
            except StopIteration as end:
                self._plan = end.value
            except RefusalError as error:
                refused = error.refused
        files = self._work.take()
        if refused is not None:
            self._begin()
        return Step(files, self._plan, refused)


def plan_step(planning: Planning) -> Step:
    """Take one step of a planning; blocking (see :meth:`Planning.step`)."""
    return planning.step()


def plan_files(scan: ResolvedScan) -> ScanPlan | Refused:
    """Return the whole plan of a scan, or the refusal of :class:`Step`; blocking until it is complete."""
    planning = Planning(scan)
    while True:
        step = planning.step()
        found = step.plan or step.refused
        if found is not None:
            return found


@attrs.define
class _StepWork:
    """Work done since the last step ended.

    Attributes:
        files: Work, in files looked at.
        remote: Whether a file was read over the network, which ends the step.
    """

    files: int = 0
    remote: bool = False

    @property
    def full(self) -> bool:
        """Whether the work makes a full step."""
        return self.remote or self.files >= STEP_FILES

    def opened(self, table: LoadedTable, path: str) -> None:
        """Count a manifest that was opened, not taken from the cache."""
        self.files += MANIFEST_FILES
        self.remote = self.remote or not is_local(table.io, path)

    def take(self) -> int:
        files, self.files, self.remote = self.files, 0, False
        return files


_Steps = Generator[None, None, T]
"""Generator that yields between the steps of a planning and returns the result."""


def _plan_in_steps(scan: ResolvedScan, work: _StepWork, most: int | None) -> _Steps[ScanPlan]:
    if scan.snapshot_id is None:
        return plan_of(scan, (), Totals.of(()))
    table = scan.table
    snapshot = table.metadata.snapshot_by_id(scan.snapshot_id)
    assert snapshot is not None
    specs = table.metadata.specs()
    manifests: list[ManifestFile] = []
    work.opened(table, snapshot.manifest_list)
    for part in _batched(read_manifests(table.io, snapshot.manifest_list)):
        manifests += part
        work.files += len(part)
        if work.full:
            yield
    data = yield from _data_entries(scan, _data_manifests(scan, manifests, specs), work, most)
    index = yield from _delete_index(table, _delete_manifests(manifests, data), specs, work)
    salt = f"{table.uuid}{mapping_digest(table.metadata)}"
    files: list[FileTask] = []
    for entry in data:
        files.append(file_task(entry, index, specs, salt))
        work.files += 1 + index.take_checked() // CHECKS
        if work.full:
            yield
    return plan_of(scan, tuple(files), Totals.of(files))


def _data_entries(
    scan: ResolvedScan,
    manifests: Iterable[tuple[ManifestFile, Sequence[PartitionTest]]],
    work: _StepWork,
    most: int | None,
) -> _Steps[list[Entry]]:
    """Return the manifest entries of the data files that may hold rows of the scan.

    Raises:
        RefusalError: TOO_LARGE as soon as there are more than ``most``.
    """
    found: list[Entry] = []
    predicates = scan.predicates
    for manifest, tests in manifests:
        for part in _entries(scan.table, manifest, work, metrics=bool(predicates)):
            found += (entry for entry in part if _might_match(entry, tests, predicates))
            if most is not None and len(found) > most:
                raise RefusalError(too_many_files(most))
            if work.full:
                yield
    return found


def _delete_index(
    table: LoadedTable, manifests: Iterable[ManifestFile], specs: Mapping[int, PartitionSpec], work: _StepWork
) -> _Steps[DeleteIndex]:
    index = DeleteIndex(specs)
    for manifest in manifests:
        for part in _entries(table, manifest, work, metrics=True):
            index.add(part)
            if work.full:
                yield
    return index


def _batched(items: Iterable[T]) -> Iterator[list[T]]:
    left = iter(items)
    while part := list(islice(left, STEP_FILES)):
        yield part


def _data_manifests(
    scan: ResolvedScan, manifests: Iterable[ManifestFile], specs: Mapping[int, PartitionSpec]
) -> Iterator[tuple[ManifestFile, Sequence[PartitionTest]]]:
    """Yield the manifests whose data files may hold rows of the scan, with the tests of their partitions."""
    predicates = scan.predicates
    if () in scan.clauses or any(_matches_nothing(predicate) for predicate in predicates):
        return
    tests = {spec_id: partition_tests(predicates, spec) for spec_id, spec in specs.items()}
    for manifest in manifests:
        own = tests.get(manifest.partition_spec_id, ())
        if manifest.content == ManifestContent.DATA and manifest_might_match(manifest, own):
            yield manifest, own


def _delete_manifests(manifests: Iterable[ManifestFile], data: Iterable[Entry]) -> Iterator[ManifestFile]:
    """Yield the delete manifests that may apply: those not older than all data files."""
    oldest = min((entry.sequence_number for entry in data), default=math.inf)
    for manifest in manifests:
        if manifest.content == ManifestContent.DELETES and (manifest.sequence_number or 0) >= oldest:
            yield manifest


def _matches_nothing(predicate: Predicate) -> bool:
    return predicate.op == "in" and not predicate.literals


def _might_match(entry: Entry, tests: Sequence[PartitionTest], predicates: Sequence[Predicate]) -> bool:
    return partition_might_match(entry.partition, tests) and (
        entry.metrics is None or metrics_might_match(entry.metrics, predicates)
    )


def _entries(
    table: LoadedTable, manifest: ManifestFile, work: _StepWork, *, metrics: bool
) -> Iterator[Sequence[Entry]]:
    """Yield the manifest's live entries in parts, from the cache or from the file, and cache them.

    A manifest that was read ends with an empty part, so that opening it counts as work, too.
    """
    key = (table.ref.catalog, table.uuid, manifest.manifest_path)
    # Entries cached with statistics also serve a scan that needs none.
    known = table.caches.manifests.get((*key, True))
    if known is None and not metrics:
        known = table.caches.manifests.get((*key, False))
    if known is not None:
        for part in _batched(known):
            work.files += len(part)
            yield part
        return
    work.opened(table, manifest.manifest_path)
    columns = len(table.metadata.schema().field_ids) if metrics else 0
    weight, each = _ENTRY_BYTES, _ENTRY_BYTES + columns * _COLUMN_METRICS_BYTES
    kept: list[Entry] = []
    for read in _batched(read_entries(table.io, manifest, metrics=metrics)):
        live = [entry for entry in read if entry is not None]
        work.files += len(read)
        weight += len(live) * each
        if weight <= MANIFEST_BYTES:
            kept += live
        else:
            kept.clear()  # larger than the whole cache
        yield live
    if weight <= MANIFEST_BYTES:
        table.caches.manifests.put((*key, metrics), tuple(kept), weight)
    yield ()
