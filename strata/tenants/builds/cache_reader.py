"""Read a row group out of the tenant's cache, one slice a quantum."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import attrs
import pyarrow as pa

from strata.cache import CacheShard, Damaged, Segment, SegmentReader
from strata.outcomes import Reason, RefusalError, Refused
from strata.tables import RowGroupTask, ScanPlan, apply_residual, segment_schema
from strata.tables.read.ipc import Encoded
from strata.tenants.builds.output import Output
from strata.tenants.builds.reorder_buffer import RowGroupStream, Slice
from strata.tenants.builds.work import BuildWork
from strata.tracing.spans import child

CACHED_BYTES = 8 * 1024 * 1024
"""Bytes of the largest cached row group that is read in one quantum; a larger one is checked in quanta of as
many bytes, then read in slices."""

CACHE_CHANGED = "Cached rows changed while they were read."


@attrs.frozen(eq=False)
class CacheReader:
    """Sends cached row groups of one scan down their streams.

    Attributes:
        plan: The scan.
        shard: The tenant's cache.
        work: Where quanta run.
        output: Where slices are written.
    """

    plan: ScanPlan
    shard: CacheShard
    work: BuildWork
    output: Output

    async def send(
        self, stream: RowGroupStream, task: RowGroupTask, cached: Segment, slice_bytes: int
    ) -> bool:
        """Send a cached row group in slices of ``slice_bytes``.

        Returns:
            False, and nothing is sent, if the segment is damaged.

        Raises:
            RefusalError: TIMED_OUT if a quantum exceeds the fetch timeout, DATA_UNREADABLE if the segment was
                damaged after its check (``cache_damaged``).
        """
        size = cached.packed.length
        if size <= CACHED_BYTES:
            read = partial(self._read_whole, stream, task, cached, self.shard.most_of_one_scan)
            with child("cache"):
                slice_ = await self.work.fetch(read, cost=size)
            if slice_ is not None:
                await stream.offer(slice_)
            return slice_ is not None
        reader = SegmentReader(cached)
        try:
            # Not abandoned when cancelled: no thread may use the file when it is closed.
            while not reader.checked:
                check, cost = partial(reader.check, CACHED_BYTES), min(size, CACHED_BYTES)
                if await self.work.fetch(check, cost=cost, abandon=False) is not None:
                    return False
            first = True
            while not reader.done:
                limit = self.shard.most_of_one_scan
                read = partial(self._read_slice, stream, task, reader, slice_bytes, limit, first=first)
                slice_ = await self.work.fetch(read, cost=slice_bytes, abandon=False)
                if slice_ is None:
                    raise RefusalError(Refused(Reason.DATA_UNREADABLE, CACHE_CHANGED, code="cache_damaged"))
                await stream.offer(slice_)
                first = False
        finally:
            reader.close()
        return True

    def _read_whole(
        self, stream: RowGroupStream, task: RowGroupTask, cached: Segment, cache_limit: int
    ) -> Slice | None:
        """Read a row group in one quantum, in a worker thread; None if the segment is damaged."""
        plan = self.plan
        if plan.passthrough and cached.fields == plan.segment_fields:
            raw = self.shard.read_raw(cached)
            if isinstance(raw, Damaged):
                return None
            slice_ = Slice(task, Encoded((raw,), len(raw), cached.rows), task.num_rows, None)
        else:
            batches = self.shard.read(cached, plan.segment_fields, segment_schema(plan, plan.segment_fields))
            if isinstance(batches, Damaged):
                return None
            kept = apply_residual(plan, task, batches)
            slice_ = self.output.slice_of(task, nonempty(kept), task.num_rows)
        return self.output.write_if_next(stream, slice_, cache_limit)

    def _read_slice(
        self,
        stream: RowGroupStream,
        task: RowGroupTask,
        reader: SegmentReader,
        slice_bytes: int,
        cache_limit: int,
        *,
        first: bool,
    ) -> Slice | None:
        """Read a slice of a checked segment, in a worker thread; None if the segment is damaged by now."""
        plan, cached = self.plan, reader.segment
        if plan.passthrough and cached.fields == plan.segment_fields:
            raw = reader.read_raw(slice_bytes)
            if isinstance(raw, Damaged):
                return None
            out = Encoded((raw,), len(raw), cached.rows if first else 0)
            slice_ = Slice(task, out, task.num_rows if reader.done else 0, None)
        else:
            fields = plan.segment_fields
            batches = reader.read(slice_bytes, fields, segment_schema(plan, fields))
            if isinstance(batches, Damaged):
                return None
            kept = apply_residual(plan, task, batches)
            slice_ = self.output.slice_of(task, nonempty(kept), task.num_rows if reader.done else 0)
        return self.output.write_if_next(stream, slice_, cache_limit)


def nonempty(batches: Sequence[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """Return the batches that have rows; a message for an empty batch would carry nothing."""
    return [batch for batch in batches if batch.num_rows]
