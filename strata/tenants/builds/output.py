"""Write the rows of a scan: to the growing blob, and their segments to a cache pack.

Rows are written in the order of the plan. The quantum that has read a slice also writes it if the slice is
next; otherwise a quantum of its own does so later. A hop to a thread and back costs half a millisecond of
Python code, as long as copying the rows takes, and would be needed for each row group.
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
from strata.tenants.builds.reorder_buffer import BlobPosition, RowGroupStream, Slice

SIDECAR_PART = 16
"""Divisor: 1/16 of the bytes a scan may leave in the cache is reserved for the pack's sidecar."""

HOT_GROUP_BYTES = 8 * 1024 * 1024
"""Bytes of the largest write that is kept in memory for the blob's readers; larger ones are read from the
file."""

log = structlog.get_logger(__name__)


class Output:
    """Writes a scan's rows; one thread at a time.

    Args:
        plan: The scan.
        shard: The tenant's cache.
        tenant: The tenant, for the log.
        limit: Maximum bytes of the blob.

    Attributes:
        writer: Writer of the blob; None before :meth:`begin`.
        pack: Writer of the cache pack; None unless segments differ from the blob and one was cached.
        size: Bytes of the blob so far.
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
        self._caching_stopped = False
        self._failure: OSError | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Output {self.size} of at most {self._limit} bytes>"

    @property
    def columns(self) -> Columns:
        """Columns of the scan's segments."""
        fields = self._plan.segment_fields
        return Columns(fields, segment_schema(self._plan, fields))

    def begin(self, writer: BlobWriter, size: int) -> None:
        """Set the blob to write to; ``size`` bytes are in it already."""
        self.writer, self.size = writer, size

    def set_next(self, stream: RowGroupStream | None) -> None:
        """Set the row group whose slices are written next: all rows before it are written. None: no rows."""
        self._next = stream

    def check_limit(self, nbytes: int) -> None:
        """Check that ``nbytes`` more bytes fit the limit.

        Raises:
            RefusalError: TOO_LARGE if they do not.
        """
        if self.size + nbytes > self._limit:
            raise RefusalError(too_large(self._limit))

    def write_if_next(self, stream: RowGroupStream, slice_: Slice, cache_limit: int) -> Slice:
        """Write a slice if it is next; blocking, in the thread that has read it.

        A slice that would exceed the limit, wait for the disk or fail is left to :meth:`write`, which raises.

        Args:
            stream: The slice's row group.
            slice_: The slice.
            cache_limit: Bytes the scan may leave in the cache.

        Returns:
            The slice, with its position in the blob if it was written.
        """
        with self._lock:
            writer, nbytes = self.writer, slice_.out.nbytes
            if writer is None or self._next is not stream or stream.unwritten:
                return slice_
            if self._failure is not None or self.size + nbytes > self._limit or writer.behind(nbytes):
                return slice_
            try:
                written = self.write(slice_.out, slice_, stream, cache_limit=cache_limit)
            except OSError as error:
                self._failure = error  # part of the slice may be in the file: it must not be written again
                return slice_
            return attrs.evolve(slice_, written=written)

    def write(
        self,
        out: Encoded,
        slice_: Slice | None = None,
        stream: RowGroupStream | None = None,
        *,
        cache_limit: int = 0,
        last: bool = False,
    ) -> BlobPosition:
        """Append messages to the blob, and the slice's segment to the pack; blocking.

        No other thread may write meanwhile.

        Args:
            out: The messages.
            slice_: Their slice; None for the schema and the end-of-stream marker.
            stream: The slice's row group.
            cache_limit: Bytes the scan may leave in the cache.
            last: Whether these messages end the blob.

        Raises:
            OSError: If the blob cannot be written, now or in an earlier call (disk full or broken).
        """
        if self._failure is not None:
            raise self._failure
        writer = self.writer
        assert writer is not None
        offset = writer.append(out.parts) if out.parts else self.size
        if last or out.nbytes > HOT_GROUP_BYTES:
            writer.settle()  # a full disk must be known before a reader has the last byte
        self.size = offset + out.nbytes
        if slice_ is not None and stream is not None and not self._plan.passthrough:
            self._cache(stream, slice_, cache_limit)
        return BlobPosition(offset, writer.on_file)

    async def quiesce(self) -> None:
        """Let no write begin and wait, shielded, for one in progress, so that the files can be removed."""
        self._next = None
        if not self._lock.acquire(blocking=False):
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._lock.acquire)
        self._lock.release()

    def _cache(self, stream: RowGroupStream, slice_: Slice, cache_limit: int) -> None:
        """Append a segment to the pack; at ``cache_limit`` or a failed write caching ends, not the build."""
        segment = slice_.segment
        if segment is None or self._caching_stopped:
            return
        key = SegmentKey(stream.task.file.file_key, stream.task.index)
        try:
            size = 0 if self.pack is None else self.pack.size
            if size + segment.nbytes > cache_limit - cache_limit // SIDECAR_PART:
                self._caching_stopped = True
                if self.pack is not None and not self.pack.cut(key):
                    self.pack.abort()
                    self.pack = None
                return
            if self.pack is None:
                self.pack = self._shard.begin_pack(self.columns)
            self.pack.append(key, segment, slice_.crc32)
        except OSError as error:
            self._caching_stopped = True
            name = errno.errorcode.get(error.errno or 0, type(error).__name__)
            log.warning("cache could not keep segments", tenant=self._tenant, error=name)
            if self.pack is not None:
                self.pack.abort()
                self.pack = None


def too_large(limit: int) -> Refused:
    """Return the refusal of a result over ``limit`` bytes of Arrow data (``max_response_bytes``)."""
    detail = f"The result is larger than {limit} bytes of Arrow data (max_response_bytes)."
    return Refused(Reason.TOO_LARGE, detail, code="response_too_large")
