"""Row groups on their way through a build: each has a lane, down which its slices come in order."""

from __future__ import annotations

from contextlib import suppress

import attrs
import trio

from strata.tables import RowGroupTask
from strata.tables.read.ipc import Encoded

_SLICES_AT_ONCE = 2
"""Slices of one row group in memory: one being read or waiting for its turn, one being written."""


@attrs.frozen
class Written:
    """Where bytes are in the blob.

    Attributes:
        offset: Of the first one.
        on_file: How many of the blob's bytes are in its file; the others are on their way to it.
    """

    offset: int
    on_file: int


@attrs.frozen
class Piece:
    """A slice of a row group, read.

    Attributes:
        out: Messages for the blob.
        scanned: Rows it took to get them, deleted ones included.
        segment: Messages for the cache, unless the cache already had them.
        crc32: Checksum of the segment up to here, unless it is part of the blob: then it gets one when that
            is finished.
        written: Where it is in the blob, if whoever read it could write it as well.
    """

    out: Encoded
    scanned: int
    segment: Encoded | None
    crc32: int = 0
    written: Written | None = None


class RowGroupStream:
    """A row group's place in the order of the output, where its slices arrive one after the other.

    Attributes:
        task: The row group.
        slice_bytes: Estimated bytes of a slice.
        weight: Estimated bytes it may have in memory.
        alone: Nobody else had work for the cores when it was begun.
        unwritten: Slices that were read and are yet to be written.
    """

    def __init__(self, task: RowGroupTask, slice_bytes: int, *, alone: bool = False) -> None:
        self.task = task
        self.alone = alone
        self.unwritten = 0
        self.slice_bytes = slice_bytes
        self.weight = min(task.nbytes, _SLICES_AT_ONCE * slice_bytes)
        pieces: tuple[trio.MemorySendChannel[Piece], trio.MemoryReceiveChannel[Piece]]
        pieces = trio.open_memory_channel(0)
        self.send, self.receive = pieces

    async def offer(self, piece: Piece) -> None:
        """Send a slice when there is room; where nobody takes it, the build has failed by itself."""
        self.unwritten += piece.written is None
        with suppress(trio.BrokenResourceError):
            await self.send.send(piece)

    @property
    def slice_rows(self) -> int:
        """Rows of a slice; a row group that is hardly larger is one."""
        if 2 * self.task.nbytes <= 3 * self.slice_bytes:
            return self.task.num_rows
        return max(1, self.task.num_rows * self.slice_bytes // self.task.nbytes)
