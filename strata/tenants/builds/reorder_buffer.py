"""The reorder buffer of a build: one stream of slices for each row group, drained in the plan's order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

import attrs
import pyarrow as pa
import trio

from strata.outcomes import Refused
from strata.tables import RowGroupTask
from strata.tables.read.ipc import Encoded

RUN_GROUPS = 32
"""Most row groups that are read in one step, and files whose footers are."""

SMALL_GROUP_BYTES = 512 * 1024
"""Estimated bytes of the largest row group that is read in one step with others: a step costs a
millisecond of its own."""

_SLICES_IN_MEMORY = 2
"""Slices of one row group in memory: one is read or waits to be written, one is written."""


@attrs.frozen
class BlobPosition:
    """Where a slice lies in the blob.

    Attributes:
        offset: Offset of its first byte.
        on_file: Bytes of the blob that were in the file after the write; the writer buffers the rest.
        out: The messages that were written.
    """

    offset: int
    on_file: int
    out: Encoded


@attrs.frozen
class Slice:
    """Consecutive rows of a row group, read and encoded.

    Attributes:
        task: The row group.
        out: Record-batch messages for the blob; none where ``visible`` has the rows.
        scanned: Rows read for them, deleted and filtered ones included.
        segment: Record-batch messages for the cache; None if the rows came from the cache.
        crc32: Checksum of the segment up to and including this slice; 0 where the blob serves as the pack,
            whose checksums are computed after the commit.
        written: Position in the blob if the reading quantum wrote the slice too, else None.
        visible: The rows of a restricted scan, which are cut into batches and encoded when they are written.
    """

    task: RowGroupTask
    out: Encoded
    scanned: int
    segment: Encoded | None
    crc32: int = 0
    written: BlobPosition | None = None
    visible: tuple[pa.RecordBatch, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes for the blob; of rows that are not encoded yet, those of their buffers."""
        return self.out.nbytes + sum(int(batch.nbytes) for batch in self.visible)


class RowGroupStream:
    """A channel for the slices of one row group, or of a run of small ones, in row order.

    Attributes:
        task: The row group, or the first of the run.
        tasks: All of them.
        slice_bytes: Estimated bytes of a slice.
        first_bytes: Estimated bytes of the first slice, of which the others are multiples.
        weight: Estimated bytes the row group may have in memory.
        unwritten: Slices that were read and are not yet written to the blob.
    """

    def __init__(
        self,
        task: RowGroupTask,
        slice_bytes: int,
        first_bytes: int | None = None,
        *,
        more: Sequence[RowGroupTask] = (),
    ) -> None:
        self.task = task
        self.tasks = (task, *more)
        self.unwritten = 0
        self.slice_bytes = slice_bytes
        self.first_bytes = first_bytes or slice_bytes
        self.weight = min(sum(one.nbytes for one in self.tasks), _SLICES_IN_MEMORY * slice_bytes)
        channel: tuple[trio.MemorySendChannel[Sequence[Slice]], trio.MemoryReceiveChannel[Sequence[Slice]]]
        channel = trio.open_memory_channel(0)
        self.send, self.receive = channel

    async def offer(self, *slices: Slice) -> None:
        """Send slices, waiting for the receiver; drop them if it is closed: the build has failed."""
        self.unwritten += sum(one.written is None for one in slices)
        with suppress(trio.BrokenResourceError):
            await self.send.send(slices)

    def slice_rows(self, task: RowGroupTask) -> int:
        """Return the rows of a row group's first slice; one of at most 1.5 slices is read as one."""
        if 2 * task.nbytes <= 3 * self.first_bytes:
            return task.num_rows
        return max(1, task.num_rows * self.first_bytes // task.nbytes)

    @property
    def multiple(self) -> int:
        """How many times as large as the first one a later slice is."""
        return max(1, self.slice_bytes // self.first_bytes)


def runs_of(
    tasks: Sequence[RowGroupTask], most_bytes: int, *, alone: int | None
) -> Iterator[list[RowGroupTask]]:
    """Split row groups into runs that are each read in one step; large ones and those with deletes are alone.

    Args:
        tasks: The row groups, in order.
        most_bytes: Estimated bytes of the largest run.
        alone: Number of first row groups that are each alone; None: all.
    """
    run: list[RowGroupTask] = []
    size = 0
    for number, task in enumerate(tasks):
        wanted = alone is not None and number >= alone
        small = wanted and task.nbytes <= SMALL_GROUP_BYTES and not task.file.deletes
        if run and (not small or size + task.nbytes > most_bytes or len(run) == RUN_GROUPS):
            yield run
            run, size = [], 0
        if small:
            run.append(task)
            size += task.nbytes
        else:
            yield [task]
    if run:
        yield run


def charged_bytes(found: Slice | Refused | None) -> int | None:
    """Return the bytes a quantum is charged for: its segment or, if larger, its output; and what it wrote.

    None for a refusal and for a part of a delete file: the estimate stands.
    """
    if found is None or isinstance(found, Refused):
        return None
    read = max(found.nbytes, 0 if found.segment is None else found.segment.nbytes)
    return read if found.written is None else read + found.written.out.nbytes


def charged_run(found: list[Slice] | Refused) -> int | None:
    """Return the bytes a quantum that read a run is charged for; None if it could not."""
    return None if isinstance(found, Refused) else sum(charged_bytes(one) or 0 for one in found) or None
