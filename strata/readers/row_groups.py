"""Expand files and read row groups in reader processes."""

from __future__ import annotations

import errno
import weakref
from collections.abc import Sequence
from threading import Lock

import attrs

from strata.outcomes import Reason, RefusalError, Refused
from strata.readers.messages import (
    Answer,
    Expand,
    Expanded,
    Failed,
    NoMemory,
    Open,
    Part,
    Read,
    Request,
    SliceRead,
)
from strata.readers.pool import READERS, ReaderPool
from strata.readers.processes import Reader, numbers
from strata.readers.remote import RemoteFiles
from strata.readers.steps import Step, Turn
from strata.tables import FileTask, RowGroupTask, ScanPlan, is_local
from strata.tables.errors import file_name, refusable, unreadable
from strata.tables.files.confined import LocalFileIO
from strata.tables.files.prefetched import Range
from strata.tables.read.expand import tasks_of
from strata.tables.read.ipc import Encoded

LEAST_ROWS = 64
"""Rows of the smallest slice that is tried when a reader's memory does not hold larger ones."""

_SIXTEENTHS = 16

_numbers: weakref.WeakKeyDictionary[ScanPlan, int] = weakref.WeakKeyDictionary()


@attrs.frozen
class SharedSlice:
    """A slice in memory that the reader wrote.

    Attributes:
        segment: The rows before the filter.
        kept: The rows of the result, if a filter or a projection makes them others.
        scanned: Rows read for them.
        crc32: Checksum of the segments up to and including this one.
    """

    segment: Encoded
    kept: Encoded | None
    scanned: int
    crc32: int


@refusable
def expand_in_reader(
    plan: ScanPlan, file: FileTask, seconds: float, pool: ReaderPool = READERS
) -> tuple[RowGroupTask, ...]:
    """Do :func:`strata.tables.expand_file` in a reader; blocking, at most ``seconds``.

    The footer of a file that is not local is fetched before, for as long as its store takes.

    Returns its refusals, and TIMED_OUT.
    """
    remote = None
    if not is_local(plan.scan.table.io, file.path):
        remote = RemoteFiles(plan.scan.table, file)
        remote.fetch_footer()
    step, answer = step_of(plan, [file], seconds, pool, remote), None
    while answer is None:
        reader = pool.lease(alone=step.died > 0)
        try:
            with Turn(step, reader) as turn:
                if turn.taken:
                    expand = Expand(reader.plan_of(number_of(plan), plan), file, remote is not None)
                    request = Request(expand)
                    answer = told(turn, reader, plan, request)
        finally:
            pool.release(reader)
    if not isinstance(answer, Expanded):
        raise step.refusal(answer)
    tasks = row_groups_in(plan, file, answer)
    if remote is None:
        return tasks
    ranges = {one.index: _checked(one.ranges, file) for one in answer.groups}
    return tuple(attrs.evolve(task, ranges=ranges[task.index]) for task in tasks)


def _checked(ranges: list[Range], file: FileTask) -> tuple[Range, ...]:
    """Return ranges of a file that a reader named; raises RefusalError if the file has not all of them."""
    if any(not 0 <= start < end <= file.file_size for start, end in ranges):
        raise RefusalError(unreadable("data file", file.path))
    return tuple(ranges)


@refusable
def prefetch_for_reader(group: ReaderRowGroup) -> None:
    """Fetch the bytes of a row group (see :meth:`ReaderRowGroup.prefetch`); blocking.

    Returns the refusal of :meth:`ReaderRowGroup.prefetch` instead of raising it.
    """
    group.prefetch()


def row_groups_in(plan: ScanPlan, file: FileTask, found: Expanded) -> tuple[RowGroupTask, ...]:
    """Return the row groups of a file that a reader has named."""
    groups = [(one.index, one.first_row, one.rows, one.nbytes) for one in found.groups]
    return tasks_of(plan, file, groups, frozenset(found.field_ids))


class ReaderRowGroup:
    """A row group read in a reader; as :class:`strata.tables.RowGroup`, with slices that are encoded.

    Args:
        plan: The scan's plan.
        task: The row group.
        batch_rows: Most rows of a record batch.
        slice_rows: Most rows of a slice, deleted ones included.
        seconds: Seconds a step may take.
        pool: The readers.

    Attributes:
        done: Whether every row has been read.
        passed: Rows read so far, deleted ones included.
        remote: Whether the data file is not local: :meth:`prefetch` waits for its bytes then.
        threads: Whether the next slice is decoded on all cores; for a caller that has the machine to itself.
    """

    def __init__(
        self,
        plan: ScanPlan,
        task: RowGroupTask,
        *,
        batch_rows: int,
        slice_rows: int,
        seconds: float,
        pool: ReaderPool = READERS,
    ) -> None:
        self.plan, self.task = plan, task
        self.done, self.passed = False, 0
        rows = min(task.num_rows, max(1, slice_rows))
        self._batch_rows, self._slice_rows = batch_rows, rows if rows == task.num_rows else _divisible(rows)
        self.threads = False
        self.remote = not is_local(plan.scan.table.io, task.file.path)
        self._files = RemoteFiles(plan.scan.table, task.file) if self.remote else None
        self._step = step_of(plan, [task.file], seconds, pool, self._files)
        self._pool = pool
        self._number = next(numbers)
        self._reader: Reader | None = None
        self._unwanted = False
        self._reduced = False
        self._lock = Lock()

    def __repr__(self) -> str:
        path, index = self.task.file.path, self.task.index
        return f"<ReaderRowGroup {file_name(path)}#{index} {self.passed}/{self.task.num_rows} rows>"

    def prefetch(self) -> None:
        """Fetch all that :meth:`read` reads, delete files included; blocking, no reader waits meanwhile.

        Raises:
            RefusalError: As :meth:`strata.readers.remote.RemoteFiles.fetch_rows`.
        """
        if self._files is not None:
            self._files.fetch_rows(self.task.ranges)

    def read(self, crc32: int | None, many: int = 1) -> SharedSlice | None:
        """Return the next slice, or the next ``many`` as one; None after a part of a delete file; blocking.

        Args:
            crc32: Checksum of the segments before; None if none is wanted.
            many: Slices to read, if the reader's memory holds them.

        Raises:
            RefusalError: As :meth:`strata.tables.RowGroup.read`; DATA_UNREADABLE also if readers die at the
                file, TIMED_OUT if a reader does not answer.
        """
        while not self._unwanted:
            reader = self._reader
            if reader is None or not reader.alive:
                self._leave()
                reader = self._reader = self._pool.lease(alone=self._step.died > 0)
            with Turn(self._step, reader) as turn:
                answer, together = None, 1 if self._reduced else many
                if turn.taken:
                    answer = told(turn, reader, self.plan, self._request(reader, turn, crc32, together))
                if answer is None:
                    self._leave()
                    continue
                if isinstance(answer, NoMemory) and (together > 1 or self._reduce()):
                    self._reduced = True
                    self._leave()
                    continue
                if not isinstance(answer, SliceRead):
                    self._leave()
                    raise self._step.refusal(answer)
                reader.opened.add(self._number)
                found = self._taken(answer, reader, turn)
                break
        else:
            return None
        if self._unwanted:  # it was closed meanwhile, perhaps before it had this reader
            reader.close_group(self._number)
            self._leave()
        return found

    def _reduce(self) -> bool:
        """Read smaller slices from now on; returns False if there can be none.

        A slice must end where the last one did: another reader passes over the rows that were read.
        """
        if self._slice_rows < 4 * LEAST_ROWS or (self.passed and self._slice_rows % 4):
            return False
        rows = self._slice_rows // 4
        self._slice_rows = rows if self.passed else _divisible(rows)
        return True

    def _request(self, reader: Reader, turn: Turn, crc32: int | None, many: int) -> Request:
        opening = None
        if self._number not in reader.opened:
            plan = reader.plan_of(number_of(self.plan), self.plan)
            rows = self._slice_rows
            opening = Open(plan, self.task, self._batch_rows, rows, self.passed)
        return Request(Read(self._number, opening, crc32, turn.take_slot(), many, self.threads))

    def _taken(self, answer: SliceRead, reader: Reader, turn: Turn) -> SharedSlice | None:
        scanned = answer.passed - self.passed
        rows = self.task.num_rows
        if scanned < 0 or answer.passed > rows or answer.done != (answer.passed == rows):
            self._leave()
            raise RefusalError(unreadable("data file", self.task.file.path))
        self.passed, self.done = answer.passed, answer.done
        if self.done:
            reader.opened.discard(self._number)
        parts = [part for part in (answer.segment, answer.kept) if part is not None]
        encoded = buffers_of(turn, reader, parts)
        if self.done:
            self._leave()
        if answer.segment is None:
            return None
        return SharedSlice(encoded[0], encoded[1] if len(encoded) > 1 else None, scanned, answer.crc32)

    def close(self) -> None:
        """Have the reader close it, or have the thread that is reading it do so; never blocks."""
        self._unwanted = True
        self._leave()

    def _leave(self) -> None:
        with self._lock:
            reader, self._reader = self._reader, None
        if reader is not None:
            reader.close_group(self._number)
            self._pool.release(reader)


def step_of(
    plan: ScanPlan,
    files: Sequence[FileTask],
    seconds: float,
    pool: ReaderPool,
    remote: RemoteFiles | None = None,
) -> Step:
    """Return the steps of a data file, which open local files, or what was fetched of remote ones.

    Several files are those of a run, all of them local.
    """
    io, file = plan.scan.table.io, files[0]
    too_late = late(seconds)
    allowed = {path for one in files for path in (one.path, *(delete.path for delete in one.deletes))}

    def opened(location: str) -> tuple[int, None]:
        if location not in allowed or not isinstance(io, LocalFileIO):
            raise PermissionError(errno.EPERM, "no file of this step")
        return pool.open(io, location, seconds, too_late), None

    if remote is not None:
        opened = remote.open  # type: ignore[assignment]  # it names ranges, too
    return Step("data file", file.path, file.file_key, opened, seconds, too_late, pool)


def late(seconds: float) -> Refused:
    """Return the refusal of a step that takes longer than ``seconds``."""
    detail = f"Rows of a file were not read within {seconds:g} seconds (fetch_timeout_seconds)."
    return Refused(Reason.TIMED_OUT, detail, code="fetch_timeout")


def told(
    turn: Turn, reader: Reader, plan: ScanPlan, request: Request, descriptors: Sequence[int] = ()
) -> Answer | None:
    """Return the answer to a request about a scan, which the reader is told again if it failed."""
    answer = turn.call(request, descriptors)
    if isinstance(answer, Failed | NoMemory):
        reader.forget(number_of(plan))
    return answer


def buffers_of(turn: Turn, reader: Reader, parts: list[Part]) -> list[Encoded]:
    """Return the rows at places of the turn's slot, or of the memory that came with the answer."""
    memory = turn.memory
    if memory is not None:
        found = [memory.slice(part.offset, part.nbytes) for part in parts]  # type: ignore[attr-defined]
    elif any(part.nbytes for part in parts) and (slot := turn.keep_slot()) is not None:
        found = reader.slots.buffers(slot, [(part.offset, part.nbytes) for part in parts])
    else:
        found = [b"" for _ in parts]
    return [
        Encoded((buffer,), part.nbytes, part.rows) if part.nbytes else Encoded((), 0, part.rows)
        for part, buffer in zip(parts, found, strict=True)
    ]


def _divisible(rows: int) -> int:
    """Return a number of rows, at most ``rows``, that can be divided by four twice."""
    return rows if rows < 4 * LEAST_ROWS else rows - rows % _SIXTEENTHS


def number_of(plan: ScanPlan) -> int:
    """Return the number of a plan, the same while it lives."""
    known = _numbers.get(plan)
    if known is None:
        known = _numbers[plan] = next(numbers)
    return known
