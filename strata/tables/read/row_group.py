"""Read one row group of a data file as record batches of the table's schema."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyroaring import BitMap64

from strata.tables.errors import Reading, file_name, refusable
from strata.tables.files.footers import Footer, is_local, open_source
from strata.tables.plan.model import ScanPlan
from strata.tables.read.equality_deletes import KeyColumn, equality_mask, key_columns, key_values
from strata.tables.read.expand import RowGroupTask, footer_of
from strata.tables.read.position_deletes import deleted_positions, keep_mask
from strata.tables.read.project import Rows, project_field

_EMPTY = pa.struct([])

_READ_BYTES = 256 * 1024
"""Bytes of one read from a column chunk of a local file."""


@attrs.frozen(eq=False)
class _Raw:
    """The wanted columns of a slice of a row group, as the file holds them.

    Attributes:
        batch: The file's columns; ``None`` if the file has none of the wanted ones.
        order: Field id → column index in ``batch``.
        rows: Number of rows.
    """

    batch: pa.RecordBatch | None
    order: dict[int, int]
    rows: int


class RowGroup:
    """Reader of a row group, one slice of rows at a time, with deletes applied and without filters.

    Batches have the plan's ``segment_fields`` as columns, in order (schema: :func:`segment_schema`). The
    reader keeps no batches: memory is that of one slice, however large the row group.

    Args:
        plan: The scan's plan.
        task: The row group.
        batch_rows: Maximum rows of a record batch.
        slice_rows: Maximum rows of a slice, deleted ones included; default: the whole row group.
        threads: Decode the columns of the first slice in parallel, with one Arrow thread per core. For a
            caller that has the machine to itself.
        decoding: Called once, on the reading thread, just before Arrow decodes the first slice, from when on
            the thread does not need the interpreter.

    Attributes:
        done: Whether every row has been read.
        passed: Rows read so far, deleted ones included.
    """

    def __init__(
        self,
        plan: ScanPlan,
        task: RowGroupTask,
        *,
        batch_rows: int,
        slice_rows: int | None = None,
        threads: bool = False,
        decoding: Callable[[], None] | None = None,
    ) -> None:
        self.plan = plan
        self.task = task
        self.done = False
        self._threads = threads
        self._decoding = decoding
        self._batch_rows = batch_rows
        self._slice_rows = min(task.num_rows, max(1, slice_rows or task.num_rows))
        self.passed = 0
        self._positions: BitMap64 | None = None
        self._source: _Source | None = None
        self._lock = threading.Lock()
        self._unwanted = False

    def __repr__(self) -> str:
        path, index = self.task.file.path, self.task.index
        return f"<RowGroup {file_name(path)}#{index} {self.passed}/{self.task.num_rows} rows>"

    def close(self) -> None:
        """Close the file, or have the thread that is reading it do so; idempotent."""
        self._unwanted = True
        self._close_unless_busy()

    def _close_unless_busy(self) -> None:
        if self._lock.acquire(blocking=False):
            try:
                if self._source is not None:
                    self._source.close()
                    self._source = None
            finally:
                self._lock.release()

    def read(self) -> list[pa.RecordBatch]:
        """Return the next slice's batches, possibly none; blocking.

        Raises:
            RefusalError: DATA_UNREADABLE if the data file or a delete file is missing or damaged;
                UNSUPPORTED if the keys of an equality delete are in no schema of the table.
        """
        try:
            with self._lock:
                return self._read()
        finally:
            if self.done or self._unwanted:
                self._close_unless_busy()

    def _read(self) -> list[pa.RecordBatch]:
        plan, task, file = self.plan, self.task, self.task.file
        table = plan.scan.table
        footer = footer_of(plan, file)
        keys = key_columns(table, plan.scan.table_schema, file.deletes)
        if self._positions is None:
            self._positions = deleted_positions(table, file.path, file.deletes)
        with Reading("data file", file.path):
            if self._source is None:
                wanted = {field.field_id for field in plan.scan.read_schema.fields}
                wanted |= {key.root.field_id for key in keys.values()}
                self._source = _Source(
                    plan, task, footer, wanted, rows=self._slice_rows, threads=self._threads
                )
            first = task.first_row + self.passed
            decoding, self._decoding = self._decoding, None
            if decoding is not None:
                decoding()
            raw = self._source.read(task.num_rows - self.passed)
            self.passed += raw.rows
            self.done = self.passed == task.num_rows
            data = {field_id: _key_values(task, footer, raw, key) for field_id, key in keys.items()}
        keep = keep_mask(self._positions, first, raw.rows)
        differs = equality_mask(table, file.deletes, keys, data)
        if differs is not None:
            keep = differs if keep is None else pc.and_(keep, differs)
        with Reading("data file", file.path):
            if keep is not None:
                raw = _Raw(None if raw.batch is None else raw.batch.filter(keep), raw.order, keep.true_count)
            if not raw.rows:
                return []
            schema = plan.scan.read_arrow_schema
            if not len(schema):
                return empty_batches(schema, raw.rows, self._batch_rows)
            projected = _project(plan, task, footer, raw)
            return [
                projected.slice(start, self._batch_rows) for start in range(0, raw.rows, self._batch_rows)
            ]


@refusable
def read_slice(group: RowGroup) -> list[pa.RecordBatch]:
    """Return the batches of a row group's next slice (see :class:`RowGroup`); blocking.

    Returns the refusal of :meth:`RowGroup.read` instead of raising it.
    """
    return group.read()


@refusable
def read_row_group(plan: ScanPlan, task: RowGroupTask, *, batch_rows: int) -> list[pa.RecordBatch]:
    """Return the batches of a whole row group (see :class:`RowGroup`); blocking.

    Returns the refusal of :meth:`RowGroup.read` instead of raising it.
    """
    group = RowGroup(plan, task, batch_rows=batch_rows)
    batches = []
    try:
        while not group.done:
            batches += group.read()
    finally:
        group.close()
    return batches


def empty_batches(schema: pa.Schema, rows: int, batch_rows: int) -> list[pa.RecordBatch]:
    """Return batches of a schema without columns, ``rows`` rows in all, at most ``batch_rows`` each."""
    sizes = [min(batch_rows, rows - start) for start in range(0, rows, batch_rows)]
    arrays = [pa.Array.from_buffers(_EMPTY, size, [None]) for size in sizes]
    return [
        pa.RecordBatch.from_struct_array(array).replace_schema_metadata(schema.metadata) for array in arrays
    ]


class _Source:
    """The wanted columns of a row group that the file has, in slices of ``rows`` rows.

    With ``threads``, Arrow's threads decode the first slice in parallel.
    """

    def __init__(
        self,
        plan: ScanPlan,
        task: RowGroupTask,
        footer: Footer,
        wanted: set[int],
        *,
        rows: int,
        threads: bool,
    ) -> None:
        present = [at for at, field in enumerate(footer.schema.fields) if field.field_id in wanted]
        self._order = {footer.schema.fields[at].field_id: index for index, at in enumerate(present)}
        leaves = [leaf for at in present for leaf in footer.leaves[at]]
        self._reader: Any = None
        self._batches: Iterator[pa.RecordBatch] | None = None
        self._rows = rows
        self._files = ExitStack()
        if leaves:
            io, path = plan.scan.table.io, task.file.path
            # Remote: few large reads. Local: no more of the file in memory than is being decoded.
            ahead = {"buffer_size": _READ_BYTES} if is_local(io, path) else {"pre_buffer": True}
            with self._files as files:
                source = files.enter_context(open_source(io, path))
                file = files.enter_context(pq.ParquetFile(source, metadata=footer.metadata, **ahead))
                # Leaf numbers in file order, so the batches' columns are in file order too.
                self._reader = file.reader
                self._batches = self._reader.iter_batches(
                    rows, row_groups=[task.index], column_indices=leaves, use_threads=threads
                )
                self._files = files.pop_all()

    def read(self, left: int) -> _Raw:
        """Return the next slice of the ``left`` rows not yet read.

        Raises:
            ValueError: If the file's columns or rows are not those of its footer.
        """
        if self._batches is None:
            return _Raw(None, {}, min(self._rows, left))
        batch = next(self._batches, None)
        self._reader.set_use_threads(False)  # takes effect with the next batch
        if batch is None or not 0 < batch.num_rows <= left or batch.num_columns != len(self._order):
            raise ValueError("the file holds other columns or rows than its footer says")
        return _Raw(batch, self._order, batch.num_rows)

    def close(self) -> None:
        self._batches = self._reader = None
        self._files.close()


def _key_values(task: RowGroupTask, footer: Footer, raw: _Raw, key: KeyColumn) -> Any:
    rows = Rows(raw.rows, task.file.partition_values)
    at = raw.order.get(key.root.field_id)
    if at is None or raw.batch is None:
        return key_values(key, None, None, rows)
    have = next(field for field in footer.schema.fields if field.field_id == key.root.field_id)
    return key_values(key, raw.batch.column(at), have, rows)


def _project(plan: ScanPlan, task: RowGroupTask, footer: Footer, raw: _Raw) -> pa.RecordBatch:
    schema = plan.scan.read_arrow_schema
    rows = Rows(raw.rows, task.file.partition_values)
    have = {field.field_id: field for field in footer.schema.fields}
    columns: list[Any] = []
    for want, arrow in zip(plan.scan.read_schema.fields, schema, strict=True):
        at = raw.order.get(want.field_id)
        if at is None or raw.batch is None:
            columns.append(project_field(None, None, want, arrow.type, rows))
        else:
            columns.append(project_field(raw.batch.column(at), have[want.field_id], want, arrow.type, rows))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
