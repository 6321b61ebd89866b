"""Plans, made in steps of a few milliseconds.

A table may have a hundred thousand files, and to look at them takes seconds of Python, which hold up whoever
waits for a core or for the interpreter: so others have their turn between the steps of a plan.
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
from strata.tables.plan.partitions import (
    PartitionTest,
    manifest_might_match,
    partition_might_match,
    partition_tests,
)
from strata.tables.plan.prune import metrics_might_match
from strata.tables.scan.predicates import Predicate
from strata.tables.scan.resolve import ResolvedScan, mapping_digest

T = TypeVar("T")

STEP_FILES = 128
"""Files of a table that a step looks at: some five milliseconds, at 20 to 35 µs a file whose code is in the
processor's caches, and twice as much otherwise."""

MANIFEST_FILES = 2
"""What opening a manifest takes, in files that could be looked at meanwhile: 50 to 70 µs, likewise."""

CHECKS = 50
"""Deletes that can be held against a data file while another file is looked at."""

# Measured sizes of a kept entry, and of one column's statistics in it.
_ENTRY_BYTES = 1024
_COLUMN_METRICS_BYTES = 400


@attrs.frozen(eq=False)
class Step:
    """A step of a planning.

    Attributes:
        files: Files it looked at, or what else it did in as many.
        plan: The plan, once there is nothing left to look at.
        refused: Why there will be none: DATA_UNREADABLE if a manifest cannot be read, UNSUPPORTED, naming it,
            if a file has a format that is not read, TOO_LARGE if there are more data files than there may be.
        busy: Another thread is at it: nothing was done.
    """

    files: int = 0
    plan: ScanPlan | None = None
    refused: Refused | None = None
    busy: bool = False


class Planning:
    """A plan that is being made; threads may take its steps in turn.

    Args:
        scan: Whose.
        most: Data files that it may have.
    """

    def __init__(self, scan: ResolvedScan, most: int | None = None) -> None:
        self._scan = scan
        self._most = most
        self._plan: ScanPlan | None = None
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._pace = _Pace()
        self._steps = _planned(self._scan, self._pace, self._most)

    def step(self) -> Step:
        """Look at some more files; blocking (reads manifests, no data file). Never waits for another thread.

        After a refusal, or any other error, the next step is the first one again.
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
        files = self._pace.take()
        if refused is not None:
            self._begin()
        return Step(files, self._plan, refused)


def plan_step(planning: Planning) -> Step:
    """Take a step of a planning; blocking (see :meth:`Planning.step`)."""
    return planning.step()


def plan_files(scan: ResolvedScan) -> ScanPlan | Refused:
    """Plan the scan in one go; blocking for as long as its manifests take."""
    planning = Planning(scan)
    while True:
        step = planning.step()
        found = step.plan or step.refused
        if found is not None:
            return found


@attrs.define
class _Pace:
    """What was done since the last step ended.

    Attributes:
        files: Files looked at.
        far: Whether that took a round trip.
    """

    files: int = 0
    far: bool = False

    @property
    def full(self) -> bool:
        """Whether it makes a step."""
        return self.far or self.files >= STEP_FILES

    def opened(self, table: LoadedTable, path: str) -> None:
        """A manifest was opened that was not remembered."""
        self.files += MANIFEST_FILES
        self.far = self.far or not is_local(table.io, path)

    def take(self) -> int:
        files, self.files, self.far = self.files, 0, False
        return files


_Steps = Generator[None, None, T]
"""Yields between the steps of a planning, and returns what they found."""


def _planned(scan: ResolvedScan, pace: _Pace, most: int | None) -> _Steps[ScanPlan]:
    if scan.snapshot_id is None:
        return plan_of(scan, (), Totals.of(()))
    table = scan.table
    snapshot = table.metadata.snapshot_by_id(scan.snapshot_id)
    assert snapshot is not None
    specs = table.metadata.specs()
    manifests: list[ManifestFile] = []
    pace.opened(table, snapshot.manifest_list)
    for some in _in_parts(read_manifests(table.io, snapshot.manifest_list)):
        manifests += some
        pace.files += len(some)
        if pace.full:
            yield
    data = yield from _data(scan, _data_manifests(scan, manifests, specs), pace, most)
    index = yield from _deletes(table, _delete_manifests(manifests, data), specs, pace)
    salt = f"{table.uuid}{mapping_digest(table.metadata)}"
    files: list[FileTask] = []
    for entry in data:
        files.append(file_task(entry, index, specs, salt))
        pace.files += 1 + index.take_checked() // CHECKS
        if pace.full:
            yield
    return plan_of(scan, tuple(files), Totals.of(files))


def _data(
    scan: ResolvedScan,
    manifests: Iterable[tuple[ManifestFile, Sequence[PartitionTest]]],
    pace: _Pace,
    most: int | None,
) -> _Steps[list[Entry]]:
    """Return the entries of the data files that may have rows of the scan."""
    found: list[Entry] = []
    predicates = scan.predicates
    for manifest, tests in manifests:
        for some in _entries(scan.table, manifest, pace, metrics=bool(predicates)):
            found += (entry for entry in some if _might_match(entry, tests, predicates))
            if most is not None and len(found) > most:
                raise RefusalError(too_many_files(most))
            if pace.full:
                yield
    return found


def _deletes(
    table: LoadedTable, manifests: Iterable[ManifestFile], specs: Mapping[int, PartitionSpec], pace: _Pace
) -> _Steps[DeleteIndex]:
    index = DeleteIndex(specs)
    for manifest in manifests:
        for some in _entries(table, manifest, pace, metrics=True):
            index.add(some)
            if pace.full:
                yield
    return index


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


def _matches_nothing(predicate: Predicate) -> bool:
    return predicate.op == "in" and not predicate.literals


def _might_match(entry: Entry, tests: Sequence[PartitionTest], predicates: Sequence[Predicate]) -> bool:
    return partition_might_match(entry.partition, tests) and (
        entry.metrics is None or metrics_might_match(entry.metrics, predicates)
    )


def _entries(
    table: LoadedTable, manifest: ManifestFile, pace: _Pace, *, metrics: bool
) -> Iterator[Sequence[Entry]]:
    """Yield the manifest's live entries in parts, out of memory or of the file, and remember them.

    One that was read ends with an empty part: opening it was work, too.
    """
    key = (table.ref.catalog, table.uuid, manifest.manifest_path)
    # Entries with statistics also serve a scan that needs none.
    known = table.caches.manifests.get((*key, True))
    if known is None and not metrics:
        known = table.caches.manifests.get((*key, False))
    if known is not None:
        for some in _in_parts(known):
            pace.files += len(some)
            yield some
        return
    pace.opened(table, manifest.manifest_path)
    columns = len(table.metadata.schema().field_ids) if metrics else 0
    weight, each = _ENTRY_BYTES, _ENTRY_BYTES + columns * _COLUMN_METRICS_BYTES
    kept: list[Entry] = []
    for read in _in_parts(read_entries(table.io, manifest, metrics=metrics)):
        live = [entry for entry in read if entry is not None]
        pace.files += len(read)
        weight += len(live) * each
        if weight <= MANIFEST_BYTES:
            kept += live
        else:
            kept.clear()  # more than is remembered of all manifests
        yield live
    if weight <= MANIFEST_BYTES:
        table.caches.manifests.put((*key, metrics), tuple(kept), weight)
    yield ()
