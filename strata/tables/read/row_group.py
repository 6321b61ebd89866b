"""Read one row group of a data file as record batches of the table's schema."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, TypeVar, cast

import attrs
import pyarrow as pa

from strata.tables.errors import Reading, file_name, refusable
from strata.tables.files.footers import Footer, is_local, open_source, parquet_file
from strata.tables.files.prefetched import Prefetched, Range, chunk_ranges, merged
from strata.tables.plan.model import FileTask, ScanPlan
from strata.tables.read.equality_deletes import (
    KeyColumn,
    equality_mask,
    key_columns,
    key_values,
    prefetch_keys,
)
from strata.tables.read.expand import RowGroupTask, footer_of
from strata.tables.read.position_deletes import Steps, deleted_positions, kept_rows
from strata.tables.read.project import Rows, project_field
from strata.tables.read.texts import check_texts

T = TypeVar("T")

_EMPTY = pa.struct([])

OLD_HEADER_BYTES = 128
"""Bytes behind a column chunk that Arrow reads, too: old writers left a header out of its size."""

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
        threads: Value of the attribute, at first.
        decoding: Called once, on the reading thread, just before Arrow decodes the first slice, from when on
            the thread does not need the interpreter.

    Attributes:
        done: Whether every row has been read.
        passed: Rows read so far, deleted ones included.
        threads: Decode the columns of the next slice in parallel, with one Arrow thread per core. For a
            caller that has the machine to itself.
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
        self.threads = threads
        self._decoding = decoding
        self._batch_rows = batch_rows
        self._slice_rows = min(task.num_rows, max(1, slice_rows or task.num_rows))
        self.passed = 0
        self._slices: Generator[list[pa.RecordBatch], None, None] | None = None
        self._source: _Source | None = None
        self._unchanged: list[int | None] | None = None
        self._lock = threading.Lock()
        self._unwanted = False

    def __repr__(self) -> str:
        path, index = self.task.file.path, self.task.index
        return f"<RowGroup {file_name(path)}#{index} {self.passed}/{self.task.num_rows} rows>"

    @property
    def remote(self) -> bool:
        """Whether the data file is not local: :meth:`prefetch` waits for its bytes then, not :meth:`read`."""
        return not is_local(self.plan.scan.table.io, self.task.file.path)

    def prefetch(self) -> None:
        """Read all that :meth:`read` decodes, delete files included; blocking.

        Raises:
            RefusalError: As :meth:`read`.
        """
        table, file = self.plan.scan.table, self.task.file
        try:
            with self._lock:
                footer = footer_of(self.plan, file)
                keys = key_columns(table, self.plan.scan.table_schema, file.deletes)
                for _ in deleted_positions(table, file.path, footer.metadata.num_rows, file.deletes):
                    pass  # into the cache, from where a read takes them
                prefetch_keys(table, file.deletes, keys)
                with Reading("data file", file.path):
                    self._opened(footer, keys)
        finally:
            if self._unwanted:
                self._close_unless_busy()

    def close(self) -> None:
        """Close the file, or have the thread that is reading it do so; idempotent."""
        self._unwanted = True
        self._close_unless_busy()

    def _close_unless_busy(self) -> None:
        if self._lock.acquire(blocking=False):
            try:
                if self._slices is not None:
                    self._slices.close()
                    self._slices = None
                if self._source is not None:
                    self._source.close()
                    self._source = None
            finally:
                self._lock.release()

    def read(self, many: int = 1) -> list[pa.RecordBatch]:
        """Return the batches of the next slice, or of the next ``many`` slices, possibly none; blocking.

        Large delete files are read in steps: a call may return no batches and leave :attr:`passed` as it was.

        Raises:
            RefusalError: DATA_UNREADABLE if the data file or a delete file is missing or damaged;
                UNSUPPORTED if the keys of an equality delete are in no schema of the table.
        """
        try:
            with self._lock:
                if self._slices is None:
                    self._slices = self._read_slices()
                found: list[pa.RecordBatch] = []
                for _ in range(many):
                    before = self.passed
                    found += next(self._slices)
                    if self.done or self.passed == before:
                        break
                return found
        finally:
            if self.done or self._unwanted:
                self._close_unless_busy()

    def _read_slices(self) -> Generator[list[pa.RecordBatch], None, None]:
        """Yield the batches of each slice, and none between the steps of reading delete files."""
        table, file = self.plan.scan.table, self.task.file
        footer = footer_of(self.plan, file)
        keys = key_columns(table, self.plan.scan.table_schema, file.deletes)
        reading = deleted_positions(table, file.path, footer.metadata.num_rows, file.deletes)
        positions = yield from _paused(reading)
        found: list[list[pa.RecordBatch]] = []
        while not self.done:
            first = self.task.first_row + self.passed
            with Reading("data file", file.path):
                raw = self._next(footer, keys)
                rows = raw.rows
                last = self.passed + rows == self.task.num_rows
                kept = kept_rows(positions, first, rows) if positions else None
                if kept is not None:
                    batch = None if raw.batch is None else raw.batch.take(kept)
                    raw = _Raw(batch, raw.order, len(kept))
                data = {field_id: _key_values(self.task, footer, raw, key) for field_id, key in keys.items()}
            differs = None
            if raw.rows:
                differs = yield from _paused(equality_mask(table, file.deletes, keys, data))
            with Reading("data file", file.path):
                if differs is not None:
                    batch = None if raw.batch is None else raw.batch.filter(differs)
                    raw = _Raw(batch, raw.order, differs.true_count)
                found.append(self._batches(footer, raw))
            self.passed += rows
            self.done = last
            del raw, data, differs, kept
            yield found.pop()  # not held here while the caller has them

    def _next(self, footer: Footer, keys: Mapping[int, KeyColumn]) -> _Raw:
        """Return the next slice as the file holds it."""
        source = self._opened(footer, keys)
        decoding, self._decoding = self._decoding, None
        if decoding is not None:
            decoding()
        return source.read(self.task.num_rows - self.passed, threads=self.threads)

    def _opened(self, footer: Footer, keys: Mapping[int, KeyColumn]) -> _Source:
        """Return the file, which is opened unless it is."""
        if self._source is None:
            wanted = {field.field_id for field in self.plan.scan.read_schema.fields}
            wanted |= {key.root.field_id for key in keys.values()}
            self._source = _Source(
                self.plan, self.task, footer, wanted, rows=self._slice_rows, threads=self.threads
            )
        return self._source

    def _batches(self, footer: Footer, raw: _Raw) -> list[pa.RecordBatch]:
        if not raw.rows:
            return []
        schema = self.plan.scan.read_arrow_schema
        if not len(schema):
            return empty_batches(schema, raw.rows, self._batch_rows)
        projected = self._projected(footer, raw)
        check_texts(projected, self.task.file.path, self.plan.scan.arrow_schema.names)
        return [projected.slice(start, self._batch_rows) for start in range(0, raw.rows, self._batch_rows)]

    def _projected(self, footer: Footer, raw: _Raw) -> pa.RecordBatch:
        """Return raw columns as the table's; which of them need no change is the same in every slice."""
        scan, schema, found = self.plan.scan, self.plan.scan.read_arrow_schema, raw.batch
        columns: list[Any] = []
        if self._unchanged is not None and found is not None and None not in self._unchanged:
            columns = [found.column(at) for at in self._unchanged]
            return pa.RecordBatch.from_arrays(columns, schema=schema)
        rows = Rows(raw.rows, self.task.file.partition_values)
        have = {field.field_id: field for field in footer.fields}
        unchanged: list[int | None] = []
        for want, arrow in zip(scan.read_schema.fields, schema, strict=True):
            at = raw.order.get(want.field_id)
            array = None if at is None or found is None else found.column(at)
            field = None if array is None else have[want.field_id]
            columns.append(project_field(array, field, want, arrow.type, rows))
            unchanged.append(at if columns[-1] is array else None)
        self._unchanged = unchanged
        return pa.RecordBatch.from_arrays(columns, schema=schema)


def _paused(steps: Steps[T]) -> Generator[list[pa.RecordBatch], None, T]:
    """Yield no batches between the steps of a reading; returns its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cast("T", end.value)
        yield []


def ranges_of(plan: ScanPlan, file: FileTask, index: int) -> list[Range]:
    """Return the byte ranges of a file that reading a row group takes, besides its footer; blocking.

    Args:
        plan: The scan's plan.
        file: The file.
        index: Index of the row group.

    Raises:
        RefusalError: As :meth:`RowGroup.read`.
    """
    footer = footer_of(plan, file)
    keys = key_columns(plan.scan.table, plan.scan.table_schema, file.deletes)
    wanted = {field.field_id for field in plan.scan.read_schema.fields}
    wanted |= {key.root.field_id for key in keys.values()}
    present = [at for at, field in enumerate(footer.fields) if field.field_id in wanted]
    leaves = [leaf for at in present for leaf in footer.leaves[at]]
    with Reading("data file", file.path):
        found = chunk_ranges(footer.metadata, index, leaves)
    return merged((start, min(end + OLD_HEADER_BYTES, file.file_size)) for start, end in found)


@refusable
def read_slice(group: RowGroup, many: int = 1) -> list[pa.RecordBatch]:
    """Return the batches of a row group's next slice, or ``many`` (see :class:`RowGroup`); blocking.

    Returns the refusal of :meth:`RowGroup.read` instead of raising it.
    """
    return group.read(many)


@refusable
def prefetch(group: RowGroup) -> None:
    """Read the bytes of a row group (see :meth:`RowGroup.prefetch`); blocking.

    Returns the refusal of :meth:`RowGroup.prefetch` instead of raising it.
    """
    group.prefetch()


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
    """The wanted columns of a row group that the file has, in slices of ``rows`` rows."""

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
        present = [at for at, field in enumerate(footer.fields) if field.field_id in wanted]
        self._order = {footer.fields[at].field_id: index for index, at in enumerate(present)}
        leaves = [leaf for at in present for leaf in footer.leaves[at]]
        self._reader: Any = None
        self._batches: Iterator[pa.RecordBatch] | None = None
        self._rows = rows
        self._files = ExitStack()
        if leaves:
            io, path = plan.scan.table.io, task.file.path
            with self._files as files:
                source = files.enter_context(open_source(io, path))
                # Remote: few large reads, before decoding. Local: no more of the file in memory than is being
                # decoded; of a mapped file, as readers have it, nothing is copied.
                mapped = isinstance(source, pa.BufferReader)
                ahead: dict[str, Any] = {} if mapped else {"buffer_size": _READ_BYTES}
                if not is_local(io, path):
                    fetched = Prefetched(source, chunk_ranges(footer.metadata, task.index, leaves))
                    source = files.enter_context(pa.PythonFile(fetched, mode="r"))
                    ahead = {"pre_buffer": False}
                file = files.enter_context(parquet_file(source, footer.metadata, **ahead))
                # Leaf numbers in file order, so the batches' columns are in file order too.
                self._reader = file.reader
                self._batches = self._reader.iter_batches(
                    rows, row_groups=[task.index], column_indices=leaves, use_threads=threads
                )
                self._files = files.pop_all()

    def read(self, left: int, *, threads: bool) -> _Raw:
        """Return the next slice of the ``left`` rows not yet read, with ``threads`` by Arrow's threads.

        Raises:
            ValueError: If the file's columns or rows are not those of its footer.
        """
        if self._batches is None:
            return _Raw(None, {}, min(self._rows, left))
        self._reader.set_use_threads(threads)  # takes effect with the next batch
        batch = next(self._batches, None)
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
    have = next(field for field in footer.fields if field.field_id == key.root.field_id)
    return key_values(key, raw.batch.column(at), have, rows)
