"""Turn a plan into the bytes of a result: read slices of row groups in parallel, write them in order.

The first slice is in the blob, and readable there, before the last one is read. What was decoded is also
kept as cache segments. Where the scan's rows are the segments' rows (no filter), the blob *is* the pack of
its segments, and each byte is written once.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeAlias, TypeVar, cast

import attrs
import trio

from strata.artifacts import BlobWriter
from strata.cache import CacheShard, PackedSegment, SegmentKey, extend
from strata.outcomes import Reason, RefusalError, Refused
from strata.readers import (
    READERS,
    ReaderRowGroup,
    SharedSlice,
    expand_in_reader,
    expand_run,
    prefetch_for_reader,
    read_run,
)
from strata.tables import (
    FileTask,
    RowGroup,
    RowGroupTask,
    ScanPlan,
    apply_residual,
    expand_file,
    is_local,
    leaves_of,
    prefetch,
    read_slice,
)
from strata.tables.read.ipc import EOS, NOTHING, Encoded, crc32_of, decoded, encode, schema_message
from strata.tables.read.visible_batches import VisibleBatches
from strata.tenants.builds.cache_reader import CacheReader
from strata.tenants.builds.exception_groups import UnwrappedRefusals
from strata.tenants.builds.output import HOT_GROUP_BYTES, Output, joined
from strata.tenants.builds.reorder_buffer import (
    RUN_GROUPS,
    BlobPosition,
    RowGroupStream,
    Slice,
    charged_bytes,
    charged_run,
    runs_of,
)
from strata.tenants.builds.state import Build
from strata.tenants.builds.work import BuildWork
from strata.tenants.limits.model import TenantLimits
from strata.tenants.retention.storage import BuildRoom
from strata.tenants.shared.resources import SMALL_COST
from strata.work.waiting_threads import WaitingThreads

T = TypeVar("T")

OpenBlob: TypeAlias = "Callable[[bytes, Callable[[], object]], Awaitable[BlobWriter]]"

IN_FLIGHT_BYTES = 12 * 1024 * 1024
"""Estimated bytes of row groups in flight in one build, whatever its parallelism. At the bound the next row
group waits for an earlier one to be written; a single larger one is read alone."""

SLICE_BYTES = 4 * 1024 * 1024
"""Estimated bytes of a slice of a row group, the quantum of a scan: a few milliseconds of one core."""

FIRST_SLICE_BYTES = 512 * 1024
"""Estimated bytes of the first slice of a scan, which the reader of the result waits for."""

COLUMN_BYTES = 8 * 1024
"""Estimated bytes of a slice for each of its columns, if there are many: a column costs some microseconds a
slice, as much as decoding a few hundred values does."""

MOST_SLICE_BYTES = 7 * 1024 * 1024
"""Estimated bytes of the largest slice, however many columns there are: it fits a reader's slot."""

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
        disk: Threads for waits for the disk.
        started: Called when the first rows are written.
        room: The room for the result; None: there is always some.
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
    disk: WaitingThreads
    started: Callable[[], None]
    room: BuildRoom | None = None
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
        scan = self.plan.scan
        limit, visible = scan.spec.limit, None
        if scan.restricted or limit is not None:
            visible = VisibleBatches(scan.arrow_schema, self.limits.batch_rows, limit)
        most = self.limits.max_response_bytes
        return Output(self.plan, self.shard, self.work.tenant, most, visible, room=self.room)

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
                    if self.output.full:  # what follows is not read
                        nursery.cancel_scope.cancel()
        finally:
            await self.output.quiesce(self.disk)  # an abandoned thread may be about to write
        self._check_rows()
        end = Encoded((EOS,), len(EOS), 0)
        self._publish(await self._write(end.nbytes, partial(self.output.write, end, last=True)))

    async def _consume(self, streams: trio.MemoryReceiveChannel[RowGroupStream], open_blob: OpenBlob) -> None:
        """Open the blob, then write the row groups in order."""
        async with streams:
            with trio.move_on_after(HEAD_START_SECONDS):
                await self._footer_read.wait()
            head = schema_message(self.plan.scan.arrow_schema)
            out = Encoded((head,), len(head), 0)
            self.output.check_limit(out.nbytes)
            wait = partial(self._decoding.wait, HEAD_START_SECONDS)
            self.output.begin(await open_blob(head, wait), out.nbytes)
            self._recorded.set()
            # Not announced: readers get the schema with the first rows, so that a build which fails on its
            # first slice is an error response and not a torn stream.
            self._publish(BlobPosition(0, 0, out), announce=False)
            async for stream in streams:
                await self._write_stream(stream)
                if self.output.full:
                    break

    async def _produce(self, streams: trio.MemorySendChannel[RowGroupStream], nursery: trio.Nursery) -> None:
        """Start a stream for each row group of each file."""
        with suppress(trio.BrokenResourceError):  # the consumer is gone: the build has failed
            await self._produce_streams(streams, nursery)
        self._footer_read.set()
        self._decoding.set()  # there may have been nothing to decode

    async def _produce_streams(
        self, streams: trio.MemorySendChannel[RowGroupStream], nursery: trio.Nursery
    ) -> None:
        # With a limit of rows, no footer is read before its rows are wanted.
        together = self._reads_together()
        done, many = 0, 1
        async with streams:
            while done < len(self.plan.files):
                files = self.plan.files[done : done + many]
                done += len(files)
                tasks = await self._expand(files)
                alone = int(not self._first_written.is_set()) if together else None
                for run in runs_of(tasks, SLICE_BYTES, alone=alone):
                    stream = self._stream_of(*run)
                    await self._wait_for_memory(stream.weight)
                    self._in_flight += stream.weight
                    await streams.send(stream)
                    nursery.start_soon(self._fetch, stream)
                    # The first slice is read alone: its reader waits for it, and reading others meanwhile
                    # would delay writing it.
                    await self._first_written.wait()
                many = min(2 * many, RUN_GROUPS) if together else 1

    def _reads_together(self) -> bool:
        io, limit = self.plan.scan.table.io, self.plan.scan.spec.limit
        return READERS.available and limit is None and all(is_local(io, one.path) for one in self.plan.files)

    def _stream_of(self, task: RowGroupTask, *more: RowGroupTask) -> RowGroupStream:
        """Return row groups' stream; the first one has a small first slice."""
        wide = min(leaves_of(self.plan.scan.read_arrow_schema) * COLUMN_BYTES, MOST_SLICE_BYTES)
        most = max(SLICE_BYTES, wide)
        if self._first_written.is_set():
            return RowGroupStream(task, most, more=more)
        return RowGroupStream(task, most, max(FIRST_SLICE_BYTES, wide))

    async def _expand(self, files: Sequence[FileTask]) -> list[RowGroupTask]:
        """Return the row groups of files, from their footers.

        Raises:
            RefusalError: If a footer cannot be read, or not within the fetch timeout.
        """
        found: list[tuple[RowGroupTask, ...]] = []
        if len(files) > 1:
            expand = partial(expand_run, self.plan, files, self.work.fetch_timeout)
            found = _unrefused(await self.work.fetch(expand, cost=len(files) * SMALL_COST))
        found += [await self._expand_one(file) for file in files[len(found) :]]
        return [task for tasks in found for task in tasks]

    async def _expand_one(self, file: FileTask) -> tuple[RowGroupTask, ...]:
        remote = not is_local(self.plan.scan.table.io, file.path)
        expand = partial(expand_file, self.plan, file)
        if READERS.available:
            expand = partial(expand_in_reader, self.plan, file, self.work.fetch_timeout)
        tasks = await self.work.fetch(expand, cost=SMALL_COST, remote=remote)
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
        """Send the slices of a stream's row groups down it, from the cache or else from their files."""
        async with stream.send:
            done = await self._fetch_run(stream) if len(stream.tasks) > 1 else 0
            for task in stream.tasks[done:]:
                await self._fetch_one(stream, task)

    async def _fetch_run(self, stream: RowGroupStream) -> int:
        """Read row groups in one step; returns how many of the stream's were: the others are read alone."""
        keys = (SegmentKey(task.file.file_key, task.index) for task in stream.tasks)
        if any(self.shard.holds(key, self.plan.segment_fields) for key in keys):
            return 0
        read = partial(self._read_run, stream, self.shard.most_of_one_scan)
        cost = sum(task.nbytes for task in stream.tasks)
        found = _unrefused(await self.work.fetch(read, cost=cost, charge=charged_run))
        if found:
            await stream.offer(*found)
        return len(found)

    def _read_run(self, stream: RowGroupStream, cache_limit: int) -> list[Slice] | Refused:
        """Read the stream's first row groups, in a worker thread; not those that must be read alone."""
        plan = self.plan
        found = read_run(
            plan,
            stream.tasks,
            batch_rows=self.limits.batch_rows,
            checksums=not plan.passthrough,
            seconds=self.work.fetch_timeout,
        )
        if isinstance(found, Refused):
            return found
        slices = [self._slice_of(task, one) for one, task in zip(found, stream.tasks, strict=False)]
        return self.output.write_all_if_next(stream, slices, cache_limit)

    async def _fetch_one(self, stream: RowGroupStream, task: RowGroupTask) -> None:
        """Send a row group's slices down its stream, from the cache or else from its file."""
        cached = self.shard.lookup(SegmentKey(task.file.file_key, task.index), self.plan.segment_fields)
        if cached is not None:
            self._decoding.set()
            reader = CacheReader(self.plan, self.shard, self.work, self.output)
            if await reader.send(stream, task, cached, SLICE_BYTES):
                return
            damaged = partial(self.shard.remove_files, self.shard.forget(cached))
            await self.work.run(damaged, abandon=False)
        await self._fetch_from_file(stream, task)

    async def _fetch_from_file(self, stream: RowGroupStream, task: RowGroupTask) -> None:
        group = self._opened(stream, task)
        cost, crc32 = min(task.nbytes, stream.first_bytes), 0
        try:
            if group.remote:
                # Its bytes first: a store that does not answer must hold neither the pool nor a reader.
                fetch = partial(prefetch_for_reader, group) if isinstance(group, ReaderRowGroup) else None
                fetch = fetch or partial(prefetch, cast("RowGroup", group))
                refused = await self.work.fetch(fetch, cost=SMALL_COST, remote=True)
                if refused is not None:
                    raise RefusalError(refused)
            while not group.done:
                many = stream.multiple if group.passed else 1
                # One row group is read by one reader: the other cores help where nothing else wants them.
                group.threads = not self.work.pool.running
                read = partial(self._read, stream, group, crc32, self.shard.most_of_one_scan, many)
                found = await self.work.fetch(read, cost=cost, charge=charged_bytes)
                if isinstance(found, Refused):
                    raise RefusalError(found)
                if found is None:
                    continue
                crc32 = found.crc32
                cost = min(task.nbytes, stream.slice_bytes)
                await stream.offer(found)
                del found  # its memory is the receiver's to free
        finally:
            self._decoding.set()
            group.close()

    def _opened(self, stream: RowGroupStream, task: RowGroupTask) -> RowGroup | ReaderRowGroup:
        """Return the row group, read in a reader process where there are any."""
        rows, batch_rows = stream.slice_rows(task), self.limits.batch_rows
        if READERS.available:
            return ReaderRowGroup(
                self.plan,
                task,
                batch_rows=batch_rows,
                slice_rows=rows,
                seconds=self.work.fetch_timeout,
            )
        return RowGroup(
            self.plan,
            task,
            batch_rows=batch_rows,
            slice_rows=rows,
            decoding=self._decoding.set,
        )

    def _read(
        self,
        stream: RowGroupStream,
        group: RowGroup | ReaderRowGroup,
        crc32: int,
        cache_limit: int,
        many: int,
    ) -> Slice | Refused | None:
        """Read the next slice of a row group, in a worker thread; a refusal if the file cannot be read.

        It is ``many`` times as large as the first. None for a part of a delete file.
        """
        if not isinstance(group, ReaderRowGroup):
            return self._read_here(stream, group, crc32, cache_limit, many)
        self._decoding.set()  # another process does it
        plan = self.plan
        try:
            found = group.read(None if plan.passthrough else crc32, many)
        except RefusalError as refusal:
            return refusal.refused
        if found is None:
            return None
        return self.output.write_if_next(stream, self._slice_of(group.task, found), cache_limit)

    def _slice_of(self, task: RowGroupTask, found: SharedSlice) -> Slice:
        if found.kept is None:
            return Slice(task, found.segment, found.scanned, found.segment)
        if self.output.cuts_batches:
            visible = tuple(decoded(found.kept, self.plan.scan.arrow_schema))
            return Slice(task, NOTHING, found.scanned, found.segment, found.crc32, visible=visible)
        return Slice(task, found.kept, found.scanned, found.segment, found.crc32)

    def _read_here(
        self, stream: RowGroupStream, group: RowGroup, crc32: int, cache_limit: int, many: int
    ) -> Slice | Refused | None:
        """Do :meth:`_read` in this process, where there are no readers."""
        plan, before = self.plan, group.passed
        batches = read_slice(group, many)
        if isinstance(batches, Refused):
            return batches
        if group.passed == before:
            return None
        segment, scanned = encode(batches), group.passed - before
        if plan.passthrough:
            slice_ = Slice(group.task, segment, scanned, segment)
            return self.output.write_if_next(stream, slice_, cache_limit)
        kept = apply_residual(plan, group.task, batches)
        slice_ = self.output.slice_of(group.task, kept, scanned, segment, crc32_of(segment, crc32))
        return self.output.write_if_next(stream, slice_, cache_limit)

    async def _write_stream(self, stream: RowGroupStream) -> None:
        """Write a row group's slices, unless the quantum that read them has, and publish them."""
        self.output.set_next(stream)
        async with stream.receive:
            async for slices in stream.receive:
                await self._write_slices(stream, slices)
                if self.output.full:
                    break
                del slices
        self.output.set_next(None)
        self._in_flight -= stream.weight
        self._memory_freed.set()
        self._memory_freed = trio.Event()

    async def _write_slices(self, stream: RowGroupStream, slices: Sequence[Slice]) -> None:
        """Write consecutive slices that the quantum that read them has not written; publish them together.

        Each write and each publication costs half a millisecond of its own: small slices come many at a time.
        """
        written = [one.written for one in slices if one.written is not None]  # the first ones, if any
        left = slices[len(written) :]
        if left:
            write = partial(self.output.write_all, left, self.shard.most_of_one_scan)
            written += await self._write(sum(one.out.nbytes for one in left), write)
            stream.unwritten -= len(left)
        # What no visible row came of is not announced, but for the schema with the first slice: the reader
        # would count the hidden ones.
        first = not self._first_written.is_set()
        out = joined(*(one.out for one in written))
        position = BlobPosition(written[0].offset, written[-1].on_file, out)
        self._publish(position, announce=first or out.nbytes > 0 or not self.plan.scan.restricted)
        for slice_, place in zip(slices, written, strict=True):
            if slice_.segment is not None and self.plan.passthrough:
                key = SegmentKey(slice_.task.file.file_key, slice_.task.index)
                size, rows = slice_.segment.nbytes, slice_.segment.rows
                extend(self.segments, PackedSegment(key, place.offset, size, 0, rows))
            self.build.rows_done += slice_.scanned
        if first and not self.output.full:
            self._first_written.set()
            self.started()

    async def _write(self, nbytes: int, write: Callable[[], T]) -> T:
        """Write messages of ``nbytes`` to the blob in a quantum of their own.

        Raises:
            RefusalError: TOO_LARGE if the result would exceed ``max_response_bytes``, UNAVAILABLE if there
                is no room for it.
            OSError: If the blob cannot be written.
        """
        output = self.output
        output.check_limit(nbytes)
        if self.room is not None:
            await self.room.make(nbytes)
        assert output.writer is not None
        while output.writer.behind(nbytes):  # waits for the disk outside the pool, which holds no core
            await self.disk.run(self.work.tenant, output.writer.catch_up, keep=True)
        # Not abandoned when cancelled: no thread may use the files when they are removed.
        return await self.work.run(write, cost=nbytes, abandon=False, urgent=True)

    def _publish(self, written: BlobPosition, *, announce: bool = True) -> None:
        """Make written bytes available to the blob's readers."""
        tail, out = self.build.tail, written.out
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
        planned, found = self.plan.exact_rows, self.rows + self.output.waiting_rows
        if planned is not None and planned != found:
            detail = f"The files hold {found} rows where the table's metadata says {planned}."
            raise RefusalError(Refused(Reason.DATA_UNREADABLE, detail, code="row_count_mismatch"))


def _unrefused(found: T | Refused) -> T:
    if isinstance(found, Refused):
        raise RefusalError(found)
    return found
