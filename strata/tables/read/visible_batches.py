"""Cut the visible rows of a scan into record batches that tell nothing of the hidden ones.

They are also cut at a limit of rows, for any caller: only where rows are written their number is known.

The batches that are read end where row groups, slices and cached segments do, and hold what the filter left
of each: their lengths count the hidden rows between the visible ones. Their buffers are views of larger ones,
and an encoded buffer is padded with the values that follow it there. So the batches of a restricted caller
are cut anew, at places that follow from the visible rows alone, out of copies that hold nothing else.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import partial

import attrs
import pyarrow as pa

from strata.tables.read.row_group import empty_batches

BATCH_BYTES = 512 * 1024
"""Encoded bytes at which a batch ends: at the first row with which it has as many, or more."""

COARSE_ROWS = 256
"""Rows between the places at which a batch may end; narrow rows are not measured one by one."""


@attrs.define(eq=False)
class VisibleBatches:
    """Collects the visible rows of a scan, in order, and cuts them into batches.

    Attributes:
        schema: Schema of the rows.
        most_rows: Maximum rows of a batch.
        left: Rows that are taken at most, from now on; ``None``: all.
        rows: Rows that wait for further ones.
    """

    schema: pa.Schema
    most_rows: int
    left: int | None = None
    rows: int = 0
    _waiting: list[pa.RecordBatch] = attrs.field(factory=list, repr=False)
    _bytes: int = 0
    _numbers: pa.Array = attrs.field(factory=partial(pa.nulls, 0, pa.int64()), repr=False)

    def add(self, batches: Sequence[pa.RecordBatch]) -> list[pa.RecordBatch]:
        """Take rows; return the batches that are complete with them."""
        for found in batches:
            batch = found
            if self.left is not None:
                if self.left < batch.num_rows:
                    batch = self._first(batch, self.left)
                self.left -= batch.num_rows
            self._waiting.append(batch)
            self.rows += batch.num_rows
            self._bytes += batch.nbytes
        if self.rows < self.most_rows and self._bytes < BATCH_BYTES:
            return []
        cut, left = self._cut()
        self.rows, self._bytes = left.num_rows, left.nbytes
        self._waiting = [left]
        return cut

    def finish(self) -> list[pa.RecordBatch]:
        """Return the last batches; nothing can be added later."""
        if not self.rows:
            return []
        cut, left = self._cut()
        return [*cut, self._copy(left)] if left.num_rows else cut

    def _first(self, batch: pa.RecordBatch, rows: int) -> pa.RecordBatch:
        if not self.schema.names:
            return empty_batches(self.schema, rows, rows)[0] if rows else batch.slice(0, 0)
        return batch.slice(0, rows)

    def _cut(self) -> tuple[list[pa.RecordBatch], pa.RecordBatch]:
        """Return the complete batches, copied, and the rows after them."""
        if self.schema.names:
            left = pa.concat_batches(self._waiting)
        else:
            left = empty_batches(self.schema, self.rows, self.rows)[0]
        cut = []
        while (rows := self._complete(left)) is not None:
            cut.append(self._copy(left.slice(0, rows)))
            left = left.slice(rows)
        return cut, left

    def _complete(self, rows: pa.RecordBatch) -> int | None:
        """Return how many rows the next batch has; None if that depends on rows to come."""
        most = min(rows.num_rows, self.most_rows)
        few = range(1, min(COARSE_ROWS, most) + 1)
        if not few:
            return None
        if _encoded_bytes(rows, few[-1]) >= BATCH_BYTES:
            return few[bisect_left(few, BATCH_BYTES, key=partial(_encoded_bytes, rows))]
        places = range(2 * COARSE_ROWS, most + 1, COARSE_ROWS)
        at = bisect_left(places, BATCH_BYTES, key=partial(_encoded_bytes, rows))
        if at < len(places):
            return places[at]
        return most if most == self.most_rows else None

    def _copy(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows in buffers of their own, which end with them."""
        if not self.schema.names:
            return empty_batches(self.schema, rows.num_rows, rows.num_rows)[0]
        if len(self._numbers) < rows.num_rows:
            self._numbers = pa.array(range(rows.num_rows), pa.int64())
        return rows.take(self._numbers.slice(0, rows.num_rows))


def _encoded_bytes(rows: pa.RecordBatch, count: int) -> int:
    return int(pa.ipc.get_record_batch_size(rows.slice(0, count)))
