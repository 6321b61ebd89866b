"""Turn a plan into the bytes of a result: read slices of row groups in parallel, write them in order.

The first slice is in the blob, and readable there, before the last one is read. What was decoded is also
kept as cache segments. Where the scan's rows are the segments' rows (no filter), the blob *is* the pack of
its segments, and each byte is written once.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TypeAlias

import attrs
import trio

from strata.artifacts import BlobWriter
from strata.cache import CacheShard, PackedSegment, SegmentKey, extend
from strata.outcomes import Reason, RefusalError, Refused
from strata.tables import FileTask, RowGroup, RowGroupTask, ScanPlan, apply_residual, expand_file, read_slice
from strata.tables.read.ipc import EOS, Encoded, encode, schema_message
from strata.tenants.builds.cache_reader import CacheReader, encode_nonempty
from strata.tenants.builds.exception_groups import UnwrappedRefusals
from strata.tenants.builds.output import HOT_GROUP_BYTES, Output
from strata.tenants.builds.reorder_buffer import BlobPosition, RowGroupStream, Slice
from strata.tenants.builds.state import Build
from strata.tenants.builds.work import BuildWork
from strata.tenants.limits.model import TenantLimits
from strata.tenants.shared.resources import SMALL_COST

OpenBlob: TypeAlias = "Callable[[bytes, Callable[[], object]], Awaitable[BlobWriter]]"

IN_FLIGHT_BYTES = 12 * 1024 * 1024
"""Estimated bytes of row groups in flight in one build, whatever its parallelism. At the bound the next row
group waits for an earlier one to be written; a single larger one is read alone."""

SLICE_BYTES = 4 * 1024 * 1024
"""Estimated bytes of a slice of a row group, the quantum of a scan: a few milliseconds of one core."""

FIRST_SLICE_BYTES = 512 * 1024
"""Estimated bytes of the slices of the first row group, which the reader of the result waits for."""

HEAD_START_SECONDS = 0.005
"""Most seconds that opening the blob waits for the scan's first footer, and then recording the build for the
first rows being decoded. All of these run Python code, and side by side each takes twice as long; decoding
does not hold the interpreter's lock."""


@attrs.define(eq=False)
class ScanBuild:
    """Executes one scan.

    Attributes:
        plan: The scan's plan.
        build: The build, whose tail and progress are updated.
        shard: The tenant's cache.
        work: Where quanta run.
        limits: The tenant's limits when the scan began.
        disk: Limits how many builds wait for the disk in threads.
        started: Called when the first rows are written.
        output: Writes the rows.
        rows: Rows written so far.
        segments: Segments within the blob, where the blob serves as the pack.
        generation: The cache's generation when the scan began.
    """

    plan: ScanPlan
    build: Build
    shard: CacheShard
    work: BuildWork
    limits: TenantLimits
    disk: trio.CapacityLimiter
    started: Callable[[], None]
    output: Output = attrs.field(init=False)
    rows: int = 0
    segments: list[PackedSegment] = attrs.field(factory=list)
    generation: int = attrs.field(init=False)
    _in_flight: int = 0
    _footer_read: trio.Event = attrs.field(factory=trio.Event)
    _decoding: threading.Event = attrs.field(init=False, factory=threading.Event)
    _recorded: trio.Event = attrs.field(factory=trio.Event)
    _first_written: trio.Event = attrs.field(factory=trio.Event)
    _memory_freed: trio.Event = attrs.field(factory=trio.Event)

    @generation.default
    def _current_generation(self) -> int:
        return self.shard.generation

    @output.default
    def _empty_output(self) -> Output:
        return Output(self.plan, self.shard, self.work.tenant, self.limits.max_response_bytes)

    async def run(self, open_blob: OpenBlob) -> None:
        """Write the whole stream, end-of-stream marker included.

        Args:
            open_blob: Opens the blob with the given first bytes and records the build; the first row group is
                read meanwhile. In its thread it first calls the given function, which waits for that.

        Raises:
            RefusalError: If a file cannot be read (DATA_UNREADABLE, UNSUPPORTED), the result exceeds
                ``max_response_bytes`` (TOO_LARGE), a quantum exceeds ``fetch_timeout_seconds`` (TIMED_OUT) or
                the rows are not as many as planned (DATA_UNREADABLE).
            OSError: If the blob cannot be written.
        """
        streams: tuple[trio.MemorySendChannel[RowGroupStream], trio.MemoryReceiveChannel[RowGroupStream]]
        streams = trio.open_memory_channel(max(0, self.limits.fetch_parallelism - 1))
        try:
            with UnwrappedRefusals():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._produce, streams[0], nursery)
                    try:
                        await self._consume(streams[1], open_blob)
                    except BaseException:
                        # Cancelled here and not by the nursery: the nursery's frame holds the exception
                        # group, and as part of the cancellation's traceback it would close a reference cycle
                        # that keeps the whole build alive.
                        nursery.cancel_scope.cancel()
                        raise
        finally:
            await self.output.quiesce()  # an abandoned thread may be about to write
        self._check_rows()
        end = Encoded((EOS,), len(EOS), 0)
        self._publish(end, await self._write(end, last=True))

    async def _consume(self, streams: trio.MemoryReceiveChannel[RowGroupStream], open_blob: OpenBlob) -> None:
        """Open the blob, then write the row groups in order."""
        async with streams:
            with trio.move_on_after(HEAD_START_SECONDS):
                await self._footer_read.wait()
            head = schema_message(self.plan.scan.arrow_schema)
            out, written = Encoded((head,), len(head), 0), BlobPosition(0, 0)
            self.output.check_limit(out.nbytes)
            wait = partial(self._decoding.wait, HEAD_START_SECONDS)
            self.output.begin(await open_blob(head, wait), out.nbytes)
            self._recorded.set()
            # Not announced: readers get the schema with the first rows, so that a build which fails on its
            # first slice is an error response and not a torn stream.
            self._publish(out, written, announce=False)
            async for stream in streams:
                await self._write_stream(stream)

    async def _produce(self, streams: trio.MemorySendChannel[RowGroupStream], nursery: trio.Nursery) -> None:
        """Start a stream for each row group of each file."""
        with suppress(trio.BrokenResourceError):  # the consumer is gone: the build has failed
            await self._produce_streams(streams, nursery)
        self._footer_read.set()
        self._decoding.set()  # there may have been nothing to decode

    async def _produce_streams(
        self, streams: trio.MemorySendChannel[RowGroupStream], nursery: trio.Nursery
    ) -> None:
        async with streams:
            for file in self.plan.files:
                for task in await self._expand(file):
                    stream = self._stream_of(task)
                    await self._wait_for_memory(stream.weight)
                    self._in_flight += stream.weight
                    await streams.send(stream)
                    nursery.start_soon(self._fetch, stream)
                    # The first slice is read alone: its reader waits for it, and reading others meanwhile
                    # would delay writing it.
                    await self._first_written.wait()

    def _stream_of(self, task: RowGroupTask) -> RowGroupStream:
        """Return a row group's stream; the first one decodes on all cores if the work pool is idle."""
        if self._first_written.is_set():
            return RowGroupStream(task, SLICE_BYTES)
        return RowGroupStream(task, FIRST_SLICE_BYTES, alone=not self.work.pool.running)

    async def _expand(self, file: FileTask) -> tuple[RowGroupTask, ...]:
        """Return a file's row groups, from its footer.

        Raises:
            RefusalError: If the footer cannot be read, or not within the fetch timeout.
        """
        tasks = await self.work.fetch(lambda: expand_file(self.plan, file), cost=SMALL_COST)
        self._footer_read.set()
        if isinstance(tasks, Refused):
            self._decoding.set()
            await self._recorded.wait()  # so that the failed build has a record
            raise RefusalError(tasks)
        return tasks

    async def _wait_for_memory(self, nbytes: int) -> None:
        while self._in_flight and self._in_flight + nbytes > IN_FLIGHT_BYTES:
            await self._memory_freed.wait()

    async def _fetch(self, stream: RowGroupStream) -> None:
        """Send the row group's slices down its stream, from the cache or else from its file."""
        task, fields = stream.task, self.plan.segment_fields
        async with stream.send:
            cached = self.shard.lookup(SegmentKey(task.file.file_key, task.index), fields)
            if cached is not None:
                self._decoding.set()
                reader = CacheReader(self.plan, self.shard, self.work, self.output)
                if await reader.send(stream, cached, SLICE_BYTES):
                    return
                damaged = partial(self.shard.remove_files, self.shard.forget(cached))
                await self.work.run(damaged, abandon=False)
            await self._fetch_from_file(stream)

    async def _fetch_from_file(self, stream: RowGroupStream) -> None:
        group = RowGroup(
            self.plan,
            stream.task,
            batch_rows=self.limits.batch_rows,
            slice_rows=stream.slice_rows,
            threads=stream.alone,
            decoding=self._decoding.set,
        )
        cost, crc32 = min(stream.task.nbytes, stream.slice_bytes), 0
        try:
            while not group.done:
                read = partial(self._read, stream, group, crc32, self.shard.most_of_one_scan)
                found = await self.work.fetch(read, cost=cost, charge=_charged_bytes)
                if isinstance(found, Refused):
                    raise RefusalError(found)
                crc32 = found.crc32
                await stream.offer(found)
                del found  # its memory is the receiver's to free
        finally:
            self._decoding.set()
            group.close()

    def _read(self, stream: RowGroupStream, group: RowGroup, crc32: int, cache_limit: int) -> Slice | Refused:
        """Read the next slice of a row group, in a worker thread; a refusal if the file cannot be read."""
        plan, before = self.plan, group.passed
        batches = read_slice(group)
        if isinstance(batches, Refused):
            return batches
        segment, scanned = encode(batches), group.passed - before
        if plan.passthrough:
            return self.output.write_if_next(stream, Slice(segment, scanned, segment), cache_limit)
        out = encode_nonempty(apply_residual(plan, group.task, batches))
        slice_ = Slice(out, scanned, segment, _crc32(segment, crc32))
        return self.output.write_if_next(stream, slice_, cache_limit)

    async def _write_stream(self, stream: RowGroupStream) -> None:
        """Write a row group's slices, unless the quantum that read them has, and publish them."""
        self.output.set_next(stream)
        async with stream.receive:
            async for slice_ in stream.receive:
                written = slice_.written
                if written is None:
                    written = await self._write(slice_.out, slice_, stream)
                    stream.unwritten -= 1
                self._publish(slice_.out, written)
                if slice_.segment is not None and self.plan.passthrough:
                    key = SegmentKey(stream.task.file.file_key, stream.task.index)
                    size, rows = slice_.segment.nbytes, slice_.segment.rows
                    extend(self.segments, PackedSegment(key, written.offset, size, 0, rows))
                self.build.rows_done += slice_.scanned
                if not self._first_written.is_set():
                    self._first_written.set()
                    self.started()
                del slice_
        self.output.set_next(None)
        self._in_flight -= stream.weight
        self._memory_freed.set()
        self._memory_freed = trio.Event()

    async def _write(
        self,
        out: Encoded,
        slice_: Slice | None = None,
        stream: RowGroupStream | None = None,
        *,
        last: bool = False,
    ) -> BlobPosition:
        """Write messages to the blob in a quantum of their own.

        Raises:
            RefusalError: TOO_LARGE if the result would exceed ``max_response_bytes``.
            OSError: If the blob cannot be written.
        """
        output = self.output
        output.check_limit(out.nbytes)
        assert output.writer is not None
        while output.writer.behind(out.nbytes):  # waits for the disk outside the pool, which holds no core
            await trio.to_thread.run_sync(output.writer.catch_up, limiter=self.disk)
        limit = self.shard.most_of_one_scan
        write = partial(output.write, out, slice_, stream, cache_limit=limit, last=last)
        # Not abandoned when cancelled: no thread may use the files when they are removed.
        return await self.work.run(write, cost=out.nbytes, abandon=False, urgent=True)

    def _publish(self, out: Encoded, written: BlobPosition, *, announce: bool = True) -> None:
        """Make written bytes available to the blob's readers."""
        tail = self.build.tail
        assert tail is not None
        self.rows += out.rows
        if out.nbytes <= HOT_GROUP_BYTES:
            tail.keep(written.offset, out.parts, written.on_file)
        else:
            tail.cool()
        if announce:
            tail.advance(written.offset + out.nbytes)

    def _check_rows(self) -> None:
        """Check the row count, before the end-of-stream marker makes the result complete.

        Raises:
            RefusalError: DATA_UNREADABLE if it is known from the plan and differs.
        """
        planned = self.plan.exact_rows
        if planned is not None and planned != self.rows:
            detail = f"The files hold {self.rows} rows where the table's metadata says {planned}."
            raise RefusalError(Refused(Reason.DATA_UNREADABLE, detail, code="row_count_mismatch"))


def _charged_bytes(found: Slice | Refused) -> int | None:
    """Return the bytes a quantum is charged for: its segment or, if larger, its output; and what it wrote.

    None for a refusal: the estimate stands.
    """
    if isinstance(found, Refused):
        return None
    read = max(found.out.nbytes, 0 if found.segment is None else found.segment.nbytes)
    return read if found.written is None else read + found.out.nbytes


def _crc32(encoded: Encoded, checksum: int) -> int:
    """Return the CRC-32 continued from ``checksum`` over the messages."""
    for part in encoded.parts:
        checksum = zlib.crc32(part, checksum)
    return checksum
