"""From a plan to bytes: slices of row groups read in parallel through the work pool, written in order.

The first slice is in the blob, and with it readable, before the last one is read. What was decoded is
also kept as cache segments; when the scan's rows are the segments' rows (no filter), the blob *is* the
pack of its segments and each byte is written once.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeAlias, TypeVar

import attrs
import pyarrow as pa
import trio

from strata.artifacts import BlobWriter
from strata.cache import CacheShard, Damaged, PackedSegment, Segment, SegmentKey, SegmentReader, extend
from strata.outcomes import Reason, RefusalError, Refused
from strata.tables import (
    FileTask,
    RowGroup,
    RowGroupTask,
    ScanPlan,
    apply_residual,
    expand_file,
    read_slice,
    segment_schema,
)
from strata.tables.read.ipc import EOS, Encoded, encode, schema_message
from strata.tenants.builds.exception_groups import UnwrappedRefusals
from strata.tenants.builds.output import HOT_GROUP_BYTES, Output
from strata.tenants.builds.reorder_buffer import Piece, RowGroupStream, Written
from strata.tenants.builds.state import Build
from strata.tenants.limits.model import TenantLimits
from strata.tenants.shared.resources import SMALL_COST
from strata.work import Tier, WorkPool

T = TypeVar("T")

Begin: TypeAlias = "Callable[[bytes, Callable[[], object]], Awaitable[BlobWriter]]"

IN_FLIGHT_BYTES = 12 * 1024 * 1024
"""Estimated bytes of row groups in flight in one build: bounds its memory, whatever the parallelism."""


SLICE_BYTES = 4 * 1024 * 1024
"""Estimated bytes of a slice of a row group, the quantum of a scan: a few milliseconds of one core."""

FIRST_SLICE_BYTES = 512 * 1024
"""Estimated bytes of the slices of the first row group, which the reader of the result waits for."""

HEAD_START_SECONDS = 0.005
"""How long a build waits to be noted, for its first footer and then until its first rows are being decoded.
All of that is Python code, and side by side each takes twice as long; rows are decoded without the
interpreter's lock."""

CACHED_BYTES = 8 * 1024 * 1024
"""Largest cached row group that is read in one quantum, and most bytes of one that are checked in one."""

CACHE_CHANGED = "Cached rows changed while they were read."


@attrs.define(eq=False)
class ScanBuild:
    """Carries one scan out.

    Attributes:
        plan: What to read.
        build: Who watches.
        shard: The tenant's cache.
        pool: Where blocking work runs.
        flow: Whose turn it costs: the tenant.
        principal: And who in the tenant.
        tier: In which class.
        limits: Whose limits hold.
        disk: How many may wait for the disk at a time.
        started: Called when the first rows are written.
        output: Where the rows go.
        rows: Rows written so far.
        generation: The cache's when the scan began.
        segments: Where in the blob its segments are, when the blob is made of them.
    """

    plan: ScanPlan
    build: Build
    shard: CacheShard
    pool: WorkPool
    flow: str
    principal: str
    tier: Tier
    limits: TenantLimits
    disk: trio.CapacityLimiter
    started: Callable[[], None]
    output: Output = attrs.field(init=False)
    rows: int = 0
    segments: list[PackedSegment] = attrs.field(factory=list)
    generation: int = attrs.field(init=False)
    _in_flight: int = 0
    _looked: trio.Event = attrs.field(factory=trio.Event)
    _decoding: threading.Event = attrs.field(init=False, factory=threading.Event)
    _noted: trio.Event = attrs.field(factory=trio.Event)
    _begun: trio.Event = attrs.field(factory=trio.Event)
    _room: trio.Event = attrs.field(factory=trio.Event)

    @generation.default
    def _present_generation(self) -> int:
        return self.shard.generation

    @output.default
    def _nothing_yet(self) -> Output:
        return Output(self.plan, self.shard, self.flow, self.limits.max_response_bytes)

    async def run(self, begin: Begin) -> None:
        """Write the whole stream, marker included.

        Args:
            begin: Notes the build and makes the place for its bytes, with the first ones; the first row group
                is read meanwhile. In the thread that does it, it first calls what it is given.

        Raises:
            RefusalError: If a file cannot be read, a limit is reached or the rows are not those planned.
        """
        order: tuple[trio.MemorySendChannel[RowGroupStream], trio.MemoryReceiveChannel[RowGroupStream]]
        order = trio.open_memory_channel(max(0, self.limits.fetch_parallelism - 1))
        try:
            with UnwrappedRefusals():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._produce, order[0], nursery)
                    try:
                        await self._consume(order[1], begin)
                    except BaseException:
                        # Were it the nursery itself that cancels, its frame would be one of those that lead
                        # to the cancellation, and knows the group with that in it: a cycle with all of the
                        # build.
                        nursery.cancel_scope.cancel()
                        raise
        finally:
            await self.output.rest()  # a thread that was abandoned may be about to write
        self._check_rows()
        end = Encoded((EOS,), len(EOS), 0)
        self._written(end, await self._write(end, last=True))

    async def _consume(self, order: trio.MemoryReceiveChannel[RowGroupStream], begin: Begin) -> None:
        async with order as lanes:
            with trio.move_on_after(HEAD_START_SECONDS):
                await self._looked.wait()
            head = schema_message(self.plan.scan.arrow_schema)
            out, written = Encoded((head,), len(head), 0), Written(0, 0)
            self.output.check_room(out.nbytes)
            ready = partial(self._decoding.wait, HEAD_START_SECONDS)
            self.output.begin(await begin(head, ready), out.nbytes)
            self._noted.set()
            # Not announced: a reader gets its first bytes with the first rows, so that a build which
            # fails on its first slice is still an error and not a torn stream.
            self._written(out, written, announce=False)
            async for lane in lanes:
                await self._take(lane)

    async def _produce(self, order: trio.MemorySendChannel[RowGroupStream], nursery: trio.Nursery) -> None:
        with suppress(trio.BrokenResourceError):  # nobody takes lanes any more: the build has failed
            await self._produce_lanes(order, nursery)
        self._looked.set()
        self._decoding.set()  # there may be nothing to decode

    async def _produce_lanes(
        self, order: trio.MemorySendChannel[RowGroupStream], nursery: trio.Nursery
    ) -> None:
        async with order:
            for file in self.plan.files:
                for task in await self._expand(file):
                    lane = self._lane(task)
                    await self._wait_room(lane.weight)
                    self._in_flight += lane.weight
                    await order.send(lane)
                    nursery.start_soon(self._fetch, lane)
                    # The first slice has the machine to itself: its reader waits for it, and the others
                    # would only stand in the way of writing it.
                    await self._begun.wait()

    def _lane(self, task: RowGroupTask) -> RowGroupStream:
        """Return a row group's lane. The first one's slice takes all cores, where nobody else wants any."""
        if self._begun.is_set():
            return RowGroupStream(task, SLICE_BYTES)
        return RowGroupStream(task, FIRST_SLICE_BYTES, alone=not self.pool.running)

    async def _expand(self, file: FileTask) -> tuple[RowGroupTask, ...]:
        tasks = await self._within_fetch_timeout(lambda: expand_file(self.plan, file), cost=SMALL_COST)
        self._looked.set()
        if isinstance(tasks, Refused):
            self._decoding.set()
            await self._noted.wait()  # it fails as a build that can be asked for
            raise RefusalError(tasks)
        return tasks

    async def _wait_room(self, nbytes: int) -> None:
        while self._in_flight and self._in_flight + nbytes > IN_FLIGHT_BYTES:
            await self._room.wait()

    async def _fetch(self, lane: RowGroupStream) -> None:
        """Send the row group's slices down its lane, out of the cache or of its file."""
        task, fields = lane.task, self.plan.segment_fields
        async with lane.send:
            cached = self.shard.lookup(SegmentKey(task.file.file_key, task.index), fields)
            if cached is not None:
                self._decoding.set()
                if await self._fetch_cached(lane, cached):
                    return
                damaged = partial(self.shard.remove_files, self.shard.forget(cached))
                await self._run(damaged, abandon=False)
            await self._fetch_slices(lane)

    async def _fetch_cached(self, lane: RowGroupStream, cached: Segment) -> bool:
        """Send a row group out of the cache; False, and nothing sent, if it is damaged there."""
        size = cached.packed.length
        if size <= CACHED_BYTES:
            have = partial(self._from_cache, lane, cached, self.shard.most_of_one_scan)
            piece = await self._within_fetch_timeout(have, cost=size)
            if piece is not None:
                await lane.offer(piece)
            return piece is not None
        reader = SegmentReader(cached)
        try:
            # Not abandoned when cancelled: the file must be at rest when it is closed.
            while not reader.checked:
                check, cost = partial(reader.check, CACHED_BYTES), min(size, CACHED_BYTES)
                if await self._within_fetch_timeout(check, cost=cost, abandon=False) is not None:
                    return False
            first = True
            while not reader.done:
                most = self.shard.most_of_one_scan
                have = partial(self._cached_slice, lane, cached, reader, most, first=first)
                piece = await self._within_fetch_timeout(have, cost=SLICE_BYTES, abandon=False)
                if piece is None:
                    raise RefusalError(Refused(Reason.DATA_UNREADABLE, CACHE_CHANGED, code="cache_damaged"))
                await lane.offer(piece)
                first = False
        finally:
            reader.close()
        return True

    async def _fetch_slices(self, lane: RowGroupStream) -> None:
        group = RowGroup(
            self.plan,
            lane.task,
            batch_rows=self.limits.batch_rows,
            slice_rows=lane.slice_rows,
            threads=lane.alone,
            decoding=self._decoding.set,
        )
        cost, crc32 = min(lane.task.nbytes, lane.slice_bytes), 0
        try:
            while not group.done:
                read = partial(self._read, lane, group, crc32, self.shard.most_of_one_scan)
                found = await self._within_fetch_timeout(read, cost=cost, charge=_took)
                if isinstance(found, Refused):
                    raise RefusalError(found)
                crc32 = found.crc32
                await lane.offer(found)
                del found  # it is the taker's memory from here on
        finally:
            self._decoding.set()
            group.close()

    def _read(self, lane: RowGroupStream, group: RowGroup, crc32: int, most: int) -> Piece | Refused:
        """One quantum: the next slice of a row group. Runs in a worker thread."""
        plan, before = self.plan, group.passed
        batches = read_slice(group)
        if isinstance(batches, Refused):
            return batches
        segment, scanned = encode(batches), group.passed - before
        if plan.passthrough:
            return self.output.write_if_next(lane, Piece(segment, scanned, segment), most)
        out = _encode_some(apply_residual(plan, group.task, batches))
        return self.output.write_if_next(lane, Piece(out, scanned, segment, _crc32(segment, crc32)), most)

    def _from_cache(self, lane: RowGroupStream, cached: Segment, most: int) -> Piece | None:
        """One quantum: a row group out of the cache; None if it is damaged. Runs in a worker thread."""
        plan = self.plan
        if plan.passthrough and cached.fields == plan.segment_fields:
            raw = self.shard.read_raw(cached)
            if isinstance(raw, Damaged):
                return None
            out = Encoded((raw,), len(raw), cached.rows)
        else:
            batches = self.shard.read(cached, plan.segment_fields, segment_schema(plan, plan.segment_fields))
            if isinstance(batches, Damaged):
                return None
            out = _encode_some(apply_residual(plan, lane.task, batches))
        return self.output.write_if_next(lane, Piece(out, lane.task.num_rows, None), most)

    def _cached_slice(
        self, lane: RowGroupStream, cached: Segment, reader: SegmentReader, most: int, *, first: bool
    ) -> Piece | None:
        """One quantum: a slice of a checked segment; None if it is damaged now. Runs in a worker thread."""
        plan = self.plan
        if plan.passthrough and cached.fields == plan.segment_fields:
            raw = reader.read_raw(SLICE_BYTES)
            if isinstance(raw, Damaged):
                return None
            out = Encoded((raw,), len(raw), cached.rows if first else 0)
        else:
            fields = plan.segment_fields
            batches = reader.read(SLICE_BYTES, fields, segment_schema(plan, fields))
            if isinstance(batches, Damaged):
                return None
            out = _encode_some(apply_residual(plan, lane.task, batches))
        piece = Piece(out, lane.task.num_rows if reader.done else 0, None)
        return self.output.write_if_next(lane, piece, most)

    async def _take(self, lane: RowGroupStream) -> None:
        """Write what comes down the lane, unless it was written where it was read."""
        self.output.let(lane)
        async with lane.receive:
            async for piece in lane.receive:
                written = piece.written
                if written is None:
                    written = await self._write(piece.out, piece, lane)
                    lane.unwritten -= 1
                self._written(piece.out, written)
                if piece.segment is not None and self.plan.passthrough:
                    key = SegmentKey(lane.task.file.file_key, lane.task.index)
                    size, rows = piece.segment.nbytes, piece.segment.rows
                    extend(self.segments, PackedSegment(key, written.offset, size, 0, rows))
                self.build.rows_done += piece.scanned
                if not self._begun.is_set():
                    self._begun.set()
                    self.started()
                del piece
        self.output.let(None)
        self._in_flight -= lane.weight
        self._room.set()
        self._room = trio.Event()

    async def _write(
        self,
        out: Encoded,
        piece: Piece | None = None,
        lane: RowGroupStream | None = None,
        *,
        last: bool = False,
    ) -> Written:
        output = self.output
        output.check_room(out.nbytes)
        assert output.writer is not None
        while output.writer.behind(out.nbytes):  # a disk is waited for without a turn of the pool
            await trio.to_thread.run_sync(output.writer.catch_up, limiter=self.disk)
        write = partial(output.write, out, piece, lane, most=self.shard.most_of_one_scan, last=last)
        # Not abandoned when cancelled: whoever cleans up must find the files at rest.
        return await self._run(write, cost=out.nbytes, abandon=False, urgent=True)

    def _written(self, out: Encoded, written: Written, *, announce: bool = True) -> None:
        """Let those who follow the blob have what was written."""
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
        """A stream whose rows are not those of the plan never gets its end-of-stream marker."""
        planned = self.plan.exact_rows
        if planned is not None and planned != self.rows:
            detail = f"The files hold {self.rows} rows where the table's metadata says {planned}."
            raise RefusalError(Refused(Reason.DATA_UNREADABLE, detail, code="row_count_mismatch"))

    async def _within_fetch_timeout(
        self,
        quantum: Callable[[], T],
        *,
        cost: int,
        abandon: bool = True,
        charge: Callable[[T], int | None] | None = None,
    ) -> T:
        with trio.move_on_after(self.limits.fetch_timeout):
            return await self._run(quantum, cost=cost, abandon=abandon, charge=charge)
        seconds = f"{self.limits.fetch_timeout:g} seconds"
        detail = f"Rows of a file were not read within {seconds} (fetch_timeout_seconds)."
        raise RefusalError(Refused(Reason.TIMED_OUT, detail, code="fetch_timeout"))

    async def _run(
        self,
        quantum: Callable[[], T],
        *,
        cost: int = SMALL_COST,
        abandon: bool = True,
        urgent: bool = False,
        charge: Callable[[T], int | None] | None = None,
    ) -> T:
        return await self.pool.run(
            self.flow,
            self.tier,
            quantum,
            cost=cost,
            abandon=abandon,
            urgent=urgent,
            principal=self.principal,
            charge=charge,
        )


def _took(found: Piece | Refused) -> int | None:
    """Return the Arrow bytes of a slice that was read, before filters if known, and those written."""
    if isinstance(found, Refused):
        return None
    read = max(found.out.nbytes, 0 if found.segment is None else found.segment.nbytes)
    return read if found.written is None else read + found.out.nbytes


def _encode_some(batches: Sequence[pa.RecordBatch]) -> Encoded:
    """Encode the batches that have rows; an empty batch is a message that says nothing."""
    return encode([batch for batch in batches if batch.num_rows])


def _crc32(encoded: Encoded, checksum: int) -> int:
    for part in encoded.parts:
        checksum = zlib.crc32(part, checksum)
    return checksum
