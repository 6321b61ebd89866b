"""Apply equality deletes: remove the rows whose key columns equal a row of a delete file.

Nulls equal nulls and NaN equals NaN (Iceberg specification, "Equality Delete Files"). Keys are compared in
the types of the table's schema, so a file written before a column was widened or renamed matches, too. A key
column absent from a data file has its default there.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import Any

import attrs
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.schema import Schema, prune_columns
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.types import NestedField

from strata.outcomes import Reason, RefusalError, Refused
from strata.tables.catalogs.loading import LoadedTable
from strata.tables.errors import Reading, file_name
from strata.tables.files.file_schema import NAME_MAPPING
from strata.tables.files.footers import Footer, open_source, parquet_file
from strata.tables.plan.deletes import DeleteFile
from strata.tables.read.position_deletes import READ_BYTES, Steps
from strata.tables.read.project import Rows, project_field
from strata.tables.scan.nested import leaf_of, struct_path

PIECE_ROWS = 256 * 1024
"""Most rows of a delete file that are compared at a time: one step, 20 to 50 ms with half a million rows of
data."""

PIECE_BYTES = 4 * 1024 * 1024
"""Estimated bytes of these rows."""

KEPT_BYTES = 16 * 1024 * 1024
"""Bytes of a delete file's keys that are kept for the next slice of rows; of more, none are."""

_Pieces = Generator[list[Any], None, None]


@attrs.frozen(eq=False)
class KeyColumn:
    """A column that equality deletes compare.

    Attributes:
        root: The top-level column, pruned to the key column.
        kind: Arrow type of ``root``.
        path: Names from ``root`` down to the key column.
    """

    root: NestedField
    kind: Any
    path: tuple[str, ...]


def key_columns(table: LoadedTable, schema: Schema, deletes: Sequence[DeleteFile]) -> dict[int, KeyColumn]:
    """Return the key columns of the equality deletes among ``deletes``, by field id.

    Args:
        table: The table.
        schema: The scan's schema; keys dropped since are looked up in the table's older schemas.
        deletes: The delete files of a data file.

    Raises:
        RefusalError: UNSUPPORTED, naming the delete file, if a key is in no schema or inside a list or map.
    """
    found: dict[int, KeyColumn] = {}
    for delete in deletes:
        for field_id in delete.equality_ids:
            if field_id not in found:
                found[field_id] = _key_column(table.metadata, schema, field_id, delete)
    return found


def equality_mask(
    table: LoadedTable, deletes: Sequence[DeleteFile], keys: Mapping[int, KeyColumn], data: Mapping[int, Any]
) -> Steps[Any | None]:
    """Return a BooleanArray of the rows to keep; ``None`` if no equality delete applies. Blocking, in steps.

    Args:
        table: The table.
        deletes: The delete files of the data file.
        keys: The key columns of ``deletes`` by field id.
        data: The values of each key column in the data, by field id.

    Raises:
        RefusalError: DATA_UNREADABLE, naming the delete file that is missing or damaged.
    """
    mask = None
    for delete in deletes:
        if not delete.equality_ids:
            continue
        with Reading("delete file", delete.path), closing(_pieces(table, delete, keys)) as pieces:
            rows = _KeyedRows([data[field_id] for field_id in delete.equality_ids])
            for number, piece in enumerate(pieces):
                if number:
                    yield
                rows.delete(piece)
            own = rows.mask()
        mask = own if mask is None else pc.and_(mask, own)
    return mask


def prefetch_keys(table: LoadedTable, deletes: Sequence[DeleteFile], keys: Mapping[int, KeyColumn]) -> None:
    """Read the equality deletes into the cache, from where :func:`equality_mask` takes them. Blocking.

    Those larger than :data:`KEPT_BYTES` are not cached, and read again.

    Raises:
        RefusalError: As :func:`equality_mask`.
    """
    for delete in deletes:
        if delete.equality_ids:
            with Reading("delete file", delete.path):
                for _ in _pieces(table, delete, keys):
                    pass


def key_values(key: KeyColumn, array: Any | None, have: NestedField | None, rows: Rows) -> Any:
    """Return a key column's values, given the file's array of its root (``None`` if the file lacks it)."""
    leaf = leaf_of(project_field(array, have, key.root, key.kind, rows), key.path)
    return leaf.storage if isinstance(leaf, pa.ExtensionArray) else leaf


def _key_column(metadata: TableMetadata, schema: Schema, field_id: int, delete: DeleteFile) -> KeyColumn:
    newest_first = sorted(metadata.schemas, key=lambda one: one.schema_id, reverse=True)
    for one in (schema, *newest_first):
        path = struct_path(one.fields, field_id)
        if path is None:
            continue
        root = prune_columns(one, {field_id}, select_full_types=True).fields[0]
        return KeyColumn(root, schema_to_pyarrow(Schema(root), include_field_ids=False).field(0).type, path)
    detail = (
        f"The table cannot be read exactly: the keys of {file_name(delete.path)} are in none of its schemas"
    )
    raise RefusalError(Refused(Reason.UNSUPPORTED, detail, code="unsupported_table_feature"))


def _pieces(table: LoadedTable, delete: DeleteFile, keys: Mapping[int, KeyColumn]) -> _Pieces:
    """Yield the keys of a delete file, a few thousand rows at a time, as an array for each key column.

    They are cached for the next slice of rows if they take no more than :data:`KEPT_BYTES`; a larger delete
    file is read again for each slice.
    """
    columns = tuple(keys[field_id] for field_id in delete.equality_ids)
    metadata = table.metadata
    mapping = metadata.properties.get(NAME_MAPPING)
    file_key = (table.ref.source, table.uuid, metadata.format_version, mapping, delete)
    # Keys are kept in the types of the schema that is read: another snapshot's may be narrower.
    cache_key = ("equality", *file_key, tuple(str(column.kind) for column in columns))
    known: list[list[Any]] | None = table.caches.deletes.get(cache_key)
    if known is not None:
        yield from known
        return
    footer = table.caches.footers.get(
        file_key, table.io, delete.path, delete.size, metadata, what="delete file"
    )
    kept, weight = [], 256
    for piece in _read_pieces(table, delete, footer, columns):
        weight += sum(column.nbytes for column in piece) + 256
        if weight <= KEPT_BYTES:
            kept.append(piece)
        else:
            kept.clear()
        yield piece
    if weight <= KEPT_BYTES:
        table.caches.deletes.put(cache_key, kept, weight)


def _read_pieces(
    table: LoadedTable, delete: DeleteFile, footer: Footer, keys: Sequence[KeyColumn]
) -> _Pieces:
    if not footer.field_ids.issuperset(delete.equality_ids):
        raise LookupError("a delete file without one of its own key columns is damaged")
    have = {field.field_id: (at, field) for at, field in enumerate(footer.fields)}
    roots = sorted({have[key.root.field_id][0] for key in keys})
    leaves = [leaf for at in roots for leaf in footer.leaves[at]]
    with (
        open_source(table.io, delete.path) as source,
        parquet_file(source, footer.metadata, buffer_size=READ_BYTES) as file,
    ):
        for batch in file.reader.iter_batches(
            _rows_of_a_piece(footer, leaves),
            row_groups=range(footer.metadata.num_row_groups),
            column_indices=leaves,
            use_threads=False,
        ):
            columns = []
            for key in keys:
                at, old = have[key.root.field_id]
                columns.append(key_values(key, batch.column(roots.index(at)), old, Rows(batch.num_rows)))
            yield columns


def _rows_of_a_piece(footer: Footer, leaves: Sequence[int]) -> int:
    groups = [footer.metadata.row_group(index) for index in range(footer.metadata.num_row_groups)]
    size = sum(group.column(leaf).total_uncompressed_size for group in groups for leaf in leaves)
    each = max(1, int(size) // max(1, int(footer.metadata.num_rows)))
    return max(1, min(PIECE_ROWS, PIECE_BYTES // each))


class _KeyedRows:
    """Rows of data by their keys, from which pieces of a delete file remove those they equal.

    Every value is replaced by its number among the distinct values of its column in the data, nulls and NaN
    included, and several columns' numbers by that of their combination. So a piece costs a look-up of each
    of its keys, and no memory that grows with the delete file.

    Args:
        data: The values of each key column.
    """

    def __init__(self, data: Sequence[Any]) -> None:
        self._columns: list[tuple[Any, Any]] = []  # distinct values; distinct combinations with those before
        codes = None
        for values in data:
            encoded = values.dictionary_encode(null_encoding="encode")
            numbers, pairs = encoded.indices.cast(pa.int64()), None
            if codes is not None:
                combined = _combined(codes, numbers, encoded.dictionary).dictionary_encode()
                numbers, pairs = combined.indices.cast(pa.int64()), combined.dictionary
            self._columns.append((encoded.dictionary, pairs))
            codes = numbers
        self._codes = codes
        self._ranges = [_range(values) for values in data]
        self._gone: list[Any] = []

    def delete(self, piece: Sequence[Any]) -> None:
        """Remove the rows that equal a row of ``piece``, which has an array for each key column."""
        if any(map(_disjoint, piece, self._ranges)):
            return
        left, codes = list(piece), None
        for distinct, pairs in self._columns:
            numbers = pc.index_in(left.pop(0), value_set=distinct)
            if codes is not None:
                numbers = pc.index_in(_combined(codes, numbers.cast(pa.int64()), distinct), value_set=pairs)
            found = numbers.is_valid()
            codes = numbers.cast(pa.int64()).filter(found)
            left = [column.filter(found) for column in left]
        if codes is not None and len(codes):
            self._gone.append(pc.unique(codes))

    def mask(self) -> Any:
        """Return a BooleanArray: true for the rows that are left."""
        gone = pa.concat_arrays([pa.array([], pa.int64()), *self._gone])
        return pc.invert(pc.is_in(self._codes, value_set=gone))


def _range(values: Any) -> tuple[Any, Any] | None:
    """Return the least and the greatest value; None where the range does not bound what the values equal."""
    if values.null_count or not len(values) or pa.types.is_floating(values.type):
        return None  # a null equals a null, NaN equals NaN, and the two zeros are in no order
    found = pc.min_max(values)
    return found["min"], found["max"]


def _disjoint(keys: Any, bounds: tuple[Any, Any] | None) -> bool:
    """Test whether no key is within the bounds of the data: the case of most pieces, where keys are ordered.

    Null keys do not count, since data with bounds has no nulls.
    """
    if bounds is None:
        return False
    found = pc.min_max(keys)
    if not found["min"].is_valid:
        return True
    return bool(pc.less(found["max"], bounds[0]).as_py() or pc.greater(found["min"], bounds[1]).as_py())


def _combined(codes: Any, numbers: Any, distinct: Any) -> Any:
    return pc.add(pc.multiply(codes, pa.scalar(len(distinct), pa.int64())), numbers)
