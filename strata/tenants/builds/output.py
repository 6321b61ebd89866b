"""Where the rows of a scan go: the growing blob, and the pack of their segments beside it.

Rows are written in the order of the plan. Whoever has read them writes them in the same quantum if they are
next by then; otherwise they are written when they are. A hop to a thread and back costs half a millisecond
of Python code, as long as copying the rows takes, and each row group would need one more.
"""

from __future__ import annotations

import errno
import threading

import attrs
import structlog
import trio

from strata.artifacts import BlobWriter
from strata.cache import CacheShard, Columns, PackWriter, SegmentKey
from strata.outcomes import Reason, RefusalError, Refused
from strata.tables import ScanPlan, segment_schema
from strata.tables.read.ipc import Encoded
from strata.tenants.builds.reorder_buffer import Piece, RowGroupStream, Written

SIDECAR_PART = 16
"""The part of what a scan may leave in the cache that is left for the pack's sidecar: one 16th."""

HOT_GROUP_BYTES = 8 * 1024 * 1024
"""Largest row group that is handed to readers out of memory."""

log = structlog.get_logger(__name__)


class Output:
    """Writes a scan's rows; one thread at a time.

    Args:
        plan: The scan.
        shard: The tenant's cache.
        tenant: Whose it is.
        limit: Most bytes of the blob.

    Attributes:
        writer: Where the bytes go; None until there is one.
        pack: Where segments go that differ from the blob; None until there is one.
        size: Bytes written so far.
    """

    def __init__(self, plan: ScanPlan, shard: CacheShard, tenant: str, limit: int) -> None:
        self.writer: BlobWriter | None = None
        self.pack: PackWriter | None = None
        self.size = 0
        self._plan = plan
        self._shard = shard
        self._tenant = tenant
        self._limit = limit
        self._next: RowGroupStream | None = None
        self._uncached = False
        self._failure: OSError | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Output {self.size} of at most {self._limit} bytes>"

    @property
    def columns(self) -> Columns:
        """What its segments are made of."""
        fields = self._plan.segment_fields
        return Columns(fields, segment_schema(self._plan, fields))

    def begin(self, writer: BlobWriter, size: int) -> None:
        """Have the blob that rows are written to, and how many bytes it has before them."""
        self.writer, self.size = writer, size

    def let(self, lane: RowGroupStream | None) -> None:
        """Say whose rows are next: all of those before have been written."""
        self._next = lane

    def check_room(self, nbytes: int) -> None:
        """Raise unless so many bytes more are within the limit.

        Raises:
            RefusalError: If they are not.
        """
        if self.size + nbytes > self._limit:
            raise RefusalError(too_large(self._limit))

    def write_if_next(self, lane: RowGroupStream, piece: Piece, most: int) -> Piece:
        """Write the piece, if it is next, and return it with its place; in the thread that has read it.

        What would wait for the disk, or be too large, or fails is left to :meth:`write`, which says so.

        Args:
            lane: Where the piece comes from.
            piece: What was read.
            most: Bytes that the scan may leave in the cache.
        """
        with self._lock:
            writer, nbytes = self.writer, piece.out.nbytes
            if writer is None or self._next is not lane or lane.unwritten:
                return piece
            if self._failure is not None or self.size + nbytes > self._limit or writer.behind(nbytes):
                return piece
            try:
                return attrs.evolve(piece, written=self.write(piece.out, piece, lane, most=most))
            except OSError as error:
                self._failure = error  # some of it may be in the file: it is not to be written again
                return piece

    def write(
        self,
        out: Encoded,
        piece: Piece | None = None,
        lane: RowGroupStream | None = None,
        *,
        most: int = 0,
        last: bool = False,
    ) -> Written:
        """Write messages, and the piece's segment to the pack; blocking. Nobody else writes meanwhile.

        Raises:
            OSError: If the disk is full or broken.
        """
        if self._failure is not None:
            raise self._failure
        writer = self.writer
        assert writer is not None
        offset = writer.append(out.parts) if out.parts else self.size
        if last or out.nbytes > HOT_GROUP_BYTES:
            writer.settle()  # a disk that is full says so before the last reader has the last byte
        self.size = offset + out.nbytes
        if piece is not None and lane is not None and not self._plan.passthrough:
            self._keep(lane, piece, most)
        return Written(offset, writer.on_file)

    async def rest(self) -> None:
        """Wait until no thread writes, and let none begin: whoever cleans up must find the files at rest."""
        self._next = None
        if not self._lock.acquire(blocking=False):
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._lock.acquire)
        self._lock.release()

    def _keep(self, lane: RowGroupStream, piece: Piece, most: int) -> None:
        """Add a segment to the pack, up to ``most`` bytes; one that cannot be kept is no reason to fail."""
        segment = piece.segment
        if segment is None or self._uncached:
            return
        key = SegmentKey(lane.task.file.file_key, lane.task.index)
        try:
            if (0 if self.pack is None else self.pack.size) + segment.nbytes > most - most // SIDECAR_PART:
                self._uncached = True
                if self.pack is not None and not self.pack.cut(key):
                    self.pack.abort()
                    self.pack = None
                return
            if self.pack is None:
                self.pack = self._shard.begin_pack(self.columns)
            self.pack.append(key, segment, piece.crc32)
        except OSError as error:
            self._uncached = True
            name = errno.errorcode.get(error.errno or 0, type(error).__name__)
            log.warning("cache could not keep segments", tenant=self._tenant, error=name)
            if self.pack is not None:
                self.pack.abort()
                self.pack = None


def too_large(limit: int) -> Refused:
    """The refusal of a result over ``max_response_bytes``, measured on Arrow bytes."""
    detail = f"The result is larger than {limit} bytes of Arrow data (max_response_bytes)."
    return Refused(Reason.TOO_LARGE, detail, code="response_too_large")
