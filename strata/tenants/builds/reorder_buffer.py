"""The reorder buffer of a build: one stream of slices for each row group, drained in the plan's order."""

from __future__ import annotations

from contextlib import suppress

import attrs
import trio

from strata.tables import RowGroupTask
from strata.tables.read.ipc import Encoded

_SLICES_IN_MEMORY = 2
"""Slices of one row group in memory: one is read or waits to be written, one is written."""


@attrs.frozen
class BlobPosition:
    """Where a slice lies in the blob.

    Attributes:
        offset: Offset of its first byte.
        on_file: Bytes of the blob that were in the file after the write; the writer buffers the rest.
    """

    offset: int
    on_file: int


@attrs.frozen
class Slice:
    """Consecutive rows of a row group, read and encoded.

    Attributes:
        out: Record-batch messages for the blob.
        scanned: Rows read for them, deleted and filtered ones included.
        segment: Record-batch messages for the cache; None if the rows came from the cache.
        crc32: Checksum of the segment up to and including this slice; 0 where the blob serves as the pack,
            whose checksums are computed after the commit.
        written: Position in the blob if the reading quantum wrote the slice too, else None.
    """

    out: Encoded
    scanned: int
    segment: Encoded | None
    crc32: int = 0
    written: BlobPosition | None = None


class RowGroupStream:
    """A channel for the slices of one row group, in row order.

    Attributes:
        task: The row group.
        slice_bytes: Estimated bytes of a slice.
        weight: Estimated bytes the row group may have in memory.
        alone: Whether the work pool was idle when the stream was made.
        unwritten: Slices that were read and are not yet written to the blob.
    """

    def __init__(self, task: RowGroupTask, slice_bytes: int, *, alone: bool = False) -> None:
        self.task = task
        self.alone = alone
        self.unwritten = 0
        self.slice_bytes = slice_bytes
        self.weight = min(task.nbytes, _SLICES_IN_MEMORY * slice_bytes)
        channel: tuple[trio.MemorySendChannel[Slice], trio.MemoryReceiveChannel[Slice]]
        channel = trio.open_memory_channel(0)
        self.send, self.receive = channel

    async def offer(self, slice_: Slice) -> None:
        """Send a slice, waiting for the receiver; drop it if the receiver is closed: the build has failed."""
        self.unwritten += slice_.written is None
        with suppress(trio.BrokenResourceError):
            await self.send.send(slice_)

    @property
    def slice_rows(self) -> int:
        """Rows of a slice; a row group of at most 1.5 slices is read as one."""
        if 2 * self.task.nbytes <= 3 * self.slice_bytes:
            return self.task.num_rows
        return max(1, self.task.num_rows * self.slice_bytes // self.task.nbytes)
