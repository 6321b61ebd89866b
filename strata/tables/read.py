"""One row group of a data file as record batches of the table's schema."""

from __future__ import annotations

from typing import Any

import attrs
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from strata.tables.equality import KeyColumn, equality_mask, key_columns, key_values
from strata.tables.expand import RowGroupTask, footer_of
from strata.tables.faults import reading, refusable
from strata.tables.footers import Footer, is_local, open_source
from strata.tables.plan import ScanPlan
from strata.tables.positions import deleted_positions, keep_mask
from strata.tables.project import Rows, project_field

_EMPTY = pa.struct([])


@attrs.frozen(eq=False)
class _Raw:
    """What a row group holds of the wanted columns.

    Attributes:
        table: The file's columns; ``None`` if it has none of those wanted.
        order: Field id → column of ``table``.
        rows: Number of rows.
    """

    table: pa.Table | None
    order: dict[int, int]
    rows: int


@refusable
def read_row_group(
    plan: ScanPlan, task: RowGroupTask, *, batch_rows: int, threads: bool = False
) -> list[pa.RecordBatch]:
    """Read a row group with its deletes applied and no filter; blocking.

    The columns are the plan's ``segment_fields`` in order, with the schema :func:`segment_schema` gives them.
    Batches hold at most ``batch_rows`` rows and share memory. With ``threads`` its columns are decoded on all
    cores: for when nobody else wants them.

    Returns a refusal if the data file or a delete file is missing or damaged (DATA_UNREADABLE).
    """
    file = task.file
    table = plan.scan.table
    footer = footer_of(plan, file)
    keys = key_columns(table, plan.scan.table_schema, file.deletes)
    positions = deleted_positions(table, file.path, file.deletes)
    with reading("data file", file.path):
        raw = _read(plan, task, footer, {key.root.field_id for key in keys.values()}, threads=threads)
        data = {field_id: _key_values(task, footer, raw, key) for field_id, key in keys.items()}
    keep = keep_mask(positions, task.first_row, task.num_rows)
    differs = equality_mask(table, file.deletes, keys, data)
    if differs is not None:
        keep = differs if keep is None else pc.and_(keep, differs)
    with reading("data file", file.path):
        if keep is not None:
            raw = _Raw(None if raw.table is None else raw.table.filter(keep), raw.order, keep.true_count)
        if not raw.rows:
            return []
        schema = plan.scan.read_arrow_schema
        if not len(schema):
            return empty_batches(schema, raw.rows, batch_rows)
        projected = _project(plan, task, footer, raw)
        return [batch for batch in projected.to_batches(max_chunksize=batch_rows) if batch.num_rows]


def empty_batches(schema: pa.Schema, rows: int, batch_rows: int) -> list[pa.RecordBatch]:
    """Return batches that have rows and no columns."""
    sizes = [min(batch_rows, rows - start) for start in range(0, rows, batch_rows)]
    arrays = [pa.Array.from_buffers(_EMPTY, size, [None]) for size in sizes]
    return [
        pa.RecordBatch.from_struct_array(array).replace_schema_metadata(schema.metadata) for array in arrays
    ]


def _read(plan: ScanPlan, task: RowGroupTask, footer: Footer, also: set[int], *, threads: bool) -> _Raw:
    """Read the wanted columns (and those with the ids in ``also``) as far as the file has them."""
    wanted = {field.field_id for field in plan.scan.read_schema.fields} | also
    present = [at for at, field in enumerate(footer.schema.fields) if field.field_id in wanted]
    leaves = [leaf for at in present for leaf in footer.leaves[at]]
    if not leaves:
        return _Raw(None, {}, task.num_rows)
    io = plan.scan.table.io
    path = task.file.path
    with (
        open_source(io, path) as source,
        pq.ParquetFile(source, metadata=footer.metadata, pre_buffer=not is_local(io, path)) as file,
    ):
        # Leaf numbers in file order, so the table's columns are in file order too.
        table = file.reader.read_row_group(task.index, column_indices=leaves, use_threads=threads)
    if table.num_columns != len(present) or table.num_rows != task.num_rows:
        raise ValueError("the file holds other columns or rows than its footer says")
    return _Raw(
        table, {footer.schema.fields[at].field_id: index for index, at in enumerate(present)}, task.num_rows
    )


def _key_values(task: RowGroupTask, footer: Footer, raw: _Raw, key: KeyColumn) -> Any:
    rows = Rows(raw.rows, task.file.partition_values)
    at = raw.order.get(key.root.field_id)
    if at is None or raw.table is None:
        return key_values(key, None, None, rows)
    have = next(field for field in footer.schema.fields if field.field_id == key.root.field_id)
    return key_values(key, raw.table.column(at).combine_chunks(), have, rows)


def _project(plan: ScanPlan, task: RowGroupTask, footer: Footer, raw: _Raw) -> pa.Table:
    schema = plan.scan.read_arrow_schema
    values = task.file.partition_values
    have = {field.field_id: field for field in footer.schema.fields}
    columns: list[Any] = []
    for want, arrow in zip(plan.scan.read_schema.fields, schema, strict=True):
        at = raw.order.get(want.field_id)
        if at is None or raw.table is None:
            column = project_field(None, None, want, arrow.type, Rows(raw.rows, values))
        else:
            old = have[want.field_id]
            chunks = [
                project_field(chunk, old, want, arrow.type, Rows(len(chunk), values))
                for chunk in raw.table.column(at).chunks
            ]
            column = pa.chunked_array(chunks, type=arrow.type)
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)
