"""Write the rows of a scan: to the growing blob, and their segments to a cache pack.

Rows are written in the order of the plan. The quantum that has read a slice also writes it if the slice is
next; otherwise a quantum of its own does so later. A hop to a thread and back costs half a millisecond of
Python code, as long as copying the rows takes, and would be needed for each row group.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

import attrs
import pyarrow as pa
import structlog
import trio

from strata.artifacts import BlobWriter
from strata.cache import CacheShard, Columns, PackWriter, SegmentKey
from strata.outcomes import Reason, RefusalError, Refused
from strata.tables import RowGroupTask, ScanPlan, segment_schema
from strata.tables.read.ipc import NOTHING, Encoded, encode
from strata.tables.read.visible_batches import VisibleBatches
from strata.tenants.builds.reorder_buffer import BlobPosition, RowGroupStream, Slice
from strata.tenants.retention.storage import BuildRoom
from strata.tenants.shared.os_errors import error_name
from strata.work.waiting_threads import WaitingThreads

SIDECAR_PART = 16
"""Divisor: 1/16 of the bytes a scan may leave in the cache is reserved for the pack's sidecar."""

HOT_GROUP_BYTES = 8 * 1024 * 1024
"""Bytes of the largest write that is kept in memory for the blob's readers; larger ones are read from the
file."""

QUIET_SECONDS = 5.0
"""Seconds a failed build waits for a write in progress; then its files are removed when the write ends."""

log = structlog.get_logger(__name__)


class Output:
    """Writes a scan's rows; one thread at a time.

    Args:
        plan: The scan.
        shard: The tenant's cache.
        tenant: The tenant, for the log.
        limit: Maximum bytes of the blob.
        visible: Cuts the rows of a restricted or limited scan into batches; None for other scans.
        room: The room for the blob; None: there is always some.

    Attributes:
        writer: Writer of the blob; None before :meth:`begin`.
        pack: Writer of the cache pack; None unless segments differ from the blob and one was cached.
        size: Bytes of the blob so far.
    """

    def __init__(
        self,
        plan: ScanPlan,
        shard: CacheShard,
        tenant: str,
        limit: int,
        visible: VisibleBatches | None = None,
        *,
        room: BuildRoom | None = None,
    ) -> None:
        self.writer: BlobWriter | None = None
        self.pack: PackWriter | None = None
        self.size = 0
        self._plan = plan
        self._shard = shard
        self._tenant = tenant
        self._limit = limit
        self._visible = visible
        self._room = room
        self._next: RowGroupStream | None = None
        self._caching_stopped = False
        self._failure: OSError | RefusalError | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Output {self.size} of at most {self._limit} bytes>"

    @property
    def columns(self) -> Columns:
        """Columns of the scan's segments."""
        fields = self._plan.segment_fields
        return Columns(fields, segment_schema(self._plan, fields))

    @property
    def full(self) -> bool:
        """Whether the scan's limit of rows is reached."""
        return self._visible is not None and self._visible.left == 0

    @property
    def cuts_batches(self) -> bool:
        """Whether rows are cut into batches anew when they are written."""
        return self._visible is not None

    @property
    def waiting_rows(self) -> int:
        """Rows that wait for a full batch, or for the end."""
        return 0 if self._visible is None else self._visible.rows

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
            writer, nbytes = self.writer, slice_.nbytes
            if writer is None or self._next is not stream or stream.unwritten:
                return slice_
            if self._failure is not None or self.size + nbytes > self._limit or writer.behind(nbytes):
                return slice_
            if self._room is not None and self._room.lacks(nbytes):
                return slice_
            try:
                written = self.write(slice_.out, slice_, cache_limit=cache_limit)
            except (OSError, RefusalError) as error:
                self._failure = error  # part of the slice may be in the file: it must not be written again
                return slice_
            return attrs.evolve(slice_, written=written)

    def write_all_if_next(
        self, stream: RowGroupStream, slices: Sequence[Slice], cache_limit: int
    ) -> list[Slice]:
        """Do :meth:`write_if_next` for consecutive slices, up to the first that cannot be written yet."""
        found: list[Slice] = []
        for slice_ in slices:
            found.append(self.write_if_next(stream, slice_, cache_limit))
            if found[-1].written is None:
                break
        return [*found, *slices[len(found) :]]

    def write(
        self,
        out: Encoded,
        slice_: Slice | None = None,
        *,
        cache_limit: int = 0,
        last: bool = False,
    ) -> BlobPosition:
        """Append messages to the blob, and the slice's segment to the pack; blocking.

        No other thread may write meanwhile.

        Args:
            out: The messages.
            slice_: Their slice; None for the schema and the end-of-stream marker.
            cache_limit: Bytes the scan may leave in the cache.
            last: Whether these messages end the blob.

        Raises:
            OSError: If the blob cannot be written, now or in an earlier call (disk full or broken).
            RefusalError: TOO_LARGE if the rows of a restricted scan exceed the limit, UNAVAILABLE if there
                is no room for them.
        """
        if self._failure is not None:
            raise self._failure
        writer = self.writer
        assert writer is not None
        if self._visible is not None and (slice_ is not None or last):
            cut = self._visible.finish() if slice_ is None else self._visible.add(slice_.visible)
            out = joined(encode(cut), out)
            self.check_limit(out.nbytes)
        if self._room is not None:
            self._room.take(out.nbytes)
        offset = writer.append(out.parts) if out.parts else self.size
        if last or out.nbytes > HOT_GROUP_BYTES:
            writer.settle()  # a full disk must be known before a reader has the last byte
        self.size = offset + out.nbytes
        if slice_ is not None and not self._plan.passthrough:
            self._cache(slice_, cache_limit)
        return BlobPosition(offset, writer.on_file, out)

    def write_all(self, slices: Sequence[Slice], cache_limit: int) -> list[BlobPosition]:
        """Do :meth:`write` for consecutive slices; returns their positions in the blob."""
        return [self.write(one.out, one, cache_limit=cache_limit) for one in slices]

    def slice_of(
        self,
        task: RowGroupTask,
        batches: Sequence[pa.RecordBatch],
        scanned: int,
        segment: Encoded | None = None,
        crc32: int = 0,
    ) -> Slice:
        """Return the slice of filtered rows; those of a restricted scan are encoded when they are written."""
        if self._visible is not None:
            return Slice(task, NOTHING, scanned, segment, crc32, visible=tuple(batches))
        return Slice(task, encode(batches), scanned, segment, crc32)

    async def quiesce(self, disk: WaitingThreads) -> None:
        """Let no write begin and wait for one in progress, at most :data:`QUIET_SECONDS`.

        After that the write hangs: :meth:`when_quiet` removes the files when it ends.

        Args:
            disk: Threads for the wait.
        """
        self._next = None
        if self._lock.acquire(blocking=False):
            self._lock.release()
            return
        with trio.CancelScope(shield=True), suppress(RefusalError):  # no thread in time: as if the write hung
            await disk.run(self._tenant, self._wait_for_write, keep=True)

    def _wait_for_write(self) -> None:
        if self._lock.acquire(timeout=QUIET_SECONDS):
            self._lock.release()

    def when_quiet(self, function: Callable[[], None]) -> None:
        """Call ``function`` when no thread writes to the files; blocking."""
        with self._lock:
            function()

    def _cache(self, slice_: Slice, cache_limit: int) -> None:
        """Append a segment to the pack; at a limit or a failed write caching ends, not the build."""
        segment = slice_.segment
        if segment is None or self._caching_stopped:
            return
        key = SegmentKey(slice_.task.file.file_key, slice_.task.index)
        try:
            size = 0 if self.pack is None else self.pack.size
            # At the limit of rows the rest of the row group is not read.
            full = self.full or (self._room is not None and self._room.disk_lacks(segment.nbytes))
            if full or size + segment.nbytes > cache_limit - cache_limit // SIDECAR_PART:
                self._caching_stopped = True
                if self.pack is not None and not self.pack.cut(key):
                    self._drop_pack()
                return
            if self.pack is None:
                self.pack = self._shard.begin_pack(self.columns)
            self.pack.append(key, segment, slice_.crc32)
        except OSError as error:
            self._caching_stopped = True
            log.warning("cache could not keep segments", tenant=self._tenant, error=error_name(error))
            self._drop_pack()

    def _drop_pack(self) -> None:
        """Remove the pack's file; one that cannot be removed is a leftover for the next opening."""
        pack, self.pack = self.pack, None
        if pack is not None:
            with suppress(OSError):
                pack.abort()


def joined(*found: Encoded) -> Encoded:
    """Return the messages of all, in order."""
    parts = tuple(part for one in found for part in one.parts)
    return Encoded(parts, sum(one.nbytes for one in found), sum(one.rows for one in found))


def too_large(limit: int) -> Refused:
    """Return the refusal of a result over ``limit`` bytes of Arrow data (``max_response_bytes``)."""
    detail = f"The result is larger than {limit} bytes of Arrow data (max_response_bytes)."
    return Refused(Reason.TOO_LARGE, detail, code="response_too_large")
