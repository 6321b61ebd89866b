"""Plan scans in steps of a few milliseconds.

A table may have a hundred thousand files, which take seconds of Python to look at; between two steps of a
plan, other work gets the core and the interpreter.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import attrs
from pyiceberg.manifest import ManifestContent, ManifestFile
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionSpec

from strata.outcomes import RefusalError, Refused
from strata.tables.catalogs.loading import LoadedTable
from strata.tables.files.footers import is_local
from strata.tables.plan.deletes import DeleteIndex
from strata.tables.plan.manifest_source import HERE, PART, ManifestSource, batched
from strata.tables.plan.manifests import Entry
from strata.tables.plan.model import FileTask, ScanPlan, Totals, file_task, plan_of, too_many_files
from strata.tables.plan.prune import FileTests
from strata.tables.plan.prune_by_partition import manifest_might_match
from strata.tables.scan.cell_grants import CALLER
from strata.tables.scan.predicates import Predicate
from strata.tables.scan.resolve import ResolvedScan, mapping_digest

T = TypeVar("T")

STEP_FILES = PART
"""Files per step: about 5 ms, at 20 to 35 µs a file with warm processor caches, twice that with cold ones."""

TOGETHER_BYTES = 1 << 20
"""Bytes of the manifests in one request; a larger manifest has a request of its own."""

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
        source: Parses the manifests; default: in this process.
    """

    def __init__(self, scan: ResolvedScan, most: int | None = None, source: ManifestSource = HERE) -> None:
        self._scan = scan
        self._most = most
        self._source = source
        self._plan: ScanPlan | None = None
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._work = _StepWork()
        self._steps = _plan_in_steps(self._scan, self._source, self._work, self._most)

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


def _plan_in_steps(
    scan: ResolvedScan, source: ManifestSource, work: _StepWork, most: int | None
) -> _Steps[ScanPlan]:
    if scan.snapshot_id is None:
        return plan_of(scan, (), Totals.of(()))
    table = scan.table
    snapshot = table.metadata.snapshot_by_id(scan.snapshot_id)
    assert snapshot is not None
    specs = table.metadata.specs()
    manifests: list[ManifestFile] = []
    inline = table.inline_manifests.get(scan.snapshot_id)
    if inline is None:
        work.opened(table, snapshot.manifest_list)
        listed = source.manifests(table, snapshot.manifest_list)
    else:
        listed = source.first_manifests(table, inline)
    for part in listed:
        manifests += part
        work.files += len(part)
        if work.full:
            yield
    tests = {spec_id: FileTests.of(scan, spec) for spec_id, spec in specs.items()}
    reading = _Entries(table, source, work)
    wanted = _data_manifests(scan, manifests, tests)
    if scan.enough_rows is None:
        data = yield from _data_entries(reading, scan, wanted, tests, most)
        index = yield from _delete_index(reading, _delete_manifests(manifests, data), specs)
    else:  # the deletes first, which tell whose rows count
        index = yield from _delete_index(reading, _delete_manifests(manifests), specs)
        data = yield from _first_entries(reading, scan, wanted, index, most)
    caller = table.ref.caller
    # What one caller's credentials have read is not another one's: segments of the cache are its own, too.
    salt = f"{table.uuid}{mapping_digest(table.metadata)}{'' if caller is None else CALLER + caller.digest}"
    files: list[FileTask] = []
    for entry in data:
        task = file_task(entry, index, specs, salt)
        hidden = scan.row_limited and not _tests_of(scan, tests, entry.spec_id).proves_visible(entry)
        files.append(attrs.evolve(task, has_hidden_rows=True) if hidden else task)
        work.files += 1 + index.take_checked() // CHECKS
        if work.full:
            yield
    return plan_of(scan, tuple(files), Totals.of(files))


def _data_entries(
    reading: _Entries,
    scan: ResolvedScan,
    manifests: Iterable[ManifestFile],
    tests: Mapping[int, FileTests],
    most: int | None,
) -> _Steps[list[Entry]]:
    """Return the manifest entries of the data files that the scan reads.

    Raises:
        RefusalError: TOO_LARGE as soon as there are more than ``most``.
    """
    found: list[Entry] = []
    for manifest, part in reading.of(manifests, metrics=scan.filtered):
        own = _tests_of(scan, tests, manifest.partition_spec_id)
        found += (entry for entry in part if own.keeps(entry))
        if most is not None and len(found) > most:
            raise RefusalError(too_many_files(most))
        if reading.work.full:
            yield
    return found


def _first_entries(
    reading: _Entries,
    scan: ResolvedScan,
    manifests: Iterable[ManifestFile],
    index: DeleteIndex,
    most: int | None,
) -> _Steps[list[Entry]]:
    """Return the manifest entries of the first data files, which hold the rows of a scan with a limit.

    How many rows of a file with deletes are left is not known: they do not count. The manifests behind the
    last of these files are not read.

    Raises:
        RefusalError: TOO_LARGE as soon as there are more than ``most``.
    """
    assert scan.enough_rows is not None
    found: list[Entry] = []
    left = scan.enough_rows
    parts = reading.of(manifests, metrics=False, few=True) if left else iter(())
    for _, part in parts:
        for entry in part:
            found.append(entry)
            if most is not None and len(found) > most:
                raise RefusalError(too_many_files(most))
            left -= 0 if index.for_data_file(entry) else max(0, entry.record_count)
            if left <= 0:
                return found
        reading.work.files += index.take_checked() // CHECKS
        if reading.work.full:
            yield
    return found


def _delete_index(
    reading: _Entries, manifests: Iterable[ManifestFile], specs: Mapping[int, PartitionSpec]
) -> _Steps[DeleteIndex]:
    index = DeleteIndex(specs)
    for _, part in reading.of(manifests, metrics=True):
        index.add(part)
        if reading.work.full:
            yield
    return index


def _data_manifests(
    scan: ResolvedScan, manifests: Iterable[ManifestFile], tests: Mapping[int, FileTests]
) -> Iterator[ManifestFile]:
    """Yield the manifests whose data files may hold rows of the scan."""
    if () in scan.clauses or any(_matches_nothing(predicate) for predicate in scan.predicates):
        return
    for manifest in manifests:
        own = _tests_of(scan, tests, manifest.partition_spec_id)
        if manifest.content == ManifestContent.DATA and manifest_might_match(manifest, own.pruning.partition):
            yield manifest


def _tests_of(scan: ResolvedScan, tests: Mapping[int, FileTests], spec_id: int) -> FileTests:
    """Return the tests of a partition spec; of an unknown one, those of no partition field."""
    return tests.get(spec_id) or FileTests.of(scan, UNPARTITIONED_PARTITION_SPEC)


def _delete_manifests(
    manifests: Iterable[ManifestFile], data: Iterable[Entry] | None = None
) -> Iterator[ManifestFile]:
    """Yield the delete manifests that may apply: those not older than all data files; None: unknown ones."""
    oldest = -math.inf if data is None else min((one.sequence_number for one in data), default=math.inf)
    for manifest in manifests:
        if manifest.content == ManifestContent.DELETES and (manifest.sequence_number or 0) >= oldest:
            yield manifest


def _matches_nothing(predicate: Predicate) -> bool:
    return predicate.op == "in" and not predicate.literals


@attrs.frozen(eq=False)
class _Entries:
    """Reads the live entries of a table's manifests, from the cache or from their files.

    Attributes:
        table: The table.
        source: Parses the files.
        work: Counts the work.
    """

    table: LoadedTable
    source: ManifestSource
    work: _StepWork

    def of(
        self, manifests: Iterable[ManifestFile], *, metrics: bool, few: bool = False
    ) -> Iterator[tuple[ManifestFile, Sequence[Entry]]]:
        """Yield the live entries in parts, each with its manifest, in order.

        A manifest that was read ends with an empty part, so that opening it counts as work, too.

        Args:
            manifests: The manifests.
            metrics: Whether to include column statistics.
            few: Whether the first manifests may be enough, so that the first requests have few of them.
        """
        unknown: list[ManifestFile] = []
        together = 1 if few else self.source.together
        for manifest in manifests:
            known = self._known(manifest, metrics=metrics)
            if known is None:
                unknown.append(manifest)
                nbytes = sum(one.manifest_length or 0 for one in unknown)
                full = len(unknown) >= together or nbytes >= TOGETHER_BYTES
                if not full and is_local(self.table.io, manifest.manifest_path):
                    continue
            yield from self._read(unknown, metrics=metrics)
            unknown, together = [], min(2 * together, self.source.together)
            if known is not None:
                for part in batched(known):
                    self.work.files += len(part)
                    yield manifest, part
        yield from self._read(unknown, metrics=metrics)

    def _key(self, manifest: ManifestFile) -> tuple[object, ...]:
        return self.table.ref.source, self.table.uuid, manifest.manifest_path

    def _known(self, manifest: ManifestFile, *, metrics: bool) -> Sequence[Entry] | None:
        key, cache = self._key(manifest), self.table.caches.manifests
        # Entries cached with statistics also serve a scan that needs none.
        known = cache.get((*key, True))
        return cache.get((*key, False)) if known is None and not metrics else known

    def _read(
        self, manifests: Sequence[ManifestFile], *, metrics: bool
    ) -> Iterator[tuple[ManifestFile, Sequence[Entry]]]:
        """Yield the live entries of manifests that are not in the cache, and cache them."""
        parts = self.source.entries(self.table, manifests, metrics=metrics) if manifests else iter(())
        part = None
        for number, manifest in enumerate(manifests):
            self.work.opened(self.table, manifest.manifest_path)
            kept = _Kept(self.table, metrics=metrics)
            part = part or next(parts, None)
            while part is not None and part.manifest == number:
                live = [entry for entry in part.entries if entry is not None]
                self.work.files += len(part.entries)
                kept.add(live)
                yield manifest, live
                part = next(parts, None)
            kept.keep((*self._key(manifest), metrics))
            yield manifest, ()


class _Kept:
    """The entries of a manifest that is being read, for the cache.

    Args:
        table: Has the cache.
        metrics: Whether the entries have statistics.
    """

    def __init__(self, table: LoadedTable, *, metrics: bool) -> None:
        columns = len(table.metadata.schema().field_ids) if metrics else 0
        self._cache = table.caches.manifests
        self._weight, self._each = _ENTRY_BYTES, _ENTRY_BYTES + columns * _COLUMN_METRICS_BYTES
        self._entries: list[Entry] = []

    def add(self, live: Sequence[Entry]) -> None:
        self._weight += len(live) * self._each
        if self._weight <= self._cache.budget:
            self._entries += live
        else:
            self._entries.clear()  # larger than the whole cache

    def keep(self, key: tuple[object, ...]) -> None:
        if self._weight <= self._cache.budget:
            self._cache.put(key, tuple(self._entries), self._weight)
